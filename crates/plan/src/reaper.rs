//! Deleting task objects nobody needs (`swarm-semantics` 3.5), and with them what their revisions ran. Must never delete a task
//! that may still run.

use std::sync::Arc;

use skep_types::ServiceId;
use skep_types::object::{SlotKey, Task, TaskState};

use crate::draft::Draft;

/// Looks after one place.
pub(crate) fn run(d: &mut Draft<'_>, id: ServiceId, key: SlotKey) {
    let now = d.now;
    let tasks: Vec<Arc<Task>> = d.work.tasks_of_slot(id, key).cloned().collect();
    let mut kept = Vec::new();
    for t in tasks {
        let never_given = t.status.state < TaskState::Assigned;
        if t.desired == TaskState::Remove && (t.status.state.is_terminal() || never_given) {
            d.delete_task(t.id);
            continue;
        }
        if never_given && !t.is_wanted() {
            // No agent will ever report on it.
            d.edit(t.id, |t| {
                t.status.state = TaskState::Shutdown;
                t.status.message = "shutdown".into();
                t.status.timestamp = now;
            });
        }
        kept.extend(d.work.task(t.id).cloned());
    }
    trim(d, id, kept);
}

fn trim(d: &mut Draft<'_>, id: ServiceId, mut tasks: Vec<Arc<Task>>) {
    let service = d.work.service(id).cloned();
    let attempts = service.as_ref().and_then(|s| s.spec.task.restart.as_ref()).map(|r| r.max_attempts).filter(|m| *m > 0);
    // The history is needed to count the attempts.
    let attempts = attempts.map(|m| i64::try_from(m).unwrap_or(i64::MAX).saturating_add(1));
    let limit = attempts.unwrap_or_else(|| d.work.cluster().map_or(5, |c| c.spec.task_history_limit));
    let Ok(limit) = usize::try_from(limit) else { return };
    let Some(mut surplus) = tasks.len().checked_sub(limit).filter(|s| *s > 0) else { return };
    tasks.sort_by_key(|t| (t.status.timestamp, t.meta.created_at, t.id));
    let last = tasks.iter().max_by_key(|t| (t.meta.created_at, t.id)).map(|t| t.id);
    for t in tasks {
        // The newest one says whether the place is filled, so it stays even with a limit of 0.
        let droppable =
            t.status.state.is_terminal() && !t.is_wanted() && Some(t.id) != last && !is_judged_by(service.as_deref(), &t);
        if surplus > 0 && droppable {
            d.delete_task(t.id);
            surplus -= 1;
        }
    }
}

/// Whether an update that is under way still judges by this task whether it fails. There is one in each place at most.
fn is_judged_by(service: Option<&skep_types::object::Service>, t: &Task) -> bool {
    let status = service.and_then(|s| s.update_status.as_ref());
    let under_way = status.filter(|u| u.state.is_under_way());
    under_way.is_some_and(|u| t.update == Some(u.started_at))
}

/// Forgets what no task runs any more.
pub(crate) fn forget_revisions(d: &mut Draft<'_>, id: ServiceId) {
    let current = d.work.service(id).map(|s| s.revision);
    let unused = |r: &u64| Some(*r) != current && !d.work.is_in_use(id, *r);
    let all: Vec<u64> = d.work.revisions(id).map(|(r, _)| r).filter(unused).collect();
    for r in all {
        d.delete_revision(id, r);
    }
}
