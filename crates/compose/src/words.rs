//! Splits a command line into words as the stock client does: quotes, backslashes, and `#` for a comment at a word's start.

/// The words of a line.
///
/// # Errors
/// The stock client's text when a quote is not closed.
pub(crate) fn split(line: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '#' if word.is_none() => {
                chars.by_ref().find(|c| *c == '\n');
            }
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return Err("EOF found when expecting closing quote"),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some('\\') => match chars.next() {
                            Some(c) => word.push(c),
                            None => return Err("EOF found after escape character"),
                        },
                        Some(c) => word.push(c),
                        None => return Err("EOF found when expecting closing quote"),
                    }
                }
            }
            '\\' => match chars.next() {
                Some(c) => word.get_or_insert_default().push(c),
                None => return Err("EOF found after escape character"),
            },
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn lines() {
        for (line, words) in [
            ("", vec![]),
            ("a  b\tc\n", vec!["a", "b", "c"]),
            ("sh -c 'while true; do sleep 1; done'", vec!["sh", "-c", "while true; do sleep 1; done"]),
            (r#"a"b \" c"'d'\ e"#, vec!["ab \" cd e"]),
            ("'' \"\"", vec!["", ""]),
            ("a #b\nc d#e", vec!["a", "c", "d#e"]),
        ] {
            assert_eq!(split(line), Ok(words.into_iter().map(str::to_owned).collect()), "{line}");
        }
        for line in ["'a", "\"a", "a\\", "\"a\\"] {
            assert!(split(line).is_err(), "{line}");
        }
    }
}
