//! Files that released versions wrote must stay readable. `golden/v1` is a member with a snapshot of 60 entries and more in its
//! log, sealed with a key of 32 bytes of 0x47. With `SKEP_WRITE_GOLDEN=<directory>` this test writes such files instead; those in
//! the repository are never written again.
#![allow(clippy::unwrap_used)]

use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use skep_raft::{
    DirStorage, Key, KeyRing, MessageKind, Peer, Raft, RaftConfig, SnapshotFn, StateMachine, Transport, TransportError,
};

struct Alone;

#[async_trait]
impl Transport for Alone {
    async fn call(&self, target: &Peer, _: MessageKind, _: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        Err(TransportError::Unreachable { addr: target.addr.clone(), cause: "there is nobody".into() })
    }
}

#[derive(Default)]
struct Text(Mutex<String>);

impl StateMachine for Text {
    fn apply(&self, _: u64, bytes: &[u8]) -> Vec<u8> {
        self.0.lock().unwrap().push_str(std::str::from_utf8(bytes).unwrap());
        Vec::new()
    }
    fn snapshot(&self) -> SnapshotFn {
        let text = self.0.lock().unwrap().clone();
        Box::new(move |w| w.write_all(text.as_bytes()))
    }
    fn restore(&self, from: &mut dyn Read) -> Result<(), String> {
        let mut text = String::new();
        from.read_to_string(&mut text).map_err(|e| e.to_string())?;
        *self.0.lock().unwrap() = text;
        Ok(())
    }
}

async fn until(what: &str, mut f: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(15);
    while !f() {
        assert!(Instant::now() < end, "waited too long for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn open(dir: &Path) -> (Raft, Arc<Text>) {
    let text = Arc::new(Text::default());
    let mut config = RaftConfig::new(71);
    config.snapshot_every = 60;
    let keys = KeyRing::new(Key::new([0x47; 32]));
    let raft = Raft::open(config, Arc::new(DirStorage::new(dir)), keys, Arc::new(Alone), text.clone()).await.unwrap();
    (raft, text)
}

fn me() -> Peer {
    Peer { id: 71, node_id: "golden".into(), addr: "192.0.2.1:2377".into() }
}

fn line(i: u32) -> String {
    format!("line {i}\n")
}

async fn write(dir: &Path) {
    let (raft, _) = open(dir).await;
    raft.initialize(&me()).await.unwrap();
    raft.leadership().wait_for(|l| l.is_leader).await.unwrap();
    for i in 0..100 {
        raft.propose(line(i).into_bytes()).await.unwrap();
        if i == 70 {
            until("a snapshot", || raft.metrics().snapshot >= 59).await;
        }
    }
    raft.shutdown().await;
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.join("log")).unwrap();
    std::fs::copy(from.join("snapshot"), to.join("snapshot")).unwrap();
    for e in std::fs::read_dir(from.join("log")).unwrap() {
        let e = e.unwrap();
        std::fs::copy(e.path(), to.join("log").join(e.file_name())).unwrap();
    }
}

#[tokio::test]
async fn files_of_the_first_format_are_read() {
    if let Ok(dir) = std::env::var("SKEP_WRITE_GOLDEN") {
        write(Path::new(&dir)).await;
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1"), dir.path());
    let (raft, text) = open(dir.path()).await;
    raft.leadership().wait_for(|l| l.is_leader).await.unwrap();
    raft.read_barrier().await.unwrap();
    let expected: String = (0..100).map(line).collect();
    assert_eq!(*text.0.lock().unwrap(), expected);
    let m = raft.metrics();
    assert!(m.snapshot >= 59, "the snapshot was read: {m:?}");
    assert_eq!(m.members.iter().map(|m| m.peer.clone()).collect::<Vec<_>>(), [me()]);
}
