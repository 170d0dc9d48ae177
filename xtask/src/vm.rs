//! `cargo xtask vm`: the tests of networks on a distribution's own kernel, in an emulated machine. What this host's kernel lacks, or does
//! otherwise, is seen there: the root file system is Debian's, kernel and systemd included, made once in the target folder.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use serde_json::Value;

use crate::packages;
use crate::workspace::{Workspace, cargo};

/// What `cargo xtask` without a chore says.
pub(crate) const USAGE: &str = "  vm [FILTER…]           run the tests of networks (crates/linux/tests/net.rs) on Debian's kernel in an emulated machine, those whose
                         names contain a filter, or all; some minutes. Needs root
";

const SUITE: &str = "bookworm";
const INSIDE: &str = "linux-image-cloud-amd64,systemd,systemd-sysv,kmod,iproute2,nftables";
/// An emulator is ten to twenty times slower than the machine it runs on.
const LIMIT: &str = "1800";
/// What the tests may need and nothing else in the machine has loaded.
const MODULES: &str = "vxlan macvlan ipvlan 8021q bridge nf_tables sctp";
const UNIT: &str =
    "[Unit]\nAfter=multi-user.target\n[Service]\nType=oneshot\nExecStart=/root/run\n[Install]\nWantedBy=multi-user.target\n";
/// The last line of all.
const DONE: &str = "skep: the tests ended with ";

/// Builds the tests, makes a disk with them, boots from it and shows what they say.
pub(crate) fn run(filters: &[&str]) -> Result<ExitCode, String> {
    if !packages::is_root() {
        return Err("a root file system is made by root: run this as root".to_owned());
    }
    packages::for_machines()?;
    let workspace = Workspace::read()?;
    let dir = workspace.target.join("vm");
    let root = dir.join("root");
    if !root.join("etc").exists() {
        make_root(&dir, &root)?;
    }
    let tests = build_tests(&workspace)?;
    let strip = ["-o".into(), root.join("root/tests").into_os_string(), tests.into_os_string()];
    succeed(Command::new("strip").args(strip))?;
    place(&root.join("root/run"), &script(filters), 0o755)?;
    let disk = dir.join("disk.img");
    let _ = fs::remove_file(&disk);
    succeed(Command::new("mke2fs").args(["-q", "-t", "ext4", "-d"]).arg(&root).arg(&disk).arg("3G"))?;
    boot(&root, &disk)
}

/// A root file system from the package sources of this host.
fn make_root(dir: &Path, root: &Path) -> Result<(), String> {
    fs::create_dir_all(dir).map_err(|e| format!("create {}: {e}", dir.display()))?;
    let sources = ["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"];
    let sources = sources.into_iter().filter(|path| Path::new(path).exists());
    // A proxy, or whatever else this host needs to get packages.
    let options = Command::new("apt-config").args(["dump", "Acquire"]).output().map_err(|e| format!("run apt-config: {e}"))?;
    let ours = dir.join("apt.conf");
    fs::write(&ours, options.stdout).map_err(|e| format!("write {}: {e}", ours.display()))?;
    let mut command = Command::new("mmdebstrap");
    command.args(["--variant=minbase", "--format=directory", &format!("--include={INSIDE}")]);
    command.arg(format!("--aptopt={}", ours.display())).arg(SUITE).arg(root).args(sources);
    let made = succeed(&mut command).and_then(|()| {
        place(&root.join("etc/systemd/system/tests.service"), UNIT, 0o644)?;
        let units = root.join("etc/systemd/system");
        let wants = units.join("multi-user.target.wants");
        fs::create_dir_all(&wants).map_err(|e| format!("create {}: {e}", wants.display()))?;
        let link = |to: &str, at: PathBuf| symlink(to, &at).map_err(|e| format!("link {}: {e}", at.display()));
        link("../tests.service", wants.join("tests.service"))?;
        // A login prompt would hang up the line that the tests write to.
        link("/dev/null", units.join("serial-getty@ttyS0.service"))
    });
    made.inspect_err(|_| {
        // The next run makes it anew; the first error is the one to tell.
        let _ = fs::remove_dir_all(root);
    })
}

/// What the machine does.
fn script(filters: &[&str]) -> String {
    let filters = filters.join(" ");
    format!(
        "#!/bin/sh\nexec > /dev/ttyS0 2>&1\ndmesg -n 1\nuname -r\nfor m in {MODULES}; do modprobe $m; done\n\
         cd /root && ./tests --test-threads=1 --color=never {filters}\necho \"{DONE}$?\"\npoweroff -f\n"
    )
}

fn place(path: &Path, text: &str, mode: u32) -> Result<(), String> {
    let fail = |e: std::io::Error| format!("write {}: {e}", path.display());
    fs::write(path, text).map_err(fail)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(fail)
}

/// The binary of the tests, built as `cargo xtask test` builds it.
fn build_tests(workspace: &Workspace) -> Result<PathBuf, String> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--no-run", "-j2", "--message-format", "json-render-diagnostics"]);
    let output = command.current_dir(&workspace.root).stderr(Stdio::inherit()).output();
    let output = output.map_err(|e| format!("run cargo test: {e}"))?;
    if !output.status.success() {
        return Err(format!("build the tests: cargo test ended with {}", output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let built = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let net = |v: &Value| {
        let ours = v["manifest_path"].as_str().is_some_and(|path| path.ends_with("crates/linux/Cargo.toml"));
        (ours && v["target"]["name"] == "net").then(|| v["executable"].as_str().map(PathBuf::from))?
    };
    built.into_iter().find_map(|v| net(&v)).ok_or_else(|| "cargo test built no tests of networks".to_owned())
}

/// Boots the machine, which powers itself off.
fn boot(root: &Path, disk: &Path) -> Result<ExitCode, String> {
    let (kernel, initrd) = (first(&root.join("boot"), "vmlinuz-")?, first(&root.join("boot"), "initrd.img-")?);
    let mut command = Command::new("timeout");
    command.args([LIMIT, "qemu-system-x86_64", "-machine", "q35,accel=tcg", "-cpu", "max", "-m", "3072", "-smp", "1"]);
    command.args(["-nographic", "-no-reboot", "-append", "root=/dev/vda rw console=ttyS0 quiet"]);
    command.arg("-kernel").arg(kernel).arg("-initrd").arg(initrd);
    command.arg("-drive").arg(format!("file={},if=virtio,format=raw", disk.display()));
    let output = command.stdin(Stdio::null()).output().map_err(|e| format!("run the emulator: {e}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = said.lines().map(str::trim_end).collect();
    lines.iter().for_each(|line| println!("{line}"));
    match lines.iter().find_map(|line| line.strip_prefix(DONE)) {
        Some("0") => Ok(ExitCode::SUCCESS),
        Some(_) => Ok(ExitCode::FAILURE),
        None => {
            Err(format!("the machine did not get to the end: {}{}", output.status, String::from_utf8_lossy(&output.stderr)))
        }
    }
}

fn first(dir: &Path, prefix: &str) -> Result<PathBuf, String> {
    let fail = |e: std::io::Error| format!("read {}: {e}", dir.display());
    let mut names = fs::read_dir(dir).map_err(fail)?.filter_map(Result::ok).map(|entry| entry.path());
    let named = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    names.find(named).ok_or_else(|| format!("there is no {prefix}* in {}", dir.display()))
}

fn succeed(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|e| format!("run {name}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{name} ended with {status}")) }
}
