//! What was found in a namespace, of what is ours, in words: the dump that users read and tests compare.

use skep_types::netreport::SpaceReport;

use crate::drift::{Difference, Seen, SeenLink};
use crate::nft::words;
use crate::state::{LinkKind, NetnsState, Ns};

/// The report of one namespace.
#[must_use]
pub fn space(ns: &Ns, wanted: &NetnsState, seen: &Seen, differences: &[Difference]) -> SpaceReport {
    let mut out = SpaceReport { name: ns.to_string(), ..SpaceReport::default() };
    let ours = |name: &String| wanted.links.contains_key(name);
    let links = seen.links.iter().filter(|(name, _)| ours(name));
    out.links = links.map(|(name, link)| (name.clone(), link_words(link))).collect();
    let neighbours = seen.neighbours.iter().filter(|(key, _)| ours(&key.0));
    out.neighbours = neighbours.map(|((dev, addr), mac)| (format!("{addr} dev {dev}"), mac.to_string())).collect();
    let forwarding = seen.fdb.iter().filter(|(key, _)| ours(&key.0));
    out.forwarding = forwarding.map(|((dev, mac), to)| (format!("{mac} dev {dev}"), to.dst.to_string())).collect();
    for ((family, name), table) in &seen.tables {
        let path = |part: &str| format!("{} {name} {part}", words::family(*family));
        for (set_name, set) in &table.sets {
            let elements = set.elements.iter().map(|(key, datum)| (words::key(&set.key, key), words::value(set, datum)));
            out.sets.insert(path(set_name), elements.collect());
        }
        out.chains.extend(table.chains.iter().map(|(chain, c)| (path(chain), c.rules.len())));
    }
    out.differences = differences.iter().map(ToString::to_string).collect();
    out
}

fn link_words(link: &SeenLink) -> String {
    let kind = match &link.kind {
        LinkKind::Bridge => "bridge".to_owned(),
        LinkKind::Vxlan { id, local, port, .. } => format!("vxlan {id} from {local} port {port}"),
        LinkKind::Veth { .. } => "veth".to_owned(),
        LinkKind::Child { kind, .. } => format!("{kind:?}").to_lowercase(),
        LinkKind::Vlan { parent, id } => format!("vlan {id} of {parent}"),
        LinkKind::WireGuard { .. } => "wireguard".to_owned(),
        LinkKind::Given => "link".to_owned(),
    };
    let port = link.master.as_ref().map(|m| format!(", port of {m}")).unwrap_or_default();
    format!("{kind}, mtu {}{port}, {}", link.mtu, if link.up { "up" } else { "down" })
}
