//! JSON with indentation, its keys in the order in which the daemon wrote them. Works on text, so nothing is lost or sorted.

/// Indents valid JSON: each level starts with `unit` once more, the whole begins at `prefix`.
#[must_use]
pub fn indent(json: &str, prefix: &str, unit: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0_usize;
    let mut chars = json.chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(prefix);
        for _ in 0..depth {
            out.push_str(unit);
        }
    };
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                out.push('"');
                let mut escaped = false;
                for c in chars.by_ref() {
                    out.push(c);
                    match c {
                        '\\' if !escaped => escaped = true,
                        '"' if !escaped => break,
                        _ => escaped = false,
                    }
                }
            }
            '{' | '[' => {
                out.push(c);
                while chars.peek().is_some_and(char::is_ascii_whitespace) {
                    chars.next();
                }
                if let Some(end) = chars.next_if(|n| matches!(n, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(',');
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::indent;

    #[test]
    fn order_and_texts_stay() {
        let json = r#"{"b":[1,2],"a":{"x":"a,b:{\"c\\"},"e":{},"f":[ ]}"#;
        let want = "{\n    \"b\": [\n        1,\n        2\n    ],\n    \"a\": {\n        \"x\": \"a,b:{\\\"c\\\\\"\n    },\n    \"e\": {},\n    \"f\": []\n}";
        assert_eq!(indent(json, "", "    "), want);
    }
}
