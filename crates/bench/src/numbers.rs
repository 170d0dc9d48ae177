//! Quantiles and text.

/// The value below which this part of the sorted values lies; 0 without values.
pub(crate) fn quantile(sorted: &[u64], part: f64) -> u64 {
    let at = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(at.saturating_sub(1)).or(sorted.last()).copied().unwrap_or(0)
}

/// A row of times in milliseconds.
#[cfg(feature = "control")]
pub(crate) fn times(what: &str, mut millis: Vec<u64>) -> String {
    millis.sort_unstable();
    let q = |p| quantile(&millis, p);
    let (least, most) = (millis.first().copied().unwrap_or(0), millis.last().copied().unwrap_or(0));
    format!("| {what} | {} | {} ms | {} ms | {least}–{most} ms |", millis.len(), q(0.5), q(0.99))
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let v: Vec<u64> = (1..=50).collect();
        assert_eq!((quantile(&v, 0.5), quantile(&v, 0.99), quantile(&v, 0.0)), (25, 50, 1));
        assert_eq!(quantile(&[], 0.5), 0);
    }
}
