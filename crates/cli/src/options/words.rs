//! A line split into words as a shell does it: quotes and backslashes, nothing else; and fields divided by commas.

/// Splits a line into words.
///
/// # Errors
/// When a quote is not closed.
pub fn split(line: &str) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    let mut word = String::new();
    let mut inside = false;
    let mut quote: Option<char> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => {
                if inside {
                    out.push(std::mem::take(&mut word));
                }
                inside = false;
                continue;
            }
            (None, '"' | '\'') => quote = Some(c),
            (Some(q), c) if q == c => quote = None,
            (None, '\\') => word.extend(chars.next()),
            (Some('"'), '\\') => match chars.next() {
                Some(c @ ('"' | '\\' | '$' | '`')) => word.push(c),
                Some(c) => word.extend(['\\', c]),
                None => {}
            },
            (_, c) => word.push(c),
        }
        inside = true;
    }
    if quote.is_some() {
        return Err("EOF found when expecting closing quote".to_owned());
    }
    if inside {
        out.push(word);
    }
    Ok(out)
}

/// Fields of a line divided by commas; one in double quotes may hold commas (`"a,b"`, and `""` is a quote there).
///
/// # Errors
/// When a quote is not closed.
pub fn fields(line: &str) -> Result<Vec<String>, String> {
    let mut out = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let Some(last) = out.last_mut() else { break };
        match c {
            '"' if quoted && chars.next_if_eq(&'"').is_some() => last.push('"'),
            '"' if quoted => quoted = false,
            '"' if last.is_empty() => quoted = true,
            ',' if !quoted => out.push(String::new()),
            c => last.push(c),
        }
    }
    if quoted { Err(format!("{line}: a quote is not closed")) } else { Ok(out) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_as_a_shell_splits_them() {
        assert_eq!(split("sh -c 'a \"b\" c'  d\\ e \"f\\\"g\" ''").unwrap(), ["sh", "-c", "a \"b\" c", "d e", "f\"g", ""]);
        assert!(split("'a").is_err());
        assert!(split("").unwrap().is_empty());
    }

    #[test]
    fn fields_as_csv() {
        assert_eq!(fields("type=bind,\"src=/a,b\",ro").unwrap(), ["type=bind", "src=/a,b", "ro"]);
        assert_eq!(fields("\"a\"\"b\"").unwrap(), ["a\"b"]);
        assert!(fields("\"a").is_err());
    }
}
