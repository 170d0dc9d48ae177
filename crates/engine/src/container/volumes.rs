//! Volumes with options, as a container that starts or is looked into gets them.

use std::collections::BTreeSet;
use std::time::Duration;

use skep_types::container::MountPoint;
use skep_types::volume::Filesystem;
use tokio::sync::OwnedMutexGuard;

use crate::Engine;
use crate::error::{Result, internal};
use crate::shim::{MOUNT_FAILED, VolumeMount};

/// How long the host's resolver may take to find a server; what it has not found by then it will not find.
const RESOLVE_LIMIT: Duration = Duration::from_secs(10);

fn names(mounts: &[MountPoint]) -> BTreeSet<&str> {
    mounts.iter().filter(|m| m.kind == "volume").map(|m| m.name.as_str()).collect()
}

impl Engine {
    /// Keeps other containers with the same volumes from starting, so that one mount serves all. In the order of names, so that two
    /// never wait for one another.
    pub(super) async fn volumes_starting(&self, mounts: &[MountPoint]) -> Vec<OwnedMutexGuard<()>> {
        let mut guards = Vec::new();
        for name in names(mounts) {
            if self.volumes.filesystem(name).is_some() {
                guards.push(self.volumes.starting(name).await);
            }
        }
        guards
    }

    /// What of a container's volumes is to be mounted, and who has it mounted already.
    pub(super) async fn filesystems(&self, mounts: &[MountPoint], own: &str) -> Result<Vec<VolumeMount>> {
        let mut out = Vec::new();
        for name in names(mounts) {
            let Some(filesystem) = self.volumes.filesystem(name) else { continue };
            let at = self.volumes.get(name)?.mountpoint.into();
            let users = self.volume_users(name).into_iter().filter(|id| id != own);
            let running = users.filter_map(|id| self.find(&id).ok()).filter(|c| c.is_running());
            let lenders: Vec<_> = running.map(|c| c.bundle.clone()).collect();
            let filesystem = match resolved(&filesystem).await {
                Ok(resolved) => resolved,
                // It is mounted already, and stays so whatever the resolver says.
                Err(_) if !lenders.is_empty() => filesystem,
                Err(why) => return Err(internal(&format!("{MOUNT_FAILED}'{name}'"), why)),
            };
            out.push(VolumeMount { name: name.to_owned(), at, filesystem, lenders });
        }
        Ok(out)
    }
}

/// The filesystem with the address of its server: mount(2) knows no names.
async fn resolved(filesystem: &Filesystem) -> std::result::Result<Filesystem, String> {
    let Some(host) = filesystem.host() else { return Ok(filesystem.clone()) };
    let fail = |why: &dyn std::fmt::Display| format!("error resolving passed in network volume address: lookup {host}: {why}");
    let found = tokio::time::timeout(RESOLVE_LIMIT, tokio::net::lookup_host((host, 0))).await;
    let found: Vec<_> = found.map_err(|_| fail(&"no answer within 10 s"))?.map_err(|e| fail(&e))?.map(|a| a.ip()).collect();
    let address = found.iter().find(|a| a.is_ipv4()).or(found.first()).ok_or_else(|| fail(&"no such host"))?;
    Ok(filesystem.with_address(&address.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn servers_are_looked_up_by_the_daemon() {
        let nfs = |addr: &str| Filesystem { kind: "nfs".into(), device: ":/e".into(), options: format!("addr={addr},vers=4") };
        assert_eq!(resolved(&nfs("localhost")).await.expect("found").options, "addr=127.0.0.1,vers=4");
        assert_eq!(resolved(&nfs("10.1.2.3")).await.expect("kept").options, "addr=10.1.2.3,vers=4");
        let lost = resolved(&nfs("no-such-host.invalid")).await.expect_err("not found");
        assert!(lost.starts_with("error resolving passed in network volume address: lookup no-such-host.invalid: "), "{lost}");
    }
}
