//! A node's record when its session begins, on the leader: what it tells of itself, and that it is ready. Must never bring a
//! removed node back.

use skep_types::object::NodeState;
use skep_wire::{ControlAnswer, Registration};

use crate::error::no_leader;
use crate::shared::Shared;

pub(crate) async fn register(s: &Shared, r: &Registration) -> ControlAnswer {
    // What the answer says must hold for whatever any manager has told this agent before.
    if s.raft.read_barrier().await.is_err() {
        return ControlAnswer::Error(no_leader(s.quorum()));
    }
    if s.store().node(r.node).is_none() {
        // The tables of a leader are complete: such a node was removed.
        return ControlAnswer::Removed;
    }
    s.heard.note(r.node);
    let written = s
        .edit_node(r.node, |n| {
            n.description.clone_from(&r.description);
            n.addr = r.addr.or(n.addr);
            n.state = NodeState::Ready;
            n.message.clear();
        })
        .await;
    match written {
        Ok(()) => s.noted(),
        Err(e) => ControlAnswer::Error(e.into_control()),
    }
}
