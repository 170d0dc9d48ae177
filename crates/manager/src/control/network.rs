//! Networks: create with everything allocated at once, remove when unused. Must never remove one that a service names.

use skep_plan::allocate;
use skep_state::{Key, Op, Transaction};
use skep_types::NetworkId;
use skep_types::control::{Code, ControlError, ControlResponse};
use skep_types::object::{Meta, Network, Node, TaskState};
use skep_types::spec::NetworkSpec;

use super::service::No;
use super::{lookup, validate};
use crate::error::{invalid, rpc};
use crate::shared::Shared;

/// Option of a network: the payload size of the underlay that it reckons with.
const MTU: &str = "com.docker.network.driver.mtu";
/// What IPv6 needs of that: 1280 bytes and 50 for VXLAN, …
const LEAST: u32 = 1330;
/// … and what WireGuard takes.
const TUNNEL: u32 = 60;

pub(crate) async fn create(s: &Shared, spec: &NetworkSpec) -> Result<ControlResponse, ControlError> {
    let id = NetworkId(s.clock.new_id());
    s.decide(|store| -> Result<_, No> {
        if spec.name.is_empty() {
            return Err(invalid("name must be provided").into());
        }
        validate::name(&spec.name)?;
        if store.network_by_name(&spec.name).is_some() {
            let text = format!("network with name {} already exists", spec.name);
            return Err(ControlError::new(Code::AlreadyExists, text).into());
        }
        if spec.ingress && spec.attachable {
            return Err(invalid("ingress network cannot be attachable").into());
        }
        if let Some(other) = store.ingress().filter(|_| spec.ingress) {
            return Err(rpc(Code::AlreadyExists, format!("ingress network ({}) is already present", other.id)).into());
        }
        let c = store.cluster().ok_or_else(|| rpc(Code::Internal, "the swarm is not set up yet"))?;
        let exhausted = |e| rpc(Code::FailedPrecondition, e);
        let subnet = match spec.subnet {
            Some(s) => s.network(),
            None => allocate::subnet(store, &c.address_pools, c.subnet_size).map_err(exhausted)?,
        };
        // A gateway, one task, and the two addresses that no host may have.
        if subnet.prefix > 29 {
            return Err(invalid(format!("subnet {subnet} is too small")).into());
        }
        let gateway = spec.gateway.or_else(|| subnet.nth(1)).filter(|g| subnet.contains(*g));
        let gateway = gateway.ok_or_else(|| invalid(format!("no matching subnet for gateway {:?}", spec.gateway)))?;
        // That of the mesh always has both families, so that every port is answered by both.
        let spec = NetworkSpec { ipv6: spec.ipv6 || spec.ingress, ..spec.clone() };
        if let Some(net) = spec.subnet6.filter(|_| !spec.ipv6) {
            return Err(invalid(format!("invalid subnet {net}: the network has no IPv6: create it with --ipv6")).into());
        }
        let least = LEAST + if spec.is_encrypted() { TUNNEL } else { 0 };
        let mtu = spec.options.get(MTU).and_then(|v| v.parse::<u32>().ok());
        if let Some(mtu) = mtu.filter(|mtu| *mtu < least && spec.ipv6 && !spec.ingress) {
            return Err(invalid(format!("invalid MTU {mtu} of a network with IPv6: it needs {least} bytes at least")).into());
        }
        let v6 = match spec.ipv6 {
            true => Some(allocate::side6(store, c.id, &spec, subnet).map_err(invalid)?),
            false => None,
        };
        let vni = allocate::vni(store).map_err(exhausted)?;
        let n = Network { id, meta: Meta::default(), spec, subnet, gateway, vni, v6 };
        let ops = vec![Op::PutNetwork(Box::new(n))];
        Ok((Transaction::new(s.clock.now(), vec![], ops), ()))
    })
    .await?;
    lookup::network(&s.store(), &id.to_string()).map(|n| ControlResponse::Networks(vec![n]))
}

pub(crate) async fn remove(s: &Shared, target: &str) -> Result<ControlResponse, ControlError> {
    s.decide(|store| -> Result<_, No> {
        let n = lookup::network(store, target)?;
        let used = |by: String| rpc(Code::FailedPrecondition, format!("network {} is in use by {by}", n.id));
        if let Some(x) = store.services().find(|x| x.spec.task.networks.iter().any(|a| a.target == n.id)) {
            return Err(used(format!("service {}", x.id)).into());
        }
        if n.spec.ingress
            && let Some(x) = store.services().find(|x| x.vips.iter().any(|v| v.network == n.id))
        {
            let text = format!("ingress network cannot be removed because service {} depends on it", x.id);
            return Err(rpc(Code::FailedPrecondition, text).into());
        }
        // The tasks of a service that was just removed are about to be stopped.
        let live = |t: &skep_types::object::Task| {
            t.is_wanted() && t.status.state <= TaskState::Running && store.service(t.service).is_some()
        };
        if let Some(t) = store.tasks_of_network(n.id).find(|t| live(t)) {
            return Err(used(format!("task {}", t.id)).into());
        }
        if let Some((node, held)) = store.attached(n.id).next() {
            let container: String = held.container.chars().take(12).collect();
            return Err(used(format!("container {container} on node {node}")).into());
        }
        // Their addresses in the mesh go with it; the next ingress network gives them others.
        let mut reads = Vec::new();
        let mut ops = Vec::new();
        for node in store.nodes().filter(|x| n.spec.ingress && x.ingress_addr.is_some()) {
            reads.push((Key::Node(node.id), node.meta.version));
            ops.push(Op::PutNode(Box::new(Node { ingress_addr: None, ..(**node).clone() })));
        }
        ops.push(Op::DeleteNetwork(n.id));
        Ok((Transaction::new(s.clock.now(), reads, ops), ()))
    })
    .await?;
    Ok(ControlResponse::Done)
}
