//! Names that nobody chose, and which names containers may have.

const ADJECTIVES: &[&str] = &[
    "amber", "bold", "brave", "bright", "brisk", "calm", "clever", "cosy", "daring", "eager", "earnest", "fair", "fleet",
    "fond", "gentle", "glad", "golden", "happy", "hardy", "humble", "jolly", "keen", "kind", "lively", "loyal", "lucid",
    "mellow", "merry", "modest", "neat", "nimble", "noble", "patient", "placid", "polite", "proud", "quick", "quiet", "ready",
    "serene", "sharp", "shy", "smart", "snug", "solid", "spry", "steady", "sunny", "swift", "tidy", "tranquil", "trusty",
    "vivid", "warm", "wise", "witty", "zesty",
];
const NOUNS: &[&str] = &[
    "acacia",
    "alder",
    "aster",
    "bee",
    "beech",
    "birch",
    "borage",
    "bramble",
    "brood",
    "buckwheat",
    "carder",
    "cell",
    "clover",
    "cluster",
    "colony",
    "comb",
    "crocus",
    "daisy",
    "dandelion",
    "drone",
    "fern",
    "field",
    "foxglove",
    "frame",
    "gorse",
    "hazel",
    "heather",
    "hive",
    "honey",
    "hornbeam",
    "ivy",
    "keeper",
    "larch",
    "lavender",
    "linden",
    "maple",
    "meadow",
    "mint",
    "nectar",
    "oak",
    "orchard",
    "pollen",
    "poppy",
    "queen",
    "rowan",
    "sage",
    "scout",
    "sedge",
    "skep",
    "smoker",
    "swarm",
    "thistle",
    "thyme",
    "veil",
    "violet",
    "wax",
    "willow",
    "worker",
];

/// A name such as `quiet_clover` from random bytes; with `attempt` above 0 a digit follows, so that a free one is found.
#[must_use]
pub fn random_name(random: [u8; 4], attempt: u32) -> String {
    let pick = |list: &[&'static str], a: u8, b: u8| list[usize::from(u16::from_le_bytes([a, b])) % list.len()];
    let name = format!("{}_{}", pick(ADJECTIVES, random[0], random[1]), pick(NOUNS, random[2], random[3]));
    if attempt == 0 { name } else { format!("{name}{attempt}") }
}

/// Whether a container may have this name.
#[must_use]
pub fn is_valid(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphanumeric())
        && name.len() >= 2
        && name.len() <= 255
        && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_clients_accept() {
        assert!(is_valid(&random_name([1, 2, 3, 4], 0)) && is_valid(&random_name([255; 4], 7)));
        for bad in ["", "a", "-x", "a b", "ü1", "a/b"] {
            assert!(!is_valid(bad), "{bad}");
        }
    }
}
