//! Options of local networks' drivers, with Docker's names, defaults and texts.
//!
//! | Driver | Option | Value |
//! |---|---|---|
//! | all | `com.docker.network.driver.mtu` | payload size, 68 to 65535 |
//! | bridge | `com.docker.network.bridge.name` | name of the link |
//! | bridge | `….bridge.enable_icc`, `….bridge.enable_ip_masquerade`, `….bridge.default_bridge` | a truth value |
//! | bridge | `….bridge.host_binding_ipv4` | address that ports are published at |
//! | macvlan | `parent`, `macvlan_mode` | a link of the host or `LINK.TAG`; `bridge`, `private`, `vepa`, `passthru` |
//! | ipvlan | `parent`, `ipvlan_mode`, `ipvlan_flag` | the same; `l2`, `l3`, `l3s`; `bridge`, `private`, `vepa` |

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use skep_netplan::Ns;
use skep_netplan::facts::Parent;
use skep_netplan::state::{ChildKind, IpvlanFlag, IpvlanMode, MacvlanMode};

use super::core::Core;
use super::{LocalNetworkSpec, NetError, SharedLink};

const BRIDGE: &str = "com.docker.network.bridge.";
const MTU: &str = "com.docker.network.driver.mtu";

type Options = BTreeMap<String, String>;

/// A truth value as Go reads it.
fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A truth value among a bridge's options.
pub(super) fn flag(options: &Options, key: &str) -> Option<bool> {
    truth(options.get(&format!("{BRIDGE}{key}"))?)
}

/// The payload size that was asked for.
pub(super) fn mtu(options: &Options) -> Option<u32> {
    options.get(MTU)?.parse().ok()
}

/// Where ports are published that name no address.
pub(super) fn binding(options: &Options) -> Option<Ipv4Addr> {
    options.get(&format!("{BRIDGE}host_binding_ipv4"))?.parse().ok().filter(|ip: &Ipv4Addr| !ip.is_unspecified())
}

fn invalid(text: String) -> NetError {
    NetError::Invalid(text)
}

/// Whether the values can be read.
pub(super) fn check(driver: &str, options: &Options) -> Result<(), NetError> {
    if let Some(text) = options.get(MTU) {
        let fits = text.parse::<u32>().is_ok_and(|n| (68..=65_535).contains(&n));
        if !fits {
            return Err(invalid(format!("invalid value for option {MTU:?}: {text:?} is no number from 68 to 65535")));
        }
    }
    if driver != "bridge" {
        return Ok(());
    }
    for key in ["enable_icc", "enable_ip_masquerade", "default_bridge"] {
        let key = format!("{BRIDGE}{key}");
        if let Some(text) = options.get(&key).filter(|t| truth(t).is_none()) {
            let why = format!("strconv.ParseBool: parsing {text:?}: invalid syntax");
            return Err(invalid(format!("invalid value for option {key:?}: {why}")));
        }
    }
    let key = format!("{BRIDGE}host_binding_ipv4");
    match options.get(&key).filter(|t| t.parse::<Ipv4Addr>().is_err()) {
        Some(text) => Err(invalid(format!("invalid value for option {key:?}: {text:?} is no IPv4 address"))),
        None => Ok(()),
    }
}

/// How a driver's containers share a link; `None` for a driver by which they share none.
pub(super) fn child(driver: &str, options: &Options) -> Result<Option<ChildKind>, NetError> {
    let value = |key: &str| options.get(key).map(String::as_str).unwrap_or_default();
    Ok(Some(match driver {
        "macvlan" => ChildKind::Macvlan(match value("macvlan_mode") {
            "" | "bridge" => MacvlanMode::Bridge,
            "private" => MacvlanMode::Private,
            "vepa" => MacvlanMode::Vepa,
            "passthru" => MacvlanMode::Passthru,
            other => {
                let text = "is not valid, 'bridge' mode is the macvlan driver default";
                return Err(invalid(format!("requested macvlan mode '{other}' {text}")));
            }
        }),
        "ipvlan" => {
            let mode = match value("ipvlan_mode") {
                "" | "l2" => IpvlanMode::L2,
                "l3" => IpvlanMode::L3,
                "l3s" => IpvlanMode::L3s,
                other => {
                    let text = "is not valid, 'l2' mode is the ipvlan driver default";
                    return Err(invalid(format!("requested ipvlan mode '{other}' {text}")));
                }
            };
            let flag = match value("ipvlan_flag") {
                "" | "bridge" => IpvlanFlag::Bridge,
                "private" => IpvlanFlag::Private,
                "vepa" => IpvlanFlag::Vepa,
                other => {
                    let text = "is not valid, 'bridge' is the ipvlan driver default";
                    return Err(invalid(format!("requested ipvlan flag '{other}' {text}")));
                }
            };
            ChildKind::Ipvlan(mode, flag)
        }
        _ => return Ok(None),
    }))
}

/// `LINK.TAG`.
fn vlan(name: &str) -> Result<(String, u16), NetError> {
    let bad = || invalid(format!("invalid subinterface vlan name {name}, example formatting is eth0.10"));
    let (of, tag) = name.rsplit_once('.').filter(|(of, _)| !of.is_empty()).ok_or_else(bad)?;
    let id: u16 = tag.parse().map_err(|_| bad())?;
    if !(1..=4094).contains(&id) {
        return Err(invalid(format!("vlan id must be between 1-4094, received: {id}")));
    }
    Ok((of.to_owned(), id))
}

impl Core {
    /// The link for a new network's containers, and how it is made if it is not there.
    pub(super) fn shared_link(&self, id: &str, kind: ChildKind, spec: &LocalNetworkSpec) -> Result<SharedLink, NetError> {
        let driver = spec.driver.as_str();
        let alone = format!("dm-{}", id.chars().take(12).collect::<String>());
        let link = spec.options.get("parent").filter(|p| !p.is_empty()).cloned().unwrap_or_else(|| alone.clone());
        if link == "lo" {
            return Err(invalid(format!("loopback interface is not a valid {driver} parent link")));
        }
        if link.len() > 15 || link.contains('/') {
            return Err(invalid(format!("invalid parent interface name: {link}")));
        }
        for other in self.networks.values() {
            let Some(theirs) = other.shared.as_ref().filter(|s| s.link == link) else { continue };
            let short: String = other.id.chars().take(12).collect();
            let whole = |kind| kind == ChildKind::Macvlan(MacvlanMode::Passthru);
            let both = matches!((kind, theirs.kind), (ChildKind::Macvlan(_), ChildKind::Macvlan(_)));
            if !both || whole(kind) || whole(theirs.kind) {
                return Err(invalid(format!("network dm-{short} is already using parent interface {link}")));
            }
        }
        if link == alone {
            return Ok(SharedLink { link, kind, made: Some(Parent::Alone(alone)) });
        }
        // One of ours that other networks share is made by each of them.
        let known = self.networks.values().filter_map(|n| n.shared.as_ref()).find(|s| s.link == link);
        if let Some(other) = known {
            return Ok(SharedLink { link, kind, made: other.made.clone() });
        }
        let found = self.host.found(&Ns::Host)?.links;
        if found.contains_key(&link) {
            return Ok(SharedLink { link, kind, made: None });
        }
        let (of, tag) = vlan(&link)?;
        if !found.contains_key(&of) {
            return Err(invalid(format!("failed to find master interface {of} on the Docker host: Link not found")));
        }
        Ok(SharedLink { link: link.clone(), kind, made: Some(Parent::Vlan { link, of, id: tag }) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Options {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn values_are_read_or_refused_with_the_options_name() {
        let good = options(&[(MTU, "1400"), ("com.docker.network.bridge.enable_icc", "F")]);
        check("bridge", &good).expect("good");
        assert_eq!((mtu(&good), flag(&good, "enable_icc")), (Some(1400), Some(false)));
        for (key, value) in [
            (MTU, "67"),
            (MTU, "big"),
            ("com.docker.network.bridge.enable_icc", "no"),
            ("com.docker.network.bridge.host_binding_ipv4", "::1"),
        ] {
            let refused = check("bridge", &options(&[(key, value)])).expect_err(value).to_string();
            assert!(refused.contains(key) && refused.contains(value), "{refused}");
        }
        let bound = |ip| binding(&options(&[("com.docker.network.bridge.host_binding_ipv4", ip)]));
        assert_eq!((bound("127.0.0.1"), bound("0.0.0.0")), (Some(Ipv4Addr::LOCALHOST), None));
    }

    #[test]
    fn modes_have_dockers_defaults_and_texts() {
        let macvlan = |mode| child("macvlan", &options(&[("macvlan_mode", mode)]));
        assert_eq!(macvlan("").expect("default"), Some(ChildKind::Macvlan(MacvlanMode::Bridge)));
        assert_eq!(macvlan("passthru").expect("known"), Some(ChildKind::Macvlan(MacvlanMode::Passthru)));
        let refused = macvlan("x").expect_err("unknown").to_string();
        assert_eq!(refused, "requested macvlan mode 'x' is not valid, 'bridge' mode is the macvlan driver default");
        let ipvlan = child("ipvlan", &options(&[("ipvlan_mode", "l3"), ("ipvlan_flag", "vepa")])).expect("known");
        assert_eq!(ipvlan, Some(ChildKind::Ipvlan(IpvlanMode::L3, IpvlanFlag::Vepa)));
        assert_eq!(child("bridge", &Options::new()).expect("none"), None);
    }

    #[test]
    fn tags_are_read_from_names() {
        assert_eq!(vlan("eth0.10").expect("good"), ("eth0".to_owned(), 10));
        assert_eq!(vlan("a.b.7").expect("good"), ("a.b".to_owned(), 7));
        for bad in ["eth0", "eth0.", ".5", "eth0.x", "eth0.0", "eth0.4095"] {
            assert!(vlan(bad).is_err(), "{bad}");
        }
    }
}
