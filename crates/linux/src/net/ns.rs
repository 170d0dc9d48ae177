//! Network namespaces: made, pinned to a file by a bind mount, entered on a thread of its own.
//!
//! A thread that changed its namespace never goes back to work: it ends. So no runtime's worker is ever in a foreign namespace.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{FsType, statfs};
use skep_engine::net::NetError;
use skep_netplan::Ns;

/// `NSFS_MAGIC`: what a pinned namespace's file system says it is.
const NSFS: i64 = 0x6e73_6673;

/// Where this host's namespaces are.
#[derive(Debug)]
pub(super) struct Namespaces {
    host: File,
    dir: PathBuf,
}

impl Namespaces {
    pub(super) fn open(host: File, dir: PathBuf) -> Result<Self, NetError> {
        fs::create_dir_all(&dir).map_err(|e| NetError::host("create directory", dir.display().to_string(), e))?;
        Ok(Self { host, dir })
    }

    pub(super) fn path(&self, ns: &Ns) -> PathBuf {
        self.dir.join(ns.to_string())
    }

    /// A descriptor of the namespace.
    pub(super) fn file(&self, ns: &Ns) -> io::Result<File> {
        match ns {
            Ns::Host => self.host.try_clone(),
            _ => File::open(self.path(ns)),
        }
    }

    /// Whether it was not there before.
    pub(super) fn create(&self, ns: &Ns) -> Result<bool, NetError> {
        let path = self.path(ns);
        if pinned(&path) {
            return Ok(false);
        }
        let made = File::create(&path).and_then(|_| {
            on_thread(|| {
                unshare(CloneFlags::CLONE_NEWNET)?;
                let from = Path::new("/proc/thread-self/ns/net");
                mount(Some(from), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
                Ok(())
            })
        });
        made.map(|()| true).map_err(|e| NetError::host("create network namespace", path.display().to_string(), e))
    }

    pub(super) fn delete(&self, ns: &Ns) -> Result<(), NetError> {
        let path = self.path(ns);
        let failed = |e: io::Error| NetError::host("delete network namespace", path.display().to_string(), e);
        if pinned(&path) {
            umount2(&path, MntFlags::MNT_DETACH).map_err(|e| failed(e.into()))?;
        }
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed(e)),
            _ => Ok(()),
        }
    }

    pub(super) fn list(&self) -> Result<Vec<Ns>, NetError> {
        let failed = |e| NetError::host("list", self.dir.display().to_string(), e);
        let mut out = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            out.extend(name.to_str().and_then(Ns::from_file_name));
        }
        Ok(out)
    }

    /// Runs `work` on a thread inside the namespace.
    pub(super) fn run<T: Send>(&self, ns: &Ns, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let file = self.file(ns)?;
        on_thread(move || {
            setns(file, CloneFlags::CLONE_NEWNET)?;
            work()
        })
    }
}

/// Moves the calling thread, which must end soon, into the namespace.
pub(super) fn enter(file: File) -> io::Result<()> {
    setns(file, CloneFlags::CLONE_NEWNET)?;
    Ok(())
}

/// Runs `work` on a thread that ends with it.
pub(super) fn on_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let handle = std::thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, work)?;
        handle.join().unwrap_or_else(|_| Err(io::Error::other("the namespace thread panicked")))
    })
}

fn pinned(path: &Path) -> bool {
    statfs(path).is_ok_and(|fs| fs.filesystem_type() == FsType(NSFS as _))
}
