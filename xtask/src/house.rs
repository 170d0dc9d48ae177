//! Checks of how the code is laid out, after ARCHITECTURE.md: who may use whom, what is inherited, how a file looks.

mod edges;
mod manifest;
mod source;
mod strip;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::mutants;
use crate::workspace::Workspace;

/// Runs all checks; prints each finding.
pub(crate) fn run() -> Result<ExitCode, String> {
    let workspace = Workspace::read()?;
    let crates = edges::crates(&workspace.packages);
    let mut findings = edges::check(&crates);
    findings.extend(manifest::check(&workspace)?);
    findings.extend(mutants::check(&workspace.root)?);
    let files = rust_files(&workspace.root)?;
    let mut lengths = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file).map_err(|e| format!("read {}: {e}", file.display()))?;
        let name = file.strip_prefix(&workspace.root).unwrap_or(file);
        findings.extend(source::check(&name.to_string_lossy(), &text));
        lengths.push(text.lines().count());
    }
    lengths.sort_unstable();
    let median = lengths.get(lengths.len() / 2).copied().unwrap_or(0);
    let longest = lengths.last().copied().unwrap_or(0);
    println!(
        "{} crates, {} files, {} lines; median {median}, longest {longest}",
        crates.len(),
        files.len(),
        lengths.iter().sum::<usize>()
    );
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        println!("the house is in order");
        return Ok(ExitCode::SUCCESS);
    }
    println!("{} findings", findings.len());
    Ok(ExitCode::FAILURE)
}

/// All sources of the workspace's crates, in order.
fn rust_files(root: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    let mut dirs = vec![root.join("crates"), root.join("xtask")];
    while let Some(dir) = dirs.pop() {
        let fail = |e: std::io::Error| format!("list {}: {e}", dir.display());
        for entry in std::fs::read_dir(&dir).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let path = entry.path();
            if entry.file_type().map_err(fail)?.is_dir() {
                // A crate's own build output, if somebody builds it alone, is none of ours.
                if entry.file_name() != "target" {
                    dirs.push(path);
                }
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
