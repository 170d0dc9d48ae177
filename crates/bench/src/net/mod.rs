//! `bench net`: the data plane between namespaces of this machine, each row a ratio of two things measured in turn.

mod rules;
mod traffic;
mod world;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use skep_engine::net::PortMap;
use skep_netplan::Ns;
use skep_types::dataplane::ServiceView;
use skep_types::spec::Protocol;

use crate::numbers::quantile;
use world::{Done, Host, PORT, SEALED, World, overlay, run, sealed, underlay};

/// A published port whose task is on host 1.
const PUBLISHED: u16 = 8080;
/// A port of host 1 that leads to the same container, as `mode=host` has it.
const DIRECT: u16 = 8090;
const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 200, 1);
/// Services and their backends in the large set.
const MANY: (u16, u16) = (1000, 10);

/// A way from a client to a server.
struct Way<'a> {
    host: &'a Host,
    ns: Ns,
    to: SocketAddr,
}

type Measure = fn(SocketAddr, Duration) -> io::Result<f64>;

impl Way<'_> {
    fn measure(&self, what: Measure, time: Duration) -> Done<f64> {
        let to = self.to;
        self.host.within(&self.ns, || what(to, time)).map_err(|e| format!("{to}: {e}"))
    }
}

struct Bench {
    rounds: usize,
    time: Duration,
    /// Rows without these words are left out.
    only: String,
}

impl Bench {
    /// A row: medians of both and of the rounds' ratios.
    fn ratio(&self, what: &str, must: &str, unit: (f64, &str), measure: Measure, one: &Way<'_>, other: &Way<'_>) -> Done<()> {
        if !what.contains(&self.only) {
            return Ok(());
        }
        let (mut a, mut b, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..self.rounds {
            // In turn, so that neither has always the quieter moment.
            let (x, y) = if round % 2 == 0 {
                let x = one.measure(measure, self.time)?;
                (x, other.measure(measure, self.time)?)
            } else {
                let y = other.measure(measure, self.time)?;
                (one.measure(measure, self.time)?, y)
            };
            a.push(x);
            b.push(y);
            ratios.push(x / y);
        }
        let middle = |values: &mut Vec<f64>| {
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let ratio = middle(&mut ratios);
        let (low, high) = (ratios[0], ratios[ratios.len() - 1]);
        let (a, b) = (middle(&mut a) / unit.0, middle(&mut b) / unit.0);
        println!("| {what} | {a:.1} {0} | {b:.1} {0} | {ratio:.2} ({low:.2}–{high:.2}) | {must} |", unit.1);
        Ok(())
    }
}

/// Measures everything, or `--only` the ratios whose names contain some words; `--rounds N` and `--millis N` say how long.
pub(crate) fn bench(options: &[&str]) -> Done<()> {
    let mut bench = Bench { rounds: 5, time: Duration::from_millis(1500), only: String::new() };
    let mut words = options.iter();
    while let Some(word) = words.next() {
        let value = words.next();
        if let ("--only", Some(only)) = (*word, value) {
            bench.only = (*only).to_owned();
            continue;
        }
        let number = value.and_then(|w| w.parse::<u32>().ok()).filter(|n| *n > 0);
        match (*word, number) {
            ("--rounds", Some(n)) => bench.rounds = n as usize,
            ("--millis", Some(n)) => bench.time = Duration::from_millis(u64::from(n)),
            _ => return Err(format!("{word}: expected --rounds N, --millis N or --only WORDS")),
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(|e| format!("start a runtime: {e}"))?.block_on(measure(&bench))
}

const BULK: (f64, &str) = (1e9 / 8.0, "Gbit/s");
const PER_SECOND: (f64, &str) = (1e3, "k/s");

async fn measure(bench: &Bench) -> Done<()> {
    let world = World::new().await?;
    let vip = |vip, backends| ServiceView {
        name: "web".to_owned(),
        aliases: Vec::new(),
        vip: Some(vip),
        backends,
        ports: Vec::new(),
    };
    let services = vec![vip(VIP, vec![overlay(12)])];
    // 11 serves on host 1, 12 on host 2; 21 and 22 are callers on host 1; 31 and 32 the same on the encrypted network.
    let tasks = [(11, 1), (12, 2), (21, 1), (22, 1), (31, 2), (32, 1)];
    world.tell(&tasks, &services, &[(PUBLISHED, 11)]).await?;
    let direct = PortMap {
        protocol: Protocol::Tcp,
        host_ip: Ipv4Addr::UNSPECIFIED.into(),
        both: false,
        host_port: DIRECT,
        host_port_end: 0,
        container_port: PORT,
    };
    world.task(1, 11, true, vec![direct]).await?;
    world.task(2, 12, true, Vec::new()).await?;
    let caller = world.task(1, 21, false, Vec::new()).await?;
    let (one, client) = (world.host(1)?, world.client()?);
    one.serve(&Ns::Host, PORT)?;
    world.host(2)?.serve(&Ns::Host, PORT)?;
    by_hand(&world)?;

    println!("| What | Skep | compared with | ratio (least–most) | must be |\n|---|---|---|---|---|");
    let from_client = |n: u8, port: u16| Way { host: client, ns: Ns::Host, to: (underlay(n), port).into() };
    let program = from_client(1, PORT);
    let (local, remote) = (from_client(1, PUBLISHED), from_client(2, PUBLISHED));
    let hand = from_client(3, DIRECT);
    let rows: [(&str, &str, &str, &Way<'_>, &Way<'_>); 3] = [
        ("published port, task on the entered node / program on the host", "≥ 0.9", "≥ 0.75", &local, &program),
        ("published port, task on another node / program on the host", "≥ 0.65", "≥ 0.45", &remote, &program),
        ("published port, task on another node / two hops of DNAT and masquerade by hand", "≥ 0.9", "≥ 0.9", &remote, &hand),
    ];
    for (what, bulk, connections, one, other) in rows {
        bench.ratio(&format!("{what}: bulk TCP"), bulk, BULK, traffic::bulk, one, other)?;
        bench.ratio(&format!("{what}: new connections"), connections, PER_SECOND, traffic::connections, one, other)?;
    }
    let from = |ns: &Ns, to: SocketAddr| Way { host: one, ns: ns.clone(), to };
    let (task, by_vip) = (from(&caller, (overlay(12), PORT).into()), from(&caller, (VIP, PORT).into()));
    bench.ratio("VIP / the task's own address: new connections", "≥ 0.95", PER_SECOND, traffic::connections, &by_vip, &task)?;
    bench.ratio("VIP / the task's own address: requests", "≥ 0.95", PER_SECOND, traffic::requests, &by_vip, &task)?;
    let bare = Way { host: one, ns: Ns::Host, to: (underlay(2), PORT).into() };
    let vxlan = Way { host: one, ns: Ns::Host, to: (Ipv4Addr::new(10, 99, 0, 2), PORT).into() };
    bench.ratio("overlay between two hosts / bare underlay: bulk TCP", "≥ 0.85", BULK, traffic::bulk, &task, &bare)?;
    bench.ratio("overlay between two hosts / VXLAN by hand: bulk TCP", "≥ 0.95", BULK, traffic::bulk, &task, &vxlan)?;

    // The same way, encrypted.
    world.task_on((SEALED, sealed(31)), 2, 31, true, Vec::new()).await?;
    let caller = world.task_on((SEALED, sealed(32)), 1, 32, false, Vec::new()).await?;
    let encrypted = from(&caller, (sealed(31), PORT).into());
    bench.ratio(
        "encrypted overlay / overlay, between two hosts: bulk TCP",
        "≥ 0.09",
        BULK,
        traffic::bulk,
        &encrypted,
        &task,
    )?;

    let what = format!("VIP among {} services of {} tasks / the task's own address", MANY.0, MANY.1);
    if !what.contains(&bench.only) {
        return Ok(());
    }
    // A thousand services beside.
    let mut many = services.clone();
    many.extend((0..MANY.0).map(|n| {
        let [high, low] = n.to_be_bytes();
        let backends = (0..MANY.1).map(|b| Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 100, 0)) + u32::from(n * 20 + b)));
        ServiceView {
            name: format!("s{n}"),
            aliases: Vec::new(),
            vip: Some(Ipv4Addr::new(10, 0, 201 + high, low)),
            backends: backends.collect(),
            ports: Vec::new(),
        }
    }));
    world.tell(&tasks, &many, &[(PUBLISHED, 11)]).await?;
    let among = world.task(1, 22, false, Vec::new()).await?;
    let (task, by_vip) = (from(&among, (overlay(12), PORT).into()), from(&among, (VIP, PORT).into()));
    bench.ratio(&format!("{what}: new connections"), "≥ 0.9", PER_SECOND, traffic::connections, &by_vip, &task)?;
    bench.ratio(&format!("{what}: requests"), "≥ 0.9", PER_SECOND, traffic::requests, &by_vip, &task)?;

    println!("\n| What | Skep | must be |\n|---|---|---|");
    rules::bench(one, &many)?;
    let (mut rates, mut all) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let (rate, took) = one.within(&among, || traffic::names("web", bench.time))?;
        rates.push(rate);
        all.extend(took);
    }
    rates.sort_by(f64::total_cmp);
    all.sort_unstable();
    println!("| names resolved by one client, one after the other | {:.0} a second | ≥ 20,000 |", rates[rates.len() / 2]);
    let (half, most) = (quantile(&all, 0.5), quantile(&all, 0.99));
    println!("| time of one answer, p50 and p99 | {half} µs, {most} µs | p99 ≤ 1 ms |");
    Ok(())
}

/// What one would set up without Skep: host 3 forwards a port to host 1, and hosts 1 and 2 have a VXLAN link.
fn by_hand(world: &World) -> Done<()> {
    let (one, two, three) = (world.netns(1), world.netns(2), world.netns(3));
    run("ip", &format!("netns exec {three} sysctl -qw net.ipv4.ip_forward=1"))?;
    let nft = |rule: &str| run("ip", &format!("netns exec {three} nft {rule}"));
    nft("add table ip hand")?;
    nft("add chain ip hand pre { type nat hook prerouting priority dstnat ; }")?;
    nft("add chain ip hand post { type nat hook postrouting priority srcnat ; }")?;
    nft(&format!("add rule ip hand pre tcp dport {DIRECT} dnat to {}:{DIRECT}", underlay(1)))?;
    nft(&format!("add rule ip hand post ip daddr {} masquerade", underlay(1)))?;
    for (ns, own, other) in [(&one, 1, 2), (&two, 2, 1)] {
        let ends = format!("local {} remote {}", underlay(own), underlay(other));
        // Another port than that of Skep's own, which takes frames of members only.
        run("ip", &format!("-n {ns} link add hand type vxlan id 99 {ends} dstport 4799 dev eth0"))?;
        run("ip", &format!("-n {ns} addr add 10.99.0.{own}/24 dev hand"))?;
        run("ip", &format!("-n {ns} link set hand up"))?;
    }
    Ok(())
}
