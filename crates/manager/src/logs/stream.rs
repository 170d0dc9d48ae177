//! One client's stream: which nodes are asked for which tasks, again when a stream broke, and what is missing in the end. Must
//! never end without saying what is missing, nor hold more than a few messages.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use skep_state::Store;
use skep_types::control::{ControlError, ControlRequest, ControlResponse};
use skep_types::host::LogOptions;
use skep_types::logs::{LogAsk, LogItem, LogTarget};
use skep_types::object::{NodeState, Task, TaskState};
use skep_types::{LogId, NodeId, ServiceId, TaskId};
use skep_wire::ControlCall;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Arrived, Asked, QUEUE, ask};
use crate::control;
use crate::shared::{CALL_TIMEOUT, Shared};

/// An agent that has a session answers within this.
const ANSWER: Duration = Duration::from_secs(5);
/// A stream that broke while its log is followed is asked for again after this.
const AGAIN: Duration = Duration::from_millis(500);

/// Whose logs a stream has.
#[derive(Debug, Clone, Copy)]
enum Of {
    Service(ServiceId),
    Task(TaskId),
}

impl Of {
    fn tasks(self, store: &Store) -> Vec<Arc<Task>> {
        match self {
            Self::Service(id) => store.tasks_of_service(id).cloned().collect(),
            Self::Task(id) => store.task(id).cloned().into_iter().collect(),
        }
    }
}

/// Opens a client's stream.
///
/// # Errors
/// [`ControlError`] if there is no such service or task, or no quorum.
pub(crate) async fn open(
    s: &Arc<Shared>,
    target: &LogTarget,
    options: LogOptions,
) -> Result<mpsc::Receiver<LogItem>, ControlError> {
    let store = caught_up(s).await?;
    let of = match target {
        LogTarget::Service(target) => Of::Service(control::find_service(&store, target)?.id),
        LogTarget::Task(target) => Of::Task(control::find_task(&store, target)?.id),
    };
    let (out, items) = mpsc::channel(QUEUE);
    tokio::spawn(run(s.clone(), of, options, out));
    Ok(items)
}

/// The tables, not older than the leader's: those name what a client asks for, and this manager's own may be behind.
pub(crate) async fn caught_up(s: &Arc<Shared>) -> Result<Arc<Store>, ControlError> {
    let answer = s.call(ControlCall::Request(Box::new(ControlRequest::GetApplied))).await?;
    if let skep_wire::ControlAnswer::Response(r) = answer
        && let ControlResponse::Applied(index) = *r
    {
        // Too late is no error: what is known is served.
        let _ = tokio::time::timeout(CALL_TIMEOUT, s.tables.reached(index)).await;
    }
    Ok(s.store())
}

/// What is known of a task's log.
#[derive(Default)]
struct Seen {
    /// Time of the last record that was passed on, and how many of that time were.
    last: Option<(String, usize)>,
    /// So many of that time come again.
    again: usize,
    /// All of it came.
    done: bool,
}

struct Stream<'a> {
    s: &'a Arc<Shared>,
    options: LogOptions,
    arrive: mpsc::Sender<(LogId, Arrived)>,
    /// Asks that are open, and until when each must begin.
    asked: BTreeMap<LogId, (Asked<'a>, Option<Instant>)>,
    seen: BTreeMap<TaskId, Seen>,
    service: BTreeMap<TaskId, ServiceId>,
    missing: BTreeSet<String>,
}

async fn run(s: Arc<Shared>, of: Of, options: LogOptions, out: mpsc::Sender<LogItem>) {
    let (arrive, mut arrived) = mpsc::channel(QUEUE);
    let mut stream = Stream {
        s: &s,
        options,
        arrive,
        asked: BTreeMap::new(),
        seen: BTreeMap::new(),
        service: BTreeMap::new(),
        missing: BTreeSet::new(),
    };
    let mut changed = s.tables.watch();
    let mut stop = s.stop.subscribe();
    stream.look(of);
    while stream.options.follow || !stream.asked.is_empty() {
        let deadline = stream.asked.values().filter_map(|(_, until)| *until).min();
        let again = deadline.unwrap_or_else(|| Instant::now() + AGAIN);
        tokio::select! {
            biased;
            () = out.closed() => return,
            () = async { drop(stop.wait_for(|s| *s).await) } => {
                stream.missing.insert("this manager stops".to_owned());
                break;
            }
            Some((id, what)) = arrived.recv() => {
                for item in stream.arrived(id, what) {
                    if out.send(item).await.is_err() {
                        return;
                    }
                }
            }
            () = tokio::time::sleep_until(again) => {
                stream.late();
                if stream.options.follow {
                    stream.look(of);
                }
            }
            _ = changed.changed() => {
                stream.lost();
                if stream.options.follow {
                    stream.look(of);
                }
            }
        }
        if stream.options.follow && stream.asked.is_empty() && matches!(of, Of::Task(_)) && stream.is_over(of) {
            break;
        }
    }
    if !stream.missing.is_empty() {
        let reasons: Vec<String> = std::mem::take(&mut stream.missing).into_iter().collect();
        let text = "warning: incomplete log stream. some logs could not be retrieved for the following reasons";
        // The client may be gone.
        let _ = out.send(LogItem::Incomplete(format!("{text}: {}", reasons.join(", ")))).await;
    }
}

impl Stream<'_> {
    /// Asks for the logs of the tasks of which none are under way and not all are there.
    fn look(&mut self, of: Of) {
        let store = self.s.store();
        let tasks = of.tasks(&store);
        let open: BTreeSet<TaskId> = self.asked.values().flat_map(|(a, _)| a.tasks.iter().copied()).collect();
        // What is forgotten by the swarm need not be remembered here.
        self.seen.retain(|id, _| open.contains(id) || tasks.iter().any(|t| t.id == *id));
        self.service.retain(|id, _| self.seen.contains_key(id));
        let mut groups: BTreeMap<(NodeId, bool, Option<String>), Vec<TaskId>> = BTreeMap::new();
        for t in tasks {
            let seen = self.seen.entry(t.id).or_default();
            if seen.done || open.contains(&t.id) {
                continue;
            }
            let Some(node) = t.node.filter(|_| t.status.state >= TaskState::Assigned) else {
                if !self.options.follow {
                    self.missing.insert(format!("task {} has not been scheduled", t.id));
                }
                continue;
            };
            if store.node(node).is_none_or(|n| n.state != NodeState::Ready) {
                if !self.options.follow {
                    self.missing.insert(format!("node {node} is not available"));
                }
                continue;
            }
            self.service.insert(t.id, t.service);
            let follow = self.options.follow && !t.status.state.is_terminal();
            seen.again = seen.last.as_ref().map_or(0, |(_, n)| *n);
            let last = seen.last.as_ref().map(|(time, _)| time.clone());
            groups.entry((node, follow, last)).or_default().push(t.id);
        }
        for ((node, follow, last), tasks) in groups {
            let mut options = LogOptions { follow, ..self.options.clone() };
            if last.is_some() {
                // The rest, and what came at that very time again.
                (options.since, options.tail) = (last, None);
            }
            let id = LogId(self.s.clock.new_id());
            let wish = LogAsk { id, manager: self.s.config.addr.clone(), tasks, options };
            let asked = ask(self.s, node, wish, &self.arrive);
            self.asked.insert(id, (asked, Some(Instant::now() + ANSWER)));
        }
    }

    fn arrived(&mut self, id: LogId, what: Arrived) -> Vec<LogItem> {
        match what {
            Arrived::Begun => {
                if let Some((_, until)) = self.asked.get_mut(&id) {
                    *until = None;
                }
                Vec::new()
            }
            Arrived::Records(records) => {
                let Some((asked, _)) = self.asked.get(&id) else { return Vec::new() };
                let node = asked.node;
                let mut items = Vec::with_capacity(records.len());
                for (task, record) in records {
                    let (Some(seen), Some(service)) = (self.seen.get_mut(&task), self.service.get(&task)) else { continue };
                    match &mut seen.last {
                        Some((time, _)) if *time == record.time && seen.again > 0 => {
                            seen.again -= 1;
                            continue;
                        }
                        Some((time, n)) if *time == record.time => *n += 1,
                        last => *last = Some((record.time.clone(), 1)),
                    }
                    items.push(LogItem::Record { node, service: *service, task, record });
                }
                items
            }
            Arrived::Ended { whole } => {
                let Some((asked, _)) = self.asked.remove(&id) else { return Vec::new() };
                if whole {
                    for task in &asked.tasks {
                        self.seen.entry(*task).or_default().done = true;
                    }
                } else if !self.options.follow {
                    self.missing.insert(format!("node {} disconnected unexpectedly", asked.node));
                }
                Vec::new()
            }
        }
    }

    /// Gives up asks that no agent has taken.
    fn late(&mut self) {
        let now = Instant::now();
        self.give_up(|_, until| until.is_some_and(|u| u <= now));
    }

    /// Gives up nodes that are down. Their sessions tell sooner than their connections, which wait long for a sign of life.
    fn lost(&mut self) {
        let store = self.s.store();
        self.give_up(|node, _| store.node(node).is_none_or(|n| n.state != NodeState::Ready));
    }

    fn give_up(&mut self, which: impl Fn(NodeId, Option<Instant>) -> bool) {
        let these: Vec<LogId> =
            self.asked.iter().filter(|(_, (asked, until))| which(asked.node, *until)).map(|(id, _)| *id).collect();
        for id in these {
            if let Some((asked, _)) = self.asked.remove(&id)
                && !self.options.follow
            {
                self.missing.insert(format!("node {} is not available", asked.node));
            }
        }
    }

    /// Nothing more will come.
    fn is_over(&self, of: Of) -> bool {
        of.tasks(&self.s.store()).iter().all(|t| t.status.state.is_terminal() && self.seen.get(&t.id).is_some_and(|s| s.done))
    }
}
