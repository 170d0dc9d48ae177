//! Containers that are no tasks on the swarm's overlay networks: what this host wants, as one list that the managers follow, and
//! what they gave. Must never lose a container that is on a network from the list, nor forget to say that one has gone.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use skep_types::NetworkId;
use skep_types::attach::{Answer, Held, Wanted, WantedList};
use skep_types::control::{Code, ControlError};
use tokio::sync::{Notify, oneshot};

/// One container on one network.
#[derive(Debug)]
struct Entry {
    wanted: Wanted,
    held: Option<Held>,
    waiting: Vec<oneshot::Sender<Result<Held, ControlError>>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Agents that tell the managers: one, and for a moment two when another takes over.
    agents: usize,
    /// At most as many as the host has containers with networks.
    entries: Vec<Entry>,
    /// Number of the last list.
    number: u64,
    /// The managers do not know the list as it is.
    due: bool,
    /// What was sent and is not answered.
    sent: Option<WantedList>,
    /// What a container had and has no more, and why.
    lost: VecDeque<(Held, ControlError)>,
}

/// The attachments of this host. Shared by the agent, which tells the managers, and whoever runs the containers.
#[derive(Debug, Default)]
pub struct Attachments {
    inner: Mutex<Inner>,
    news: Notify,
    losses: Notify,
}

impl Attachments {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What a panic could leave is one entry without its answer, which is asked for again.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gets an address for a container. What it has already it gets at once, without managers. Who drops the future
    /// wants it no more.
    ///
    /// # Errors
    /// What the managers say; 404 on a host that is in no swarm.
    pub async fn hold(&self, wanted: Wanted) -> Result<Held, ControlError> {
        let (container, network) = (wanted.container.clone(), wanted.network.clone());
        let answer = {
            let mut inner = self.lock();
            let open = inner.agents > 0;
            let same = |e: &&mut Entry| e.wanted.container == container && e.is_on(&network);
            let (tx, rx) = oneshot::channel();
            match inner.entries.iter_mut().find(same) {
                Some(Entry { held: Some(held), .. }) => return Ok(held.clone()),
                _ if !open => return Err(no_such(&network)),
                Some(entry) => entry.waiting.push(tx),
                None => inner.entries.push(Entry { wanted, held: None, waiting: vec![tx] }),
            }
            inner.due = true;
            rx
        };
        self.news.notify_one();
        let mut question = Question { book: self, wanted: Some((container, network)) };
        let answer = answer.await;
        question.wanted = None;
        answer.unwrap_or_else(|_| {
            Err(ControlError::new(Code::Unavailable, "the container was stopped, or this host left the swarm"))
        })
    }

    /// Gives up what a container has on one network, or on all.
    pub fn release(&self, container: &str, network: Option<NetworkId>) {
        let mut inner = self.lock();
        let before = inner.entries.len();
        let on = |e: &Entry| network.is_none_or(|n| e.held.as_ref().is_some_and(|h| h.network == n));
        inner.entries.retain(|e| e.wanted.container != container || !on(e));
        if inner.entries.len() != before {
            inner.due = true;
            drop(inner);
            self.news.notify_one();
        }
    }

    /// Takes up what containers had before a restart.
    pub fn adopt(&self, held: &[Held]) {
        let mut inner = self.lock();
        for h in held {
            let wanted = Wanted {
                container: h.container.clone(),
                network: h.network.to_string(),
                addr: Some(h.addr.addr),
                names: h.names.clone(),
                addr6: None,
            };
            inner.entries.push(Entry { wanted, held: Some(h.clone()), waiting: Vec::new() });
        }
        inner.due = true;
    }

    /// Waits for the next container that has lost its place, and why: its network is gone, or the managers gave its address away
    /// while this host was lost to them.
    pub async fn lost(&self) -> (Held, ControlError) {
        loop {
            let next = self.lock().lost.pop_front();
            match next {
                Some(lost) => return lost,
                None => self.losses.notified().await,
            }
        }
    }

    /// An agent begins or ends to tell the managers. Without one nobody is kept waiting.
    pub(crate) fn open(&self, open: bool) {
        let mut inner = self.lock();
        inner.agents = if open { inner.agents + 1 } else { inner.agents.saturating_sub(1) };
        if inner.agents == 0 {
            inner.entries.retain(|e| e.held.is_some());
        }
    }

    /// A session begins: nobody answers any more what was sent in the last one.
    pub(crate) fn begin(&self) {
        let mut inner = self.lock();
        inner.sent = None;
        inner.due |= !inner.entries.is_empty();
        drop(inner);
        self.news.notify_one();
    }

    /// The managers say what they hold for this host. Another thing than it has: they are told again.
    pub(crate) fn told(&self, held: &[Held]) {
        let mut inner = self.lock();
        let key = |h: &Held| (h.container.clone(), h.network, h.addr);
        let theirs: BTreeSet<_> = held.iter().map(key).collect();
        let ours: BTreeSet<_> = inner.entries.iter().filter_map(|e| e.held.as_ref()).map(key).collect();
        if inner.sent.is_none() && theirs != ours {
            inner.due = true;
            drop(inner);
            self.news.notify_one();
        }
    }

    /// Waits until the managers are to be told, and what. One list at a time is under way.
    pub(crate) async fn next(&self) -> WantedList {
        loop {
            {
                let mut inner = self.lock();
                if inner.due && inner.sent.is_none() {
                    inner.due = false;
                    inner.number += 1;
                    let wanted = inner.entries.iter().map(|e| e.wanted.clone()).collect();
                    let list = WantedList { number: inner.number, wanted };
                    inner.sent = Some(list.clone());
                    return list;
                }
            }
            self.news.notified().await;
        }
    }

    /// Takes the managers' answer.
    pub(crate) fn answered(&self, answer: Answer) {
        let mut inner = self.lock();
        match answer {
            Answer::Late { noted } => {
                // Lists of a former life of this agent.
                inner.number = inner.number.max(noted);
                inner.due |= inner.sent.take().is_some();
            }
            Answer::Given { number, given } => {
                let Some(sent) = inner.sent.take_if(|s| s.number == number) else { return };
                for (wanted, given) in sent.wanted.iter().zip(given) {
                    inner.settle(wanted, given);
                }
            }
        }
        drop(inner);
        self.news.notify_one();
        self.losses.notify_one();
    }
}

/// Withdraws what nobody waits for any more.
struct Question<'a> {
    book: &'a Attachments,
    wanted: Option<(String, String)>,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        if let Some((container, network)) = self.wanted.take() {
            let mut inner = self.book.lock();
            inner.entries.retain(|e| e.wanted.container != container || !e.is_on(&network));
            inner.due = true;
            drop(inner);
            self.book.news.notify_one();
        }
    }
}

impl Entry {
    /// Whether it is on the network that is called so.
    fn is_on(&self, network: &str) -> bool {
        self.wanted.network == network || self.held.as_ref().is_some_and(|h| h.network.to_string() == network)
    }
}

impl Inner {
    fn settle(&mut self, wanted: &Wanted, given: Result<Held, ControlError>) {
        // One that was released meanwhile is told of by the next list.
        let Some(at) = self.entries.iter().position(|e| e.wanted == *wanted) else { return };
        match given {
            Ok(held) => {
                let entry = &mut self.entries[at];
                entry.wanted.network = held.network.to_string();
                entry.wanted.addr = Some(held.addr.addr);
                for tx in entry.waiting.drain(..) {
                    // Who waits no more releases it.
                    let _ = tx.send(Ok(held.clone()));
                }
                // Asked for by another name it is the same place.
                let same =
                    |e: &Entry| e.held.as_ref().is_some_and(|h| h.container == held.container && h.network == held.network);
                if self.entries.iter().enumerate().any(|(i, e)| i != at && same(e)) {
                    self.entries.remove(at);
                    self.due = true;
                } else {
                    self.entries[at].held = Some(held);
                }
            }
            Err(error) => {
                let entry = self.entries.remove(at);
                for tx in entry.waiting {
                    let _ = tx.send(Err(error.clone()));
                }
                self.lost.extend(entry.held.map(|held| (held, error)));
            }
        }
    }
}

fn no_such(network: &str) -> ControlError {
    ControlError::new(Code::NotFound, format!("network {network} not found"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::*;

    fn wanted(container: &str, network: &str) -> Wanted {
        Wanted { container: container.into(), network: network.into(), addr: None, names: vec![container.into()], addr6: None }
    }

    fn held(container: &str, last: u8) -> Held {
        let addr = format!("10.0.1.{last}/24").parse().unwrap();
        Held { container: container.into(), network: NetworkId(7), addr, names: vec![container.into()] }
    }

    fn given(list: &WantedList, given: Vec<Result<Held, ControlError>>) -> Answer {
        Answer::Given { number: list.number, given }
    }

    async fn holding(book: &Arc<Attachments>, container: &str) -> Held {
        let (b, w) = (book.clone(), wanted(container, "net"));
        let wait = tokio::spawn(async move { b.hold(w).await });
        let list = book.next().await;
        let last = u8::try_from(list.wanted.len()).unwrap() + 1;
        let all = list.wanted.iter().zip(2..=last).map(|(w, n)| Ok(held(&w.container, n))).collect();
        book.answered(given(&list, all));
        wait.await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn a_container_gets_its_address_once_and_the_list_shrinks_with_it() {
        let book = Arc::new(Attachments::default());
        assert_eq!(book.hold(wanted("a", "net")).await.unwrap_err().code, Code::NotFound);
        book.open(true);
        let a = holding(&book, "a").await;
        // At once, by name or id: nobody answers here.
        assert_eq!(book.hold(wanted("a", &NetworkId(7).to_string())).await.unwrap(), a);
        book.release("a", Some(NetworkId(8)));
        book.release("a", Some(NetworkId(7)));
        assert!(book.next().await.wanted.is_empty());
    }

    #[tokio::test]
    async fn a_list_is_told_again_in_a_new_session_or_to_managers_that_know_otherwise() {
        let book = Arc::new(Attachments::default());
        book.open(true);
        let a = holding(&book, "a").await;
        book.told(std::slice::from_ref(&a));
        assert!(!book.lock().due);
        book.told(&[]);
        let list = book.next().await;
        assert_eq!(list.wanted[0].addr, Some(a.addr.addr));
        // The managers know higher numbers, of a former life of this agent.
        book.answered(Answer::Late { noted: 40 });
        assert_eq!(book.next().await.number, 41);
        // That session is gone with its answer.
        book.begin();
        let list = book.next().await;
        book.answered(given(&list, vec![Ok(a.clone())]));
        assert!(!book.lock().due && book.lock().sent.is_none());
    }

    #[tokio::test]
    async fn one_that_the_managers_refuse_is_told_to_whoever_waits_or_runs_it() {
        let book = Arc::new(Attachments::default());
        book.open(true);
        book.adopt(&[held("old", 9)]);
        let b = book.clone();
        let wait = tokio::spawn(async move { b.hold(wanted("new", "net")).await });
        while book.lock().entries.len() < 2 {
            tokio::task::yield_now().await;
        }
        let list = book.next().await;
        let no = || Err(no_such("net"));
        book.answered(given(&list, vec![no(), no()]));
        assert_eq!(wait.await.unwrap().unwrap_err().code, Code::NotFound);
        assert_eq!(book.lost().await.0, held("old", 9));
        assert!(book.lock().entries.is_empty());
    }
}
