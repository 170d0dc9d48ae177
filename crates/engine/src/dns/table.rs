//! What one container can resolve: the names of each network it is on, in order.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Names of one network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetNames {
    /// Name of the network: also accepted as a suffix (`web.mynet`).
    pub network: String,
    /// Addresses by lower-case name. A known name without addresses has an empty set.
    pub names: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Names by address.
    pub reverse: BTreeMap<IpAddr, String>,
    /// Ports and addresses of IPv4, one for each task, by `_port._protocol.name`, in lower case.
    pub services: BTreeMap<String, (u16, BTreeSet<Ipv4Addr>)>,
}

impl NetNames {
    /// Adds addresses to a name; names are compared without case.
    pub fn add(&mut self, name: &str, addrs: impl IntoIterator<Item = IpAddr>) {
        if !name.is_empty() {
            self.names.entry(name.to_ascii_lowercase()).or_default().extend(addrs);
        }
    }
}

/// What one container can resolve.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    /// The first network that knows a name answers.
    pub networks: Vec<NetNames>,
    /// Where everything else is asked, in order.
    pub upstream: Vec<SocketAddr>,
    /// Whether anything is asked outside: not for a container on internal networks only.
    pub forward: bool,
}

impl Table {
    /// Addresses of a name; `None` if no network knows it.
    #[must_use]
    pub fn addresses(&self, name: &str) -> Option<&BTreeSet<IpAddr>> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        self.networks.iter().find_map(|net| {
            let suffix = format!(".{}", net.network.to_ascii_lowercase());
            net.names.get(&name).or_else(|| net.names.get(name.strip_suffix(&suffix)?))
        })
    }

    /// Where a service is served: its port, and each address with a name that leads to it; `None` if no network knows it.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<(u16, Vec<(String, Ipv4Addr)>)> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        self.networks.iter().find_map(|net| {
            let suffix = format!(".{}", net.network.to_ascii_lowercase());
            let (port, all) = net.services.get(&name).or_else(|| net.services.get(name.strip_suffix(&suffix)?))?;
            let named =
                all.iter().filter_map(|a| Some((format!("{}.{}", net.reverse.get(&IpAddr::from(*a))?, net.network), *a)));
            Some((*port, named.collect()))
        })
    }

    /// The name of an address asked for as `4.3.2.1.in-addr.arpa` or by the 32 digits of one of IPv6 before `ip6.arpa`, the last first;
    /// `None` if no network knows it.
    #[must_use]
    pub fn pointer(&self, question: &str) -> Option<String> {
        let question = question.trim_end_matches('.').to_ascii_lowercase();
        let addr = match question.strip_suffix(".ip6.arpa") {
            Some(digits) => IpAddr::from(six(digits)?),
            None => {
                let parts = question.strip_suffix(".in-addr.arpa")?.split('.').rev();
                let octets: Vec<u8> = parts.map_while(|p| p.parse().ok()).collect();
                Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?).into()
            }
        };
        self.networks.iter().find_map(|net| Some(format!("{}.{}", net.reverse.get(&addr)?, net.network)))
    }
}

/// An address from its digits, the last first (RFC 3596, 2.5).
fn six(digits: &str) -> Option<Ipv6Addr> {
    let mut out = 0u128;
    let mut count = 0;
    for digit in digits.split('.').rev() {
        if digit.len() != 1 || count == 32 {
            return None;
        }
        out = out << 4 | u128::from_str_radix(digit, 16).ok()?;
        count += 1;
    }
    (count == 32).then(|| out.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_network_that_knows_a_name_answers() {
        let (one, two): (IpAddr, IpAddr) = (Ipv4Addr::new(10, 0, 1, 2).into(), Ipv4Addr::new(10, 0, 2, 2).into());
        let mut a = NetNames { network: "a".to_owned(), ..NetNames::default() };
        a.add("Web", [one]);
        a.reverse.insert(one, "web".to_owned());
        let mut b = NetNames { network: "b".to_owned(), ..NetNames::default() };
        b.add("web", [two]);
        b.add("db", [two]);
        let table = Table { networks: vec![a, b], ..Table::default() };
        assert_eq!(table.addresses("WEB."), Some(&BTreeSet::from([one])));
        assert_eq!(table.addresses("web.b"), Some(&BTreeSet::from([two])));
        assert_eq!(table.addresses("db"), Some(&BTreeSet::from([two])));
        assert_eq!(table.addresses("none"), None);
        assert_eq!(table.pointer("2.1.0.10.in-addr.arpa"), Some("web.a".to_owned()));
        assert_eq!(table.pointer("300.1.0.10.in-addr.arpa"), None);
        let mut table = table;
        table.networks[1].reverse.insert("fd00::1f".parse().expect("valid"), "six".to_owned());
        let digits = format!("f.1.{}0.0.d.f", "0.".repeat(26));
        assert_eq!(table.pointer(&format!("{digits}.ip6.arpa.")), Some("six.b".to_owned()));
        for bad in [&digits[2..], &format!("0.{digits}"), &digits.replace("f.1", "g.1"), &digits.replace("f.1", "f1.")] {
            assert_eq!(table.pointer(&format!("{bad}.ip6.arpa")), None, "{bad}");
        }
    }
}
