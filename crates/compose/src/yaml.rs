//! YAML text to nodes: anchors, aliases, `<<`, tags and scalars, with a budget for what aliases blow up.
//!
//! Scalars are read as the stock client's library reads them (YAML 1.2 with old octals: `mode: 0440` is 288, `yes` is text). A key
//! that stands twice is an error, as there.

use std::collections::BTreeMap;
use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};

use crate::limits;
use crate::node::{Entry, Map, Merge, Node, Value};
use crate::place::{Fault, Place};

/// What may still be spent, by all files of a load together.
#[derive(Debug)]
pub(crate) struct Budget {
    nodes: usize,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new() -> Self {
        Self { nodes: limits::NODES, bytes: limits::TEXT_BYTES }
    }

    /// Pays for nodes and text; false when it is spent.
    pub(crate) fn pay(&mut self, nodes: usize, bytes: usize) -> bool {
        let enough = nodes <= self.nodes && bytes <= self.bytes;
        self.nodes = self.nodes.saturating_sub(nodes);
        self.bytes = self.bytes.saturating_sub(bytes);
        enough
    }

    /// Pays for a copy of a tree.
    pub(crate) fn pay_tree(&mut self, node: &Node) -> bool {
        let size = Size::of(node);
        self.pay(size.nodes, size.bytes)
    }
}

/// What a fault says when the budget is spent.
pub(crate) const TOO_MUCH: &str = "the file grows beyond 400000 values or 32 MiB of text once aliases, extends, includes and \
                                   variables are put in; nothing that large can be deployed";

/// What a tree costs.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    nodes: usize,
    bytes: usize,
    height: usize,
}

impl Size {
    /// The tree's depth is bounded when it is built.
    fn of(node: &Node) -> Self {
        let mut size = Self { nodes: 1, bytes: 0, height: 0 };
        let mut add = |child: &Node, key: usize| {
            let inner = Self::of(child);
            size.nodes = size.nodes.saturating_add(inner.nodes);
            size.bytes = size.bytes.saturating_add(inner.bytes).saturating_add(key);
            size.height = size.height.max(inner.height + 1);
        };
        match &node.value {
            Value::List(list) => list.iter().for_each(|n| add(n, 0)),
            Value::Map(map) => map.iter().for_each(|(k, e)| add(&e.node, k.len())),
            Value::Str(text) => size.bytes = text.len(),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {}
        }
        size
    }
}

/// A key whose value is being read. A quoted `<<` is a name.
enum Key {
    Merge,
    Name(String),
}

/// A collection that is being read.
enum Open {
    List { at: Place, anchor: usize, merge: Merge, items: Vec<Node> },
    Map { at: Place, anchor: usize, merge: Merge, map: Map, key: Option<(Key, Place)>, merges: Vec<Node> },
}

struct Loader<'a> {
    file: Arc<str>,
    budget: &'a mut Budget,
    anchors: BTreeMap<usize, (Node, Size)>,
    open: Vec<Open>,
    documents: Vec<Node>,
}

/// Reads the documents of a file, those without content left out.
///
/// # Errors
/// The first fault: what follows a fault of the text's structure cannot be trusted.
pub(crate) fn parse(file: &Arc<str>, bytes: &[u8], budget: &mut Budget) -> Result<Vec<Node>, Fault> {
    let start = Place { file: Arc::clone(file), line: 1, column: 1 };
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(e) => {
            let before = &bytes[..e.valid_up_to()];
            let line = before.iter().filter(|b| **b == b'\n').count() + 1;
            let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
            let place = Place { file: Arc::clone(file), line: number(line), column: number(column) };
            return Err(Fault { place, text: "yaml: the file is not UTF-8 text".to_owned() });
        }
    };
    let mut loader =
        Loader { file: Arc::clone(file), budget, anchors: BTreeMap::new(), open: Vec::new(), documents: Vec::new() };
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => loader.event(event, span)?,
            Err(e) => return Err(Fault { place: loader.place(e.marker()), text: format!("yaml: {}", e.info()) }),
        }
    }
    if loader.documents.is_empty() {
        return Err(Fault { place: start, text: "Top-level object must be a mapping: the file is empty".to_owned() });
    }
    Ok(loader.documents)
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl Loader<'_> {
    fn place(&self, mark: &Marker) -> Place {
        // The parser's lines begin with 1, its columns with 0.
        Place { file: Arc::clone(&self.file), line: number(mark.line().max(1)), column: number(mark.col() + 1) }
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Fault> {
        let at = self.place(&span.start);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.pay(&at, 1, text.len())?;
                let (merge, value) = scalar(&text, style, tag.as_deref(), &at)?;
                let plain_key = style == ScalarStyle::Plain && text == "<<";
                self.finish(Node { at, value, merge }, anchor, plain_key)
            }
            Event::SequenceStart(anchor, tag) => {
                let merge = collection_tag(tag.as_deref(), "seq", &at)?;
                self.enter(Open::List { at, anchor, merge, items: Vec::new() })
            }
            Event::MappingStart(anchor, tag) => {
                let merge = collection_tag(tag.as_deref(), "map", &at)?;
                self.enter(Open::Map { at, anchor, merge, map: Map::new(), key: None, merges: Vec::new() })
            }
            Event::SequenceEnd | Event::MappingEnd => self.leave(),
            Event::Alias(id) => {
                let Some((node, size)) = self.anchors.get(&id) else {
                    let text = "yaml: the alias stands inside its own anchor".to_owned();
                    return Err(Fault { place: at, text });
                };
                let (mut node, size) = (node.clone(), *size);
                if self.open.len() + size.height > limits::DEPTH {
                    return Err(too_deep(at));
                }
                self.pay(&at, size.nodes, size.bytes)?;
                node.merge = Merge::Usual;
                self.finish(node, 0, false)
            }
            _ => Ok(()),
        }
    }

    fn pay(&mut self, at: &Place, nodes: usize, bytes: usize) -> Result<(), Fault> {
        if self.budget.pay(nodes, bytes) { Ok(()) } else { Err(Fault { place: at.clone(), text: TOO_MUCH.to_owned() }) }
    }

    fn enter(&mut self, open: Open) -> Result<(), Fault> {
        let (Open::List { at, .. } | Open::Map { at, .. }) = &open;
        let at = at.clone();
        if self.open.len() >= limits::DEPTH {
            return Err(too_deep(at));
        }
        self.pay(&at, 1, 0)?;
        self.open.push(open);
        Ok(())
    }

    fn leave(&mut self) -> Result<(), Fault> {
        match self.open.pop() {
            Some(Open::List { at, anchor, merge, items }) => {
                self.finish(Node { at, value: Value::List(items), merge }, anchor, false)
            }
            Some(Open::Map { at, anchor, merge, mut map, merges, .. }) => {
                // An earlier source wins over a later one, and the mapping's own keys over all.
                for source in merges {
                    if let Value::Map(source) = source.value {
                        for (key, entry) in source {
                            map.entry(key).or_insert(entry);
                        }
                    }
                }
                self.finish(Node { at, value: Value::Map(map), merge }, anchor, false)
            }
            None => Ok(()),
        }
    }

    /// A node is whole: it gets its anchor and goes where it belongs.
    fn finish(&mut self, node: Node, anchor: usize, merge_key: bool) -> Result<(), Fault> {
        if anchor > 0 {
            let mut kept = node.clone();
            kept.merge = Merge::Usual;
            let size = Size::of(&kept);
            self.pay(&node.at, size.nodes, size.bytes)?;
            self.anchors.insert(anchor, (kept, size));
        }
        match self.open.last_mut() {
            None => {
                if !matches!(node.value, Value::Null) {
                    self.documents.push(node);
                }
            }
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { map, key, merges, .. }) => match key.take() {
                None if merge_key => *key = Some((Key::Merge, node.at)),
                None => {
                    let Some(text) = node.scalar() else {
                        return Err(Fault { place: node.at, text: "yaml: a key must be text".to_owned() });
                    };
                    if let Some(first) = map.get(&text) {
                        let text = format!("yaml: mapping key {text:?} already defined at line {}", first.key.line);
                        return Err(Fault { place: node.at, text });
                    }
                    *key = Some((Key::Name(text), node.at));
                }
                Some((Key::Merge, _)) => merges.extend(merge_sources(node)?),
                Some((Key::Name(name), place)) => {
                    map.insert(name, Entry { key: place, node });
                }
            },
        }
        Ok(())
    }
}

fn too_deep(place: Place) -> Fault {
    Fault { place, text: format!("yaml: nested deeper than {} levels", limits::DEPTH) }
}

/// The mappings that `<<` names.
fn merge_sources(node: Node) -> Result<Vec<Node>, Fault> {
    let wrong = |place: &Place| Fault {
        place: place.clone(),
        text: "yaml: map merge requires map or sequence of maps as the value".to_owned(),
    };
    match node.value {
        Value::Map(_) => Ok(vec![node]),
        Value::List(list) => match list.iter().find(|n| n.map().is_none()) {
            Some(other) => Err(wrong(&other.at)),
            None => Ok(list),
        },
        _ => Err(wrong(&node.at)),
    }
}

fn unknown_tag(tag: &Tag, place: &Place) -> Fault {
    Fault { place: place.clone(), text: format!("yaml: the tag {}{} is not known here", tag.handle, tag.suffix) }
}

fn core(tag: &Tag) -> bool {
    tag.handle == "tag:yaml.org,2002:"
}

fn merge_tag(tag: &Tag) -> Option<Merge> {
    match (tag.handle.as_str(), tag.suffix.as_str()) {
        ("!", "reset") => Some(Merge::Reset),
        ("!", "override") => Some(Merge::Override),
        _ => None,
    }
}

fn collection_tag(tag: Option<&Tag>, own: &str, place: &Place) -> Result<Merge, Fault> {
    match tag {
        None => Ok(Merge::Usual),
        Some(tag) if core(tag) && tag.suffix == own => Ok(Merge::Usual),
        Some(tag) => merge_tag(tag).ok_or_else(|| unknown_tag(tag, place)),
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, place: &Place) -> Result<(Merge, Value), Fault> {
    let plain = || if style == ScalarStyle::Plain { resolve(text) } else { Value::Str(text.to_owned()) };
    let Some(tag) = tag else { return Ok((Merge::Usual, plain())) };
    if let Some(merge) = merge_tag(tag) {
        return Ok((merge, plain()));
    }
    if !core(tag) {
        // The tag `!` alone says: not plain.
        if tag.handle.is_empty() && tag.suffix == "!" {
            return Ok((Merge::Usual, Value::Str(text.to_owned())));
        }
        return Err(unknown_tag(tag, place));
    }
    let value = match (tag.suffix.as_str(), resolve(text)) {
        ("str", _) => Value::Str(text.to_owned()),
        ("null", value @ Value::Null) | ("bool", value @ Value::Bool(_)) | ("int", value @ Value::Int(_)) => value,
        ("float", value @ Value::Float(_)) => value,
        #[allow(clippy::cast_precision_loss)] // as the tag asks for
        ("float", Value::Int(n)) => Value::Float(n as f64),
        ("null" | "bool" | "int" | "float", _) => {
            let text = format!("yaml: cannot decode {text:?} as a !!{}", tag.suffix);
            return Err(Fault { place: place.clone(), text });
        }
        _ => return Err(unknown_tag(tag, place)),
    };
    Ok((Merge::Usual, value))
}

/// A plain scalar's meaning.
pub(crate) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "-.inf" => return Value::Str(text.to_owned()),
        _ => {}
    }
    if !text.starts_with(['+', '-', '.', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) {
        return Value::Str(text.to_owned());
    }
    if let Some(number) = integer(text) {
        return Value::Int(number);
    }
    // Only digits, a point and an exponent: Rust's parser also knows `inf` and `nan`.
    if text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'))
        && text.bytes().any(|b| b.is_ascii_digit())
        && let Ok(number) = text.parse::<f64>()
        && number.is_finite()
    {
        return Value::Float(number);
    }
    Value::Str(text.to_owned())
}

/// A whole number: decimal, `0x`, `0o`, `0b`, or octal with a leading 0.
pub(crate) fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let number = i128::from_str_radix(digits, radix).ok()?;
    i64::try_from(if negative { -number } else { number }).ok()
}
