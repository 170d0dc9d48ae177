//! A swarm of one: out of a manager that survived the others, or out of a backup. What nodes there were stays known; other
//! managers become workers that are down, since their raft is another one now. Must never drop a service, network or node.

use std::sync::Arc;
use std::time::Duration;

use skep_raft::Peer;
use skep_state::{Dump, Op, Store, Transaction};
use skep_types::control::{Code, ControlError};
use skep_types::object::{Cluster, ManagerStatus, Node, NodeState};
use skep_types::spec::{Availability, Role};
use skep_types::{NodeId, Time};

use crate::error::rpc;
use crate::{Manager, ManagerConfig, ManagerError};

/// An election of one takes a second.
const ELECTED: Duration = Duration::from_secs(10);

fn me(c: &ManagerConfig) -> Peer {
    Peer { id: c.raft_id, node_id: c.node.to_string(), addr: c.addr.clone() }
}

/// What makes `node` the only manager. A node that the tables do not know is added with `availability`.
fn alone(store: &Store, node: NodeId, status: &ManagerStatus, availability: Availability) -> Vec<Op> {
    let others = store.nodes().filter(|n| n.id != node).filter_map(|n| {
        let mut new = (**n).clone();
        if n.role == Role::Manager || n.spec.role == Role::Manager {
            (new.role, new.spec.role, new.manager) = (Role::Worker, Role::Worker, None);
            new.state = NodeState::Down;
            new.message = "a new swarm was made without this manager".into();
        }
        (new != **n).then(|| Op::PutNode(Box::new(new)))
    });
    let own = store.node(node).map(|n| (**n).clone()).unwrap_or_else(|| Node::new(node, Role::Manager, availability));
    let mut own = Node { role: Role::Manager, manager: Some(status.clone()), ..own };
    own.spec.role = Role::Manager;
    others.chain([Op::PutNode(Box::new(own))]).collect()
}

/// The tables of a backup.
pub struct Restored(Store);

impl std::fmt::Debug for Restored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Restored")
    }
}

impl Restored {
    /// Reads what [`Manager::dump`] gave.
    ///
    /// # Errors
    /// [`ControlError`] if it is not that.
    pub fn read(dump: &[u8]) -> Result<Self, ControlError> {
        let bad =
            |e: &dyn std::fmt::Display| rpc(Code::InvalidArgument, format!("the tables in the backup cannot be read: {e}"));
        let dump: Dump = rmp_serde::from_slice(dump).map_err(|e| bad(&e))?;
        let store = Store::restore(dump).map_err(|e| bad(&e))?;
        if store.cluster().is_none() {
            return Err(bad(&"there is no swarm in them"));
        }
        Ok(Self(store))
    }

    /// The swarm, with its keys.
    ///
    /// # Errors
    /// None in practice: [`Restored::read`] has seen it.
    pub fn cluster(&self) -> Result<Arc<Cluster>, ControlError> {
        self.0.cluster().cloned().ok_or_else(|| rpc(Code::Internal, "there is no swarm in the backup"))
    }

    /// Writes the files of a manager that is the only one of a swarm with these tables. All other nodes are down until they are
    /// heard of.
    ///
    /// # Errors
    /// [`ManagerError`] if the files cannot be written, or there are some already.
    pub fn found(mut self, c: &ManagerConfig, availability: Availability) -> Result<(), ManagerError> {
        let fail = |e: &dyn std::fmt::Display| ManagerError::Bootstrap(e.to_string());
        let status = ManagerStatus { raft_id: c.raft_id, addr: c.addr.clone() };
        let mut ops: Vec<Op> = self
            .0
            .nodes()
            .filter(|n| n.state != NodeState::Down)
            .map(|n| Op::NodeState {
                node: n.id,
                state: NodeState::Down,
                message: "the swarm was restored from a backup".into(),
            })
            .collect();
        let index = self.0.applied() + 1;
        let time: Time = c.clock.now();
        let mut t = Transaction::new(time, vec![], std::mem::take(&mut ops));
        self.0.apply(index, &t).map_err(|e| fail(&e))?;
        t.ops = alone(&self.0, c.node, &status, availability);
        self.0.apply(index + 1, &t).map_err(|e| fail(&e))?;
        let bytes = rmp_serde::to_vec_named(&self.0.dump()).map_err(|e| fail(&e))?;
        Ok(skep_raft::repair::found_from(&c.storage, &c.keys, &me(c), index + 1, &mut bytes.as_slice())?)
    }
}

/// Makes the files of this manager, which must not run, those of the only one of its swarm. Its raft id must be a fresh one. To
/// be followed by [`Manager::start`] and [`Manager::stand_alone`].
///
/// # Errors
/// [`ManagerError`] if they cannot be read or written.
pub fn force_single(c: &ManagerConfig) -> Result<(), ManagerError> {
    Ok(skep_raft::repair::force_single(&c.storage, &c.keys, &me(c))?)
}

impl Manager {
    /// Waits until this manager leads.
    ///
    /// # Errors
    /// [`ManagerError::Bootstrap`] after 10 s.
    pub async fn leads(&self) -> Result<(), ManagerError> {
        let mut leading = self.shared.leading.subscribe();
        match tokio::time::timeout(ELECTED, leading.wait_for(Option::is_some)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(ManagerError::Bootstrap("this manager does not lead within 10 s".into())),
        }
    }

    /// After [`force_single`]: waits until this manager leads, and notes that it is the only one.
    ///
    /// # Errors
    /// [`ManagerError::Bootstrap`].
    pub async fn stand_alone(&self) -> Result<(), ManagerError> {
        self.leads().await?;
        let c = &self.shared.config;
        let status = ManagerStatus { raft_id: c.raft_id, addr: c.addr.clone() };
        let ops = alone(&self.shared.store(), c.node, &status, Availability::Active);
        self.shared.write_ops(ops).await.map_err(|e| ManagerError::Bootstrap(e.to_string()))
    }
}
