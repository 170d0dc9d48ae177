//! What reads others' words, fed with anything: compose files, templates, references, filters, logs, messages.
//!
//! Each [`Target`] takes any bytes and must neither panic nor run on. `fuzz/` makes targets of libFuzzer of them, where a nightly
//! compiler is; the binary of this crate (`cargo xtask fuzz`) feeds them without one: seeds, changed at random by [`mutate`].

#![forbid(unsafe_code)]

pub mod mutate;
mod targets;

/// Something that reads bytes of others.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// What it is called.
    pub name: &'static str,
    /// Reads them. A panic is a find.
    pub run: fn(&[u8]),
    /// Where to begin.
    pub seeds: &'static [&'static [u8]],
    /// Words of its language, to be put in.
    pub words: &'static [&'static str],
}

pub use targets::TARGETS;

/// The target of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|t| t.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_read() {
        for target in TARGETS {
            for seed in target.seeds {
                (target.run)(seed);
            }
            (target.run)(b"");
        }
    }

    #[test]
    fn a_round_of_each() {
        for target in TARGETS {
            let mut mutator = mutate::Mutator::new(target, 1);
            for _ in 0..200 {
                let input = mutator.input();
                (target.run)(&input);
            }
        }
    }
}
