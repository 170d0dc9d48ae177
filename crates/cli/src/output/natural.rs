//! Natural order: `web2` before `web10`.

use std::cmp::Ordering;

/// Compares two names; runs of digits count as numbers.
#[must_use]
pub fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    while let (Some(x), Some(y)) = (a.chars().next(), b.chars().next()) {
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let ((m, rest_a), (n, rest_b)) = (digits(a), digits(b));
            let (p, q) = (m.trim_start_matches('0'), n.trim_start_matches('0'));
            let by = p.len().cmp(&q.len()).then_with(|| p.cmp(q)).then_with(|| m.len().cmp(&n.len()));
            if by != Ordering::Equal {
                return by;
            }
            (a, b) = (rest_a, rest_b);
            continue;
        }
        if x != y {
            return x.cmp(&y);
        }
        a = &a[x.len_utf8()..];
        b = &b[y.len_utf8()..];
    }
    a.len().cmp(&b.len())
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::compare;

    #[test]
    fn numbers_count_as_numbers() {
        let mut names = vec!["web10", "web2", "web", "api", "web2a", "web02"];
        names.sort_by(|a, b| compare(a, b));
        assert_eq!(names, ["api", "web", "web2", "web2a", "web02", "web10"]);
    }
}
