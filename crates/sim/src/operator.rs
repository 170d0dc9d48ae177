//! What operators do, through the calls that the API makes, at any manager. What was acknowledged is noted, to be compared with
//! what is read later. Must never take an error for more than an unknown outcome.

use std::sync::Arc;
use std::time::Duration;

use skep_manager::Manager;
use skep_types::NodeId;
use skep_types::control::{ControlRequest, ControlResponse};
use skep_types::object::{Node, NodeState, Service, TaskState, TaskStatus};
use skep_types::spec::*;
use skep_wire::ControlCall;
use tokio::time::Instant;

use crate::rng::Rng;
use crate::schedule::Operation;
use crate::world::World;

/// Most services and networks at once: enough to be in each other's way.
const SERVICES: usize = 12;
const NETWORKS: usize = 4;
/// How long operators try on both sides of a cut, and how long they wait for an answer.
const BOTH_SIDES: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_millis(500);
/// Managers stay between these numbers, so that a swarm is left.
const MANAGERS: std::ops::RangeInclusive<usize> = 3..=7;

fn of<T>(all: &[T], which: u64) -> Option<&T> {
    // A remainder below a length fits a usize.
    (!all.is_empty()).then(|| &all[(which % all.len() as u64) as usize])
}

/// Does one thing at the manager `m`. What cannot be done now is left.
pub(crate) async fn operate(world: Arc<World>, m: Arc<Manager>, op: Operation) {
    let check = world.check.clone();
    let store = m.store();
    let services: Vec<Arc<Service>> = store.services().cloned().collect();
    match op {
        Operation::Read => {
            let expected = check.history.expected();
            if let Ok(ControlResponse::Services(found)) = m.call(ControlRequest::ListServices).await {
                check.check(2, expected.seen(found.iter().map(|s| &**s), &check.history.expected()));
            }
        }
        Operation::Create { number, dice } => {
            if services.len() >= SERVICES {
                return;
            }
            let spec = Box::new(spec(&store, number, dice));
            if let Ok(ControlResponse::ServiceCreated { id }) = m.call(ControlRequest::CreateService { spec }).await {
                check.history.created(id);
            }
        }
        Operation::Scale(which, dice) => {
            update(&world, &m, of(&services, which), |s| match &mut s.mode {
                ServiceMode::Replicated { replicas } => *replicas = dice % 20,
                ServiceMode::ReplicatedJob { total_completions, .. } => *total_completions = dice % 20,
                ServiceMode::Global | ServiceMode::GlobalJob => s.task.force_update += 1,
            })
            .await;
        }
        Operation::Update(which, dice) => {
            update(&world, &m, of(&services, which), |s| s.task.container.image = format!("sim:{}", dice % 1000)).await;
        }
        Operation::RollBack(which) => {
            let Some(s) = of(&services, which) else { return };
            let (target, version) = (s.id.to_string(), s.meta.version);
            let call = ControlRequest::UpdateService { target, version, spec: Box::new(s.spec.clone()), rollback: true };
            if m.call(call).await.is_ok() {
                check.check(2, check.history.updated(s.id, version));
            }
        }
        Operation::Remove(which) => {
            let Some(s) = of(&services, which) else { return };
            check.history.removing(s.id);
            if m.call(ControlRequest::RemoveService { target: s.id.to_string() }).await.is_ok() {
                check.history.removed(s.id);
            }
        }
        Operation::CreateNetwork(dice) => {
            if store.networks().count() > NETWORKS {
                return;
            }
            let spec = NetworkSpec {
                name: format!("net{}", dice % 100),
                labels: Labels::new(),
                // Small ones now and then, so that addresses run out.
                subnet: dice.is_multiple_of(3).then(|| skep_types::Ipv4Net::new([172, 16, (dice >> 8) as u8, 0].into(), 27)),
                ipv6: dice.is_multiple_of(5),
                ..NetworkSpec::default()
            };
            let _ = m.call(ControlRequest::CreateNetwork { spec }).await;
        }
        Operation::RemoveNetwork(which) => {
            let all: Vec<_> = store.networks().filter(|n| !n.spec.ingress).cloned().collect();
            let Some(n) = of(&all, which) else { return };
            let _ = m.call(ControlRequest::RemoveNetwork { target: n.id.to_string() }).await;
        }
        Operation::Availability(which, dice) => {
            let a = match dice % 5 {
                0 => Availability::Drain,
                1 => Availability::Pause,
                _ => Availability::Active,
            };
            let drain = if dice / 5 % 2 == 0 { "update" } else { "at-once" };
            let change = |s: &mut NodeSpec| {
                s.availability = a;
                s.labels.insert("skep.drain".into(), drain.into());
            };
            change_node(&m, which, |_| true, change).await;
        }
        Operation::Promote(which) => {
            if store.nodes().filter(|n| n.spec.role == Role::Manager).count() < *MANAGERS.end() {
                change_node(
                    &m,
                    which,
                    |n| n.spec.role == Role::Worker && n.state == NodeState::Ready,
                    |s| {
                        s.role = Role::Manager;
                    },
                )
                .await;
            }
        }
        Operation::Demote(which) => {
            if store.nodes().filter(|n| n.spec.role == Role::Manager).count() > *MANAGERS.start() {
                change_node(&m, which, |n| n.spec.role == Role::Manager, |s| s.role = Role::Worker).await;
            }
        }
        Operation::Waver(which, ms) => {
            let managers = || store.nodes().filter(|n| n.spec.role == Role::Manager);
            let all: Vec<_> = managers().cloned().collect();
            let Some(n) = of(&all, which).filter(|_| all.len() > *MANAGERS.start()) else { return };
            change_node(&m, 0, |o| o.id == n.id, |s| s.role = Role::Worker).await;
            tokio::time::sleep(Duration::from_millis(ms)).await;
            change_node(&m, 0, |o| o.id == n.id, |s| s.role = Role::Manager).await;
        }
        Operation::RemoveNode(which) => {
            let all: Vec<_> =
                store.nodes().filter(|n| n.role == Role::Worker && n.spec.role == Role::Worker).cloned().collect();
            let Some(n) = of(&all, which) else { return };
            let _ = m.call(ControlRequest::RemoveNode { target: n.id.to_string(), force: true }).await;
        }
    }
}

/// While the leader's host is cut off, one operator reads there and another one writes on the other side: a read that is answered
/// shows what was written before it began.
pub(crate) async fn try_both_sides(world: Arc<World>, cut: usize) {
    let end = Instant::now() + BOTH_SIDES;
    let reads = async {
        while Instant::now() < end {
            if let Some(m) = world.hosts[cut].manager() {
                let _ = tokio::time::timeout(PATIENCE, operate(world.clone(), m, Operation::Read)).await;
            }
            tokio::time::sleep(PATIENCE / 10).await;
        }
    };
    let writes = async {
        while Instant::now() < end {
            let others = world.hosts.iter().enumerate().filter(|(i, _)| *i != cut);
            if let Some(m) = others.filter_map(|(_, h)| h.manager()).next() {
                let first = m.store().services().next().cloned();
                let _ = tokio::time::timeout(PATIENCE, update(&world, &m, first.as_ref(), |_| {})).await;
            }
            tokio::time::sleep(PATIENCE / 10).await;
        }
    };
    tokio::join!(reads, writes);
}

async fn update(world: &World, m: &Manager, s: Option<&Arc<Service>>, f: impl FnOnce(&mut ServiceSpec)) {
    let Some(s) = s else { return };
    let mut spec = s.spec.clone();
    f(&mut spec);
    let stamp = world.check.history.stamp(&mut spec);
    let (target, version) = (s.id.to_string(), s.meta.version);
    let call = ControlRequest::UpdateService { target, version, spec: Box::new(spec), rollback: false };
    match m.call(call).await {
        Ok(_) => world.check.check(2, world.check.history.updated(s.id, version)),
        Err(e) if e.message.contains("update out of sequence") => {
            world.check.check(2, world.check.history.refused(&stamp));
        }
        Err(_) => {}
    }
}

async fn change_node(m: &Manager, which: u64, may: impl Fn(&Node) -> bool, f: impl FnOnce(&mut NodeSpec)) {
    let store = m.store();
    let all: Vec<_> = store.nodes().filter(|n| may(n)).cloned().collect();
    let Some(n) = of(&all, which) else { return };
    let mut spec = n.spec.clone();
    f(&mut spec);
    let _ = m.call(ControlRequest::UpdateNode { target: n.id.to_string(), version: n.meta.version, spec }).await;
}

fn spec(store: &skep_state::Store, number: u64, dice: u64) -> ServiceSpec {
    let mut rng = Rng::new(dice);
    let mut task = TaskSpec::default();
    task.container.image = "sim:1".into();
    task.restart = Some(RestartPolicy { delay: Duration::from_millis(rng.range(0..5_000)), ..RestartPolicy::default() });
    if rng.chance(400) {
        task.networks = store
            .networks()
            .filter(|n| !n.spec.ingress)
            .take(1 + rng.below(2))
            .map(|n| NetworkAttachmentSpec { target: n.id, aliases: vec![] })
            .collect();
    }
    if rng.chance(300) {
        task.resources.reserve_nano_cpus = rng.range(1..4) * 250_000_000;
    }
    if rng.chance(200) {
        task.placement.max_replicas = rng.range(1..4);
    }
    if rng.chance(150) {
        task.placement.constraints = vec!["node.role==worker".into()];
    }
    let port = |target| PortConfig {
        name: String::new(),
        protocol: Protocol::Tcp,
        target,
        published: 0,
        mode: PublishMode::Ingress,
        host_ip: None,
    };
    let ports = if rng.chance(500) { vec![port(80)] } else { vec![] };
    let order = if rng.chance(400) { UpdateOrder::StartFirst } else { UpdateOrder::StopFirst };
    let config = |rng: &mut Rng| UpdateConfig {
        parallelism: rng.range(0..4),
        delay: Duration::from_millis(rng.range(0..3_000)),
        failure_action: match rng.range(0..3) {
            0 => FailureAction::Continue,
            1 => FailureAction::Rollback,
            _ => FailureAction::Pause,
        },
        monitor: Duration::from_millis(rng.range(0..5_000)),
        max_failure_ratio: 0.2,
        order,
    };
    let update = Some(config(&mut rng));
    let rollback = Some(UpdateConfig { failure_action: FailureAction::Pause, ..config(&mut rng) });
    let mode = match rng.range(0..10) {
        0 | 1 => ServiceMode::Global,
        2 => ServiceMode::ReplicatedJob { max_concurrent: rng.range(1..5), total_completions: rng.range(0..10) },
        3 => ServiceMode::GlobalJob,
        _ => ServiceMode::Replicated { replicas: rng.range(0..15) },
    };
    // Jobs have neither.
    let (update, rollback) = if mode.is_job() { (None, None) } else { (update, rollback) };
    let mut labels = Labels::new();
    for (option, longest) in [("skep.restart.backoff", 20), ("skep.update.deadline", 30)] {
        if rng.chance(200) {
            labels.insert(option.into(), format!("{}s", rng.range(5..longest)));
        }
    }
    ServiceSpec {
        name: format!("service{number}"),
        labels,
        mode,
        task,
        update,
        rollback,
        endpoint: EndpointSpec { mode: EndpointMode::Vip, ports },
    }
}

/// A node claims that tasks of others have failed.
pub(crate) async fn lie(world: Arc<World>, m: Arc<Manager>, liar: NodeId) {
    let store = m.store();
    let status = TaskStatus { state: TaskState::Failed, message: "a lie".into(), ..TaskStatus::default() };
    let others = store.tasks().filter(|t| t.node.is_some_and(|n| n != liar)).take(5);
    let reports = others.map(|t| (liar, skep_types::control::StatusReport { task: t.id, status: status.clone() })).collect();
    if let Some((_, leader)) =
        world.hosts.iter().enumerate().find_map(|(i, h)| Some((i, h.manager().filter(|m| m.is_leading())?)))
    {
        let who = skep_pki::Identity { node: liar, role: Role::Manager, cluster: skep_types::ClusterId(4711) };
        let _ = leader.handler().control(who, ControlCall::Statuses { reports }).await;
    }
}
