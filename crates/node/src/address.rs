//! The address that this host advertises, when its interfaces have changed while it was off. Pure. Must never change one that the
//! operator named.

use std::net::Ipv4Addr;

use skep_types::control::AdvertiseFrom;

use crate::files::Disk;

/// What the host says now: its files with the address that it has, or `None` if nothing changed or it is not sure.
pub(crate) fn moved(disk: &Disk, interfaces: &[(String, Ipv4Addr)]) -> Option<Disk> {
    let (old, port) = disk.advertise.rsplit_once(':')?;
    let old: Ipv4Addr = old.parse().ok()?;
    let usable = |a: &Ipv4Addr| !a.is_loopback() && !a.is_link_local() && !a.is_unspecified();
    let mut found = interfaces.iter().filter(|(name, a)| match &disk.advertise_from {
        AdvertiseFrom::Given => false,
        AdvertiseFrom::Interface(wanted) => name == wanted,
        AdvertiseFrom::Found => usable(a),
    });
    if disk.advertise_from == AdvertiseFrom::Found && interfaces.iter().any(|(_, a)| *a == old) {
        return None;
    }
    let (Some((_, new)), None) = (found.next(), found.next()) else { return None };
    if *new == old {
        return None;
    }
    let mut out = disk.clone();
    out.advertise = format!("{new}:{port}");
    if out.data_path == Some(old) {
        out.data_path = Some(*new);
    }
    if let Some(listening) = disk.listen.strip_prefix(&format!("{old}:")) {
        out.listen = format!("{new}:{listening}");
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use skep_types::spec::{Availability, Role};
    use skep_types::{ClusterId, NodeId};

    fn disk(from: AdvertiseFrom) -> Disk {
        Disk {
            node: NodeId(1),
            cluster: ClusterId(1),
            role: Role::Manager,
            listen: "10.0.0.1:2377".into(),
            advertise: "10.0.0.1:2377".into(),
            advertise_from: from,
            data_path: Some("10.0.0.1".parse().unwrap()),
            availability: Availability::Active,
            raft_id: 1,
            raft_joined: true,
            managers: vec![],
        }
    }

    fn has(list: &[(&str, &str)]) -> Vec<(String, Ipv4Addr)> {
        list.iter().map(|(n, a)| ((*n).to_owned(), a.parse().unwrap())).collect()
    }

    #[test]
    fn only_what_was_not_named_follows_the_interfaces() {
        let lo = ("lo", "127.0.0.1");
        let to = |from: AdvertiseFrom, list: &[(&str, &str)]| moved(&disk(from), &has(list)).map(|d| d.advertise);
        assert_eq!(to(AdvertiseFrom::Given, &[lo, ("eth0", "10.0.0.9")]), None);
        assert_eq!(to(AdvertiseFrom::Found, &[lo, ("eth0", "10.0.0.9")]).unwrap(), "10.0.0.9:2377");
        assert_eq!(to(AdvertiseFrom::Found, &[("eth0", "10.0.0.1"), ("eth1", "10.0.0.9")]), None, "it is still there");
        assert_eq!(to(AdvertiseFrom::Found, &[("eth0", "10.0.0.8"), ("eth1", "10.0.0.9")]), None, "which one?");
        assert_eq!(to(AdvertiseFrom::Found, &[lo]), None);
        let eth1 = || AdvertiseFrom::Interface("eth1".into());
        assert_eq!(to(eth1(), &[("eth0", "10.0.0.1"), ("eth1", "10.0.0.9")]).unwrap(), "10.0.0.9:2377");
        assert_eq!(to(eth1(), &[("eth0", "10.0.0.9")]), None);
        let d = moved(&disk(AdvertiseFrom::Found), &has(&[("eth0", "10.0.0.9")])).unwrap();
        assert_eq!((d.listen.as_str(), d.data_path), ("10.0.0.9:2377", Some("10.0.0.9".parse().unwrap())));
    }
}
