//! A tree of YAML whose nodes know where they stand.

use std::collections::BTreeMap;

use crate::place::Place;

/// A mapping. Its keys are sorted, so that the same files give the same stack whatever their order.
pub type Map = BTreeMap<String, Entry>;

/// A value of a mapping, and where its key stands.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The key's place.
    pub key: Place,
    /// The value.
    pub node: Node,
}

/// A value with its place.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where it begins.
    pub at: Place,
    /// What it is.
    pub value: Value,
    /// How it merges over what an earlier file says.
    pub merge: Merge,
}

/// How a value merges over what an earlier file says (Compose Specification, merge).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Merge {
    /// By the rules of its key.
    #[default]
    Usual,
    /// Tag `!override`: it replaces what was there.
    Override,
    /// Tag `!reset`: what was there is taken away.
    Reset,
}

/// What a node is.
#[derive(Debug, Clone)]
pub enum Value {
    /// `~`, `null` or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number; octal and hexadecimal ones are read as Docker reads them.
    Int(i64),
    /// Another number.
    Float(f64),
    /// Text.
    Str(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping.
    Map(Map),
}

impl Node {
    pub(crate) fn new(at: &Place, value: Value) -> Self {
        Self { at: at.clone(), value, merge: Merge::Usual }
    }

    pub(crate) fn text(at: &Place, text: impl Into<String>) -> Self {
        Self::new(at, Value::Str(text.into()))
    }

    /// The value of a key, if this is a mapping that has it and it is not null.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.map()?.get(key).map(|e| &e.node).filter(|n| !matches!(n.value, Value::Null))
    }

    pub(crate) fn map(&self) -> Option<&Map> {
        match &self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    pub(crate) fn map_mut(&mut self) -> Option<&mut Map> {
        match &mut self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The entries of a mapping; none if it is something else.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&String, &Entry)> {
        self.map().into_iter().flatten()
    }

    /// The items of a list; none if it is something else.
    pub(crate) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(list) => list,
            _ => &[],
        }
    }

    pub(crate) fn str(&self) -> Option<&str> {
        match &self.value {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    /// A scalar's text as Docker prints it: `1.10` is a number, hence `1.1`; null has none.
    pub(crate) fn scalar(&self) -> Option<String> {
        Some(match &self.value {
            Value::Bool(b) => b.to_string(),
            Value::Int(n) => n.to_string(),
            Value::Float(f) => f.to_string(),
            Value::Str(text) => text.clone(),
            Value::Null | Value::List(_) | Value::Map(_) => return None,
        })
    }

    /// Whether two trees say the same, wherever they stand.
    pub(crate) fn same(&self, other: &Node) -> bool {
        match (&self.value, &other.value) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::Float(a), Value::Float(b)) => a == b,
            (Value::Str(a), Value::Str(b)) => a == b,
            (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.same(y)),
            (Value::Map(a), Value::Map(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|((k, x), (l, y))| k == l && x.node.same(&y.node))
            }
            _ => false,
        }
    }

    /// Puts a key into a mapping, in place of what it had.
    pub(crate) fn set(&mut self, key: &str, node: Node) {
        if let Some(map) = self.map_mut() {
            map.insert(key.to_owned(), Entry { key: node.at.clone(), node });
        }
    }
}

/// A mapping of some keys.
pub(crate) fn mapping(at: &Place, fields: impl IntoIterator<Item = (String, Node)>) -> Node {
    let map = fields.into_iter().map(|(k, node)| (k, Entry { key: node.at.clone(), node })).collect();
    Node::new(at, Value::Map(map))
}
