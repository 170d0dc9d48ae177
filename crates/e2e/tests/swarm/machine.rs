//! After `down` the machine is as before.

use std::collections::BTreeSet;
use std::path::Path;

use skep_e2e::bed::{Bed, LONG};

use crate::needs;

const NUMBER: u8 = 35;

fn lines(text: &str) -> impl Iterator<Item = String> {
    text.lines().map(|l| l.trim().to_owned())
}

fn names(dir: &str) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|e| e.path().display().to_string()).collect()
}

/// Directories below one, to a depth that is enough for cgroups of containers.
fn tree(dir: &Path, depth: u8, out: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            out.push(entry.path().display().to_string());
            if depth > 0 {
                tree(&entry.path(), depth - 1, out);
            }
        }
    }
}

/// Whether something belongs to another playground, of a test that runs at the same time.
fn of_others(text: &str) -> bool {
    let other = |mark: &str| {
        text.split(mark).skip(1).any(|rest| {
            let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
            !number.is_empty() && number != NUMBER.to_string()
        })
    };
    // Of the command's own playground, and of the benchmark's peer.
    let apart = ["playground", "skep-peer", "skep-manager", "skep-worker", "skp88-"];
    let bridge = text.ends_with("/skep-lan");
    bridge || apart.iter().any(|m| text.contains(m)) || ["skep-t", "/skep/t", "skep-lan", "skp89-"].iter().any(|m| other(m))
}

/// Links, namespaces, mounts, cgroups, packet filters, processes and files of the machine that could be a playground's.
fn look() -> BTreeSet<String> {
    let mut all = Vec::new();
    all.extend(names("/sys/class/net"));
    all.extend(names("/run/netns"));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // The first fields are numbers that differ from look to look.
    all.extend(lines(&mounts).map(|l| l.split_whitespace().skip(3).take(2).collect::<Vec<_>>().join(" ")));
    tree(Path::new("/sys/fs/cgroup"), 2, &mut all);
    let rules = std::process::Command::new("nft").args(["-s", "list", "ruleset"]).output();
    all.extend(rules.iter().flat_map(|o| lines(&String::from_utf8_lossy(&o.stdout)).collect::<Vec<_>>()));
    for pid in names("/proc").iter().filter(|p| p.chars().all(|c| c.is_ascii_digit() || "/proc".contains(c))) {
        let words = std::fs::read(format!("{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&words).replace('\0', " ");
        if command.contains("skep") && command.contains(&format!("t{NUMBER}/")) {
            all.push(format!("process {command}"));
        }
    }
    all.extend(names("/run/skep"));
    all.extend(names("/var/lib/skep"));
    all.retain(|l| !of_others(l));
    all.into_iter().collect()
}

#[test]
fn the_machine_is_as_before() {
    needs!();
    let before = look();
    {
        let bed = Bed::swarm(NUMBER, 3, 3);
        bed.load_demo("ws:1.0", "1.0");
        let m = |args: &str| bed.d("manager", args);
        let _ = m("network create -d overlay demo").ok();
        let _ = m("service create -d --name ws --replicas 6 --network demo -p 80:8000 ws:1.0").ok();
        bed.await_running("manager", "ws", 6, LONG);
        let _ = m("run -d --name alone -p 81:8000 ws:1.0").ok();
        // One host in every state that `down` may find.
        bed.kill_daemon("worker1");
        bed.power_off("worker2");
        let during: BTreeSet<String> = look().difference(&before).cloned().collect();
        assert!(during.iter().any(|l| l.starts_with("process ")), "the look at processes sees none: {during:?}");
        assert!(during.iter().any(|l| l.contains("/sys/fs/cgroup")), "the look at cgroups sees none: {during:?}");
    }
    let left: BTreeSet<String> = look().difference(&before).cloned().collect();
    assert!(left.is_empty(), "left behind: {left:#?}");
}
