//! `cargo xtask mutants`: can the simulator see? Puts the bugs of `crates/sim/mutants.json` into a copy of the tree, switches them on
//! one at a time, and expects that a simulation breaks an invariant, or a test of the crate fails. Must never touch the tree itself.
//!
//! In a `replace`, `BUG` is whether the bug is on: what stands there behaves both ways. So all bugs are built once, not each for itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::sim;
use crate::workspace::{Workspace, cargo};

/// What `cargo xtask mutants --help` says.
pub(crate) const USAGE: &str =
    "  mutants [WORDS…]       switch on the bugs of crates/sim/mutants.json whose names contain all WORDS, one at a time, and see
                         whether the simulator or a test finds them
";

/// A bug that is not seen within this time counts as missed.
const LIMIT: Duration = Duration::from_secs(75);
/// Names the bug that is on, to the programs that hold them all.
const SWITCH: &str = "SKEP_BUG";
const LOOK: Duration = Duration::from_millis(200);

fn read(root: &Path) -> Result<Vec<Value>, String> {
    let text = std::fs::read_to_string(root.join("crates/sim/mutants.json")).map_err(|e| format!("read mutants: {e}"))?;
    serde_json::from_str(&text).map_err(|e| format!("read mutants: {e}"))
}

fn field(m: &Value, name: &str) -> Result<String, String> {
    m[name].as_str().map(str::to_owned).ok_or_else(|| format!("a mutant has no {name}: {m}"))
}

/// Where a bug is put in: in one place, or also in those that would make up for it.
fn places(m: &Value) -> impl Iterator<Item = &Value> {
    std::iter::once(m).chain(m["also"].as_array().into_iter().flatten())
}

fn stale(name: &str, path: &Path) -> String {
    format!("mutant \"{name}\": what it replaces is not exactly once in {}", path.display())
}

/// Bugs that no longer fit the code.
///
/// # Errors
/// If the list cannot be read.
pub(crate) fn check(root: &Path) -> Result<Vec<String>, String> {
    let mut findings = Vec::new();
    for m in read(root)? {
        for place in places(&m) {
            let path = root.join(field(place, "file")?);
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            if text.matches(&field(place, "find")?).count() != 1 {
                findings.push(stale(&field(&m, "name")?, &path));
            }
        }
    }
    Ok(findings)
}

/// Runs the bugs whose names contain all the words. All of them are in one build, and each is switched on at run time.
///
/// # Errors
/// If the copy cannot be made, or a bug no longer fits the code.
pub(crate) fn run(words: &[&str]) -> Result<ExitCode, String> {
    let workspace = Workspace::read()?;
    let all = read(&workspace.root)?;
    let tree = workspace.target.join("mutants/tree");
    let binary = sim::build_of(&workspace, &with_bugs(&workspace.root, &tree, &all)?)?;
    let (mut seen, mut missed) = (0, Vec::new());
    for m in &all {
        let name = field(m, "name")?;
        if !words.iter().all(|w| name.contains(w)) {
            continue;
        }
        let found = match m["test"].as_str() {
            Some(test) => in_test(&workspace, &tree, &name, test)?,
            None => in_simulator(&binary, &name)?,
        };
        match found {
            Some(how) => {
                seen += 1;
                println!("seen    {name}: {how}");
            }
            None => {
                println!("MISSED  {name}");
                missed.push(name);
            }
        }
    }
    println!("{seen} bugs were seen, {} were missed", missed.len());
    Ok(if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether the bug of this name is switched on, as an expression: what `BUG` stands for in a replacement.
fn switch(name: &str) -> String {
    format!(
        "(|| {{ static BUG: std::sync::OnceLock<bool> = std::sync::OnceLock::new(); \
         *BUG.get_or_init(|| std::env::var({SWITCH:?}).is_ok_and(|bug| bug == {name:?})) }})()"
    )
}

/// A copy of the tree with all bugs in it; returns where it is.
fn with_bugs(root: &Path, tree: &Path, all: &[Value]) -> Result<PathBuf, String> {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for m in all {
        let name = field(m, "name")?;
        for place in places(m) {
            let file = field(place, "file")?;
            let path = root.join(&file);
            let text = match files.get(&file) {
                Some(text) => text.clone(),
                None => std::fs::read_to_string(&path).map_err(|e| format!("read {}: {e}", path.display()))?,
            };
            let find = field(place, "find")?;
            if text.matches(&find).count() != 1 {
                return Err(stale(&name, &path));
            }
            files.insert(file, text.replace(&find, &field(place, "replace")?.replace("BUG", &switch(&name))));
        }
    }
    copy(root, tree, &files)?;
    Ok(tree.to_owned())
}

/// Copies what git tracks, but for files with another content. What is already equal keeps its time, so that cargo builds only
/// what changed.
fn copy(from: &Path, to: &Path, others: &BTreeMap<String, String>) -> Result<(), String> {
    let list =
        Command::new("git").args(["ls-files", "-z"]).current_dir(from).output().map_err(|e| format!("git ls-files: {e}"))?;
    for name in String::from_utf8_lossy(&list.stdout).split('\0').filter(|n| !n.is_empty()) {
        let (a, b) = (from.join(name), to.join(name));
        let bytes = match others.get(name) {
            Some(text) => text.clone().into_bytes(),
            None => match std::fs::read(&a) {
                Ok(bytes) => bytes,
                Err(_) => continue,
            },
        };
        if std::fs::read(&b).is_ok_and(|old| old == bytes) {
            continue;
        }
        let made = b.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&b, bytes));
        made.map_err(|e| format!("copy {name}: {e}"))?;
    }
    Ok(())
}

/// How a test saw the bug, if it did.
fn in_test(workspace: &Workspace, tree: &Path, bug: &str, test: &str) -> Result<Option<String>, String> {
    let (package, filter) = test.split_once(' ').unwrap_or((test, ""));
    let status = cargo()
        .args(["test", "--quiet", "--package", package, "-j2", "--target-dir"])
        .arg(workspace.target.join("mutants/build"))
        .arg(filter)
        .env(SWITCH, bug)
        .current_dir(tree)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|e| format!("run {test}: {e}"))?;
    Ok((!status.success()).then(|| format!("test {test}")))
}

/// How the simulator saw the bug, if it did.
fn in_simulator(binary: &Path, bug: &str) -> Result<Option<String>, String> {
    let sizes: [&[&str]; 2] = [&["--hosts", "12", "--managers", "3", "--seconds", "120"], &[]];
    let mut running = Vec::new();
    for size in sizes {
        let child = Command::new(binary)
            .env(SWITCH, bug)
            .args(["--hours", "1000", "--shrink", "0"])
            .args(size)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("start the simulator: {e}"))?;
        running.push(child);
    }
    let begin = Instant::now();
    let mut found = None;
    while found.is_none() && begin.elapsed() < LIMIT {
        std::thread::sleep(LOOK);
        let ended = running.iter_mut().position(|c| c.try_wait().ok().flatten().is_some());
        if let Some(i) = ended {
            let mut out = String::new();
            if let Some(mut pipe) = running[i].stdout.take() {
                std::io::Read::read_to_string(&mut pipe, &mut out).map_err(|e| format!("read the simulator: {e}"))?;
            }
            let line = out.lines().find(|l| l.contains("invariant")).unwrap_or("the simulator panicked");
            found = Some(format!("{:.0} s, {line}", begin.elapsed().as_secs_f64()));
        }
    }
    for mut c in running {
        // One that has ended already needs no kill.
        let _ = c.kill();
        c.wait().map_err(|e| format!("end the simulator: {e}"))?;
    }
    Ok(found)
}
