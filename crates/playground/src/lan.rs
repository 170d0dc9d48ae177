//! The wires: a bridge with the machine's own address, a namespace and a cable for each host.

use std::path::{Path, PathBuf};

use skep_engine::net::NetHost;
use skep_linux::net::LinuxNet;
use skep_netplan::nft::{Chain, ChainKind, Expr, Family, Hook, HookPoint, Load, NftOp, Table, Verdict, delta, if_name};
use skep_netplan::state::{Address, Link, LinkKind, PortMode, Route};
use skep_netplan::version::Version;
use skep_netplan::{Mac, Ns, Step};
use skep_types::{Ipv4Net, Ipv6Net};

use crate::host::Host;
use crate::{Place, PlaygroundError};

/// Where namespaces are pinned, so that `ip netns` shows them too.
const NETNS_DIR: &str = "/run/netns";
/// The main routing table.
const MAIN: u32 = 254;
/// Name of a host's interface on the LAN.
const INTERFACE: &str = "eth0";
/// What a cut host's traffic is of.
const FAMILIES: [Family; 2] = [Family::Ip, Family::Ip6];
/// Table that drops a cut host's traffic.
const CUT: &str = "skep-cut";

/// The kernel's side.
#[derive(Debug)]
pub struct Lan {
    net: LinuxNet,
}

fn link(kind: LinkKind, mac: Option<Mac>, master: Option<&str>) -> Link {
    Link { kind, mtu: None, mac, master: master.map(str::to_owned), mode: PortMode::Usual }
}

fn ns(place: &Place, host: &str) -> Ns {
    Ns::Named(format!("{}{host}", place.prefix))
}

/// File that a host's namespace is pinned to.
#[must_use]
pub fn netns_path(place: &Place, host: &str) -> PathBuf {
    Path::new(NETNS_DIR).join(format!("{}{host}", place.prefix))
}

/// Name of a host's cable on the machine's side.
fn cable(place: &Place, host: &Host) -> String {
    let [_, b, c] = place.lan;
    format!("skp{b}-{c}-{}", host.number)
}

impl Lan {
    /// Opens the machine's namespace.
    ///
    /// # Errors
    /// When the directory of namespaces cannot be made.
    pub fn open() -> Result<Self, PlaygroundError> {
        let net = LinuxNet::open(NETNS_DIR.into()).map_err(|e| PlaygroundError::host("open the machine's network", e))?;
        Ok(Self { net })
    }

    fn apply(&self, ns: &Ns, steps: &[Step]) -> Result<(), PlaygroundError> {
        for result in self.net.apply(ns, steps) {
            result.map_err(|e| {
                let cause = std::error::Error::source(&e).map(|c| format!("{e}: {c}")).unwrap_or_else(|| e.to_string());
                PlaygroundError::host("wire the playground", cause)
            })?;
        }
        Ok(())
    }

    /// Makes the bridge with the machine's address.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn make_bridge(&self, place: &Place) -> Result<(), PlaygroundError> {
        let forward = |key: &str| Step::Sysctl(key.to_owned(), "1".to_owned());
        let dev = place.bridge.clone();
        let six = Address { dev: dev.clone(), net: Ipv6Net::new(Place::address6(place.machine()), 64).into() };
        self.apply(
            &Ns::Host,
            &[
                Step::AddLink(place.bridge.clone(), link(LinkKind::Bridge, Some(Mac::of(place.machine())), None)),
                Step::AddAddress(Address { dev, net: Ipv4Net::new(place.machine(), 24).into() }),
                forward("net/ipv4/ip_forward"),
            ],
        )?;
        self.six(&Ns::Host, six);
        Ok(())
    }

    /// Gives an address of IPv6; a machine without has none.
    fn six(&self, ns: &Ns, address: Address) {
        // what is refused is all that there is to it
        let _ = self.net.apply(ns, &[Step::AddAddress(address)]);
    }

    /// Makes a host's namespace and plugs its cable in.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn plug(&self, place: &Place, host: &Host) -> Result<(), PlaygroundError> {
        let ns = ns(place, &host.name);
        self.net.create_ns(&ns).map_err(|e| PlaygroundError::host(format!("make the namespace of {}", host.name), e))?;
        let kind = LinkKind::Veth { peer_ns: ns.clone(), peer_name: INTERFACE.to_owned(), peer_mac: Mac::of(host.address) };
        self.apply(&Ns::Host, &[Step::AddLink(cable(place, host), link(kind, None, Some(&place.bridge)))])?;
        let default = Route {
            table: MAIN,
            dest: Version::V4.everything(),
            gateway: Some(place.machine().into()),
            dev: INTERFACE.to_owned(),
            onlink: false,
        };
        self.apply(
            &ns,
            &[
                Step::SetLink("lo".to_owned(), link(LinkKind::Given, None, None)),
                Step::SetLink(INTERFACE.to_owned(), link(LinkKind::Given, None, None)),
                Step::AddAddress(Address { dev: INTERFACE.to_owned(), net: Ipv4Net::new(host.address, 24).into() }),
                Step::AddRoute(default),
            ],
        )?;
        let net = Ipv6Net::new(Place::address6(host.address), 64).into();
        self.six(&ns, Address { dev: INTERFACE.to_owned(), net });
        Ok(())
    }

    /// Takes a host's cable and namespace away. Goes on past errors; what is not there is fine.
    pub fn unplug(&self, place: &Place, host: &Host) {
        let _ = self.apply(&Ns::Host, &[Step::DelLink(cable(place, host))]);
        let _ = self.net.delete_ns(&ns(place, &host.name));
    }

    /// Takes the bridge away.
    pub fn remove_bridge(&self, place: &Place) {
        let _ = self.apply(&Ns::Host, &[Step::DelLink(place.bridge.clone())]);
    }

    /// Drops a host's traffic both ways: its cable is in, but nothing passes.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn cut(&self, place: &Place, host: &Host) -> Result<(), PlaygroundError> {
        let chain = |point, load| Chain {
            // Before anything else could look at the packet.
            hook: Some(Hook { kind: ChainKind::Filter, point, priority: -450, device: None }),
            rules: vec![vec![
                Expr::Load(load, 1),
                Expr::Cmp { reg: 1, negate: false, value: if_name(INTERFACE) },
                Expr::Verdict(Verdict::Drop),
            ]],
        };
        let table = Table {
            chains: [
                ("in".to_owned(), chain(HookPoint::Prerouting, Load::IifName)),
                ("out".to_owned(), chain(HookPoint::Postrouting, Load::OifName)),
            ]
            .into(),
            ..Table::default()
        };
        let ops: Vec<NftOp> = delta::delta(None, &table);
        let both = FAMILIES.map(|family| Step::Nft(family, CUT.to_owned(), ops.clone()));
        self.apply(&ns(place, &host.name), &both)
    }

    /// Drops what passes between two hosts, both ways; each goes on with all others.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn cut_pair(&self, place: &Place, one: &Host, other: &Host) -> Result<(), PlaygroundError> {
        for (here, there) in [(one, other), (other, one)] {
            let chain = |point, load| Chain {
                hook: Some(Hook { kind: ChainKind::Filter, point, priority: -450, device: None }),
                rules: vec![vec![
                    Expr::Load(load, 1),
                    Expr::Cmp { reg: 1, negate: false, value: there.address.octets().to_vec() },
                    Expr::Verdict(Verdict::Drop),
                ]],
            };
            let table = Table {
                chains: [
                    ("in".to_owned(), chain(HookPoint::Prerouting, Load::IpSaddr)),
                    ("out".to_owned(), chain(HookPoint::Postrouting, Load::IpDaddr)),
                ]
                .into(),
                ..Table::default()
            };
            let ops: Vec<NftOp> = delta::delta(None, &table);
            self.apply(&ns(place, &here.name), &[Step::Nft(Family::Ip, format!("{CUT}-{}", there.number), ops)])?;
        }
        Ok(())
    }

    /// Lets two hosts hear each other again.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn heal_pair(&self, place: &Place, one: &Host, other: &Host) -> Result<(), PlaygroundError> {
        for (here, there) in [(one, other), (other, one)] {
            let table = format!("{CUT}-{}", there.number);
            self.apply(&ns(place, &here.name), &[Step::DelTable(Family::Ip, table)])?;
        }
        Ok(())
    }

    /// Lets a host's traffic pass again.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn heal(&self, place: &Place, host: &Host) -> Result<(), PlaygroundError> {
        self.apply(&ns(place, &host.name), &FAMILIES.map(|family| Step::DelTable(family, CUT.to_owned())))
    }
}
