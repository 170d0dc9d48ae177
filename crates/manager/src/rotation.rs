//! Changes of the swarm's root (`swarm-semantics` 6.6). The new root's key is signed by the old one; certificates are issued by
//! the new one and carry that signature, so who trusts either accepts them. Nodes are asked to renew a few at a time; when each
//! of them has a certificate of the new root, it becomes the one to trust. What a step does is decided from the tables alone.
//! Must never make a root the trusted one while a node has a certificate that it did not issue.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use skep_pki::{JoinToken, PkiError, RootCa};
use skep_state::{Key, Op, Store, Transaction};
use skep_types::control::ControlError;
use skep_types::object::{Cluster, Node, NodeState, RootRotation, TlsInfo};
use skep_types::session::ManagerMessage;
use skep_types::spec::CaSpec;
use skep_types::{NodeId, Time};

use crate::error::{WriteError, invalid};
use crate::shared::Shared;

/// Nodes asked to renew in one period, as in the reference: signing is the leader's work, and agents make a connection each.
const BATCH: usize = 30;
/// That period.
const PERIOD: Duration = Duration::from_secs(3);

/// What an agent is told of certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CertNews {
    root: Option<String>,
    renew: bool,
}

impl CertNews {
    /// What this node should be told, by the tables. Nothing for a node that has not said yet what it trusts.
    pub(crate) fn of(store: &Store, node: NodeId) -> Self {
        let Some((c, n)) = store.cluster().zip(store.node(node)) else { return Self::default() };
        let Some(tls) = &n.description.tls else { return Self::default() };
        Self {
            root: (tls.trust_root != c.root_ca_cert).then(|| c.root_ca_cert.clone()),
            renew: n.renew && desired(c).is_some_and(|d| !issued_by(n, &d)),
        }
    }

    /// The messages that lead from what was told before to this.
    pub(crate) fn since(&self, before: &Self) -> Vec<ManagerMessage> {
        let root = self.root.clone().filter(|_| self.root != before.root).map(|pem| ManagerMessage::Roots { pem });
        let renew = (self.renew && !before.renew).then_some(ManagerMessage::RenewCertificate);
        root.into_iter().chain(renew).collect()
    }
}

/// What a node tells when all is well: the root to trust and the issuer of certificates.
pub(crate) fn desired(c: &Cluster) -> Option<TlsInfo> {
    skep_pki::desired_info(&c.root_ca_cert, c.issuer().0).ok()
}

fn issued_by(n: &Node, desired: &TlsInfo) -> bool {
    n.description
        .tls
        .as_ref()
        .is_some_and(|t| t.issuer_subject == desired.issuer_subject && t.issuer_public_key == desired.issuer_public_key)
}

/// PEM texts that differ in white space only are one certificate.
fn same_cert(a: &str, b: &str) -> bool {
    match (skep_pki::certificates(a), skep_pki::certificates(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

/// Changes the cluster's root as the operator wants it: nothing, a new root made here, the operator's own, the end of a change
/// that is under way.
///
/// # Errors
/// The reference's texts for a root that cannot be used.
pub(crate) fn request(c: &mut Cluster, wanted: &CaSpec, now: SystemTime) -> Result<(), ControlError> {
    let refuse = |e: PkiError| invalid(e);
    if wanted.signing_cert.is_empty() && wanted.signing_key.is_empty() {
        if wanted.force_rotate != c.last_forced_rotation {
            begin(c, &RootCa::create(now).map_err(refuse)?, now)?;
            c.last_forced_rotation = wanted.force_rotate;
        }
        return Ok(());
    }
    let new = RootCa::outside(&wanted.signing_cert, &wanted.signing_key, now).map_err(refuse)?;
    c.last_forced_rotation = wanted.force_rotate;
    if same_cert(&c.root_ca_cert, new.cert_pem()) {
        c.root_rotation = None;
        return Ok(());
    }
    if c.root_rotation.as_ref().is_some_and(|r| same_cert(&r.cert, new.cert_pem())) {
        return Ok(());
    }
    begin(c, &new, now)
}

fn begin(c: &mut Cluster, new: &RootCa, now: SystemTime) -> Result<(), ControlError> {
    let old = RootCa::load(&c.root_ca_cert, &c.root_ca_key).map_err(invalid)?;
    let cross_signed = old.cross_sign(new, now).map_err(invalid)?;
    let (cert, key) = (new.cert_pem().to_owned(), new.key_pem().to_owned().into());
    c.root_rotation = Some(Box::new(RootRotation { cert, key, cross_signed }));
    Ok(())
}

/// The next step of a change of root. `room` is how many more nodes may be asked to renew now; `secret` gives 16 random bytes
/// for a join token.
fn step(store: &Store, room: usize, time: Time, mut secret: impl FnMut() -> [u8; 16]) -> Result<Transaction, PkiError> {
    let mut t = Transaction { time, ..Transaction::default() };
    let Some(c) = store.cluster() else { return Ok(t) };
    let mut set = |n: &Arc<Node>, renew: bool| {
        let mut new = (**n).clone();
        new.renew = renew;
        t.reads.push((Key::Node(n.id), n.meta.version));
        t.ops.push(Op::PutNode(Box::new(new)));
    };
    let Some(rotation) = &c.root_rotation else {
        store.nodes().filter(|n| n.renew).take(BATCH).for_each(|n| set(n, false));
        return Ok(t);
    };
    let desired = skep_pki::desired_info(&c.root_ca_cert, &rotation.cert)?;
    let behind: Vec<&Arc<Node>> = store.nodes().filter(|n| !issued_by(n, &desired)).collect();
    if !behind.is_empty() {
        let ask = behind.into_iter().filter(|n| !n.renew && n.state == NodeState::Ready && n.description.tls.is_some());
        ask.take(room).for_each(|n| set(n, true));
        return Ok(t);
    }
    let mut new = (**c).clone();
    new.root_ca_cert.clone_from(&rotation.cert);
    new.root_ca_key = rotation.key.clone();
    // Kept: a node that is away at this moment trusts the old root until its next session.
    new.intermediate.clone_from(&rotation.cross_signed);
    new.root_rotation = None;
    new.worker_token = JoinToken::new(&new.root_ca_cert, secret())?.to_string();
    new.manager_token = JoinToken::new(&new.root_ca_cert, secret())?.to_string();
    t.reads.push((Key::Cluster, c.meta.version));
    t.ops.push(Op::PutCluster(Box::new(new)));
    Ok(t)
}

/// The leader's duty.
pub(crate) async fn run(s: &Arc<Shared>) {
    let mut changed = s.tables.watch();
    let mut period = tokio::time::Instant::now();
    let mut asked = 0;
    loop {
        changed.mark_unchanged();
        let now = tokio::time::Instant::now();
        if now >= period + PERIOD {
            (period, asked) = (now, 0);
        }
        let store = s.store();
        match step(&store, BATCH - asked, s.clock.now(), || s.clock.random()) {
            Err(e) => tracing::error!(error = %e, "rotation: the new root cannot be used; start `swarm ca --rotate` again"),
            Ok(t) if t.ops.is_empty() => {}
            Ok(t) => {
                let finished = t.ops.iter().any(|op| matches!(op, Op::PutCluster(_)));
                asked = (asked + t.ops.len()).min(BATCH);
                match s.write(&t).await {
                    Ok(()) if finished => {
                        tracing::info!("rotation: every node has a certificate of the new root, which is trusted now")
                    }
                    Ok(()) | Err(WriteError::Refused(_)) => {}
                    Err(e) => tracing::warn!(error = %e, "rotation: write failed"),
                }
            }
        }
        // Whether or not something changes: there is room for more in the next period.
        tokio::select! {
            biased;
            () = tokio::time::sleep(PERIOD) => {}
            _ = changed.changed() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use skep_types::attach::HeldList;
    use skep_types::object::{Meta, NodeDescription};
    use skep_types::spec::{ClusterSpec, NodeSpec, Role};
    use skep_types::{ClusterId, Secret};

    fn cluster() -> Cluster {
        let root = RootCa::create(SystemTime::now()).unwrap();
        Cluster {
            id: ClusterId(1),
            meta: Meta::default(),
            spec: ClusterSpec::default(),
            root_ca_cert: root.cert_pem().to_owned(),
            root_ca_key: Secret(root.key_pem().to_owned()),
            worker_token: "old".into(),
            manager_token: "old".into(),
            address_pools: vec!["10.0.0.0/8".parse().unwrap()],
            subnet_size: 24,
            data_path_port: 4789,
            intermediate: String::new(),
            root_rotation: None,
            last_forced_rotation: 0,
            unlock_key: Secret::default(),
            blacklist: Default::default(),
            tls: TlsInfo::default(),
        }
    }

    fn node(id: u128, tls: Option<TlsInfo>) -> Node {
        Node {
            id: NodeId(id),
            meta: Meta::default(),
            spec: NodeSpec::default(),
            role: Role::Worker,
            description: NodeDescription { tls, ..NodeDescription::default() },
            state: NodeState::Ready,
            message: String::new(),
            addr: None,
            ingress_addr: None,
            manager: None,
            retired_raft_id: 0,
            renew: false,
            attached: HeldList::default(),
        }
    }

    struct World {
        store: Store,
        index: u64,
    }

    impl World {
        fn new(nodes: u128) -> Self {
            let mut w = Self { store: Store::default(), index: 0 };
            let c = cluster();
            let tls = desired(&c);
            w.write(vec![Op::PutCluster(Box::new(c))]);
            (1..=nodes).for_each(|id| w.write(vec![Op::PutNode(Box::new(node(id, tls.clone())))]));
            w
        }
        fn write(&mut self, ops: Vec<Op>) {
            self.index += 1;
            self.store.apply(self.index, &Transaction { ops, ..Transaction::default() }).unwrap();
        }
        fn cluster(&self) -> Cluster {
            (**self.store.cluster().unwrap()).clone()
        }
        fn request(&mut self, wanted: &CaSpec) -> Result<(), ControlError> {
            let mut c = self.cluster();
            request(&mut c, wanted, SystemTime::now())?;
            self.write(vec![Op::PutCluster(Box::new(c))]);
            Ok(())
        }
        fn step(&mut self, room: usize) -> usize {
            let t = step(&self.store, room, Time(1), || [7; 16]).unwrap();
            let n = t.ops.len();
            self.index += 1;
            self.store.apply(self.index, &t).unwrap();
            n
        }
        /// The nodes that are asked renew.
        fn renew(&mut self) {
            let tls = desired(&self.cluster());
            let asked: Vec<_> = self.store.nodes().filter(|n| CertNews::of(&self.store, n.id).renew).cloned().collect();
            for n in asked {
                let mut n = (*n).clone();
                n.description.tls = tls.clone();
                self.write(vec![Op::PutNode(Box::new(n))]);
            }
        }
    }

    fn force(n: u64) -> CaSpec {
        CaSpec { force_rotate: n, ..CaSpec::default() }
    }

    #[test]
    fn a_change_of_root_runs_to_its_end() {
        let mut w = World::new(40);
        let old = w.cluster();
        w.request(&force(0)).unwrap();
        assert!(w.cluster().root_rotation.is_none(), "nothing was asked for");
        w.request(&force(1)).unwrap();
        let during = w.cluster();
        let rotation = during.root_rotation.clone().unwrap();
        assert_eq!(during.root_ca_cert, old.root_ca_cert, "the old root stays the trusted one");
        assert_eq!(during.issuer().0, rotation.cert);
        w.request(&force(1)).unwrap();
        assert_eq!(w.cluster().root_rotation, Some(rotation.clone()), "asking once more begins nothing new");

        assert_eq!(w.step(BATCH), 30);
        w.renew();
        assert_eq!(w.step(4), 4);
        assert_eq!(w.cluster().root_ca_cert, old.root_ca_cert);
        w.renew();
        assert_eq!(w.step(BATCH), 6);
        w.renew();
        assert_eq!(w.step(BATCH), 1);
        let done = w.cluster();
        assert_eq!((&done.root_ca_cert, &done.root_ca_key), (&rotation.cert, &rotation.key));
        assert_eq!(done.intermediate, rotation.cross_signed);
        assert!(done.root_rotation.is_none());
        assert!(done.worker_token.starts_with("SWMTKN-1-") && done.manager_token != "old");
        JoinToken::parse(&done.worker_token).unwrap().check_root(&done.root_ca_cert).unwrap();
        // The nodes learn of the new root, once each, and the marks go.
        let news = CertNews::of(&w.store, NodeId(1));
        assert_eq!(news.since(&CertNews::default()).len(), 1);
        assert!(news.since(&news).is_empty());
        assert_eq!(w.step(BATCH) + w.step(BATCH), 40);
        assert_eq!(w.step(BATCH), 0, "nothing is left to do");
    }

    #[test]
    fn a_node_that_is_down_or_silent_holds_up_the_end_until_it_is_removed() {
        let mut w = World::new(2);
        let mut down = (**w.store.node(NodeId(2)).unwrap()).clone();
        down.state = NodeState::Down;
        w.write(vec![Op::PutNode(Box::new(down))]);
        w.write(vec![Op::PutNode(Box::new(node(3, None)))]);
        w.request(&force(1)).unwrap();
        assert_eq!(w.step(BATCH), 1);
        w.renew();
        assert_eq!(w.step(BATCH), 0);
        w.write(vec![Op::DeleteNode(NodeId(2))]);
        assert_eq!(w.step(BATCH), 0);
        assert!(w.cluster().root_rotation.is_some());
        w.write(vec![Op::DeleteNode(NodeId(3))]);
        assert_eq!(w.step(BATCH), 1);
        assert!(w.cluster().root_rotation.is_none());
    }

    #[test]
    fn a_change_is_replaced_by_another_and_ended_by_the_root_of_now() {
        let mut w = World::new(1);
        let old = w.cluster();
        let own = RootCa::create(SystemTime::now()).unwrap();
        let with = |r: (&str, &str)| CaSpec { signing_cert: r.0.into(), signing_key: Secret(r.1.into()), force_rotate: 1 };
        w.request(&force(1)).unwrap();
        let first = w.cluster().root_rotation;
        w.request(&with((own.cert_pem(), own.key_pem()))).unwrap();
        let second = w.cluster().root_rotation.unwrap();
        assert_ne!(first.unwrap().cert, second.cert);
        assert_eq!(second.cert, own.cert_pem());
        w.request(&with((&format!("\n{}", own.cert_pem()), own.key_pem()))).unwrap();
        assert_eq!(w.cluster().root_rotation.unwrap(), second);
        let text = |c: &str, k: &str| w.request(&with((c, k))).unwrap_err().message;
        let mut text = text;
        assert_eq!(
            text(&format!("{}{}", old.root_ca_cert, own.cert_pem()), own.key_pem()),
            "rpc error: code = InvalidArgument desc = the desired CA certificate cannot contain multiple certificates"
        );
        w.request(&with((&old.root_ca_cert, &old.root_ca_key))).unwrap();
        assert!(w.cluster().root_rotation.is_none());
        assert_eq!(w.cluster().root_ca_cert, old.root_ca_cert);
    }
}
