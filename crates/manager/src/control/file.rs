//! Secrets and configs: create, new labels, remove when no service names them (`swarm-semantics` 2.2, 3.6). Must never give out
//! the bytes of a secret.

use std::sync::Arc;

use skep_state::{Key, Op, Store, Transaction};
use skep_types::FileId;
use skep_types::control::{Code, ControlError, ControlResponse};
use skep_types::file::{FileKind, FileSpec, StoredFile};
use skep_types::object::{Meta, Version};
use skep_types::template;

use super::lookup;
use super::service::{No, out_of_sequence};
use super::validate::labels;
use crate::error::{invalid, rpc};
use crate::shared::Shared;

/// Longest name.
const MAX_NAME: usize = 64;

fn check(spec: &FileSpec) -> Result<(), ControlError> {
    let (name, kind) = (&spec.name, spec.kind);
    if name.is_empty() {
        return Err(invalid("name must be provided"));
    }
    let inner = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    let ends = [name.chars().next(), name.chars().last()].into_iter().flatten().all(|c| c.is_ascii_alphanumeric());
    if !inner || !ends || name.len() > MAX_NAME {
        let allowed = "only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end character must be [a-zA-Z0-9]";
        return Err(invalid(format!("invalid name, {allowed}")));
    }
    labels(&spec.labels)?;
    if let Some(driver) = &spec.driver {
        if kind != FileKind::Secret {
            return Err(invalid(format!("a {} cannot have a driver: secrets can", kind.as_str())));
        }
        if driver.name.is_empty() {
            return Err(invalid("driver name: name must be provided"));
        }
        if !spec.data.0.is_empty() {
            let text = "a secret with a driver has no data of its own: create it without a file, or without --driver";
            return Err(invalid(text));
        }
        return Ok(());
    }
    if !(1..kind.limit()).contains(&spec.data.0.len()) {
        let (kind, limit) = (kind.as_str(), kind.limit());
        return Err(invalid(format!("{kind} data must be larger than 0 and less than {limit} bytes")));
    }
    if spec.template {
        let text = std::str::from_utf8(&spec.data.0).map_err(|_| invalid("a template must be text in UTF-8"))?;
        template::check_payload(text).map_err(invalid)?;
    }
    Ok(())
}

pub(crate) async fn create(s: &Shared, spec: &FileSpec) -> Result<ControlResponse, ControlError> {
    let id = FileId(s.clock.new_id());
    s.decide(|store| -> Result<_, No> {
        check(spec)?;
        if store.file_by_name(spec.kind, &spec.name).is_some() {
            let text = format!("{} {} already exists", spec.kind.as_str(), spec.name);
            return Err(rpc(Code::AlreadyExists, text).into());
        }
        let ops = vec![Op::PutFile(Box::new(StoredFile { id, meta: Meta::default(), spec: spec.clone() }))];
        Ok((Transaction::new(s.clock.now(), vec![], ops), ()))
    })
    .await?;
    Ok(ControlResponse::FileCreated { id })
}

pub(crate) fn list(store: &Store, kind: FileKind) -> ControlResponse {
    ControlResponse::Files(store.files(kind).map(StoredFile::shown).collect())
}

pub(crate) fn get(store: &Store, kind: FileKind, target: &str) -> Result<ControlResponse, ControlError> {
    lookup::file(store, kind, target).map(|f| ControlResponse::Files(vec![f.shown()]))
}

pub(crate) async fn update(
    s: &Shared,
    target: &str,
    version: Version,
    spec: &FileSpec,
) -> Result<ControlResponse, ControlError> {
    s.decide(|store| -> Result<_, No> {
        let old = lookup::file(store, spec.kind, target)?;
        if old.meta.version != version {
            return Err(out_of_sequence().into());
        }
        labels(&spec.labels)?;
        let new = FileSpec { labels: spec.labels.clone(), ..old.spec.clone() };
        let same_data = spec.data.0.is_empty() || spec.data == old.spec.data;
        if spec.name != old.spec.name || !same_data || (&spec.driver, spec.template) != (&old.spec.driver, old.spec.template) {
            return Err(invalid("only updates to Labels are allowed").into());
        }
        let ops = vec![Op::PutFile(Box::new(StoredFile { spec: new, ..(*old).clone() }))];
        Ok((Transaction::new(s.clock.now(), vec![(Key::File(old.id), version)], ops), ()))
    })
    .await?;
    Ok(ControlResponse::Done)
}

pub(crate) async fn remove(s: &Shared, kind: FileKind, target: &str) -> Result<ControlResponse, ControlError> {
    s.decide(|store| -> Result<_, No> {
        let old = lookup::file(store, kind, target)?;
        let names = |x: &&Arc<skep_types::object::Service>| x.spec.task.container.files.iter().any(|f| f.id == old.id);
        let mut users: Vec<&str> = store.services().filter(names).map(|x| x.spec.name.as_str()).collect();
        if !users.is_empty() {
            users.sort_unstable();
            let services = if users.len() == 1 { "service" } else { "services" };
            let (kind, name, users) = (kind.as_str(), &old.spec.name, users.join(", "));
            return Err(invalid(format!("{kind} '{name}' is in use by the following {services}: {users}")).into());
        }
        // A service that came to name it meanwhile was refused, or is seen here the next time.
        let ops = vec![Op::DeleteFile(old.id)];
        Ok((Transaction::new(s.clock.now(), vec![], ops), ()))
    })
    .await?;
    Ok(ControlResponse::Done)
}
