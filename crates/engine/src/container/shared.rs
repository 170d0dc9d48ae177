//! `--network container:NAME|ID`: a container in the network of another one, with its names and resolver.

use std::path::PathBuf;
use std::sync::Arc;

use skep_types::container::{ContainerState, CreateContainer};

use super::{Container, Record};
use crate::Engine;
use crate::error::{Result, conflict, invalid};

const PREFIX: &str = "container:";

/// Whose network a mode names.
pub(super) fn target(mode: &str) -> Option<&str> {
    mode.strip_prefix(PREFIX)
}

/// What a container cannot have if its network is another's, with Docker's texts.
pub(super) fn check(request: &CreateContainer) -> Result<()> {
    let (config, host) = (&request.config, &request.host);
    let conflicts = [
        (!config.hostname.is_empty(), "hostname and the network mode"),
        (!host.dns.is_empty(), "dns and the network mode"),
        (!host.extra_hosts.is_empty(), "custom host-to-IP mapping and the network mode"),
        (!host.ports.is_empty() || host.publish_all, "port publishing and the container type network mode"),
        (!config.exposed_ports.is_empty(), "port exposing and the container type network mode"),
    ];
    match conflicts.iter().find(|(met, _)| *met) {
        Some((_, what)) => Err(invalid(format!("conflicting options: {what}"))),
        None => Ok(()),
    }
}

/// The network of another container.
pub(super) struct Lender {
    /// Its namespace; the host's if absent.
    pub(super) netns: Option<PathBuf>,
    /// Its host name.
    pub(super) hostname: String,
    /// Where its files of /etc are.
    pub(super) etc: PathBuf,
}

impl Engine {
    /// The mode with the whole id of the container that it names, as `inspect` shows it. One that is not there yet may be at the start.
    pub(super) fn settled_mode(&self, mode: &str) -> String {
        let found = target(mode).and_then(|name| self.find(name).ok());
        found.map_or_else(|| mode.to_owned(), |c| format!("{PREFIX}{}", c.id))
    }

    /// The network that a container borrows; `None` if it has its own.
    ///
    /// # Errors
    /// The other container is missing (404), does not run, or is this one (409).
    pub(super) fn lender(&self, container: &Container, record: &Record) -> Result<Option<Lender>> {
        let Some(name) = target(&record.info.host.network_mode) else { return Ok(None) };
        let other = self.find(name)?;
        if other.id == container.id {
            return Err(conflict("cannot join own network"));
        }
        match other.info().state {
            ContainerState::Running => {}
            ContainerState::Restarting => {
                return Err(conflict(format!("container {} is restarting, wait until the container is running", other.id)));
            }
            _ => return Err(conflict(format!("cannot join network of a non running container: {}", other.id))),
        }
        self.lent(&other).map(Some)
    }

    fn lent(&self, other: &Arc<Container>) -> Result<Lender> {
        let record = other.record();
        if let Some(next) = self.lender(other, &record)? {
            return Ok(next);
        }
        let netns = record.sandbox.as_ref().map(|s| s.netns.clone());
        Ok(Lender { netns, hostname: self.hostname(other, &record), etc: other.dir.join("etc") })
    }
}
