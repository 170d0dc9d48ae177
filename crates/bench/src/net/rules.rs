//! What the balancers' tables of one container cost the kernel, and the time to load and to change them.

use std::time::Instant;

use skep_engine::net::NetHost;
use skep_netplan::facts::{Attach, Container, Endpoint, Facts, Member};
use skep_netplan::{NetnsState, Ns, Step, diff, sandbox};
use skep_types::dataplane::{DataPlane, OverlayView, ServiceView, View};
use skep_types::{Ipv4Net, NodeId};

use super::world::{Done, Host, OVERLAY, overlay, underlay};

/// Containers whose tables are loaded, for the memory of one.
const CONTAINERS: usize = 10;
/// Changes whose time is taken.
const CHANGES: usize = 200;

/// Memory of the kernel's own structures, in KiB.
fn kernel_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let of = |key: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    ["Slab:", "Percpu:", "VmallocUsed:"].iter().filter_map(|k| of(k)).sum()
}

/// The tables alone of a container among these services.
fn tables(services: &[ServiceView]) -> NetnsState {
    let view = OverlayView {
        id: OVERLAY,
        name: "net".to_owned(),
        vni: 4097,
        subnet: Ipv4Net::new(overlay(0), 16),
        gateway: overlay(1),
        internal: false,
        encrypted: false,
        mtu: None,
        endpoints: Vec::new(),
        services: services.to_vec(),
        pairing: None,
    };
    let plane = DataPlane { networks: vec![View::new(view)], ..DataPlane::default() };
    let member = Member { node: NodeId(1), addr: underlay(1), mtu: 1500, plane, drained: Default::default() };
    let endpoint = Endpoint {
        attach: Attach::Overlay(OVERLAY.to_string()),
        ifname: "eth0".to_owned(),
        veth: None,
        net: Ipv4Net::new(overlay(99), 16),
        gateway: None,
        direct: false,
        mtu: 1450,
        net6: None,
        gateway6: None,
    };
    let container = Container {
        ns: Ns::Sandbox("rules".to_owned()),
        endpoints: vec![endpoint],
        ports: Vec::new(),
        ingress: None,
        ingress_ports: Vec::new(),
        dns_port: Some(53),
    };
    let facts = Facts { member: Some(member), ..Facts::default() };
    NetnsState { tables: sandbox::sandbox(&facts, &container).tables, ..NetnsState::default() }
}

fn apply(host: &Host, ns: &Ns, steps: &[Step]) -> Done<()> {
    host.net.apply(ns, steps).into_iter().collect::<Result<(), _>>().map_err(|e| format!("apply rules in {ns}: {e}"))
}

/// Two rows.
pub(super) fn bench(host: &Host, services: &[ServiceView]) -> Done<()> {
    let wanted = tables(services);
    let spaces: Vec<Ns> = (0..CONTAINERS).map(|n| Ns::Sandbox(format!("rules{n:07}"))).collect();
    let fail = |e: skep_engine::net::NetError| e.to_string();
    for ns in &spaces {
        host.net.create_ns(ns).map_err(fail)?;
        // A table with nothing in it, so that what the namespace itself needs is there.
        apply(host, ns, &diff(&NetnsState::default(), &tables(&[])))?;
    }
    let (before, mut loads) = (kernel_memory(), Vec::new());
    for ns in &spaces {
        let start = Instant::now();
        apply(host, ns, &diff(&tables(&[]), &wanted))?;
        loads.push(start.elapsed());
    }
    let each = kernel_memory().saturating_sub(before) as f64 / CONTAINERS as f64 / 1024.0;
    loads.sort_unstable();
    let load = loads[loads.len() / 2].as_secs_f64() * 1e3;
    println!("| kernel memory of one container's rules, {} services | {each:.2} MiB | ≤ 1.5 MiB |", services.len());
    println!("| time to compute and load them | {load:.1} ms | ≤ 30 ms |");

    // One backend of one service goes and comes.
    let mut fewer = services.to_vec();
    if let Some(service) = fewer.last_mut() {
        service.backends.pop();
    }
    let fewer = tables(&fewer);
    let (there, back) = (diff(&wanted, &fewer), diff(&fewer, &wanted));
    let mut changes = Vec::new();
    if let Some(ns) = spaces.first() {
        for n in 0..CHANGES {
            let start = Instant::now();
            apply(host, ns, if n % 2 == 0 { &there } else { &back })?;
            changes.push(start.elapsed());
        }
    }
    changes.sort_unstable();
    let change = changes.get(changes.len() / 2).map_or(0.0, |c| c.as_secs_f64() * 1e3);
    println!("| one change applied | {change:.2} ms | ≤ 0.2 ms |");
    for ns in &spaces {
        host.net.delete_ns(ns).map_err(fail)?;
    }
    Ok(())
}
