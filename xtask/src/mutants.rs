//! `cargo xtask mutants`: can the simulator see? Applies the bugs of `crates/sim/mutants.json` one at a time to a copy of the
//! tree and expects that a simulation breaks an invariant, or a test of the crate fails. Must never touch the tree itself.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::sim;
use crate::workspace::{Workspace, cargo};

/// What `cargo xtask mutants --help` says.
pub(crate) const USAGE: &str =
    "  mutants [WORDS…]       apply the bugs of crates/sim/mutants.json whose names contain all WORDS, one at a time, and see
                         whether the simulator or a test finds them
";

/// A bug that is not seen within this time counts as missed.
const LIMIT: Duration = Duration::from_secs(75);
const LOOK: Duration = Duration::from_millis(200);

fn read(root: &Path) -> Result<Vec<Value>, String> {
    let text = std::fs::read_to_string(root.join("crates/sim/mutants.json")).map_err(|e| format!("read mutants: {e}"))?;
    serde_json::from_str(&text).map_err(|e| format!("read mutants: {e}"))
}

fn field(m: &Value, name: &str) -> Result<String, String> {
    m[name].as_str().map(str::to_owned).ok_or_else(|| format!("a mutant has no {name}: {m}"))
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
        let path = root.join(field(&m, "file")?);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        if text.matches(&field(&m, "find")?).count() != 1 {
            findings.push(stale(&field(&m, "name")?, &path));
        }
    }
    Ok(findings)
}

/// Runs the bugs whose names contain all the words.
///
/// # Errors
/// If the copy cannot be made, or a bug no longer fits the code.
pub(crate) fn run(words: &[&str]) -> Result<ExitCode, String> {
    let workspace = Workspace::read()?;
    let all = read(&workspace.root)?;
    let tree = workspace.target.join("mutants/tree");
    copy(&workspace.root, &tree)?;
    let (mut seen, mut missed) = (0, Vec::new());
    for m in &all {
        let name = field(m, "name")?;
        if !words.iter().all(|w| name.contains(w)) {
            continue;
        }
        let path = tree.join(field(m, "file")?);
        let good = std::fs::read_to_string(&path).map_err(|e| format!("read {}: {e}", path.display()))?;
        let (find, replace) = (field(m, "find")?, field(m, "replace")?);
        if good.matches(&find).count() != 1 {
            return Err(stale(&name, &path));
        }
        write(&path, &good.replace(&find, &replace))?;
        let found = hunt(&workspace, &tree, m["test"].as_str());
        write(&path, &good)?;
        match found? {
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

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|e| format!("write {}: {e}", path.display()))
}

/// Copies what git tracks. What is already equal keeps its time, so that cargo builds only what changed.
fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let list =
        Command::new("git").args(["ls-files", "-z"]).current_dir(from).output().map_err(|e| format!("git ls-files: {e}"))?;
    for name in String::from_utf8_lossy(&list.stdout).split('\0').filter(|n| !n.is_empty()) {
        let (a, b) = (from.join(name), to.join(name));
        let Ok(bytes) = std::fs::read(&a) else { continue };
        if std::fs::read(&b).is_ok_and(|old| old == bytes) {
            continue;
        }
        let made = b.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&b, bytes));
        made.map_err(|e| format!("copy {name}: {e}"))?;
    }
    Ok(())
}

/// How the bug in the tree was seen, if it was.
fn hunt(workspace: &Workspace, tree: &Path, test: Option<&str>) -> Result<Option<String>, String> {
    if let Some(test) = test {
        let (package, filter) = test.split_once(' ').unwrap_or((test, ""));
        let status = cargo()
            .args(["test", "--quiet", "--package", package, "-j2", "--target-dir"])
            .arg(workspace.target.join("mutants/build"))
            .arg(filter)
            .current_dir(tree)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .map_err(|e| format!("run {test}: {e}"))?;
        return Ok((!status.success()).then(|| format!("test {test}")));
    }
    let binary = sim::build_of(workspace, tree)?;
    let sizes: [&[&str]; 2] = [&["--hosts", "12", "--managers", "3", "--seconds", "120"], &[]];
    let mut running = Vec::new();
    for size in sizes {
        let child = Command::new(&binary)
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
