//! Who leads, and which managers can be reached, told as events of their nodes (`swarm-semantics` 2.5). Neither is in the tables:
//! each manager tells of the leader that it follows, and the leader alone knows whom it reaches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use skep_types::NodeId;
use skep_types::container::Event;
use tokio::sync::broadcast;
use tokio::time::Instant;

use crate::events::{Standing, stands};
use crate::shared::Shared;

/// How often the leader looks whom it reaches; nobody tells when a manager falls silent.
const LOOK: Duration = Duration::from_secs(1);

/// Tells whoever listens until the manager stops.
pub(crate) async fn run(s: Arc<Shared>, out: broadcast::Sender<Event>) {
    let (mut leadership, mut stop) = (s.raft.leadership(), s.stop.subscribe());
    let mut known: BTreeMap<NodeId, Standing> = BTreeMap::new();
    loop {
        let members = s.raft.metrics().members;
        // Between two leaders nobody knows how anybody stands.
        if members.iter().any(|m| m.leader) {
            let standing =
                |m: &skep_raft::Member| (m.peer.node_id.parse().ok(), Standing { leader: m.leader, reachable: m.reachable });
            let now = members.iter().map(standing).filter_map(|(id, s)| Some((id?, s))).collect();
            let before = std::mem::replace(&mut known, now);
            let (store, time) = (s.store(), s.clock.now());
            for (id, new) in &known {
                let old = before.get(id).filter(|old| *old != new);
                if let Some((old, node)) = old.zip(store.node(*id)) {
                    // Nobody needs to listen.
                    let _ = out.send(stands(node, *old, *new, time));
                }
            }
        }
        tokio::select! {
            biased;
            _ = stop.wait_for(|s| *s) => return,
            r = leadership.changed() => {
                if r.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep_until(Instant::now() + LOOK) => {}
        }
    }
}
