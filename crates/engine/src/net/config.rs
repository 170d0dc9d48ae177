//! Networks that are configurations alone (`network create --config-only`), and those that are made by one (`--config-from`). A
//! configuration has no link, holds no subnet, and stays as long as a network was made by it. The texts are Docker's.

use super::core::Core;
use super::{LocalNetwork, LocalNetworkSpec, NetError, options};

/// The driver that a configuration is shown with.
const NONE: &str = "null";

fn forbidden(text: &str) -> NetError {
    NetError::Forbidden(text.to_owned())
}

/// Refuses what a configuration, or a network by one, cannot have.
fn check(spec: &LocalNetworkSpec) -> Result<(), NetError> {
    if spec.config_only && (spec.internal || spec.attachable) {
        return Err(forbidden(
            "configuration network can only contain network specific fields. Network operator fields like \
             [ ingress | internal | attachable | scope ] are not supported.",
        ));
    }
    if spec.config_from.is_empty() {
        return Ok(());
    }
    if spec.config_only {
        return Err(forbidden("a configuration network cannot depend on another configuration network"));
    }
    let pools = spec.subnet.is_some() || spec.gateway.is_some() || spec.ip_range.is_some() || !spec.auxiliary.is_empty();
    let pools6 = spec.ipv6 || spec.subnet6.is_some() || spec.gateway6.is_some();
    if pools || pools6 || !spec.labels.is_empty() {
        return Err(forbidden(
            "user specified configurations are not supported if the network depends on a configuration network",
        ));
    }
    if !spec.options.is_empty() {
        return Err(forbidden("network driver options are not supported if the network depends on a configuration network"));
    }
    Ok(())
}

impl Core {
    /// What a network is made of: what was asked for, with all that its configuration says.
    pub(super) fn configured(&self, spec: LocalNetworkSpec) -> Result<LocalNetworkSpec, NetError> {
        check(&spec)?;
        if spec.config_from.is_empty() {
            return Ok(spec);
        }
        let from = self.by_name(&spec.config_from).filter(|n| n.spec.config_only);
        let from = from.ok_or_else(|| NetError::NoConfiguration(spec.config_from.clone()))?;
        let LocalNetworkSpec { name, driver, internal, attachable, config_from, .. } = spec;
        Ok(LocalNetworkSpec { name, driver, internal, attachable, config_from, config_only: false, ..from.spec.clone() })
    }

    /// Keeps a configuration.
    pub(super) fn configuration(&mut self, spec: LocalNetworkSpec) -> Result<LocalNetwork, NetError> {
        options::check("bridge", &spec.options)?;
        self.insert_bare(spec, NONE)
    }

    /// Refuses to remove a configuration that a network was made by.
    pub(super) fn unused(&self, network: &LocalNetwork) -> Result<(), NetError> {
        let used = network.spec.config_only && self.networks.values().any(|n| n.spec.config_from == network.name);
        if used { Err(NetError::Forbidden(format!("configuration network {:?} is in use", network.name))) } else { Ok(()) }
    }
}

impl LocalNetwork {
    /// Refuses a container on what is a configuration alone.
    ///
    /// # Errors
    /// [`NetError::Forbidden`] with Docker's text.
    pub fn takes_containers(&self) -> Result<(), NetError> {
        if self.spec.config_only { Err(forbidden("cannot create endpoint on configuration-only network")) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused() {
        let from = LocalNetworkSpec { config_from: "c".to_owned(), ..LocalNetworkSpec::default() };
        let only = LocalNetworkSpec { config_only: true, ..LocalNetworkSpec::default() };
        let pairs = [("a".to_owned(), "b".to_owned())];
        for (spec, text) in [
            (LocalNetworkSpec { internal: true, ..only.clone() }, "Network operator fields like"),
            (LocalNetworkSpec { attachable: true, ..only.clone() }, "Network operator fields like"),
            (LocalNetworkSpec { config_from: "c".to_owned(), ..only.clone() }, "cannot depend on another"),
            (LocalNetworkSpec { subnet: "10.1.0.0/24".parse().ok(), ..from.clone() }, "user specified configurations"),
            (LocalNetworkSpec { ipv6: true, ..from.clone() }, "user specified configurations"),
            (LocalNetworkSpec { labels: pairs.clone().into(), ..from.clone() }, "user specified configurations"),
            (LocalNetworkSpec { options: pairs.clone().into(), ..from.clone() }, "network driver options are not supported"),
        ] {
            let told = check(&spec).unwrap_err().to_string();
            assert!(told.contains(text), "{spec:?}: {told}");
        }
        let given = LocalNetworkSpec { subnet: "10.1.0.0/24".parse().ok(), labels: pairs.into(), ..only };
        assert!(check(&given).is_ok() && check(&LocalNetworkSpec { internal: true, ..from }).is_ok());
    }
}
