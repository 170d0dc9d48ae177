//! Secrets and configs of a task's container. The daemon hands their bytes to the shim, which keeps them on a tmpfs that only it
//! and the container see; must never write them anywhere itself.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use skep_types::container::{FilePlace, MountPoint};

use crate::error::{Result, invalid};
use crate::oci::FILE_KIND;
use crate::shim::{FILES_DIR, StagedFile};

/// Files in it share one mount, so that the directory shows just them.
const SECRETS: &str = "/run/secrets";
/// Most files of one container: as many as descriptors and mounts cost nothing.
const MOST: usize = 1000;

/// Whether the places can be made.
pub(super) fn check(places: &[FilePlace]) -> Result<()> {
    if places.len() > MOST {
        return Err(invalid(format!("a container has at most {MOST} secrets and configs, not {}", places.len())));
    }
    let mut seen = BTreeSet::new();
    for p in places {
        let mut parts = Path::new(&p.path).components();
        let absolute = parts.next() == Some(Component::RootDir);
        let below = parts.clone().count() > 0 && parts.all(|c| matches!(c, Component::Normal(_)));
        if !absolute || !below || !seen.insert(&p.path) {
            return Err(invalid(format!("invalid place of a secret or config: {:?}", p.path)));
        }
    }
    Ok(())
}

/// Where the shim makes a file, below its own directory.
fn staged_at(index: usize, place: &FilePlace) -> PathBuf {
    match Path::new(&place.path).strip_prefix(SECRETS) {
        Ok(below) => Path::new("secrets").join(below),
        Err(_) => PathBuf::from(index.to_string()),
    }
}

/// What the shim is to make.
pub(super) fn staged(places: &[FilePlace]) -> Vec<StagedFile> {
    let one = |(i, p): (usize, &FilePlace)| StagedFile { at: staged_at(i, p), uid: p.uid, gid: p.gid, mode: p.mode };
    places.iter().enumerate().map(one).collect()
}

/// How the container gets to see it: read-only.
pub(super) fn mounts(bundle: &Path, places: &[FilePlace]) -> Vec<MountPoint> {
    let files = bundle.join(FILES_DIR);
    let mount = |source: PathBuf, destination: &str| MountPoint {
        kind: FILE_KIND.to_owned(),
        name: String::new(),
        source: source.display().to_string(),
        destination: destination.to_owned(),
        rw: false,
        driver: String::new(),
    };
    let is_below = |p: &FilePlace| Path::new(&p.path).starts_with(SECRETS);
    let mut out = Vec::new();
    if places.iter().any(is_below) {
        out.push(mount(files.join("secrets"), SECRETS));
    }
    let others = places.iter().enumerate().filter(|(_, p)| !is_below(p));
    out.extend(others.map(|(i, p)| mount(files.join(staged_at(i, p)), &p.path)));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str) -> FilePlace {
        FilePlace { path: path.to_owned(), uid: 0, gid: 0, mode: 0o444 }
    }

    #[test]
    fn secrets_share_a_directory_and_the_rest_have_mounts_of_their_own() {
        let places = [place("/run/secrets/a"), place("/etc/app.conf"), place("/run/secrets/b/c")];
        check(&places).expect("good places");
        let at: Vec<_> = staged(&places).into_iter().map(|s| s.at.display().to_string()).collect();
        assert_eq!(at, ["secrets/a", "1", "secrets/b/c"]);
        let mounts = mounts(Path::new("/b"), &places);
        let shown: Vec<_> = mounts.iter().map(|m| format!("{} {}", m.source, m.destination)).collect();
        assert_eq!(shown, ["/b/files/secrets /run/secrets", "/b/files/1 /etc/app.conf"]);
        assert!(mounts.iter().all(|m| !m.rw));
    }

    #[test]
    fn places_outside_of_the_container_are_refused() {
        for bad in ["", "/", "a", "/run/secrets/../x", "/.."] {
            assert!(check(&[place(bad)]).is_err(), "{bad}");
        }
        assert!(check(&[place("/a"), place("/a")]).is_err());
    }
}
