//! What a container's control group has used, its limits, and its freezer: both layouts, v1 controllers (pure or hybrid) and v2.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use skep_types::Time;
use skep_types::usage::{CpuUsage, DiskUsage, MemoryUsage, NetworkUsage, NewLimits, Usage};

use crate::cgroup::{dir, is_v2};

/// Period of the processor's quota in microseconds, as Docker sets it.
const PERIOD: u64 = 100_000;
/// Nanoseconds of one tick of /proc/stat and of cgroup v1's cpuacct.stat: the kernel shows hundredths of seconds.
const TICK: u64 = 10_000_000;

/// Reads a file of a group's controller; empty where the kernel has none.
fn read(path: &str, controller: &str, name: &str) -> String {
    dir(path, controller).and_then(|d| fs::read_to_string(d.join(name)).ok()).unwrap_or_default()
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// Lines `key value`.
fn pairs(text: &str) -> BTreeMap<String, u64> {
    let pair = |l: &str| l.split_once(' ').and_then(|(k, v)| Some((k.to_owned(), number(v)?)));
    text.lines().filter_map(pair).collect()
}

/// Processor time of the whole host, from the first line of /proc/stat; the time of guests is in user's already.
fn host_time(stat: &str) -> u64 {
    let line = stat.lines().next().unwrap_or_default();
    line.split_whitespace().skip(1).take(8).filter_map(number).sum::<u64>().saturating_mul(TICK)
}

/// Lines `major:minor Read bytes` of v1.
fn disks_v1(text: &str) -> Vec<DiskUsage> {
    let mut all: BTreeMap<(u64, u64), DiskUsage> = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [device, operation, bytes] = words[..] else { continue };
        let Some((major, minor)) = device.split_once(':').and_then(|(a, b)| Some((number(a)?, number(b)?))) else { continue };
        let disk = all.entry((major, minor)).or_insert(DiskUsage { major, minor, ..DiskUsage::default() });
        match operation {
            "Read" => disk.read = number(bytes).unwrap_or(0),
            "Write" => disk.write = number(bytes).unwrap_or(0),
            _ => {}
        }
    }
    all.into_values().collect()
}

/// Lines `major:minor rbytes=N wbytes=N …` of v2.
fn disks_v2(text: &str) -> Vec<DiskUsage> {
    let one = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        let mut disk = DiskUsage { major: number(major)?, minor: number(minor)?, ..DiskUsage::default() };
        for (key, value) in words.filter_map(|w| w.split_once('=')) {
            match key {
                "rbytes" => disk.read = number(value)?,
                "wbytes" => disk.write = number(value)?,
                _ => {}
            }
        }
        Some(disk)
    };
    text.lines().filter_map(one).collect()
}

/// The table of /proc/PID/net/dev; the loopback interface is nobody's traffic.
fn networks(text: &str) -> BTreeMap<String, NetworkUsage> {
    let one = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let n: Vec<u64> = rest.split_whitespace().filter_map(number).collect();
        let usage = NetworkUsage { received: n.get(..4)?.try_into().ok()?, sent: n.get(8..12)?.try_into().ok()? };
        Some((name.trim().to_owned(), usage)).filter(|(name, _)| name != "lo")
    };
    text.lines().filter_map(one).collect()
}

fn cpu(path: &str) -> CpuUsage {
    let host = host_time(&fs::read_to_string("/proc/stat").unwrap_or_default());
    let online = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    if is_v2() {
        let stat = pairs(&read(path, "", "cpu.stat"));
        let of = |key: &str| stat.get(key).copied().unwrap_or(0);
        return CpuUsage {
            total: of("usage_usec") * 1000,
            user: of("user_usec") * 1000,
            system: of("system_usec") * 1000,
            each: Vec::new(),
            host,
            online,
            periods: of("nr_periods"),
            throttled: of("nr_throttled"),
            throttled_time: of("throttled_usec") * 1000,
        };
    }
    let (ticks, stat) = (pairs(&read(path, "cpuacct", "cpuacct.stat")), pairs(&read(path, "cpu", "cpu.stat")));
    let of = |map: &BTreeMap<String, u64>, key: &str| map.get(key).copied().unwrap_or(0);
    CpuUsage {
        total: number(&read(path, "cpuacct", "cpuacct.usage")).unwrap_or(0),
        user: of(&ticks, "user").saturating_mul(TICK),
        system: of(&ticks, "system").saturating_mul(TICK),
        each: read(path, "cpuacct", "cpuacct.usage_percpu").split_whitespace().filter_map(number).collect(),
        host,
        online,
        periods: of(&stat, "nr_periods"),
        throttled: of(&stat, "nr_throttled"),
        throttled_time: of(&stat, "throttled_time"),
    }
}

fn memory(path: &str) -> MemoryUsage {
    let info = rustix::system::sysinfo();
    let host = info.totalram.saturating_mul(u64::from(info.mem_unit));
    let [used, limit] =
        if is_v2() { ["memory.current", "memory.max"] } else { ["memory.usage_in_bytes", "memory.limit_in_bytes"] };
    let v1 = |name: &str| if is_v2() { None } else { number(&read(path, "memory", name)) };
    MemoryUsage {
        used: number(&read(path, "memory", used)).unwrap_or(0),
        most: v1("memory.max_usage_in_bytes"),
        // `max`, or a number beyond all memory, is none.
        limit: number(&read(path, "memory", limit)).unwrap_or(host).min(host),
        failures: v1("memory.failcnt"),
        stats: pairs(&read(path, "memory", "memory.stat")),
    }
}

/// What a container uses; `pid` is its first process.
pub(crate) fn usage(path: &str, pid: i32, own_network: bool) -> Usage {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let disks = if is_v2() {
        disks_v2(&read(path, "", "io.stat"))
    } else {
        disks_v1(&read(path, "blkio", "blkio.throttle.io_service_bytes_recursive"))
    };
    let dev = if own_network { fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default() } else { String::new() };
    Usage {
        read: Time::default().after(since),
        cpu: cpu(path),
        memory: memory(path),
        pids: number(&read(path, "pids", "pids.current")).unwrap_or(0),
        pids_limit: number(&read(path, "pids", "pids.max")).unwrap_or(0),
        disks,
        networks: networks(&dev),
    }
}

fn write(path: &str, controller: &str, name: &str, value: &str) -> io::Result<()> {
    let dir: PathBuf = dir(path, controller)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("the container has no control group for {name}")))?;
    fs::write(dir.join(name), value).map_err(|e| io::Error::new(e.kind(), format!("set {name} to {value}: {e}")))
}

/// Stops all processes of a group in their tracks, or lets them go on.
pub(crate) fn freeze(path: &str, frozen: bool) -> io::Result<()> {
    if is_v2() {
        return write(path, "", "cgroup.freeze", if frozen { "1" } else { "0" });
    }
    write(path, "freezer", "freezer.state", if frozen { "FROZEN" } else { "THAWED" })
}

/// Whether a group is frozen, or on its way to it.
pub(crate) fn is_frozen(path: &str) -> bool {
    if is_v2() {
        read(path, "", "cgroup.freeze").trim() == "1"
    } else {
        matches!(read(path, "freezer", "freezer.state").trim(), "FROZEN" | "FREEZING")
    }
}

/// Weight of cgroup v2 for Docker's shares, as the runtime library maps them at a container's start.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

/// Sets limits of a running container. What the kernel refuses is told, and the rest stays as it was.
pub(crate) fn limit(path: &str, limits: &NewLimits) -> io::Result<()> {
    let v2 = is_v2();
    if let Some(bytes) = limits.memory {
        limit_memory(path, bytes, v2)?;
    }
    if let Some(nanos) = limits.nano_cpus {
        let quota = nanos.saturating_mul(PERIOD) / 1_000_000_000;
        if v2 {
            let quota = if quota == 0 { "max".to_owned() } else { quota.to_string() };
            write(path, "", "cpu.max", &format!("{quota} {PERIOD}"))?;
        } else {
            write(path, "cpu", "cpu.cfs_period_us", &PERIOD.to_string())?;
            write(path, "cpu", "cpu.cfs_quota_us", &if quota == 0 { "-1".to_owned() } else { quota.to_string() })?;
        }
    }
    if let Some(shares) = limits.cpu_shares {
        let shares = if shares == 0 { 1024 } else { shares };
        if v2 {
            write(path, "", "cpu.weight", &weight(shares).to_string())?;
        } else {
            write(path, "cpu", "cpu.shares", &shares.to_string())?;
        }
    }
    if let Some(most) = limits.pids {
        write(path, "pids", "pids.max", &if most == 0 { "max".to_owned() } else { most.to_string() })?;
    }
    Ok(())
}

/// Memory, and as much swap, as at the container's start.
fn limit_memory(path: &str, bytes: u64, v2: bool) -> io::Result<()> {
    let text = if bytes == 0 { if v2 { "max" } else { "-1" }.to_owned() } else { bytes.to_string() };
    if v2 {
        // Kernels without accounting of swap have no such file.
        let _ = write(path, "", "memory.swap.max", &text);
        return write(path, "", "memory.max", &text);
    }
    let both = if bytes == 0 { "-1".to_owned() } else { bytes.saturating_mul(2).to_string() };
    let swap = |value: &str| write(path, "memory", "memory.memsw.limit_in_bytes", value);
    // Memory can never be more than memory and swap: which is written first depends on which way they go.
    match write(path, "memory", "memory.limit_in_bytes", &text) {
        Ok(()) => {
            let _ = swap(&both);
            Ok(())
        }
        Err(_) if swap(&both).is_ok() => write(path, "memory", "memory.limit_in_bytes", &text),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        assert_eq!(host_time("cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 2\n"), 36 * TICK);
        let v1 = disks_v1("8:0 Read 4096\n8:0 Write 512\n8:0 Sync 1\n8:16 Read 7\nTotal 4608\n");
        assert_eq!(v1[0], DiskUsage { major: 8, minor: 0, read: 4096, write: 512 });
        assert_eq!(v1[1].read, 7);
        assert_eq!(
            disks_v2("254:0 rbytes=10 wbytes=20 rios=1 wios=2\nodd\n"),
            [DiskUsage { major: 254, minor: 0, read: 10, write: 20 }]
        );
        let dev = "Inter-|   Receive\n face |bytes\n    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n";
        let networks = networks(dev);
        assert_eq!(networks.len(), 1);
        assert_eq!(networks["eth0"], NetworkUsage { received: [1, 2, 3, 4], sent: [9, 10, 11, 12] });
        assert_eq!(pairs("a 1\nb x\nc 2\n"), BTreeMap::from([("a".to_owned(), 1), ("c".to_owned(), 2)]));
    }

    #[test]
    fn shares_become_weights() {
        assert_eq!((weight(2), weight(1024), weight(262_144)), (1, 39, 10_000));
    }
}
