//! SCTP, of which kernels carry and translate packets also where they have no sockets for it: both ends are played here, on raw
//! sockets, as far as connection tracking follows an association (RFC 9260).

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, connect, ipproto, recv, recvfrom, send, sendto, socket};

use super::*;

const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const ABORT: u8 = 6;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
/// Verification tag of both ends, so that the server need not remember its clients.
const TAG: u32 = 0x5ce9_5ce9;
/// What [`Association::end`] sends, for a server to end the association.
const END: &[u8] = b"end!";

/// How often a chunk is sent, a second apart.
const TRIES: u8 = 5;

/// Where new associations leave from.
static NEXT: AtomicU16 = AtomicU16::new(20_000);

/// CRC-32C, the checksum of SCTP.
fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 })
    };
    !bytes.iter().fold(u32::MAX, step)
}

/// A packet with one chunk.
fn packet(from: u16, to: u16, kind: u8, body: &[u8]) -> Vec<u8> {
    let tag = if kind == INIT { 0 } else { TAG };
    let mut out = [from.to_be_bytes(), to.to_be_bytes()].concat();
    out.extend(tag.to_be_bytes());
    out.extend([0; 4]);
    let length = u16::try_from(4 + body.len()).unwrap();
    // All of a message in one chunk, if it is data.
    out.extend([kind, if kind == DATA { 3 } else { 0 }]);
    out.extend(length.to_be_bytes());
    out.extend(body);
    out.resize(out.len().next_multiple_of(4), 0);
    let sum = crc(&out);
    out[8..12].copy_from_slice(&sum.to_le_bytes());
    out
}

/// Ports, kind and body of the first chunk of a packet whose checksum is right; raw sockets of IPv4 give its header, too.
fn parse(mut bytes: &[u8], v4: bool) -> Option<(u16, u16, u8, &[u8])> {
    if v4 {
        bytes = bytes.get(usize::from(bytes.first()? & 15) * 4..)?;
    }
    let mut plain = bytes.to_vec();
    plain.get_mut(8..12)?.fill(0);
    if crc(&plain).to_le_bytes() != bytes[8..12] {
        return None;
    }
    let number = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    Some((number(0)?, number(2)?, *bytes.get(12)?, bytes.get(16..12 + usize::from(number(14)?))?))
}

/// Initiate tag, window, streams and first number of either end.
fn greeting() -> Vec<u8> {
    [TAG, 65_536, 0x0001_0001, 1].iter().flat_map(|n| n.to_be_bytes()).collect()
}

/// Number, stream and protocol of the data, and the data.
fn data(text: &[u8]) -> Vec<u8> {
    [&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0][..], text].concat()
}

fn raw(v4: bool) -> io::Result<OwnedFd> {
    let family = if v4 { AddressFamily::INET } else { AddressFamily::INET6 };
    Ok(socket(family, SocketType::RAW, Some(ipproto::SCTP))?)
}

/// Answers associations at port 80 with the task's name and the client's address, until the test ends.
pub(crate) fn serve(name: &str, v4: bool) -> io::Result<()> {
    let (socket, name) = (raw(v4)?, name.to_owned());
    std::thread::spawn(move || {
        let mut buf = [0; 2048];
        while let Ok((len, _, Some(peer))) = recvfrom(&socket, &mut buf, RecvFlags::empty()) {
            let Ok(peer) = SocketAddr::try_from(peer) else { continue };
            let Some((from, 80, kind, body)) = parse(&buf[..len], v4) else { continue };
            let (kind, body) = match kind {
                INIT => (INIT_ACK, greeting()),
                COOKIE_ECHO => (COOKIE_ACK, Vec::new()),
                DATA if body.ends_with(END) => (ABORT, Vec::new()),
                DATA => (DATA, data(format!("{name} {}", peer.ip()).as_bytes())),
                _ => continue,
            };
            // To a raw socket the port is the protocol's number.
            let _ = sendto(&socket, &packet(80, from, kind, &body), SendFlags::empty(), &SocketAddr::new(peer.ip(), 0));
        }
    });
    Ok(())
}

/// An end of an association.
pub(crate) struct Association {
    socket: OwnedFd,
    v4: bool,
    from: u16,
    to: u16,
}

impl Association {
    /// The end of a client, which has said nothing yet, at this port or, with 0, at one of its own.
    pub(crate) fn new(to: &str, from: u16) -> io::Result<Self> {
        let to: SocketAddr = to.parse().unwrap();
        let socket = raw(to.is_ipv4())?;
        set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_secs(1)))?;
        // What comes from another address than was called is not heard.
        connect(&socket, &SocketAddr::new(to.ip(), 0))?;
        let from = if from == 0 { NEXT.fetch_add(1, Ordering::Relaxed) } else { from };
        Ok(Self { socket, v4: to.is_ipv4(), from, to: to.port() })
    }

    /// Sends a chunk until one of the other kind comes back, as real ends do.
    fn call(&self, kind: u8, body: &[u8], wanted: u8) -> io::Result<Vec<u8>> {
        for _ in 1..TRIES {
            match self.try_call(kind, body, wanted) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
        self.try_call(kind, body, wanted)
    }

    fn try_call(&self, kind: u8, body: &[u8], wanted: u8) -> io::Result<Vec<u8>> {
        self.say(kind, body)?;
        let mut buf = [0; 2048];
        loop {
            let (len, _) = recv(&self.socket, &mut buf, RecvFlags::empty())?;
            if let Some((from, to, kind, body)) = parse(&buf[..len], self.v4)
                && (from, to, kind) == (self.to, self.from, wanted)
            {
                return Ok(body.to_vec());
            }
        }
    }

    fn say(&self, kind: u8, body: &[u8]) -> io::Result<()> {
        match send(&self.socket, &packet(self.from, self.to, kind, body), SendFlags::empty()) {
            // A rule refused it at once; the answer, which is all that SCTP looks at, says how.
            Ok(_) | Err(Errno::PERM) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Asks for an association, and waits for no answer.
    pub(crate) fn knock(&self) -> io::Result<()> {
        self.say(INIT, &greeting())
    }

    pub(crate) fn open(&self) -> io::Result<()> {
        self.call(INIT, &greeting(), INIT_ACK)?;
        self.call(COOKIE_ECHO, b"cook", COOKIE_ACK).map(drop)
    }

    pub(crate) fn ask(&self) -> io::Result<String> {
        let body = self.call(DATA, &data(b"ask?"), DATA)?;
        Ok(String::from_utf8_lossy(&body[12..]).into_owned())
    }

    /// Has the other end give it up.
    pub(crate) fn end(&self) -> io::Result<()> {
        self.call(DATA, &data(END), ABORT).map(drop)
    }
}

pub(crate) fn ask_from(to: &str, port: u16) -> io::Result<String> {
    let association = Association::new(to, port)?;
    association.open()?;
    association.ask()
}

/// The error that a client of SCTP takes for an answer.
#[track_caller]
fn is_refused(asked: io::Result<String>) {
    let error = asked.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::NOPROTOOPT.raw_os_error()), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sctp_finds_the_same_tasks_as_the_others() {
    let (world, hosts) = swarm("s", &[(Protocol::Sctp, 80)]).await;
    let [one, two, _] = &hosts[..] else { panic!("three hosts") };
    let caller = one.ns_of(11);
    let both = BTreeSet::from(["task12".to_owned(), "task13".to_owned()]);

    // by the virtual addresses, and through every node with the client's own address
    let from = |ns: &Ns, to: &str| one.sctp(ns, to);
    assert_eq!(
        tasks_of(20, || from(&caller, &format!("{VIP}:80")).inspect(|a| assert!(a.ends_with(" 10.0.1.11"), "{a}"))),
        both
    );
    assert_eq!(tasks_of(20, || from(&caller, "[fd00:1::2]:80").inspect(|a| assert!(a.ends_with(" fd00:1::b"), "{a}"))), both);
    for n in 1..=3 {
        for (to, own) in [(format!("192.168.77.{n}:8080"), " 192.168.77.100"), (format!("[fd77::{n}]:8080"), " fd77::100")] {
            assert_eq!(
                tasks_of(20, || world.client_sctp(&to, 0).inspect(|a| assert!(a.ends_with(own), "{a}"))),
                both,
                "by {to}"
            );
        }
    }
    // from the nodes themselves, and from a container
    for to in ["127.0.0.1:8080", "192.168.77.2:8080", "[::1]:8080", "[fd77::2]:8080"] {
        assert_eq!(tasks_of(20, || from(&Ns::Host, to)), both, "by {to}");
    }
    assert_eq!(tasks_of(20, || two.sctp(&two.ns_of(12), "192.168.77.1:8080")), both);

    // An association stays where it is; the next one from the same port goes where there is somebody.
    let held: Vec<_> = (0..10).map(|_| world.client_association("192.168.77.1:8080", 0)).collect();
    let answers: Vec<_> = held.iter().map(|a| a.open().and_then(|()| a.ask()).unwrap()).collect();
    let ended = answers.iter().position(|a| a.starts_with("task13")).unwrap();
    held[ended].end().unwrap();
    spread(&hosts, &[12]).await;
    for (n, association) in held.iter().enumerate().filter(|(n, _)| *n != ended) {
        assert_eq!(association.ask().unwrap(), answers[n]);
    }
    held[ended].open().unwrap();
    assert_eq!(held[ended].ask().unwrap(), "task12 192.168.77.100");
    // So does one that nobody answered.
    for host in &hosts {
        let gone = plane(host.n, &[(14, 2)], &[14]);
        host.manager().set_dataplane(node(host.n), underlay(host.n), gone).await.unwrap();
    }
    let unanswered = world.client_association("192.168.77.1:8080", 0);
    unanswered.knock().unwrap();
    spread(&hosts, &[12]).await;
    unanswered.open().unwrap();
    assert_eq!(unanswered.ask().unwrap(), "task12 192.168.77.100");
    let only = BTreeSet::from(["task12".to_owned()]);
    assert_eq!(tasks_of(20, || from(&caller, &format!("{VIP}:80"))), only);
    assert_eq!(tasks_of(20, || world.client_sctp("192.168.77.3:8080", 0)), only);

    // Refused where nothing can answer, also from a port that is asked from again and again until something can.
    spread(&hosts, &[]).await;
    is_refused(from(&caller, &format!("{VIP}:80")));
    is_refused(world.client_sctp("192.168.77.2:8080", 19_999));
    is_refused(one.sctp_from(&caller, &format!("{VIP}:80"), 19_999));
    spread(&hosts, &[13]).await;
    assert_eq!(world.client_sctp("192.168.77.2:8080", 19_999).unwrap(), "task13 192.168.77.100");
    assert_eq!(one.sctp_from(&caller, &format!("{VIP}:80"), 19_999).unwrap(), "task13 10.0.1.11");

    for host in &hosts {
        host.manager().detach(&host.sandboxes()[0].request.container_id).await.unwrap();
        host.manager().clear_swarm().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_container_publishes_the_same_number_by_each_protocol() {
    let world = World::new("p", 1);
    let mut host = Host::open(&world, 1, true).await;
    let port = |protocol, host_port| PortMap {
        protocol,
        host_ip: ip("0.0.0.0").into(),
        both: false,
        host_port,
        host_port_end: 0,
        container_port: 80,
    };
    let mut web = request("web", 1);
    web.networks = vec![NetworkRequest { network: "bridge".to_owned(), ..Default::default() }];
    web.ports = vec![port(Protocol::Tcp, 8081), port(Protocol::Udp, 8081), port(Protocol::Sctp, 8081), port(Protocol::Sctp, 0)];
    let chosen = host.run(web.clone()).await.ports[3].host_port;
    assert!(chosen >= 32_768, "{chosen}");
    let answer = "web 192.168.77.100";
    assert_eq!(world.client_sctp("192.168.77.1:8081", 0).unwrap(), answer);
    assert_eq!(world.client_sctp(&format!("192.168.77.1:{chosen}"), 0).unwrap(), answer);
    assert_eq!(world.client_tcp("192.168.77.1:8081").unwrap(), answer);
    assert_eq!(world.client_udp("192.168.77.1:8081").unwrap(), answer);
    assert!(host.sctp(&Ns::Host, "127.0.0.1:8081").unwrap().starts_with("web "));
    let mut twin = web.clone();
    twin.container_id = world::id(2);
    twin.ports = vec![port(Protocol::Sctp, 8081)];
    assert!(matches!(host.manager().attach(twin).await, Err(NetError::PortTaken { port: 8081, .. })));

    // What asked before anything was there is not held to that.
    host.manager().detach(&web.container_id).await.unwrap();
    is_refused(world.client_sctp("192.168.77.1:8081", 19_999));
    host.run(web).await;
    assert_eq!(world.client_sctp("192.168.77.1:8081", 19_999).unwrap(), answer);
}
