//! Overlay networks whose packets are encrypted between nodes: what a wire tap sees, who can speak into them, and what they outlive.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use skep_e2e::bed::{Bed, LONG};
use skep_e2e::{that, wait};
use skep_playground::lan::netns_path;
use skep_testkit::images;

use crate::coexist::{frame, inside, on, outside};
use crate::needs;

const SOON: Duration = Duration::from_secs(30);
/// UDP ports: of WireGuard between nodes, and of the VXLAN packets inside, as ARCHITECTURE says.
const TUNNEL: u16 = 4790;
const INNER: u16 = 4791;

/// All that passes a host's wire, from now on.
struct Tap {
    process: Child,
    file: PathBuf,
}

impl Tap {
    fn on(bed: &Bed, host: &str) -> Self {
        let file = bed.playground.place.run.join(format!("{host}.pcap"));
        let ns = netns_path(&bed.playground.place, host);
        let process = Command::new("nsenter")
            .arg(format!("--net={}", ns.display()))
            .args(["tcpdump", "-i", "eth0", "-s", "0", "-U", "-Z", "root", "-w"])
            .arg(&file)
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("tcpdump: {e}"));
        Self { process, file }
    }

    /// Whether a text has passed.
    fn saw(&self, text: &str) -> bool {
        let seen = std::fs::read(&self.file).unwrap_or_default();
        seen.windows(text.len()).any(|w| w == text.as_bytes())
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Sends until it is heard.
fn heard(what: &str, from: &UdpSocket, to: Ipv4Addr, at: &UdpSocket, text: &str) {
    wait(what, SOON, || {
        let _ = from.send_to(text.as_bytes(), (to, 9000)).map_err(|e| e.to_string())?;
        let mut buffer = [0; 2048];
        let got = at.recv(&mut buffer).map(|n| String::from_utf8_lossy(&buffer[..n]).into_owned());
        assert!(!got.as_deref().unwrap_or_default().contains("forged"), "what was not encrypted came through");
        that(got.is_ok_and(|g| g == text), "nothing heard")
    });
}

/// The processes that carry a host's link where its kernel cannot: none or one.
fn carriers(bed: &Bed, host: &str) -> Vec<rustix::process::Pid> {
    let dir = bed.playground.place.run.join(host).join("wireguard");
    let all = std::fs::read_dir("/proc").unwrap_or_else(|e| panic!("/proc: {e}")).flatten();
    let ours = all.filter(|entry| {
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        words.split(|b| *b == 0).any(|w| w == dir.as_os_str().as_encoded_bytes())
    });
    let pids = ours.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(rustix::process::Pid::from_raw).collect()
}

fn address(bed: &Bed, host: &str, container: &str, network: &str) -> Ipv4Addr {
    let format = format!("inspect --format {{{{.NetworkSettings.Networks.{network}.IPAddress}}}} {container}");
    let text = bed.d(host, &format).ok();
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn what_is_sent_on_an_encrypted_network_is_read_and_said_by_its_members_only() {
    needs!();
    if Command::new("tcpdump").arg("--version").output().is_err() {
        return skep_testkit::skip("needs tcpdump");
    }
    let bed = Bed::swarm(90, 2, 1);
    let image = images::busybox().unwrap_or_else(|| panic!("no busybox on this machine"));
    bed.load(images::archive(&image, "busybox:1.28"));
    let m = |args: &str| bed.d("manager", args);
    for (name, options) in [("plain", ""), ("sealed", "--opt encrypted")] {
        let _ = m(&format!("network create -d overlay --attachable {options} {name}")).ok();
        let _ = bed.d("worker1", &format!("run -d --name ear-{name} --network {name} busybox:1.28 sleep 100000")).ok();
        let _ = m(&format!("run -d --name mouth-{name} --network {name} busybox:1.28 sleep 100000")).ok();
    }
    let options = m("network inspect --format {{.Options}} sealed").ok();
    assert!(options.contains("encrypted:"), "{options}");
    let talk = |name: &str, text: &str| {
        let (ear, mouth) = (format!("ear-{name}"), format!("mouth-{name}"));
        let to = address(&bed, "worker1", &ear, name);
        let (ear, mouth) = (inside(&bed, "worker1", &ear, 9000), inside(&bed, "manager", &mouth, 9000));
        heard(&format!("{text} on {name}"), &mouth, to, &ear, text);
    };
    let tap = Tap::on(&bed, "manager");
    // The tap works when it sees what is sent in plain.
    wait("the tap", LONG, || {
        talk("plain", "said-in-plain");
        that(tap.saw("said-in-plain"), "not seen")
    });
    talk("sealed", "said-in-secret");
    talk("plain", "said-after-it");
    wait("the tap to see what came after", SOON, || that(tap.saw("said-after-it"), "not seen"));
    assert!(!tap.saw("said-in-secret"), "it passed the wire in plain");
    drop(tap);

    // A stranger's frames, in plain, at each port; and a rule of somebody else's that accepts them first.
    let accept = "add table ip early; \
                  add chain ip early pre { type filter hook prerouting priority -400; policy accept; }; \
                  add rule ip early pre udp dport { 4789, 4790, 4791 } accept; \
                  add chain ip early input { type filter hook input priority -400; policy accept; }; \
                  add rule ip early input udp dport { 4789, 4790, 4791 } accept";
    let ns = netns_path(&bed.playground.place, "worker1");
    let added = Command::new("nsenter").arg(format!("--net={}", ns.display())).args(["nft", accept]).status();
    assert!(added.is_ok_and(|s| s.success()), "nft {accept}");
    let vni = m("network inspect sealed").ok();
    let vni = vni.split("vxlanid_list\": \"").nth(1).and_then(|v| v.split('"').next()?.parse().ok());
    let vni: u32 = vni.unwrap_or_else(|| panic!("no VNI"));
    let to = address(&bed, "worker1", "ear-sealed", "sealed");
    let stranger = UdpSocket::bind((outside(&bed), 0)).unwrap_or_else(|e| panic!("{e}"));
    let ear = inside(&bed, "worker1", "ear-sealed", 9000);
    for port in [4789, TUNNEL, INNER].repeat(20) {
        let sent = stranger.send_to(&frame(vni, to, 9000, b"forged"), (bed.address("worker1"), port));
        let _ = sent.unwrap_or_else(|e| panic!("{e}"));
    }
    let mouth = inside(&bed, "manager", "mouth-sealed", 9000);
    heard("a true message", &mouth, to, &ear, "true");

    // Without the daemons the network goes on, and new ones take over what there is.
    for host in ["worker1", "manager"] {
        bed.kill_daemon(host);
        heard(&format!("{host} without a daemon"), &mouth, to, &ear, "without");
        bed.start_daemon(host);
        heard(&format!("{host} with a new daemon"), &mouth, to, &ear, "with");
        assert!(carriers(&bed, host).len() <= 1, "the new daemon took over what there was");
    }
    // A process that carries the link and dies takes it along: nothing passes in plain, and soon there is another one.
    let processes = carriers(&bed, "worker1");
    for pid in &processes {
        let _ = rustix::process::kill_process(*pid, rustix::process::Signal::KILL);
    }
    heard("the link made anew", &mouth, to, &ear, "anew");
    drop((ear, mouth));

    // A host that lost power has another key when it is back.
    bed.power_off("worker1");
    bed.power_on("worker1");
    wait("the container to start again", LONG, || {
        let run = bed.d("worker1", "start ear-sealed");
        that(run.code == 0, run.err)
    });
    talk("sealed", "after-a-loss-of-power");

    // With the last container the link goes, and whatever carried it.
    for (host, name) in [("worker1", "ear-sealed"), ("manager", "mouth-sealed")] {
        let _ = bed.d(host, &format!("rm -f {name}")).ok();
        wait(&format!("the link of {host} to go"), SOON, || {
            let links = on(&bed, host, "ip -br link").out;
            that(!links.contains("skwg"), links)
        });
        wait(&format!("what carried it on {host} to end"), SOON, || that(carriers(&bed, host).is_empty(), "it runs"));
        let rules = on(&bed, host, "ip rule").out;
        assert!(!rules.contains("4791"), "{rules}");
    }
    let _ = m("network rm sealed").ok();
}
