//! `network connect` and `disconnect`: of a container that runs, live; of one that does not, for its next start.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use skep_types::container::NetworkJoin;

use super::network::{endpoint_infos, mode, own_addresses, ports, request_of};
use super::{Container, Record};
use crate::Engine;
use crate::error::{Result, internal, invalid, not_found};
use crate::net::{LocalNetwork, Sandbox};

/// Networks that nobody joins or leaves by hand, with Docker's reasons.
fn refuse(network: &LocalNetwork, mode: &str) -> Result<()> {
    if network.driver == "host" || mode == "host" {
        return Err(invalid("container cannot be disconnected from host network or connected to host network"));
    }
    if network.driver == "null" || mode == "none" {
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
    /// Connects a container to a local network.
    ///
    /// # Errors
    /// 400 and 403 with Docker's texts, 404 for either, 500.
    pub async fn connect(self: &Arc<Self>, network: &str, target: &str, join: NetworkJoin) -> Result<()> {
        let container = self.find(target)?;
        let network = self.net.network(network).await?;
        let _guard = container.ops.lock().await;
        let record = container.record();
        refuse(&network, mode(&record.info.host.network_mode))?;
        if network.name == "bridge" && !(join.aliases.is_empty() && join.address.is_none()) {
            return Err(invalid(if join.address.is_some() {
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
        self.network_event("connect", &network, &container.id);
        Ok(())
    }

    /// Disconnects a container from a local network.
    ///
    /// # Errors
    /// 400, 404 when there is no such network or container or it is not connected, 500.
    pub async fn disconnect(self: &Arc<Self>, network: &str, target: &str) -> Result<()> {
        let container = self.find(target)?;
        let network = self.net.network(network).await?;
        let _guard = container.ops.lock().await;
        let record = container.record();
        refuse(&network, mode(&record.info.host.network_mode))?;
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
        self.network_event("disconnect", &network, &container.id);
        Ok(())
    }

    fn network_event(&self, action: &str, network: &LocalNetwork, container: &str) {
        let attributes = [("container", container), ("name", &network.name), ("type", &network.driver)];
        let attributes = attributes.map(|(k, v)| (k.to_owned(), v.to_owned()));
        self.events.emit("network", action, &network.id, attributes);
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
fn rewrite(path: &Path, hostname: &str, before: &[Ipv4Addr], now: &[Ipv4Addr]) -> std::io::Result<()> {
    let text = std::fs::read_to_string(path)?;
    let line = |a: &Ipv4Addr| format!("{a}\t{hostname}");
    let gone: Vec<String> = before.iter().filter(|a| !now.contains(a)).map(line).collect();
    let mut lines: Vec<String> = text.lines().filter(|l| !gone.iter().any(|g| g == l)).map(str::to_owned).collect();
    lines.extend(now.iter().filter(|a| !before.contains(a)).map(line));
    std::fs::write(path, lines.join("\n") + "\n")
}
