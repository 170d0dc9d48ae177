//! Beside other rules of the host's firewall, and shut to whoever is no part of the swarm.

use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use skep_e2e::bed::{Bed, LONG};
use skep_e2e::client::Client;
use skep_e2e::{Run, that, wait, web};
use skep_playground::lan::netns_path;
use skep_testkit::images;

use crate::needs;

const SOON: Duration = Duration::from_secs(30);

/// Runs a command in a host's network.
pub(crate) fn on(bed: &Bed, host: &str, command: &str) -> Run {
    let ns = netns_path(&bed.playground.place, host);
    let mut words = command.split_whitespace();
    Run::of(Command::new("nsenter").arg(format!("--net={}", ns.display())).arg(words.next().unwrap_or_default()).args(words))
}

/// The machine's own address on the hosts' LAN: an outside client.
pub(crate) fn outside(bed: &Bed) -> String {
    let [a, b, c] = bed.playground.place.lan;
    format!("{a}.{b}.{c}.1")
}

/// Whether a TCP connection from a host's own network comes about.
fn connects(bed: &Bed, host: &str, address: &str, port: u16) -> bool {
    let ns = netns_path(&bed.playground.place, host);
    let script = format!("exec 3<>/dev/tcp/{address}/{port}");
    Run::of(Command::new("nsenter").arg(format!("--net={}", ns.display())).args(["timeout", "2", "bash", "-c", &script])).code
        == 0
}

fn nft_is_here() -> bool {
    Command::new("nft").arg("--version").output().is_ok()
}

#[test]
fn rules_come_back_when_a_firewall_takes_them_away_and_the_administrators_stay() {
    needs!();
    rules_come_back_by(Client::Docker, 74);
}

#[test]
fn rules_come_back_when_a_firewall_takes_them_away_by_skep() {
    needs!();
    rules_come_back_by(Client::Skep, 122);
}

fn rules_come_back_by(client: Client, number: u8) {
    if !nft_is_here() {
        return skep_testkit::skip("needs nft");
    }
    let bed = Bed::swarm(number, 2, 1).by(client);
    bed.load_demo("whoami:1.0", "1.0");
    let m = |args: &str| bed.d("manager", args);
    let _ = m("service create -d --name web --replicas 2 -p 8080:8000 whoami:1.0").ok();
    bed.await_running("manager", "web", 2, LONG);
    let _ = m("run -d --name own -p 8081:8000 -p 127.0.0.1:8082:8000 whoami:1.0").ok();
    let manager = bed.address("manager");
    let answers = |what: &str| {
        for port in [8080, 8081] {
            wait(&format!("port {port} after {what}"), SOON, || web::get(&manager, port));
        }
        wait("the host's own address", SOON, || that(connects(&bed, "manager", "127.0.0.1", 8082), "no connection"));
    };
    answers("the start");
    for harm in [
        "flush ruleset",
        "delete table ip skep",
        "flush table ip skep",
        "flush chain ip skep pre",
        "flush map ip skep hostany",
        "delete table netdev skep",
    ] {
        let _ = on(&bed, "manager", &format!("nft {harm}")).ok();
        answers(harm);
        // All of it, not only what these ports need.
        wait(&format!("all tables after {harm}"), SOON, || {
            let list = on(&bed, "manager", "nft list ruleset").out;
            let whole = ["table ip skep {", "table netdev skep", "SKEP-USER", "chain forw", "docker_gwbridge"];
            that(whole.iter().all(|w| list.contains(w)), list)
        });
    }

    // A port on the loopback address is the host's alone, and a container is reached by its published ports only.
    let inner = m("inspect --format {{.NetworkSettings.Networks.bridge.IPAddress}} own").ok();
    let _ = on(&bed, "worker1", &format!("ip route add {inner}/32 via {manager}")).ok();
    for (address, port) in [(manager.as_str(), 8082), (inner.as_str(), 8000)] {
        assert!(!connects(&bed, "worker1", address, port), "{address}:{port} is reached from another host");
    }
    assert!(connects(&bed, "worker1", &manager, 8081));

    // The administrator's own chain comes first, for bridges and for the mesh, and is left alone.
    let client = outside(&bed);
    let _ =
        on(&bed, "manager", &format!("nft add rule ip skep-user SKEP-USER ip saddr {client} tcp dport 8000 counter drop")).ok();
    let shut = |what: &str| {
        wait(&format!("the client to be shut out after {what}"), SOON, || {
            let open: Vec<u16> = [8080, 8081].into_iter().filter(|p| web::get(&manager, *p).is_ok()).collect();
            that(open.is_empty(), format!("{open:?} answer"))
        });
        assert!(connects(&bed, "worker1", &manager, 8081), "others are shut out after {what}");
    };
    shut("its rule");
    let _ = on(&bed, "manager", "nft flush table ip skep").ok();
    wait("the tables", SOON, || that(connects(&bed, "worker1", &manager, 8081), "no connection"));
    shut("a repair");
    bed.kill_daemon("manager");
    bed.start_daemon("manager");
    wait("the mesh", SOON, || that(connects(&bed, "worker1", &manager, 8080), "no connection"));
    shut("the daemon's restart");
    let _ = on(&bed, "manager", "nft flush chain ip skep-user SKEP-USER").ok();
    answers("the rule is gone");
}

/// A UDP socket in the network of a container.
pub(crate) fn inside(bed: &Bed, host: &str, container: &str, port: u16) -> UdpSocket {
    let pid = bed.d(host, &format!("inspect --format {{{{.State.Pid}}}} {container}")).ok();
    let opened = std::thread::spawn(move || -> std::io::Result<UdpSocket> {
        let ns = std::fs::File::open(format!("/proc/{pid}/ns/net"))?;
        rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&ns), None)?;
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        Ok(socket)
    });
    opened.join().unwrap_or_else(|_| panic!("the thread of a socket")).unwrap_or_else(|e| panic!("socket in {container}: {e}"))
}

/// A VXLAN frame with a UDP packet for a container, as a node of the swarm would send it.
pub(crate) fn frame(vni: u32, to: Ipv4Addr, port: u16, text: &[u8]) -> Vec<u8> {
    let [_, v1, v2, v3] = vni.to_be_bytes();
    let mut out = vec![8, 0, 0, 0, v1, v2, v3, 0];
    let [a, b, c, d] = to.octets();
    let from = [a, b, c, 250];
    out.extend([2, 0x42, a, b, c, d, 2, 0x42, a, b, c, 250, 8, 0]);
    let length = |n: usize| u16::try_from(n).unwrap_or_default().to_be_bytes();
    let mut ip = vec![0x45, 0];
    ip.extend(length(28 + text.len()));
    ip.extend([0, 1, 0, 0, 64, 17, 0, 0]);
    ip.extend(from);
    ip.extend([a, b, c, d]);
    let mut sum: u32 = ip.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    ip[10..12].copy_from_slice(&(!u16::try_from(sum).unwrap_or_default()).to_be_bytes());
    out.extend(ip);
    out.extend([0x9c, 0x40]);
    out.extend(port.to_be_bytes());
    out.extend(length(8 + text.len()));
    // No checksum, as UDP over IPv4 allows.
    out.extend([0, 0]);
    out.extend(text);
    out
}

#[test]
fn frames_of_strangers_and_questions_from_internal_networks_do_not_pass() {
    needs!();
    let bed = Bed::swarm(75, 2, 1);
    let image = images::busybox().unwrap_or_else(|| panic!("no busybox on this machine"));
    bed.load(images::archive(&image, "busybox:1.28"));
    let m = |args: &str| bed.d("manager", args);
    let _ = m("network create -d overlay --attachable net").ok();
    let _ = bed.d("worker1", "run -d --name ear --network net busybox:1.28 sleep 100000").ok();
    let _ = m("run -d --name mouth --network net busybox:1.28 sleep 100000").ok();
    let ear = inside(&bed, "worker1", "ear", 9000);
    let mouth = inside(&bed, "manager", "mouth", 9000);
    let to: Ipv4Addr = bed
        .d("worker1", "inspect --format {{.NetworkSettings.Networks.net.IPAddress}} ear")
        .ok()
        .parse()
        .unwrap_or_else(|e| panic!("{e}"));
    let vni = m("network inspect net").ok();
    let vni = vni.split("vxlanid_list\": \"").nth(1).and_then(|v| v.split('"').next()?.parse().ok());
    let vni: u32 = vni.unwrap_or_else(|| panic!("no VNI"));
    let stranger = UdpSocket::bind((outside(&bed), 0)).unwrap_or_else(|e| panic!("{e}"));
    for _ in 0..20 {
        let sent = stranger.send_to(&frame(vni, to, 9000, b"forged"), (bed.address("worker1"), 4789));
        let _ = sent.unwrap_or_else(|e| panic!("{e}"));
    }
    // What was sent before this would have come before it.
    wait("a true message", SOON, || {
        let _ = mouth.send_to(b"true", (to, 9000)).map_err(|e| e.to_string())?;
        let mut buffer = [0; 64];
        let heard = ear.recv(&mut buffer).map(|n| String::from_utf8_lossy(&buffer[..n]).into_owned());
        assert!(heard.as_deref().unwrap_or_default() != "forged", "a stranger's frame came through");
        that(heard.is_ok_and(|h| h == "true"), "nothing heard")
    });

    // A resolver that a container names is asked from an open network, never from an internal one.
    let server = UdpSocket::bind((outside(&bed), 53)).unwrap_or_else(|e| panic!("{e}"));
    server.set_nonblocking(true).unwrap_or_else(|e| panic!("{e}"));
    let _ = m("network create -d overlay --attachable --internal shut").ok();
    let _ = m("network create --internal inside").ok();
    let dns = outside(&bed);
    let heard = || {
        let (mut all, mut buffer) = (String::new(), [0; 512]);
        while let Ok((n, _)) = server.recv_from(&mut buffer) {
            all.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
        all
    };
    for network in ["shut", "inside"] {
        let asked = m(&format!("run --rm --network {network} --dns {dns} busybox:1.28 nslookup leaked.example"));
        assert!(asked.code != 0, "{}", asked.out);
    }
    let mut all = String::new();
    wait("a question from an open network", SOON, || {
        let _ = m(&format!("run --rm --network net --dns {dns} busybox:1.28 timeout 2 nslookup told.example"));
        all.push_str(&heard());
        that(all.contains("told"), &all)
    });
    assert!(!all.contains("leaked"), "{all:?}");
}
