//! Rust source without its comments and literals, line for line.

/// The code alone: comments, strings and characters become spaces; line breaks stay where they are.
pub(super) fn code_of(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let end = skipped_to(&chars, at);
        if end > at {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        } else {
            out.push(chars[at]);
            at += 1;
        }
    }
    out
}

/// Where the comment or literal that begins here ends; `at` itself if none does.
fn skipped_to(chars: &[char], at: usize) -> usize {
    let get = |i: usize| chars.get(i).copied().unwrap_or('\0');
    match (get(at), get(at + 1)) {
        ('/', '/') => (at..chars.len()).find(|i| chars[*i] == '\n').unwrap_or(chars.len()),
        ('/', '*') => block_comment(chars, at),
        ('"', _) => quoted(chars, at + 1, '"'),
        ('r', '"' | '#') if at == 0 || !is_word(get(at - 1)) || get(at - 1) == 'b' => raw_string(chars, at),
        // 'a' and '\n' are characters; 'a alone is a lifetime.
        ('\'', '\\') => quoted(chars, at + 1, '\''),
        ('\'', _) if get(at + 2) == '\'' => at + 3,
        _ => at,
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn quoted(chars: &[char], mut at: usize, close: char) -> usize {
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            c if c == close => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

fn raw_string(chars: &[char], at: usize) -> usize {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    let open = at + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        // A raw identifier, r#type.
        return at;
    }
    (open + 1..chars.len())
        .find(|i| chars[*i] == '"' && chars[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes)
        .map_or(chars.len(), |i| i + 1 + hashes)
}

fn block_comment(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

#[cfg(test)]
mod tests {
    use super::code_of;

    fn squeezed(source: &str) -> String {
        code_of(source).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_go() {
        assert_eq!(squeezed("a // unsafe\nb /* x /* unsafe */ y */ c"), "a b c");
        assert_eq!(code_of("a\n/* b\n c */\nd").lines().count(), 4);
    }

    #[test]
    fn literals_go() {
        assert_eq!(squeezed(r#"f("unsafe \" x", 'u', '\'', "b")"#), "f( , , , )");
        assert_eq!(squeezed("f(r#\"unsafe \" x\"#, br\"y\\\", z)"), "f( , b , z)");
    }

    #[test]
    fn lifetimes_and_raw_identifiers_stay() {
        assert_eq!(squeezed("fn f<'a>(x: &'a r#type) { unsafe {} }"), "fn f<'a>(x: &'a r#type) { unsafe {} }");
    }
}
