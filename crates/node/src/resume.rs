//! Taking up a swarm after a restart, with what is on the disk; and coming back with a certificate that has expired. Must never
//! start anything with keys that are sealed or have expired.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use skep_pki::{JoinToken, UnlockKey};
use skep_types::control::{CertificateRequest, ControlError, LocalState};
use skep_types::spec::Role;
use skep_wire::Tls;

use crate::error::{EXPIRED, LOCKED, internal, invalid, locked, not_in_swarm};
use crate::files::Disk;
use crate::join::certificate;
use crate::keys::{Keys, OpenError};
use crate::node::Shared;
use crate::running::{EarPart, ManagerPart, Running, start_agent};
use crate::{lock, role, watch};

/// A host whose clock was wrong at its start is looked at again so often.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Why a swarm was not taken up.
pub(crate) enum Obstacle {
    /// The keys are sealed.
    Locked,
    /// They are sealed with another key than the one that was given.
    WrongKey,
    /// The certificate has expired by this host's clock.
    Expired,
    /// Something else.
    Failed(ControlError),
}

impl From<ControlError> for Obstacle {
    fn from(e: ControlError) -> Self {
        Self::Failed(e)
    }
}

/// Starts what `disk` says, or shows why it cannot.
pub(crate) async fn take_up(shared: &Arc<Shared>, disk: Disk) {
    let Err(obstacle) = resume(shared, disk.clone(), None).await else { return };
    show(shared, &disk, obstacle);
}

fn show(shared: &Arc<Shared>, disk: &Disk, obstacle: Obstacle) {
    let (state, error, expired) = match obstacle {
        Obstacle::Locked | Obstacle::WrongKey => (LocalState::Locked, LOCKED.to_owned(), false),
        Obstacle::Expired => {
            come_back_later(shared);
            (LocalState::Error, format!("{EXPIRED} Or keep this node: skep swarm renew --token TOKEN"), true)
        }
        Obstacle::Failed(e) => (LocalState::Error, e.message, false),
    };
    match state {
        LocalState::Locked => tracing::warn!(%error, "swarm: this manager waits for its unlock key"),
        _ => tracing::error!(%error, "swarm: cannot take up where it was"),
    }
    shared.set_view(|v| {
        v.state = state;
        v.node = Some(disk.node);
        v.role = disk.role;
        v.addr = disk.advertise.rsplit_once(':').map_or(String::new(), |(host, _)| host.to_owned());
        v.error = error;
        v.expired = expired;
    });
}

/// Tries again while the certificate seems to have expired: the clock may have been wrong.
fn come_back_later(shared: &Arc<Shared>) {
    let shared: Weak<Shared> = Arc::downgrade(shared);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            let Some(s) = shared.upgrade().filter(|s| s.view().expired) else { return };
            let Ok(Some(disk)) = s.files.load() else { return };
            match resume(&s, disk.clone(), None).await {
                Ok(()) => return,
                Err(Obstacle::Expired) => {}
                Err(other) => return show(&s, &disk, other),
            }
        }
    });
}

/// Whether a certificate chain (PEM) has expired.
pub(crate) fn has_expired(chain: &str) -> bool {
    let until = skep_pki::certificates(chain).and_then(|c| skep_pki::validity(&c[0]));
    until.is_ok_and(|(_, until)| until < SystemTime::now())
}

/// Starts what `disk` says.
pub(crate) async fn resume(shared: &Arc<Shared>, disk: Disk, kek: Option<&UnlockKey>) -> Result<(), Obstacle> {
    let mut slot = shared.running.lock().await;
    if slot.is_some() {
        return Ok(());
    }
    let keys = Keys::open(&shared.files, kek).map_err(|e| match e {
        OpenError::Locked => Obstacle::Locked,
        OpenError::WrongKey => Obstacle::WrongKey,
        OpenError::Failed(e) => Obstacle::Failed(e),
    })?;
    if has_expired(keys.chain()) {
        return Err(Obstacle::Expired);
    }
    let tls = Tls::new(&keys.credentials()).map_err(|e| internal("read certificates", e))?;
    // A crash between the certificate and the state may leave them with different roles; the certificate is what counts.
    let disk = Disk { role: tls.identity().role, ..disk };
    let manager = match disk.role {
        Role::Manager => Some(ManagerPart::start(shared, &disk, &keys, &tls).await?),
        Role::Worker => None,
    };
    let (agent, events) = start_agent(&shared.files, &disk, &tls, &shared.executor).await?;
    if let Some(m) = &manager {
        lock::follow(shared, &m.manager);
        role::watch_removal(shared, &m.manager);
        if disk.raft_joined {
            role::tell_address(&m.manager);
        } else {
            role::join_later(shared, m.manager.clone());
        }
    }
    let _ear = EarPart::open(&agent, &tls);
    let running = Running { disk, keys, tls, agent, manager, _ear };
    shared.show(&running, "");
    *slot = Some(running);
    watch::agent(shared, events);
    Ok(())
}

/// A new certificate for this host, whose own has expired. The key stays: that it has it is what it shows to the managers.
pub(crate) async fn renew_expired(shared: &Arc<Shared>, token: &str, remote: &str) -> Result<(), ControlError> {
    if shared.view().state == LocalState::Locked {
        return Err(locked());
    }
    let mut slot = shared.running.lock().await;
    let disk = shared.files.load().map_err(|e| internal("read swarm state", e))?.ok_or_else(not_in_swarm)?;
    let keys = match slot.as_ref() {
        Some(r) => r.keys.clone(),
        None => Keys::open(&shared.files, None).map_err(|e| match e {
            OpenError::Failed(e) => e,
            OpenError::Locked | OpenError::WrongKey => locked(),
        })?,
    };
    let remotes: Vec<String> = match remote {
        "" => disk.managers.iter().map(|(_, a)| a.clone()).filter(|a| *a != disk.advertise).collect(),
        one => vec![one.to_owned()],
    };
    if remotes.is_empty() {
        return Err(invalid("no other manager is known here: name one, HOST:PORT"));
    }
    let parsed = JoinToken::parse(token).map_err(invalid)?;
    let request = CertificateRequest {
        csr: skep_pki::key_request(keys.key()).map_err(|e| internal("make signing request", e))?,
        token: token.trim().to_owned(),
        availability: disk.availability,
        expired: keys.chain().to_owned(),
    };
    let (root, cert) = certificate(&remotes, &parsed, &request).await?;
    if cert.node != disk.node {
        return Err(internal(
            "renew certificate",
            format!("the managers know nothing of it and made a new node {}", cert.node),
        ));
    }
    let keys = keys.with_root(root).renewed(&cert, keys.key().to_owned())?;
    keys.save(&shared.files)?;
    if let Some(r) = slot.as_mut() {
        r.tls.replace(&keys.credentials()).map_err(|e| internal("use certificate", e))?;
        r.keys = keys;
        r.agent.reconnect();
        shared.show(r, "");
        return Ok(());
    }
    drop(slot);
    match resume(shared, disk.clone(), None).await {
        Ok(()) => Ok(()),
        Err(obstacle) => {
            show(shared, &disk, obstacle);
            Err(internal("start with the new certificate", shared.view().error))
        }
    }
}
