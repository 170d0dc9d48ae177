//! Which manager a node's agent turns to first. Every node has an order of its own, computed from the ids alone (rendezvous
//! hashing), so that the agents spread evenly and only those of a manager that comes or goes move. Pure.

use skep_types::NodeId;

/// The managers in this node's order: its own one first, then by score. Those whose id is not known yet come last.
pub(crate) fn order(node: NodeId, mut managers: Vec<(NodeId, String)>) -> Vec<(NodeId, String)> {
    managers.sort_by_key(|(id, addr)| {
        let unknown = *id == NodeId::default();
        (unknown, *id != node, std::cmp::Reverse(score(node, *id)), addr.clone())
    });
    managers
}

/// A number that looks random, from both ids (SplitMix64 over their halves).
fn score(node: NodeId, manager: NodeId) -> u64 {
    let mix = |z: u64| {
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    // Halves of the ids; what is cut off is taken in its own turn.
    let parts = [node.0 as u64, (node.0 >> 64) as u64, manager.0 as u64, (manager.0 >> 64) as u64];
    parts.into_iter().fold(0x9e37_79b9_7f4a_7c15, |h: u64, p| mix(h.wrapping_add(p)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn agents_spread_and_only_those_of_a_lost_manager_move() {
        let managers: Vec<_> = (1..=5).map(|i| (NodeId(i), format!("10.0.0.{i}:2377"))).collect();
        let first = |node, managers: &[(NodeId, String)]| order(NodeId(node), managers.to_vec()).remove(0).0;
        let mut share = [0usize; 6];
        for node in 1000..2000 {
            let chosen = first(node, &managers);
            share[usize::try_from(chosen.0).unwrap()] += 1;
            let after = first(node, &managers[1..]);
            assert!(after == chosen || chosen == NodeId(1));
        }
        assert!(share[1..].iter().all(|n| (140..260).contains(n)), "{share:?}");
        assert_eq!(first(3, &managers), NodeId(3));
    }
}
