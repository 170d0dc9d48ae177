//! The loops that serve a container's two sockets.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::answer::{Outcome, answer, failure};
use super::forward;
use super::table::Table;

/// Queries of one container that wait for upstream at the same time; more are refused. Enough for a busy server, small enough that
/// a container with a loop in it costs the daemon a few MiB at most.
const IN_FLIGHT: usize = 256;
/// TCP connections of one container at the same time.
const CONNECTIONS: usize = 64;
/// A TCP client that says nothing for so long is let go.
const IDLE: Duration = Duration::from_secs(10);

/// How long after an answer the next question is looked for before the task sleeps. Who asks often asks again at once: the other family,
/// the next of the search list, a program in a loop. To sleep and be woken takes longer than to answer.
const PATIENCE: Duration = Duration::from_micros(50);

/// A container's resolver sockets, bound in its namespace, non-blocking.
#[derive(Debug)]
pub struct Sockets {
    /// UDP.
    pub udp: std::net::UdpSocket,
    /// TCP, at the same port.
    pub tcp: std::net::TcpListener,
}

/// A running resolver; it ends when dropped.
#[derive(Debug)]
pub struct Resolver {
    table: watch::Sender<Arc<Table>>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Clone)]
struct Shared {
    table: watch::Receiver<Arc<Table>>,
    in_flight: Arc<Semaphore>,
    turn: Arc<AtomicUsize>,
}

impl Resolver {
    /// Serves the sockets on the given runtime.
    ///
    /// # Errors
    /// The sockets cannot be registered with the runtime.
    pub fn start(sockets: Sockets, table: Table, runtime: &tokio::runtime::Handle) -> io::Result<Self> {
        let _inside = runtime.enter();
        let udp = Arc::new(UdpSocket::from_std(sockets.udp)?);
        let tcp = TcpListener::from_std(sockets.tcp)?;
        let (table, receiver) = watch::channel(Arc::new(table));
        let shared =
            Shared { table: receiver, in_flight: Arc::new(Semaphore::new(IN_FLIGHT)), turn: Arc::new(AtomicUsize::new(0)) };
        let tasks = vec![runtime.spawn(serve_udp(udp, shared.clone())), runtime.spawn(serve_tcp(tcp, shared))];
        Ok(Self { table, tasks })
    }

    /// What is answered now.
    #[must_use]
    pub fn table(&self) -> Arc<Table> {
        self.table.borrow().clone()
    }

    /// Swaps the table; queries that come later see the new one.
    pub fn set(&self, table: Table) {
        self.table.send_if_modified(|old| {
            let changed = **old != table;
            if changed {
                *old = Arc::new(table);
            }
            changed
        });
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Shared {
    fn table(&self) -> Arc<Table> {
        self.table.borrow().clone()
    }

    fn local(&self, query: &[u8], udp: bool) -> Outcome {
        answer(query, &self.table(), udp, self.turn.fetch_add(1, Ordering::Relaxed))
    }

    async fn upstream(&self, query: &[u8], udp: bool) -> Outcome {
        forward::ask(query, &self.table().upstream, udp).await.map_or_else(|| failure(query), Outcome::Reply)
    }
}

/// The next question, looked for without sleeping until then.
async fn next(socket: &UdpSocket, buf: &mut [u8], awake: Instant) -> io::Result<(usize, SocketAddr)> {
    while Instant::now() < awake {
        match socket.try_recv_from(buf) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => tokio::task::yield_now().await,
            other => return other,
        }
    }
    socket.recv_from(buf).await
}

async fn serve_udp(socket: Arc<UdpSocket>, shared: Shared) {
    let mut buf = vec![0; 65_535];
    let mut awake = Instant::now();
    loop {
        let Ok((len, client)) = next(&socket, &mut buf, awake).await else {
            // an ICMP error of an earlier answer is reported here; yield so that a persistent one does not spin
            tokio::task::yield_now().await;
            continue;
        };
        let query = buf.get(..len).unwrap_or_default();
        let outcome = match shared.local(query, true) {
            Outcome::Forward => match shared.in_flight.clone().try_acquire_owned() {
                Ok(permit) => {
                    let (socket, shared, query) = (socket.clone(), shared.clone(), query.to_vec());
                    tokio::spawn(async move {
                        if let Outcome::Reply(bytes) = shared.upstream(&query, true).await {
                            // the client may be gone: then nobody misses it
                            let _ = socket.send_to(&bytes, client).await;
                        }
                        drop(permit);
                    });
                    continue;
                }
                Err(_) => failure(query),
            },
            other => other,
        };
        if let Outcome::Reply(bytes) = outcome {
            let _ = socket.send_to(&bytes, client).await;
            awake = Instant::now() + PATIENCE;
        }
    }
}

async fn serve_tcp(listener: TcpListener, shared: Shared) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            // an error here is the client's going away
            let _ = serve_stream(stream, &shared).await;
            drop(permit);
        });
    }
}

async fn serve_stream(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    loop {
        let query = timeout(IDLE, forward::read_message(&mut stream)).await??;
        let outcome = match shared.local(&query, false) {
            Outcome::Forward => match shared.in_flight.try_acquire() {
                Ok(_permit) => shared.upstream(&query, false).await,
                Err(_) => failure(&query),
            },
            other => other,
        };
        let Outcome::Reply(bytes) = outcome else { return Ok(()) };
        timeout(IDLE, forward::write_message(&mut stream, &bytes)).await??;
    }
}
