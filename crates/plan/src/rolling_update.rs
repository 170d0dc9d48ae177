//! Rolling updates and rollbacks (`swarm-semantics` 4.5). Everything is read from the tables: which tasks run an old revision,
//! which ones this update made, and when they ran. One step costs what is in flight, not what there is. Must never replace more
//! places at once than the parallelism allows.
//!
//! Where rules conflict: a failure is judged before anything else is started; a place that does not serve is updated before one
//! that does, so that an update of a running update takes down nothing more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use skep_state::Store;
use skep_types::object::{Service, SlotKey, Task, TaskState, UpdateState, UpdateStatus};
use skep_types::spec::{TaskSpec, UpdateConfig, UpdateOrder};
use skep_types::{ServiceId, Time, options};

use crate::constraint::{Constraint, fits_all};
use crate::create::{Place, create};
use crate::draft::Draft;
use crate::slot::{Slot, has_had_its_turn, slot, slots};
use crate::{reaper, restart};

mod verdict;

/// Tasks that do not run yet come after all times.
pub(crate) const NOT_YET: Time = Time(i64::MAX);
const EVER: Time = Time(i64::MIN);

/// Takes an update further by one step. `whole`: a new spec, or a look from time to time, which finds more than the tasks of
/// revisions before.
pub(crate) fn run(d: &mut Draft<'_>, id: ServiceId, whole: bool) {
    let Some(service) = d.work.service(id).cloned() else { return };
    let state = service.update_status.as_ref().map(|u| u.state);
    if service.spec.mode.is_job() {
        return;
    }
    if matches!(state, Some(UpdateState::Paused | UpdateState::RollbackPaused)) {
        leave_one(d, &service);
        return;
    }
    let rollback = state == Some(UpdateState::RollbackStarted);
    let running = rollback || state == Some(UpdateState::Updating);
    if !running {
        let found =
            Old::of(&d.work, &service, whole).all(&d.work).next().is_some() || (whole && !ended(d, &service).is_empty());
        if found {
            start(d, &service);
            run(d, id, whole);
        }
        return;
    }
    let Some(status) = service.update_status.as_ref() else { return };
    if status.slots == 0 {
        // A rollback that an operator asked for.
        let mut s = (*service).clone();
        if let Some(u) = s.update_status.as_mut() {
            u.slots = count(d, &service, rollback);
        }
        d.put_service(s);
        run(d, id, whole);
        return;
    }
    let config = if rollback { &service.spec.rollback } else { &service.spec.update };
    let u = Update {
        since: status.started_at,
        slots: status.slots,
        config: config.clone().unwrap_or_default(),
        deadline: options::deadline(&service.spec.labels),
        rollback,
    };
    u.adopt(d, &service);
    u.give_time(d, &service);
    if u.judge(d, &service) {
        return;
    }
    u.step(d, &service);
}

/// The tasks of a service that an update must replace, those first that do not run.
struct Old {
    service: ServiceId,
    current: u64,
    revisions: Vec<(u64, Option<Vec<Constraint>>)>,
}

impl Old {
    /// `whole`: also look for tasks that differ in their placement only, on nodes that the new placement forbids.
    fn of(store: &Store, s: &Service, whole: bool) -> Self {
        let current = store.revision(s.id, s.revision);
        let others = store.revisions(s.id).filter(|(r, _)| *r != s.revision);
        let revisions = others
            .map(|(r, spec)| {
                let same = current.is_some_and(|c| differ_in_constraints_only(spec, c));
                let constraints = &s.spec.task.placement.constraints;
                (r, same.then(|| constraints.iter().filter_map(|c| Constraint::parse(c).ok()).collect()))
            })
            .filter(|(_, same): &(u64, Option<Vec<Constraint>>)| whole || same.is_none())
            .collect();
        Self { service: s.id, current: s.revision, revisions }
    }

    fn all<'a>(&'a self, store: &'a Store) -> impl Iterator<Item = &'a Arc<Task>> {
        let spans = [NOT_YET..=NOT_YET, EVER..=Time(i64::MAX - 1)];
        spans.into_iter().flat_map(move |span| {
            self.revisions.iter().flat_map(move |(r, same)| {
                store.wanted(self.service, *r, span.clone()).filter(move |t| {
                    let node = || t.node.and_then(|n| store.node(n));
                    // What belongs to a node that takes no tasks now is replaced when it does again, unless it is replaced already.
                    let replaced = || runs_anew(store, self.service, self.current, t.slot_key());
                    let possible = !t.pinned || node().is_some_and(|n| n.takes_tasks()) || replaced();
                    let fits = |all: &Vec<Constraint>| node().is_some_and(|n| all.iter().all(|c| c.fits(n)));
                    possible && !same.as_ref().is_some_and(fits)
                })
            })
        })
    }
}

/// Whether a task of the current revision runs in a place.
fn runs_anew(store: &Store, service: ServiceId, current: u64, key: SlotKey) -> bool {
    store.tasks_of_slot(service, key).any(|t| t.is_wanted() && t.revision == current && t.status.state == TaskState::Running)
}

/// An update that is paused begins nothing more, but in a place that it has begun with start-first only the new task stays.
fn leave_one(d: &mut Draft<'_>, s: &Service) {
    let old = Old::of(&d.work, s, true);
    let is_surplus = |t: &&Arc<Task>| runs_anew(&d.work, s.id, s.revision, t.slot_key());
    let surplus: Vec<_> = old.all(&d.work).filter(is_surplus).map(|t| t.id).collect();
    for t in surplus {
        d.edit(t, |t| t.desired = TaskState::Shutdown);
    }
}

/// Of several tasks that run in a place, all of revisions gone by, only that of the newest stays: one update had begun the place
/// with start-first, and the next one stands still before it comes there, or passes over a node that takes no tasks. Returns
/// whether others were asked to stop.
pub(crate) fn leave_newest(d: &mut Draft<'_>, s: &Service, key: SlotKey) -> bool {
    let left = slot(&d.work, s.id, key).left_over(s.revision);
    for t in &left {
        d.edit(t.id, |t| t.desired = TaskState::Shutdown);
    }
    !left.is_empty()
}

/// Such a change does not replace tasks whose nodes satisfy it.
fn differ_in_constraints_only(a: &TaskSpec, b: &TaskSpec) -> bool {
    let strip = |t: &TaskSpec| {
        let mut t = t.clone();
        t.placement.constraints.clear();
        t.registry_auth = None;
        t
    };
    a.placement.constraints != b.placement.constraints && strip(a) == strip(b)
}

/// Whether a task of a revision before the current one is left as it is: only constraints differ, and its node satisfies them.
#[must_use]
pub fn is_left_alone(store: &Store, t: &Task) -> bool {
    let Some(s) = store.service(t.service).filter(|s| t.is_wanted() && s.revision != t.revision) else { return false };
    let Some((old, new)) = store.revision(s.id, t.revision).zip(store.revision(s.id, s.revision)) else { return false };
    let Some(node) = t.node.and_then(|n| store.node(n)) else { return false };
    differ_in_constraints_only(old, new) && fits_all(&new.placement.constraints, node)
}

/// Places where nothing is wanted and what ended is of another revision.
fn ended(d: &Draft<'_>, service: &Service) -> Vec<(SlotKey, Slot)> {
    let mut others = d.work.revisions(service.id).map(|(r, _)| r).filter(|r| *r != service.revision);
    if !others.any(|r| d.work.ended(service.id, r).next().is_some()) {
        return vec![];
    }
    slots(&d.work, service.id).into_iter().filter(|(_, s)| is_ended(service, s)).collect()
}

/// Whether nothing is wanted in a place and what ended there is of another revision. Not if one of this revision was there already
/// and was asked to stop: by the clock of another leader it may be older than what was there before it.
pub(crate) fn is_ended(service: &Service, s: &Slot) -> bool {
    let anew = s.tasks.iter().any(|t| t.revision == service.revision);
    !anew && s.wanted().next().is_none() && s.newest().is_some_and(|t| has_had_its_turn(t))
}

/// How many places are to be replaced.
fn count(d: &Draft<'_>, service: &Service, rollback: bool) -> u64 {
    let old: BTreeSet<SlotKey> = Old::of(&d.work, service, true).all(&d.work).map(|t| t.slot_key()).collect();
    let ended = if rollback { 0 } else { ended(d, service).len() };
    ((old.len() + ended) as u64).max(1)
}

fn start(d: &mut Draft<'_>, service: &Service) {
    let mut s = service.clone();
    s.update_status = Some(UpdateStatus {
        state: UpdateState::Updating,
        started_at: d.now,
        completed_at: None,
        message: "update in progress".into(),
        slots: count(d, service, false),
    });
    d.put_service(s);
}

/// At most so many places in which there is something to do: an old task, and whether a new one serves there. And whether there
/// are other places. Where a new task is on its way beside the old one there is nothing to do, and one that finds no node may be
/// so for long: such places do not keep the others from their turn.
fn open(d: &Draft<'_>, s: &Service, old: &Old, most: usize) -> (BTreeMap<SlotKey, (Arc<Task>, bool)>, bool) {
    let stays = |t: &Arc<Task>| !t.status.state.is_terminal() || restart::waits_until(d, s, t).is_some();
    let (mut some, mut left) = (BTreeMap::new(), false);
    for t in old.all(&d.work) {
        let key = t.slot_key();
        let renewed = d.work.tasks_of_slot(s.id, key).filter(|t| t.is_wanted() && t.revision == s.revision && stays(t));
        let best = renewed.map(|t| t.status.state == TaskState::Running).max();
        if best == Some(false) {
            left = true;
        } else if some.len() < most {
            some.insert(key, (t.clone(), best.is_some()));
        } else {
            return (some, true);
        }
    }
    (some, left)
}

/// An update that is under way.
struct Update {
    since: Time,
    slots: u64,
    config: UpdateConfig,
    /// How long it may go without progress.
    deadline: Option<Duration>,
    rollback: bool,
}

impl Update {
    fn made(&self, t: &Task) -> bool {
        t.update == Some(self.since)
    }

    /// Tasks made by this update that are meant to live and do not run yet.
    fn unsettled(&self, d: &Draft<'_>, s: &Service) -> Vec<Arc<Task>> {
        let all = d.work.wanted(s.id, s.revision, NOT_YET..=NOT_YET);
        all.filter(|t| self.made(t) && !t.status.state.is_terminal()).cloned().collect()
    }

    /// Those of them that may still come to run.
    fn under_way(&self, d: &mut Draft<'_>, s: &Service) -> Vec<Arc<Task>> {
        let mut all = self.unsettled(d, s);
        all.retain(|t| !self.has_failed(d, s, t));
        all
    }

    /// Tasks made by this update that run since `from`, or ended.
    fn settled(&self, d: &Draft<'_>, s: &Service, from: Time) -> Vec<Arc<Task>> {
        let runs = d.work.wanted(s.id, s.revision, from..=Time(i64::MAX - 1)).filter(|t| !t.status.state.is_terminal());
        runs.chain(d.work.ended(s.id, s.revision)).filter(|t| self.made(t)).cloned().collect()
    }

    /// When a task settled: it runs, or it ended.
    fn settled_at(t: &Task) -> Time {
        t.running_since.unwrap_or(t.status.timestamp)
    }

    /// Takes over what an update before this one has begun with start-first and left: it is under way in its place, and judged as
    /// if it were made now.
    fn adopt(&self, d: &mut Draft<'_>, s: &Service) {
        let is_old = |t: &Arc<Task>| t.is_wanted() && t.revision != s.revision;
        let not_yet = d.work.wanted(s.id, s.revision, NOT_YET..=NOT_YET);
        let left = not_yet.filter(|t| !self.made(t) && !t.takes_over && !t.status.state.is_terminal());
        let left = left.filter(|t| d.work.tasks_of_slot(s.id, t.slot_key()).any(is_old));
        for id in left.map(|t| t.id).collect::<Vec<_>>() {
            let now = d.now;
            d.edit(id, |t| {
                t.update = Some(self.since);
                if t.desired != TaskState::Ready {
                    t.not_before = Some(now);
                }
            });
        }
    }

    /// Retires what is replaced, and replaces what may be replaced now.
    fn step(&self, d: &mut Draft<'_>, s: &Service) {
        let old = Old::of(&d.work, s, true);
        let mut in_flight = self.in_flight(d, s);
        let limit = match usize::try_from(self.config.parallelism) {
            Ok(0) | Err(_) => usize::MAX,
            Ok(n) => n,
        };
        // Those that are under way already come on top of those that may be begun.
        let most = limit.saturating_add(in_flight).saturating_add(1);
        let (some, mut left) = open(d, s, &old, most);
        for (key, (t, serves)) in some {
            if serves {
                // With start-first the old task goes as soon as the new one runs.
                self.retire(d, s, key, false);
                continue;
            }
            left = true;
            if in_flight >= limit {
                continue;
            }
            if d.is_full() {
                d.rest.slots.insert((s.id, key));
                return;
            }
            in_flight += 1;
            match self.config.order {
                UpdateOrder::StartFirst => {
                    self.retire(d, s, key, true);
                    let again = self.again_at(d, s, key);
                    self.create(d, s, Place::of(&t), if again.is_some() { TaskState::Ready } else { s.goal() }, again);
                    restart::release(d, s, key);
                }
                UpdateOrder::StopFirst => {
                    self.create(d, s, Place::of(&t), TaskState::Ready, None);
                    self.retire(d, s, key, false);
                    restart::release(d, s, key);
                }
            }
        }
        if left || !self.under_way(d, s).is_empty() {
            return;
        }
        // A rollback leaves alone what ended, so that it always comes to an end.
        let ended = if self.rollback { vec![] } else { ended(d, s) };
        if ended.is_empty() {
            self.finish(d, s);
            return;
        }
        for (key, _) in ended {
            if in_flight >= limit || d.is_full() {
                break;
            }
            in_flight += 1;
            self.create(d, s, Place::at(s, key), s.goal(), None);
        }
    }

    /// When this update may try a place again whose new task has ended, while the old one serves: after the delay of a restart.
    fn again_at(&self, d: &Draft<'_>, s: &Service, key: SlotKey) -> Option<Time> {
        let failed = d.work.tasks_of_slot(s.id, key).filter(|t| self.made(t) && has_had_its_turn(t));
        let last = failed.max_by_key(|t| t.status.timestamp)?;
        Some(last.status.timestamp.after(restart::policy(d, s, last).delay)).filter(|due| *due > d.now)
    }

    fn create(&self, d: &mut Draft<'_>, s: &Service, place: Place, desired: TaskState, not_before: Option<Time>) {
        if let Some(id) = create(d, s, place, desired, not_before) {
            d.edit(id, |t| t.update = Some(self.since));
            if let (Some(t), Some(deadline)) = (d.work.task(id), self.deadline) {
                let key = t.slot_key();
                d.wake(d.now.after(deadline), s.id, key);
            }
            // One more in the place may be one too many for its history.
            if let Some(key) = d.work.task(id).map(|t| t.slot_key()) {
                reaper::run(d, s.id, key);
            }
        }
    }

    /// Asks the tasks of other revisions in a place to stop; if it shall go on to serve, all but one that runs.
    fn retire(&self, d: &mut Draft<'_>, s: &Service, key: SlotKey, serve: bool) {
        let is_old = |t: &&Arc<Task>| t.is_wanted() && t.revision != s.revision;
        let mut all: Vec<Arc<Task>> = d.work.tasks_of_slot(s.id, key).filter(is_old).cloned().collect();
        all.sort_by_key(|t| (t.status.state != TaskState::Running, t.meta.created_at));
        let kept = usize::from(serve && all.first().is_some_and(|t| t.status.state == TaskState::Running));
        for t in all.split_off(kept).into_iter().map(|t| t.id) {
            d.edit(t, |t| t.desired = TaskState::Shutdown);
        }
    }

    /// Whether a task is the first in a place that the same new spec has added. Until such places serve, they are counted with
    /// those that are replaced: with three replicas made six, and three at a time, the old ones serve until the new ones do.
    fn is_added(&self, store: &Store, t: &Task) -> bool {
        !self.made(t) && t.meta.created_at >= self.since && store.tasks_of_slot(t.service, t.slot_key()).nth(1).is_none()
    }

    /// How many places are under way: their new task does not run yet, or the delay after it is not over.
    fn in_flight(&self, d: &mut Draft<'_>, s: &Service) -> usize {
        let mut count = self.under_way(d, s).len();
        let not_yet = d.work.wanted(s.id, s.revision, NOT_YET..=NOT_YET).filter(|t| !t.status.state.is_terminal());
        let added: Vec<Arc<Task>> = not_yet.filter(|t| self.is_added(&d.work, t)).cloned().collect();
        count += added.iter().filter(|t| !self.has_failed(d, s, t)).count();
        let delay = self.config.delay;
        if delay.is_zero() {
            return count;
        }
        let from = Time(d.now.0.saturating_sub(i64::try_from(delay.as_nanos()).unwrap_or(i64::MAX)));
        let runs = d.work.wanted(s.id, s.revision, from..=Time(i64::MAX - 1));
        let added: Vec<Arc<Task>> = runs.filter(|t| self.is_added(&d.work, t)).cloned().collect();
        for t in self.settled(d, s, from).into_iter().chain(added) {
            let due = Self::settled_at(&t).after(delay);
            if d.now < due {
                d.wake(due, s.id, t.slot_key());
                count += 1;
            }
        }
        count
    }

    /// All places are renewed: watch for one more monitor period, then say that it is done.
    fn finish(&self, d: &mut Draft<'_>, s: &Service) {
        let c = &self.config;
        let watch = if c.delay >= c.monitor { c.delay + Duration::from_secs(1) } else { c.monitor };
        let from = Time(d.now.0.saturating_sub(i64::try_from(watch.as_nanos()).unwrap_or(i64::MAX)));
        let last =
            self.settled(d, s, from).into_iter().filter(|t| !t.status.state.is_terminal()).max_by_key(|t| Self::settled_at(t));
        if let Some(t) = last {
            let due = Self::settled_at(&t).after(watch);
            if d.now < due {
                d.wake(due, s.id, t.slot_key());
                return;
            }
        }
        let mut next = s.clone();
        if let Some(u) = next.update_status.as_mut() {
            u.completed_at = Some(d.now);
            (u.state, u.message) = if self.rollback {
                (UpdateState::RollbackCompleted, "rollback completed".into())
            } else {
                (UpdateState::Completed, "update completed".into())
            };
        }
        d.put_service(next);
    }
}

/// The number for the revision of a spec: a known one if the endpoint did not change, else a new one.
pub fn next_revision(store: &skep_state::Store, s: &Service, same_endpoint: bool, known: Option<u64>) -> u64 {
    let highest = store.revisions(s.id).map(|(r, _)| r).max().unwrap_or(0).max(s.revision);
    known.filter(|_| same_endpoint).unwrap_or(highest + 1)
}
