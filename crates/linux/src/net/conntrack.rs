//! Forgetting flows: a UDP flow keeps its old backend until its conntrack entry goes, and so does a TCP connection that was never
//! answered: its client asks again, and may be sent to another one then. A UDP flow that was made while its port led nowhere leads
//! nowhere for as long as its client goes on asking.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use super::dump::ip;
use super::msg::{ACK, DUMP, Msg, Socket, attrs, find};

const GET: u16 = (1 << 8) | 1;
const DELETE: u16 = (1 << 8) | 2;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const ID: u16 = 12;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// `IPS_SEEN_REPLY`.
const ANSWERED: u32 = 2;
/// `IPS_SRC_NAT`.
const SNAT: u32 = 16;
/// `IPS_DST_NAT`.
const DNAT: u32 = 32;

/// Deletes UDP flows and unanswered TCP connections whose destination was changed to one of the addresses, and UDP flows to one
/// of the ports that were changed in no way; how many.
pub(super) fn forget(socket: &mut Socket, targets: &[IpAddr], opened: &BTreeSet<u16>) -> io::Result<usize> {
    let targets: BTreeSet<_> = targets.iter().collect();
    let mut gone = 0;
    for family in [AF_INET, AF_INET6] {
        gone += forget_of(socket, family, &targets, opened)?;
    }
    Ok(gone)
}

fn forget_of(socket: &mut Socket, family: u8, targets: &BTreeSet<&IpAddr>, opened: &BTreeSet<u16>) -> io::Result<usize> {
    let mut gone = 0;
    let header = [family, 0, 0, 0];
    // filtered here, not by the kernel: deletion with a filter needs a recent one
    for body in socket.dump(Msg::new(GET, DUMP).raw(&header))? {
        let fields = attrs(&body, 4);
        let (Some(orig), Some(reply)) = (find(&fields, TUPLE_ORIG), find(&fields, TUPLE_REPLY)) else { continue };
        let status = find(&fields, STATUS).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes);
        let Some((source, proto)) = source(reply) else { continue };
        let loose = proto == UDP || (proto == TCP && status & ANSWERED == 0);
        let stale = loose && status & DNAT != 0 && targets.contains(&source);
        let nowhere = proto == UDP && status & (SNAT | DNAT) == 0 && port(orig).is_some_and(|p| opened.contains(&p));
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

/// Where a tuple goes to.
fn port(tuple: &[u8]) -> Option<u16> {
    let tuple = attrs(tuple, 0);
    let proto = attrs(find(&tuple, 2)?, 0);
    find(&proto, 3)?.try_into().ok().map(u16::from_be_bytes)
}
