//! The functions of templates: those of Go and those that Docker adds.

use std::cmp::Ordering;

use serde_json::Value;

use super::print::{kind, plain, printf};

/// Most spaces that `pad` adds on a side.
const MAX_PAD: usize = 1000;

const NAMES: &[&str] = &[
    "and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "index", "slice", "len", "print", "printf", "println", "html",
    "js", "urlquery", "json", "split", "join", "title", "lower", "upper", "pad", "truncate",
];

/// Whether there is such a function.
pub(super) fn known(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Whether a value counts as true.
pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(s) => !s.is_empty(),
        Value::Array(a) => !a.is_empty(),
        Value::Object(o) => !o.is_empty(),
    }
}

/// Calls a function; the error is what stands after `error calling NAME: `.
pub(super) fn call(name: &str, args: &[Value]) -> Result<Value, String> {
    let text = |i: usize| match args.get(i) {
        Some(Value::String(s)) => Ok(s.clone()),
        Some(other) => Err(format!("wrong type for value; expected string; got {}", kind(other))),
        None => Err(wrong_count(name, args.len())),
    };
    let exactly = |n: usize| if args.len() == n { Ok(()) } else { Err(wrong_count(name, args.len())) };
    let at_least = |n: usize| if args.len() >= n { Ok(()) } else { Err(wrong_count(name, args.len())) };
    let number = |i: usize| match args.get(i).and_then(Value::as_i64) {
        Some(n) => usize::try_from(n).map_err(|_| format!("index out of range: {n}")),
        None => Err(format!("wrong type for value; expected int; got {}", args.get(i).map_or("nothing", kind))),
    };
    Ok(match name {
        "not" => {
            exactly(1)?;
            Value::Bool(!truth(&args[0]))
        }
        "eq" => {
            at_least(2)?;
            let mut any = false;
            for other in &args[1..] {
                any |= equal(&args[0], other)?;
            }
            Value::Bool(any)
        }
        "ne" => {
            exactly(2)?;
            Value::Bool(!equal(&args[0], &args[1])?)
        }
        "lt" | "le" | "gt" | "ge" => {
            exactly(2)?;
            let order = order(&args[0], &args[1])?;
            Value::Bool(match name {
                "lt" => order == Ordering::Less,
                "le" => order != Ordering::Greater,
                "gt" => order == Ordering::Greater,
                _ => order != Ordering::Less,
            })
        }
        "index" => {
            at_least(1)?;
            args[1..].iter().try_fold(args[0].clone(), |value, key| index(&value, key))?
        }
        "slice" => {
            at_least(1)?;
            let start = if args.len() > 1 { number(1)? } else { 0 };
            match &args[0] {
                Value::String(s) => {
                    let end = if args.len() > 2 { number(2)? } else { s.len() };
                    s.get(start..end).map(Value::from).ok_or_else(|| format!("index out of range: {end}"))?
                }
                Value::Array(a) => {
                    let end = if args.len() > 2 { number(2)? } else { a.len() };
                    a.get(start..end).map(|s| Value::Array(s.to_vec())).ok_or_else(|| format!("index out of range: {end}"))?
                }
                other => return Err(format!("can't slice item of type {}", kind(other))),
            }
        }
        "len" => {
            exactly(1)?;
            match &args[0] {
                Value::String(s) => s.len().into(),
                Value::Array(a) => a.len().into(),
                Value::Object(o) => o.len().into(),
                other => return Err(format!("len of type {}", kind(other))),
            }
        }
        "print" => spaced(args).into(),
        "println" => (args.iter().map(plain).collect::<Vec<_>>().join(" ") + "\n").into(),
        "printf" => printf(&text(0)?, &args[1..]).into(),
        "html" => {
            escape(&spaced(args), &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&#34;"), ('\'', "&#39;")]).into()
        }
        "js" => {
            escape(&spaced(args), &[('\\', "\\\\"), ('\'', "\\'"), ('"', "\\\""), ('<', "\\u003C"), ('>', "\\u003E")]).into()
        }
        "urlquery" => crate::client::escape(&spaced(args)).replace("%20", "+").into(),
        "json" => {
            exactly(1)?;
            crate::output::list::go_json(&args[0]).into()
        }
        "split" => {
            exactly(2)?;
            let (s, by) = (text(0)?, text(1)?);
            if by.is_empty() {
                Value::Array(s.chars().map(|c| c.to_string().into()).collect())
            } else {
                Value::Array(s.split(by.as_str()).map(Value::from).collect())
            }
        }
        "join" => {
            exactly(2)?;
            match &args[0] {
                Value::Array(all) => all.iter().map(plain).collect::<Vec<_>>().join(&text(1)?).into(),
                Value::Null => "".into(),
                other => return Err(format!("wrong type for value; expected []string; got {}", kind(other))),
            }
        }
        "title" | "lower" | "upper" => {
            exactly(1)?;
            let s = text(0)?;
            match name {
                "lower" => s.to_lowercase().into(),
                "upper" => s.to_uppercase().into(),
                _ => s.split(' ').map(crate::output::human::title).collect::<Vec<_>>().join(" ").into(),
            }
        }
        "pad" => {
            exactly(3)?;
            let s = text(0)?;
            let spaces = |n: usize| " ".repeat(n.min(MAX_PAD));
            if s.is_empty() { s.into() } else { format!("{}{s}{}", spaces(number(1)?), spaces(number(2)?)).into() }
        }
        "truncate" => {
            exactly(2)?;
            text(0)?.chars().take(number(1)?).collect::<String>().into()
        }
        other => return Err(format!("{other} is not a function")),
    })
}

fn wrong_count(name: &str, got: usize) -> String {
    format!("wrong number of args for {name}: got {got}")
}

/// As Go's `Sprint`: spaces between values of which neither is a text.
fn spaced(args: &[Value]) -> String {
    let mut out = String::new();
    for (i, arg) in args.iter().enumerate() {
        if i > 0 && !arg.is_string() && !args[i - 1].is_string() {
            out.push(' ');
        }
        out += &plain(arg);
    }
    out
}

fn escape(text: &str, table: &[(char, &str)]) -> String {
    let one = |c: char| table.iter().find(|(k, _)| *k == c).map_or_else(|| c.to_string(), |(_, v)| (*v).to_owned());
    text.chars().map(one).collect()
}

fn equal(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => Ok(x == y || x.as_f64() == y.as_f64()),
        (Value::Null, _) | (_, Value::Null) => Ok(a == b),
        (Value::String(_), Value::String(_)) | (Value::Bool(_), Value::Bool(_)) => Ok(a == b),
        (Value::Array(_) | Value::Object(_), _) | (_, Value::Array(_) | Value::Object(_)) => {
            Err("invalid type for comparison".to_owned())
        }
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

fn order(a: &Value, b: &Value) -> Result<Ordering, String> {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => match (x.as_i64(), y.as_i64()) {
            (Some(x), Some(y)) => Ok(x.cmp(&y)),
            _ => Ok(x.as_f64().partial_cmp(&y.as_f64()).unwrap_or(Ordering::Equal)),
        },
        (Value::String(x), Value::String(y)) => Ok(x.cmp(y)),
        (Value::Number(_) | Value::String(_), Value::Number(_) | Value::String(_)) => {
            Err("incompatible types for comparison".to_owned())
        }
        _ => Err("invalid type for comparison".to_owned()),
    }
}

fn index(value: &Value, key: &Value) -> Result<Value, String> {
    match (value, key) {
        (Value::Object(map), Value::String(key)) => Ok(map.get(key).cloned().unwrap_or(Value::Null)),
        (Value::Object(_), other) => Err(format!("value has type {}; should be string", kind(other))),
        (Value::Array(all), Value::Number(n)) => {
            let at = n.as_u64().and_then(|n| usize::try_from(n).ok());
            at.and_then(|i| all.get(i)).cloned().ok_or_else(|| format!("reflect: slice index out of range: {n}"))
        }
        (Value::String(s), Value::Number(n)) => {
            let at = n.as_u64().and_then(|n| usize::try_from(n).ok());
            at.and_then(|i| s.as_bytes().get(i)).map(|b| Value::from(*b)).ok_or_else(|| format!("index out of range: {n}"))
        }
        (Value::Array(_) | Value::String(_), other) => Err(format!("cannot index slice/array with type {}", kind(other))),
        (Value::Null, _) => Err("index of untyped nil".to_owned()),
        (other, _) => Err(format!("can't index item of type {}", kind(other))),
    }
}
