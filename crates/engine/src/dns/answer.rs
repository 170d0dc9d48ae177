//! From a query's bytes to an answer's bytes, as far as the table goes.

use std::net::IpAddr;

use simple_dns::rdata::{A, AAAA, PTR, RData, SRV};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};

use super::table::Table;

/// Seconds that a client may keep an answer. Docker's 600 outlive most updates; the resolver is on the same host, so asking
/// again costs next to nothing.
const TTL: u32 = 5;
/// What fits into a UDP answer to a client that says nothing else (RFC 1035, 4.2.1).
const PLAIN_UDP: usize = 512;

/// What to do with a query.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Send this.
    Reply(Vec<u8>),
    /// Ask upstream.
    Forward,
    /// Not a query: say nothing.
    Ignore,
}

/// Answers from the table. `start` turns the list of addresses, so that clients which take the first spread over all of them.
pub(super) fn answer(query: &[u8], table: &Table, udp: bool, start: usize) -> Outcome {
    let Ok(packet) = Packet::parse(query) else {
        return id(query).map_or(Outcome::Ignore, |id| finish(Packet::new_reply(id), RCODE::FormatError));
    };
    if packet.has_flags(PacketFlag::RESPONSE) {
        return Outcome::Ignore;
    }
    let Some(question) = packet.questions.first() else {
        return finish(Packet::new_reply(packet.id()), RCODE::FormatError);
    };
    let mut reply = Packet::new_reply(packet.id());
    reply.set_flags(PacketFlag::RECURSION_AVAILABLE);
    if packet.has_flags(PacketFlag::RECURSION_DESIRED) {
        reply.set_flags(PacketFlag::RECURSION_DESIRED);
    }
    reply.questions.push(question.clone());
    let name = question.qname.to_string();
    let record = |data| ResourceRecord::new(question.qname.clone(), CLASS::IN, TTL, data);
    if question.qtype == QTYPE::TYPE(TYPE::PTR)
        && let Some(target) = table.pointer(&name)
    {
        reply.answers.push(record(RData::PTR(PTR(Name::new_unchecked(&target).into_owned()))));
        return finish(reply, RCODE::NoError);
    }
    if question.qtype == QTYPE::TYPE(TYPE::SRV)
        && let Some((port, targets)) = table.service(&name)
    {
        for (target, addr) in turned(&targets, start) {
            let target = Name::new_unchecked(target).into_owned();
            reply.answers.push(record(RData::SRV(SRV { priority: 0, weight: 0, port, target: target.clone() })));
            let own = RData::A(A { address: u32::from(*addr) });
            reply.additional_records.push(ResourceRecord::new(target, CLASS::IN, TTL, own));
        }
        return sized(&packet, reply, udp);
    }
    let Some(addresses) = table.addresses(&name) else {
        return if table.forward && !table.upstream.is_empty() { Outcome::Forward } else { finish(reply, RCODE::NameError) };
    };
    // any other type of a known name exists, but is empty: NXDOMAIN would make clients forget the name
    let asked = |a: &IpAddr| match question.qtype {
        QTYPE::TYPE(TYPE::A) => a.is_ipv4(),
        QTYPE::TYPE(TYPE::AAAA) => a.is_ipv6(),
        QTYPE::ANY => true,
        _ => false,
    };
    let all: Vec<IpAddr> = addresses.iter().copied().filter(asked).collect();
    reply.answers.extend(turned(&all, start).map(|a| record(address(*a))));
    sized(&packet, reply, udp)
}

fn address(addr: IpAddr) -> RData<'static> {
    match addr {
        IpAddr::V4(a) => RData::A(A { address: a.into() }),
        IpAddr::V6(a) => RData::AAAA(AAAA { address: a.into() }),
    }
}

/// A list that begins elsewhere each time.
fn turned<T>(all: &[T], start: usize) -> impl Iterator<Item = &T> {
    all.iter().cycle().skip(start % all.len().max(1)).take(all.len())
}

/// The answer, or by UDP that it is too long for that.
fn sized(packet: &Packet<'_>, mut reply: Packet<'_>, udp: bool) -> Outcome {
    let limit = packet.opt().map_or(PLAIN_UDP, |opt| usize::from(opt.udp_packet_size).max(PLAIN_UDP));
    let bytes = build(&reply);
    if udp && bytes.len() > limit {
        reply.answers.clear();
        reply.additional_records.clear();
        reply.set_flags(PacketFlag::TRUNCATION);
        return finish(reply, RCODE::NoError);
    }
    Outcome::Reply(bytes)
}

/// The answer that says that the resolver itself failed.
pub(super) fn failure(query: &[u8]) -> Outcome {
    let Some(id) = id(query) else { return Outcome::Ignore };
    let mut reply = Packet::new_reply(id);
    if let Some(question) = Packet::parse(query).ok().and_then(|p| p.questions.first().cloned()) {
        reply.questions.push(question.into_owned());
    }
    finish(reply, RCODE::ServerFailure)
}

fn id(query: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes([*query.first()?, *query.get(1)?]))
}

fn finish(mut reply: Packet<'_>, code: RCODE) -> Outcome {
    *reply.rcode_mut() = code;
    Outcome::Reply(build(&reply))
}

fn build(reply: &Packet<'_>) -> Vec<u8> {
    // writing to memory fails only for a name that cannot be encoded; an empty datagram is then dropped by the client
    reply.build_bytes_vec_compressed().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::super::table::NetNames;
    use super::*;
    use simple_dns::{QCLASS, Question};

    fn query(name: &str, kind: TYPE) -> Vec<u8> {
        let mut packet = Packet::new_query(7);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        packet.questions.push(Question::new(Name::new_unchecked(name), kind.into(), QCLASS::CLASS(CLASS::IN), false));
        packet.build_bytes_vec().expect("encodes")
    }

    fn table(count: u8) -> Table {
        let mut net = NetNames { network: "n".to_owned(), ..NetNames::default() };
        net.add("my_web", (1..=count).map(|i| Ipv4Addr::new(10, 0, 0, i).into()));
        net.reverse.insert(Ipv4Addr::new(10, 0, 0, 1).into(), "my_web.1.abc".to_owned());
        Table { networks: vec![net], ..Table::default() }
    }

    fn reply(outcome: &Outcome) -> Packet<'_> {
        let Outcome::Reply(bytes) = outcome else { panic!("no reply: {outcome:?}") };
        Packet::parse(bytes).expect("parses")
    }

    #[test]
    fn known_names_have_addresses_and_nothing_else() {
        let got = answer(&query("my_web", TYPE::A), &table(3), true, 1);
        assert_eq!(reply(&got).answers.len(), 3);
        let got = answer(&query("my_web", TYPE::AAAA), &table(3), true, 0);
        assert_eq!((reply(&got).rcode(), reply(&got).answers.len()), (RCODE::NoError, 0));
        let mut both = table(3);
        both.networks[0].add("MY_web", [IpAddr::from(Ipv6Addr::LOCALHOST)]);
        let got = answer(&query("my_web", TYPE::AAAA), &both, true, 0);
        let [ResourceRecord { rdata: RData::AAAA(six), .. }] = &reply(&got).answers[..] else { panic!("{got:?}") };
        assert_eq!(six.address, 1);
        assert_eq!(reply(&answer(&query("my_web", TYPE::A), &both, true, 0)).answers.len(), 3);
        let got = answer(&query("1.0.0.10.in-addr.arpa", TYPE::PTR), &table(3), true, 0);
        assert_eq!(reply(&got).answers.len(), 1);
    }

    #[test]
    fn services_have_ports_and_their_tasks_names() {
        let mut table = table(1);
        let own = Ipv4Addr::new(10, 0, 0, 1);
        table.networks[0].services.insert("_http._tcp.my_web".to_owned(), (8080, BTreeSet::from([own])));
        let got = answer(&query("_HTTP._tcp.my_web.n", TYPE::SRV), &table, true, 0);
        let reply = reply(&got);
        let [ResourceRecord { rdata: RData::SRV(srv), .. }] = &reply.answers[..] else { panic!("{reply:?}") };
        assert_eq!((srv.port, srv.target.to_string()), (8080, "my_web.1.abc.n".to_owned()));
        assert_eq!(reply.additional_records.len(), 1);
    }

    #[test]
    fn unknown_names_go_out_only_if_allowed() {
        let mut table = table(1);
        let got = answer(&query("example.org", TYPE::A), &table, true, 0);
        assert_eq!(reply(&got).rcode(), RCODE::NameError);
        table.forward = true;
        table.upstream = vec![([192, 0, 2, 1], 53).into()];
        assert_eq!(answer(&query("example.org", TYPE::A), &table, true, 0), Outcome::Forward);
    }

    #[test]
    fn too_long_for_udp_is_marked_so() {
        let got = answer(&query("my_web", TYPE::A), &table(100), true, 0);
        assert!(reply(&got).has_flags(PacketFlag::TRUNCATION));
        let got = answer(&query("my_web", TYPE::A), &table(100), false, 0);
        assert_eq!(reply(&got).answers.len(), 100);
    }

    #[test]
    fn noise_is_no_panic() {
        for len in 0..40 {
            let noise: Vec<u8> = (0..len).map(|i| (i * 37 % 251) as u8).collect();
            let _ = answer(&noise, &table(1), true, 0);
            let _ = failure(&noise);
        }
    }
}
