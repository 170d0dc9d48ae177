//! Networks and services come and go, leaders change, daemons die, packets are lost: nothing is leaked or doubled, and at the end every
//! host has what the running tasks need and nothing else.
//!
//! `SKEP_ROUNDS` makes the first of these as long as one likes (500 for a release).

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use skep_e2e::bed::{Bed, LONG};
use skep_e2e::load::Load;
use skep_e2e::{Run, images, tables, that, wait, web};
use skep_playground::lan::netns_path;

use crate::needs;

const ALL: [&str; 3] = ["manager", "worker1", "worker2"];
const PAUSE: Duration = Duration::from_millis(5);
/// Rounds of a usual run.
const FEW: usize = 12;

/// Bytes of a file that takes many packets.
const LARGE: usize = 4096 * 1024;

/// Runs a command in a host's network.
fn on(bed: &Bed, host: &str, command: &[&str]) -> Run {
    let ns = netns_path(&bed.playground.place, host);
    Run::of(Command::new("nsenter").arg(format!("--net={}", ns.display())).args(command))
}

/// Waits until all nodes are ready, and all of their managers reachable.
fn await_ready(bed: &Bed, teller: &str) {
    wait("all nodes ready", LONG, || {
        let ls = bed.d(teller, "node ls --format {{.Status}}|{{.ManagerStatus}}");
        let bad = ls.out.lines().any(|l| !l.starts_with("Ready") || l.ends_with("Unreachable"));
        that(ls.code == 0 && ls.out.lines().count() == ALL.len() && !bad, format!("{}{}", ls.out, ls.err))
    });
}

#[test]
fn nothing_is_leaked_or_doubled_over_rounds_with_leader_changes() {
    needs!();
    let rounds: usize = std::env::var("SKEP_ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(FEW);
    let bed = Bed::swarm(93, 3, 3);
    bed.load_demo("ws:1.0", "1.0");
    // Made once, to be seen again at the end: the lowest of everything that is free.
    let first = |teller: &str| -> (String, String, String) {
        let run = |args: &str| {
            wait(args, LONG, || {
                let run = bed.d(teller, args);
                that(run.code == 0 || run.err.contains("already exists"), run.err)
            })
        };
        run("network create -d overlay probe");
        run("service create -d --name probe --replicas 1 --network probe -p 8000 ws:1.0");
        bed.await_running(teller, "probe", 1, LONG);
        let inspect = |args: &str| bed.d(teller, args).ok();
        let network = "{{(index .IPAM.Config 0).Subnet}} {{index .Options \"com.docker.network.driver.overlay.vxlanid_list\"}}";
        let network = bed.docker(teller, &["network", "inspect", "--format", network, "probe"]).ok();
        let vips = inspect("service inspect --format {{range.Endpoint.VirtualIPs}}{{.Addr}},{{end}} probe");
        let port = inspect("service inspect --format {{range.Endpoint.Ports}}{{.PublishedPort}}{{end}} probe");
        let _ = bed.d(teller, "service rm probe").ok();
        gone(&bed, teller, "probe");
        (network, vips, port)
    };
    let before = first("worker1");
    let mut leaders = BTreeSet::new();
    for round in 0..rounds {
        let teller = ALL[round % ALL.len()];
        let (network, service) = (format!("n{round}"), format!("s{round}"));
        // An attempt whose answer was lost with the leader may have been done.
        let create = |args: String| {
            wait(&args, LONG, || {
                let run = bed.d(teller, &args);
                that(run.code == 0 || run.err.contains("already exists"), run.err)
            });
        };
        create(format!("network create -d overlay {network}"));
        create(format!("service create -d --name {service} --replicas 3 --network {network} -p 8000 ws:1.0"));
        let leader = bed.leader(teller).ok().filter(|_| round % 4 == 1);
        if let Some(leader) = &leader {
            bed.kill_daemon(leader);
            leaders.insert(leader.clone());
        }
        let other = ALL.into_iter().find(|h| Some(*h) != leader.as_deref()).unwrap_or("worker1");
        if round % 2 == 0 {
            bed.await_running(other, &service, 3, LONG);
        }
        wait(&format!("{service} to be removed"), LONG, || {
            let run = bed.d(other, &format!("service rm {service}"));
            that(run.code == 0 || run.err.contains("not found"), run.err)
        });
        if let Some(leader) = &leader {
            bed.start_daemon(leader);
            await_ready(&bed, other);
        }
        gone(&bed, other, &network);
    }
    assert!(!leaders.is_empty(), "no leader was killed");
    await_ready(&bed, "manager");
    tables::await_equal(&bed, &ALL, "manager", LONG);
    for host in ALL {
        wait(&format!("no namespace on {host}"), LONG, || {
            let dump = tables::dump(&bed, host)?;
            let left: Vec<String> = dump["Spaces"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|s| s["Name"].to_string())
                .filter(|n| n != "\"host\"")
                .collect();
            that(left.is_empty(), format!("{left:?}"))
        });
    }
    assert_eq!(first("worker2"), before, "something is held that should be free");
}

/// Removes a network as soon as nobody is on it.
fn gone(bed: &Bed, teller: &str, network: &str) {
    wait(&format!("{network} to be removed"), LONG, || {
        let run = bed.d(teller, &format!("network rm {network}"));
        that(run.code == 0 || run.err.contains("not found"), run.err)
    });
}

#[test]
fn all_daemons_die_at_once_under_load() {
    needs!();
    let bed = Bed::swarm(94, 3, 3);
    bed.load(images::checked("ws:1.0", "1.0"));
    let _ = bed.d("manager", "network create -d overlay net").ok();
    let _ = bed.d("manager", "service create -d --name ws --replicas 4 --network net -p 80:8000 ws:1.0").ok();
    let before = bed.await_running("manager", "ws", 4, LONG);
    for host in ALL {
        wait("the page", LONG, || web::get(&bed.address(host), 80));
    }
    tables::await_equal(&bed, &ALL, "manager", LONG);
    let load = Load::start(&ALL.map(|h| bed.address(h)), 80, 3, PAUSE);
    for host in ALL {
        bed.kill_daemon(host);
    }
    let asked = load.so_far().0;
    wait("answers while no daemon runs", LONG, || that(load.so_far().0 > asked + 100, "none"));
    for host in ALL {
        bed.start_daemon(host);
    }
    await_ready(&bed, "worker2");
    let asked = load.so_far().0;
    wait("answers afterwards", LONG, || that(load.so_far().0 > asked + 100, "none"));
    let tally = load.stop();
    assert_eq!(tally.failed, 0, "{tally:#?}");
    assert_eq!(bed.await_running("manager", "ws", 4, LONG), before, "a task was touched");
    tables::await_equal(&bed, &ALL, "worker1", LONG);
}

/// Asks by one and the same flow until somebody answers; which container did.
fn ask(socket: &UdpSocket) -> Result<String, String> {
    let failed = |e: std::io::Error| e.to_string();
    let mut buffer = [0; 4096];
    // A late answer to an earlier question is no answer to this one.
    socket.set_nonblocking(true).map_err(failed)?;
    while socket.recv(&mut buffer).is_ok() {}
    socket.set_nonblocking(false).map_err(failed)?;
    let _ = socket.send(b"?").map_err(failed)?;
    let n = socket.recv(&mut buffer).map_err(failed)?;
    Ok(web::field(&String::from_utf8_lossy(&buffer[..n]), "Hostname"))
}

#[test]
fn a_udp_flow_finds_another_task_when_its_own_goes() {
    needs!();
    let bed = Bed::swarm(95, 3, 1);
    bed.load_demo("ws:1.0", "1.0");
    let _ = bed.d("manager", "service create -d --name ws --replicas 3 -p 9000:8000/udp ws:1.0").ok();
    bed.await_running("manager", "ws", 3, LONG);
    let flows: Vec<UdpSocket> = ALL
        .iter()
        .map(|host| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap_or_else(|e| panic!("{e}"));
            socket.connect((bed.address(host), 9000)).unwrap_or_else(|e| panic!("{e}"));
            socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap_or_else(|e| panic!("{e}"));
            socket
        })
        .collect();
    for round in 0..4 {
        let first = flows.iter().map(|f| wait("an answer", LONG, || ask(f))).collect::<Vec<_>>();
        assert!(first.iter().all(|h| !h.is_empty()), "{first:?}");
        // A flow stays where it is as long as nothing changes.
        assert_eq!(flows.iter().map(|f| wait("an answer", LONG, || ask(f))).collect::<Vec<_>>(), first);
        let old: BTreeSet<String> =
            bed.running("manager", "ws").into_iter().map(|l| l.container.chars().take(12).collect()).collect();
        assert!(first.iter().all(|h| old.contains(h)), "{first:?} {old:?}");
        let _ = bed.d("manager", "service update -d --force --update-parallelism 0 ws").ok();
        wait(&format!("other tasks in round {round}"), LONG, || {
            let now = bed.running("manager", "ws");
            let new = now.iter().all(|l| !old.contains(&l.container.chars().take(12).collect::<String>()));
            that(now.len() == 3 && new, format!("{now:?}"))
        });
        for flow in &flows {
            wait("the flow to be answered by a new task", LONG, || {
                let host = ask(flow)?;
                that(!old.contains(&host), host)
            });
        }
    }
    // One that was refused because there was no task finds the next one, without a pause in its questions.
    let _ = bed.d("manager", "service scale -d ws=0").ok();
    for flow in &flows {
        wait("the flow to be refused", LONG, || that(ask(flow).is_err_and(|e| e.contains("refused")), "answered"));
    }
    let _ = bed.d("manager", "service scale -d ws=3").ok();
    for flow in &flows {
        wait("the flow to be answered again", LONG, || ask(flow));
    }
    tables::await_equal(&bed, &ALL, "manager", LONG);
}

#[test]
fn a_tenth_of_all_packets_is_lost_and_updates_go_through() {
    needs!();
    if Command::new("nft").arg("--version").output().is_err() {
        return skep_testkit::skip("needs nft");
    }
    let bed = Bed::swarm(96, 3, 3);
    for version in ["1.0", "2.0"] {
        bed.load(images::checked(&format!("ws:{version}"), version));
    }
    let _ = bed.d("manager", "network create -d overlay net").ok();
    let _ = bed.d("manager", "service create -d --name ws --replicas 3 --network net -p 80:8000 --update-order start-first --update-parallelism 0 ws:1.0").ok();
    bed.await_running("manager", "ws", 3, LONG);
    for host in ALL {
        let _ = on(&bed, host, &["nft", "add table ip loss"]).ok();
        let _ = on(&bed, host, &["nft", "add chain ip loss in { type filter hook prerouting priority -450; }"]).ok();
        let _ = on(&bed, host, &["nft", "add rule ip loss in iifname eth0 numgen random mod 10 == 0 drop"]).ok();
    }
    let load = Load::start(&ALL.map(|h| bed.address(h)), 80, 2, PAUSE);
    for version in ["2.0", "1.0"] {
        wait("the update to be taken", LONG, || {
            let run = bed.d("worker1", &format!("service update -d --image ws:{version} ws"));
            that(run.code == 0, run.err)
        });
        wait(&format!("tasks of {version}"), LONG * 2, || {
            let images =
                bed.d("worker2", "service ps --filter desired-state=running --format {{.Image}}|{{.CurrentState}} ws").out;
            let new = images.lines().all(|l| l.starts_with(&format!("ws:{version}|Running")));
            that(new && images.lines().count() == 3, images)
        });
    }
    for host in ALL {
        let _ = on(&bed, host, &["nft", "delete table ip loss"]).ok();
    }
    let tally = load.stop();
    println!("{} requests answered, {} given up by clients of 3 s", tally.answered, tally.failed);
    assert!(tally.answered > 0 && tally.versions.len() == 2, "{tally:#?}");
    await_ready(&bed, "manager");
    tables::await_equal(&bed, &ALL, "manager", LONG);
    let after = Load::start(&ALL.map(|h| bed.address(h)), 80, 2, PAUSE);
    wait("answers", LONG, || that(after.so_far().0 > 100, "none"));
    assert_eq!(after.stop().failed, 0);
}

#[test]
fn an_underlay_of_1400_bytes_carries_large_answers() {
    needs!();
    let bed = Bed::bare(97, 3, &[]);
    for host in ALL {
        let _ = on(&bed, host, &["ip", "link", "set", "eth0", "mtu", "1400"]).ok();
        let [_, b, c] = bed.playground.place.lan;
        let cable = format!("skp{b}-{c}-{}", bed.host(host).number);
        let _ = Run::of(Command::new("ip").args(["link", "set", &cable, "mtu", "1400"])).ok();
    }
    bed.form(1);
    let image = skep_testkit::images::busybox().unwrap_or_else(|| panic!("no busybox on this machine"));
    bed.load(skep_testkit::images::archive(&image, "busybox:1.28"));
    let _ = bed.d("manager", "network create -d overlay net").ok();
    let serve = "mkdir /www && dd if=/dev/zero of=/www/large bs=1024 count=4096 && httpd -f -p 8000 -h /www";
    let create = "service create -d --name files --mode global --network net -p 80:8000 busybox:1.28 sh -c";
    let _ = bed.docker("manager", &[create.split(' ').collect(), vec![serve]].concat()).ok();
    bed.await_running("manager", "files", 3, LONG);
    tables::await_equal(&bed, &ALL, "manager", LONG);
    for host in ALL {
        let inside = bed.containers(host).into_iter().find(|c| c.starts_with("files")).unwrap_or_default();
        // Through the mesh of each host, and by the virtual address.
        let own = ALL.map(|h| format!("{} 80", bed.address(h)));
        for target in own.iter().map(String::as_str).chain(["files 8000"]) {
            for _ in 0..3 {
                // The answer's head comes on top.
                let script = format!("printf 'GET /large HTTP/1.0\\r\\n\\r\\n' | timeout 10 nc {target} | wc -c");
                wait(&format!("the file of {target} on {host}"), LONG, || {
                    let run = bed.docker(host, &["exec", &inside, "sh", "-c", &script]);
                    let bytes = run.out.trim().parse::<usize>().unwrap_or_default();
                    that(bytes > LARGE, format!("{}{}", run.out, run.err))
                });
            }
        }
    }
    let run = bed.skep("manager", &["network", "doctor"]);
    assert!(run.code == 0 && run.out.contains("with 1350 bytes in a packet"), "{}{}", run.out, run.err);
}
