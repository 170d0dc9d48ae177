//! `skep network doctor` says what is wrong, and each host makes good by itself what somebody else changed.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use skep_e2e::bed::{Bed, LONG};
use skep_e2e::{Run, tables, that, wait, web};
use skep_playground::lan::netns_path;
use skep_testkit::images;

use crate::needs;

const SOON: Duration = Duration::from_secs(30);
const HOSTS: [&str; 3] = ["manager", "worker1", "worker2"];

/// Runs a command in a network namespace.
fn within(ns: &str, command: &[&str]) -> Run {
    Run::of(Command::new("nsenter").arg(format!("--net={ns}")).args(command))
}

fn host_ns(bed: &Bed, host: &str) -> String {
    netns_path(&bed.playground.place, host).display().to_string()
}

fn doctor(bed: &Bed, host: &str, args: &[&str]) -> Run {
    bed.skep(host, &[&["network", "doctor"], args].concat())
}

/// Waits until the doctor finds what these words say.
fn finds(bed: &Bed, args: &[&str], words: &[&str]) {
    wait(&format!("the doctor to say {words:?}"), SOON, || {
        let run = doctor(bed, "manager", args);
        let line = run.out.lines().any(|l| l.contains("FAULT") && words.iter().all(|w| l.contains(w)));
        that(line && run.code == 1, format!("exit code {}\n{}{}", run.code, run.out, run.err))
    });
}

/// Waits until the doctor finds nothing.
fn content(bed: &Bed) {
    wait("the doctor to be content", SOON, || {
        let run = doctor(bed, "manager", &[]);
        that(run.code == 0 && run.out.contains("No faults were found"), format!("{}{}", run.out, run.err))
    });
}

fn space(dump: &Value, prefix: &str) -> Value {
    let all = dump["Spaces"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|s| s["Name"].as_str().is_some_and(|n| n.starts_with(prefix))).unwrap_or_default()
}

fn first(map: &Value) -> (String, String) {
    let (key, value) = map.as_object().and_then(|m| m.iter().next()).unwrap_or_else(|| panic!("nothing in {map}"));
    (key.clone(), value.as_str().unwrap_or_default().to_owned())
}

#[test]
fn what_others_change_is_made_good_by_its_content() {
    needs!();
    if Command::new("nft").arg("--version").output().is_err() {
        return skep_testkit::skip("needs nft");
    }
    let bed = Bed::swarm(91, 3, 1);
    bed.load_demo("whoami:1.0", "1.0");
    let image = images::busybox().unwrap_or_else(|| panic!("no busybox on this machine"));
    bed.load(images::archive(&image, "busybox:1.28"));
    let m = |args: &str| bed.d("manager", args);
    let _ = m("network create -d overlay net").ok();
    let _ = m("service create -d --name web --replicas 3 --network net -p 8080:8000 whoami:1.0").ok();
    let _ = m("service create -d --name client --mode global --network net busybox:1.28 sleep 100000").ok();
    bed.await_running("manager", "web", 3, LONG);
    bed.await_running("manager", "client", 3, LONG);
    tables::await_equal(&bed, &HOSTS, "manager", LONG);

    let dump = tables::dump(&bed, "manager").unwrap_or_else(|e| panic!("{e}"));
    let overlay = space(&dump, "ov-");
    let exec = bed.host("manager").exec_root(&bed.playground.place).join("netns");
    let file = |name: &str| exec.join(name).display().to_string();
    let (inside, host) = (file(overlay["Name"].as_str().unwrap_or_default()), host_ns(&bed, "manager"));
    let (mac, _) = first(&overlay["Forwarding"]);
    let mac = mac.split(' ').next().unwrap_or_default();
    let (neighbour, _) = first(&overlay["Neighbours"]);
    let neighbour = neighbour.split(' ').next().unwrap_or_default();
    let sandbox = space(&dump, "ct-");
    let container = file(sandbox["Name"].as_str().unwrap_or_default());
    let short = sandbox["Name"].as_str().and_then(|n| n.strip_prefix("ct-")).unwrap_or_default().to_owned();
    let (element, _) = first(&space(&dump, "host")["Sets"]["ip skep pubbe"]);
    let (vip, _) = first(&sandbox["Sets"]["ip skep be"]);
    // Its number is another one after each repair.
    let rule =
        "nft replace rule ip skep forw handle $(nft -a list chain ip skep forw | sed -n 's/.*# handle //p' | tail -1) accept";
    let elsewhere = format!("{{ {element} : 10.9.9.9 . 1 }}");
    let gone = format!("{{ {element} }}");
    let other = format!("{{ {vip} : 10.9.9.9 }}");
    let old = format!("{{ {vip} }}");
    let harms: Vec<(&str, Vec<Vec<&str>>)> = vec![
        (&host, vec![vec!["nft", "delete", "element", "ip", "skep", "pubbe", &gone]]),
        (
            &host,
            vec![
                vec!["nft", "delete", "element", "ip", "skep", "pubbe", &gone],
                vec!["nft", "add", "element", "ip", "skep", "pubbe", &elsewhere],
            ],
        ),
        (&host, vec![vec!["sh", "-c", rule]]),
        (&host, vec![vec!["nft", "chain", "ip", "skep", "forw", "{ policy drop; }"]]),
        (&host, vec![vec!["ip", "link", "set", "sking", "down"]]),
        (&host, vec![vec!["ip", "rule", "del", "pref", "5000"]]),
        (&inside, vec![vec!["bridge", "fdb", "del", mac, "dev", "vx0"]]),
        (&inside, vec![vec!["bridge", "fdb", "replace", mac, "dev", "vx0", "dst", "192.0.2.9", "self"]]),
        (&inside, vec![vec!["ip", "neigh", "del", neighbour, "dev", "vx0"]]),
        (&inside, vec![vec!["ip", "link", "del", "vx0"]]),
        (&container, vec![vec!["ip", "link", "del", "eth0"]]),
        (&container, vec![vec!["nft", "flush", "ruleset"]]),
        (
            &container,
            vec![
                vec!["nft", "delete", "element", "ip", "skep", "be", &old],
                vec!["nft", "add", "element", "ip", "skep", "be", &other],
            ],
        ),
    ];
    let repairs = || bed.log("manager").matches("it is made as it should be").count();
    for (ns, commands) in harms {
        let before = repairs();
        for command in &commands {
            let run = within(ns, command);
            // The repair may come between the two halves of a replacement.
            assert!(run.code == 0 || run.err.contains("exists"), "{command:?}: {}", run.err);
        }
        wait(&format!("{commands:?} to be noticed"), SOON, || that(repairs() > before, bed.log("manager")));
        tables::await_equal(&bed, &HOSTS, "manager", SOON);
    }
    // A container whose interface somebody takes away gets it back, with its address and the names.
    let before = repairs();
    let links = space(&tables::dump(&bed, "manager").unwrap_or_default(), "host")["Links"].clone();
    let pairs: Vec<String> = links.as_object().into_iter().flatten().map(|(k, _)| k.clone()).collect();
    let pair = pairs.iter().find(|l| l.ends_with(&short)).unwrap_or_else(|| panic!("no link of {short} in {pairs:?}"));
    let _ = within(&host, &["ip", "link", "del", pair]).ok();
    wait("a lost link to be noticed", SOON, || that(repairs() > before, bed.log("manager")));
    tables::await_equal(&bed, &HOSTS, "manager", SOON);
    for address in HOSTS.map(|h| bed.address(h)) {
        for _ in 0..9 {
            wait("the page through every task", SOON, || web::get(&address, 8080));
        }
    }
    let client = bed.containers("manager").into_iter().find(|c| c.starts_with("client")).unwrap_or_default();
    let ask = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout 3 nc web 8000";
    for _ in 0..6 {
        wait("the service by its name", SOON, || {
            let run = bed.docker("manager", &["exec", &client, "sh", "-c", ask]);
            that(run.out.contains("Hostname"), format!("{}{}", run.out, run.err))
        });
    }
    content(&bed);
}

#[test]
fn the_doctor_names_each_fault_of_the_surroundings() {
    needs!();
    if Command::new("nft").arg("--version").output().is_err() {
        return skep_testkit::skip("needs nft");
    }
    let bed = Bed::swarm(92, 3, 1);
    content(&bed);
    let healthy = doctor(&bed, "manager", &[]).out;
    for words in ["all 2 other nodes are reached by UDP 4789, with 1450 bytes in a packet", "every manager is reached", "7946"]
    {
        assert!(healthy.contains(words), "{healthy}");
    }
    // A worker tells of itself, and can ask nobody.
    let own = doctor(&bed, "worker1", &[]);
    assert!(
        own.code == 0 && own.out.contains(&bed.address("worker1")) && !own.out.contains("worker2\n"),
        "{}{}",
        own.out,
        own.err
    );
    doctor(&bed, "worker1", &["--node", "worker2"]).fails("only a manager can ask other nodes");
    let info = bed.d("manager", "info").ok();
    assert!(info.contains("Network features of the kernel: nftables egress hook, VXLAN"), "{info}");

    // Others' firewalls.
    let w = host_ns(&bed, "worker1");
    let nft = |ns: &str, line: &str| {
        let _ = within(ns, &["nft", line]).ok();
    };
    nft(&w, "add table inet fw");
    nft(&w, "add chain inet fw forward { type filter hook forward priority 0; policy drop; }");
    finds(&bed, &[], &["chain inet fw forward", "ct status dnat accept"]);
    nft(&w, "add rule inet fw forward ct status dnat accept");
    content(&bed);
    nft(&w, "add chain inet fw in { type filter hook input priority 0; }");
    nft(&w, "add rule inet fw in udp dport 4789 drop");
    finds(&bed, &["--node", "worker2"], &["to worker1", "UDP 4789"]);
    nft(&w, "delete table inet fw");
    content(&bed);

    // The network between.
    bed.cut_pair("worker1", "worker2");
    finds(&bed, &["--node", "worker1"], &["to worker2", "nothing comes back"]);
    bed.heal_pair("worker1", "worker2");
    content(&bed);
    // Large packets get lost somewhere on the way to a host.
    let w = host_ns(&bed, "worker2");
    nft(&w, "add table ip small");
    nft(&w, "add chain ip small in { type filter hook prerouting priority -450; }");
    nft(&w, "add rule ip small in udp dport 4789 meta length > 1400 drop");
    finds(&bed, &["--node", "manager"], &["to worker2", "1450", "1350", "1400"]);
    nft(&w, "delete table ip small");
    content(&bed);

    // A link of another size is followed, in containers that run too.
    let image = images::busybox().unwrap_or_else(|| panic!("no busybox on this machine"));
    bed.load(images::archive(&image, "busybox:1.28"));
    let _ = bed.d("manager", "network create -d overlay --attachable net").ok();
    let _ = bed.d("worker2", "run -d --name long --network net busybox:1.28 sleep 100000").ok();
    let size = |wanted: &str| {
        wait(&format!("links of {wanted} bytes"), SOON, || {
            let link = bed.d("worker2", "exec long cat /sys/class/net/eth0/mtu");
            that(link.out.trim() == wanted, link.out)
        });
    };
    size("1450");
    let _ = within(&host_ns(&bed, "worker2"), &["ip", "link", "set", "eth0", "mtu", "1400"]).ok();
    size("1350");
    wait("the dump to follow", SOON, || {
        let dump = tables::dump(&bed, "worker2")?;
        that(dump["MTU"] == 1400, &dump["MTU"])
    });
}
