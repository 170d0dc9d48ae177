//! What `cargo xtask bench net` measures on a real swarm of five hosts: how soon each of them applies a change of a service's endpoints, and
//! whether an update costs a request.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, SystemTime};

use skep_playground::lan::netns_path;

use crate::bed::{Bed, LONG};
use crate::load::Load;
use crate::{images, that, wait, web};

/// The number of the bed.
const NUMBER: u8 = 154;
/// Hosts, of which this many are managers.
const HOSTS: (u8, usize) = (5, 3);
/// Replicas before each change.
const REPLICAS: usize = 5;
/// Ports of the two services.
const PORTS: (u16, u16) = (8081, 8082);
/// Updates that the requests are spread over.
const UPDATES: u64 = 10;
/// Lines that were not looked at yet: the changes of a few hundred tasks. A monitor that has to wait tells of a later moment.
const SEEN: usize = 4096;
/// Clients at once: more than the machine has cores, so that there is always one that asks.
const CLIENTS: usize = 4;

/// Tells of every change of the kernel's tables on all hosts, with the moment at which it was seen.
struct Watch {
    monitors: Vec<Child>,
    seen: Receiver<(String, SystemTime, String)>,
}

impl Watch {
    fn start(bed: &Bed) -> Self {
        let (tx, seen) = sync_channel(SEEN);
        let place = &bed.playground.place;
        let monitors = bed.playground.hosts.iter().map(|host| {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net={}", netns_path(place, &host.name).display())).args(["nft", "monitor"]);
            let mut child =
                command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap_or_else(|e| panic!("run nft monitor: {e}"));
            let lines = child.stdout.take().map(BufReader::new).unwrap_or_else(|| panic!("nft monitor has no output"));
            let (tx, name) = (tx.clone(), host.name.clone());
            std::thread::spawn(move || {
                for line in lines.lines().map_while(Result::ok) {
                    if tx.send((name.clone(), SystemTime::now(), line)).is_err() {
                        return;
                    }
                }
            });
            child
        });
        Self { monitors: monitors.collect(), seen }
    }

    /// When the last of `hosts` had a line.
    fn all_had(&self, line: &str, hosts: usize) -> Result<SystemTime, String> {
        let mut had: BTreeMap<String, SystemTime> = BTreeMap::new();
        loop {
            match self.seen.recv_timeout(LONG) {
                Ok((host, at, text)) if text == line => drop(had.entry(host).or_insert(at)),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Err(format!("{line:?} was applied on {:?} only", had.keys().collect::<Vec<_>>()));
                }
            }
            if had.len() == hosts {
                return Ok(had.into_values().max().unwrap_or(SystemTime::UNIX_EPOCH));
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        for monitor in &mut self.monitors {
            // Gone already, or of no use any more.
            let _ = monitor.kill();
            let _ = monitor.wait();
        }
    }
}

/// The value below which this part of some values lies.
fn quantile(sorted: &[Duration], part: f64) -> Duration {
    let at = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(at.saturating_sub(1)).or(sorted.last()).copied().unwrap_or_default()
}

/// A moment as the API tells it; all hosts here have one clock.
fn moment(text: &serde_json::Value) -> SystemTime {
    let nanos = text.as_str().and_then(skep_cli::output::time::parse).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(nanos).unwrap_or_default())
}

fn row(what: &str, mut times: Vec<Duration>, must: &str) {
    times.sort_unstable();
    let of = |part| format!("{:.0} ms", quantile(&times, part).as_secs_f64() * 1e3);
    println!("| {what} ({} times) | {}, {}, {} | {must} |", times.len(), of(0.5), of(0.99), of(1.0));
}

/// A swarm of five hosts that serves the demo at two ports, one of them with health checks.
///
/// # Panics
/// If it cannot be made.
#[must_use]
pub fn swarm() -> Bed {
    let bed = Bed::swarm(NUMBER, HOSTS.0, HOSTS.1);
    bed.load_demo("live:1", "1");
    for version in ["1", "2"] {
        bed.load(images::checked(&format!("ws:{version}"), version));
    }
    let create = "service create -d --quiet --stop-grace-period 5s --replicas";
    let _ = bed.d("manager", &format!("{create} {REPLICAS} --name live -p {}:8000 live:1", PORTS.0)).ok();
    let order = "--update-order start-first --update-monitor 100ms";
    let _ = bed.d("manager", &format!("{create} 2 --name ws {order} -p {}:8000 ws:1", PORTS.1)).ok();
    bed.await_running("manager", "live", REPLICAS, LONG);
    bed.await_running("manager", "ws", 2, LONG);
    for host in &bed.playground.hosts {
        for port in [PORTS.0, PORTS.1] {
            wait("the page", LONG, || web::get(&host.address.to_string(), port));
        }
    }
    bed
}

/// Scales a service up and down so often, and tells when the last of the hosts had each change in its kernel's tables: of a new
/// task from the moment at which it ran, of one that goes from the moment at which the leader took the change.
///
/// # Panics
/// If a change does not come to a host.
pub fn changes(bed: &Bed, times: usize) {
    let watch = Watch::start(bed);
    let (mut came, mut went) = (Vec::new(), Vec::new());
    // What each host's balancer says of so many tasks.
    let balanced = |n: usize| format!("add element ip skep pub {{ tcp . {} : goto p{n} }}", PORTS.0);
    let all = bed.playground.hosts.len();
    let scale = |n: usize| bed.d("manager", &format!("service scale -d live={n}")).ok();
    for _ in 0..times {
        let before: Vec<String> = bed.running("manager", "live").into_iter().map(|l| l.id).collect();
        let _ = scale(REPLICAS + 1);
        let applied = watch.all_had(&balanced(REPLICAS + 1), all).unwrap_or_else(|e| panic!("{e}"));
        let new = bed.await_running("manager", "live", REPLICAS + 1, LONG).into_iter().find(|l| !before.contains(&l.id));
        let new = new.unwrap_or_else(|| panic!("no new task"));
        let task =
            bed.api("manager", "GET", &format!("/tasks/{}", new.id), None).unwrap_or_else(|e| panic!("the new task: {e}"));
        came.push(applied.duration_since(moment(&task["Status"]["Timestamp"])).unwrap_or_default());
        let _ = scale(REPLICAS);
        let applied = watch.all_had(&balanced(REPLICAS), all).unwrap_or_else(|e| panic!("{e}"));
        let service = bed.api("manager", "GET", "/services/live", None).unwrap_or_else(|e| panic!("the service: {e}"));
        went.push(applied.duration_since(moment(&service["UpdatedAt"])).unwrap_or_default());
        bed.await_running("manager", "live", REPLICAS, LONG);
    }
    println!("| What, on {all} hosts | p50, p99, most | must be |\n|---|---|---|");
    row("a task runs → each host's balancer has it", came, "p99 ≤ 200 ms");
    row("the leader takes a change of scale → no host's balancer has the task that goes", went, "p99 ≤ 200 ms");
}

/// Start-first updates one after the other, while clients ask at all hosts until so many requests were made.
///
/// # Panics
/// If an update does not end, or a request failed.
pub fn updates(bed: &Bed, requests: u64) {
    let addresses: Vec<String> = bed.playground.hosts.iter().map(|h| h.address.to_string()).collect();
    let begin = std::time::Instant::now();
    let load = Load::start(&addresses, PORTS.1, CLIENTS, Duration::ZERO);
    let asked = || {
        let (answered, failed) = load.so_far();
        answered + failed
    };
    for n in 1..=UPDATES {
        let image = format!("ws:{}", n % 2 + 1);
        // A disk that others keep busy makes managers change their leader, which is not what is measured.
        let update = format!("service update -d --quiet --image {image} ws");
        wait("the update to be taken", LONG, || {
            let run = bed.d("manager", &update);
            that(run.code == 0, run.err)
        });
        wait("the update to complete", LONG, || {
            let state = bed.d("manager", "service inspect -f {{.UpdateStatus.State}} ws").out.trim().to_owned();
            let images = bed.d("manager", "service ps --filter desired-state=running --format {{.Image}} ws").out;
            let new = images.lines().count() == 2 && images.lines().all(|i| i == image);
            that(state == "completed" && new, format!("{state} {images}"))
        });
        let share = requests * n / UPDATES;
        // As long as it takes: how fast a machine is does not matter.
        let (mut last, mut moved) = (asked(), std::time::Instant::now());
        while last < share {
            std::thread::sleep(Duration::from_millis(100));
            let now = asked();
            if now > last {
                (last, moved) = (now, std::time::Instant::now());
            }
            assert!(moved.elapsed() < LONG, "no request was made for {LONG:?}");
        }
    }
    let tally = load.stop();
    let all = tally.answered + tally.failed;
    let rate = all as f64 / begin.elapsed().as_secs_f64();
    println!("| What | Skep | must be |\n|---|---|---|");
    println!(
        "| {UPDATES} start-first updates under load, {CLIENTS} clients, {rate:.0} requests/s, the longest {:.0} ms | {} of {all} failed | 0 of \
         1,000,000 |",
        tally.longest.as_secs_f64() * 1e3,
        tally.failed
    );
    if !tally.slow.is_empty() {
        println!("\nAnswers that a lost packet delayed: {:#?}", tally.slow);
    }
    assert_eq!(tally.failed, 0, "{:#?}", tally.failures);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let v: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!([0.5, 0.99, 1.0].map(|p| quantile(&v, p).as_millis()), [50, 99, 100]);
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
    }
}
