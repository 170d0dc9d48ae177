//! The kernel's side of networks: namespaces, rtnetlink, nftables and conntrack, all blocking.
//!
//! Implements `engine`'s [`NetHost`]. It decides nothing and remembers nothing of them: steps come in, one result for each goes out.
//! What must happen inside a namespace is done on a thread of its own that enters it and ends; netlink sockets, which stay in the
//! namespace they were opened in, are kept and used from anywhere.

mod ask;
mod conntrack;
mod decode;
mod dump;
mod expr;
mod features;
pub(crate) mod msg;
mod nft;
mod ns;
mod route;
mod seen;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use nix::sys::socket::SockProtocol;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with};
use skep_engine::net::{Found, NetError, NetHost, TableWatch};
use skep_netplan::doctor::{Features, Stranger};
use skep_netplan::drift::Seen;
use skep_netplan::host::tunnel;
use skep_netplan::nft::NftOp;
use skep_netplan::state::{Link, LinkKind};
use skep_netplan::{Mac, NetnsState, Ns, Step};
use skep_types::spec::Protocol;
use skep_types::wireguard::PublicKey;

use crate::wireguard::WireGuard;
use msg::Socket;
use ns::Namespaces;

/// Namespaces whose sockets are kept, three files each; of more the last is opened anew each time.
const SESSIONS: usize = 256;

/// The networks of one host: its own namespace, and the directory in which the others are pinned.
#[derive(Debug)]
pub struct LinuxNet {
    spaces: Namespaces,
    /// Sockets are kept because closing one that has changed a table waits for all processors to pass a quiet point: 10 ms and
    /// more, for each namespace of each change.
    sessions: Mutex<BTreeMap<Ns, Arc<Mutex<Session>>>>,
    wireguard: WireGuard,
    /// Transactions on the host's tables.
    transactions: Arc<AtomicU32>,
    /// UDP port of the WireGuard link, as it was last told.
    port: AtomicU16,
    /// Tried out when first asked for.
    features: OnceLock<Features>,
}

impl LinuxNet {
    /// The host is the calling thread's network namespace; others are pinned in `dir` (usually `<exec-root>/netns`).
    ///
    /// # Errors
    /// The namespace cannot be opened or the directory cannot be made.
    pub fn open(dir: PathBuf) -> Result<Self, NetError> {
        let path = "/proc/thread-self/ns/net";
        let host = File::open(path).map_err(|e| NetError::host("open", path, e))?;
        Self::with_host(host, dir)
    }

    /// The host is the given network namespace.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn with_host(host: File, dir: PathBuf) -> Result<Self, NetError> {
        let wireguard = WireGuard::new(dir.with_file_name("wireguard"));
        Ok(Self {
            spaces: Namespaces::open(host, dir)?,
            sessions: Mutex::default(),
            wireguard,
            transactions: Arc::default(),
            port: AtomicU16::new(0),
            features: OnceLock::new(),
        })
    }

    /// Runs `work` on a short-lived thread inside a namespace.
    ///
    /// # Errors
    /// The namespace cannot be entered, or what `work` says.
    pub fn run_in<T: Send>(&self, ns: &Ns, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        self.spaces.run(ns, work)
    }

    fn steps(&self, ns: &Ns, steps: &[Step]) -> io::Result<Vec<Result<(), NetError>>> {
        let session = self.session(ns)?;
        let mut here = lock(&session);
        let entered = here.own.try_clone()?;
        let work = |here: &mut Session| steps.iter().map(|step| self.step(here, step)).collect::<Vec<_>>();
        // Files below /proc/sys are those of the thread that opens them.
        let done = if steps.iter().any(|s| matches!(s, Step::Sysctl(..))) {
            let here = &mut *here;
            ns::on_thread(move || {
                ns::enter(entered)?;
                Ok(work(here))
            })?
        } else {
            work(&mut here)
        };
        if *ns == Ns::Host {
            let one =
                |(step, done): &(&Step, &Result<_, _>)| matches!(step, Step::Nft(..) | Step::DelTable(..)) && done.is_ok();
            let count = steps.iter().zip(&done).filter(one).count();
            self.transactions.fetch_add(u32::try_from(count).unwrap_or(u32::MAX), Ordering::Relaxed);
        }
        if done.iter().any(Result::is_err) {
            // Whatever is wrong, it is not an old socket the next time.
            lock(&self.sessions).remove(ns);
        }
        Ok(done)
    }

    /// Makes the WireGuard link; one that cannot be set up whole is not left behind.
    fn create_wireguard(&self, route: &mut Socket, name: &str, link: &Link, port: u16, mtu: u32) -> io::Result<()> {
        self.spaces.run(&Ns::Host, || self.wireguard.create(name, mtu))?;
        self.identify(name, port).and_then(|()| route::set(route, name, link)).inspect_err(|_| {
            // the first error is the one to tell
            let _ = route::delete_link(route, name);
        })
    }

    /// Peers of the WireGuard link; on a thread in its namespace.
    fn peers(&self, name: &str) -> io::Result<BTreeMap<(String, Ipv4Addr), PublicKey>> {
        Ok(self.wireguard.peers(name)?.into_iter().map(|(addr, key)| ((name.to_owned(), addr), key)).collect())
    }

    /// Sets key and port of the WireGuard link.
    fn identify(&self, name: &str, port: u16) -> io::Result<()> {
        self.port.store(port, Ordering::Relaxed);
        self.spaces.run(&Ns::Host, || self.wireguard.identify(name, port))
    }

    /// The sockets of a namespace.
    fn session(&self, ns: &Ns) -> io::Result<Arc<Mutex<Session>>> {
        if let Some(known) = lock(&self.sessions).get(ns) {
            return Ok(known.clone());
        }
        let own = self.spaces.file(ns)?;
        let open = || Ok((Socket::open(SockProtocol::NetlinkRoute)?, Socket::open(SockProtocol::NetlinkNetFilter)?));
        let (route, nft) = self.spaces.run(ns, open)?;
        let made = Arc::new(Mutex::new(Session { route, nft, own }));
        // Those of other names are nobody's to keep: a socket keeps its namespace alive.
        if !matches!(ns, Ns::Named(_)) {
            let mut sessions = lock(&self.sessions);
            if sessions.len() >= SESSIONS {
                sessions.pop_last();
            }
            sessions.insert(ns.clone(), made.clone());
        }
        Ok(made)
    }

    fn step(&self, here: &mut Session, step: &Step) -> Result<(), NetError> {
        let (operation, object, result) = self.do_step(here, step);
        result.map_err(|e| NetError::host(operation, object, e))
    }

    fn do_step(&self, here: &mut Session, step: &Step) -> (&'static str, String, io::Result<()>) {
        let route = &mut here.route;
        match step {
            Step::DelTable(family, name) => {
                // made first so that the deletion cannot fail for want of a table
                let ops = [NftOp::NewTable { shared: false }, NftOp::DelTable];
                ("delete table", name.clone(), nft::apply(&mut here.nft, *family, name, &ops))
            }
            Step::DelRule(rule) => ("delete rule", format!("{rule:?}"), route::rule(route, rule, false)),
            Step::DelRoute(r) => ("delete route", format!("{} dev {}", r.dest, r.dev), route::route(route, r, false)),
            Step::DelFdb(dev, mac, entry) => {
                ("delete forwarding entry", format!("{mac} dev {dev}"), route::fdb(route, dev, *mac, *entry, false))
            }
            Step::DelNeighbour(dev, addr) => {
                ("delete neighbour", format!("{addr} dev {dev}"), route::neighbour(route, dev, *addr, None))
            }
            Step::DelAddress(a) => ("delete address", format!("{} dev {}", a.net, a.dev), route::address(route, a, false)),
            Step::DelLink(name) => ("delete link", name.clone(), route::delete_link(route, name)),
            Step::Forget(name) => ("forget link", name.clone(), Ok(())),
            Step::AddLink(name, link) => {
                let peer = match &link.kind {
                    LinkKind::Veth { peer_ns, .. } => self.spaces.file(peer_ns).map(Some),
                    _ => Ok(None),
                };
                if let (LinkKind::WireGuard { port }, mtu) = (&link.kind, link.mtu.unwrap_or(1420)) {
                    return ("create link", name.clone(), self.create_wireguard(route, name, link, *port, mtu));
                }
                let outside = if let LinkKind::Child { ns, .. } = &link.kind { ns } else { &Ns::Host };
                let outside = self.spaces.run(outside, || Socket::open(SockProtocol::NetlinkRoute));
                let made = peer.and_then(|peer| {
                    route::create(route, &mut outside?, &here.own, peer.as_ref(), name, link)?;
                    route::set(route, name, link).inspect_err(|_| {
                        // half a link would be in the way of the next attempt; the first error is the one to tell
                        if link.kind != LinkKind::Given {
                            let _ = route::delete_link(route, name);
                        }
                    })
                });
                ("create link", name.clone(), made)
            }
            Step::SetLink(name, link) => {
                let set = match link.kind {
                    LinkKind::WireGuard { port } => self.identify(name, port),
                    _ => Ok(()),
                };
                ("set link", name.clone(), set.and_then(|()| route::set(route, name, link)))
            }
            Step::Sysctl(key, value) => ("set sysctl", format!("{key}={value}"), sysctl(key, value)),
            Step::AddAddress(a) => ("add address", format!("{} dev {}", a.net, a.dev), route::address(route, a, true)),
            Step::SetNeighbour(dev, addr, mac) => {
                ("set neighbour", format!("{addr} dev {dev}"), route::neighbour(route, dev, *addr, Some(*mac)))
            }
            Step::SetFdb(dev, mac, entry) => {
                ("set forwarding entry", format!("{mac} dev {dev}"), route::fdb(route, dev, *mac, *entry, true))
            }
            Step::SetPeer(dev, addr, key) => {
                let port = self.port.load(Ordering::Relaxed);
                let set = self.spaces.run(&Ns::Host, || self.wireguard.set_peer(dev, *key, *addr, port));
                ("set peer", format!("{addr} dev {dev}"), set)
            }
            Step::DelPeer(dev, addr, key) => {
                let gone = self.spaces.run(&Ns::Host, || self.wireguard.delete_peer(dev, *key));
                ("delete peer", format!("{addr} dev {dev}"), gone)
            }
            Step::AddRoute(r) => ("add route", format!("{} dev {}", r.dest, r.dev), route::route(route, r, true)),
            Step::AddRule(rule) => ("add rule", format!("{rule:?}"), route::rule(route, rule, true)),
            Step::Nft(family, name, ops) => ("change table", name.clone(), nft::apply(&mut here.nft, *family, name, ops)),
        }
    }
}

/// Locks what stays whole whatever panicked while it was held: entries come and go as one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sockets of one namespace.
#[derive(Debug)]
struct Session {
    route: Socket,
    nft: Socket,
    own: File,
}

/// Writes a file below `/proc/sys` as the calling thread's namespace shows it.
fn sysctl(key: &str, value: &str) -> io::Result<()> {
    if key == FORWARD_IPV6 && value == "1" {
        keep_advertised_routes();
    }
    match fs::write(format!("/proc/sys/{key}"), value) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The switch that makes a host a router of IPv6.
const FORWARD_IPV6: &str = "net/ipv6/conf/all/forwarding";

/// A host that forwards packets takes no router's advertisements any more, and the kernel drops the default routes that it had from
/// them, unless a link says that it takes them even so (`accept_ra` 2). So links that took them go on taking them. Those of containers
/// take none in any case: their switch is set to 0 by the same plan. What cannot be read or written is none that takes any.
fn keep_advertised_routes() {
    let read = |path: &Path| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let dir = Path::new("/proc/sys/net/ipv6/conf");
    for link in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = link.path();
        // "default" is for links to come, those of containers among them; of "all" no link takes anything.
        if matches!(link.file_name().to_str(), Some("all" | "default" | "lo")) {
            continue;
        }
        let takes = read(&path.join("accept_ra")).as_deref() == Some("1");
        if takes && read(&path.join("forwarding")).as_deref() == Some("0") {
            let _ = fs::write(path.join("accept_ra"), "2");
        }
    }
}

impl NetHost for LinuxNet {
    fn create_ns(&self, ns: &Ns) -> Result<(), NetError> {
        // Sockets of one that had the same name are of no use in this one.
        if self.spaces.create(ns)? {
            lock(&self.sessions).remove(ns);
        }
        Ok(())
    }

    fn delete_ns(&self, ns: &Ns) -> Result<(), NetError> {
        lock(&self.sessions).remove(ns);
        self.spaces.delete(ns)
    }

    fn list_ns(&self) -> Result<Vec<Ns>, NetError> {
        self.spaces.list()
    }

    fn ns_path(&self, ns: &Ns) -> PathBuf {
        self.spaces.path(ns)
    }

    fn found(&self, ns: &Ns) -> Result<Found, NetError> {
        let found = self.spaces.run(ns, || {
            let mut found = dump::found(&mut Socket::open(SockProtocol::NetlinkRoute)?)?;
            if found.links.contains_key(tunnel::LINK) {
                // One that does not answer is set up anew.
                found.wireguard = self.peers(tunnel::LINK).unwrap_or_default();
            }
            Ok(found)
        });
        found.map_err(|e| NetError::host("list links of", ns.to_string(), e))
    }

    fn wireguard_key(&self) -> Result<PublicKey, NetError> {
        self.wireguard.public().map_err(|e| NetError::host("make", "this host's key for encrypted networks", e))
    }

    fn apply(&self, ns: &Ns, steps: &[Step]) -> Vec<Result<(), NetError>> {
        self.steps(ns, steps).unwrap_or_else(|e| {
            // nothing was tried: every step failed for the same reason
            let failed = |_| Err(NetError::host("enter network namespace", ns.to_string(), copy(&e)));
            steps.iter().map(failed).collect()
        })
    }

    fn udp_socket(&self, ns: &Ns, addr: SocketAddr) -> Result<UdpSocket, NetError> {
        let made = self.spaces.run(ns, || {
            let socket = UdpSocket::bind(addr)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        made.map_err(|e| NetError::host("bind UDP socket", format!("{addr} in {ns}"), e))
    }

    fn tcp_listener(&self, ns: &Ns, addr: SocketAddr) -> Result<TcpListener, NetError> {
        let made = self.spaces.run(ns, || {
            let socket = TcpListener::bind(addr)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        made.map_err(|e| NetError::host("listen on TCP", format!("{addr} in {ns}"), e))
    }

    fn try_sctp(&self, ns: &Ns, addr: SocketAddr) -> Result<(), NetError> {
        let tried = self.spaces.run(ns, || {
            let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, Some(ipproto::SCTP))?;
            Ok(bind(&socket, &addr)?)
        });
        tried.map_err(|e| NetError::host("bind SCTP socket", format!("{addr} in {ns}"), e))
    }

    fn watch(&self) -> Result<Box<dyn TableWatch>, NetError> {
        let opened = self.spaces.run(&Ns::Host, || watch::Watch::open(self.transactions.clone()));
        opened.map(|w| Box::new(w) as _).map_err(|e| NetError::host("watch", "nftables", e))
    }

    fn seen(&self, ns: &Ns, wanted: &NetnsState) -> Result<Seen, NetError> {
        let seen = self.spaces.run(ns, || {
            let mut seen = seen::seen(wanted)?;
            if wanted.links.contains_key(tunnel::LINK) && seen.links.contains_key(tunnel::LINK) {
                seen.wireguard = self.peers(tunnel::LINK)?;
            }
            Ok(seen)
        });
        seen.map_err(|e| NetError::host("look at network namespace", ns.to_string(), e))
    }

    fn features(&self) -> Features {
        // What cannot be tried out is as good as missing.
        *self.features.get_or_init(|| features::features().unwrap_or_default())
    }

    fn strangers(&self) -> Result<Vec<Stranger>, NetError> {
        self.spaces.run(&Ns::Host, features::strangers).map_err(|e| NetError::host("list chains of", "host", e))
    }

    fn answers(
        &self,
        dev: &str,
        own: (Mac, Ipv4Addr),
        peers: &[(Mac, Ipv4Addr)],
        size: u32,
    ) -> Result<BTreeSet<Ipv4Addr>, NetError> {
        self.spaces.run(&Ns::Host, || ask::ask(dev, own, peers, size)).map_err(|e| NetError::host("ask other nodes on", dev, e))
    }

    fn forget_flows(&self, ns: &Ns, targets: &[IpAddr], opened: &BTreeSet<(Protocol, u16)>) -> Result<usize, NetError> {
        let gone = self.session(ns).and_then(|session| conntrack::forget(&mut lock(&session).nft, targets, opened));
        gone.map_err(|e| NetError::host("forget flows of", ns.to_string(), e))
    }
}

fn copy(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| io::Error::new(error.kind(), error.to_string()), io::Error::from_raw_os_error)
}
