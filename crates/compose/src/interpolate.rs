//! Variables in values: `$VAR`, `${VAR}`, `${VAR:-default}`, `${VAR-default}`, `${VAR:?error}`, `${VAR?error}`, `${VAR:+other}`,
//! `${VAR+other}`, and `$$` for a dollar (`swarm-semantics` 9.5; nested defaults and `+` as in the Compose Specification).
//!
//! Keys are not touched. A value with a variable is text until `check` casts it to what its key wants.

use std::collections::BTreeMap;

use crate::limits;
use crate::node::{Node, Value};
use crate::place::Report;
use crate::yaml::{Budget, TOO_MUCH};

/// Names and values.
pub(crate) type Variables = BTreeMap<String, String>;

/// Puts variables into every text below a node.
pub(crate) fn interpolate(node: &mut Node, path: &str, variables: &Variables, budget: &mut Budget, report: &mut Report) {
    match &mut node.value {
        Value::Str(text) if text.contains('$') => match substitute(text, variables) {
            Ok(new) => {
                if budget.pay(0, new.len()) {
                    *text = new;
                } else {
                    report.fault(&node.at, TOO_MUCH);
                }
            }
            Err(template) => report.fault(
                &node.at,
                format!("invalid interpolation format for {path}: {template:?}; you may need to escape any $ with another $"),
            ),
        },
        Value::List(items) => {
            for (n, item) in items.iter_mut().enumerate() {
                interpolate(item, &format!("{path}.{n}"), variables, budget, report);
            }
        }
        Value::Map(map) => {
            for (key, entry) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                interpolate(&mut entry.node, &path, variables, budget, report);
            }
        }
        _ => {}
    }
}

/// Text with its variables put in; or the text to show, as Docker does: the whole template if its form is wrong, else which
/// variable is missing.
///
/// # Errors
/// That text.
pub(crate) fn substitute(template: &str, variables: &Variables) -> Result<String, String> {
    let mut out = String::new();
    expand(template, variables, 0, &mut out).map_err(|wrong| match wrong {
        Wrong::Form => template.to_owned(),
        Wrong::Missing(text) => text,
    })?;
    Ok(out)
}

#[derive(Debug)]
enum Wrong {
    Form,
    Missing(String),
}

/// Most bytes of one value: a variable's own limit in the kernel is 128 KiB, and a text repeats few of them.
const VALUE_BYTES: usize = 4 << 20;

fn expand(template: &str, variables: &Variables, depth: usize, out: &mut String) -> Result<(), Wrong> {
    if depth > limits::DEFAULTS {
        return Err(Wrong::Form);
    }
    let mut rest = template;
    while let Some(dollar) = rest.find('$') {
        push(out, &rest[..dollar])?;
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            push(out, "$")?;
            rest = after;
        } else if let Some(inside) = rest.strip_prefix('{') {
            let end = closing(inside).ok_or(Wrong::Form)?;
            braced(&inside[..end], variables, depth, out)?;
            rest = &inside[end + 1..];
        } else {
            let name = name_of(rest).ok_or(Wrong::Form)?;
            push(out, variables.get(name).map_or("", String::as_str))?;
            rest = &rest[name.len()..];
        }
    }
    push(out, rest)
}

fn push(out: &mut String, text: &str) -> Result<(), Wrong> {
    if out.len() + text.len() > VALUE_BYTES {
        return Err(Wrong::Missing("the value is longer than 4 MiB with its variables put in".to_owned()));
    }
    out.push_str(text);
    Ok(())
}

/// The name at the beginning of a text.
fn name_of(text: &str) -> Option<&str> {
    if !text.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic()) {
        return None;
    }
    let end = text.find(|c: char| !(c == '_' || c.is_ascii_alphanumeric())).unwrap_or(text.len());
    Some(&text[..end])
}

/// Where the brace that was opened before this text is closed; braces within count only after a dollar.
fn closing(text: &str) -> Option<usize> {
    let mut open = 1_usize;
    let mut dollar = false;
    for (at, c) in text.char_indices() {
        match c {
            '{' if dollar => open += 1,
            '}' => {
                open -= 1;
                if open == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
        // Of `$$` neither begins a variable.
        dollar = c == '$' && !dollar;
    }
    None
}

fn braced(inside: &str, variables: &Variables, depth: usize, out: &mut String) -> Result<(), Wrong> {
    let name = name_of(inside).ok_or(Wrong::Form)?;
    let value = variables.get(name).map(String::as_str);
    let rest = &inside[name.len()..];
    if rest.is_empty() {
        return push(out, value.unwrap_or_default());
    }
    let (colon, rest) = rest.strip_prefix(':').map_or((false, rest), |r| (true, r));
    let set = value.filter(|v| !(colon && v.is_empty()));
    let mut chars = rest.chars();
    let operator = chars.next().ok_or(Wrong::Form)?;
    let word = chars.as_str();
    match (operator, set) {
        ('-' | '?', Some(value)) => push(out, value),
        ('-', None) | ('+', Some(_)) => expand(word, variables, depth + 1, out),
        ('+', None) => Ok(()),
        ('?', None) => {
            let mut message = String::new();
            expand(word, variables, depth + 1, &mut message)?;
            Err(Wrong::Missing(format!("required variable {name} is missing a value: {message}")))
        }
        _ => Err(Wrong::Form),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(template: &str) -> Result<String, String> {
        let variables = [("A", "a"), ("EMPTY", ""), ("_x1", "x")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        substitute(template, &Variables::from(variables))
    }

    #[test]
    fn every_form() {
        for (template, expected) in [
            ("plain", "plain"),
            ("$A", "a"),
            ("${A}", "a"),
            ("$A$A.$_x1-", "aa.x-"),
            ("$Ab", ""),
            ("$NONE${NONE}", ""),
            ("$$A $${A} $$$A", "$A ${A} $a"),
            ("${NONE:-d}${EMPTY:-d}${A:-d}", "dda"),
            ("${NONE-d}${EMPTY-d}${A-d}", "da"),
            ("${NONE:-}", ""),
            ("${A:?e}${A?e}${EMPTY?e}", "aa"),
            ("${A:+s}${EMPTY:+s}${NONE:+s}", "s"),
            ("${A+s}${EMPTY+s}${NONE+s}", "ss"),
            ("${NONE:-${A}}", "a"),
            ("${NONE:-${EMPTY:-${NONE-$A and more}}}", "a and more"),
            ("${NONE:-a:b-c?d}", "a:b-c?d"),
            // The first brace closes the variable: the default is `{`.
            ("${NONE:-{}}", "{}"),
            ("${NONE:-$${A}}", "${A}"),
            ("ü${A}ü", "üaü"),
        ] {
            assert_eq!(of(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn wrong_forms_are_shown_whole() {
        for template in ["$", "a $ b", "$1", "${", "${}", "${A", "${1}", "${A!}", "${A:}", "${ A}", "${A b}", "$-", "${A:-${}"]
        {
            assert_eq!(of(template), Err(template.to_owned()), "{template}");
        }
        let deep = format!("{}x{}", "${N:-".repeat(100), "}".repeat(100));
        assert_eq!(of(&deep), Err(deep.clone()));
    }

    #[test]
    fn what_is_required_is_told() {
        assert_eq!(of("${NONE:?set it}"), Err("required variable NONE is missing a value: set it".to_owned()));
        assert_eq!(of("${EMPTY:?}"), Err("required variable EMPTY is missing a value: ".to_owned()));
        assert_eq!(of("${NONE?ask $A}"), Err("required variable NONE is missing a value: ask a".to_owned()));
    }
}
