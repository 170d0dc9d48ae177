//! Files that survive a crash: written beside, synced, renamed.

use std::io::Write;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Replaces a file by the JSON of a value. With `durable` the content and the name survive power loss.
///
/// # Errors
/// When the disk refuses; the old file is then still there.
pub fn write_json(path: &Path, value: &impl Serialize, durable: bool) -> std::io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    if durable {
        file.sync_all()?;
    }
    std::fs::rename(&temporary, path)?;
    if durable && let Some(parent) = path.parent() {
        std::fs::File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// Reads a file of JSON.
///
/// # Errors
/// When it is missing or not what it should be.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> std::io::Result<T> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}
