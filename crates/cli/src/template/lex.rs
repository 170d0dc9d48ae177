//! Text and actions, and the words inside an action.

use super::TemplateError;

/// A word of an action.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// `.Name`, without its dot; empty for a dot alone.
    Field(String),
    /// `$name` or `$`, without the dollar.
    Variable(String),
    /// A name: function, keyword, `true`, `nil`.
    Word(String),
    Text(String),
    Number(serde_json::Number),
    Pipe,
    Comma,
    Declare,
    Assign,
    Open,
    Close,
}

/// A word with where it stands in the template and whether it follows the one before without space.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    pub(super) token: Token,
    pub(super) at: usize,
    pub(super) glued: bool,
}

/// A piece of a template.
#[derive(Debug)]
pub(super) enum Piece {
    Text(String),
    Action(Vec<Spot>, usize),
}

/// An error at an offset, in Go's form.
pub(super) fn error(text: &str, at: usize, why: &str) -> TemplateError {
    let line = text.bytes().take(at).filter(|b| *b == b'\n').count() + 1;
    TemplateError(format!("template: :{line}: {why}"))
}

/// Splits a template into text and actions.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut out = Vec::new();
    let mut at = 0;
    let mut trim_next = false;
    loop {
        let rest = &text[at..];
        let open = rest.find("{{");
        let mut plain = &rest[..open.unwrap_or(rest.len())];
        if trim_next {
            plain = plain.trim_start();
        }
        let Some(open) = open else {
            if !plain.is_empty() {
                out.push(Piece::Text(plain.to_owned()));
            }
            return Ok(out);
        };
        let mut start = at + open + 2;
        let trims = |s: &str| s.starts_with('-') && s[1..].starts_with([' ', '\t', '\r', '\n']);
        if trims(&text[start..]) {
            plain = plain.trim_end();
            start += 1;
        }
        if !plain.is_empty() {
            out.push(Piece::Text(plain.to_owned()));
        }
        let (spots, end, trim) = action(text, start)?;
        trim_next = trim;
        if let Some(spots) = spots {
            out.push(Piece::Action(spots, start));
        }
        at = end;
    }
}

/// The words of an action that begins at `start`; nothing for a comment. Then where it ends, and whether it trims what follows.
fn action(text: &str, start: usize) -> Result<(Option<Vec<Spot>>, usize, bool), TemplateError> {
    let body = text[start..].trim_start();
    if body.starts_with("/*") {
        let from = text.len() - body.len();
        let close = text[from..].find("*/").ok_or_else(|| error(text, from, "unclosed comment"))? + from + 2;
        let rest = text[close..].trim_start();
        let (rest, trim) = rest.strip_prefix("-}}").map_or((rest, false), |r| (r, true));
        let rest = if trim { Some(rest) } else { rest.strip_prefix("}}") };
        let rest = rest.ok_or_else(|| error(text, close, "comment ends before closing delimiter"))?;
        return Ok((None, text.len() - rest.len(), trim));
    }
    let mut spots: Vec<Spot> = Vec::new();
    let mut at = start;
    let mut glued = false;
    loop {
        let rest = &text[at..];
        let Some(c) = rest.chars().next() else { return Err(error(text, at, "unclosed action")) };
        if rest.starts_with("}}") {
            return Ok((Some(spots), at + 2, false));
        }
        if c.is_whitespace() {
            let after = rest.trim_start();
            if after.starts_with("-}}") {
                return Ok((Some(spots), text.len() - after.len() + 3, true));
            }
            at += rest.len() - after.len();
            glued = false;
            continue;
        }
        let (token, used) = word(text, at)?;
        spots.push(Spot { token, at, glued });
        at += used;
        glued = true;
    }
}

fn name_len(text: &str) -> usize {
    text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len())
}

/// One word at an offset, and its length.
fn word(text: &str, at: usize) -> Result<(Token, usize), TemplateError> {
    let rest = &text[at..];
    let bad = |c: char| error(text, at, &format!("bad character U+{:04X} '{c}'", c as u32));
    let Some(c) = rest.chars().next() else { return Err(error(text, at, "unclosed action")) };
    Ok(match c {
        '|' => (Token::Pipe, 1),
        ',' => (Token::Comma, 1),
        '(' => (Token::Open, 1),
        ')' => (Token::Close, 1),
        ':' if rest.starts_with(":=") => (Token::Declare, 2),
        '=' => (Token::Assign, 1),
        '"' => quoted(text, at)?,
        '`' => {
            let end = rest[1..].find('`').ok_or_else(|| error(text, at, "unterminated raw quoted string"))?;
            (Token::Text(rest[1..=end].to_owned()), end + 2)
        }
        '\'' => {
            let inner: Vec<char> = rest.chars().take(3).collect();
            match inner.as_slice() {
                ['\'', x, '\''] if *x != '\\' => (Token::Number(u64::from(*x as u32).into()), x.len_utf8() + 2),
                _ => return Err(error(text, at, "unterminated character constant")),
            }
        }
        '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => number(text, at)?,
        '.' => {
            let n = name_len(&rest[1..]);
            (Token::Field(rest[1..=n].to_owned()), n + 1)
        }
        '$' => {
            let n = name_len(&rest[1..]);
            (Token::Variable(rest[1..=n].to_owned()), n + 1)
        }
        c if c.is_ascii_digit() || ((c == '-' || c == '+') && rest[1..].starts_with(|d: char| d.is_ascii_digit())) => {
            number(text, at)?
        }
        c if c.is_alphabetic() || c == '_' => {
            let n = name_len(rest);
            (Token::Word(rest[..n].to_owned()), n)
        }
        c => return Err(bad(c)),
    })
}

fn number(text: &str, at: usize) -> Result<(Token, usize), TemplateError> {
    let rest = &text[at..];
    let body = rest.trim_start_matches(['-', '+']);
    let n = rest.len() - body.len() + body.find(|c: char| !(c.is_alphanumeric() || c == '.' || c == '_')).unwrap_or(body.len());
    let digits = rest[..n].trim_start_matches('+').replace('_', "");
    let number = match digits.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).ok().map(Into::into),
        None => digits.parse::<i64>().ok().map(Into::into).or_else(|| {
            digits.parse::<f64>().ok().filter(|_| digits.contains(['.', 'e', 'E'])).and_then(serde_json::Number::from_f64)
        }),
    };
    number.map(|v| (Token::Number(v), n)).ok_or_else(|| error(text, at, &format!("bad number syntax: {:?}", &rest[..n])))
}

fn quoted(text: &str, at: usize) -> Result<(Token, usize), TemplateError> {
    let unterminated = || error(text, at, "unterminated quoted string");
    let mut out = String::new();
    let mut chars = text[at + 1..].char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return Ok((Token::Text(out), i + 2)),
            '\n' => return Err(unterminated()),
            '\\' => match chars.next().map(|(_, c)| c).ok_or_else(unterminated)? {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                'r' => out.push('\r'),
                c @ ('"' | '\\' | '\'') => out.push(c),
                'u' | 'x' => {
                    let len = if text[at + 1 + i..].starts_with("\\u") { 4 } else { 2 };
                    let hex: String = chars.by_ref().take(len).map(|(_, c)| c).collect();
                    let made = u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32);
                    out.push(made.ok_or_else(|| error(text, at, "invalid syntax"))?);
                }
                _ => return Err(error(text, at, "invalid syntax")),
            },
            c => out.push(c),
        }
    }
    Err(unterminated())
}
