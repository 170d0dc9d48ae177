//! Nodes that are gone: what they were given is orphaned when the node is deleted, or was down for a day
//! (`swarm-semantics` 4.6); what they hold for containers that are no tasks is released then. Replacing the tasks is the orchestrators' work. Must never touch a node that is alive.

use std::time::Duration;

use skep_state::{Key, Op};
use skep_types::NodeId;
use skep_types::object::{NodeState, TaskState};

use crate::Due;
use crate::draft::Draft;

/// A node that is down this long will not come back with its tasks.
const ORPHAN_AFTER: Duration = Duration::from_secs(24 * 3600);

pub(crate) fn run(d: &mut Draft<'_>, nodes: &[NodeId]) {
    let now = d.now;
    for id in nodes.iter().copied() {
        let err = match d.work.node(id) {
            None => "Task belonged to a node that has been deleted",
            Some(n) if n.state == NodeState::Down => {
                let due = n.meta.updated_at.after(ORPHAN_AFTER);
                if now < due {
                    let holds = !n.attached.held.is_empty();
                    if holds || d.work.tasks_of_node(id).any(|t| !t.status.state.is_terminal()) {
                        d.wake_for(due, Due::Node(id));
                    }
                    continue;
                }
                "Task belonged to a node that was down for too long"
            }
            Some(_) => continue,
        };
        let live: Vec<_> = d.work.tasks_of_node(id).filter(|t| t.status.state < TaskState::Complete).map(|t| t.id).collect();
        for t in live {
            if d.is_full() {
                d.rest.nodes.insert(id);
                return;
            }
            d.edit(t, |t| {
                t.status.state = TaskState::Orphaned;
                t.status.err = Some(err.into());
                t.status.timestamp = now;
            });
        }
        // Last: it counts from the node's last write.
        if let Some(n) = d.work.node(id).filter(|n| !n.attached.held.is_empty()).cloned() {
            let mut n = (*n).clone();
            n.attached.held.clear();
            d.put(Key::Node(id), &Op::PutNode(Box::new(n)));
        }
    }
}
