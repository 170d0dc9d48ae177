//! One ordered table. Clones share what they have in common; a draft keeps what it writes in a layer of its own on top.
//!
//! To write into a shared tree copies a node at each level, and counts up a reference for each of its children: among a million
//! tasks that costs a plan more than deciding. A draft is read much, written little, and thrown away.

use std::cmp::Ordering;
use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;
use std::ops::{Bound, RangeBounds, RangeFull};

use imbl::OrdMap;
use imbl::ordmap::RangedIter;
use imbl::shared_ptr::DefaultSharedPtr;

/// Keys alone.
pub(crate) type Set<K> = Table<K, ()>;

#[derive(Debug, Clone)]
pub(crate) struct Table<K: Ord, V> {
    base: OrdMap<K, V>,
    /// What a draft wrote; `None` for what it removed.
    layer: Option<BTreeMap<K, Option<V>>>,
}

impl<K: Ord, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { base: OrdMap::new(), layer: None }
    }
}

impl<K: Ord + Clone, V: Clone> Table<K, V> {
    /// A clone that leaves the tree alone, whatever is written to it.
    pub(crate) fn draft(&self) -> Self {
        Self { base: self.base.clone(), layer: Some(self.layer.clone().unwrap_or_default()) }
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        match self.layer.as_ref().and_then(|l| l.get(key)) {
            Some(written) => written.as_ref(),
            None => self.base.get(key),
        }
    }

    pub(crate) fn put(&mut self, key: K, value: V) {
        match &mut self.layer {
            Some(layer) => drop(layer.insert(key, Some(value))),
            None => drop(self.base.insert(key, value)),
        }
    }

    pub(crate) fn remove(&mut self, key: &K) {
        match &mut self.layer {
            Some(layer) => drop(layer.insert(key.clone(), None)),
            None => drop(self.base.remove(key)),
        }
    }

    /// Entries in a range of keys, whose end is not before its beginning, in order.
    pub(crate) fn range<R: RangeBounds<K>>(&self, range: R) -> Range<'_, K, V> {
        let bounds = || -> (Bound<K>, Bound<K>) { (range.start_bound().cloned(), range.end_bound().cloned()) };
        Range {
            base: self.base.range::<_, K>(bounds()).peekable(),
            layer: self.layer.as_ref().map(|l| l.range(bounds()).peekable()),
        }
    }

    pub(crate) fn iter(&self) -> Range<'_, K, V> {
        self.range::<RangeFull>(..)
    }

    pub(crate) fn keys_in(&self, range: impl RangeBounds<K>) -> impl Iterator<Item = &K> {
        self.range(range).map(|(k, _)| k)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, v)| v)
    }
}

impl<K: Ord + Clone, V: Clone + PartialEq> PartialEq for Table<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

/// Two orders merged: what the layer says of a key holds.
pub(crate) struct Range<'a, K: Ord, V> {
    base: Peekable<RangedIter<'a, K, V, DefaultSharedPtr>>,
    layer: Option<Peekable<btree_map::Range<'a, K, Option<V>>>>,
}

impl<'a, K: Ord, V> Iterator for Range<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        let Some(layer) = &mut self.layer else { return self.base.next() };
        loop {
            let Some((written, _)) = layer.peek() else { return self.base.next() };
            match self.base.peek().map_or(Ordering::Greater, |(k, _)| k.cmp(written)) {
                Ordering::Less => return self.base.next(),
                Ordering::Equal => drop(self.base.next()),
                Ordering::Greater => {}
            }
            if let Some((key, Some(value))) = layer.next() {
                return Some((key, value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A draft reads as if everything had been written to the table itself, which stays as it was.
        #[test]
        fn a_draft_is_as_if_written(
            first in prop::collection::vec((0u8..40, any::<u8>()), 0..60),
            then in prop::collection::vec((0u8..40, prop::option::of(any::<u8>())), 0..60),
            ends in (0u8..40, 0u8..40),
        ) {
            let mut table = Table::default();
            first.iter().for_each(|(k, v)| table.put(*k, *v));
            let before: Vec<(u8, u8)> = table.iter().map(|(k, v)| (*k, *v)).collect();
            let mut wanted: BTreeMap<u8, u8> = before.iter().copied().collect();
            let mut draft = table.draft();
            for (key, value) in then {
                match value {
                    Some(value) => {
                        draft.put(key, value);
                        wanted.insert(key, value);
                    }
                    None => {
                        draft.remove(&key);
                        wanted.remove(&key);
                    }
                }
            }
            let (from, to) = (ends.0.min(ends.1), ends.0.max(ends.1));
            prop_assert!(draft.range(from..=to).eq(wanted.range(from..=to)));
            prop_assert!(draft.draft().iter().eq(wanted.iter()));
            prop_assert!((0..40).all(|k| draft.get(&k) == wanted.get(&k)));
            prop_assert!(table.iter().map(|(k, v)| (*k, *v)).eq(before));
        }
    }
}
