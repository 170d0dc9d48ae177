//! Tables and transactions as bytes: MessagePack with the fields' names, so that neighbouring versions read each other's. A field
//! that a newer version wrote, and this one does not know, is kept beside its object and goes wherever that goes: into
//! snapshots, and with every new value of the object. Must never let such a field be lost or be changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use rmpv::Value;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Key, Op, Store, Transaction};

/// Bytes that are not what they should be.
#[derive(Debug, thiserror::Error)]
#[error("not readable by this version: {0}")]
pub struct Unreadable(String);

fn unreadable(e: impl std::fmt::Display) -> Unreadable {
    Unreadable(e.to_string())
}

/// The fields of an object that this version does not know: a tree with only them. Of a list it holds the length (at nil) and
/// what it has of each position.
#[derive(Debug, Clone, PartialEq)]
pub struct Unknown(Value);

impl Serialize for Unknown {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(&bytes(&self.0).map_err(serde::ser::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for Unknown {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        tree(&blob(d)?).map(Self).map_err(serde::de::Error::custom)
    }
}

impl Unknown {
    /// What is in the first and not in the second.
    fn between(all: &Value, known: &Value) -> Option<Self> {
        let found: Vec<(Value, Value)> = match (all, known) {
            (Value::Map(all), Value::Map(known)) => {
                let below = |(k, v): &(Value, Value)| match known.iter().find(|(of, _)| of == k) {
                    None => Some((k.clone(), v.clone())),
                    Some((_, known)) => Some((k.clone(), Self::between(v, known)?.0)),
                };
                all.iter().filter_map(below).collect()
            }
            (Value::Array(all), Value::Array(known)) if all.len() == known.len() => {
                let below = |(i, (v, known))| Some((Value::from(i), Self::between(v, known)?.0));
                let mut found: Vec<_> = all.iter().zip(known).enumerate().filter_map(below).collect();
                if !found.is_empty() {
                    found.push((Value::Nil, Value::from(all.len())));
                }
                found
            }
            _ => Vec::new(),
        };
        (!found.is_empty()).then_some(Self(Value::Map(found)))
    }

    /// Puts the fields where they belong, as far as that is still there; what is there already stays.
    fn add_to(&self, object: &mut Value) {
        fn add(fields: &Value, to: &mut Value) {
            let Value::Map(fields) = fields else { return };
            match to {
                Value::Map(to) => {
                    for (key, value) in fields {
                        match to.iter_mut().find(|(k, _)| k == key) {
                            Some((_, there)) => add(value, there),
                            None => to.push((key.clone(), value.clone())),
                        }
                    }
                }
                Value::Array(to) => {
                    let same = |(k, v): &(Value, Value)| k.is_nil() && v.as_u64() == Some(to.len() as u64);
                    if !fields.iter().any(same) {
                        return;
                    }
                    for (key, value) in fields {
                        let at = key.as_u64().and_then(|i| usize::try_from(i).ok());
                        if let Some(there) = at.and_then(|i| to.get_mut(i)) {
                            add(value, there);
                        }
                    }
                }
                _ => {}
            }
        }
        add(&self.0, object);
    }
}

/// What a map has under a key, or a list at a position.
fn entry(tree: &mut Value, key: Value) -> Option<&mut Value> {
    match tree {
        Value::Map(map) => map.iter_mut().find(|(k, _)| *k == key).map(|(_, v)| v),
        Value::Array(list) => list.get_mut(usize::try_from(key.as_u64()?).ok()?),
        _ => None,
    }
}

/// The object that the operation at this position of a transaction writes: below the operation's name.
fn object_of(transaction: &mut Value, op: usize) -> Option<&mut Value> {
    match entry(entry(transaction, Value::from("ops"))?, Value::from(op))? {
        Value::Map(named) => named.first_mut().map(|(_, object)| object),
        _ => None,
    }
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Unreadable> {
    rmp_serde::to_vec_named(value).map_err(unreadable)
}

fn tree(bytes: &[u8]) -> Result<Value, Unreadable> {
    rmpv::decode::read_value(&mut &*bytes).map_err(unreadable)
}

fn bytes(tree: &Value) -> Result<Vec<u8>, Unreadable> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, tree).map_err(unreadable)?;
    Ok(bytes)
}

/// Reads bytes that are a value of their own.
fn blob<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
    struct Blob;
    impl serde::de::Visitor<'_> for Blob {
        type Value = Vec<u8>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("bytes")
        }
        fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }
        fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
            Ok(bytes)
        }
    }
    d.deserialize_bytes(Blob)
}

/// Reads a value, and what of it this version does not know.
fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<(T, Option<Unknown>), Unreadable> {
    let mut ignored = false;
    let mut reader = rmp_serde::Deserializer::from_read_ref(bytes);
    let value: T = serde_ignored::deserialize(&mut reader, |_| ignored = true).map_err(unreadable)?;
    let unknown = if ignored { Unknown::between(&tree(bytes)?, &tree(&encode(&value)?)?) } else { None };
    Ok((value, unknown))
}

/// Reads a value to which a version added fields that another had kept.
fn decode_tree<T: Serialize + DeserializeOwned>(all: &Value) -> Result<(T, Option<Unknown>), Unreadable> {
    decode(&bytes(all)?)
}

impl Transaction {
    /// From bytes of this version or a neighbouring one.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let (mut t, mut new) = decode::<Self>(bytes)?;
        if !t.unknown.is_empty() {
            // What the proposer kept for a newer version, perhaps for this one, goes back to where it was.
            let mut all = tree(bytes)?;
            for (key, fields) in &t.unknown {
                for (i, _) in t.ops.iter().enumerate().filter(|(_, op)| op.puts() == Some(*key)) {
                    object_of(&mut all, i).into_iter().for_each(|object| fields.add_to(object));
                }
            }
            if let Value::Map(fields) = &mut all {
                fields.retain(|(name, _)| name.as_str() != Some("unknown"));
            }
            (t, new) = decode_tree(&all)?;
        }
        let mut new = new.map_or(Value::Nil, |new| new.0);
        let mut unknown = BTreeMap::new();
        for (i, op) in t.ops.iter().enumerate() {
            if let (Some(key), Some(fields)) = (op.puts(), object_of(&mut new, i)) {
                unknown.insert(key, Unknown(std::mem::replace(fields, Value::Nil)));
            }
        }
        t.unknown = unknown.into_iter().collect();
        Ok(t)
    }
}

impl Op {
    /// The object that it writes, if it writes one whole.
    fn puts(&self) -> Option<Key> {
        match self {
            Self::PutCluster(_) => Some(Key::Cluster),
            Self::PutNode(o) => Some(Key::Node(o.id)),
            Self::PutService(o) => Some(Key::Service(o.id)),
            Self::PutTask(o) => Some(Key::Task(o.id)),
            Self::PutNetwork(o) => Some(Key::Network(o.id)),
            Self::PutFile(o) => Some(Key::File(o.id)),
            Self::PutRevision { service, revision, .. } => Some(Key::Revision(*service, *revision)),
            _ => None,
        }
    }

    /// The object that it removes.
    fn deletes(&self) -> Option<Key> {
        match self {
            Self::DeleteNode(id) => Some(Key::Node(*id)),
            Self::DeleteService(id) => Some(Key::Service(*id)),
            Self::DeleteTask(id) => Some(Key::Task(*id)),
            Self::DeleteNetwork(id) => Some(Key::Network(*id)),
            Self::DeleteFile(id) => Some(Key::File(*id)),
            Self::DeleteRevision { service, revision } => Some(Key::Revision(*service, *revision)),
            _ => None,
        }
    }
}

impl Store {
    /// Keeps what the proposer of a transaction did not know, and only that, beside the objects that it wrote.
    pub(crate) fn keep_unknown(&mut self, t: &Transaction) {
        if self.unknown.is_empty() && t.unknown.is_empty() {
            return;
        }
        for key in t.ops.iter().filter_map(|op| op.puts().or_else(|| op.deletes())) {
            self.unknown.remove(&key);
        }
        self.unknown.extend(t.unknown.iter().map(|(key, fields)| (*key, Arc::new(fields.clone()))));
    }

    /// A transaction as bytes, with the fields of its objects that this version does not know, so that they are not lost.
    ///
    /// # Errors
    /// None in practice: everything in it can be encoded.
    pub fn encode(&self, t: &Transaction) -> Result<Vec<u8>, Unreadable> {
        if self.unknown.is_empty() {
            return encode(t);
        }
        let of = |key: Key| Some((key, (**self.unknown.get(&key)?).clone()));
        let carried: BTreeMap<Key, Unknown> = t.ops.iter().filter_map(Op::puts).filter_map(of).collect();
        encode(&Transaction { unknown: carried.into_iter().collect(), ..t.clone() })
    }
}

/// An object as snapshots hold it: bytes of its own, so that one of another version costs no more than itself.
#[derive(Debug, Clone)]
pub(crate) enum Record<T> {
    Object(Arc<T>),
    Bytes(Vec<u8>),
}

impl<T> From<&Arc<T>> for Record<T> {
    fn from(object: &Arc<T>) -> Self {
        Self::Object(object.clone())
    }
}

impl<T: Serialize + DeserializeOwned> Record<T> {
    /// The object with what the writer kept for a newer version, and what this one does not know of it.
    pub(crate) fn read(self, kept: impl Fn(&T) -> Option<Unknown>) -> Result<(Arc<T>, Option<Unknown>), Unreadable> {
        let (bytes, (object, unknown)) = match self {
            Self::Object(o) => (Vec::new(), (o, None)),
            Self::Bytes(bytes) => {
                let (object, unknown) = decode::<T>(&bytes)?;
                (bytes, (Arc::new(object), unknown))
            }
        };
        let Some(kept) = kept(&object) else { return Ok((object, unknown)) };
        let mut all = if bytes.is_empty() { tree(&encode(&*object)?)? } else { tree(&bytes)? };
        kept.add_to(&mut all);
        decode_tree(&all).map(|(object, unknown)| (Arc::new(object), unknown))
    }
}

impl<T: Serialize> Serialize for Record<T> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Object(o) => s.serialize_bytes(&encode(&**o).map_err(serde::ser::Error::custom)?),
            Self::Bytes(bytes) => s.serialize_bytes(bytes),
        }
    }
}

impl<'de, T> Deserialize<'de> for Record<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        blob(d).map(Self::Bytes)
    }
}

#[cfg(test)]
mod tests;
