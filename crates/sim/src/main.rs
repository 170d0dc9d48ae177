//! `skep-sim`: simulates seeds one after the other, or one again; prints what broke, the seed, and the smallest schedule found.
//! Must never end with success after a violation.

use std::process::ExitCode;
use std::time::Instant;

use skep_sim::{Size, run, schedule, shrink};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

struct Options {
    seed: u64,
    seeds: Option<u64>,
    hours: f64,
    /// Seconds of real time after which no further seed is begun.
    within: f64,
    size: Size,
    shrink: usize,
    verbose: bool,
    keep_going: bool,
    /// Numbers of the events to keep; all if empty.
    only: Vec<usize>,
}

/// Simulated seconds, in front of each line of a log.
struct SimulatedTime;

impl FormatTime for SimulatedTime {
    fn format_time(&self, w: &mut Writer<'_>) -> std::fmt::Result {
        thread_local!(static START: tokio::time::Instant = tokio::time::Instant::now());
        write!(w, "{:10.3}", START.with(tokio::time::Instant::elapsed).as_secs_f64())
    }
}

fn options() -> Result<Options, String> {
    let mut o = Options {
        seed: 1,
        seeds: None,
        hours: 0.1,
        within: f64::INFINITY,
        size: Size::default(),
        shrink: 60,
        verbose: false,
        keep_going: false,
        only: Vec::new(),
    };
    let mut args = std::env::args().skip(1);
    while let Some(a) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{a} needs a value"));
        let bad = |e: &dyn std::fmt::Display| format!("{a}: {e}");
        match a.as_str() {
            "--seed" => o.seed = value()?.parse().map_err(|e| bad(&e))?,
            "--seeds" => o.seeds = Some(value()?.parse().map_err(|e| bad(&e))?),
            "--hours" => o.hours = value()?.parse().map_err(|e| bad(&e))?,
            "--within" => o.within = value()?.parse().map_err(|e| bad(&e))?,
            "--managers" => o.size.managers = value()?.parse().map_err(|e| bad(&e))?,
            "--hosts" => o.size.hosts = value()?.parse().map_err(|e| bad(&e))?,
            "--seconds" => o.size.seconds = value()?.parse().map_err(|e| bad(&e))?,
            "--shrink" => o.shrink = value()?.parse().map_err(|e| bad(&e))?,
            "--only" => {
                let list = value()?;
                o.only = list.split(',').map(|n| n.parse().map_err(|e| bad(&e))).collect::<Result<_, _>>()?;
            }
            "--keep-going" => o.keep_going = true,
            "--verbose" => o.verbose = true,
            _ => return Err(format!("unknown option {a}")),
        }
    }
    if o.size.managers == 0 || o.size.hosts < o.size.managers || o.size.hosts > 250 {
        return Err("there must be 1 to 250 hosts, and among them at least one manager".into());
    }
    Ok(o)
}

fn main() -> ExitCode {
    let o = match options() {
        Ok(o) => o,
        Err(e) => {
            eprintln!("skep-sim: {e}");
            return ExitCode::from(2);
        }
    };
    if o.verbose {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(filter).with_timer(SimulatedTime).init();
    }
    let begin = Instant::now();
    let (mut simulated, mut transactions, mut runs, mut failed) = (0, 0, 0, 0);
    let wanted = (o.hours * 3600.0) as u64;
    while o.seeds.map_or(simulated < wanted, |n| runs < n) && begin.elapsed().as_secs_f64() < o.within {
        let seed = o.seed + runs;
        let mut events = schedule::generate(seed, o.size);
        if !o.only.is_empty() {
            events = o.only.iter().filter_map(|i| events.get(*i).cloned()).collect();
        }
        let report = run(seed, o.size, &events);
        runs += 1;
        simulated += report.seconds;
        transactions += report.transactions;
        if o.seeds.is_some() {
            println!("seed {seed}: {} s, {} transactions, trace {:016x}", report.seconds, report.transactions, report.trace);
        }
        if let Some(v) = report.violation {
            println!("seed {seed}: {v}");
            if o.shrink > 0 && !o.keep_going {
                let all = schedule::generate(seed, o.size);
                let (events, v) = shrink(seed, o.size, events, v, o.shrink);
                println!("with these {} events: {v}", events.len());
                events.iter().for_each(|(at, e)| println!("  {at:>8} ms  {e:?}"));
                let only: Vec<String> =
                    events.iter().filter_map(|e| Some(all.iter().position(|a| a == e)?.to_string())).collect();
                println!("--only {}", only.join(","));
            }
            if o.keep_going {
                failed += 1;
                continue;
            }
            println!(
                "again: skep-sim --seed {seed} --seeds 1 --managers {} --hosts {} --seconds {}",
                o.size.managers, o.size.hosts, o.size.seconds
            );
            return ExitCode::FAILURE;
        }
    }
    if failed > 0 {
        println!("{failed} of {runs} simulations broke an invariant");
        return ExitCode::FAILURE;
    }
    let real = begin.elapsed().as_secs_f64();
    println!(
        "{runs} simulations, {:.1} hours simulated in {real:.0} s ({:.0} s a second), {transactions} transactions, no invariant broken",
        simulated as f64 / 3600.0,
        simulated as f64 / real.max(0.001)
    );
    ExitCode::SUCCESS
}
