//! Entering a swarm: founding one, or joining one by a token. A failed attempt leaves no trace on this host. Must never trust a
//! swarm whose root does not fit the token.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use skep_manager::Bootstrap;
use skep_pki::{Identity, JoinToken, RootCa, UnlockKey};
use skep_types::clock::Clock;
use skep_types::control::{CertificateRequest, Code, ControlError, InitRequest, IssuedCertificate, JoinRequest, LocalState};
use skep_types::object::Version;
use skep_types::spec::Role;
use skep_types::{ClusterId, NodeId, Secret, Time};
use skep_wire::{SystemClock, Tls, WireError};

use crate::error::{already_in_swarm, internal, invalid, join_timeout, unreachable};
use crate::files::Disk;
use crate::keys::Keys;
use crate::node::{Shared, View, addresses, raft_id};
use crate::running::{EarPart, ManagerPart, Running, start_agent};
use crate::{lock, repair, role, watch};

/// A join takes this long at most, as the reference's.
const TIMEOUT: Duration = Duration::from_secs(20);

fn random<const N: usize>() -> Result<[u8; N], ControlError> {
    let mut b = [0; N];
    getrandom::fill(&mut b).map_err(|e| internal("draw random bytes", e))?;
    Ok(b)
}

pub(crate) fn random_id() -> Result<u128, ControlError> {
    random().map(u128::from_le_bytes)
}

/// Clocks may differ by as much: certificates begin an hour before they are issued, and this leaves some of it.
const MOST_SKEW: Duration = Duration::from_secs(50 * 60);

/// Refuses to join with a clock by which certificates would not be valid.
fn check_clock(addr: &str, there: Time) -> Result<(), ControlError> {
    let here = SystemClock.now();
    let differ = here.since(there).max(there.since(here));
    if there == Time::default() || differ <= MOST_SKEW {
        return Ok(());
    }
    let minutes = differ.as_secs() / 60;
    Err(ControlError::new(
        Code::FailedPrecondition,
        format!(
            "the clock of this host ({}) and that of the manager at {addr} ({}) differ by {minutes} minutes, so certificates of \
             the swarm would not be valid here: set the wrong one (for example with NTP), then join again",
            seconds(here),
            seconds(there),
        ),
    ))
}

/// A time without parts of seconds.
fn seconds(t: Time) -> String {
    Time(t.unix_seconds().saturating_mul(1_000_000_000)).rfc3339().replace(".000000000", "")
}

/// Runs an attempt; puts everything back if it fails.
pub(crate) async fn attempt(
    shared: &Arc<Shared>,
    f: impl Future<Output = Result<Running, ControlError>>,
) -> Result<NodeId, ControlError> {
    let mut slot = shared.running.lock().await;
    if slot.is_some() || shared.view().state != LocalState::Inactive {
        return Err(already_in_swarm());
    }
    shared.set_view(|v| v.state = LocalState::Pending);
    let result = match tokio::time::timeout(TIMEOUT, f).await {
        Ok(r) => r,
        Err(_) => Err(join_timeout()),
    };
    match result {
        Ok(r) => {
            let id = r.disk.node;
            shared.show(&r, "");
            *slot = Some(r);
            Ok(id)
        }
        Err(e) => {
            if let Err(w) = shared.files.wipe() {
                tracing::warn!(error = %w, "swarm: cannot clean up after a failed attempt");
            }
            shared.set_view(|v| *v = View::default());
            Err(e)
        }
    }
}

pub(crate) async fn init(shared: &Arc<Shared>, r: InitRequest) -> Result<NodeId, ControlError> {
    if r.force_new_cluster {
        return repair::force_new_cluster(shared, r).await;
    }
    attempt(shared, found(shared, r)).await
}

async fn found(shared: &Arc<Shared>, r: InitRequest) -> Result<Running, ControlError> {
    let (listen, advertise, ip) = addresses(&r.listen_addr, &r.advertise_addr)?;
    let pki = |e: skep_pki::PkiError| internal("make certificates", e);
    let now = SystemTime::now();
    let mut spec = r.spec;
    let given = std::mem::take(&mut spec.ca);
    spec.ca.force_rotate = given.force_rotate;
    let root = if given.signing_cert.is_empty() && given.signing_key.is_empty() {
        RootCa::create(now).map_err(pki)?
    } else {
        RootCa::outside(&given.signing_cert, &given.signing_key, now).map_err(invalid)?
    };
    let unlock_key = if spec.auto_lock { Secret(UnlockKey::new(random()?).to_string()) } else { Secret::default() };
    let (key, csr) = skep_pki::key_pair().map_err(pki)?;
    let (node, cluster) = (NodeId(random_id()?), ClusterId(random_id()?));
    let who = Identity { node, role: Role::Manager, cluster };
    let cert = IssuedCertificate {
        node,
        cluster,
        role: Role::Manager,
        chain: root.issue(&csr, &who, now, spec.node_cert_expiry).map_err(pki)?,
        issued_at: skep_types::Time::default(),
        unlock_key: unlock_key.clone(),
        // Older than any version that the tables will give it.
        unlock_version: Version(1),
    };
    let keys = Keys::new(root.cert_pem().to_owned(), &cert, key)?;
    let mut disk = Disk {
        node,
        cluster,
        role: Role::Manager,
        listen,
        advertise,
        advertise_from: r.advertise_from,
        data_path: Some(r.data_path_addr.unwrap_or(ip)),
        availability: r.availability,
        raft_id: raft_id()?,
        raft_joined: true,
        managers: vec![],
    };
    let tls = enter(shared, &keys)?;
    let part = ManagerPart::start(shared, &disk, &keys, &tls).await?;
    let bootstrap = Bootstrap {
        cluster,
        spec,
        root_key: root.key_pem().to_owned(),
        address_pools: r.address_pools,
        data_path_port: if r.data_path_port == 0 { 4789 } else { r.data_path_port },
        availability: r.availability,
        unlock_key,
    };
    if let Err(e) = part.manager.bootstrap(bootstrap).await {
        part.stop().await;
        return Err(internal("init", e));
    }
    disk.managers = vec![(node, disk.advertise.clone())];
    finish(shared, disk, keys, tls, Some(part)).await
}

/// Writes the keys and makes the TLS settings of them.
pub(crate) fn enter(shared: &Arc<Shared>, keys: &Keys) -> Result<Tls, ControlError> {
    keys.save(&shared.files)?;
    Tls::new(&keys.credentials()).map_err(|e| internal("use certificates", e))
}

/// Writes the state, which makes it count, and starts the agent.
pub(crate) async fn finish(
    shared: &Arc<Shared>,
    disk: Disk,
    keys: Keys,
    tls: Tls,
    manager: Option<ManagerPart>,
) -> Result<Running, ControlError> {
    shared.files.save(&disk).map_err(|e| internal("write swarm state", e))?;
    let (agent, events) = start_agent(&shared.files, &disk, &tls, &shared.executor).await?;
    let mut connected = agent.connected();
    if manager.is_none() {
        // A worker is in when a leader has taken its session.
        let _ = connected.wait_for(|c| *c).await;
    }
    watch::agent(shared, events);
    if let Some(m) = &manager {
        lock::follow(shared, &m.manager);
        role::watch_removal(shared, &m.manager);
    }
    let _ear = EarPart::open(&agent, &tls);
    Ok(Running { disk, keys, tls, agent, manager, _ear })
}

pub(crate) async fn join(shared: &Arc<Shared>, r: JoinRequest) -> Result<NodeId, ControlError> {
    attempt(shared, enter_by_token(shared, r)).await
}

async fn enter_by_token(shared: &Arc<Shared>, r: JoinRequest) -> Result<Running, ControlError> {
    let (listen, advertise, ip) = addresses(&r.listen_addr, &r.advertise_addr)?;
    let token = JoinToken::parse(&r.token).map_err(invalid)?;
    let (key, csr) = skep_pki::key_pair().map_err(|e| internal("make key", e))?;
    let request =
        CertificateRequest { csr, token: r.token.trim().to_owned(), availability: r.availability, expired: String::new() };
    let (root, cert) = certificate(&r.remote_addrs, &token, &request).await?;
    let mut disk = Disk {
        node: cert.node,
        cluster: cert.cluster,
        role: cert.role,
        listen,
        advertise,
        advertise_from: r.advertise_from,
        data_path: Some(r.data_path_addr.unwrap_or(ip)),
        availability: r.availability,
        raft_id: raft_id()?,
        raft_joined: false,
        // Their ids are learnt in the first session.
        managers: r.remote_addrs.iter().map(|a| (NodeId::default(), with_port(a))).collect(),
    };
    let keys = Keys::new(root, &cert, key)?;
    let tls = enter(shared, &keys)?;
    let mut part = None;
    if disk.role == Role::Manager {
        let p = ManagerPart::start(shared, &disk, &keys, &tls).await?;
        let remotes: Vec<String> = r.remote_addrs.iter().map(|a| with_port(a)).collect();
        if let Err(e) = p.manager.join(&remotes).await {
            p.stop().await;
            return Err(internal("join", e));
        }
        disk.raft_joined = true;
        part = Some(p);
    }
    finish(shared, disk, keys, tls, part).await
}

fn with_port(addr: &str) -> String {
    if addr.contains(':') { addr.to_owned() } else { format!("{addr}:2377") }
}

/// Asks the managers in turn; a manager that answers has the last word.
pub(crate) async fn certificate(
    remotes: &[String],
    token: &JoinToken,
    request: &CertificateRequest,
) -> Result<(String, IssuedCertificate), ControlError> {
    let mut last = invalid("at least one RemoteAddr is required to join");
    for addr in remotes.iter().map(|a| with_port(a)) {
        let root = match skep_wire::fetch_root(&addr, token).await {
            Ok(root) => {
                check_clock(&addr, root.time)?;
                root.pem
            }
            Err(WireError::Pki(e)) => return Err(invalid(e)),
            Err(e) => {
                last = unreachable(&addr, e);
                continue;
            }
        };
        match skep_wire::request_certificate(&addr, &root, request.clone()).await {
            Ok(answer) => return answer.map(|c| (root, c)),
            Err(e) => last = unreachable(&addr, e),
        }
    }
    Err(last)
}
