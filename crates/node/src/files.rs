//! What this host remembers of its swarm: `state.json`, `certificates/`, `raft/`, `worker/`. `state.json` is written last when
//! a swarm is entered and removed first when it is left, so a directory without it is rubbish. Must never write a key that
//! others may read.

use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use skep_types::control::AdvertiseFrom;
use skep_types::spec::{Availability, Role};
use skep_types::{ClusterId, NodeId};

const ROOT: &str = "swarm-root-ca.crt";
const KEYS: &str = "swarm-node.key";
const CHAIN: &str = "swarm-node.crt";

/// `state.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Disk {
    pub(crate) node: NodeId,
    pub(crate) cluster: ClusterId,
    pub(crate) role: Role,
    /// `ip:port` to listen on.
    pub(crate) listen: String,
    /// `ip:port` told to others.
    pub(crate) advertise: String,
    /// Where that comes from.
    #[serde(default)]
    pub(crate) advertise_from: AdvertiseFrom,
    pub(crate) data_path: Option<Ipv4Addr>,
    pub(crate) availability: Availability,
    /// Raft id of this join.
    pub(crate) raft_id: u64,
    /// Whether raft took this manager in.
    pub(crate) raft_joined: bool,
    /// Managers to turn to, (node id, `ip:port`).
    #[serde(default)]
    pub(crate) managers: Vec<(NodeId, String)>,
}

#[derive(Debug, Clone)]
pub(crate) struct Files(pub(crate) PathBuf);

fn write(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let tmp = path.with_extension("tmp");
    // An older attempt may have left one with another mode.
    match std::fs::remove_file(&tmp) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut f = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&tmp)?;
    f.write_all(bytes)?;
    f.sync_all()?;
    std::fs::rename(&tmp, path)?;
    path.parent().map_or(Ok(()), |d| std::fs::File::open(d)?.sync_all())
}

impl Files {
    fn state(&self) -> PathBuf {
        self.0.join("state.json")
    }

    fn certificates(&self) -> PathBuf {
        self.0.join("certificates")
    }

    pub(crate) fn raft(&self) -> PathBuf {
        self.0.join("raft")
    }

    pub(crate) fn worker(&self) -> PathBuf {
        self.0.join("worker")
    }

    /// The swarm this host is in; `None` if in none.
    pub(crate) fn load(&self) -> std::io::Result<Option<Disk>> {
        match std::fs::read(self.state()) {
            Ok(b) => Ok(Some(serde_json::from_slice(&b)?)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    pub(crate) fn save(&self, d: &Disk) -> std::io::Result<()> {
        write(&self.state(), &serde_json::to_vec_pretty(d)?, 0o600)
    }

    pub(crate) fn root(&self) -> std::io::Result<String> {
        std::fs::read_to_string(self.certificates().join(ROOT))
    }

    pub(crate) fn save_root(&self, pem: &str) -> std::io::Result<()> {
        std::fs::create_dir_all(self.certificates())?;
        write(&self.certificates().join(ROOT), pem.as_bytes(), 0o644)
    }

    /// The key file as it lies on the disk.
    pub(crate) fn keys(&self) -> std::io::Result<Vec<u8>> {
        std::fs::read(self.certificates().join(KEYS))
    }

    /// Writes the key file, and the certificate beside it for tools that look at its age; only the key file is read again.
    pub(crate) fn save_keys(&self, bytes: &[u8], chain: &str) -> std::io::Result<()> {
        std::fs::create_dir_all(self.certificates())?;
        write(&self.certificates().join(KEYS), bytes, 0o600)?;
        write(&self.certificates().join(CHAIN), chain.as_bytes(), 0o644)
    }

    /// Removes everything; the state first. What is not there is no error.
    pub(crate) fn wipe(&self) -> std::io::Result<()> {
        let ignore = |r: std::io::Result<()>| match r {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            r => r,
        };
        ignore(std::fs::remove_file(self.state()))?;
        for d in [self.certificates(), self.raft(), self.worker()] {
            ignore(std::fs::remove_dir_all(d))?;
        }
        Ok(())
    }

    pub(crate) fn wipe_raft(&self) -> std::io::Result<()> {
        match std::fs::remove_dir_all(self.raft()) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}
