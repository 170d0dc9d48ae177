//! `network connect` and `disconnect`: of a container that runs, live; of one that does not, for its next start.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use skep_types::container::NetworkJoin;

use super::network::{endpoint_infos, mode, own_addresses, ports, request_of};
use super::{Container, Record};
use crate::Engine;
use crate::error::{Code, EngineError, Result, internal, invalid, not_found};
use crate::net::{NetworkRequest, Sandbox};

/// The driver of networks of the swarm.
const OVERLAY: &str = "overlay";

/// Networks that nobody joins or leaves by hand, with Docker's reasons.
fn refuse(driver: &str, mode: &str) -> Result<()> {
    if driver == "host" || mode == "host" {
        return Err(invalid("container cannot be disconnected from host network or connected to host network"));
    }
    if super::shared::target(mode).is_some() {
        return Err(invalid(
            "container sharing network namespace with another container or host cannot be connected to any other network",
        ));
    }
    if driver == "null" || mode == "none" {
        return Err(invalid(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode",
        ));
    }
    Ok(())
}

/// The networks of a container, the one of its mode among them.
fn all(record: &Record) -> Vec<NetworkJoin> {
    let mut all = record.networks.clone();
    let given = &record.info.host.network_mode;
    let own = mode(given);
    let named = all.iter().any(|n| mode(&n.network) == own);
    if !record.explicit && own != "none" && !named && (all.is_empty() || !given.is_empty()) {
        all.insert(0, NetworkJoin { network: own.to_owned(), ..NetworkJoin::default() });
    }
    all
}

impl Engine {
    /// Whether a container joins a network at its start that is not this host's own.
    pub(crate) async fn is_on_others(&self, container: &Container) -> bool {
        for join in all(&container.record()) {
            if !self.net.is_local(mode(&join.network)).await {
                return true;
            }
        }
        false
    }

    /// Connects a container to a network of this host, or to an overlay network of the swarm if the managers let it.
    ///
    /// # Errors
    /// 400 and 403 with Docker's texts, 404 for either, 500.
    pub async fn connect(self: &Arc<Self>, network: &str, target: &str, join: NetworkJoin) -> Result<()> {
        let container = self.find(target)?;
        if !self.net.is_local(network).await {
            match self.join_overlay(&container, network, &join).await {
                // A few digits of a local network's id, perhaps.
                Err(e) if e.code == Code::NotFound => {}
                done => return done,
            }
        }
        let network = self.net.network(network).await?;
        network.takes_containers()?;
        let _guard = container.ops.lock().await;
        let record = container.record();
        refuse(&network.driver, mode(&record.info.host.network_mode))?;
        if network.name == "bridge" && !(join.aliases.is_empty() && join.address.is_none() && join.address6.is_none()) {
            return Err(invalid(if join.address.is_some() || join.address6.is_some() {
                "user specified IP address is supported on user defined networks only"
            } else {
                "network-scoped alias is supported only for containers in user defined networks"
            }));
        }
        let mut networks = all(&record);
        if networks.iter().any(|n| n.network == network.name || n.network == network.id) {
            let (container, network) = (record.info.name, network.name);
            return Err(crate::net::NetError::Connected { container, network }.into());
        }
        let join = NetworkJoin { network: network.id.clone(), ..join };
        let sandbox = match &record.sandbox {
            Some(_) if container.is_running() => Some(self.net.connect(&container.id, request_of(&join)).await?),
            _ => None,
        };
        networks.push(join);
        settle(&container, networks, sandbox)?;
        self.network_event("connect", [&network.id, &network.name, &network.driver], &container.id);
        Ok(())
    }

    async fn join_overlay(self: &Arc<Self>, container: &Container, network: &str, join: &NetworkJoin) -> Result<()> {
        let _guard = container.ops.lock().await;
        let record = container.record();
        refuse(OVERLAY, mode(&record.info.host.network_mode))?;
        let mut networks = all(&record);
        let join = NetworkJoin { network: network.to_owned(), ..join.clone() };
        let held = self.hold(container, &record, &join).await?;
        let id = held.network.to_string();
        let has = |n: &NetworkJoin| n.network == network || n.network == id;
        if record.places.iter().any(|p| p.held.network == held.network) || networks.iter().any(has) {
            return Err(crate::net::NetError::Connected { container: record.info.name, network: network.to_owned() }.into());
        }
        let request = NetworkRequest {
            network: id.clone(),
            address: Some(held.addr.addr),
            aliases: join.aliases.clone(),
            address6: join.address6,
        };
        let joined = match &record.sandbox {
            Some(_) if container.is_running() => self.net.connect(&container.id, request).await.map(Some),
            _ => Ok(None),
        };
        if !matches!(joined, Ok(Some(_))) {
            // One that does not run asks again when it is started.
            self.attachments.release(&container.id, Some(held.network));
            container.update(false, |r| r.places.retain(|p| p.held.network != held.network))?;
        }
        let sandbox = joined?;
        let on = sandbox.iter().flat_map(|s| &s.endpoints).find(|e| e.network_id == id);
        let name = on.map_or(network, |e| &e.network_name).to_owned();
        networks.push(NetworkJoin { network: id.clone(), ..join });
        settle(container, networks, sandbox)?;
        self.network_event("connect", [&id, &name, OVERLAY], &container.id);
        Ok(())
    }

    /// Disconnects a container from a network.
    ///
    /// # Errors
    /// 400, 404 when there is no such network or container or it is not connected, 500.
    pub async fn disconnect(self: &Arc<Self>, network: &str, target: &str) -> Result<()> {
        let container = self.find(target)?;
        if let Some(id) = container.record().overlay(network) {
            let _guard = container.ops.lock().await;
            if container.record().networks.iter().any(|n| n.assigned && n.network == id) {
                let text = format!("container {} is a task of the swarm, which stays on its service's networks", container.id);
                return Err(EngineError::new(Code::PermissionDenied, text));
            }
            return self.leave_overlay(&container, &id, true).await;
        }
        let network = self.net.network(network).await?;
        let _guard = container.ops.lock().await;
        let record = container.record();
        refuse(&network.driver, mode(&record.info.host.network_mode))?;
        let mut networks = all(&record);
        let count = networks.len();
        networks.retain(|n| mode(&n.network) != network.name && n.network != network.id);
        if networks.len() == count {
            return Err(not_found(format!("container {} is not connected to network {}", container.id, network.name)));
        }
        let sandbox = match &record.sandbox {
            Some(_) if container.is_running() => Some(self.net.disconnect(&container.id, &network.id).await?),
            _ => None,
        };
        settle(&container, networks, sandbox)?;
        self.network_event("disconnect", [&network.id, &network.name, &network.driver], &container.id);
        Ok(())
    }

    /// Takes a container, whose `ops` the caller holds, off an overlay network; with `forget` for its next start, too.
    pub(crate) async fn leave_overlay(&self, container: &Container, id: &str, forget: bool) -> Result<()> {
        let record = container.record();
        let on = record.sandbox.iter().flat_map(|s| &s.endpoints).find(|e| e.network_id == id);
        let name = on.map_or(id, |e| &e.network_name).to_owned();
        let sandbox = match on {
            Some(_) if container.is_running() => Some(self.net.disconnect(&container.id, id).await?),
            _ => None,
        };
        let mut networks = all(&record);
        if forget {
            networks.retain(|n| n.network != name && n.network != id);
        }
        settle(container, networks, sandbox)?;
        self.attachments.release(&container.id, id.parse().ok());
        container.update(false, |r| r.places.retain(|p| p.held.network.to_string() != id))?;
        self.network_event("disconnect", [id, &name, OVERLAY], &container.id);
        Ok(())
    }

    fn network_event(&self, action: &str, [id, name, driver]: [&str; 3], container: &str) {
        let attributes = [("container", container), ("name", name), ("type", driver)];
        let attributes = attributes.map(|(k, v)| (k.to_owned(), v.to_owned()));
        self.events.emit("network", action, id, attributes);
    }
}

impl Record {
    /// The id of the overlay network that it is on, or joins at its start, under this name or id.
    fn overlay(&self, network: &str) -> Option<String> {
        let mut endpoints = self.sandbox.iter().flat_map(|s| &s.endpoints).filter(|e| e.is_overlay());
        let on = endpoints.find(|e| e.network_id == network || e.network_name == network);
        on.map(|e| e.network_id.clone())
    }
}

/// Records the networks, and shows them inside.
fn settle(container: &Container, networks: Vec<NetworkJoin>, sandbox: Option<Sandbox>) -> Result<()> {
    if let Some(sandbox) = &sandbox {
        let former = container.record().sandbox;
        let dir = container.dir.join("etc");
        let before = former.as_ref().map(own_addresses).unwrap_or_default();
        let hosts = rewrite(&dir.join("hosts"), &sandbox.request.hostname, &before, &own_addresses(sandbox));
        let resolver = if sandbox.resolver.is_some() && former.is_some_and(|f| f.resolver.is_none()) {
            let host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
            // In place: the file is bound into the container.
            std::fs::write(dir.join("resolv.conf"), sandbox.resolv_conf(&host))
        } else {
            Ok(())
        };
        if let Err(e) = hosts.and(resolver) {
            tracing::warn!(container = %container.id, error = %e, "the container's /etc does not show its networks");
        }
    }
    let done = container.update(true, |r| {
        r.networks = networks;
        r.explicit = true;
        if let Some(sandbox) = sandbox {
            r.info.endpoints = endpoint_infos(&sandbox);
            r.info.ports = ports(&sandbox);
            r.sandbox = Some(sandbox);
        }
    });
    done.map_err(|e| internal("record the networks", e))
}

/// Replaces the lines of a container's own addresses in its hosts file and leaves the others, which may be the user's.
fn rewrite(path: &Path, hostname: &str, before: &[IpAddr], now: &[IpAddr]) -> std::io::Result<()> {
    let text = std::fs::read_to_string(path)?;
    let line = |a: &IpAddr| format!("{a}\t{hostname}");
    let gone: Vec<String> = before.iter().filter(|a| !now.contains(a)).map(line).collect();
    let mut lines: Vec<String> = text.lines().filter(|l| !gone.iter().any(|g| g == l)).map(str::to_owned).collect();
    lines.extend(now.iter().filter(|a| !before.contains(a)).map(line));
    std::fs::write(path, lines.join("\n") + "\n")
}
