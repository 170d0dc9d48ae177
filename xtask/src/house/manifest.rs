//! What every crate inherits: the workspace's lints, and for pure crates the bans of clocks and hash maps.

use std::path::Path;

use super::edges::PURE;
use crate::workspace::Workspace;

/// Findings about manifests and clippy's files.
pub(super) fn check(workspace: &Workspace) -> Result<Vec<String>, String> {
    let read = |path: &Path| std::fs::read_to_string(path).map_err(|e| format!("read {}: {e}", path.display()));
    let mut findings = Vec::new();
    let root = read(&workspace.root.join("Cargo.toml"))?;
    for (section, key, value) in [
        ("workspace.lints.rust", "unsafe_code", "\"deny\""),
        ("workspace.lints.clippy", "disallowed_methods", "\"deny\""),
        ("workspace.lints.clippy", "disallowed_types", "\"deny\""),
    ] {
        if !says(&root, section, key, value) {
            findings.push(format!("Cargo.toml: [{section}] must say {key} = {value}"));
        }
    }
    for package in &workspace.packages {
        let path = package["manifest_path"].as_str().unwrap_or_default();
        if !says(&read(Path::new(path))?, "lints", "workspace", "true") {
            findings.push(format!("{path}: does not inherit the workspace's lints; add [lints] workspace = true"));
        }
    }
    for name in PURE {
        let path = workspace.root.join("crates").join(name).join("clippy.toml");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        for banned in ["std::collections::HashMap", "std::time::SystemTime::now", "std::time::Instant::now"] {
            if !text.contains(banned) {
                findings.push(format!("crates/{name}/clippy.toml: does not ban {banned}, but the crate is pure"));
            }
        }
    }
    Ok(findings)
}

/// Whether a section of a TOML file has a line `key = value`. Enough for our own files, which are formatted plainly.
fn says(toml: &str, section: &str, key: &str, value: &str) -> bool {
    let mut inside = false;
    for line in toml.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line.trim_matches(['[', ']']) == section;
        } else if inside
            && let Some((k, v)) = line.split_once('=')
            && k.trim() == key
            && v.trim() == value
        {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::says;

    #[test]
    fn a_line_counts_in_its_own_section_only() {
        let toml = "[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n\n[dependencies]\nserde.workspace = true\n";
        assert!(says(toml, "lints", "workspace", "true"));
        assert!(!says(toml, "package", "workspace", "true"));
        assert!(!says("[dependencies]\nworkspace = true", "lints", "workspace", "true"));
        assert!(!says("[lints]\nworkspace = false", "lints", "workspace", "true"));
    }
}
