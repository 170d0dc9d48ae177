//! Whether our nftables are as we made them: events of changes that others make, and counts of what is there.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::SockProtocol;
use skep_engine::net::TableWatch;
use skep_netplan::nft::{Family, Table};

use super::msg::{DUMP, Msg, Socket, attrs, find};
use super::nft::{SUBSYSTEM, family_number};

const GETCHAIN: u16 = 4;
const GETRULE: u16 = 7;
const GETSETELEM: u16 = 13;
const NEWGEN: u16 = 15;
/// `NFNLGRP_NFTABLES` as a bit.
const GROUP: u32 = 1 << 6;

/// Listens to the end of each transaction, which names the thread that made it.
#[derive(Debug)]
pub(super) struct Watch(Socket);

impl Watch {
    /// In the calling thread's namespace.
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self(Socket::listening(SockProtocol::NetlinkNetFilter, GROUP)?))
    }
}

impl TableWatch for Watch {
    fn changed(&mut self, within: Duration) -> io::Result<bool> {
        match self.0.events(within) {
            Ok(events) => Ok(events.iter().any(|(kind, body)| *kind == (SUBSYSTEM << 8) | NEWGEN && !own(body))),
            Err(e) if e.raw_os_error() == Some(nix::errno::Errno::EAGAIN as i32) => Ok(false),
            // More than fitted into the buffer, and something of it was lost.
            Err(e) if e.raw_os_error() == Some(nix::errno::Errno::ENOBUFS as i32) => Ok(true),
            Err(e) => Err(e),
        }
    }
}

/// Whether a thread of this process made the transaction. One that has ended is taken for another's, which costs a look.
fn own(body: &[u8]) -> bool {
    let thread = find(&attrs(body, 4), 2).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes);
    thread.is_some_and(|t| Path::new("/proc/self/task").join(t.to_string()).exists())
}

/// The tables that do not hold as many rules and elements as they should.
pub(super) fn damaged(socket: &mut Socket, tables: &BTreeMap<(Family, String), Table>) -> io::Result<Vec<(Family, String)>> {
    let mut out = Vec::new();
    for ((family, name), table) in tables {
        if !whole(socket, *family, name, table)? {
            out.push((*family, name.clone()));
        }
    }
    Ok(out)
}

fn whole(socket: &mut Socket, family: Family, name: &str, table: &Table) -> io::Result<bool> {
    let chains = names(socket, GETCHAIN, family, name, 3)?;
    let rules = names(socket, GETRULE, family, name, 2)?;
    for (chain, wanted) in &table.chains {
        let there = chains.contains_key(chain);
        // What others write into a shared chain is theirs.
        let same = table.shared || rules.get(chain).copied().unwrap_or(0) == wanted.rules.len();
        if !there || !same {
            return Ok(false);
        }
    }
    for (set, wanted) in &table.sets {
        if elements(socket, family, name, set)? != Some(wanted.elements.len()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// How many objects of a kind a table has, by the name in attribute `by`.
fn names(socket: &mut Socket, kind: u16, family: Family, table: &str, by: u16) -> io::Result<BTreeMap<String, usize>> {
    let mut out = BTreeMap::new();
    let msg = Msg::new((SUBSYSTEM << 8) | kind, DUMP).raw(&[family_number(family), 0, 0, 0]);
    for body in socket.dump(msg)? {
        let attrs = attrs(&body, 4);
        if find(&attrs, 1).map(text).as_deref() == Some(table) {
            *out.entry(find(&attrs, by).map(text).unwrap_or_default()).or_default() += 1;
        }
    }
    Ok(out)
}

/// How many elements a set has; `None` if there is no such set.
fn elements(socket: &mut Socket, family: Family, table: &str, set: &str) -> io::Result<Option<usize>> {
    let mut msg = Msg::new((SUBSYSTEM << 8) | GETSETELEM, DUMP).raw(&[family_number(family), 0, 0, 0]);
    msg.text(1, table);
    msg.text(2, set);
    match socket.dump(msg) {
        Ok(bodies) => Ok(Some(bodies.iter().map(|b| find(&attrs(b, 4), 3).map_or(0, |list| attrs(list, 0).len())).sum())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|b| *b == 0).next().unwrap_or_default()).into_owned()
}
