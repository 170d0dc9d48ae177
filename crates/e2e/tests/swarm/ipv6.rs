//! IPv6 beside IPv4: overlay networks, names, virtual addresses, the mesh, and bridges of one host.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::time::Duration;

use skep_e2e::bed::{Bed, LONG};
use skep_e2e::client::Client;
use skep_e2e::{tables, that, wait, web};
use skep_playground::Place;
use skep_testkit::images;

use crate::coexist::on;
use crate::needs;

const SOON: Duration = Duration::from_secs(30);
const HOSTS: [&str; 3] = ["manager", "worker1", "worker2"];

fn load(bed: &Bed) {
    bed.load_demo("whoami:1.0", "1.0");
    let image = images::busybox().unwrap_or_else(|| panic!("no busybox on this machine"));
    bed.load(images::archive(&image, "busybox:1.28"));
}

/// The machine's own address of IPv6 on the hosts' LAN: that of an outside client.
fn outside6(bed: &Bed) -> String {
    Place::address6(bed.playground.place.machine()).to_string()
}

/// Addresses of IPv6 in what nslookup printed.
fn addresses(text: &str) -> BTreeSet<String> {
    let words = text.split_whitespace().filter_map(|w| w.parse::<Ipv6Addr>().ok());
    words.map(|a| a.to_string()).collect()
}

/// The tasks that answer at an address, by their hosts' names, and the clients that they saw.
fn answering(limit: Duration, tasks: usize, mut ask: impl FnMut() -> Result<String, String>) -> BTreeSet<String> {
    let mut clients = BTreeSet::new();
    let mut hosts = BTreeSet::new();
    wait(&format!("answers of {tasks} tasks"), limit, || {
        let page = ask()?.replace('\r', "");
        let host = web::field(&page, "Hostname");
        that(!host.is_empty(), &page)?;
        hosts.insert(host);
        clients.insert(web::field(&page, "Client"));
        that(hosts.len() == tasks, format!("{hosts:?}"))
    });
    clients
}

fn by_curl(bed: &Bed, host: &str, to: &str) -> Result<String, String> {
    let run = on(bed, host, &format!("curl -s -g -m 3 http://{to}/"));
    if run.code == 0 { Ok(run.out) } else { Err(format!("{to}: exit code {} {}", run.code, run.err)) }
}

#[test]
fn a_service_is_found_balanced_and_published_by_both_families() {
    needs!();
    let bed = Bed::swarm(128, 3, 1);
    load(&bed);
    let m = |args: &str| bed.d("manager", args);
    let _ = m("network create -d overlay --ipv6 --subnet 10.77.1.0/24 --subnet fd00:77::/64 --attachable dual").ok();
    let shown =
        bed.docker("manager", &["network", "inspect", "--format", "{{.EnableIPv6}} {{json .IPAM.Config}}", "dual"]).ok();
    assert!(shown.starts_with("true ") && shown.contains(r#""Subnet":"fd00:77::/64","Gateway":"fd00:77::1""#), "{shown}");
    assert_eq!(m("network ls --filter name=dual --format {{.IPv6}}").ok(), "true");
    let _ = m("network create -d overlay --ipv6 drawn").ok();
    let drawn = m("network inspect --format {{range.IPAM.Config}}{{.Subnet}},{{end}} drawn").ok();
    assert!(drawn.contains(",fd") && drawn.contains("::/64,"), "{drawn}");
    m("network create -d overlay --ipv6 --subnet fd00:77::/60 clash")
        .fails("Pool overlaps with other one on this address space");
    m("network create -d overlay --subnet fd00:78::/64 four").fails("the network has no IPv6: create it with --ipv6");
    m("network create -d overlay --ipv6 --subnet 10.78.0.0/24 --subnet fd00:78::/121 small").fails("is too small");
    m("network create -d overlay --ipv6 --opt com.docker.network.driver.mtu=1300 thin").fails("it needs 1330 bytes at least");

    let _ = m("service create -d --name web --replicas 3 -p 8080:8000 --network dual whoami:1.0").ok();
    bed.await_running("manager", "web", 3, LONG);
    let w = |args: &str| bed.d("worker1", args);
    let _ = w("run -d --name client --network dual busybox:1.28 sleep 100000").ok();
    // An address of IPv6 is the one at the same place as that of IPv4.
    let _ = w("run -d --name fixed --network dual --ip6 fd00:77::64 busybox:1.28 sleep 100000").ok();
    let format = "{{with .NetworkSettings.Networks.dual}}{{.IPAddress}} {{.GlobalIPv6Address}}/{{.GlobalIPv6PrefixLen}}{{end}}";
    let own = bed.docker("worker1", &["inspect", "--format", format, "fixed"]).ok();
    assert_eq!(own, "10.77.1.100 fd00:77::64/64");
    assert!(w("exec fixed cat /etc/hosts").ok().contains("fd00:77::64\t"), "its own name");

    let vips = m("service inspect --format {{range.Endpoint.VirtualIPs}}{{.Addr}},{{end}} web").ok();
    let vip = vips.split(',').filter_map(|v| v.split_once('/')).find(|(a, _)| a.starts_with("fd00:77::"));
    let vip = vip.map(|(a, _)| a.to_owned()).unwrap_or_else(|| panic!("{vips}"));
    let exec = |args: &str| w(&format!("exec client {args}"));
    let lookup = |name: &str, count: usize| {
        wait(&format!("{count} addresses of {name}"), SOON, || {
            let run = exec(&format!("nslookup -type=aaaa {name}"));
            let found = addresses(&run.out);
            if found.len() == count { Ok(found) } else { Err(format!("{}{}", run.out, run.err)) }
        })
    };
    assert_eq!(lookup("web", 1), BTreeSet::from([vip.clone()]));
    let tasks = lookup("tasks.web", 3);
    assert!(!tasks.contains(&vip));
    assert_eq!(lookup("fixed", 1), BTreeSet::from(["fd00:77::64".to_owned()]));
    let back = exec("nslookup fd00:77::64");
    assert!(back.out.contains("fixed.dual"), "{}{}", back.out, back.err);
    for name in ["web", "fixed"] {
        wait(&format!("an answer of {name} to a ping"), SOON, || {
            let ping = exec(&format!("ping -6 -c 1 -W 2 {name}"));
            that(ping.code == 0, format!("{}{}", ping.out, ping.err))
        });
    }
    let ask = |to: &str| {
        let script = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout 3 nc {to} 8000");
        let run = bed.docker("worker1", &["exec", "client", "sh", "-c", &script]);
        if run.out.is_empty() { Err(format!("exit code {} {}", run.code, run.err)) } else { Ok(run.out) }
    };
    let format = "{{.NetworkSettings.Networks.dual.GlobalIPv6Address}}";
    let client = bed.docker("worker1", &["inspect", "--format", format, "client"]).ok();
    assert_eq!(answering(SOON, 3, || ask(&vip)), BTreeSet::from([client]), "a task sees who calls");
    tasks.iter().for_each(|task| _ = answering(SOON, 1, || ask(task)));

    published(&bed);
    tables::await_equal(&bed, &HOSTS, "manager", SOON);

    // The next daemon finds everything as it should be.
    for host in HOSTS {
        bed.kill_daemon(host);
        bed.start_daemon(host);
    }
    published(&bed);
    assert_eq!(lookup("tasks.web", 3), tasks);
    tables::await_equal(&bed, &HOSTS, "manager", LONG);

    // What leaves takes both along.
    let _ = m("service scale -d web=2").ok();
    lookup("tasks.web", 2);
    let _ = w("rm -f client fixed").ok();
    let _ = m("service rm web").ok();
    for network in ["dual", "drawn"] {
        wait(&format!("{network} to be free"), LONG, || {
            let rm = m(&format!("network rm {network}"));
            that(rm.code == 0, rm.err)
        });
    }
    for host in ["worker1", "worker2"] {
        let _ = bed.d(host, "swarm leave").ok();
        wait("the mesh to be gone", SOON, || {
            let links = on(&bed, host, "ip -6 addr").out;
            let rules = on(&bed, host, "ip -6 rule").out;
            that(!links.contains("sking") && !rules.contains("4789"), format!("{links}{rules}"))
        });
    }
}

/// Every node answers by IPv6, with the client's own address; and each node answers itself.
fn published(bed: &Bed) {
    for host in HOSTS {
        let to = bed.address6(host);
        assert_eq!(answering(SOON, 3, || web::get(&to, 8080)), BTreeSet::from([outside6(bed)]), "by {to}");
        for there in ["::1".to_owned(), bed.address6("manager"), bed.address6("worker2")] {
            let _ = answering(SOON, 3, || by_curl(bed, host, &format!("[{there}]:8080")));
        }
    }
}

#[test]
fn a_program_that_listens_on_ipv4_alone_refuses_at_once() {
    needs!();
    let bed = Bed::swarm(129, 2, 1);
    load(&bed);
    let m = |args: &str| bed.d("manager", args);
    let _ = m("service create -d --name four -p 8080:8000 busybox:1.28 httpd -f -p 0.0.0.0:8000 -h /etc").ok();
    bed.await_running("manager", "four", 1, LONG);
    for host in ["manager", "worker1"] {
        let ask = b"GET /hostname HTTP/1.0\r\n\r\n";
        wait("an answer by IPv4", SOON, || web::exchange(&bed.address(host), 8080, ask, |_| false));
        let refused = web::get(&bed.address6(host), 8080).expect_err("nobody listens");
        assert!(refused.contains("refused"), "{refused}");
        // As every client does with a name that has both: the next address.
        wait("an answer at localhost", SOON, || {
            let run = on(&bed, host, "curl -s -o /dev/null -w %{remote_ip} -m 3 http://localhost:8080/hostname");
            that(run.out == "127.0.0.1", format!("{} {}", run.out, run.err))
        });
    }
    // And one where there is no task is refused, too.
    let _ = m("service scale -d four=0").ok();
    wait("nobody to answer", SOON, || match web::get(&bed.address6("worker1"), 8080) {
        Err(why) => that(why.contains("refused"), why),
        Ok(page) => Err(page),
    });
}

#[test]
fn an_encrypted_network_of_both_families_is_joined_and_left_live() {
    needs!();
    let bed = Bed::swarm(131, 2, 1);
    load(&bed);
    let m = |args: &str| bed.d("manager", args);
    let w = |args: &str| bed.d("worker1", args);
    let _ =
        m("network create -d overlay --ipv6 --attachable --opt encrypted --subnet 10.79.0.0/24 --subnet fd00:79::/64 sealed")
            .ok();
    let _ = m("run -d --name one --network sealed busybox:1.28 sleep 100000").ok();
    let _ = w("run -d --name two busybox:1.28 sleep 100000").ok();
    let _ = w("network connect --ip6 fd00:79::c8 --alias other sealed two").ok();
    let format = "{{with .NetworkSettings.Networks.sealed}}{{.IPAddress}} {{.GlobalIPv6Address}}{{end}}";
    assert_eq!(bed.docker("worker1", &["inspect", "--format", format, "two"]).ok(), "10.79.0.200 fd00:79::c8");
    let taken = m("run -d --network sealed --ip6 fd00:79::c8 busybox:1.28 true");
    assert!(taken.err.contains("Address already in use: 10.79.0.200 on network sealed"), "{}", taken.err);
    let far = m("run -d --network sealed --ip6 fd00:79::1:0 busybox:1.28 true");
    assert!(far.err.contains("fd00:79::1:0 belongs to no address of 10.79.0.0/24"), "{}", far.err);
    // Whole packets and such that must be taken apart, both ways.
    for (host, from, to) in [("worker1", "two", "one"), ("manager", "one", "other"), ("manager", "one", "fd00:79::c8")] {
        for size in [56, 4000] {
            wait(&format!("{to} to answer {from} with {size} bytes"), SOON, || {
                let ping = bed.d(host, &format!("exec {from} ping -6 -c 1 -W 2 -s {size} {to}"));
                that(ping.code == 0, format!("{}{}", ping.out, ping.err))
            });
        }
    }
    let _ = w("network disconnect sealed two").ok();
    assert!(!w("exec two ip -6 addr").ok().contains("fd00:79::"), "it has left");
    wait("its name to be gone", SOON, || that(m("exec one nslookup -type=aaaa other").code != 0, "it is still there"));
    // A bridge of the host in its place.
    let _ = w("network create --ipv6 --subnet fd00:80::/64 near").ok();
    let _ = w("network connect --ip6 fd00:80::5 near two").ok();
    assert!(w("exec two ip -6 addr").ok().contains("fd00:80::5/64"));
    assert!(w("exec two ip -6 route").ok().contains("default via fd00:80::1"), "the first way out by IPv6");
}

#[test]
fn bridges_of_one_host_have_both_families() {
    needs!();
    bridges_by(Client::Docker, 130);
}

#[test]
fn bridges_of_one_host_have_both_families_by_skep() {
    needs!();
    bridges_by(Client::Skep, 132);
}

fn bridges_by(client: Client, number: u8) {
    let flags = ["--ipv6".to_owned(), "--fixed-cidr-v6=fd00:99::/64".to_owned()];
    let bed = Bed::bare(number, 1, &flags).by(client);
    load(&bed);
    let m = |args: &str| bed.d("manager", args);
    let _ = m("network create --ipv6 --subnet fd00:88::/64 --gateway fd00:88::5 dual").ok();
    let shown = bed
        .docker(
            "manager",
            &["network", "inspect", "--format", "{{range .IPAM.Config}}{{.Subnet}}|{{.Gateway}},{{end}}", "dual"],
        )
        .ok();
    assert!(shown.contains(",fd00:88::/64|fd00:88::5,"), "{shown}");
    let _ =
        m("run -d --name web --network dual --ip6 fd00:88::9 -p 8080:8000 -p [::1]:8081:8000 -p 0.0.0.0:8082:8000 whoami:1.0")
            .ok();
    let ports: BTreeSet<String> = m("port web").ok().lines().map(str::to_owned).collect();
    let lines = ["0.0.0.0:8080", "[::]:8080", "[::1]:8081", "0.0.0.0:8082"].map(|at| format!("8000/tcp -> {at}"));
    assert_eq!(ports, BTreeSet::from(lines));
    let format = "{{with .NetworkSettings.Networks.dual}}{{.GlobalIPv6Address}} {{.IPv6Gateway}}{{end}}";
    assert_eq!(bed.docker("manager", &["inspect", "--format", format, "web"]).ok(), "fd00:88::9 fd00:88::5");
    m("network create --ipv6 --opt com.docker.network.driver.mtu=1200 thin").fails("it needs 1280 bytes at least");
    let on_it = m("network inspect --format {{range.Containers}}{{.IPv6Address}}{{end}} dual").ok();
    assert_eq!(on_it, "fd00:88::9/64");

    let six = bed.address6("manager");
    assert_eq!(answering(SOON, 1, || web::get(&six, 8080)), BTreeSet::from([outside6(&bed)]));
    assert!(web::get(&six, 8081).is_err() && web::get(&six, 8082).is_err(), "they are not published there");
    for to in ["[::1]:8080", "[::1]:8081", "127.0.0.1:8080"] {
        let _ = answering(SOON, 1, || by_curl(&bed, "manager", to));
    }
    assert!(by_curl(&bed, "manager", "[::1]:8082").is_err());

    let _ = m("run -d --name other --network dual busybox:1.28 sleep 100000").ok();
    let found = addresses(&m("exec other nslookup -type=aaaa web").out);
    assert_eq!(found, BTreeSet::from(["fd00:88::9".to_owned()]));
    let outside = outside6(&bed);
    for to in ["web", &outside] {
        let ping = m(&format!("exec other ping -6 -c 1 -W 2 {to}"));
        assert_eq!(ping.code, 0, "{to}: {}{}", ping.out, ping.err);
    }
    // The default bridge as the daemon's flags say.
    let _ = m("run -d --name plain busybox:1.28 sleep 100000").ok();
    let format = "{{.NetworkSettings.GlobalIPv6Address}} {{.NetworkSettings.IPv6Gateway}}";
    assert_eq!(bed.docker("manager", &["inspect", "--format", format, "plain"]).ok(), "fd00:99::2 fd00:99::1");
    // Without IPv6 there is nothing to publish by it.
    let _ = m("network create four").ok();
    let refused = m("run -d --network four -p [::1]:8090:80 busybox:1.28 true");
    assert!(refused.err.contains("cannot publish port 80 at ::1: the container has no IPv6 address"), "{}", refused.err);
    let refused = m("run -d --network four --ip6 fd00:88::7 busybox:1.28 true");
    assert!(refused.err.contains("no configured subnet or ip-range contain the IP address fd00:88::7"), "{}", refused.err);
}
