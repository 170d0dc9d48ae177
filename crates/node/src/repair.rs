//! A swarm of one on this host: made of what this manager has when the others are lost (`--force-new-cluster`), or restored from
//! a backup. Must never touch the files of a manager that runs.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use skep_manager::{Restored, force_single};
use skep_pki::{Identity, RootCa, UnlockKey, read_backup};
use skep_types::NodeId;
use skep_types::control::{ControlError, InitRequest, IssuedCertificate, LocalState, RestoreRequest};
use skep_types::spec::{Availability, Role};
use skep_wire::Tls;

use crate::error::{internal, invalid, locked, no_manager_inactive, no_manager_worker};
use crate::files::Disk;
use crate::join::{attempt, enter, finish, random_id};
use crate::keys::Keys;
use crate::node::{Shared, View, addresses, raft_id};
use crate::running::{EarPart, ManagerPart, Running, start_agent};
use crate::{lock, resume, role, watch};

/// The log of the manager that was stopped is closed when the last call to it has ended.
const FREE: Duration = Duration::from_secs(5);

/// Makes a swarm of one out of this manager. What it has is kept, whether or not the others had agreed to the last of it.
pub(crate) async fn force_new_cluster(shared: &Arc<Shared>, r: InitRequest) -> Result<NodeId, ControlError> {
    let mut slot = shared.running.lock().await;
    // Not the whole view: it would keep the manager, and with it the log.
    let at = |v: View| (v.state, v.role);
    match at(shared.view()) {
        (LocalState::Inactive, _) => return Err(no_manager_inactive()),
        (LocalState::Locked, _) => return Err(locked()),
        (_, Role::Worker) => return Err(no_manager_worker()),
        _ => {}
    }
    let read = |e: &dyn std::fmt::Display| internal("read swarm state", e);
    let disk = shared.files.load().map_err(|e| read(&e))?.ok_or_else(no_manager_inactive)?;
    let keys = match slot.take() {
        Some(Running { agent, manager, keys, .. }) => {
            drop(agent);
            shared.set_view(|v| v.manager = None);
            if let Some(m) = manager {
                m.stop().await;
            }
            keys
        }
        None => Keys::open(&shared.files, None).map_err(|_| read(&"the keys cannot be opened"))?,
    };
    match alone(shared, r, disk.clone(), keys).await {
        Ok(running) => {
            let id = running.disk.node;
            shared.show(&running, "");
            *slot = Some(running);
            Ok(id)
        }
        Err(e) => {
            // As it was before, if that is possible.
            drop(slot);
            resume::take_up(shared, disk).await;
            Err(e)
        }
    }
}

async fn alone(shared: &Arc<Shared>, r: InitRequest, old: Disk, keys: Keys) -> Result<Running, ControlError> {
    let mut disk = Disk { raft_id: raft_id()?, raft_joined: true, ..old };
    if !r.advertise_addr.is_empty() {
        let (listen, advertise, ip) = addresses(&r.listen_addr, &r.advertise_addr)?;
        (disk.listen, disk.advertise, disk.data_path) = (listen, advertise, Some(r.data_path_addr.unwrap_or(ip)));
        disk.advertise_from = r.advertise_from;
    }
    disk.managers = vec![(disk.node, disk.advertise.clone())];
    let tls = Tls::new(&keys.credentials()).map_err(|e| internal("use certificates", e))?;
    let config = ManagerPart::config(shared, &disk, &keys, &tls)?;
    let until = tokio::time::Instant::now() + FREE;
    while let Err(e) = force_single(&config) {
        if tokio::time::Instant::now() > until {
            return Err(internal("force new cluster", e));
        }
        tokio::time::sleep(FREE / 50).await;
    }
    shared.files.save(&disk).map_err(|e| internal("write swarm state", e))?;
    let part = ManagerPart::start(shared, &disk, &keys, &tls).await?;
    if let Err(e) = part.manager.stand_alone().await {
        part.stop().await;
        return Err(internal("force new cluster", e));
    }
    lock::follow(shared, &part.manager);
    role::watch_removal(shared, &part.manager);
    let (agent, events) = start_agent(&shared.files, &disk, &tls, &shared.executor).await?;
    watch::agent(shared, events);
    let _ear = EarPart::open(&agent, &tls);
    Ok(Running { disk, keys, tls, agent, manager: Some(part), _ear })
}

pub(crate) async fn restore(shared: &Arc<Shared>, r: RestoreRequest) -> Result<NodeId, ControlError> {
    attempt(shared, from_backup(shared, r)).await
}

async fn from_backup(shared: &Arc<Shared>, r: RestoreRequest) -> Result<Running, ControlError> {
    let kek = match &*r.unlock_key {
        "" => None,
        key => Some(UnlockKey::parse(key).map_err(invalid)?),
    };
    let (head, content) = read_backup(&r.backup, kek.as_ref()).map_err(invalid)?;
    tracing::info!(made = head.time, swarm = head.cluster, "restoring a swarm from a backup");
    let restored = Restored::read(&content)?;
    let c = restored.cluster()?;
    let (listen, advertise, ip) = addresses(&r.listen_addr, &r.advertise_addr)?;
    let pki = |e: skep_pki::PkiError| internal("make certificates", e);
    let (key, csr) = skep_pki::key_pair().map_err(pki)?;
    let node = NodeId(random_id()?);
    let who = Identity { node, role: Role::Manager, cluster: c.id };
    let (issuer_cert, issuer_key, intermediate) = c.issuer();
    let root = RootCa::load(issuer_cert, issuer_key).map_err(pki)?.with_intermediate(intermediate);
    let cert = IssuedCertificate {
        node,
        cluster: c.id,
        role: Role::Manager,
        chain: root.issue(&csr, &who, SystemTime::now(), c.spec.node_cert_expiry).map_err(pki)?,
        issued_at: skep_types::Time::default(),
        unlock_key: c.unlock_key.clone(),
        unlock_version: c.meta.version,
    };
    let keys = Keys::new(c.root_ca_cert.clone(), &cert, key)?;
    let disk = Disk {
        node,
        cluster: c.id,
        role: Role::Manager,
        listen,
        managers: vec![(node, advertise.clone())],
        advertise,
        advertise_from: r.advertise_from,
        data_path: Some(ip),
        availability: Availability::Active,
        raft_id: raft_id()?,
        raft_joined: true,
    };
    let tls = enter(shared, &keys)?;
    let config = ManagerPart::config(shared, &disk, &keys, &tls)?;
    restored.found(&config, disk.availability).map_err(|e| internal("restore", e))?;
    let part = ManagerPart::start(shared, &disk, &keys, &tls).await?;
    if let Err(e) = part.manager.leads().await {
        part.stop().await;
        return Err(internal("restore", e));
    }
    finish(shared, disk, keys, tls, Some(part)).await
}
