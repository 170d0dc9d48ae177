//! The script of `bench stack`: a stack of many services, lists of many, a large log, and what the command lines take.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::api::{Daemon, form, wait};
use super::contest::Contestant;
use super::http;
use super::table::Results;
use crate::packages;

/// Longest that a step may take.
const STEP: Duration = Duration::from_secs(180);
/// Times that a command is run; the median counts.
const TIMES: usize = 15;

/// How large everything is.
struct Size {
    services: usize,
    listed: usize,
    /// Bytes of the log, each line of 100.
    log: usize,
}

/// What is run, and by what.
pub(super) struct Setting<'a> {
    /// Image whose default command stays up.
    pub(super) image: &'a str,
    /// Only that it works at all.
    pub(super) smoke: bool,
    /// The binary under test, as a client.
    pub(super) skep: &'a Path,
}

/// Runs the script once on fresh hosts.
pub(super) fn round(
    contestant: &mut dyn Contestant,
    archive: &Path,
    setting: &Setting<'_>,
    results: &mut Results,
) -> Result<(), String> {
    let outcome = steps(contestant, archive, setting, results);
    let removed = contestant.down();
    outcome.and(removed)
}

fn steps(contestant: &mut dyn Contestant, archive: &Path, setting: &Setting<'_>, results: &mut Results) -> Result<(), String> {
    let &Setting { image, smoke, skep } = setting;
    let size = if smoke {
        Size { services: 3, listed: 20, log: 1 << 20 }
    } else {
        Size { services: 50, listed: 1000, log: 100 << 20 }
    };
    let daemons = contestant.up(archive)?;
    form(&daemons)?;
    let manager = daemons.first().ok_or("a swarm of no hosts")?;
    let name = contestant.name();
    let mut note = |what: &str, unit: &'static str, value: f64| {
        println!("  {name}: {what}: {value:.2} {unit}");
        results.add(&name, what, unit, value);
    };
    let docker = packages::program("docker").ok_or("bench stack needs the stock docker client")?;
    let file = archive.with_file_name("bench-stack.yml");
    let one = |n| format!("  s{n}:\n    image: {image}\n    deploy: {{replicas: 2}}\n");
    let text = format!("version: \"3.8\"\nservices:\n{}", (0..size.services).map(one).collect::<String>());
    std::fs::write(&file, text).map_err(|e| format!("write {}: {e}", file.display()))?;
    let path = file.to_string_lossy();
    let deploy = ["stack", "deploy", "--resolve-image", "never", "--detach=true", "-c", &path, "bench"];

    let tasks = size.services as u64 * 2;
    let begin = Instant::now();
    client(&docker, manager, &deploy)?;
    let run = wait(begin, STEP, "the stack to run", || Ok(manager.running(None)? == tasks))?;
    note(&format!("stack deploy of {} services x 2 by the stock client, all run", size.services), "s", run);
    let is_skep = manager.answers_to("/skep/v1/swarm/status");
    note("the same again, nothing changed, by the stock client", "s", median(1, || client(&docker, manager, &deploy))?);
    if is_skep {
        note("the same again, nothing changed, by skep", "s", median(TIMES, || client(skep, manager, &deploy))?);
    }
    client(&docker, manager, &["stack", "rm", "bench"])?;
    wait(Instant::now(), STEP, "the stack to be gone", || Ok(manager.busy()? == 0))?;

    for n in 0..size.listed {
        manager.create_service(&format!("listed-{n}"), image, 0)?;
    }
    let listed = size.listed;
    let list = || manager.fetch("/services?status=true");
    note(&format!("list of {listed} services with their tasks counted"), "ms", median(TIMES, list)? * 1e3);
    let list = |program: &Path| median(TIMES, || client(program, manager, &["service", "ls"]));
    note(&format!("service ls of {listed} by the stock client"), "ms", list(&docker)? * 1e3);
    if is_skep {
        note(&format!("service ls of {listed} by skep"), "ms", list(skep)? * 1e3);
    }

    let busybox = import_busybox(&daemons)?;
    let lines = size.log / 100;
    let script = format!("yes '{}' | head -n {lines}; sleep 100000", "x".repeat(99));
    let spec = serde_json::json!({
        "Name": "large", "Mode": {"Replicated": {"Replicas": 1}},
        "TaskTemplate": {"ContainerSpec": {"Image": busybox, "Command": ["sh", "-c", script]}},
    });
    manager.call("POST", "/services/create", Some(&spec))?;
    let whole = || -> Result<bool, String> {
        Ok(read_log(&docker, manager, "1")?.0 > 0 && read_log(&docker, manager, "all")?.0 == size.log)
    };
    wait(Instant::now(), STEP, "the log to be written", whole)?;
    let (bytes, seconds) = read_log(&docker, manager, "all")?;
    note("service logs", "MiB/s", bytes as f64 / seconds / f64::from(1 << 20));

    note("docker ps", "ms", median(TIMES, || client(&docker, manager, &["ps"]))? * 1e3);
    if is_skep {
        note("skep ps", "ms", median(TIMES, || client(skep, manager, &["ps"]))? * 1e3);
    }
    Ok(())
}

/// Median seconds of a few runs.
fn median(times: usize, mut run: impl FnMut() -> Result<(), String>) -> Result<f64, String> {
    let mut all = Vec::with_capacity(times);
    for _ in 0..times {
        let begin = Instant::now();
        run()?;
        all.push(begin.elapsed().as_secs_f64());
    }
    all.sort_by(f64::total_cmp);
    all.get(times / 2).copied().ok_or_else(|| "nothing was timed".to_owned())
}

fn command(program: &Path, daemon: &Daemon, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.env("DOCKER_HOST", format!("unix://{}", daemon.socket.display())).env("DOCKER_CONFIG", "/nonexistent");
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs a client to its end.
fn client(program: &Path, daemon: &Daemon, args: &[&str]) -> Result<(), String> {
    let done = command(program, daemon, args).output().map_err(|e| format!("run {}: {e}", program.display()))?;
    if done.status.success() {
        return Ok(());
    }
    Err(format!("{} {}: {}", program.display(), args.join(" "), String::from_utf8_lossy(&done.stderr).trim()))
}

/// Reads the large service's log: its bytes and seconds.
fn read_log(docker: &Path, daemon: &Daemon, tail: &str) -> Result<(usize, f64), String> {
    let begin = Instant::now();
    let mut command = command(docker, daemon, &["service", "logs", "--raw", "--tail", tail, "large"]);
    let fail = |e: std::io::Error| format!("read a log: {e}");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map_err(fail)?;
    let mut bytes = 0;
    if let Some(mut out) = child.stdout.take() {
        let mut part = vec![0u8; 1 << 16];
        loop {
            match std::io::Read::read(&mut out, &mut part).map_err(fail)? {
                0 => break,
                n => bytes += n,
            }
        }
    }
    child.wait().map_err(fail)?;
    Ok((bytes, begin.elapsed().as_secs_f64()))
}

/// An image of busybox on all hosts, by its name.
fn import_busybox(daemons: &[Daemon]) -> Result<&'static str, String> {
    let busybox = packages::program("busybox").ok_or("bench stack needs busybox-static")?;
    let dir = std::env::temp_dir().join(format!("skep-bench-busybox-{}", std::process::id()));
    let fail = |e: std::io::Error| format!("pack busybox: {e}");
    let packed = (|| {
        std::fs::create_dir_all(dir.join("bin"))?;
        std::fs::copy(busybox, dir.join("bin/busybox"))?;
        for applet in ["sh", "yes", "head", "sleep"] {
            std::os::unix::fs::symlink("busybox", dir.join("bin").join(applet))?;
        }
        Command::new("tar").arg("-C").arg(&dir).args(["-c", "."]).output().map(|o| o.stdout)
    })();
    // A directory that is left is of no consequence.
    let _ = std::fs::remove_dir_all(&dir);
    let tar = packed.map_err(fail)?;
    for daemon in daemons {
        let path = "/images/create?fromSrc=-&repo=busybox&tag=bench";
        let answer = http::request(&daemon.socket, "POST", path, "application/x-tar", &tar)?;
        if answer.status != 200 {
            return Err(format!("import busybox: {}", String::from_utf8_lossy(&answer.body)));
        }
    }
    Ok("busybox:bench")
}
