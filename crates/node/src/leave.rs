//! Leaving a swarm (`swarm-semantics` 6.3). Must never leave a container of the swarm behind silently.

use std::sync::Arc;
use std::time::Duration;

use skep_types::control::{Code, ControlError, LocalState};
use skep_types::dataplane::DataPlane;
use skep_types::spec::Role;

use crate::error::{internal, locked_leave, not_in_swarm};
use crate::node::{Shared, View};

/// Time that a container gets to stop.
const GRACE: Duration = Duration::from_secs(10);

/// Why a manager should not leave, in the reference's words.
fn refusal(shared: &Shared) -> ControlError {
    let mut text = String::from("You are attempting to leave the swarm on a node that is participating as a manager. ");
    let view = shared.view();
    let members = view.manager.as_ref().map(|m| m.members()).unwrap_or_default();
    let leader = members.iter().any(|m| m.leader);
    if leader {
        let all = members.len();
        let reachable = members.iter().filter(|m| m.reachable).count();
        if all <= 1 {
            text += "Removing the last manager erases all current state of the swarm. Use `--force` to ignore this message. ";
            return ControlError::new(Code::Unavailable, text);
        }
        // The others must still be a majority of all members, this one included.
        if reachable.saturating_sub(1) < all / 2 + 1 {
            text += &format!(
                "Removing this node leaves {} managers out of {all}. Without a Raft quorum your swarm will be inaccessible. ",
                reachable.saturating_sub(1)
            );
        }
    } else {
        text += "Doing so may lose the consensus of your cluster. ";
    }
    text += "The only way to restore a swarm that has lost consensus is to reinitialize it with `--force-new-cluster`. Use `--force` to suppress this message.";
    ControlError::new(Code::Unavailable, text)
}

pub(crate) async fn leave(shared: &Arc<Shared>, force: bool) -> Result<(), ControlError> {
    let mut slot = shared.running.lock().await;
    let view = shared.view();
    if slot.is_none() && view.state == LocalState::Inactive {
        return Err(not_in_swarm());
    }
    if view.state == LocalState::Locked && !force {
        return Err(locked_leave());
    }
    if view.role == Role::Manager && view.manager.is_some() && !force {
        return Err(refusal(shared));
    }
    if let Some(r) = slot.take() {
        r.agent.leave().await;
        shared.set_view(|v| v.manager = None);
        if let Some(m) = r.manager {
            m.stop().await;
        }
    }
    // The state goes first: after a crash in the middle this host is in no swarm.
    shared.files.wipe().map_err(|e| internal("empty swarm directory", e))?;
    shared.set_view(|v| *v = View::default());
    clean_host(shared).await
}

/// Removes all containers of tasks and the swarm's networks; goes on past errors and tells all of them.
pub(crate) async fn clean_host(shared: &Arc<Shared>) -> Result<(), ControlError> {
    let mut stops = tokio::task::JoinSet::new();
    for o in shared.executor.observe().await {
        let executor = shared.executor.clone();
        stops.spawn(async move {
            executor.shutdown(o.task, GRACE).await?;
            executor.remove(o.task).await
        });
    }
    let mut errors = Vec::new();
    while let Some(r) = stops.join_next().await {
        match r {
            Ok(Ok(())) => {}
            Ok(Err(e)) => errors.push(e.to_string()),
            Err(e) => errors.push(e.to_string()),
        }
    }
    if let Err(e) = shared.executor.set_dataplane(DataPlane::default()).await {
        errors.push(e.to_string());
    }
    if errors.is_empty() { Ok(()) } else { Err(internal("clean up after leaving", errors.join("; "))) }
}
