//! Identities of cluster objects.
//!
//! An id is 128 random bits, shown as 25 characters of base 36 as Docker shows them (`swarm-semantics` 3.1). It is `Copy`
//! and ordered, so that tables of a million tasks stay small. Random bits are drawn elsewhere and passed in.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Characters of a printed id.
const LEN: usize = 25;
const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// A text that is not an id of a cluster object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid id {0:?}: an id has 25 characters of 0-9 and a-z")]
pub struct InvalidId(pub String);

/// 36¹²: so many digits at a time are counted in 64 bits, since a division of 128 bits costs as much as they all.
const GROUP: u128 = 36u128.pow(12);
const GROUP_LEN: usize = 12;

fn encode(value: u128) -> [u8; LEN] {
    let mut out = [b'0'; LEN];
    let mut digits = |from: usize, mut part: u64| {
        for slot in out[from..].iter_mut().take(GROUP_LEN).rev() {
            *slot = DIGITS[(part % 36) as usize];
            part /= 36;
        }
    };
    let upper = value / GROUP;
    // Remainders below 36¹², and a quotient below 36, fit.
    digits(LEN - GROUP_LEN, (value % GROUP) as u64);
    digits(LEN - 2 * GROUP_LEN, (upper % GROUP) as u64);
    out[0] = DIGITS[(upper / GROUP) as usize];
    out
}

fn decode(text: &str) -> Result<u128, InvalidId> {
    let bad = || InvalidId(text.chars().take(64).collect());
    if text.len() != LEN {
        return Err(bad());
    }
    let digit = |acc: u64, c: &u8| match c {
        b'0'..=b'9' => Some(acc * 36 + u64::from(c - b'0')),
        b'a'..=b'z' => Some(acc * 36 + u64::from(c - b'a') + 10),
        _ => None,
    };
    let (first, rest) = text.as_bytes().split_at(LEN - 2 * GROUP_LEN);
    // Twelve digits fit 64 bits.
    let part = |bytes: &[u8]| bytes.iter().try_fold(0, digit).map(u128::from).ok_or_else(bad);
    let value = part(first)? * GROUP + part(&rest[..GROUP_LEN])?;
    value.checked_mul(GROUP).and_then(|v| v.checked_add(part(&rest[GROUP_LEN..]).ok()?)).ok_or_else(bad)
}

/// The digits as a text; they are ASCII.
fn text(digits: &[u8; LEN]) -> &str {
    std::str::from_utf8(digits).unwrap_or_default()
}

/// Reads the text of an id where it stands.
struct Text;

impl de::Visitor<'_> for Text {
    type Value = u128;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id of 25 characters")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<u128, E> {
        decode(text).map_err(E::custom)
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
        // 128-bit integers are aligned to 16 bytes, which costs the tables of a million tasks a tenth of their memory in gaps.
        #[repr(Rust, packed(8))]
        pub struct $name(pub u128);

        impl $name {
            /// The first 12 characters, as tables show ids.
            #[must_use]
            pub fn short(&self) -> String {
                self.to_string().chars().take(12).collect()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(text(&encode(self.0)))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                decode(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(text(&encode(self.0)))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                d.deserialize_str(Text).map(Self)
            }
        }
    };
}

id! {
    /// A swarm; also the `O` of its certificates.
    #[derive(PartialOrd, Ord)]
    ClusterId
}
id! {
    /// A host that joined a swarm; also the `CN` of its certificate. A host that leaves and joins again is a new node.
    #[derive(PartialOrd, Ord)]
    NodeId
}
id! {
    /// A service.
    #[derive(PartialOrd, Ord)]
    ServiceId
}
id! {
    /// One attempt to run one replica: a task never moves, a replacement has a new id. Ordered by its last 64 bits first, which
    /// tasks that were made together may share: they stay together in the tables, where a million of them would else be
    /// written at a million places.
    TaskId
}

impl Ord for TaskId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.rotate_left(64).cmp(&other.0.rotate_left(64))
    }
}

impl PartialOrd for TaskId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
id! {
    /// A network of swarm scope, or one that each host has for itself.
    #[derive(PartialOrd, Ord)]
    NetworkId
}

impl NetworkId {
    /// What a service names to be on each host's own network `host`: no object of the swarm, and it has no addresses to give.
    pub const HOST: Self = Self(0x686f_7374);
    /// The same for each host's own network `bridge`.
    pub const BRIDGE: Self = Self(0x6272_6964_6765);

    /// The name of such a network.
    #[must_use]
    pub fn of_each_host(self) -> Option<&'static str> {
        [(Self::HOST, "host"), (Self::BRIDGE, "bridge")].into_iter().find_map(|(id, name)| (id == self).then_some(name))
    }

    /// Such a network by its name or id.
    #[must_use]
    pub fn find_of_each_host(target: &str) -> Option<Self> {
        [Self::HOST, Self::BRIDGE].into_iter().find(|id| id.of_each_host() == Some(target) || id.to_string() == target)
    }
}
id! {
    /// A secret or a config.
    #[derive(PartialOrd, Ord)]
    FileId
}
id! {
    /// A manager's wish for logs of one node; forgotten when they have come.
    #[derive(PartialOrd, Ord)]
    LogId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_of_each_host_are_found_by_name_and_by_id() {
        for name in ["host", "bridge"] {
            let id = NetworkId::find_of_each_host(name).unwrap();
            assert_eq!(id.of_each_host(), Some(name));
            assert_eq!(NetworkId::find_of_each_host(&id.to_string()), Some(id));
        }
        assert_eq!((NetworkId::find_of_each_host("none"), NetworkId(1).of_each_host()), (None, None));
    }

    #[test]
    fn ids_survive_a_round_trip_at_the_edges() {
        let twelve = 36u128.pow(12);
        let groups = [twelve - 1, twelve, twelve * twelve - 1, twelve * twelve];
        for value in [0, 1, 35, 36, u128::from(u64::MAX), u128::MAX].into_iter().chain(groups) {
            let id = TaskId(value);
            assert_eq!(id.to_string().len(), 25);
            assert_eq!(id.to_string().parse::<TaskId>(), Ok(id));
        }
    }

    #[test]
    fn order_of_text_is_order_of_value() {
        assert!(NodeId(36) < NodeId(37) && NodeId(36).to_string() < NodeId(37).to_string());
        assert!(NodeId(u128::MAX - 1).to_string() < NodeId(u128::MAX).to_string());
    }

    #[test]
    fn tasks_with_the_same_end_stand_together() {
        let ids = [0, 1 << 64, u128::MAX << 64, 1, (1 << 64) | 1, u128::MAX];
        assert!(ids.is_sorted_by_key(|v| TaskId(*v)));
        assert_eq!(TaskId(0), *ids.map(TaskId).iter().min().expect("some"));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        let above = "f5lxx1zz5pnorynqglhzmsp34";
        assert_eq!(decode("f5lxx1zz5pnorynqglhzmsp33"), Ok(u128::MAX));
        for text in ["", "abc", "ABCDEFGHIJKLMNOPQRSTUVWXY", "zzzzzzzzzzzzzzzzzzzzzzzzz", "ééééééééééééé", above] {
            assert!(text.parse::<NodeId>().is_err(), "{text}");
        }
    }
}
