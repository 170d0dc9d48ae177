//! Changes of role and renewal of the certificate (`swarm-semantics` 6.3, 6.6). What the managers say counts; the certificate
//! they issue says which role this host has. Must never run a manager with a worker's certificate.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use skep_manager::Manager;
use skep_types::control::{CertificateRequest, ControlError, IssuedCertificate};
use skep_types::spec::Role;
use skep_wire::{Client, Tls};

use crate::error::{internal, unreachable};
use crate::keys::Keys;
use crate::lock;
use crate::node::{Shared, raft_id};
use crate::running::{ManagerPart, Running};

/// Pause before a change of role that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Gets a certificate with the role of now and becomes what it says. Tried again by the next session if it fails.
pub(crate) async fn change(shared: &Arc<Shared>) {
    let mut slot = shared.running.lock().await;
    let Some(r) = slot.as_mut() else { return };
    let result = become_what_is_wanted(shared, r).await;
    if let Err(e) = &result {
        tracing::warn!(error = %e, "swarm: cannot change role yet");
        tokio::time::sleep(RETRY).await;
    }
    shared.show(r, "");
    // The session tells the role again if it is still not the right one.
    r.agent.reconnect();
}

async fn become_what_is_wanted(shared: &Arc<Shared>, r: &mut Running) -> Result<(), ControlError> {
    let got = renew(shared, r).await?;
    let write = |e: std::io::Error| internal("write swarm state", e);
    if got.role == Role::Manager && r.manager.as_ref().is_some_and(|m| *m.manager.removed().borrow()) {
        // Demoted and promoted again before this host noticed: its raft id is used up.
        shared.set_view(|v| v.manager = None);
        if let Some(m) = r.manager.take() {
            m.stop().await;
        }
    }
    match (got.role, r.manager.is_some()) {
        (Role::Manager, false) => {
            shared.files.wipe_raft().map_err(write)?;
            r.disk.role = Role::Manager;
            r.disk.raft_id = raft_id()?;
            r.disk.raft_joined = false;
            shared.files.save(&r.disk).map_err(write)?;
            let part = ManagerPart::start(shared, &r.disk, &r.keys, &r.tls).await?;
            let manager = part.manager.clone();
            r.manager = Some(part);
            lock::follow(shared, &manager);
            watch_removal(shared, &manager);
            join_later(shared, manager);
        }
        (Role::Worker, true) => {
            r.disk.role = Role::Worker;
            shared.files.save(&r.disk).map_err(write)?;
            shared.set_view(|v| v.manager = None);
            if let Some(m) = r.manager.take() {
                m.stop().await;
            }
            shared.files.wipe_raft().map_err(write)?;
        }
        _ => {}
    }
    Ok(())
}

/// Asks to be taken into raft until it is so, or this manager is gone.
pub(crate) fn join_later(shared: &Arc<Shared>, manager: Arc<Manager>) {
    let (shared, manager): (Weak<Shared>, Weak<Manager>) = (Arc::downgrade(shared), Arc::downgrade(&manager));
    tokio::spawn(async move {
        loop {
            let Some((s, m)) = shared.upgrade().zip(manager.upgrade()) else { return };
            let managers: Vec<String> = s.view().managers.into_iter().map(|(_, a)| a).collect();
            match m.join(&managers).await {
                Ok(()) => {
                    let mut slot = s.running.lock().await;
                    if let Some(r) = slot.as_mut().filter(|r| r.manager.as_ref().is_some_and(|p| Arc::ptr_eq(&p.manager, &m))) {
                        r.disk.raft_joined = true;
                        if let Err(e) = s.files.save(&r.disk) {
                            tracing::warn!(error = %e, "swarm: cannot write state");
                        }
                    }
                    return;
                }
                Err(e) => tracing::warn!(error = %e, "swarm: not taken into raft yet"),
            }
            drop((s, m));
            tokio::time::sleep(RETRY).await;
        }
    });
}

/// Looks at the role again when this manager learns that it is no longer a member of raft.
pub(crate) fn watch_removal(shared: &Arc<Shared>, manager: &Arc<Manager>) {
    let (shared, weak, mut removed) = (Arc::downgrade(shared), Arc::downgrade(manager), manager.removed());
    tokio::spawn(async move {
        // An error means that this manager was stopped.
        let told = removed.wait_for(|r| *r).await.is_ok();
        while told && weak.strong_count() > 0 {
            let Some(s) = shared.upgrade() else { return };
            tracing::warn!("swarm: this manager is no longer a member of raft; its role is looked at again");
            change(&s).await;
            drop(s);
            tokio::time::sleep(RETRY).await;
        }
    });
}

/// Tells the leader where this manager is reached now, if that is not what the swarm knows; until it is known, or this manager is
/// gone.
pub(crate) fn tell_address(manager: &Arc<Manager>) {
    let manager: Weak<Manager> = Arc::downgrade(manager);
    tokio::spawn(async move {
        loop {
            let Some(m) = manager.upgrade() else { return };
            match m.tell_address().await {
                Ok(()) => return,
                Err(e) => tracing::debug!(error = %e, "swarm: the leader does not know the address of this manager yet"),
            }
            drop(m);
            tokio::time::sleep(RETRY).await;
        }
    });
}

/// When the certificate is to be renewed; `None` if this host is in no swarm any more.
pub(crate) async fn due(shared: &Arc<Shared>) -> Option<SystemTime> {
    let slot = shared.running.lock().await;
    let chain = slot.as_ref()?.keys.chain();
    let at = skep_pki::certificates(chain).and_then(|c| skep_pki::renew_at(&c[0]));
    // A certificate that cannot be read is one to replace.
    Some(at.unwrap_or(SystemTime::UNIX_EPOCH))
}

/// Renews the certificate. Open connections go on with the old one.
pub(crate) async fn renew_now(shared: &Arc<Shared>) -> Result<(), ControlError> {
    let mut slot = shared.running.lock().await;
    match slot.as_mut() {
        Some(r) => renew(shared, r).await.map(|_| ()),
        None => Ok(()),
    }
}

/// Trusts another root from the next connection on.
pub(crate) async fn trust(shared: &Arc<Shared>, pem: String) -> Result<(), ControlError> {
    let mut slot = shared.running.lock().await;
    let Some(r) = slot.as_mut() else { return Ok(()) };
    let keys = r.keys.with_root(pem);
    use_keys(shared, r, keys)
}

/// Writes the keys, then uses them, and tells the managers what is used now.
fn use_keys(shared: &Arc<Shared>, r: &mut Running, keys: Keys) -> Result<(), ControlError> {
    // What the wire does not take must not be on the disk after the next start.
    Tls::new(&keys.credentials()).map_err(|e| internal("use certificate", e))?;
    keys.save(&shared.files)?;
    r.tls.replace(&keys.credentials()).map_err(|e| internal("use certificate", e))?;
    r.keys = keys;
    r.agent.describe();
    Ok(())
}

/// A new key and certificate, from whichever manager answers first in turn.
async fn renew(shared: &Arc<Shared>, r: &mut Running) -> Result<IssuedCertificate, ControlError> {
    let (key, csr) = skep_pki::key_pair().map_err(|e| internal("make key", e))?;
    let request = CertificateRequest { csr, token: String::new(), availability: r.disk.availability, expired: String::new() };
    let mut last = internal("renew certificate", "no manager is known");
    for (_, addr) in r.agent.managers() {
        let answer = match Client::new(&addr, None, &r.tls) {
            Ok(c) => c.renew(request.clone()).await,
            Err(e) => Err(e),
        };
        match answer {
            Ok(Ok(cert)) => {
                let keys = r.keys.renewed(&cert, key)?;
                use_keys(shared, r, keys)?;
                return Ok(cert);
            }
            Ok(Err(e)) => last = e,
            Err(e) => last = unreachable(&addr, e),
        }
    }
    Err(last)
}
