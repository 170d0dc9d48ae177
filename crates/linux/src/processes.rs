//! The processes of a container, as the host's /proc tells them.

use std::fs;

use skep_types::usage::Process;

/// Hundredths of a second: the unit of times in /proc/PID/stat.
const TICKS: u64 = 100;
/// Longest command line that is read.
const MAX_COMMAND: usize = 64 << 10;

/// A user's name on the host.
fn user_name(passwd: &str, uid: u32) -> String {
    let fits = |line: &&str| line.split(':').nth(2).and_then(|n| n.parse().ok()) == Some(uid);
    let found = passwd.lines().find(fits).and_then(|l| l.split(':').next());
    found.map_or_else(|| uid.to_string(), str::to_owned)
}

/// The name of a terminal by its device number.
fn terminal(device: u64) -> String {
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    match major {
        0 => "?".to_owned(),
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        4 => format!("tty{minor}"),
        _ => format!("{major}:{minor}"),
    }
}

/// The letters that `ps` adds to the state.
fn state(letter: &str, session: i32, pid: i32, nice: i64, threads: u64, foreground: bool) -> String {
    let mut out = letter.to_owned();
    out += match nice {
        n if n < 0 => "<",
        n if n > 0 => "N",
        _ => "",
    };
    for (is, more) in [(session == pid, "s"), (threads > 1, "l"), (foreground, "+")] {
        if is {
            out += more;
        }
    }
    out
}

/// A process from its files; `None` once it is gone, or if the kernel's text is not as it always was.
fn parse(pid: i32, stat: &str, status: &str, command: &[u8], uptime: u64, passwd: &str, host_memory: u64) -> Option<Process> {
    let (head, tail) = stat.split_once('(').zip(stat.rsplit_once(')')).map(|((_, name), (_, tail))| (name, tail))?;
    let name = head.get(..head.rfind(')')?)?.to_owned();
    let f: Vec<&str> = tail.split_whitespace().collect();
    let signed = |i: usize| f.get(i).and_then(|v| v.parse::<i64>().ok());
    let counted = |i: usize| f.get(i).and_then(|v| v.parse::<u64>().ok());
    let narrow = |i: usize| signed(i).and_then(|v| i32::try_from(v).ok());
    let id = |key: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(key))?;
        line.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    let uid = id("Uid:")?;
    let words: Vec<String> =
        command.split(|b| *b == 0).filter(|w| !w.is_empty()).map(|w| String::from_utf8_lossy(w).into_owned()).collect();
    let (parent, group, session, threads, nice) = (narrow(1)?, narrow(2)?, narrow(3)?, counted(17)?, signed(16)?);
    Some(Process {
        pid,
        parent,
        uid,
        gid: id("Gid:")?,
        user: user_name(passwd, uid),
        command: if words.is_empty() { format!("[{name}]") } else { words.join(" ") },
        state: state(f.first()?, session, pid, nice, threads, narrow(5)? == group),
        terminal: terminal(counted(4)?),
        time: (counted(11)? + counted(12)?) / TICKS,
        age: uptime.saturating_sub(counted(19)? / TICKS),
        virtual_size: counted(20)? / 1024,
        resident: counted(21)? * 4,
        host_memory,
        nice,
        threads,
        name,
    })
}

/// The processes of a control group, by id.
pub(crate) fn list(path: &str) -> Vec<Process> {
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let uptime = uptime.split('.').next().and_then(|s| s.parse().ok()).unwrap_or(0);
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let info = rustix::system::sysinfo();
    let host_memory = info.totalram.saturating_mul(u64::from(info.mem_unit)) / 1024;
    let one = |pid: i32| {
        let text = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
        let mut command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        command.truncate(MAX_COMMAND);
        parse(pid, &text("stat")?, &text("status")?, &command, uptime, &passwd, host_memory)
    };
    crate::cgroup::processes(path).into_iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_from_its_files() {
        let stat = "42 (a) b (c) S 1 42 42 34816 42 4194304 1 0 0 0 250 150 0 0 20 0 3 0 1000 8192000 256 1 1 1";
        let status = "Name:\tx\nUid:\t33\t33\t33\t33\nGid:\t34\t34\t34\t34\n";
        let passwd = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:33::/:/bin/false\n";
        let p = parse(42, stat, status, b"/bin/x\0-a\0b c\0", 70, passwd, 1).expect("a process");
        assert_eq!((p.name.as_str(), p.command.as_str()), ("a) b (c", "/bin/x -a b c"));
        assert_eq!((p.parent, p.uid, p.gid, p.user.as_str()), (1, 33, 34, "www"));
        assert_eq!((p.state.as_str(), p.terminal.as_str(), p.threads), ("Ssl+", "pts/0", 3));
        assert_eq!((p.time, p.age, p.virtual_size, p.resident), (4, 60, 8000, 1024));
        assert_eq!(parse(42, stat, status, b"", 70, "", 1).expect("a process").command, "[a) b (c]");
        assert_eq!(parse(42, "42 (x", status, b"", 70, "", 1), None);
        assert_eq!(parse(42, "", "", b"", 70, "", 1), None);
    }
}
