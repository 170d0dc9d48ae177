//! The network between simulated hosts: calls and sessions that are late, lost and sent again, doubled, overtaken, cut one way
//! or both. Modelled on what TCP leaves of a bad network: a lost packet is late, a cut one stalls its connection until somebody
//! gives up. Must never deliver anything to or from an incarnation of a host that is over.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use skep_agent::Uplink;
use skep_manager::Links;
use skep_raft::{Peer, TransportError};
use skep_types::logs::LogMessage;
use skep_types::session::AgentMessage;
use skep_wire::{ControlAnswer, ControlCall, RaftMessage, SessionStream, WireError};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::rng::Rng;
use crate::world::World;

/// First retransmission of a lost packet, as TCP's shortest; doubled each time.
const RETRANSMIT: Duration = Duration::from_millis(200);
/// A connection that moves nothing for so long is given up, as the transport's keepalive does.
const GIVE_UP: Duration = Duration::from_millis(1500);
/// Messages of a session in flight in each direction.
const WINDOW: usize = 16;

/// How bad the network is now.
#[derive(Debug)]
pub(crate) struct Net {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    rng: Rng,
    /// (from, to) that nothing passes.
    cut: BTreeSet<(usize, usize)>,
    /// Milliseconds that a message takes, from and to.
    delay: (u64, u64),
    /// In 1,000 messages, those lost once.
    loss: u64,
    /// In 1,000 calls, those that arrive twice.
    double: u64,
    /// Hosts whose traffic is held for so many milliseconds more, as by a paused process.
    held: Vec<u64>,
}

impl Net {
    pub(crate) fn new(rng: Rng, hosts: usize) -> Self {
        let state = State { rng, cut: BTreeSet::new(), delay: (0, 1), loss: 0, double: 0, held: vec![0; hosts] };
        Self { state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn cut(&self, from: usize, to: usize, cut: bool) {
        let mut s = self.lock();
        if cut {
            s.cut.insert((from, to));
        } else {
            s.cut.remove(&(from, to));
        }
    }

    pub(crate) fn weather(&self, delay: (u64, u64), loss: u64, double: u64) {
        let mut s = self.lock();
        (s.delay, s.loss, s.double) = (delay, loss, double);
    }

    pub(crate) fn hold(&self, host: usize, ms: u64) {
        if let Some(h) = self.lock().held.get_mut(host) {
            *h = ms;
        }
    }

    pub(crate) fn calm(&self) {
        let mut s = self.lock();
        s.cut.clear();
        s.held.fill(0);
        (s.delay, s.loss, s.double) = ((0, 1), 0, 0);
    }

    fn is_cut(&self, from: usize, to: usize) -> bool {
        from != to && self.lock().cut.contains(&(from, to))
    }

    /// How long one message takes, and whether it is lost this time.
    fn roll(&self, from: usize, to: usize) -> (Duration, bool) {
        let mut s = self.lock();
        if from == to {
            return (Duration::ZERO, false);
        }
        let (low, high) = s.delay;
        let held = s.held.get(from).copied().unwrap_or(0) + s.held.get(to).copied().unwrap_or(0);
        let ms = s.rng.range(low..high + 1) + held;
        let loss = s.loss;
        let lost = s.rng.chance(loss) || s.cut.contains(&(from, to));
        (Duration::from_millis(ms), lost)
    }

    fn doubled(&self) -> bool {
        let mut s = self.lock();
        let double = s.double;
        s.rng.chance(double)
    }

    /// Carries one message. Returns whether it arrived before its connection was given up.
    async fn travel(&self, from: usize, to: usize) -> bool {
        let mut waited = Duration::ZERO;
        let mut again = RETRANSMIT;
        loop {
            let (takes, lost) = self.roll(from, to);
            if !lost {
                if !takes.is_zero() {
                    tokio::time::sleep(takes).await;
                }
                return !self.is_cut(from, to);
            }
            if waited >= GIVE_UP {
                return false;
            }
            tokio::time::sleep(again).await;
            waited += again;
            again *= 2;
        }
    }
}

/// The ways out of one incarnation of a host.
#[derive(Clone)]
pub(crate) struct Outlet {
    pub(crate) world: Arc<World>,
    pub(crate) host: usize,
    pub(crate) incarnation: u64,
}

impl Outlet {
    /// The host that listens at an address, and its incarnation of now.
    fn find(&self, addr: &str) -> Option<(usize, u64)> {
        let to = self.world.hosts.iter().position(|h| h.addr == addr)?;
        Some((to, self.world.hosts[to].incarnation()))
    }

    fn who(&self) -> Option<skep_pki::Identity> {
        self.world.hosts[self.host].identity()
    }

    fn is_over(&self) -> bool {
        self.world.hosts[self.host].incarnation() != self.incarnation
    }

    /// Whether both ends are still the incarnations that they were.
    fn both_live(&self, target: (usize, u64)) -> bool {
        !self.is_over() && self.world.hosts[target.0].incarnation() == target.1
    }

    async fn pass(&self, from: usize, to: usize, target: (usize, u64)) -> bool {
        self.world.net.travel(from, to).await && self.both_live(target)
    }
}

#[async_trait]
impl Links for Outlet {
    async fn raft(&self, target: &Peer, message: RaftMessage) -> Result<Vec<u8>, TransportError> {
        let gone = || TransportError::Unreachable { addr: target.addr.clone(), cause: "simulated".into() };
        let to = self.find(&target.addr).ok_or_else(gone)?;
        if !self.pass(self.host, to.0, to).await {
            return Err(gone());
        }
        let handler = self.world.hosts[to.0].handler().ok_or_else(gone)?;
        let who = self.who().ok_or_else(gone)?;
        if self.world.net.doubled() {
            let (handler, message) = (handler.clone(), message.clone());
            tokio::spawn(async move { handler.raft(who, message).await });
        }
        let answer = handler.raft(who, message).await;
        if !self.pass(to.0, self.host, to).await {
            return Err(gone());
        }
        answer.map_err(|cause| skep_manager::refused(target.addr.clone(), cause))
    }

    async fn control(&self, addr: &str, call: ControlCall, within: Duration) -> Result<ControlAnswer, WireError> {
        let gone = || WireError::Connect { addr: addr.to_owned(), cause: "simulated".into() };
        let work = async {
            let to = self.find(addr).ok_or_else(gone)?;
            if !self.pass(self.host, to.0, to).await {
                return Err(gone());
            }
            let handler = self.world.hosts[to.0].handler().ok_or_else(gone)?;
            let answer = handler.control(self.who().ok_or_else(gone)?, call).await;
            if self.pass(to.0, self.host, to).await { Ok(answer) } else { Err(gone()) }
        };
        let late = WireError::Timeout { addr: addr.to_owned(), after: within };
        tokio::time::timeout(within, work).await.unwrap_or(Err(late))
    }
}

#[async_trait]
impl Uplink for Outlet {
    async fn logs(&self, addr: &str, _: mpsc::Receiver<LogMessage>) -> Result<(), WireError> {
        Err(WireError::Connect { addr: addr.to_owned(), cause: "logs are not simulated".into() })
    }

    async fn session(
        &self,
        addr: &str,
        outgoing: mpsc::Receiver<AgentMessage>,
        _within: Duration,
    ) -> Result<SessionStream, WireError> {
        let gone = || WireError::Connect { addr: addr.to_owned(), cause: "simulated".into() };
        let to = self.find(addr).ok_or_else(gone)?;
        if !self.pass(self.host, to.0, to).await {
            return Err(gone());
        }
        let handler = self.world.hosts[to.0].handler().ok_or_else(gone)?;
        let (up_tx, up_rx) = mpsc::channel(2 * WINDOW);
        let (out_tx, out_rx) = mpsc::channel(WINDOW);
        let (down_tx, down_rx) = mpsc::channel(2 * WINDOW);
        let me = self.clone();
        tokio::spawn(async move {
            let arrived = me.carry((me.host, to.0), to, outgoing, up_tx.clone(), |m| m).await;
            if arrived && me.is_over() {
                // Nobody said goodbye: the manager has to notice it.
                tokio::time::sleep(GIVE_UP).await;
            }
            drop(up_tx);
        });
        let me = self.clone();
        tokio::spawn(async move { me.carry((to.0, me.host), to, out_rx, down_tx, Ok).await });
        let who = self.who().ok_or_else(gone)?;
        let peer = SocketAddr::from(([10, 0, 0, u8::try_from(self.host + 1).unwrap_or(255)], 40_000));
        tokio::spawn(async move { handler.session(who, peer, Box::pin(ReceiverStream::new(up_rx)), out_tx).await });
        Ok(Box::pin(ReceiverStream::new(down_rx).fuse()))
    }
}

impl Outlet {
    /// Carries messages until no more come; returns whether all of them arrived, in their order. Each has the time at which it
    /// arrives from when it is sent: one that takes long does not hold up the sending of the next.
    async fn carry<T, U>(
        &self,
        (from, to): (usize, usize),
        target: (usize, u64),
        mut sent: mpsc::Receiver<T>,
        received: mpsc::Sender<U>,
        taken: impl Fn(T) -> U,
    ) -> bool {
        // `None` is the time of one that is lost, and sent again.
        let mut under_way: VecDeque<(T, Option<Instant>)> = VecDeque::new();
        let mut again: Option<BoxFuture<'_, bool>> = None;
        let mut is_open = true;
        loop {
            let first = under_way.front().map(|(_, at)| *at);
            let arrives = async {
                match first {
                    Some(Some(at)) => {
                        if at > Instant::now() {
                            tokio::time::sleep_until(at).await;
                        }
                        !self.world.net.is_cut(from, to) && self.both_live(target)
                    }
                    Some(None) => again.get_or_insert_with(|| Box::pin(self.pass(from, to, target))).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                arrived = arrives => {
                    again = None;
                    let Some((m, _)) = under_way.pop_front().filter(|_| arrived) else { return false };
                    if received.send(taken(m)).await.is_err() {
                        return false;
                    }
                }
                m = sent.recv(), if is_open && under_way.len() < WINDOW => match m {
                    Some(m) => {
                        let (takes, lost) = self.world.net.roll(from, to);
                        under_way.push_back((m, (!lost).then(|| Instant::now() + takes)));
                    }
                    None => is_open = false,
                }
            }
            if !is_open && under_way.is_empty() {
                return true;
            }
        }
    }

    /// The manager at an address, if it can be reached now: for the few calls that are not modelled one by one.
    pub(crate) async fn handler_at(&self, addr: &str) -> Option<Arc<dyn skep_wire::Handler>> {
        let to = self.find(addr)?;
        if self.pass(self.host, to.0, to).await { self.world.hosts[to.0].handler() } else { None }
    }
}
