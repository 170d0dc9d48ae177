//! The session with a manager: one stream, kept up whatever happens. A manager that says nothing for [`SILENCE`] is left. Must
//! never stop tasks because no manager can be reached.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use skep_types::NodeId;
use skep_types::control::StatusReport;
use skep_types::session::{AgentMessage, ManagerMessage};
use skep_wire::{SessionStream, WireError};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::agent::{AgentEvent, Inner};
use crate::driver::takes_none;
use crate::worker::Worker;
use crate::{choice, logs, tunnel};

/// A manager is heard every half second.
const SILENCE: Duration = Duration::from_millis(1700);
/// Until the manager says otherwise.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// Heartbeats come this part of their period earlier or later, so that the agents of many nodes do not all speak at once.
const JITTER: f64 = 0.1;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Short enough that, with a round of asking, a manager is found before the leader takes this node for dead.
const LAST_PAUSE: Duration = Duration::from_millis(800);
/// The host is looked at again this often.
const DESCRIBE: Duration = Duration::from_secs(20);
/// Messages on their way out; one batch and a few heartbeats.
const OUT: usize = 8;
/// A manager that does not take the session so soon is not waited for: the next one is asked as well.
const STAGGER: Duration = Duration::from_millis(250);
/// A round of asking all managers lasts this long at most, so that a host without power among them does not cost the time in
/// which the leader expects this node.
const ROUND: Duration = Duration::from_millis(1500);
/// More managers than this no swarm has.
const MOST_MANAGERS: usize = 16;
/// An agent that is not with the manager of its choice tries to return there this often, so that managers that were away get
/// their share again.
const RETURN: Duration = Duration::from_secs(120);

/// Why a session ended.
enum End {
    /// Another manager has taken the session; the old one ends by being dropped.
    Moved(Box<Open>),
    /// The leader must be looked for.
    Lost(String),
    /// The connection must be made anew with another certificate.
    Again,
    /// The node is not part of the swarm any more, or the agent is told to stop.
    Stop,
}

/// A session that a manager has taken.
struct Open {
    addr: String,
    heartbeat: Duration,
    tx: mpsc::Sender<AgentMessage>,
    stream: SessionStream,
}

pub(crate) async fn run(inner: Arc<Inner>, mut worker: Worker) {
    let mut pause = FIRST_PAUSE;
    let mut stop = inner.stop.subscribe();
    let mut moved = None;
    loop {
        let end = tokio::select! {
            biased;
            () = raised(&mut stop) => End::Stop,
            e = async {
                let found = match moved.take() {
                    Some(open) => Ok(Some(open)),
                    None => find(&inner, &worker).await,
                };
                match found {
                    Ok(Some(open)) => {
                        pause = FIRST_PAUSE;
                        inner.connected.send_replace(true);
                        worker.plane.online(true);
                        inner.attachments.begin();
                        worker.plane.attached(&inner.attachments);
                        session(&inner, &mut worker, open).await
                    }
                    Ok(None) => End::Lost("no manager takes the session".into()),
                    Err(end) => end,
                }
            } => e,
        };
        if let End::Moved(open) = end {
            moved = Some(*open);
            continue;
        }
        inner.connected.send_replace(false);
        worker.plane.online(false);
        match end {
            End::Stop => return,
            End::Again | End::Moved(_) => continue,
            End::Lost(why) => tracing::debug!(why, "agent: session lost"),
        }
        tokio::select! {
            biased;
            () = raised(&mut stop) => return,
            () = tokio::time::sleep(pause.mul_f64(0.5 + inner.config.clock.fraction() / 2.0)) => {}
        }
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// Asks the managers in the order of this node's choice, the next one whenever one refuses or is slow; the first that takes
/// the session has it.
async fn find(inner: &Arc<Inner>, worker: &Worker) -> Result<Option<Open>, End> {
    let hello = hello(inner, worker).await;
    let mut left = choice::order(inner.config.node, inner.managers());
    left.truncate(MOST_MANAGERS);
    let mut left = left.into_iter();
    let mut asked = FuturesUnordered::new();
    let end = Instant::now() + ROUND;
    let mut next_at = Instant::now();
    loop {
        tokio::select! {
            biased;
            Some(answer) = asked.next(), if !asked.is_empty() => match answer {
                Ok(open) => return Ok(Some(open)),
                Err(End::Lost(why)) => {
                    tracing::debug!(why, "agent: no session");
                    next_at = Instant::now();
                }
                Err(end) => return Err(end),
            },
            () = tokio::time::sleep_until(next_at), if left.len() > 0 => {
                if let Some((_, addr)) = left.next() {
                    asked.push(open(inner, addr, hello.clone()));
                    next_at = Instant::now() + STAGGER;
                }
            }
            () = tokio::time::sleep_until(end) => return Ok(None),
        }
        if asked.is_empty() && left.len() == 0 {
            return Ok(None);
        }
    }
}

async fn hello(inner: &Arc<Inner>, worker: &Worker) -> AgentMessage {
    AgentMessage::Hello {
        description: inner.description().await,
        addr: inner.config.addr,
        availability: inner.config.availability,
        known: worker.known(),
        plane: worker.plane.digest(),
        files: worker.stored.ids(),
        tunnels: true,
        refusals: true,
    }
}

/// Offers a session to one manager and waits for its first word.
async fn open(inner: &Arc<Inner>, addr: String, hello: AgentMessage) -> Result<Open, End> {
    let lost = |e: WireError| End::Lost(e.to_string());
    let (tx, rx) = mpsc::channel(OUT);
    if tx.try_send(hello).is_err() {
        return Err(End::Lost("session closed at once".into()));
    }
    let mut stream = inner.config.uplink.session(&addr, rx, SILENCE).await.map_err(lost)?;
    match next(&mut stream).await? {
        ManagerMessage::Welcome { heartbeat } => Ok(Open { addr, heartbeat, tx, stream }),
        ManagerMessage::Redirect { leader } => {
            // Perhaps a manager that this agent does not know yet.
            if let Some(l) = leader {
                inner.add_manager(l);
            }
            Err(End::Lost(format!("{addr} does not hear the leader")))
        }
        ManagerMessage::Removed => {
            inner.tell(AgentEvent::Removed);
            Err(End::Stop)
        }
        _ => Err(End::Lost(format!("{addr} does not take the session"))),
    }
}

async fn session(inner: &Arc<Inner>, worker: &mut Worker, taken: Open) -> End {
    let Open { addr, heartbeat, tx, mut stream } = taken;
    let heartbeat = if heartbeat.is_zero() { HEARTBEAT } else { heartbeat };
    let mut described = inner.description().await;
    let mut again = inner.again.subscribe();
    again.mark_unchanged();
    let mut goodbye = inner.goodbye.subscribe();
    let mut heard = Instant::now();
    let mut returning = FuturesUnordered::new();
    let until_back = || RETURN.mul_f64(0.5 + inner.config.clock.fraction());
    // What waits for long is made once: to queue up again for each of its messages would be most of a session's work.
    let mut silence = std::pin::pin!(tokio::time::sleep(SILENCE));
    let mut beat = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
    let mut back = std::pin::pin!(tokio::time::sleep(until_back()));
    let (mut again, mut goodbye) = (std::pin::pin!(again.changed()), std::pin::pin!(raised(&mut goodbye)));
    let mut describe = std::pin::pin!(look_again(inner.describe.subscribe(), Instant::now() + DESCRIBE));
    let mut under_way: Option<(u64, Vec<StatusReport>)> = None;
    let mut number = 0u64;
    let (reporter, plane) = (worker.reporter.clone(), worker.plane.clone());
    let mut news = std::pin::pin!(reporter.news.notified());
    let (mut wanted, mut follows) = (std::pin::pin!(inner.attachments.next()), std::pin::pin!(plane.answer()));
    // What was not acknowledged in an earlier session.
    reporter.news.notify_one();
    loop {
        tokio::select! {
            biased;
            _ = again.as_mut() => return End::Again,
            m = next(&mut stream) => {
                heard = Instant::now();
                match m {
                    Err(end) => return end,
                    Ok(ManagerMessage::Acknowledged { batch }) => {
                        if let Some((_, sent)) = under_way.take_if(|(n, _)| *n == batch) {
                            reporter.acknowledged(&sent);
                            sent.iter().filter(|r| takes_none(&r.status)).for_each(|r| worker.plane.forget(r.task));
                        }
                    }
                    Ok(m) => {
                        if let Some(end) = take(inner, worker, m).await {
                            return end;
                        }
                    }
                }
            }
            () = silence.as_mut() => {
                if heard.elapsed() >= SILENCE {
                    return End::Lost(format!("{addr} is silent"));
                }
                silence.as_mut().reset(heard + SILENCE);
            }
            () = beat.as_mut() => {
                let pause = heartbeat.mul_f64(1.0 - JITTER + 2.0 * JITTER * inner.config.clock.fraction());
                beat.as_mut().reset(Instant::now() + pause);
                if tx.try_send(AgentMessage::Heartbeat).is_err() {
                    return End::Lost(format!("{addr} takes no more messages"));
                }
            }
            asked = describe.as_mut() => {
                describe.set(look_again(asked, Instant::now() + DESCRIBE));
                let now = inner.description().await;
                if now != described {
                    described = now.clone();
                    if tx.try_send(AgentMessage::Description(now)).is_err() {
                        return End::Lost(format!("{addr} takes no more messages"));
                    }
                }
            }
            () = news.as_mut(), if under_way.is_none() => {
                news.set(reporter.news.notified());
                let batch = reporter.batch();
                if !batch.is_empty() {
                    number += 1;
                    under_way = Some((number, batch.clone()));
                    if tx.try_send(AgentMessage::Statuses { batch: number, reports: batch }).is_err() {
                        return End::Lost(format!("{addr} takes no more messages"));
                    }
                }
            }
            list = wanted.as_mut() => {
                wanted.set(inner.attachments.next());
                if tx.try_send(AgentMessage::Attach(list)).is_err() {
                    return End::Lost(format!("{addr} takes no more messages"));
                }
            }
            index = follows.as_mut() => {
                follows.set(plane.answer());
                if tx.try_send(AgentMessage::Followed { index }).is_err() {
                    return End::Lost(format!("{addr} takes no more messages"));
                }
            }
            Some(answer) = returning.next(), if !returning.is_empty() => {
                if let Ok(Ok(open)) = answer {
                    return End::Moved(Box::new(open));
                }
            }
            () = back.as_mut() => {
                back.as_mut().reset(Instant::now() + until_back());
                let order = choice::order(inner.config.node, inner.managers());
                if let Some((_, choice)) = order.into_iter().next().filter(|(_, a)| *a != addr) {
                    let hello = hello(inner, worker).await;
                    // Beside this session: its host may have no power, and this one has to go on meanwhile.
                    returning.push(tokio::time::timeout(ROUND, open(inner, choice, hello)));
                }
            }
            () = goodbye.as_mut() => {
                // Best effort: a leader that does not hear it notices the silence.
                let _ = tx.send(AgentMessage::Goodbye).await;
                let _ = tokio::time::timeout(SILENCE, async { while next(&mut stream).await.is_ok() {} }).await;
                return End::Stop;
            }
        }
    }
}

/// Waits until the host is to be looked at again: somebody asks for it, or it is time.
async fn look_again(mut asked: watch::Receiver<u64>, at: Instant) -> watch::Receiver<u64> {
    // The sender lives as long as the agent.
    let _ = tokio::time::timeout_at(at, asked.changed()).await;
    asked
}

/// Waits until a flag is up; one whose owner is gone counts as up.
async fn raised(flag: &mut watch::Receiver<bool>) {
    let _ = flag.wait_for(|f| *f).await;
}

async fn next(stream: &mut SessionStream) -> Result<ManagerMessage, End> {
    match stream.next().await {
        Some(Ok(m)) => Ok(m),
        None => Err(End::Lost("the manager ended the session".into())),
        Some(Err(e)) => Err(End::Lost(e.to_string())),
    }
}

async fn take(inner: &Arc<Inner>, worker: &mut Worker, m: ManagerMessage) -> Option<End> {
    match m {
        ManagerMessage::Redirect { .. } => return Some(End::Lost("the manager no longer hears the leader".into())),
        ManagerMessage::Managers(m) => inner.set_managers(m),
        ManagerMessage::Complete { assignments } => {
            worker.compare(&assignments);
            worker.complete(assignments).await;
        }
        ManagerMessage::Changes { put, remove } => {
            worker.compare(&put);
            worker.remove(&remove);
            worker.put(put);
        }
        ManagerMessage::File(f) => worker.stored.put(f),
        ManagerMessage::ForgetFiles(ids) => worker.stored.forget(&ids),
        ManagerMessage::FileRefused { task, file, why } => worker.stored.refuse(task, file, why),
        ManagerMessage::Logs(ask) => logs::serve(inner, *ask),
        ManagerMessage::Tunnel(ask) => tunnel::serve(inner, *ask),
        ManagerMessage::DataPlane(p) => {
            worker.plane.set(*p);
            worker.plane.attached(&inner.attachments);
        }
        ManagerMessage::Attached(answer) => inner.attachments.answered(answer),
        ManagerMessage::Follow { index } => worker.plane.ask(index),
        ManagerMessage::Drained { index } => worker.plane.drained(index),
        ManagerMessage::RoleChanged { role } => inner.tell(AgentEvent::RoleChanged(role)),
        ManagerMessage::Removed => {
            inner.tell(AgentEvent::Removed);
            return Some(End::Stop);
        }
        ManagerMessage::Roots { pem } => inner.tell(AgentEvent::Roots(pem)),
        ManagerMessage::RenewCertificate => inner.tell(AgentEvent::Renew),
        ManagerMessage::Welcome { .. } | ManagerMessage::Acknowledged { .. } | ManagerMessage::Heartbeat => {}
    }
    None
}

/// Managers by address, each once.
pub(crate) fn distinct(mut all: Vec<(NodeId, String)>) -> Vec<(NodeId, String)> {
    all.sort();
    all.dedup_by(|a, b| a.1 == b.1);
    all
}
