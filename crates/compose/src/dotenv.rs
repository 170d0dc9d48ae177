//! Files of variables: `.env`, `env_file` and `label_file`.
//!
//! `KEY=value` a line; `#` begins a comment at the line's start, or after a blank in an unquoted value; `export ` before the key is
//! allowed; 'single' quotes keep all, "double" ones know `\n \r \t \" \\ \$` and variables, and both may span lines. A key
//! alone takes the caller's value, if it has one.

use std::sync::Arc;

use crate::interpolate::{Variables, substitute};
use crate::limits;
use crate::place::{Fault, Place};

/// A variable of a file; no value means that it was named only.
pub(crate) type Variable = (String, Option<String>);

/// Reads such a file; variables within it see the caller's, then those before it in the file. `raw` takes every value as it is.
///
/// # Errors
/// The first fault, with its place.
pub(crate) fn parse(file: &Arc<str>, bytes: &[u8], outer: &Variables, raw: bool) -> Result<Vec<Variable>, Fault> {
    let fault = |line: usize, column: usize, text: String| Fault {
        place: Place {
            file: Arc::clone(file),
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
        },
        text,
    };
    let text = std::str::from_utf8(bytes).map_err(|_| fault(1, 1, "the file is not UTF-8 text".to_owned()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut known = outer.clone();
    let mut found: Vec<Variable> = Vec::new();
    let mut spent = 0_usize;
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let number = number + 1;
        let trimmed = line.trim_start();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let column = line.chars().count() - trimmed.chars().count() + 1;
        let trimmed = trimmed.strip_prefix("export ").map_or(trimmed, str::trim_start);
        let (key, value) = trimmed.split_once('=').map_or((trimmed.trim_end(), None), |(k, v)| (k.trim_end(), Some(v)));
        if key.is_empty() {
            return Err(fault(number, column, "no variable name before the =".to_owned()));
        }
        if key.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'')) {
            return Err(fault(number, column, format!("variable {key:?} contains whitespaces or quotes")));
        }
        let Some(value) = value else {
            found.push((key.to_owned(), known.get(key).cloned()));
            continue;
        };
        let value = if raw {
            value.to_owned()
        } else {
            let unclosed = || fault(number, column, format!("the quoted value of {key} is not closed"));
            let value = value.trim_start();
            let wrong = |t: String| fault(number, column, format!("invalid interpolation format for {key}: {t:?}"));
            match value.chars().next() {
                Some(quote @ ('"' | '\'')) => {
                    let mut quoted = String::new();
                    let mut piece = &value[1..];
                    let mut escaped = false;
                    while let Err(open) = closing(piece, quote, escaped).map(|end| quoted.push_str(&piece[..end])) {
                        escaped = open;
                        quoted.push_str(piece);
                        quoted.push('\n');
                        piece = lines.next().ok_or_else(unclosed)?.1;
                    }
                    if quote == '"' { substitute(&unescape(&quoted), &known).map_err(wrong)? } else { quoted }
                }
                _ => substitute(uncommented(value), &known).map_err(wrong)?,
            }
        };
        spent = spent.saturating_add(value.len());
        if spent > limits::TEXT_BYTES {
            return Err(fault(number, column, "the values are longer than 32 MiB together".to_owned()));
        }
        if !outer.contains_key(key) {
            known.insert(key.to_owned(), value.clone());
        }
        found.push((key.to_owned(), Some(value)));
    }
    Ok(found)
}

/// Where a quote is closed; a backslash keeps the next character of a double-quoted text.
///
/// # Errors
/// Whether a backslash keeps what follows the text (nothing: it ends at a line's end).
fn closing(text: &str, quote: char, mut escaped: bool) -> Result<usize, bool> {
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' && quote == '"' {
            escaped = true;
        } else if c == quote {
            return Ok(at);
        }
    }
    Err(false)
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('$') => out.push_str("$$"),
            Some(other @ ('"' | '\\')) => out.push(other),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

/// An unquoted value without the comment after it and the blanks around it.
fn uncommented(value: &str) -> &str {
    let mut before = ' ';
    for (at, c) in value.char_indices() {
        if c == '#' && before.is_whitespace() {
            return value[..at].trim();
        }
        before = c;
    }
    value.trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Vec<(String, Option<String>)>, String> {
        let outer = Variables::from([("HOME".to_owned(), "/root".to_owned())]);
        parse(&Arc::from(".env"), text.as_bytes(), &outer, false).map_err(|e| e.to_string())
    }

    #[test]
    fn every_form() {
        let text = "# c\n\nA=1\n export B = two words  # c\nC='$A # \\n'\nD=\"a\\tb\\\"$A\\$\"\nE=\nF=$A$HOME\nHOME\nNONE\nG=a#b\nH=\"two\n\
                    lines\"\r\nI=x=y\n";
        let some = |k: &str, v: &str| (k.to_owned(), Some(v.to_owned()));
        let expected = vec![
            some("A", "1"),
            some("B", "two words"),
            some("C", "$A # \\n"),
            some("D", "a\tb\"1$"),
            some("E", ""),
            some("F", "1/root"),
            some("HOME", "/root"),
            ("NONE".to_owned(), None),
            some("G", "a#b"),
            some("H", "two\nlines"),
            some("I", "x=y"),
        ];
        assert_eq!(of(text), Ok(expected));
    }

    #[test]
    fn faults_have_places() {
        assert_eq!(of("A=1\n  =x").unwrap_err(), ".env:2:3: no variable name before the =");
        assert_eq!(of("A B=1").unwrap_err(), ".env:1:1: variable \"A B\" contains whitespaces or quotes");
        assert_eq!(of("A='x\n\n").unwrap_err(), ".env:1:1: the quoted value of A is not closed");
        assert_eq!(of("A=$").unwrap_err(), ".env:1:1: invalid interpolation format for A: \"$\"");
        let bytes = parse(&Arc::from("f"), b"A=\xff", &Variables::new(), false).unwrap_err();
        assert_eq!(bytes.to_string(), "f:1:1: the file is not UTF-8 text");
    }

    #[test]
    fn raw_values_are_taken_as_they_are() {
        let found = parse(&Arc::from("f"), b"A='$X' # c\n", &Variables::new(), true).unwrap();
        assert_eq!(found, [("A".to_owned(), Some("'$X' # c".to_owned()))]);
    }
}
