//! Elements of sets in words, for people who look at a table.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Datum, Family, Field, Set, SetData, Verdict};

/// `ip`, `ip6` or `netdev`.
#[must_use]
pub fn family(family: Family) -> &'static str {
    match family {
        Family::Ip => "ip",
        Family::Ip6 => "ip6",
        Family::Netdev => "netdev",
    }
}

fn field(kind: Field, bytes: &[u8]) -> String {
    let hex = || bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    match (kind, bytes) {
        (Field::Ipv4, [a, b, c, d]) => Ipv4Addr::new(*a, *b, *c, *d).to_string(),
        (Field::Ipv6, bytes) => <[u8; 16]>::try_from(bytes).map_or_else(|_| hex(), |b| Ipv6Addr::from(b).to_string()),
        (Field::Ether, [a, b, c, d, e, f]) => crate::Mac([*a, *b, *c, *d, *e, *f]).to_string(),
        (Field::Proto, [6]) => "tcp".to_owned(),
        (Field::Proto, [17]) => "udp".to_owned(),
        (Field::Proto, [132]) => "sctp".to_owned(),
        (Field::Proto, [n]) => n.to_string(),
        (Field::Port, [a, b]) => u16::from_be_bytes([*a, *b]).to_string(),
        (Field::Mark, [a, b, c, d]) => u32::from_ne_bytes([*a, *b, *c, *d]).to_string(),
        (Field::IfName, name) => String::from_utf8_lossy(name.split(|b| *b == 0).next().unwrap_or_default()).into_owned(),
        _ => hex(),
    }
}

/// A key or value as `nft` would print it, fields parted by points; numbers in decimal.
#[must_use]
pub fn key(fields: &[Field], bytes: &[u8]) -> String {
    let mut at = 0;
    let mut parts = Vec::new();
    for kind in fields {
        let size = kind.size();
        // What is too short is shown as far as it goes.
        parts.push(field(*kind, bytes.get(at..at + size).unwrap_or_default()));
        at += size.next_multiple_of(4);
    }
    parts.join(" . ")
}

/// What an element maps to; empty for one of a plain set.
#[must_use]
pub fn value(set: &Set, datum: &Datum) -> String {
    match (datum, &set.data) {
        (Datum::Value(bytes), SetData::Value(fields)) => key(fields, bytes),
        (Datum::Value(bytes), _) => bytes.iter().map(|b| format!("{b:02x}")).collect(),
        (Datum::Verdict(Verdict::Accept), _) => "accept".to_owned(),
        (Datum::Verdict(Verdict::Drop), _) => "drop".to_owned(),
        (Datum::Verdict(Verdict::Goto(chain)), _) => format!("goto {chain}"),
        (Datum::None, _) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::bytes;
    use super::*;

    #[test]
    fn elements_read_as_nft_prints_them() {
        let fields = [Field::Ipv4, Field::Proto, Field::Port, Field::Mark];
        let raw = bytes(&[&[10, 0, 1, 2], &[6], &80u16.to_be_bytes(), &3u32.to_ne_bytes()]);
        assert_eq!(key(&fields, &raw), "10.0.1.2 . tcp . 80 . 3");
        assert_eq!(key(&[Field::IfName], &super::super::if_name("eth0")), "eth0");
        let raw = bytes(&[&Ipv6Addr::LOCALHOST.octets(), &[17], &53u16.to_be_bytes()]);
        assert_eq!(key(&[Field::Ipv6, Field::Proto, Field::Port], &raw), "::1 . udp . 53");
        let raw = bytes(&[&[132], &9999u16.to_be_bytes()]);
        assert_eq!(key(&[Field::Proto, Field::Port], &raw), "sctp . 9999");
        assert_eq!(key(&fields, &[1]), " .  .  . ");
        let set = Set::new(&[Field::Mark], SetData::Verdict);
        assert_eq!(value(&set, &Datum::Verdict(Verdict::Goto("n2".to_owned()))), "goto n2");
    }
}
