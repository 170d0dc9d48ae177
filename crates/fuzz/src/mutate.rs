//! Bytes made of other bytes: seeds with pieces cut out, doubled, swapped, put in from other seeds and from the words of the
//! target's language. The same seed of the dice gives the same inputs.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::Target;

/// Longest input: what is longer takes time and finds little.
const LONGEST: usize = 4 << 10;
/// Changes of one input; few, so that it stays near to what is well-formed.
const CHANGES: usize = 6;
/// Inputs kept to go on from, beside the seeds.
const POOL: usize = 256;

/// Makes inputs for a target.
#[derive(Debug)]
pub struct Mutator {
    dice: StdRng,
    seeds: &'static [&'static [u8]],
    words: &'static [&'static str],
    pool: Vec<Vec<u8>>,
}

impl Mutator {
    /// For a target; `seed` decides everything.
    #[must_use]
    pub fn new(target: &Target, seed: u64) -> Self {
        Self { dice: StdRng::seed_from_u64(seed), seeds: target.seeds, words: target.words, pool: Vec::new() }
    }

    /// The next input.
    pub fn input(&mut self) -> Vec<u8> {
        let mut input = self.some();
        for _ in 0..self.dice.random_range(1..=CHANGES) {
            self.change(&mut input);
        }
        input.truncate(LONGEST);
        // Some changes are kept and changed further: a walk away from the seeds.
        if self.dice.random_ratio(1, 8) {
            if self.pool.len() < POOL {
                self.pool.push(input.clone());
            } else {
                let at = self.dice.random_range(0..POOL);
                self.pool[at].clone_from(&input);
            }
        }
        input
    }

    fn some(&mut self) -> Vec<u8> {
        let kept = self.pool.len();
        if kept > 0 && self.dice.random_ratio(1, 2) {
            let at = self.dice.random_range(0..kept);
            return self.pool[at].clone();
        }
        self.seeds.choose(&mut self.dice).map(|s| s.to_vec()).unwrap_or_default()
    }

    /// A place in some bytes, the end included.
    fn place(&mut self, bytes: &[u8]) -> usize {
        self.dice.random_range(0..=bytes.len())
    }

    /// A short piece of some bytes.
    fn piece(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let from = self.place(bytes);
        let length = if self.dice.random_ratio(1, 10) { self.place(bytes) } else { self.dice.random_range(0..=12) };
        from..(from + length).min(bytes.len())
    }

    fn put(&mut self, input: &mut Vec<u8>, what: &[u8]) {
        let at = self.place(input);
        input.splice(at..at, what.iter().copied());
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        match self.dice.random_range(0..9) {
            0 => {
                let piece = self.piece(input);
                input.drain(piece);
            }
            1 => {
                let piece = self.piece(input);
                let what = input[piece].to_vec();
                let times = if self.dice.random_ratio(1, 20) { 100 } else { 1 };
                self.put(input, &what.repeat(times));
            }
            2 => {
                let other = self.some();
                let piece = self.piece(&other);
                self.put(input, &other[piece]);
            }
            3 | 4 => {
                let word = self.words.choose(&mut self.dice).copied().unwrap_or_default();
                self.put(input, word.as_bytes());
            }
            5 => {
                // A piece in the place of another one.
                let (from, to) = (self.piece(input), self.piece(input));
                let what = input[from].to_vec();
                input.splice(to, what);
            }
            6 => {
                if !input.is_empty() {
                    let at = self.dice.random_range(0..input.len());
                    input[at] = self.dice.random();
                }
            }
            7 => {
                if !input.is_empty() {
                    let at = self.dice.random_range(0..input.len());
                    input[at] ^= 1 << self.dice.random_range(0..8);
                }
            }
            _ => {
                const ODD: [&str; 9] =
                    ["0", "-1", "18446744073709551616", "9223372036854775807", "1e999", "\u{0}", "\u{feff}", "ä", "\u{1f41d}"];
                let odd = ODD.choose(&mut self.dice).copied().unwrap_or_default();
                self.put(input, odd.as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a parser that is wrong would fall over: a word within a word of its language, and a number beyond all bounds.
    #[test]
    fn what_is_hidden_is_found_and_found_again() {
        let target = Target { name: "t", run: |_| {}, seeds: &[b"a: b\n"], words: &["${", "}", "*a"] };
        let finds = |seed: u64| {
            let mut mutator = Mutator::new(&target, seed);
            let hidden = |input: &[u8]| {
                let text = String::from_utf8_lossy(input);
                text.contains("${${") && text.contains("18446744073709551616")
            };
            (0..200_000).find(|_| hidden(&mutator.input()))
        };
        let first = finds(1);
        assert!(first.is_some());
        assert_eq!(first, finds(1));
    }
}
