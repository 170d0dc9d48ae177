//! Compose files from disk and standard input, and what there is to say about them.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use skep_compose::{Faults, Files, Options, Project, Stack, Warning, WarningKind, limits, load};

use crate::app::Failure;
use crate::grammar::Matches;
use crate::output::human::cause;
use crate::output::warn;

/// Files of this machine.
#[derive(Debug)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path, limit: usize) -> Result<Option<Vec<u8>>, String> {
        let cut = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        let mut bytes = Vec::new();
        let read = if path == Path::new("-") {
            std::io::stdin().lock().take(cut).read_to_end(&mut bytes)
        } else {
            match std::fs::metadata(path) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                // A pipe without a writer would be waited for without end; those of a shell's <(…) have one.
                Ok(meta) if meta.is_dir() => return Err("is a directory".to_owned()),
                _ => std::fs::File::open(path).and_then(|f| f.take(cut).read_to_end(&mut bytes)),
            }
        };
        match read {
            Ok(_) => Ok(Some(bytes)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(cause(&e)),
        }
    }
}

impl From<Faults> for Failure {
    fn from(faults: Faults) -> Self {
        Self::new(faults.to_string())
    }
}

/// Loads the files that a command names.
///
/// # Errors
/// When none is named, or with all that is wrong with them.
pub fn project(m: &Matches, interpolate: bool) -> Result<Project, Failure> {
    // One flag may name several, by commas, as with the stock client.
    let named = m.list("compose-file").iter().flat_map(|f| f.split(','));
    let files: Vec<String> = named.filter(|f| !f.is_empty()).map(str::to_owned).collect();
    if files.is_empty() {
        return Err(Failure::new("Specify a Compose file (with --compose-file)"));
    }
    let directory = std::env::current_dir().map_err(|e| Failure::new(format!("find the current directory: {e}")))?;
    // What is no UTF-8 cannot be named in a file.
    let environment: BTreeMap<String, String> =
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
    let mut options = Options { files, directory, environment, dotenv: None, interpolate };
    let path: PathBuf = options.project_directory().join(".env");
    options.dotenv = match Disk.read(&path, limits::FILE_BYTES) {
        Ok(bytes) => bytes.map(|b| (path.strip_prefix(&options.directory).unwrap_or(&path).display().to_string(), b)),
        Err(why) => return Err(Failure::new(format!("read {}: {why}", path.display()))),
    };
    Ok(load(&options, &Disk)?)
}

/// The stack of the files that a command names, warnings told.
///
/// # Errors
/// As [`project`].
pub fn stack(m: &Matches, name: &str) -> Result<Stack, Failure> {
    let project = project(m, true)?;
    let stack = project.stack(name, &Disk)?;
    tell(&stack.warnings);
    Ok(stack)
}

/// Tells what a swarm does not act on: the stock client's lists, then each key with its place.
fn tell(warnings: &[Warning]) {
    if let Some(text) = notice(warnings) {
        warn(&text);
    }
}

fn notice(warnings: &[Warning]) -> Option<String> {
    if warnings.is_empty() {
        return None;
    }
    let keys = |kind| {
        let mut keys: Vec<&str> = warnings.iter().filter(|w| w.kind == kind).map(|w| w.key.as_str()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    };
    let mut out = String::new();
    let unsupported = keys(WarningKind::Unsupported);
    if !unsupported.is_empty() {
        out += &format!("Ignoring unsupported options: {}\n\n", unsupported.join(", "));
    }
    let deprecated = keys(WarningKind::Deprecated);
    if !deprecated.is_empty() {
        let text =
            |key: &&str| warnings.iter().find(|w| w.key == **key).map(|w| format!("{key}: {}", w.text)).unwrap_or_default();
        out += &format!("Ignoring deprecated options:\n\n{}\n\n", deprecated.iter().map(text).collect::<Vec<_>>().join("\n\n"));
    }
    for warning in warnings {
        out += &format!("{warning}\n");
    }
    Some(out.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct One(&'static str);

    impl Files for One {
        fn read(&self, _: &Path, _: usize) -> Result<Option<Vec<u8>>, String> {
            Ok(Some(self.0.as_bytes().to_vec()))
        }
    }

    #[test]
    fn the_stock_clients_lists_come_first() {
        let options = Options {
            files: vec!["a.yml".to_owned()],
            directory: "/x".into(),
            environment: BTreeMap::new(),
            dotenv: None,
            interpolate: true,
        };
        let text = "services:\n  web: {image: i, restart: always, build: ., container_name: c}\n";
        let project = load(&options, &One(text)).unwrap();
        let told = notice(project.warnings()).unwrap();
        assert!(
            told.starts_with(
                "Ignoring unsupported options: build, restart\n\nIgnoring deprecated options:\n\n\
             container_name: Setting the container name is not supported.\n\na.yml:2:"
            ),
            "{told}"
        );
        assert!(told.contains("a.yml:2:36: services.web.build: a swarm builds no images"), "{told}");
        assert_eq!(notice(&[]), None);
    }

    #[test]
    fn files_of_this_machine() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        assert_eq!(Disk.read(&path, 3), Ok(None));
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(Disk.read(&path, 3), Ok(Some(b"1234".to_vec())));
        assert_eq!(Disk.read(dir.path(), 3), Err("is a directory".to_owned()));
    }
}
