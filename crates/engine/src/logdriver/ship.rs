//! Sends a container's records to where its driver says, from its log file, for as long as there are any. One task for each container;
//! must never block the container, nor hold more than one batch in memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::settings::Remote;
use super::spool::{Position, Spool};
use super::wire::Wire;
use super::{About, Line};
use crate::error::{Result, internal};
use crate::files::{read_json, write_json};

/// Beside the log: up to where it was sent.
const POSITION_FILE: &str = "shipped.json";
/// Bytes of the log that are sent at once.
const BATCH: u64 = 64 << 10;
/// How soon new records are looked for, …
const FIRST_POLL: Duration = Duration::from_millis(50);
/// … and how late in a log that stands still.
const LAST_POLL: Duration = Duration::from_millis(400);
/// Longest wait between two tries to reach a server.
const MAX_RETRY: Duration = Duration::from_secs(30);
/// How often the position is written down while records flow: so much is sent twice after a crash at most.
const SAVE: Duration = Duration::from_millis(200);
/// How long the records of a container that ended wait for a server that is down; the next start goes on with them.
const LINGER: Duration = Duration::from_secs(600);
/// How long the sending of a container's last run may take to stop when the next one begins.
const HANDOVER: Duration = Duration::from_secs(1);
/// How often a server that stays down is written about.
const COMPLAIN: Duration = Duration::from_secs(300);

/// A log that is about to be sent.
#[derive(Debug)]
pub(crate) struct Shipper {
    remote: Remote,
    about: About,
    wire: Option<Wire>,
}

impl Shipper {
    /// Reaches the server, unless the container may start without.
    ///
    /// # Errors
    /// Docker's text when it cannot be reached.
    pub(crate) async fn open(remote: Remote, about: About) -> Result<Self> {
        let wire = match Wire::connect(&remote.target, &about).await {
            Ok(wire) => Some(wire),
            Err(_) if remote.lazy => None,
            Err(e) => {
                let text =
                    format!("failed to create task for container: failed to initialize logging driver: {}", remote.driver);
                return Err(internal(&text, e));
            }
        };
        Ok(Self { remote, about, wire })
    }

    /// The same without having been there: the container runs already.
    pub(crate) fn later(remote: Remote, about: About) -> Self {
        Self { remote, about, wire: None }
    }
}

/// A task at work.
#[derive(Debug)]
struct Handle {
    /// `true` ends it as soon as it can.
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    position: Arc<Mutex<Option<Position>>>,
}

/// The logs that are sent, by container.
#[derive(Debug, Default)]
pub(crate) struct Shippers {
    tasks: Mutex<BTreeMap<String, Handle>>,
}

impl Shippers {
    /// Sends a container's log from where it was left; `running` says whether more may come.
    pub(crate) async fn start(&self, shipper: Shipper, log: &Path, running: impl Fn() -> bool + Send + Sync + 'static) {
        let id = shipper.about.id.clone();
        let file = log.with_file_name(POSITION_FILE);
        let before = crate::lock(&self.tasks).remove(&id);
        let position = match before {
            Some(mut old) => {
                let _ = old.stop.send(true);
                // A server that hangs must not hold up the start; what it was being told is told again.
                if tokio::time::timeout(HANDOVER, &mut old.task).await.is_err() {
                    old.task.abort();
                    let _ = old.task.await;
                }
                *crate::lock(&old.position)
            }
            // None was written by a container that has never been sent.
            None => read_json(&file).ok(),
        };
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(Mutex::new(position));
        let work = Work {
            spool: Spool::open(log, position),
            shipper,
            file,
            position: Arc::clone(&shared),
            stopped,
            tries: 0,
            complained: None,
        };
        let task = tokio::spawn(work.run(running));
        crate::lock(&self.tasks).insert(id, Handle { stop, task, position: shared });
    }

    /// Waits until all of a container that ended is sent, but not longer than `limit`, and forgets it.
    pub(crate) async fn finish(&self, id: &str, limit: Duration) {
        let Some(handle) = crate::lock(&self.tasks).remove(id) else { return };
        let mut task = handle.task;
        if tokio::time::timeout(limit, &mut task).await.is_err() {
            let _ = handle.stop.send(true);
            tracing::warn!(container = %id, "removed before all of its log could be sent");
            task.abort();
        }
    }
}

struct Work {
    shipper: Shipper,
    spool: Spool,
    file: PathBuf,
    position: Arc<Mutex<Option<Position>>>,
    stopped: watch::Receiver<bool>,
    /// Failures in a row.
    tries: u32,
    complained: Option<Instant>,
}

impl Work {
    async fn run(mut self, running: impl Fn() -> bool) {
        let (mut poll, mut saved, mut ended) = (FIRST_POLL, Instant::now(), None::<Instant>);
        while !*self.stopped.borrow() {
            // Asked before reading, so that what was written before the end is still read.
            let more = running();
            let lines = match self.next() {
                Ok(lines) => lines,
                Err(e) => {
                    self.complain("its log cannot be read", &e);
                    Vec::new()
                }
            };
            if !lines.is_empty() {
                poll = FIRST_POLL;
                if !self.deliver(&lines, &running, &mut ended).await {
                    break;
                }
                self.note();
                if saved.elapsed() >= SAVE {
                    self.save();
                    saved = Instant::now();
                }
                continue;
            }
            if !more {
                break;
            }
            self.save();
            self.pause(poll).await;
            poll = (poll * 2).min(LAST_POLL);
        }
        self.save();
    }

    /// The next records, without those that are too old.
    fn next(&mut self) -> std::io::Result<Vec<Line>> {
        let gaps = std::mem::take(&mut self.spool.gaps);
        if gaps > 0 {
            tracing::warn!(
                container = %self.shipper.about.id, driver = %self.shipper.remote.driver,
                "records were rotated away before they could be sent: cache-max-size and cache-max-file say how much is kept"
            );
        }
        if let Some(most) = self.shipper.remote.buffer
            && self.spool.behind() > most
        {
            let bytes = self.spool.skip(most)?;
            tracing::warn!(container = %self.shipper.about.id, bytes, "records were given up: more wait than max-buffer-size allows");
        }
        self.spool.read(BATCH)
    }

    /// Sends records, however long it takes; `false` if they will never be.
    async fn deliver(&mut self, lines: &[Line], running: &impl Fn() -> bool, ended: &mut Option<Instant>) -> bool {
        let Shipper { remote, about, .. } = &self.shipper;
        let messages: Vec<Vec<u8>> =
            lines.iter().flat_map(|l| remote.format.encode(about, l, crate::random().unwrap_or_default())).collect();
        let (mut sent, mut wait) = (0, remote.retry);
        while sent < messages.len() {
            match self.send(&messages[sent..]).await {
                (n, Ok(())) => {
                    self.tries = 0;
                    sent += n;
                    continue;
                }
                (n, Err(e)) => {
                    sent += if self.shipper.wire.as_ref().is_some_and(Wire::counts) { n } else { 0 };
                    self.shipper.wire = None;
                    self.tries += 1;
                    self.complain("the server of its log driver cannot be reached", &e);
                }
            }
            if self.shipper.remote.tries.is_some_and(|most| self.tries > most) {
                tracing::error!(container = %self.shipper.about.id, tries = self.tries, "its log is not sent any more");
                return false;
            }
            let over = ended.get_or_insert_with(Instant::now);
            if running() {
                *ended = None;
            } else if over.elapsed() > LINGER {
                return false;
            }
            self.pause(wait).await;
            wait = (wait * 2).min(MAX_RETRY);
            if *self.stopped.borrow() {
                return false;
            }
        }
        true
    }

    async fn send(&mut self, messages: &[Vec<u8>]) -> (usize, std::io::Result<()>) {
        let wire = match &mut self.shipper.wire {
            Some(wire) => wire,
            none => match Wire::connect(&self.shipper.remote.target, &self.shipper.about).await {
                Ok(wire) => none.insert(wire),
                Err(e) => return (0, Err(e)),
            },
        };
        wire.send(messages).await
    }

    /// Waits, but not when it is to end.
    async fn pause(&mut self, wait: Duration) {
        let _ = tokio::time::timeout(wait, self.stopped.wait_for(|s| *s)).await;
    }

    fn complain(&mut self, what: &str, e: &std::io::Error) {
        if self.complained.is_none_or(|at| at.elapsed() > COMPLAIN) {
            self.complained = Some(Instant::now());
            let (container, driver) = (&self.shipper.about.id, &self.shipper.remote.driver);
            tracing::warn!(%container, %driver, error = %e, "{what}; it is tried again");
        }
    }

    fn note(&self) {
        *crate::lock(&self.position) = self.spool.position();
    }

    fn save(&self) {
        let Some(position) = *crate::lock(&self.position) else { return };
        // What is not written down is sent again by the next daemon.
        if read_json::<Position>(&self.file).ok() != Some(position) {
            let _ = write_json(&self.file, &position, false);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
    use tokio::net::{TcpListener, TcpSocket, UdpSocket, UnixDatagram};

    use super::super::Settings;
    use super::*;

    /// Waits for something that must come; the time is for a machine that stands still.
    pub(in super::super) async fn soon<T>(work: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(30), work).await.expect("in time")
    }

    pub(in super::super) struct Log {
        pub(in super::super) dir: PathBuf,
        pub(in super::super) running: Arc<AtomicBool>,
        pub(in super::super) shippers: Shippers,
    }

    impl Log {
        pub(in super::super) fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("skep-ship-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&dir);
            std::fs::create_dir_all(&dir).expect("temporary directory");
            Self { dir, running: Arc::new(AtomicBool::new(true)), shippers: Shippers::default() }
        }

        fn path(&self) -> PathBuf {
            self.dir.join("x-json.log")
        }

        pub(in super::super) fn write(&self, lines: &[&str]) {
            let mut file = File::options().create(true).append(true).open(self.path()).expect("opened");
            for line in lines {
                let time = "2026-01-01T00:00:00Z";
                writeln!(file, "{{\"log\":\"{line}\\n\",\"stream\":\"stdout\",\"time\":\"{time}\"}}").expect("written");
            }
        }

        pub(in super::super) async fn start(&self, shipper: Shipper) {
            let running = Arc::clone(&self.running);
            self.shippers.start(shipper, &self.path(), move || running.load(Ordering::SeqCst)).await;
        }

        pub(in super::super) fn about() -> About {
            About { id: "a".repeat(64), name: "web".into(), tag: "web".into(), ..About::default() }
        }
    }

    pub(in super::super) fn remote(driver: &str, pairs: &[(&str, &str)]) -> Remote {
        let options = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Settings::read(driver, &options).expect("good").remote.expect("remote")
    }

    #[tokio::test]
    async fn a_stream_gets_every_record_over_broken_connections_and_restarts() {
        let log = Log::new("tcp");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = format!("tcp://{}", listener.local_addr().expect("address"));
        let options = [("syslog-address", address.as_str()), ("syslog-format", "rfc3164")];
        log.write(&["one"]);
        log.start(Shipper::open(remote("syslog", &options), Log::about()).await.expect("reached")).await;
        let mut server = BufReader::new(soon(listener.accept()).await.expect("accepted").0).lines();
        let first = soon(server.next_line()).await.expect("read").expect("a line");
        assert!(first.starts_with("<30>") && first.ends_with("]: one"), "{first}");
        // The server breaks off; what is written meanwhile comes by the next connection.
        drop(server);
        log.write(&["two", "three"]);
        let mut server = BufReader::new(soon(listener.accept()).await.expect("accepted").0).lines();
        for line in ["two", "three"] {
            let got = soon(server.next_line()).await.expect("read").expect("a line");
            assert!(got.ends_with(line), "{got}");
        }
        // Another daemon goes on where the position says.
        log.running.store(false, Ordering::SeqCst);
        log.shippers.finish(&Log::about().id, Duration::from_secs(30)).await;
        log.running.store(true, Ordering::SeqCst);
        log.write(&["four"]);
        let next = Log { shippers: Shippers::default(), dir: log.dir.clone(), running: Arc::clone(&log.running) };
        next.start(Shipper::later(remote("syslog", &options), Log::about())).await;
        let mut server = BufReader::new(soon(listener.accept()).await.expect("accepted").0).lines();
        let got = soon(server.next_line()).await.expect("read").expect("a line");
        assert!(got.ends_with("]: four"), "{got}");
        // All of a container that ended is sent before it is forgotten.
        next.write(&["five"]);
        next.running.store(false, Ordering::SeqCst);
        next.shippers.finish(&Log::about().id, Duration::from_secs(30)).await;
        assert!(soon(server.next_line()).await.expect("read").expect("a line").ends_with("five"));
        std::fs::remove_dir_all(&log.dir).expect("removed");
    }

    #[tokio::test]
    async fn a_server_that_is_down_is_an_error_at_the_start_and_none_later() {
        let gone = TcpListener::bind("127.0.0.1:0").await.expect("bound").local_addr().expect("address");
        let address = format!("tcp://{gone}");
        for (driver, key) in [("syslog", "syslog-address"), ("gelf", "gelf-address"), ("fluentd", "fluentd-address")] {
            let refused = Shipper::open(remote(driver, &[(key, &address)]), Log::about()).await.expect_err("nobody listens");
            let text = format!("failed to initialize logging driver: {driver}: dial tcp {gone}: ");
            assert!(refused.message.contains(&text), "{}", refused.message);
        }
        let log = Log::new("lazy");
        log.write(&["kept"]);
        let lazy =
            remote("fluentd", &[("fluentd-address", &address), ("fluentd-async", "true"), ("fluentd-retry-wait", "20ms")]);
        log.start(Shipper::open(lazy, Log::about()).await.expect("starts without")).await;
        let listener = TcpListener::bind(gone).await.expect("bound again");
        let (mut stream, _) = soon(listener.accept()).await.expect("accepted");
        let mut bytes = vec![0; 4096];
        let n = soon(stream.read(&mut bytes)).await.expect("read");
        let message = rmpv::decode::read_value(&mut &bytes[..n]).expect("MessagePack");
        assert_eq!(message[2]["log"].as_str(), Some("kept"));
        std::fs::remove_dir_all(&log.dir).expect("removed");
    }

    #[tokio::test]
    async fn datagrams_go_by_udp_and_by_sockets_of_this_host() {
        let log = Log::new("udp");
        let server = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        let address = format!("udp://{}", server.local_addr().expect("address"));
        let gelf = remote("gelf", &[("gelf-address", &address), ("gelf-compression-type", "none")]);
        log.write(&["hello"]);
        log.start(Shipper::open(gelf, Log::about()).await.expect("reached")).await;
        let mut bytes = vec![0; 4096];
        let n = soon(server.recv(&mut bytes)).await.expect("received");
        let value: serde_json::Value = serde_json::from_slice(&bytes[..n]).expect("JSON");
        assert_eq!((value["short_message"].as_str(), value["_container_name"].as_str()), (Some("hello"), Some("web")));
        std::fs::remove_dir_all(&log.dir).expect("removed");

        let log = Log::new("journal");
        let journal = UnixDatagram::bind(log.dir.join("socket")).expect("bound");
        let target = super::super::wire::Target::Unixgram(log.dir.join("socket"));
        log.write(&["hello", "again"]);
        let to = Remote { target, ..remote("journald", &[]) };
        log.start(Shipper::open(to, Log::about()).await.expect("reached")).await;
        for line in ["hello", "again"] {
            let n = soon(journal.recv(&mut bytes)).await.expect("received");
            assert!(String::from_utf8_lossy(&bytes[..n]).contains(&format!("MESSAGE={line}\n")));
        }
        std::fs::remove_dir_all(&log.dir).expect("removed");
    }

    #[tokio::test]
    async fn a_log_that_does_not_block_gives_up_what_is_too_much() {
        let log = Log::new("drop");
        let server = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        let address = format!("udp://{}", server.local_addr().expect("address"));
        let lines: Vec<String> = (0..1000).map(|n| format!("line {n}")).collect();
        log.write(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        let few = remote("syslog", &[("syslog-address", &address), ("mode", "non-blocking"), ("max-buffer-size", "1k")]);
        log.start(Shipper::open(few, Log::about()).await.expect("reached")).await;
        let mut bytes = vec![0; 4096];
        let n = soon(server.recv(&mut bytes)).await.expect("received");
        let first = String::from_utf8_lossy(&bytes[..n]).into_owned();
        assert!(first.contains(": line 98") || first.contains(": line 99"), "{first}");
        std::fs::remove_dir_all(&log.dir).expect("removed");
    }

    #[tokio::test]
    async fn a_server_that_hangs_holds_up_no_start() {
        let log = Log::new("hang");
        let socket = TcpSocket::new_v4().expect("made");
        socket.set_recv_buffer_size(4096).expect("set");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
        let listener = socket.listen(8).expect("listens");
        let address = format!("tcp://{}", listener.local_addr().expect("address"));
        let to = || remote("gelf", &[("gelf-address", &address)]);
        // More than the buffers of a connection that nobody reads take.
        let line = "x".repeat(16_000);
        for _ in 0..20 {
            log.write(&[line.as_str(); 100]);
        }
        log.start(Shipper::open(to(), Log::about()).await.expect("reached")).await;
        let (stuck, _) = soon(listener.accept()).await.expect("accepted");
        let place = || crate::lock(&log.shippers.tasks).values().find_map(|h| *crate::lock(&h.position));
        let stands = async {
            let mut before = None;
            while before.is_none() || place() != before {
                before = place();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        soon(stands).await;
        // Sooner than the server would be given up.
        let started = log.start(Shipper::later(to(), Log::about()));
        tokio::time::timeout(Duration::from_secs(8), started).await.expect("started");
        let (next, _) = soon(listener.accept()).await.expect("another connection");
        let mut server = BufReader::new(next);
        let mut first = Vec::new();
        soon(server.read_until(0, &mut first)).await.expect("read");
        assert!(first.starts_with(b"{") && first.ends_with(b"}\0"), "a whole record");
        drop(stuck);
        std::fs::remove_dir_all(&log.dir).expect("removed");
    }
}
