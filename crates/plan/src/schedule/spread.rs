//! Spreading over the values of labels (`swarm-semantics` 5.4): at each level the branch with the fewest tasks of the service
//! that has a node left, so that a full branch's share goes to the others. Must never forget a node that passes.

use std::collections::{BTreeMap, BTreeSet};

use super::Rank;

/// Tasks of a branch, its best node, and which branch it is.
type Key = (u64, Rank, usize);

/// A branch: its parts, or, at the end, its nodes.
#[derive(Debug, Default)]
struct Branch {
    parent: usize,
    /// Tasks of the service in it.
    tasks: u64,
    parts: BTreeMap<String, usize>,
    /// Parts that have nodes: by their tasks, then by their best node.
    open: BTreeSet<Key>,
    /// As what it stands in its parent's `open`.
    listed: Option<Key>,
    nodes: BTreeSet<Rank>,
}

/// The nodes that pass, divided by the values of labels.
#[derive(Debug)]
pub(super) struct Tree {
    /// The root is the first.
    branches: Vec<Branch>,
}

impl Default for Tree {
    fn default() -> Self {
        Self { branches: vec![Branch::default()] }
    }
}

impl Tree {
    fn leaf(&mut self, path: &[&str]) -> usize {
        let mut at = 0;
        for value in path {
            at = match self.branches[at].parts.get(*value) {
                Some(next) => *next,
                None => {
                    let next = self.branches.len();
                    self.branches.push(Branch { parent: at, ..Branch::default() });
                    self.branches[at].parts.insert((*value).to_owned(), next);
                    next
                }
            };
        }
        at
    }

    /// How a branch ranks among its siblings, if it has a node.
    fn key(&self, at: usize) -> Option<Key> {
        let b = &self.branches[at];
        let best = b.nodes.first().copied().or_else(|| b.open.first().map(|(_, r, _)| *r))?;
        Some((b.tasks, best, at))
    }

    /// Changes a leaf, and puts it and what it is part of where they belong.
    fn change(&mut self, leaf: usize, f: impl FnOnce(&mut Branch), tasks: u64) {
        f(&mut self.branches[leaf]);
        let mut at = leaf;
        loop {
            self.branches[at].tasks += tasks;
            if at == 0 {
                return;
            }
            let (parent, new) = (self.branches[at].parent, self.key(at));
            let old = std::mem::replace(&mut self.branches[at].listed, new);
            let open = &mut self.branches[parent].open;
            old.inspect(|k| _ = open.remove(k));
            open.extend(new);
            at = parent;
        }
    }

    /// Tasks of the service that are there already.
    pub(super) fn count(&mut self, path: &[&str], tasks: u64) {
        let leaf = self.leaf(path);
        self.change(leaf, |_| {}, tasks);
    }

    /// A node that passes.
    pub(super) fn add(&mut self, path: &[&str], r: Rank) {
        let leaf = self.leaf(path);
        self.change(leaf, |b| b.nodes.extend([r]), 0);
    }

    fn best_leaf(&self) -> usize {
        let mut at = 0;
        while let Some((_, _, next)) = self.branches[at].open.first() {
            at = *next;
        }
        at
    }

    /// The node to use next.
    pub(super) fn best(&self) -> Option<Rank> {
        self.branches[self.best_leaf()].nodes.first().copied()
    }

    /// The best node was used; whether it can be used again, and how it ranks then.
    pub(super) fn used(&mut self, r: Rank, again: Option<Rank>) {
        let leaf = self.best_leaf();
        let change = |b: &mut Branch| {
            b.nodes.remove(&r);
            b.nodes.extend(again);
        };
        self.change(leaf, change, 1);
    }
}
