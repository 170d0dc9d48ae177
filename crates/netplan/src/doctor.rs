//! From what was looked at on a host to what is wrong, in words that say what to do. Must never guess: what was not looked at is
//! not told.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use skep_types::NodeId;
use skep_types::gossip;
use skep_types::netreport::{Finding, Level};

use crate::facts::VXLAN_OVERHEAD;

/// What of the kernel's features is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// Chains of nftables where packets leave a device (5.16).
    pub egress: bool,
    /// VXLAN devices.
    pub vxlan: bool,
    /// WireGuard devices.
    pub wireguard: bool,
    /// The transport protocol SCTP.
    pub sctp: bool,
    /// IPv6.
    pub ipv6: bool,
    /// Shares of a link with Ethernet addresses of their own.
    pub macvlan: bool,
}

impl Features {
    /// By name.
    #[must_use]
    pub fn named(&self) -> [(&'static str, bool); 6] {
        [
            ("nftables egress hook", self.egress),
            ("VXLAN", self.vxlan),
            ("WireGuard", self.wireguard),
            ("SCTP", self.sctp),
            ("IPv6", self.ipv6),
            ("macvlan", self.macvlan),
        ]
    }
}

/// Where a chain that is not ours is hooked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Packets to this host.
    Input,
    /// Packets through it.
    Forward,
}

/// A base chain of others that drops or rejects what it does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    /// `family table chain`.
    pub name: String,
    /// Where.
    pub place: Place,
    /// It has a rule that looks at the connection's status, as one that lets published ports pass must.
    pub knows_status: bool,
}

/// How a peer answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerReach {
    /// Which node.
    pub node: NodeId,
    /// Its underlay address.
    pub addr: Ipv4Addr,
    /// Why nothing came back from its underlay address; `None` if something did.
    pub silent: Option<String>,
    /// The largest payload that came through VXLAN to it, of those that were tried; `None` if none did. Absent where there is no
    /// mesh to ask by.
    pub vxlan: Option<Option<u32>>,
    /// Why it does not hear other nodes, though it is there.
    pub deaf: Option<String>,
}

/// Everything that was looked at on a host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Looked {
    /// Whether the host is in a swarm.
    pub member: bool,
    /// The UDP port of VXLAN.
    pub vxlan_port: u16,
    /// Payload size of the underlay as the tables reckon with it, and as its link has it; `None` if no link has its address.
    pub mtu: (u32, Option<u32>),
    /// Namespaces that were compared.
    pub spaces: usize,
    /// What is not as it should be, each with its namespace's name.
    pub differences: Vec<String>,
    /// Containers whose resolver answers by an old table, or does not answer.
    pub resolvers: Vec<String>,
    /// Features.
    pub features: Features,
    /// Chains of others.
    pub strangers: Vec<Stranger>,
    /// Managers by address, with why one cannot be reached.
    pub managers: Vec<(NodeId, String, Option<String>)>,
    /// Other nodes.
    pub peers: Vec<PeerReach>,
}

struct Out(Vec<Finding>);

impl Out {
    fn add(&mut self, level: Level, about: &'static str, text: impl Into<String>) {
        self.0.push(Finding { level, about, peer: None, text: text.into() });
    }

    fn of(&mut self, peer: NodeId, level: Level, about: &'static str, text: impl Into<String>) {
        self.0.push(Finding { level, about, peer: Some(peer), text: text.into() });
    }
}

/// What follows.
#[must_use]
pub fn findings(looked: &Looked) -> Vec<Finding> {
    let mut out = Out(Vec::new());
    tables(looked, &mut out);
    features(looked, &mut out);
    if looked.member {
        mtu(looked, &mut out);
        managers(looked, &mut out);
        peers(looked, &mut out);
    }
    strangers(looked, &mut out);
    out.0
}

fn tables(l: &Looked, out: &mut Out) {
    if l.differences.is_empty() {
        let text = format!("{} network namespaces are as they should be", l.spaces);
        out.add(
            Level::Good,
            "tables",
            if l.spaces == 1 { text.replace("namespaces are as they", "namespace is as it") } else { text },
        );
    }
    for difference in &l.differences {
        let text = format!(
            "{difference}: somebody else changed it; it is made good within seconds, and comes back if they do so again"
        );
        out.add(Level::Fault, "tables", text);
    }
    for container in &l.resolvers {
        out.add(Level::Fault, "tables", format!("the resolver of container {container} does not answer as it should"));
    }
}

fn features(l: &Looked, out: &mut Out) {
    let lacks = |what: &str, so: &str| format!("the kernel lacks {what}: {so}");
    if !l.features.vxlan {
        let so = "overlay networks and published ports of services do not work (CONFIG_VXLAN, module vxlan)";
        out.add(Level::Fault, "kernel", lacks("VXLAN devices", so));
    }
    if !l.features.egress {
        let so = "answers of published ports do not find back to the node that was entered (Linux 5.16 with \
                  CONFIG_NETFILTER_EGRESS has it)";
        out.add(Level::Fault, "kernel", lacks("the egress hook of nftables", so));
    }
    if !l.features.wireguard {
        out.add(
            Level::Note,
            "kernel",
            lacks("WireGuard", "a process of Skep's carries encrypted networks, at a fraction of the speed"),
        );
    }
    if !l.features.sctp {
        let so = "programs that use it cannot run in containers here; a constraint keeps services that need it away (CONFIG_IP_SCTP, \
                  module sctp)";
        out.add(Level::Note, "kernel", lacks("SCTP", so));
    }
    if !l.features.ipv6 {
        let so = "containers here have addresses of IPv4 alone, and published ports are answered by IPv4 alone";
        out.add(Level::Note, "kernel", lacks("IPv6, or nftables for it", so));
    }
    if !l.features.macvlan {
        let so = "containers are on overlay networks by pairs and a bridge, at some nine tenths of the speed; networks of that driver \
                  do not work (CONFIG_MACVLAN, module macvlan)";
        out.add(Level::Note, "kernel", lacks("macvlan devices", so));
    }
    if l.features.named().iter().all(|(_, there)| *there) {
        out.add(Level::Good, "kernel", "the kernel has all features that are used");
    }
}

fn mtu(l: &Looked, out: &mut Out) {
    match l.mtu {
        (_, None) => out.add(
            Level::Note,
            "underlay",
            format!(
                "no link has this node's address, so that its payload size is taken for {} bytes: if it is another, start the \
                 daemon with --mtu",
                l.mtu.0
            ),
        ),
        (planned, Some(link)) if planned != link => {
            let text = format!("the underlay's link carries {link} bytes, but overlay networks reckon with {planned}");
            out.add(Level::Fault, "underlay", format!("{text}: it is followed within seconds"));
        }
        _ => {}
    }
}

fn managers(l: &Looked, out: &mut Out) {
    let mut all = true;
    for (node, addr, fault) in &l.managers {
        if let Some(why) = fault {
            all = false;
            let text = format!("manager {addr} cannot be reached ({why}): let TCP {addr} pass between all nodes");
            out.of(*node, Level::Fault, "managers", text);
        }
    }
    if all && !l.managers.is_empty() {
        let addresses: Vec<&str> = l.managers.iter().map(|m| m.1.as_str()).collect();
        out.add(Level::Good, "managers", format!("every manager is reached: {}", addresses.join(", ")));
    }
}

fn peers(l: &Looked, out: &mut Out) {
    let full = l.mtu.0.saturating_sub(VXLAN_OVERHEAD);
    let port = l.vxlan_port;
    let mut good = 0;
    for p in &l.peers {
        if let Some(why) = &p.deaf {
            let text = format!(
                "TCP {} of {} cannot be reached ({why}): while no manager is reached, it does not hear which tasks have ended, and \
                 sends requests to them",
                gossip::PORT,
                p.addr
            );
            out.of(p.node, Level::Note, "underlay", text);
        }
        match (&p.silent, p.vxlan) {
            (Some(why), None | Some(None)) => {
                let text =
                    format!("nothing comes back from {} ({why}): the node is off or the network between is broken", p.addr);
                out.of(p.node, Level::Fault, "underlay", text);
            }
            (None, Some(None)) => {
                let text = format!(
                    "{} is there, but VXLAN packets to it are not answered: a firewall, here or there, does not let UDP {port} pass",
                    p.addr
                );
                out.of(p.node, Level::Fault, "underlay", text);
            }
            (_, Some(Some(size))) if size < full => {
                let carried = size + VXLAN_OVERHEAD;
                let text = format!(
                    "of packets to {} those of {full} bytes are lost and those of {size} pass: the network between carries {carried} bytes, \
                     not the {} that the link has. Set the right size on the links of both nodes, or create networks with --opt \
                     com.docker.network.driver.mtu={carried}",
                    p.addr, l.mtu.0,
                );
                out.of(p.node, Level::Fault, "underlay", text);
            }
            (_, Some(Some(_))) | (None, None) => good += 1,
        }
    }
    if good == l.peers.len() && good > 0 {
        let others = if good == 1 { "the other node is".to_owned() } else { format!("all {good} other nodes are") };
        let how = if l.peers.iter().all(|p| p.vxlan.is_some()) {
            format!("reached by UDP {port}, with {full} bytes in a packet")
        } else {
            format!("there; UDP {port} was not tried for want of the ingress network")
        };
        out.add(Level::Good, "underlay", format!("{others} {how}"));
    }
}

fn strangers(l: &Looked, out: &mut Out) {
    let mut told = BTreeSet::new();
    for s in l.strangers.iter().filter(|s| told.insert(s.name.clone())) {
        match s.place {
            Place::Forward if s.knows_status => {
                let text =
                    format!("chain {} drops what it does not know, and has a rule for the status of connections", s.name);
                out.add(Level::Note, "firewall", text);
            }
            Place::Forward => {
                let text = format!(
                    "chain {} drops what it does not know, published ports too: an accept of Skep's cannot undo that. Put this \
                     into it: ct status dnat accept",
                    s.name
                );
                out.add(Level::Fault, "firewall", text);
            }
            Place::Input => {
                let text = format!(
                    "chain {} drops what it does not know: it must let TCP 2377 (at managers), TCP 7946 and UDP {} of other nodes in",
                    s.name,
                    if l.vxlan_port == 0 { 4789 } else { l.vxlan_port }
                );
                out.add(Level::Note, "firewall", text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy() -> Looked {
        let peer = |n: u8| PeerReach {
            node: NodeId(u128::from(n)),
            addr: Ipv4Addr::new(10, 0, 0, n),
            silent: None,
            vxlan: Some(Some(1450)),
            deaf: None,
        };
        Looked {
            member: true,
            vxlan_port: 4789,
            mtu: (1500, Some(1500)),
            spaces: 3,
            features: Features { egress: true, vxlan: true, wireguard: true, sctp: true, ipv6: true, macvlan: true },
            managers: vec![(NodeId(1), "10.0.0.1:2377".to_owned(), None)],
            peers: vec![peer(1), peer(2)],
            ..Looked::default()
        }
    }

    fn faults(change: impl FnOnce(&mut Looked)) -> Vec<Finding> {
        let mut looked = healthy();
        change(&mut looked);
        findings(&looked).into_iter().filter(|f| f.level == Level::Fault).collect()
    }

    #[track_caller]
    fn one(change: impl FnOnce(&mut Looked), words: &[&str]) {
        let found = faults(change);
        let [fault] = &found[..] else { panic!("{found:?}") };
        assert!(words.iter().all(|w| fault.text.contains(w)), "{}", fault.text);
    }

    #[test]
    fn a_healthy_host_has_no_faults() {
        assert_eq!(faults(|_| {}), []);
        let good = findings(&healthy());
        assert!(good.iter().all(|f| f.level == Level::Good) && good.len() == 4, "{good:?}");
        // Outside of a swarm only what is there is told.
        let alone = Looked { spaces: 1, features: healthy().features, ..Looked::default() };
        assert_eq!(findings(&alone).len(), 2);
    }

    #[test]
    fn each_fault_has_its_words() {
        one(|l| l.differences = vec!["ov-x: link vx0 is missing".to_owned()], &["ov-x: link vx0 is missing"]);
        one(|l| l.resolvers = vec!["abc".to_owned()], &["resolver of container abc"]);
        one(|l| l.features.egress = false, &["egress", "5.16"]);
        one(|l| l.features.vxlan = false, &["VXLAN"]);
        one(|l| l.mtu.1 = Some(1400), &["1400", "1500"]);
        one(|l| l.managers[0].2 = Some("timed out".to_owned()), &["10.0.0.1:2377", "timed out"]);
        one(|l| l.peers[1].vxlan = Some(None), &["UDP 4789", "10.0.0.2"]);
        one(|l| l.peers[1].vxlan = Some(Some(1350)), &["1450", "1350", "1400", "driver.mtu=1400"]);
        let gone = |l: &mut Looked| {
            l.peers[1].silent = Some("no route".to_owned());
            l.peers[1].vxlan = Some(None);
        };
        let deaf =
            Looked { peers: vec![PeerReach { deaf: Some("refused".to_owned()), ..healthy().peers[0].clone() }], ..healthy() };
        let notes: Vec<Finding> = findings(&deaf).into_iter().filter(|f| f.level == Level::Note).collect();
        assert!(notes.len() == 1 && notes[0].text.contains("TCP 7946 of 10.0.0.1"), "{notes:?}");
        one(gone, &["nothing comes back from 10.0.0.2", "no route"]);
        let drop = Stranger { name: "inet fw forward".to_owned(), place: Place::Forward, knows_status: false };
        one(|l| l.strangers = vec![drop.clone()], &["inet fw forward", "ct status dnat accept"]);
        // Only a note: what it lets in is seen by asking.
        let input = Stranger { place: Place::Input, ..drop.clone() };
        assert_eq!(faults(|l| l.strangers = vec![input, Stranger { knows_status: true, ..drop }]), []);
    }
}
