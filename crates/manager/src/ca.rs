//! Certificates for joiners and for nodes of the swarm (`swarm-semantics` 6.6). The leader issues; the key is in the agreed
//! tables. Must never issue a role that the token or the node's record does not give.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use skep_pki::{Identity, RootCa};
use skep_state::{Key, Op, Store, Transaction};
use skep_types::control::{CertificateRequest, Code, ControlError, IssuedCertificate};
use skep_types::object::{Cluster, Node};
use skep_types::spec::{ClusterSpec, Role};
use skep_types::{NodeId, Secret, Time};

use crate::control::No;
use crate::error::{invalid, rpc};
use crate::shared::Shared;

/// Removed nodes that are remembered; of more the first to expire is forgotten. Such a node is still refused by the leader,
/// whose tables do not have it.
const MOST_REMOVED: usize = 4096;
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Compares without telling by the time it takes how much of a token was right.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
}

fn sign(s: &Shared, store: &Store, csr: &str, node: NodeId, role: Role) -> Result<IssuedCertificate, ControlError> {
    let internal = |e: &dyn std::fmt::Display| rpc(Code::Internal, e);
    let c = store.cluster().ok_or_else(not_set_up)?;
    let (cert, key, intermediate) = c.issuer();
    let root = RootCa::load(cert, key).map_err(|e| internal(&e))?.with_intermediate(intermediate);
    let who = Identity { node, role, cluster: c.id };
    let issued_at = s.clock.now();
    let chain = root.issue(csr, &who, system(issued_at), c.spec.node_cert_expiry).map_err(invalid)?;
    let unlock_key = if role == Role::Manager { c.unlock_key.clone() } else { Secret::default() };
    Ok(IssuedCertificate { node, cluster: c.id, role, chain, issued_at, unlock_key, unlock_version: c.meta.version })
}

/// A time as the certificates' library has it.
pub(crate) fn system(t: Time) -> SystemTime {
    UNIX_EPOCH + t.since(Time(0))
}

fn not_set_up() -> ControlError {
    rpc(Code::Internal, "the swarm is not set up yet")
}

fn not_a_member(node: NodeId) -> ControlError {
    rpc(Code::PermissionDenied, format!("node {node} is not part of this swarm: it was removed"))
}

/// Whether a node was removed while its certificate may still be valid.
pub(crate) fn is_removed(store: &Store, node: NodeId) -> bool {
    store.cluster().is_some_and(|c| c.blacklist.contains_key(&node))
}

/// Puts a removed node on the list of those whose certificates count no longer. It stays there until no certificate of it can be
/// valid, and a week more, as in the reference.
pub(crate) fn blacklist(c: &mut Cluster, node: NodeId, now: Time) {
    c.blacklist.retain(|_, until| *until > now);
    if c.blacklist.len() >= MOST_REMOVED
        && let Some(first) = c.blacklist.iter().min_by_key(|(_, until)| **until).map(|(n, _)| *n)
    {
        c.blacklist.remove(&first);
    }
    // Certificates may have been issued before the operator shortened their life.
    let longest = c.spec.node_cert_expiry.max(ClusterSpec::default().node_cert_expiry);
    c.blacklist.insert(node, now.after(longest + WEEK));
}

/// What a join token allows.
fn role_of(c: &Cluster, token: &str) -> Result<Role, ControlError> {
    if same(token, &c.manager_token) {
        Ok(Role::Manager)
    } else if same(token, &c.worker_token) {
        Ok(Role::Worker)
    } else {
        Err(invalid("A valid join token is necessary to join this cluster"))
    }
}

/// A new node with a certificate, for whoever knows a join token; or a new certificate for a node whose own has expired.
pub(crate) async fn issue(s: &Shared, r: &CertificateRequest) -> Result<IssuedCertificate, ControlError> {
    let id = NodeId(s.clock.new_id());
    s.decide(|store| -> Result<_, No> {
        let c = store.cluster().ok_or_else(not_set_up)?;
        let role = role_of(c, &r.token)?;
        let mut t = Transaction { time: s.clock.now(), ..Transaction::default() };
        if !r.expired.is_empty() {
            return Ok((t, reissue(s, store, c, r, role)?));
        }
        let cert = sign(s, store, &r.csr, id, role)?;
        let node = Node::new(id, role, r.availability);
        // Whoever signed must still be who signs: a change of root may have begun.
        t.reads.push((Key::Cluster, c.meta.version));
        t.ops.push(Op::PutNode(Box::new(node)));
        Ok((t, cert))
    })
    .await
    .map_err(ControlError::from)
}

/// A new certificate for a node of the swarm, with the role it has now.
pub(crate) fn renew(s: &Shared, node: NodeId, csr: &str) -> Result<IssuedCertificate, ControlError> {
    let store = s.store();
    let n = store.node(node).ok_or_else(|| not_a_member(node))?;
    sign(s, &store, csr, node, n.role)
}

/// A certificate for a node whose own has expired: it proves that it has the key of the old one, which this swarm issued, and
/// knows the join token of its role. Id and role stay.
fn reissue(
    s: &Shared,
    store: &Store,
    c: &Cluster,
    r: &CertificateRequest,
    token: Role,
) -> Result<IssuedCertificate, ControlError> {
    let old = skep_pki::certificates(&r.expired).map_err(invalid)?.remove(0);
    let who = skep_pki::identity(&old).map_err(invalid)?;
    let (_, until) = skep_pki::validity(&old).map_err(invalid)?;
    // At a moment of its life; that this is over is why it is here.
    let then = until - Duration::from_secs(1);
    skep_pki::verify_node(&c.root_ca_cert, &r.expired, then).map_err(|e| rpc(Code::PermissionDenied, e))?;
    if !skep_pki::same_key(&r.csr, &old).map_err(invalid)? {
        return Err(rpc(Code::PermissionDenied, "the request is not signed with the key of the old certificate"));
    }
    if who.cluster != c.id {
        return Err(rpc(Code::PermissionDenied, "the old certificate is one of another swarm"));
    }
    let n = store.node(who.node).ok_or_else(|| not_a_member(who.node))?;
    if n.role == Role::Manager && token == Role::Worker {
        return Err(invalid(format!("node {} is a manager: the join token for managers is needed", who.node)));
    }
    sign(s, store, &r.csr, who.node, n.role)
}
