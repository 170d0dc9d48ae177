//! What a mistyped word may have meant.

/// Longest word that is compared: no command or flag comes near, and the cost grows with the square.
const LONGEST: usize = 64;

/// How many letters must be changed, put in or left out to make one word of another.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut above_left = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = above_left + usize::from(!x.eq_ignore_ascii_case(y));
            above_left = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(above_left + 1);
        }
    }
    row[b.len()]
}

/// Those words that a mistyped one may have meant, in their order: two mistakes at most (one for short words), or its beginning.
#[must_use]
pub fn near<'a>(typed: &str, words: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    if typed.is_empty() || typed.len() > LONGEST {
        return Vec::new();
    }
    let letters = |w: &str| w.chars().count();
    let allowed = |w: &str| if letters(typed).min(letters(w)) < 4 { 1 } else { 2 };
    words.into_iter().filter(|w| w.starts_with(typed) || distance(typed, w) <= allowed(w)).collect()
}

#[cfg(test)]
mod tests {
    use super::near;

    #[test]
    fn near_words_are_found() {
        assert_eq!(near("servce", ["service", "secret", "run"]), ["service"]);
        assert_eq!(near("sw", ["swarm", "ps"]), ["swarm"]);
        assert_eq!(near("pss", ["ps", "run"]), ["ps"]);
        assert!(near("frobnicate", ["service", "ps"]).is_empty());
        assert!(near("", ["ps"]).is_empty());
    }
}
