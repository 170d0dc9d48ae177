//! Services: create, update, roll back, remove. Must never write a spec that was not validated against the same tables.

use std::sync::Arc;

use skep_plan::{allocate, next_revision};
use skep_state::{Key, Op, Store, Transaction};
use skep_types::control::{Code, ControlError, ControlResponse};
use skep_types::object::{JobStatus, Service, UpdateState, UpdateStatus, Version};
use skep_types::spec::{ServiceSpec, TaskSpec};
use skep_types::{ServiceId, Time, names};

use super::{lookup, validate};
use crate::error::{WriteError, rpc};
use crate::shared::Shared;

/// A refusal of a decision: by the rules, or by the write.
pub(crate) enum No {
    Rule(ControlError),
    Write(WriteError),
}

impl From<WriteError> for No {
    fn from(e: WriteError) -> Self {
        Self::Write(e)
    }
}

impl From<ControlError> for No {
    fn from(e: ControlError) -> Self {
        Self::Rule(e)
    }
}

impl From<No> for ControlError {
    fn from(n: No) -> Self {
        match n {
            No::Rule(e) => e,
            No::Write(e) => e.into_control(),
        }
    }
}

/// The refusal of an update that is not based on the newest version.
pub(crate) fn out_of_sequence() -> ControlError {
    rpc(Code::Unknown, "update out of sequence")
}

pub(crate) async fn create(s: &Shared, spec: &ServiceSpec) -> Result<ControlResponse, ControlError> {
    let id = ServiceId(s.clock.new_id());
    let nameless = spec.name.is_empty().then(|| s.clock.random());
    let mut spec = spec.clone();
    s.decide(|store| -> Result<_, No> {
        if let Some(dice) = nameless {
            // The first one that is free: there are fewer services than numbers.
            let names = (0..).map(|attempt| names::random_name(dice, attempt));
            spec.name = names.into_iter().find(|n| store.service_by_name(n).is_none()).unwrap_or_default();
        }
        let spec = &spec;
        validate::service(store, spec, None)?;
        if store.service_by_name(&spec.name).is_some() {
            let text = format!("name conflicts with an existing object: service {} already exists", spec.name);
            return Err(rpc(Code::AlreadyExists, text).into());
        }
        let mut service = Service::new(id, spec.clone(), s.clock.now());
        allocate::service(store, &mut service).map_err(|e| rpc(Code::FailedPrecondition, e))?;
        let reads = validate::reads_of_files(store, &spec.task.container);
        let spec = Arc::new(service.spec.task.clone());
        let ops = vec![Op::PutRevision { service: id, revision: 1, spec }, Op::PutService(Box::new(service))];
        Ok((Transaction::new(s.clock.now(), reads, ops), ()))
    })
    .await?;
    Ok(ControlResponse::ServiceCreated { id })
}

/// Whether tasks of `old` need not be replaced for `new`: credentials alone change nothing that runs.
fn same_task(old: &TaskSpec, new: &TaskSpec) -> bool {
    let strip = |t: &TaskSpec| TaskSpec { registry_auth: None, ..t.clone() };
    strip(old) == strip(new)
}

pub(crate) async fn update(
    s: &Shared,
    target: &str,
    version: Version,
    spec: &ServiceSpec,
    rollback: bool,
) -> Result<ControlResponse, ControlError> {
    s.decide(|store| -> Result<_, No> {
        let old = lookup::service(store, target)?;
        if old.meta.version != version {
            return Err(out_of_sequence().into());
        }
        let wanted = if rollback {
            old.previous_spec
                .as_deref()
                .ok_or_else(|| rpc(Code::FailedPrecondition, format!("service {} does not have a previous spec", old.id)))?
        } else {
            spec
        };
        if wanted.name != old.spec.name {
            return Err(rpc(Code::Unimplemented, "renaming services is not supported").into());
        }
        if wanted.mode.word() != old.spec.mode.word() {
            return Err(rpc(Code::Unimplemented, "service mode change is not allowed").into());
        }
        validate::service(store, wanted, Some(old.id))?;
        let (service, ops) = revise(store, &old, wanted, rollback, s.clock.now());
        let mut service = service;
        allocate::service(store, &mut service).map_err(|e| rpc(Code::FailedPrecondition, e))?;
        let mut all = ops;
        all.push(Op::PutService(Box::new(service)));
        let mut reads = validate::reads_of_files(store, &wanted.task.container);
        reads.push((Key::Service(old.id), version));
        Ok((Transaction::new(s.clock.now(), reads, all), ()))
    })
    .await?;
    Ok(ControlResponse::Done)
}

/// The service with a new spec, and its new revision if running tasks must be replaced.
fn revise(store: &Store, old: &Service, wanted: &ServiceSpec, rollback: bool, now: Time) -> (Service, Vec<Op>) {
    let mut service = old.clone();
    let same_endpoint = wanted.endpoint == old.spec.endpoint;
    let mut ops = Vec::new();
    let put = |revision| Op::PutRevision { service: old.id, revision, spec: Arc::new(wanted.task.clone()) };
    if !same_endpoint || !same_task(&old.spec.task, &wanted.task) {
        let known =
            store.revisions(old.id).find(|(r, t)| rollback && *r != old.revision && same_task(t, &wanted.task)).map(|(r, _)| r);
        service.revision = next_revision(store, old, same_endpoint, known);
        ops.push(put(service.revision));
    } else if old.spec.task != wanted.task {
        ops.push(put(old.revision));
    }
    service.spec = wanted.clone();
    service.previous_spec = Some(Box::new(old.spec.clone()));
    // A job is not rolled out: its next iteration has the old spec at once.
    service.update_status = (rollback && !wanted.mode.is_job()).then(|| UpdateStatus {
        state: UpdateState::RollbackStarted,
        started_at: now,
        completed_at: None,
        message: "manually requested rollback".into(),
        slots: 0,
    });
    // Every update runs a job again.
    service.job = old.job.map(|j| JobStatus { iteration: j.iteration + 1, last_execution: now });
    (service, ops)
}

pub(crate) async fn remove(s: &Shared, target: &str) -> Result<ControlResponse, ControlError> {
    s.decide(|store| -> Result<_, No> {
        let old = lookup::service(store, target)?;
        let ops = vec![Op::DeleteService(old.id)];
        Ok((Transaction::new(s.clock.now(), vec![], ops), ()))
    })
    .await?;
    Ok(ControlResponse::Done)
}
