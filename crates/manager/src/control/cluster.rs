//! The swarm itself: settings, join tokens, unlock key, root. Must never show a key but the unlock key to whom asks for it.

use std::sync::Arc;
use std::time::Duration;

use skep_pki::{JoinToken, UnlockKey};
use skep_state::{Key, Op, Store, Transaction};
use skep_types::control::{Code, ControlError, ControlResponse};
use skep_types::object::{Cluster, Version};
use skep_types::spec::{CaSpec, ClusterSpec};
use skep_types::{Secret, Time};

use super::service::{No, out_of_sequence};
use crate::error::{invalid, rpc};
use crate::shared::Shared;
use crate::{ca, rotation};

/// Shortest life of a node certificate.
const MIN_EXPIRY: Duration = Duration::from_secs(3600);

/// What gets a new secret.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rotate {
    pub(crate) worker: bool,
    pub(crate) manager: bool,
    pub(crate) unlock: bool,
}

fn not_set_up() -> ControlError {
    rpc(Code::Internal, "the swarm is not set up yet")
}

/// The swarm as it may be shown: without keys, with its root and issuer in the form that nodes report.
#[must_use]
pub fn shown(c: &Cluster) -> Cluster {
    let mut out = c.redacted();
    out.tls = rotation::desired(c).unwrap_or_default();
    out
}

pub(crate) fn get(store: &Store) -> Result<ControlResponse, ControlError> {
    Ok(ControlResponse::Cluster(Arc::new(shown(store.cluster().ok_or_else(not_set_up)?))))
}

pub(crate) fn unlock_key(store: &Store) -> Result<ControlResponse, ControlError> {
    Ok(ControlResponse::UnlockKey(store.cluster().ok_or_else(not_set_up)?.unlock_key.clone()))
}

/// What a spec must fulfil.
pub(crate) fn check(spec: &ClusterSpec) -> Result<(), ControlError> {
    if spec.node_cert_expiry < MIN_EXPIRY {
        return Err(invalid("minimum certificate expiry time is: 1h0m0s"));
    }
    Ok(())
}

/// The cluster with a new spec: an unlock key while managers are to be locked, new secrets where they are asked for, and the
/// root that is asked for. `random` gives random bytes.
fn changed(
    old: &Cluster,
    spec: &ClusterSpec,
    rotate: Rotate,
    now: Time,
    mut random: impl FnMut() -> [u8; 32],
) -> Result<Cluster, ControlError> {
    let mut c = old.clone();
    rotation::request(&mut c, &spec.ca, ca::system(now))?;
    c.spec = spec.clone();
    c.spec.ca = CaSpec { force_rotate: spec.ca.force_rotate, ..CaSpec::default() };
    c.blacklist.retain(|_, until| *until > now);
    if !spec.auto_lock {
        c.unlock_key = Secret::default();
    } else if c.unlock_key.is_empty() || rotate.unlock {
        c.unlock_key = Secret(UnlockKey::new(random()).to_string());
    }
    let mut token = |pem: &str| {
        let secret = random();
        let half = std::array::from_fn(|i| secret[i]);
        JoinToken::new(pem, half).map(|t| t.to_string()).map_err(|e| rpc(Code::Internal, e))
    };
    if rotate.worker {
        c.worker_token = token(&c.root_ca_cert)?;
    }
    if rotate.manager {
        c.manager_token = token(&c.root_ca_cert)?;
    }
    Ok(c)
}

pub(crate) async fn update(
    s: &Shared,
    version: Version,
    spec: &ClusterSpec,
    rotate: Rotate,
) -> Result<ControlResponse, ControlError> {
    check(spec)?;
    s.decide(|store| -> Result<_, No> {
        let old = store.cluster().ok_or_else(not_set_up)?;
        if old.meta.version != version {
            return Err(out_of_sequence().into());
        }
        let now = s.clock.now();
        let c = changed(old, spec, rotate, now, || s.clock.random())?;
        let reads = vec![(Key::Cluster, version)];
        Ok((Transaction::new(now, reads, vec![Op::PutCluster(Box::new(c))]), ()))
    })
    .await?;
    get(&s.store())
}
