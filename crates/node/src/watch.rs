//! Acting on what the agent hears from the managers, and renewing the certificate in time. Must never leave a renewal that failed
//! without another attempt.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use skep_agent::AgentEvent;
use skep_types::control::{ControlError, LocalState};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::error::EXPIRED;
use crate::node::Shared;
use crate::{leave, resume, role};

/// The certificate's age is looked at this often at least: the clock may be set.
const LOOK: Duration = Duration::from_secs(60);
/// Nothing is looked at more often than this.
const LEAST: Duration = Duration::from_millis(100);

/// When the certificate is to be renewed.
#[derive(Debug, Default)]
struct Renewal {
    /// The managers asked for it.
    asked: bool,
    failures: u32,
    not_before: Option<Instant>,
}

impl Renewal {
    /// How long to wait before the next look.
    fn pause(&self, due: SystemTime) -> Duration {
        let left = due.duration_since(SystemTime::now()).unwrap_or_default();
        let left = if self.asked { Duration::ZERO } else { left };
        let blocked = self.not_before.map(|t| t.saturating_duration_since(Instant::now())).unwrap_or_default();
        left.max(blocked).clamp(LEAST, LOOK)
    }

    fn is_due(&self, due: SystemTime) -> bool {
        (self.asked || due <= SystemTime::now()) && self.not_before.is_none_or(|t| t <= Instant::now())
    }

    fn done(&mut self, result: Result<(), ControlError>) {
        match result {
            Ok(()) => *self = Self::default(),
            Err(e) => {
                self.failures += 1;
                let pause = skep_pki::renew_pause(self.failures);
                self.not_before = Some(Instant::now() + pause);
                tracing::warn!(error = %e, again_in = ?pause, "swarm: cannot renew the certificate yet");
            }
        }
    }
}

/// Acts on the agent's events until that agent is gone.
pub(crate) fn agent(shared: &Arc<Shared>, mut events: mpsc::Receiver<AgentEvent>) {
    let weak = Arc::downgrade(shared);
    tokio::spawn(async move {
        let mut renewal = Renewal::default();
        let mut pause = LEAST;
        loop {
            let event = tokio::select! {
                biased;
                e = events.recv() => match e {
                    Some(e) => Some(e),
                    None => return,
                },
                () = tokio::time::sleep(pause) => None,
            };
            let Some(shared) = weak.upgrade() else { return };
            match event {
                None => {}
                Some(AgentEvent::Renew) => renewal.asked = true,
                Some(e) => take(&shared, e).await,
            }
            let Some(due) = role::due(&shared).await else { return };
            if renewal.is_due(due) {
                renewal.done(role::renew_now(&shared).await);
            }
            let Some(due) = role::due(&shared).await else { return };
            show_expiry(&shared).await;
            pause = renewal.pause(due);
        }
    });
}

/// Says so when the certificate has expired: nothing but an administrator can help then.
async fn show_expiry(shared: &Arc<Shared>) {
    let slot = shared.running.lock().await;
    let Some(r) = slot.as_ref() else { return };
    if resume::has_expired(r.keys.chain()) && !shared.view().expired {
        tracing::error!("swarm: the certificate of this host has expired");
        shared.set_view(|v| {
            v.state = LocalState::Error;
            v.error = format!("{EXPIRED} Or keep this node: skep swarm renew --token TOKEN");
            v.expired = true;
        });
    }
}

async fn take(shared: &Arc<Shared>, event: AgentEvent) {
    match event {
        AgentEvent::RoleChanged(_) => role::change(shared).await,
        AgentEvent::Roots(pem) => {
            if let Err(e) = role::trust(shared, pem).await {
                tracing::error!(error = %e, "swarm: cannot use the new root");
            }
        }
        AgentEvent::Managers(m) => {
            let mut slot = shared.running.lock().await;
            if let Some(r) = slot.as_mut() {
                r.disk.managers.clone_from(&m);
                if let Err(e) = shared.files.save(&r.disk) {
                    tracing::warn!(error = %e, "swarm: cannot write state");
                }
                shared.set_view(|v| v.managers = m);
            }
        }
        AgentEvent::Removed => {
            tracing::warn!("swarm: this node was removed from the swarm");
            shared.set_view(|v| {
                v.state = LocalState::Error;
                v.error = "this node was removed from the swarm; leave it to join another one".into();
            });
            // The managers have given its tasks to others and will not ask for these again.
            if let Err(e) = leave::clean_host(shared).await {
                tracing::warn!(error = %e, "swarm: containers of the swarm were not wholly removed");
            }
        }
        AgentEvent::Renew => {}
    }
}
