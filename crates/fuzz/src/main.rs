//! Feeds the targets for a time: `skep-fuzz [TARGET…] [--seconds N] [--seed S]`, or one input again: `skep-fuzz TARGET --input FILE`.
//!
//! Each input is kept in a file until it was read, so that one that ends the process (a stack that is too deep, memory without
//! bound) is found as well; a panic is told with its input, and the input is kept.

use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use skep_fuzz::mutate::Mutator;
use skep_fuzz::{TARGETS, Target, find};

/// An input that takes longer than this is a find: it would hold a manager up.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the name of the file ends with that holds the input of this moment.
const RUNNING: &str = ".running";

/// What was asked for.
struct Asked {
    targets: Vec<&'static Target>,
    seconds: u64,
    seed: u64,
    input: Option<PathBuf>,
    dir: PathBuf,
}

fn read() -> Result<Asked, String> {
    let mut asked = Asked { targets: Vec::new(), seconds: 60, seed: 1, input: None, dir: PathBuf::from("target/fuzz") };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|e| format!("{text}: {e}"));
        match word.as_str() {
            "--seconds" => asked.seconds = number(value()?)?,
            "--seed" => asked.seed = number(value()?)?,
            "--input" => asked.input = Some(value()?.into()),
            "--dir" => asked.dir = value()?.into(),
            name => {
                let all = || TARGETS.iter().map(|t| t.name).collect::<Vec<_>>().join(", ");
                asked.targets.push(find(name).ok_or_else(|| format!("no target {name:?}: there are {}", all()))?);
            }
        }
    }
    if asked.targets.is_empty() {
        asked.targets.extend(TARGETS);
    }
    Ok(asked)
}

/// Feeds a target until the time is over; the file with the input that was a find, if there is one.
fn feed(target: &Target, seed: u64, limit: Duration, dir: &Path) -> Result<Option<PathBuf>, String> {
    let fail = |path: &Path, e: std::io::Error| format!("write {}: {e}", path.display());
    let at_work = dir.join(format!("{}{RUNNING}", target.name));
    let file = std::fs::File::create(&at_work).map_err(|e| fail(&at_work, e))?;
    let mut mutator = Mutator::new(target, seed);
    let (begin, mut count) = (Instant::now(), 0u64);
    let mut found = None;
    while begin.elapsed() < limit && found.is_none() {
        let input = mutator.input();
        // With its length before it: cutting the file would cost more than all else.
        let kept = [&(input.len() as u64).to_le_bytes()[..], &input].concat();
        file.write_all_at(&kept, 0).map_err(|e| fail(&at_work, e))?;
        let started = Instant::now();
        let whole = catch_unwind(AssertUnwindSafe(|| (target.run)(&input))).is_ok();
        count += 1;
        if !whole || started.elapsed() > PATIENCE {
            let kept = dir.join(format!("{}-{seed}-{count}", target.name));
            std::fs::write(&kept, &input).map_err(|e| fail(&kept, e))?;
            let what = if whole { "takes too long" } else { "panics" };
            eprintln!("{} {what} on {}: {:?}", target.name, kept.display(), String::from_utf8_lossy(&input));
            found = Some(kept);
        }
    }
    // What is left of a process that ended is the input that ended it.
    let _ = std::fs::remove_file(&at_work);
    println!("{:>14}: {count} inputs in {:.1} s", target.name, begin.elapsed().as_secs_f64());
    Ok(found)
}

fn run() -> Result<bool, String> {
    let asked = read()?;
    if let Some(path) = &asked.input {
        let mut bytes = std::fs::read(path).map_err(|e| format!("read {}: {e}", path.display()))?;
        if path.to_string_lossy().ends_with(RUNNING) {
            let (length, input) = bytes.split_at(bytes.len().min(8));
            let length = length.try_into().map_or(0, u64::from_le_bytes);
            bytes = input[..usize::try_from(length).unwrap_or(0).min(input.len())].to_vec();
        }
        asked.targets.iter().for_each(|t| (t.run)(&bytes));
        return Ok(true);
    }
    std::fs::create_dir_all(&asked.dir).map_err(|e| format!("create {}: {e}", asked.dir.display()))?;
    let share = Duration::from_secs(asked.seconds) / u32::try_from(asked.targets.len()).unwrap_or(u32::MAX);
    let mut whole = true;
    for target in &asked.targets {
        whole &= feed(target, asked.seed, share, &asked.dir)?.is_none();
    }
    Ok(whole)
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("skep-fuzz: {e}");
            ExitCode::FAILURE
        }
    }
}
