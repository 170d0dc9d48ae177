//! The other nodes of a data plane: one list for all of them, of which each leaves out itself. In a swarm of thousands the managers
//! would else copy and hash thousands of entries for every node at every change. Must never show a node to itself.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::NodeId;
use crate::dataplane::Peer;
use crate::digest::Fnv;

/// Nodes, each once. Cheap to clone, to hash and to compare with itself.
#[derive(Debug, Clone, Default)]
pub struct Peers {
    all: Arc<Vec<Peer>>,
    /// The sum of the digests of those that are shown, so that one can be taken out again.
    digest: u64,
    without: Option<NodeId>,
}

fn digest(peer: &Peer) -> u64 {
    let mut h = Fnv::default();
    peer.hash(&mut h);
    h.finish()
}

impl Peers {
    /// These but for `node`.
    #[must_use]
    pub fn without(&self, node: NodeId) -> Self {
        if self.without.is_some() {
            return self.iter().filter(|p| p.node != node).cloned().collect();
        }
        let own = self.iter().find(|p| p.node == node).map_or(0, digest);
        Self { all: self.all.clone(), digest: self.digest.wrapping_sub(own), without: Some(node) }
    }

    /// Those that are shown.
    pub fn iter(&self) -> impl Iterator<Item = &Peer> + Clone {
        self.all.iter().filter(|p| Some(p.node) != self.without)
    }
}

impl FromIterator<Peer> for Peers {
    fn from_iter<I: IntoIterator<Item = Peer>>(peers: I) -> Self {
        let all: Vec<Peer> = peers.into_iter().collect();
        let digest = all.iter().map(digest).fold(0, u64::wrapping_add);
        Self { all: Arc::new(all), digest, without: None }
    }
}

impl PartialEq for Peers {
    fn eq(&self, other: &Self) -> bool {
        (Arc::ptr_eq(&self.all, &other.all) && self.without == other.without) || self.iter().eq(other.iter())
    }
}

impl Eq for Peers {}

impl Hash for Peers {
    fn hash<H: Hasher>(&self, h: &mut H) {
        self.digest.hash(h);
    }
}

impl Serialize for Peers {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        // Encodings that say the length first need to be told it.
        self.iter().collect::<Vec<_>>().serialize(s)
    }
}

impl<'de> Deserialize<'de> for Peers {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Vec::deserialize(d).map(Self::from_iter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> Peer {
        let (addr, ingress_addr) = ([10, 0, 0, n].into(), [10, 1, 0, n].into());
        Peer { node: NodeId(n.into()), addr, ingress_addr, wireguard: None, ipv6: None }
    }

    #[test]
    fn a_list_without_a_node_is_the_list_of_the_others() {
        let all: Peers = [1, 2, 3].map(peer).into_iter().collect();
        let others: Peers = [1, 3].map(peer).into_iter().collect();
        let shown = all.without(NodeId(2));
        assert_ne!(shown, all);
        assert_eq!(shown, others);
        assert_eq!(shown.digest, others.digest);
        assert_eq!(shown.without(NodeId(1)), [peer(3)].into_iter().collect());
        assert_eq!(all.without(NodeId(9)).digest, all.digest);
    }
}
