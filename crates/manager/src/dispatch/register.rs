//! A node's record when its session begins, on the leader: what it tells of itself, and that it is ready. Must never bring a
//! removed node back.

use skep_state::{Key, Op, Transaction};
use skep_types::object::NodeState;
use skep_wire::{ControlAnswer, Registration};

use crate::error::{WriteError, no_leader};
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
        .decide(|store| {
            let mut t = Transaction { time: s.clock.now(), ..Transaction::default() };
            if let Some(old) = store.node(r.node) {
                let mut n = (**old).clone();
                n.description = r.description.clone();
                n.addr = r.addr.or(n.addr);
                n.state = NodeState::Ready;
                n.message.clear();
                if n != **old {
                    t.reads.push((Key::Node(r.node), store.version(Key::Node(r.node))));
                    t.ops.push(Op::PutNode(Box::new(n)));
                }
            }
            Ok::<_, WriteError>((t, ()))
        })
        .await;
    match written {
        Ok(()) => s.noted(),
        Err(e) => ControlAnswer::Error(e.into_control()),
    }
}
