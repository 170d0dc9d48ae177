//! Devices of the host that a container gets: found when it is started, as Docker does, since they come and go.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use skep_types::container::{DeviceMap, HostConfig};

use crate::error::{Code, EngineError, Result, internal};
use crate::host::HostFacts;
use crate::oci::Device;

/// Most devices of one container: more than a directory such as /dev/snd or /dev/dri has on any host.
const MOST: usize = 1000;
/// Levels of directories that are looked through.
const MAX_DEPTH: usize = 8;

/// Whether this host can keep a container to what it was given.
pub(super) fn check(host: &HostConfig, facts: &HostFacts) -> Result<()> {
    if facts.cgroup_version != 2 || host.privileged {
        return Ok(());
    }
    let partly = host.devices.iter().find(|d| d.permissions.len() < 3);
    let what = match (host.device_rules.first(), partly) {
        (Some(rule), _) => format!("--device-cgroup-rule {rule:?}"),
        (None, Some(d)) => format!("--device {}:{}:{} (only rwm)", d.host, d.container, d.permissions),
        (None, None) => return Ok(()),
    };
    let text = format!("{what} on a host with cgroup v2, where there is no filter of devices, is not built yet in Skep");
    Err(EngineError::new(Code::Unimplemented, text))
}

/// What containers have of their own, or must not see.
const NEVER: [&str; 9] = [
    "/dev/pts",
    "/dev/shm",
    "/dev/fd",
    "/dev/mqueue",
    "/dev/console",
    "/dev/ptmx",
    "/dev/.udev",
    "/dev/.lxc",
    "/dev/.lxd-mounts",
];

/// All devices of the host, for privileged containers; links to them are none.
fn all(dir: &Path, depth: usize, out: &mut Vec<Device>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
        if NEVER.iter().any(|n| path == Path::new(n)) {
            continue;
        }
        if kind.is_dir() && depth < MAX_DEPTH {
            all(&path, depth + 1, out);
        } else if kind.is_char_device() || kind.is_block_device() {
            // One that goes while the others are looked at is none.
            let _ = gather(&path, &path, "rwm", MAX_DEPTH, out);
        }
    }
}

/// The devices that a container gets.
pub(super) fn of(host: &HostConfig) -> Result<Vec<Device>> {
    let mut out = Vec::new();
    if host.privileged {
        all(Path::new("/dev"), 0, &mut out);
    }
    out.extend(find(&host.devices)?);
    // What was named comes last and is meant; the runtime library makes each place once.
    let mut seen = std::collections::BTreeSet::new();
    out.reverse();
    out.retain(|d| seen.insert(d.path.clone()));
    Ok(out)
}

/// What `--device` names; a directory stands for all devices in it.
fn find(maps: &[DeviceMap]) -> Result<Vec<Device>> {
    let mut out = Vec::new();
    for map in maps {
        let fail = |why: &dyn std::fmt::Display| {
            internal(&format!("error gathering device information while adding custom device \"{}\"", map.host), why)
        };
        // Names such as /dev/cdrom are symlinks.
        let host = fs::canonicalize(&map.host).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => fail(&"no such file or directory"),
            _ => fail(&e),
        })?;
        let before = out.len();
        gather(&host, Path::new(&map.container), &map.permissions, 0, &mut out).map_err(|e| fail(&e))?;
        if out.len() == before {
            return Err(fail(&"not a device node"));
        }
        if out.len() > MOST {
            return Err(fail(&format!("more than {MOST} devices")));
        }
    }
    Ok(out)
}

fn gather(host: &Path, inside: &Path, access: &str, depth: usize, out: &mut Vec<Device>) -> std::io::Result<()> {
    let meta = fs::metadata(host)?;
    if meta.is_dir() && depth < MAX_DEPTH {
        let mut names: Vec<PathBuf> = fs::read_dir(host)?.flatten().map(|e| PathBuf::from(e.file_name())).collect();
        names.sort();
        for name in names {
            // One that goes while the others are looked at is none.
            let _ = gather(&host.join(&name), &inside.join(&name), access, depth + 1, out);
        }
        return Ok(());
    }
    let kind = meta.file_type();
    if out.len() <= MOST && (kind.is_char_device() || kind.is_block_device()) {
        let id = meta.rdev();
        out.push(Device {
            host: host.display().to_string(),
            path: inside.display().to_string(),
            block: kind.is_block_device(),
            // As glibc's gnu_dev_major(3).
            major: i64::try_from(((id >> 8) & 0xfff) | ((id >> 32) & 0xffff_f000)).unwrap_or(0),
            minor: i64::try_from((id & 0xff) | ((id >> 12) & 0xffff_ff00)).unwrap_or(0),
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
            access: access.to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(host: &str, permissions: &str) -> DeviceMap {
        DeviceMap { host: host.into(), container: "/dev/x".into(), permissions: permissions.into() }
    }

    #[test]
    fn devices_are_found_by_their_numbers() {
        let found = find(&[map("/dev/zero", "r")]).expect("there");
        let d = &found[0];
        assert_eq!((d.path.as_str(), d.block, d.major, d.minor, d.access.as_str()), ("/dev/x", false, 1, 5, "r"));
        for (path, why) in [("/dev/no-such", "no such file or directory"), ("/etc/passwd", "not a device node")] {
            let refused = find(&[map(path, "rwm")]).expect_err("refused").message;
            let text = format!("error gathering device information while adding custom device \"{path}\": {why}");
            assert_eq!(refused, text);
        }
    }

    #[test]
    fn a_privileged_container_has_all_devices() {
        let paths = |host: &HostConfig| of(host).expect("found").into_iter().map(|d| d.path).collect::<Vec<_>>();
        let privileged = HostConfig { privileged: true, devices: vec![map("/dev/zero", "rwm")], ..HostConfig::default() };
        let all = paths(&privileged);
        assert!(["/dev/null", "/dev/zero", "/dev/x"].iter().all(|p| all.iter().any(|a| a == p)), "{all:?}");
        assert!(!all.iter().any(|p| p.starts_with("/dev/pts") || p == "/dev/console" || p == "/dev/fd"), "{all:?}");
        assert!(paths(&HostConfig::default()).is_empty());
    }

    #[test]
    fn what_no_filter_can_hold_is_refused() {
        let v2 = HostFacts { cgroup_version: 2, ..HostFacts::default() };
        let host = |devices: Vec<DeviceMap>, rules: &[&str]| HostConfig {
            devices,
            device_rules: rules.iter().map(|r| (*r).to_owned()).collect(),
            ..HostConfig::default()
        };
        assert!(check(&host(vec![map("/dev/fuse", "rwm")], &[]), &v2).is_ok());
        assert_eq!(check(&host(vec![map("/dev/fuse", "r")], &[]), &v2).expect_err("partly").code, Code::Unimplemented);
        assert!(check(&host(vec![], &["c 1:3 r"]), &v2).is_err());
        assert!(check(&host(vec![map("/dev/fuse", "r")], &["c 1:3 r"]), &HostFacts::default()).is_ok());
    }
}
