//! Containers that are no tasks on overlay networks: the leader gives them addresses and notes them at their node
//! (`swarm-semantics` 8.2). Must never give an address that somebody holds, nor follow a list that came late.

use std::net::Ipv4Addr;
use std::sync::Arc;

use skep_plan::allocate;
use skep_state::{Key, Op, Store, Transaction};
use skep_types::attach::{Answer, Held, HeldList, Wanted, WantedList};
use skep_types::control::{Code, ControlError};
use skep_types::object::{Network, Node};
use skep_types::{Ipv4Net, NodeId, Time};

use crate::control::No;
use crate::control::find_network;
use crate::error::rpc;
use crate::shared::Shared;

/// Containers of one node: its object stays far below what a transaction may hold.
const MOST: usize = 1000;
/// Names of one container.
const NAMES: usize = 32;
/// Bytes of a name, as DNS has them.
const NAME: usize = 253;

/// Notes what a node wants, on the leader.
pub(crate) async fn attach(s: &Shared, node: NodeId, list: &WantedList) -> Result<Answer, ControlError> {
    let decided = s.decide(|store| -> Result<_, No> {
        let old = store.node(node).ok_or_else(|| rpc(Code::NotFound, format!("node {node} not found")))?;
        let (reads, ops, answer) = decide(store, old, list, s.clock.now());
        Ok((Transaction::new(s.clock.now(), reads, ops), answer))
    });
    Ok(decided.await?)
}

type Decision = (Vec<(Key, skep_types::object::Version)>, Vec<Op>, Answer);

/// What to write, and what to answer.
fn decide(store: &Store, old: &Arc<Node>, list: &WantedList, now: Time) -> Decision {
    if list.number <= old.attached.number {
        return (vec![], vec![], Answer::Late { noted: old.attached.number });
    }
    let mut node = (**old).clone();
    node.attached.number = list.number;
    // Those that stay first, so that their addresses are not given to new ones.
    let kept: Vec<Option<Held>> = list.wanted.iter().map(|w| kept(store, &old.attached, w)).collect();
    node.attached.held.clear();
    for held in kept.iter().flatten() {
        let same = |h: &Held| h.container == held.container && h.network == held.network;
        if !node.attached.held.iter().any(same) {
            node.attached.held.push(held.clone());
        }
    }
    let mut work = store.clone();
    let mut reads = vec![(Key::Node(old.id), store.version(Key::Node(old.id)))];
    let mut given = Vec::with_capacity(list.wanted.len());
    for (wanted, kept) in list.wanted.iter().zip(kept) {
        given.push(match kept {
            Some(held) => Ok(held),
            None => match self::kept(store, &node.attached, wanted) {
                // Named twice, by name and by id.
                Some(held) => Ok(held),
                None => admit(&mut work, &mut node, wanted, now).inspect(|held| {
                    let network = Key::Network(held.network);
                    reads.push((network, store.version(network)));
                }),
            },
        });
    }
    (reads, vec![Op::PutNode(Box::new(node))], Answer::Given { number: list.number, given })
}

/// What a container has already, if that is what it wants.
fn kept(store: &Store, held: &HeldList, wanted: &Wanted) -> Option<Held> {
    let network = find_network(store, &wanted.network).ok()?;
    let same = |h: &&Held| h.container == wanted.container && h.network == network.id;
    let asked = asked(&network, wanted).ok()?;
    let held = held.held.iter().find(same).filter(|h| asked.is_none_or(|a| a == h.addr.addr))?;
    check(wanted).ok()?;
    Some(Held { names: wanted.names.clone(), ..held.clone() })
}

/// Gives a container that is new on a network an address there.
fn admit(work: &mut Store, node: &mut Node, wanted: &Wanted, now: Time) -> Result<Held, ControlError> {
    check(wanted)?;
    let network = find_network(work, &wanted.network)?;
    if !network.spec.attachable || network.spec.ingress {
        let name = &wanted.network;
        let why = rpc(Code::PermissionDenied, format!("network {name} not manually attachable")).message;
        return Err(ControlError::new(Code::PermissionDenied, format!("Could not attach to network {name}: {why}")));
    }
    if node.attached.held.len() >= MOST {
        return Err(failed(
            Code::FailedPrecondition,
            format!("node {} has {MOST} containers on overlay networks already", node.id),
        ));
    }
    // What is released with this list is free: the staged node no longer holds it.
    stage(work, node, now)?;
    let addr = match asked(&network, wanted)? {
        Some(addr) => asked_for(work, &network, addr)?,
        None => allocate::address(work, &network).map_err(|e| failed(Code::FailedPrecondition, e))?,
    };
    let held = Held { container: wanted.container.clone(), network: network.id, addr, names: wanted.names.clone() };
    node.attached.held.push(held.clone());
    stage(work, node, now)?;
    Ok(held)
}

fn stage(work: &mut Store, node: &Node, now: Time) -> Result<(), ControlError> {
    work.stage(&Op::PutNode(Box::new(node.clone())), now).map_err(|e| failed(Code::FailedPrecondition, e))
}

/// The address of IPv4 that a container asks for, by itself or by that of IPv6 which is beside it.
fn asked(network: &Network, wanted: &Wanted) -> Result<Option<Ipv4Addr>, ControlError> {
    let Some(six) = wanted.addr6 else { return Ok(wanted.addr) };
    let refused = |text: String| failed(Code::InvalidArgument, text);
    let Some(pairing) = network.pairing() else {
        return Err(refused(format!("no configured subnet or ip-range contain the IP address {six}")));
    };
    let four = pairing.four(six).ok_or_else(|| {
        let last = pairing.six(network.subnet.broadcast());
        let last = last.map(|a| a.to_string()).unwrap_or_default();
        refused(format!("IPv6 address {six} belongs to no address of {}: those below {last} do", network.subnet))
    })?;
    match wanted.addr.filter(|a| *a != four) {
        Some(other) => Err(refused(format!("{six} belongs to {four} on this network, not to {other}"))),
        None => Ok(Some(four)),
    }
}

fn asked_for(store: &Store, network: &Network, addr: Ipv4Addr) -> Result<Ipv4Net, ControlError> {
    let own = |a| a == network.subnet.network().addr || a == network.subnet.broadcast();
    if !network.subnet.contains(addr) || own(addr) {
        let text = format!("no configured subnet or ip-range contain the IP address {addr}");
        return Err(failed(Code::InvalidArgument, text));
    }
    if store.address_owner(network.id, addr).is_some() {
        return Err(failed(
            Code::FailedPrecondition,
            format!("Address already in use: {addr} on network {}", network.spec.name),
        ));
    }
    Ok(Ipv4Net::new(addr, network.subnet.prefix))
}

/// Docker's words around a reason that it keeps to its log.
fn failed(code: Code, why: impl std::fmt::Display) -> ControlError {
    let text = "attaching to network failed, make sure your network options are correct and check manager logs";
    ControlError::new(code, format!("{text}: {why}"))
}

/// Refuses what no node of ours asks for.
fn check(wanted: &Wanted) -> Result<(), ControlError> {
    let id = wanted.container.len() == 64 && wanted.container.bytes().all(|b| b.is_ascii_hexdigit());
    let names = !wanted.names.is_empty() && wanted.names.len() <= NAMES && wanted.names.iter().all(|n| n.len() <= NAME);
    if id && names && wanted.network.len() <= NAME {
        return Ok(());
    }
    Err(failed(Code::InvalidArgument, format!("a container needs an id, and up to {NAMES} names of up to {NAME} bytes")))
}

#[cfg(test)]
mod tests;
