//! A disk of its own for each host's managers: a file with a file system on a loop device, which the kernel can be told to serve
//! slowly. Hosts unmount it as they lose power; it is for the caller to insert it again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::bed::{Bed, LONG};

/// Room for a manager's log and snapshots; the file is sparse.
const SIZE: u64 = 256 << 20;

/// Disks that were inserted, one for each host.
#[derive(Debug)]
pub struct Disks<'a>(&'a Bed);

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let out = Command::new(program).args(args).output().map_err(|e| format!("start {program}: {e}"))?;
    let said = String::from_utf8_lossy(&out.stderr);
    if out.status.success() { Ok(()) } else { Err(format!("{program} {}: {}", args.join(" "), said.trim())) }
}

fn io<T>(what: &str, path: &Path, r: std::io::Result<T>) -> Result<T, String> {
    r.map_err(|e| format!("{what} {}: {e}", path.display()))
}

/// Whether a loop device is made of the file.
fn in_use(file: &Path) -> bool {
    let devices = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let mut backing = devices.filter_map(|d| std::fs::read_to_string(d.path().join("loop/backing_file")).ok());
    backing.any(|of| Path::new(of.trim_end()) == file)
}

impl<'a> Disks<'a> {
    /// Gives each host a disk under what it keeps of its swarm, of which there must be none yet.
    ///
    /// # Errors
    /// Where there are no loop devices, or no file system can be made.
    pub fn insert_everywhere(bed: &'a Bed) -> Result<Self, String> {
        let disks = Self(bed);
        for host in &bed.playground.hosts {
            let file = disks.file(&host.name);
            io("make", &file, std::fs::File::create(&file).and_then(|f| f.set_len(SIZE)))?;
            run("mkfs.ext4", &["-q", &file.to_string_lossy()])?;
            bed.stop_daemon(&host.name);
            let inserted = disks.insert(&host.name);
            bed.start_daemon(&host.name);
            inserted?;
        }
        Ok(disks)
    }

    fn file(&self, host: &str) -> PathBuf {
        self.0.playground.place.data.join(format!("{host}.disk"))
    }

    /// Mounts a host's disk, while its daemon is not running. The kernel may still be putting away what was written before the disk
    /// was taken out: two devices on one file would each have a truth of its own.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn insert(&self, host: &str) -> Result<(), String> {
        let (file, at) = (self.file(host), self.0.swarm_dir(host));
        io("make", &at, std::fs::create_dir_all(&at))?;
        let end = Instant::now() + LONG;
        while in_use(&file) {
            if Instant::now() > end {
                return Err(format!("{} is still in use", file.display()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        run("mount", &["-o", "loop", &file.to_string_lossy(), &at.to_string_lossy()])
    }

    /// Lets a running daemon's disk take only so many writes a second, or as many as it can.
    ///
    /// # Errors
    /// Where the kernel or its control groups cannot do that.
    pub fn slow(&self, host: &str, writes: Option<u32>) -> Result<(), String> {
        let bed = self.0;
        let at = bed.swarm_dir(host);
        let device = io("look at", &at, rustix::fs::stat(&at).map_err(Into::into))?.st_dev;
        let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
        let pid = bed.host(host).daemon(&bed.playground.place).ok_or_else(|| format!("{host} has no daemon"))?;
        let of = PathBuf::from(format!("/proc/{pid}/cgroup"));
        let groups = io("read", &of, std::fs::read_to_string(&of))?;
        let mut groups = groups.lines().filter_map(|l| l.split_once(':')?.1.split_once(':'));
        // The old controller if there is one: both at once is not possible.
        let (limit, text) = match groups.clone().find(|(names, _)| names.split(',').any(|n| n == "blkio")) {
            Some((_, path)) => (
                format!("/sys/fs/cgroup/blkio/{path}/blkio.throttle.write_iops_device"),
                format!("{device} {}", writes.unwrap_or(0)),
            ),
            None => {
                let (_, path) = groups.find(|(names, _)| names.is_empty()).ok_or("no control groups")?;
                let most = writes.map_or("max".to_owned(), |n| n.to_string());
                (format!("/sys/fs/cgroup/{path}/io.max"), format!("{device} wiops={most}"))
            }
        };
        io("write", Path::new(&limit), std::fs::write(&limit, text))
    }
}
