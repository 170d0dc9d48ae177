//! Forgetting flows: a UDP flow keeps its old backend until its conntrack entry goes, and so does a TCP connection that was never
//! answered: its client asks again, and may be sent to another one then. A UDP flow that was made while its port led nowhere leads
//! nowhere for as long as its client goes on asking.
//!
//! SCTP is like both. An association that stands keeps its backend, as a TCP connection does. But a new one from the same port, and
//! many clients have a fixed one, is not a new entry to conntrack, so what was refused or has ended must be forgotten, too.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use skep_types::spec::Protocol;

use super::dump::ip;
use super::msg::{ACK, DUMP, Msg, Socket, attrs, find};

const GET: u16 = (1 << 8) | 1;
const DELETE: u16 = (1 << 8) | 2;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const PROTOINFO: u16 = 4;
/// `CTA_PROTOINFO_SCTP`.
const PROTOINFO_SCTP: u16 = 3;
const ID: u16 = 12;
const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
/// `SCTP_CONNTRACK_CLOSED`.
const CLOSED: u8 = 1;
/// `IPS_SEEN_REPLY`.
const ANSWERED: u32 = 2;
/// `IPS_SRC_NAT`.
const SNAT: u32 = 16;
/// `IPS_DST_NAT`.
const DNAT: u32 = 32;

/// A protocol and a port of it.
type Port = (Protocol, u16);

/// Deletes UDP flows, unanswered connections of TCP and SCTP and closed ones of SCTP whose destination was changed to one of the
/// addresses, and flows of UDP and SCTP to one of the ports that were changed in no way; how many.
pub(super) fn forget(socket: &mut Socket, targets: &[IpAddr], opened: &BTreeSet<Port>) -> io::Result<usize> {
    let targets: BTreeSet<_> = targets.iter().collect();
    let mut gone = 0;
    for family in [AF_INET, AF_INET6] {
        gone += forget_of(socket, family, &targets, opened)?;
    }
    Ok(gone)
}

fn forget_of(socket: &mut Socket, family: u8, targets: &BTreeSet<&IpAddr>, opened: &BTreeSet<Port>) -> io::Result<usize> {
    let mut gone = 0;
    let header = [family, 0, 0, 0];
    // filtered here, not by the kernel: deletion with a filter needs a recent one
    for body in socket.dump(Msg::new(GET, DUMP).raw(&header))? {
        let fields = attrs(&body, 4);
        let (Some(orig), Some(reply)) = (find(&fields, TUPLE_ORIG), find(&fields, TUPLE_REPLY)) else { continue };
        let status = find(&fields, STATUS).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes);
        let Some((source, proto)) = source(reply) else { continue };
        let answered = status & ANSWERED != 0;
        let loose = match proto {
            UDP => true,
            TCP => !answered,
            SCTP => !answered || find(&fields, PROTOINFO).and_then(association) == Some(CLOSED),
            _ => false,
        };
        let stale = loose && status & DNAT != 0 && targets.contains(&source);
        let nowhere = status & (SNAT | DNAT) == 0 && port(orig, proto).is_some_and(|p| opened.contains(&p));
        if !stale && !nowhere {
            continue;
        }
        let mut msg = Msg::new(DELETE, ACK).raw(&header);
        msg.attr(TUPLE_ORIG | 0x8000, orig);
        if let Some(id) = find(&fields, ID) {
            msg.attr(ID, id);
        }
        match socket.request(msg) {
            Ok(()) => gone += 1,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(gone)
}

fn source(tuple: &[u8]) -> Option<(IpAddr, u8)> {
    let tuple = attrs(tuple, 0);
    let addresses = attrs(find(&tuple, 1)?, 0);
    let proto = attrs(find(&tuple, 2)?, 0);
    // CTA_IP_V4_SRC, CTA_IP_V6_SRC
    let source = find(&addresses, 1).or(find(&addresses, 3)).and_then(ip)?;
    Some((source, *find(&proto, 1)?.first()?))
}

/// Where a tuple goes to, if it is of a protocol whose flows stay as they were made.
fn port(tuple: &[u8], proto: u8) -> Option<Port> {
    let protocol = match proto {
        UDP => Protocol::Udp,
        SCTP => Protocol::Sctp,
        _ => return None,
    };
    let tuple = attrs(tuple, 0);
    let proto = attrs(find(&tuple, 2)?, 0);
    Some((protocol, find(&proto, 3)?.try_into().ok().map(u16::from_be_bytes)?))
}

/// The state of an SCTP association.
fn association(info: &[u8]) -> Option<u8> {
    let info = attrs(info, 0);
    find(&attrs(find(&info, PROTOINFO_SCTP)?, 0), 1)?.first().copied()
}
