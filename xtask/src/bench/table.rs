//! What was measured, as a table: a row a step, a column a contestant, and how many times the first one's figure the others' is.

use std::fmt::Write;

/// Figures of all rounds, in the order in which they were first taken.
#[derive(Debug, Default)]
pub(super) struct Results {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    what: String,
    unit: &'static str,
    figures: Vec<(String, Vec<f64>)>,
}

impl Results {
    /// Notes a figure.
    pub(super) fn add(&mut self, contestant: &str, what: &str, unit: &'static str, value: f64) {
        let at = self.rows.iter().position(|r| r.what == what).unwrap_or_else(|| {
            self.rows.push(Row { what: what.to_owned(), unit, figures: Vec::new() });
            self.rows.len() - 1
        });
        let figures = &mut self.rows[at].figures;
        match figures.iter_mut().find(|(name, _)| name == contestant) {
            Some((_, values)) => values.push(value),
            None => figures.push((contestant.to_owned(), vec![value])),
        }
    }

    /// The table, in Markdown.
    pub(super) fn render(&self, contestants: &[String]) -> String {
        let mut out = String::from("| What | Unit |");
        for name in contestants {
            let _ = write!(out, " {name} |");
        }
        let ratio = contestants.len() > 1;
        if ratio {
            out.push_str(" Ratio |");
        }
        out.push_str("\n|---|---|");
        out.push_str(&"---|".repeat(contestants.len() + usize::from(ratio)));
        for row in &self.rows {
            let _ = write!(out, "\n| {} | {} |", row.what, row.unit);
            let of = |name: &String| row.figures.iter().find(|(n, _)| n == name).map(|(_, values)| Spread::of(values));
            let spreads: Vec<Option<Spread>> = contestants.iter().map(of).collect();
            for spread in &spreads {
                let _ = match spread {
                    Some(s) => write!(out, " {} ({}–{}, n={}) |", short(s.median), short(s.min), short(s.max), s.count),
                    None => write!(out, " — |"),
                };
            }
            if let [Some(first), Some(second), ..] = spreads.as_slice() {
                let _ = write!(out, " {:.1}× |", second.median / first.median);
            } else if ratio {
                out.push_str(" — |");
            }
        }
        out.push('\n');
        out
    }
}

struct Spread {
    min: f64,
    median: f64,
    max: f64,
    count: usize,
}

impl Spread {
    fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |i: usize| sorted.get(i).copied().unwrap_or(f64::NAN);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 { at(middle) } else { f64::midpoint(at(middle.wrapping_sub(1)), at(middle)) };
        Self { min: at(0), median, max: at(sorted.len().wrapping_sub(1)), count: sorted.len() }
    }
}

/// Three digits are what such a measurement is worth.
fn short(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// One line on the machine.
pub(super) fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = read("/proc/meminfo");
    let kib: f64 = memory
        .lines()
        .find_map(|l| l.strip_prefix("MemTotal:"))
        .and_then(|l| l.split_whitespace().next()?.parse().ok())
        .unwrap_or(0.0);
    let processor = read("/proc/cpuinfo");
    let model = processor.lines().find(|l| l.starts_with("model name")).and_then(|l| l.split_once(": ")).map_or("", |(_, m)| m);
    let release = read("/etc/os-release");
    let system = release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME=")).unwrap_or_default().trim_matches('"');
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    let gib = kib / (1024.0 * 1024.0);
    format!("Machine: {cores} cores {model}, {gib:.0} GiB, kernel {}, {system}; load {load} at the start.", kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_compares_medians() {
        let mut results = Results::default();
        for value in [1.0, 3.0, 2.0] {
            results.add("A", "start", "s", value);
            results.add("B", "start", "s", value * 10.0);
        }
        results.add("A", "only here", "MiB", 512.25);
        let names = ["A".to_owned(), "B".to_owned()];
        let table = results.render(&names);
        assert!(table.contains("| start | s | 2.00 (1.00–3.00, n=3) | 20.0 (10.0–30.0, n=3) | 10.0× |"), "{table}");
        assert!(table.contains("| only here | MiB | 512 (512–512, n=1) | — | — |"), "{table}");
    }

    #[test]
    fn an_even_number_of_rounds_has_a_middle() {
        assert!((Spread::of(&[4.0, 1.0]).median - 2.5).abs() < 1e-9);
    }
}
