//! Applying the data plane: one at a time, always the newest. Must never apply an older one after a newer one, nor say that it
//! follows what is not applied.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use skep_types::dataplane::DataPlane;
use skep_types::gossip::Gossip;
use skep_types::{NetworkId, NodeId, TaskId};
use tokio::sync::{Notify, watch};

use crate::{Attachments, Executor};

/// Pause after the host refused it.
const RETRY: Duration = Duration::from_secs(1);
/// A task waits this long at most for the data plane that came with it; the executor waits for its networks itself.
const WAIT: Duration = Duration::from_secs(10);
/// A task that takes no more requests is stopped after this even if some node has not followed: as long as the reference
/// always waits.
const DRAIN: Duration = Duration::from_secs(2);
/// What was sent to it just before the last node followed has arrived and was taken by its program after this; a signal that comes
/// sooner finds it in the queue of a socket that is closed, which refuses it.
const ARRIVAL: Duration = Duration::from_millis(50);
/// After a session has begun, the managers hear within this of what ended while there was none.
const HEARING: Duration = Duration::from_secs(2);
/// Questions of the managers that are open; of more the last two are one.
const QUESTIONS: usize = 64;

/// How far the managers have told that all nodes follow.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    /// There is a session.
    online: bool,
    /// This agent was told everything up to here.
    asked: u64,
    /// All nodes follow up to here.
    drained: u64,
}

/// What is to be applied.
#[derive(Debug, Clone, Default)]
struct Wanted {
    /// Counts what the managers said.
    number: u64,
    /// The managers' last word.
    plane: Option<DataPlane>,
    /// No manager is there to say what has ended since.
    alone: bool,
    /// Their last word when they were lost: what nodes say of tasks, they say of these.
    known: Option<DataPlane>,
    /// Tasks of this node that have ended or are unhealthy, which the managers have not acknowledged yet.
    own: BTreeMap<TaskId, BTreeSet<(NetworkId, Ipv4Addr)>>,
    /// What others say of their own.
    heard: BTreeMap<NodeId, Gossip>,
}

impl Wanted {
    fn own(&self) -> Gossip {
        Gossip { ended: self.own.values().flatten().copied().take(Gossip::MOST).collect() }
    }

    /// The managers' last word, without what has ended since if they cannot say so.
    fn now(&self) -> Option<DataPlane> {
        let plane = self.plane.clone()?;
        if !self.alone {
            return Some(plane);
        }
        let mut ended = self.heard.clone();
        ended.extend(plane.node.map(|node| (node, self.own())));
        let known = self.known.as_ref().unwrap_or(&plane).clone();
        Some(plane.without(&ended, &known))
    }

    /// The managers are lost. What was heard since they were lost before, and is not of those who have the addresses now, is over.
    fn lost(&mut self) {
        if let (Some(before), Some(now)) = (&self.known, &self.plane) {
            for gossip in self.heard.values_mut() {
                gossip.ended.retain(|(network, addr)| now.same_holder(before, *network, *addr));
            }
        }
        self.known.clone_from(&self.plane);
        self.alone = true;
    }

    /// The managers have the last word again.
    fn found(&mut self) {
        self.alone = false;
        self.known = None;
        self.heard.clear();
    }

    /// Another node says what of its own takes no requests; whether that changes anything.
    fn hear(&mut self, node: NodeId, gossip: Gossip) -> bool {
        let known = self.plane.as_ref().is_some_and(|p| p.peers.iter().any(|peer| peer.node == node));
        let taken = known && self.alone && gossip.ended.len() <= Gossip::MOST;
        taken && self.heard.insert(node, gossip.clone()) != Some(gossip)
    }
}

#[derive(Clone)]
pub(crate) struct Plane {
    wanted: watch::Sender<Wanted>,
    applied: watch::Receiver<u64>,
    told: watch::Sender<Told>,
    /// Index of a question, and the number of the plane that answers it.
    questions: Arc<Mutex<VecDeque<(u64, u64)>>>,
    asked: Arc<Notify>,
    /// What the other nodes were told last.
    said: watch::Sender<Gossip>,
}

impl Plane {
    /// Starts with what the host was made before a restart, which the host itself knows best: an older one would take tasks out of
    /// service. Ends when the last clone is dropped.
    pub(crate) async fn start(executor: Arc<dyn Executor>) -> Self {
        let (done, applied) = watch::channel(0);
        let known = executor.dataplane().await;
        let number = u64::from(known.is_some());
        let (wanted, mut rx) = watch::channel(Wanted { number, plane: known, ..Wanted::default() });
        rx.mark_changed();
        tokio::spawn(async move {
            while rx.changed().await.is_ok() {
                loop {
                    let (number, plane) = {
                        let wanted = rx.borrow_and_update();
                        (wanted.number, wanted.now())
                    };
                    let Some(plane) = plane else { break };
                    match executor.set_dataplane(plane).await {
                        Ok(()) => {
                            done.send_replace(number);
                            break;
                        }
                        Err(e) => {
                            tracing::warn!(error = %e, "agent: data plane not applied yet");
                            tokio::select! {
                                biased;
                                () = tokio::time::sleep(RETRY) => {}
                                c = rx.changed() => if c.is_err() { return },
                            }
                        }
                    }
                }
            }
        });
        let told = watch::channel(Told::default()).0;
        let said = watch::channel(Gossip::default()).0;
        Self { wanted, applied, told, questions: Arc::default(), asked: Arc::default(), said }
    }

    /// Digest of what is wanted now; 0 if nothing is.
    pub(crate) fn digest(&self) -> u64 {
        self.wanted.borrow().plane.as_ref().map_or(0, DataPlane::digest)
    }

    pub(crate) fn set(&self, plane: DataPlane) {
        self.wanted.send_modify(|w| {
            w.number += 1;
            w.plane = Some(plane);
        });
    }

    /// Tells what the managers hold for this host, if they said anything yet.
    pub(crate) fn attached(&self, attachments: &Attachments) {
        if let Some(plane) = &self.wanted.borrow().plane {
            attachments.told(&plane.attached);
        }
    }

    fn questions(&self) -> std::sync::MutexGuard<'_, VecDeque<(u64, u64)>> {
        // Entries are pushed and popped whole.
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session begins or ends.
    pub(crate) fn online(&self, online: bool) {
        self.questions().clear();
        self.told.send_modify(|t| t.online = online);
        if !online {
            self.alone(true);
            return;
        }
        // Until the managers have heard of what ended meanwhile, it does not come back.
        let plane = self.clone();
        tokio::spawn(async move {
            let mut told = plane.told.subscribe();
            if tokio::time::timeout(HEARING, told.wait_for(|t| !t.online)).await.is_err() {
                plane.alone(false);
            }
        });
    }

    /// Whether there are managers to say what has ended; whoever is not alone any more forgets what it heard.
    fn alone(&self, alone: bool) {
        self.wanted.send_if_modified(|w| {
            let before = w.alone;
            let matters = !(w.own.is_empty() && w.heard.is_empty());
            if alone {
                w.lost()
            } else {
                w.found()
            }
            before != alone && matters
        });
        if !alone {
            self.said.send_replace(Gossip::default());
        }
    }

    /// A task of this node has ended or is unhealthy: where it was reached.
    pub(crate) fn ended(&self, task: TaskId, at: BTreeSet<(NetworkId, Ipv4Addr)>) {
        self.wanted.send_if_modified(|w| w.own.insert(task, at.clone()).as_ref() != Some(&at) && w.alone);
    }

    /// The managers know of that, or it is gone.
    pub(crate) fn forget(&self, task: TaskId) {
        self.wanted.send_if_modified(|w| w.own.remove(&task).is_some() && w.alone);
    }

    /// Another node says what of its own has ended or is unhealthy.
    pub(crate) fn heard(&self, node: NodeId, gossip: Gossip) {
        self.wanted.send_if_modified(|w| w.hear(node, gossip));
    }

    /// The other nodes were told, as far as they could be reached.
    pub(crate) fn said(&self, gossip: &Gossip) {
        self.said.send_if_modified(|s| {
            let other = *s != *gossip;
            s.clone_from(gossip);
            other
        });
    }

    /// Waits until others were told by this node itself that a task takes no more requests, for a while; not with a session.
    pub(crate) async fn spread(&self, at: &BTreeSet<(NetworkId, Ipv4Addr)>) {
        let (mut said, mut told) = (self.said.subscribe(), self.told.subscribe());
        let heard = async {
            tokio::select! {
                r = said.wait_for(|s| at.is_subset(&s.ended)) => r.is_ok(),
                // Who has a session tells the managers.
                _ = told.wait_for(|t| t.online) => false,
            }
        };
        if tokio::time::timeout(DRAIN, heard).await == Ok(true) {
            tokio::time::sleep(ARRIVAL).await;
        }
    }

    /// What is to be told to whom, as long as there is no manager to tell it to.
    pub(crate) fn news(&self) -> Option<(Gossip, Vec<(NodeId, Ipv4Addr)>)> {
        let w = self.wanted.borrow();
        let peers = || w.plane.iter().flat_map(|p| p.peers.iter()).map(|p| (p.node, p.addr)).collect();
        w.alone.then(|| (w.own(), peers()))
    }

    /// Waits until there may be other news.
    pub(crate) fn changes(&self) -> impl Future<Output = ()> + use<> {
        let mut wanted = self.wanted.subscribe();
        async move {
            // The sender lives as long as the agent.
            let _ = wanted.changed().await;
        }
    }

    /// A manager asks when everything that it told is applied.
    pub(crate) fn ask(&self, index: u64) {
        let number = self.wanted.borrow().number;
        let mut questions = self.questions();
        if questions.len() >= QUESTIONS {
            questions.pop_back();
        }
        questions.push_back((index, number));
        drop(questions);
        self.asked.notify_one();
        self.told.send_modify(|t| t.asked = t.asked.max(index));
    }

    /// Waits for an answer to the managers: the last question whose plane is applied.
    pub(crate) async fn answer(&self) -> u64 {
        loop {
            let first = self.questions().front().copied();
            let Some((_, number)) = first else {
                self.asked.notified().await;
                continue;
            };
            let mut applied = self.applied.clone();
            let Ok(done) = applied.wait_for(|a| *a >= number).await.map(|a| *a) else {
                return std::future::pending().await;
            };
            let mut last = None;
            let mut questions = self.questions();
            while let Some((index, _)) = questions.front().copied().filter(|(_, n)| *n <= done) {
                last = Some(index);
                questions.pop_front();
            }
            if let Some(index) = last {
                return index;
            }
        }
    }

    /// The managers say that all nodes follow.
    pub(crate) fn drained(&self, index: u64) {
        self.told.send_modify(|t| t.drained = t.drained.max(index));
    }

    /// Up to where this agent was told.
    pub(crate) fn told(&self) -> u64 {
        self.told.borrow().asked
    }

    /// Waits until all nodes follow what this agent was told after `before` and until now, for a while; not without a session.
    pub(crate) async fn drain(&self, before: u64) {
        let mut told = self.told.subscribe();
        let mut goal = None;
        let met = told.wait_for(|t| {
            if goal.is_none() && t.asked > before {
                goal = Some(t.asked);
            }
            !t.online || goal.is_some_and(|g| t.drained >= g)
        });
        match tokio::time::timeout(DRAIN, met).await.map(|t| t.is_ok_and(|t| t.online)) {
            Ok(true) => tokio::time::sleep(ARRIVAL).await,
            Ok(false) => {}
            Err(_) => tracing::warn!("agent: some node may still send requests to a task that is stopped now"),
        }
    }

    /// Waits until what is known now is applied, for a while.
    pub(crate) async fn settled(&self) {
        let number = self.wanted.borrow().number;
        let mut applied = self.applied.clone();
        // Late or gone: the executor says what is missing then.
        let _ = tokio::time::timeout(WAIT, applied.wait_for(|a| *a >= number)).await;
    }
}

#[cfg(test)]
mod tests {
    use skep_types::dataplane::{IngressBackend, IngressPort, IngressView, Peer, View};
    use skep_types::object::{Meta, Network};
    use skep_types::spec::{NetworkSpec, Protocol};
    use skep_types::{Ipv4Net, TaskId};

    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);
    const MESH: NetworkId = NetworkId(9);
    const OTHER: NodeId = NodeId(2);

    /// The mesh with one task of another node behind a port.
    fn plane(task: u128) -> DataPlane {
        let backends = vec![IngressBackend { addr: A, node: OTHER, task: Some(TaskId(task)) }];
        let (protocol, published, target) = (Protocol::Tcp, 80, 8000);
        let port = IngressPort { protocol, published, target, backends, host_ip: None, prefer_local: false };
        let subnet = Ipv4Net::new(Ipv4Addr::new(10, 0, 0, 0), 24);
        let spec = NetworkSpec { ingress: true, ..NetworkSpec::default() };
        let gateway = Ipv4Addr::new(10, 0, 0, 1);
        let shown = Network { id: MESH, meta: Meta::default(), spec, subnet, gateway, vni: 4096, v6: None };
        let (addr, ingress_addr) = (Ipv4Addr::new(10, 88, 0, 2), Ipv4Addr::new(10, 0, 0, 2));
        let peer = Peer { node: OTHER, addr, ingress_addr, wireguard: None, ipv6: None };
        DataPlane {
            node: Some(NodeId(1)),
            peers: [peer].into_iter().collect(),
            ingress: Some(View::new(IngressView { vni: 4096, subnet, ports: vec![port], pairing: None })),
            shown: vec![View::new(shown)],
            ..DataPlane::default()
        }
    }

    fn asked(w: &Wanted) -> usize {
        w.now().and_then(|p| p.ingress).map_or(0, |v| v.ports[0].backends.len())
    }

    #[test]
    fn what_was_heard_is_of_the_task_that_had_the_address() {
        let gossip = Gossip { ended: [(MESH, A)].into() };
        let mut w = Wanted { plane: Some(plane(1)), ..Wanted::default() };
        assert!(!w.hear(OTHER, gossip.clone()), "nothing is heard while there are managers");
        w.lost();
        assert!(w.hear(OTHER, gossip.clone()) && !w.hear(OTHER, gossip.clone()));
        assert_eq!(asked(&w), 0);
        // A manager is there again, and its first word is that the same node has another task at the address.
        w.plane = Some(plane(2));
        assert_eq!(asked(&w), 1);
        // It is lost at once: what was heard before is not of the new one, what is heard from now on is.
        w.lost();
        assert_eq!(asked(&w), 1);
        assert!(w.hear(OTHER, gossip.clone()));
        assert_eq!(asked(&w), 0);
        w.found();
        assert_eq!(asked(&w), 1);
    }
}
