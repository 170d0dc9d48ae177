//! What cargo says about this workspace.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

/// The workspace as `cargo metadata` describes it.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// Where its root `Cargo.toml` is.
    pub(crate) root: PathBuf,
    /// Where builds go.
    pub(crate) target: PathBuf,
    /// Its packages, as JSON.
    pub(crate) packages: Vec<Value>,
}

/// The cargo that runs this. What it said of the package `xtask` is not passed on: some packages are built again when it changes (`ring`,
/// and all that needs it), and would be whenever a build by `cargo xtask` follows one without.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let of_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_package)) {
        command.env_remove(name);
    }
    command
}

impl Workspace {
    /// Asks cargo.
    pub(crate) fn read() -> Result<Self, String> {
        let output = cargo()
            .args(["metadata", "--format-version", "1", "--no-deps"])
            .output()
            .map_err(|e| format!("run cargo metadata: {e}"))?;
        if !output.status.success() {
            return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)));
        }
        let all: Value = serde_json::from_slice(&output.stdout).map_err(|e| format!("read cargo metadata's answer: {e}"))?;
        let path = |key: &str| {
            let text = all[key].as_str().ok_or_else(|| format!("cargo metadata: no {key} in its answer"))?;
            Ok::<_, String>(PathBuf::from(text))
        };
        Ok(Self {
            root: path("workspace_root")?,
            target: path("target_directory")?,
            packages: all["packages"].as_array().cloned().unwrap_or_default(),
        })
    }
}
