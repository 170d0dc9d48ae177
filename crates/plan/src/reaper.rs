//! Deleting task objects nobody needs (`swarm-semantics` 3.5), and with them what their revisions ran. Must never delete a task
//! that may still run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use skep_types::ServiceId;
use skep_types::object::{Task, TaskState};

use crate::draft::Draft;
use crate::is_wanted;

pub(crate) fn run(d: &mut Draft<'_>, id: ServiceId) {
    let now = d.now;
    let mut by_slot: BTreeMap<u64, Vec<Arc<Task>>> = BTreeMap::new();
    let tasks: Vec<Arc<Task>> = d.work.tasks_of_service(id).cloned().collect();
    for t in tasks {
        let never_ran = t.node.is_none() && !t.status.state.is_terminal();
        if t.desired == TaskState::Remove && (t.status.state.is_terminal() || t.node.is_none()) {
            d.delete_task(t.id);
            continue;
        }
        if never_ran && !is_wanted(&t) {
            // No agent will ever report on it.
            d.edit(t.id, |t| {
                t.status.state = TaskState::Shutdown;
                t.status.message = "shutdown".into();
                t.status.timestamp = now;
            });
        }
        if let Some(t) = d.work.task(t.id) {
            by_slot.entry(t.slot).or_default().push(t.clone());
        }
    }
    trim(d, id, by_slot);
    forget_revisions(d, id);
}

fn trim(d: &mut Draft<'_>, id: ServiceId, by_slot: BTreeMap<u64, Vec<Arc<Task>>>) {
    let limit = d.work.cluster().map_or(5, |c| c.spec.task_history_limit);
    let attempts = d
        .work
        .service(id)
        .and_then(|s| s.spec.task.restart.as_ref().map(|r| r.max_attempts))
        .filter(|m| *m > 0)
        // The history is needed to count the attempts.
        .map(|m| i64::try_from(m).unwrap_or(i64::MAX).saturating_add(1));
    let limit = attempts.unwrap_or(limit);
    let Ok(limit) = usize::try_from(limit) else { return };
    for mut tasks in by_slot.into_values() {
        let Some(mut surplus) = tasks.len().checked_sub(limit).filter(|s| *s > 0) else { continue };
        tasks.sort_by_key(|t| (t.status.timestamp, t.meta.created_at, t.id));
        let last = tasks.iter().max_by_key(|t| (t.meta.created_at, t.id)).map(|t| t.id);
        for t in tasks {
            // The newest one says whether the slot is filled, so it stays even with a limit of 0.
            let droppable = t.status.state.is_terminal() && !is_wanted(&t) && Some(t.id) != last;
            if surplus > 0 && droppable {
                d.delete_task(t.id);
                surplus -= 1;
            }
        }
    }
}

fn forget_revisions(d: &mut Draft<'_>, id: ServiceId) {
    let mut used: BTreeSet<u64> = d.work.tasks_of_service(id).map(|t| t.revision).collect();
    used.extend(d.work.service(id).map(|s| s.revision));
    let unused: Vec<u64> = d.work.revisions(id).map(|(r, _)| r).filter(|r| !used.contains(r)).collect();
    for r in unused {
        d.delete_revision(id, r);
    }
}
