//! One member: a process that opens its raft, answers its peers, and does what it is told on standard input, line by line.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use skep_raft::{DirStorage, Key, KeyRing, Peer, Raft, RaftConfig, SnapshotFn, StateMachine};
use skep_wire::{Server, Tls};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::transport::{Door, Links};
use crate::{files, load, numbers};

/// Counts what is applied; that is all a benchmark of agreement needs.
#[derive(Default)]
struct Counter(AtomicU64);

impl StateMachine for Counter {
    fn apply(&self, _: u64, _: &[u8]) -> Vec<u8> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Vec::new()
    }

    fn snapshot(&self) -> SnapshotFn {
        let n = self.0.load(Ordering::Relaxed);
        Box::new(move |w| w.write_all(&n.to_le_bytes()))
    }

    fn restore(&self, from: &mut dyn Read) -> Result<(), String> {
        let mut b = [0; 8];
        from.read_exact(&mut b).map_err(|e| e.to_string())?;
        self.0.store(u64::from_le_bytes(b), Ordering::Relaxed);
        Ok(())
    }
}

/// Runs member `number` until its standard input ends.
pub(crate) fn run(dir: &Path, number: &str) -> Result<(), String> {
    let id: u64 = number.parse().map_err(|e| format!("member {number}: {e}"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| format!("start tokio: {e}"))?;
    runtime.block_on(serve(&dir.join(number), id))
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // The parent may be gone; standard input then ends as well.
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}

async fn serve(dir: &Path, id: u64) -> Result<(), String> {
    let given = files::read(dir)?;
    let me = given.peers.iter().find(|p| p.id == id).ok_or("no such member")?.clone();
    let tls = Tls::new(&given.credentials).map_err(|e| e.to_string())?;
    let listener = TcpListener::bind(&me.addr).await.map_err(|e| format!("listen on {}: {e}", me.addr))?;
    let slot = Arc::new(OnceLock::new());
    let server = Server::start(listener, tls.clone(), Arc::new(Door(slot.clone()))).map_err(|e| e.to_string())?;
    let links = Arc::new(Links { from: id, tls, open: Mutex::default() });
    let storage = Arc::new(DirStorage::new(dir.join("raft")));
    let keys = KeyRing::new(Key::new([id as u8; 32]));
    let raft = Raft::open(RaftConfig::new(id), storage, keys, links, Arc::new(Counter::default()));
    let raft = Arc::new(raft.await.map_err(|e| e.to_string())?);
    // Nothing was put into it before.
    drop(slot.set((*raft).clone()));
    say("ready");
    let stop = Arc::new(watch::channel(0_u64).0);
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let (raft, me, peers) = (raft.clone(), me.clone(), given.peers.clone());
        if line == "stop" {
            stop.send_modify(|n| *n += 1);
            continue;
        }
        let stopped = stop.subscribe();
        tokio::spawn(async move { say(&obey(&line, &raft, &me, &peers, stopped).await) });
    }
    drop(server);
    raft.shutdown().await;
    Ok(())
}

async fn obey(line: &str, raft: &Arc<Raft>, me: &Peer, peers: &[Peer], stopped: watch::Receiver<u64>) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    match words.as_slice() {
        ["found"] => match raft.initialize(me).await {
            Ok(()) => "ok".into(),
            Err(e) => format!("error {e}"),
        },
        ["add", id] => match peers.iter().find(|p| p.id.to_string() == *id) {
            None => "error no such member".into(),
            Some(p) => match raft.add_learner_then_voter(p).await {
                Ok(()) => "ok".into(),
                Err(e) => format!("error {e}"),
            },
        },
        ["status"] => {
            let leads = raft.leadership().borrow().is_leader && raft.has_quorum();
            format!("status {} {}", u8::from(leads), raft.metrics().last_applied)
        }
        ["load", clients, seconds] => {
            let took = load::run(raft, clients.parse().unwrap_or(1), seconds.parse().unwrap_or(1)).await;
            let q = |p| numbers::quantile(&took, p);
            format!("load {} {} {}", took.len(), q(0.5), q(0.99))
        }
        ["until-written"] => until_written(raft, stopped).await,
        ["hand-over"] => format!("handed {}", raft.hand_over(Duration::from_secs(5)).await),
        _ => format!("error unknown command {line}"),
    }
}

/// Writes until it succeeds, as a client would that turns to this member.
async fn until_written(raft: &Raft, stopped: watch::Receiver<u64>) -> String {
    loop {
        if stopped.has_changed().unwrap_or(true) {
            return "stopped".into();
        }
        if raft.propose(vec![7; load::BYTES]).await.is_ok() {
            return "written".into();
        }
        // Short against what is measured.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
