//! What the tests need from the distribution, and installing it on Debian and its kin.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A tool that tests use: any of `programs` in PATH will do, else one of `packages` brings it.
struct Need {
    programs: &'static [&'static str],
    packages: &'static [&'static str],
    why: &'static str,
}

/// What the tests use.
const NEEDS: &[Need] = &[
    Need { programs: &["docker"], packages: &["docker-cli", "docker.io"], why: "the stock client" },
    Need { programs: &[], packages: &["busybox-static"], why: "a small image" },
    Need { programs: &[], packages: &["nginx-light"], why: "an image of a web server" },
    Need { programs: &["redis-server"], packages: &["redis-server"], why: "an image of a store" },
    Need { programs: &["docker-registry"], packages: &["docker-registry"], why: "a registry to pull from" },
    Need { programs: &["ip"], packages: &["iproute2"], why: "looking at networks" },
    Need { programs: &["nft"], packages: &["nftables"], why: "looking at rules" },
    Need { programs: &["tcpdump"], packages: &["tcpdump"], why: "looking at what passes a wire" },
    Need { programs: &[], packages: &["libfaketime"], why: "hosts with other clocks" },
    Need { programs: &["mkfs.ext4"], packages: &["e2fsprogs"], why: "disks that can be slow" },
    Need { programs: &["script"], packages: &["bsdutils"], why: "a terminal to type into" },
    Need { programs: &["fish", "zsh"], packages: &["fish", "zsh"], why: "shells that complete commands" },
    Need { programs: &["curl"], packages: &["curl"], why: "asking services" },
    Need { programs: &["haproxy"], packages: &["haproxy"], why: "a balancer in front of the mesh" },
    Need { programs: &["mariadbd"], packages: &["mariadb-server-core"], why: "an image of a database" },
    Need { programs: &[], packages: &["wordpress"], why: "an image of a site that needs one, with its Apache and PHP" },
    Need { programs: &[], packages: &["wordpress-theme-twentytwentythree"], why: "what the site looks like" },
    Need { programs: &["prometheus"], packages: &["prometheus"], why: "monitoring that finds what runs" },
];

/// What the peer in `bench swarm` needs.
const PEER_NEEDS: &[Need] = &[
    Need { programs: &["iptables"], packages: &["iptables"], why: "the peer's rules" },
    Need { programs: &["nsenter", "unshare"], packages: &["util-linux"], why: "the peer's namespaces" },
];

/// What a machine of another kernel needs.
const MACHINE_NEEDS: &[Need] = &[
    Need { programs: &["qemu-system-x86_64"], packages: &["qemu-system-x86"], why: "the emulator" },
    Need { programs: &["mmdebstrap"], packages: &["mmdebstrap"], why: "a root file system" },
    Need { programs: &["mke2fs"], packages: &["e2fsprogs"], why: "its disk" },
    Need { programs: &["strip"], packages: &["binutils"], why: "small tests" },
];

/// Where a program is, also in the directories that only root's PATH has.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let runs = |p: &PathBuf| p.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    std::env::split_paths(&path).chain(usual).map(|dir| dir.join(name)).find(runs)
}

/// Whether this process is root's.
pub(crate) fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ids = status.lines().find_map(|l| l.strip_prefix("Uid:")).unwrap_or_default();
    ids.split_whitespace().nth(1) == Some("0")
}

/// Whether dpkg has a package; nothing is known without dpkg.
fn installed(package: &str) -> Option<bool> {
    let output = Command::new("dpkg-query").args(["-W", "-f", "${Status}", package]).stderr(Stdio::null()).output().ok()?;
    Some(output.stdout.ends_with(b" installed"))
}

fn satisfied(need: &Need) -> bool {
    if need.programs.is_empty() {
        return need.packages.iter().any(|p| installed(p) != Some(false));
    }
    need.programs.iter().all(|p| program(p).is_some())
}

/// Installs what the tests need and is missing; without root or apt only says so, and the tests skip what they cannot do.
pub(crate) fn for_tests() -> Result<(), String> {
    provide(NEEDS)
}

/// Installs what the benchmark's peer needs beside itself.
pub(crate) fn for_peer() -> Result<(), String> {
    provide(PEER_NEEDS)
}

/// Installs what `cargo xtask vm` needs.
pub(crate) fn for_machines() -> Result<(), String> {
    provide(MACHINE_NEEDS)
}

fn provide(needs: &[Need]) -> Result<(), String> {
    let missing: Vec<&Need> = needs.iter().filter(|n| !satisfied(n)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for need in &missing {
        println!("missing: {} ({})", need.packages.join(" or "), need.why);
    }
    if program("apt-get").is_none() {
        println!("no apt-get here: tests that need these will be skipped");
        return Ok(());
    }
    if !is_root() {
        println!("not root: tests that need these will be skipped; install them, or run this as root");
        return Ok(());
    }
    let _quiet = NoServices::begin()?;
    apt(&["update", "-qq"])?;
    let mut names = Vec::new();
    for need in missing {
        let found = need.packages.iter().find(|p| available(p));
        names.push(
            *found.ok_or_else(|| format!("install {}: the distribution has no such package", need.packages.join(" or ")))?,
        );
    }
    let mut args = vec!["install", "-y", "-qq", "--no-install-recommends"];
    args.extend(names);
    apt(&args)
}

fn available(package: &str) -> bool {
    let quiet = Command::new("apt-cache").args(["show", package]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|s| s.success())
}

fn apt(args: &[&str]) -> Result<(), String> {
    let status = Command::new("apt-get")
        .args(args)
        .env("RUNLEVEL", "1")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .map_err(|e| format!("run apt-get: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("apt-get {}: {status}", args.join(" "))) }
}

/// While this lives, installing a package starts no service of it.
struct NoServices {
    made: bool,
}

impl NoServices {
    const FILE: &str = "/usr/sbin/policy-rc.d";

    fn begin() -> Result<Self, String> {
        let fail = |e: std::io::Error| format!("write {}: {e}", Self::FILE);
        // One that is already there is the machine's own: it stays as it is, during and after.
        if Path::new(Self::FILE).exists() {
            return Ok(Self { made: false });
        }
        std::fs::write(Self::FILE, "#!/bin/sh\nexit 101\n").map_err(fail)?;
        std::fs::set_permissions(Self::FILE, std::fs::Permissions::from_mode(0o755)).map_err(fail)?;
        Ok(Self { made: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.made {
            // If it cannot be removed, it stays and can be seen; nothing better is left to do here.
            let _ = std::fs::remove_file(Self::FILE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_name() {
        assert!(program("sh").is_some_and(|p| p.is_absolute()));
        assert_eq!(program("no-such-program-anywhere"), None);
    }
}
