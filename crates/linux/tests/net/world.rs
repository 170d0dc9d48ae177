//! Hosts as namespaces, containers as sandboxes with an echo server whose answer is its name and the caller's address, or port.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use skep_engine::net::{LocalNetworkSpec, NetConfig, NetHost, NetworkManager, Sandbox, SandboxRequest, TableWatch};
use skep_linux::net::LinuxNet;
use skep_netplan::Ns;

use crate::sctp;

const PATIENCE: Duration = Duration::from_secs(2);
const DEADLINE: Duration = Duration::from_secs(30);

fn ip(args: &str) {
    let done = Command::new("ip").args(args.split(' ')).output().unwrap();
    assert!(done.status.success(), "ip {args}: {}", String::from_utf8_lossy(&done.stderr));
}

pub(crate) fn eventually(what: &str, mut test: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !test() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::yield_now();
    }
}

/// Names of the tasks that answer, asking `n` times.
#[track_caller]
pub(crate) fn tasks_of(n: usize, mut ask: impl FnMut() -> io::Result<String>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for _ in 0..n {
        names.insert(ask().unwrap().split(' ').next().unwrap().to_owned());
    }
    names
}

pub(crate) fn id(n: u8) -> String {
    format!("{n:064x}").chars().rev().collect()
}

pub(crate) fn request(name: &str, n: u8) -> SandboxRequest {
    SandboxRequest { container_id: id(n), name: name.to_owned(), hostname: format!("host{n}"), ..Default::default() }
}

/// The underlay and the outside client.
pub(crate) struct World {
    prefix: String,
    hosts: u8,
    dir: PathBuf,
    client: LinuxNet,
}

impl World {
    pub(crate) fn new(tag: &str, hosts: u8) -> Self {
        let prefix = format!("skep-t{tag}{}", std::process::id());
        let dir = std::env::temp_dir().join(&prefix);
        let clean = Clean { prefix: prefix.clone(), hosts, dir: dir.clone() };
        ip(&format!("netns add {prefix}-u"));
        ip(&format!("-n {prefix}-u link add br0 type bridge"));
        ip(&format!("-n {prefix}-u link set br0 up"));
        for n in (1..=hosts).chain([100]) {
            ip(&format!("netns add {prefix}-{n}"));
            ip(&format!("-n {prefix}-u link add p{n} type veth peer name eth0 netns {prefix}-{n}"));
            ip(&format!("-n {prefix}-u link set p{n} up master br0"));
            ip(&format!("-n {prefix}-{n} addr add 192.168.77.{n}/24 dev eth0"));
            ip(&format!("-n {prefix}-{n} addr add fd77::{n}/64 dev eth0 nodad"));
            ip(&format!("-n {prefix}-{n} link set eth0 up"));
            ip(&format!("-n {prefix}-{n} link set lo up"));
        }
        let ns = File::open(format!("/run/netns/{prefix}-100")).unwrap();
        let client = LinuxNet::with_host(ns, dir.join("client")).unwrap();
        std::mem::forget(clean);
        Self { prefix, hosts, dir, client }
    }

    pub(crate) fn client_addr(&self) -> Ipv4Addr {
        Ipv4Addr::new(192, 168, 77, 100)
    }

    pub(crate) fn client_tcp(&self, to: &str) -> io::Result<String> {
        self.client.run_in(&Ns::Host, || tcp(to))
    }

    pub(crate) fn client_udp(&self, to: &str) -> io::Result<String> {
        self.client.run_in(&Ns::Host, || udp(to))
    }

    pub(crate) fn client_sctp(&self, to: &str, port: u16) -> io::Result<String> {
        self.client.run_in(&Ns::Host, || sctp::ask_from(to, port))
    }

    /// The outside client's end of an association.
    pub(crate) fn client_association(&self, to: &str, port: u16) -> sctp::Association {
        self.client.run_in(&Ns::Host, || sctp::Association::new(to, port)).unwrap()
    }

    /// The outside client reaches some addresses through a host.
    pub(crate) fn client_route(&self, to: &str, by: Ipv4Addr) {
        ip(&format!("-n {}-100 route replace {to} via {by}", self.prefix));
    }

    /// A UDP socket of the outside client.
    pub(crate) fn client_socket(&self) -> UdpSocket {
        self.client.run_in(&Ns::Host, || UdpSocket::bind("0.0.0.0:0")).unwrap()
    }

    /// The client has connections to all of these from one and the same port, which it ends last: what each task says of that port.
    #[track_caller]
    pub(crate) fn ports_seen(&self, to: &[String]) -> (String, Vec<String>) {
        let to: Vec<SocketAddr> = to.iter().map(|to| to.parse().unwrap()).collect();
        let all = || {
            let first = connect_from(0, &to[0])?;
            let port = first.local_addr()?.port();
            let others = to[1..].iter().map(|to| connect_from(port, to));
            let mut streams: Vec<_> = std::iter::once(Ok(first)).chain(others).collect::<io::Result<_>>()?;
            let seen = streams.iter_mut().map(|s| ask(s, "port")).collect::<io::Result<_>>()?;
            Ok((port.to_string(), seen))
        };
        self.client.run_in(&Ns::Host, all).unwrap()
    }

    /// Several held connections, so that every backend has one.
    pub(crate) fn hold(&self, to: &str) -> Vec<TcpStream> {
        (0..10).map(|_| self.client.run_in(&Ns::Host, || connect(to)).unwrap()).collect()
    }

    pub(crate) fn client_server(&self) -> String {
        serve(&self.client, &Ns::Host, "client");
        format!("{}:80", self.client_addr())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(Clean { prefix: self.prefix.clone(), hosts: self.hosts, dir: self.dir.clone() });
    }
}

/// Takes everything away.
struct Clean {
    prefix: String,
    hosts: u8,
    dir: PathBuf,
}

impl Drop for Clean {
    fn drop(&mut self) {
        for n in (1..=self.hosts).map(|n| n.to_string()).chain(["100".to_owned(), "u".to_owned()]) {
            let _ = Command::new("ip").args(["netns", "del", &format!("{}-{n}", self.prefix)]).output();
        }
        unpin(&self.dir);
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn unpin(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            unpin(&entry.path());
        } else {
            let _ = Command::new("umount").arg("-l").arg(entry.path()).output();
        }
    }
}

/// One host and its manager.
pub(crate) struct Host {
    pub(crate) n: u8,
    net: Arc<LinuxNet>,
    config: NetConfig,
    manager: Option<NetworkManager>,
    sandboxes: Vec<Sandbox>,
}

impl Host {
    pub(crate) async fn open(world: &World, n: u8, default_bridge: bool) -> Self {
        let ns = File::open(format!("/run/netns/{}-{n}", world.prefix)).unwrap();
        let dir = world.dir.join(n.to_string());
        let net = Arc::new(LinuxNet::with_host(ns, dir.join("netns")).unwrap());
        let config = NetConfig { default_bridge, ..NetConfig::new(dir) };
        let manager = Some(NetworkManager::open(net.clone(), config.clone(), Vec::new()).await.unwrap());
        Self { n, net, config, manager, sandboxes: Vec::new() }
    }

    pub(crate) fn manager(&self) -> &NetworkManager {
        self.manager.as_ref().unwrap()
    }

    pub(crate) fn sandboxes(&self) -> &[Sandbox] {
        &self.sandboxes
    }

    /// A container's servers.
    pub(crate) fn serve(&self, n: u8, name: &str) {
        serve(&self.net, &self.ns_of(n), name);
    }

    pub(crate) async fn run(&mut self, request: SandboxRequest) -> Sandbox {
        let sandbox = self.manager().attach(request.clone()).await.unwrap();
        let short: String = request.container_id.chars().take(12).collect();
        serve(&self.net, &Ns::Sandbox(short), &request.name);
        self.sandboxes.push(sandbox.clone());
        sandbox
    }

    /// The daemon dies and comes back.
    pub(crate) async fn restart(&mut self) {
        self.manager = None;
        self.start().await;
    }

    /// The next daemon finds the first container on its first network by a pair, as a version before would have made it.
    pub(crate) async fn restart_with_a_pair(&mut self) {
        let sandbox = &mut self.sandboxes[0];
        sandbox.endpoints[0].veth = format!("v0{}", &sandbox.request.container_id[..12]);
        self.restart().await;
    }

    /// As [`Host::restart`], while somebody else has the port of a container's resolver.
    pub(crate) async fn restart_without_resolver(&mut self, n: u8) -> UdpSocket {
        self.manager = None;
        let sandbox = self.sandboxes.iter().find(|s| s.request.container_id == id(n)).unwrap();
        let at = SocketAddr::from(([127, 0, 0, 11], sandbox.resolver.unwrap()));
        let mut taken = None;
        eventually("the resolver gone", || {
            taken = self.net.run_in(&self.ns_of(n), || UdpSocket::bind(at)).ok();
            taken.is_some()
        });
        self.start().await;
        taken.unwrap()
    }

    async fn start(&mut self) {
        // what the engine would have read from its records
        let text = serde_json::to_string(&self.sandboxes).unwrap();
        let alive = serde_json::from_str(&text).unwrap();
        let config = self.config.clone();
        self.manager = Some(NetworkManager::open(self.net.clone(), config, alive).await.unwrap());
    }

    /// The daemon makes a network, then dies, and comes back without what it wrote down of it.
    pub(crate) async fn loses_a_network(&mut self, spec: LocalNetworkSpec) {
        let records = self.config.data_root.join("network");
        let read = || std::fs::read_dir(&records).unwrap().map(|f| f.unwrap().path());
        let before: Vec<_> = read().map(|path| (std::fs::read(&path).unwrap(), path)).collect();
        self.manager().create_network(spec).await.unwrap();
        self.manager = None;
        read().for_each(|path| std::fs::remove_file(path).unwrap());
        before.into_iter().for_each(|(bytes, path)| std::fs::write(path, bytes).unwrap());
        self.start().await;
    }

    /// A bridge that somebody else makes.
    pub(crate) fn add_bridge(&self, name: &str) {
        let add = || {
            ip(&format!("link add {name} type bridge"));
            Ok(())
        };
        self.net.run_in(&Ns::Host, add).unwrap();
    }

    pub(crate) async fn restart_without(&mut self, n: u8) {
        self.sandboxes.retain(|s| s.request.container_id != id(n));
        self.restart().await;
    }

    pub(crate) fn ns_of(&self, n: u8) -> Ns {
        Ns::Sandbox(id(n).chars().take(12).collect())
    }

    pub(crate) fn tcp(&self, ns: &Ns, to: &str) -> io::Result<String> {
        self.net.run_in(ns, || tcp(to))
    }

    pub(crate) fn udp(&self, ns: &Ns, to: &str) -> io::Result<String> {
        self.net.run_in(ns, || udp(to))
    }

    pub(crate) fn sctp(&self, ns: &Ns, to: &str) -> io::Result<String> {
        self.sctp_from(ns, to, 0)
    }

    pub(crate) fn sctp_from(&self, ns: &Ns, to: &str, port: u16) -> io::Result<String> {
        self.net.run_in(ns, || sctp::ask_from(to, port))
    }

    pub(crate) fn connect(&self, ns: &Ns, to: &str) -> TcpStream {
        self.net.run_in(ns, || connect(to)).unwrap()
    }

    /// A UDP socket that waits for a while.
    pub(crate) fn socket(&self, ns: &Ns, at: &str) -> UdpSocket {
        let socket = self.net.run_in(ns, || UdpSocket::bind(at)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// Whether a program of the administrator's does what it is asked for.
    pub(crate) fn try_command(&self, line: &str) -> bool {
        self.run_command(line).status.success()
    }

    fn run_command(&self, line: &str) -> Output {
        let mut words = line.split(' ');
        let program = words.next().unwrap();
        self.net.run_in(&Ns::Host, || Command::new(program).args(words).output()).unwrap()
    }

    /// Runs a program of the administrator's on the host; what it said.
    pub(crate) fn command(&self, line: &str) -> String {
        let done = self.run_command(line);
        assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    }

    /// Tells of changes that others make to its tables.
    pub(crate) fn watch(&self) -> Box<dyn TableWatch> {
        self.net.watch().unwrap()
    }

    pub(crate) fn links(&self) -> Vec<String> {
        self.links_of(&Ns::Host)
    }

    pub(crate) fn links_of(&self, ns: &Ns) -> Vec<String> {
        self.net.found(ns).unwrap().links.into_keys().collect()
    }

    pub(crate) fn pinned(&self) -> Vec<Ns> {
        self.net.list_ns().unwrap()
    }

    pub(crate) fn nft(&self, ns: &Ns) -> String {
        let done = self.net.run_in(ns, || Command::new("nft").args(["list", "ruleset"]).output()).unwrap();
        assert!(done.status.success(), "nft: {:?}", done);
        String::from_utf8(done.stdout).unwrap()
    }

    /// Addresses of a name as the container's resolver tells them.
    pub(crate) fn resolve(&self, ns: &Ns, name: &str) -> io::Result<Vec<Ipv4Addr>> {
        let mut query = vec![0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            query.push(u8::try_from(label.len()).unwrap());
            query.extend_from_slice(label.as_bytes());
        }
        query.extend_from_slice(&[0, 0, 1, 0, 1]);
        let by_udp = self.net.run_in(ns, || {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.send_to(&query, "127.0.0.11:53")?;
            let mut buf = vec![0; 2048];
            let len = socket.recv(&mut buf)?;
            buf.truncate(len);
            Ok(buf)
        })?;
        let by_tcp = self.net.run_in(ns, || {
            let mut stream = TcpStream::connect_timeout(&"127.0.0.11:53".parse().unwrap(), PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(&u16::try_from(query.len()).unwrap().to_be_bytes())?;
            stream.write_all(&query)?;
            let mut len = [0; 2];
            stream.read_exact(&mut len)?;
            let mut buf = vec![0; usize::from(u16::from_be_bytes(len))];
            stream.read_exact(&mut buf)?;
            Ok(buf)
        })?;
        let addresses = |reply: &[u8]| -> BTreeSet<Ipv4Addr> {
            let count = usize::from(u16::from_be_bytes([reply[6], reply[7]]));
            // each answer: a compressed or plain name, then 10 bytes, then 4: read from the end
            let tail = &reply[query.len()..];
            let size = tail.len().checked_div(count).unwrap_or(0);
            tail.chunks(size.max(1)).take(count).map(|a| <[u8; 4]>::try_from(&a[a.len() - 4..]).unwrap().into()).collect()
        };
        assert_eq!(addresses(&by_udp), addresses(&by_tcp));
        Ok(addresses(&by_udp).into_iter().collect())
    }
}

fn connect(to: &str) -> io::Result<TcpStream> {
    let addr: SocketAddr = to.parse().unwrap();
    let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn tcp(to: &str) -> io::Result<String> {
    let mut stream = connect(to)?;
    ask(&mut stream, "?")
}

/// A connection from the given port, which others may have, too.
fn connect_from(port: u16, to: &SocketAddr) -> io::Result<TcpStream> {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket, sockopt};
    let (family, any) = match to {
        SocketAddr::V4(_) => (AddressFamily::INET, SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
        SocketAddr::V6(_) => (AddressFamily::INET6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))),
    };
    let socket = socket(family, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &any)?;
    connect(&socket, to)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn ask(stream: &mut TcpStream, question: &str) -> io::Result<String> {
    stream.write_all(format!("{question}\n").as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim().to_owned())
}

#[track_caller]
pub(crate) fn still_alive(stream: &mut TcpStream) {
    ask(stream, "?").expect("a held connection broke");
}

fn udp(to: &str) -> io::Result<String> {
    let socket = UdpSocket::bind(if to.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" })?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(to)?;
    socket.send(b"?")?;
    let mut buf = [0; 256];
    let len = socket.recv(&mut buf)?;
    Ok(String::from_utf8_lossy(&buf[..len]).into_owned())
}

/// Answers every line, datagram and association at port 80, of both families, until the test ends.
fn serve(net: &LinuxNet, ns: &Ns, name: &str) {
    let listener = net.run_in(ns, || TcpListener::bind("[::]:80")).unwrap();
    let socket = net.run_in(ns, || UdpSocket::bind("[::]:80")).unwrap();
    net.run_in(ns, || sctp::serve(name, true).and_then(|()| sctp::serve(name, false))).unwrap();
    let (tcp_name, udp_name) = (name.to_owned(), name.to_owned());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let name = tcp_name.clone();
            std::thread::spawn(move || {
                let mut writer = stream.try_clone().unwrap();
                let peer = stream.peer_addr().unwrap();
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let answer = match line.as_str() {
                        "port" => peer.port().to_string(),
                        _ => peer.ip().to_canonical().to_string(),
                    };
                    if writer.write_all(format!("{name} {answer}\n").as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    std::thread::spawn(move || {
        let mut buf = [0; 256];
        while let Ok((_, peer)) = socket.recv_from(&mut buf) {
            let _ = socket.send_to(format!("{udp_name} {}", peer.ip().to_canonical()).as_bytes(), peer);
        }
    });
}
