//! Reading json-file logs: tail, since, until, follow, over rotated files.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use skep_types::host::{LogOptions, LogRecord};
use tokio::sync::mpsc;

use crate::logfiles::{self, Old};

/// Records on their way to a client; beyond it reading waits for the client.
const QUEUE: usize = 256;
/// How often a followed log is looked at.
const POLL: Duration = Duration::from_millis(50);
/// Records kept for `--tail`, whatever the client asks.
const MAX_TAIL: usize = 1_000_000;

#[derive(Deserialize)]
struct Raw {
    log: String,
    stream: String,
    time: String,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
}

fn wanted(options: &LogOptions, record: &LogRecord) -> bool {
    // Times of one format and zone compare as text.
    let stream = if record.stderr { options.stderr } else { options.stdout };
    stream
        && options.since.as_ref().is_none_or(|s| record.time.as_str() >= s.as_str())
        && options.until.as_ref().is_none_or(|u| record.time.as_str() <= u.as_str())
}

/// Streams the log of `path`; `running` says whether more may come. The stream ends when the log does, or the reader goes.
#[must_use]
pub fn stream(
    path: PathBuf,
    options: LogOptions,
    running: impl Fn() -> bool + Send + Sync + 'static,
) -> mpsc::Receiver<LogRecord> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::task::spawn_blocking(move || {
        // An unreadable log is an empty one: the container may never have started.
        let _ = send_all(&path, &options, &running, &sender);
    });
    receiver
}

fn send_all(
    path: &Path,
    options: &LogOptions,
    running: &dyn Fn() -> bool,
    sender: &mpsc::Sender<LogRecord>,
) -> std::io::Result<()> {
    let mut tail: VecDeque<LogRecord> = VecDeque::new();
    let limit = options.tail.map(|n| n.min(MAX_TAIL));
    let mut give = |record: LogRecord| -> std::io::Result<()> {
        match limit {
            None => sender.blocking_send(record).map_err(std::io::Error::other),
            Some(0) => Ok(()),
            Some(limit) => {
                if tail.len() == limit {
                    tail.pop_front();
                }
                tail.push_back(record);
                Ok(())
            }
        }
    };
    let (rotated, current) = logfiles::open_all(path)?;
    for old in rotated {
        match old {
            Old::Plain(file) => _ = records_of(&mut BufReader::new(file), options, &mut give)?,
            Old::Packed(file) => {
                let read = records_of(&mut BufReader::new(MultiGzDecoder::new(file)), options, &mut give);
                // What is damaged in one is no reason to keep the others back.
                if let Err(e) = read.as_ref()
                    && !sender.is_closed()
                {
                    tracing::warn!(log = %path.display(), error = %e, "a packed file of a log cannot be read to its end");
                } else {
                    read?;
                }
            }
        }
    }
    let mut reader = BufReader::new(current);
    read_records(&mut reader, options, &mut give)?;
    for record in tail {
        sender.blocking_send(record).map_err(std::io::Error::other)?;
    }
    if !options.follow {
        return Ok(());
    }
    loop {
        // Asked before reading, so that what was written before the end is still read.
        let more = running();
        let mut send = |record: LogRecord| sender.blocking_send(record).map_err(std::io::Error::other);
        read_records(&mut reader, options, &mut send)?;
        let current = reader.get_ref().metadata()?.ino();
        if std::fs::metadata(path).is_ok_and(|m| m.ino() != current) {
            read_records(&mut reader, options, &mut send)?;
            reader = BufReader::new(std::fs::File::open(path)?);
            continue;
        }
        if !more || sender.is_closed() {
            return Ok(());
        }
        std::thread::sleep(POLL);
    }
}

/// The records of a log that is in memory, for tests and the fuzzer.
#[doc(hidden)]
#[must_use]
pub fn records(log: &[u8], options: &LogOptions) -> Vec<LogRecord> {
    let mut all = Vec::new();
    let mut give = |record| {
        all.push(record);
        Ok(())
    };
    // Memory can always be read.
    let _ = read_records(&mut BufReader::new(std::io::Cursor::new(log)), options, &mut give);
    all
}

/// Reads whole records; an unfinished one at the end is left for the next call.
fn read_records<R: Read + Seek>(
    reader: &mut BufReader<R>,
    options: &LogOptions,
    give: &mut dyn FnMut(LogRecord) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let unfinished = records_of(reader, options, give)?;
    if unfinished > 0 {
        reader.seek(SeekFrom::Current(-(i64::try_from(unfinished).unwrap_or(0))))?;
    }
    Ok(())
}

/// Reads whole records; returns how many bytes of one that is not whole were read at the end.
fn records_of(
    reader: &mut impl BufRead,
    options: &LogOptions,
    give: &mut dyn FnMut(LogRecord) -> std::io::Result<()>,
) -> std::io::Result<usize> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let n = reader.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\n") {
            return Ok(n);
        }
        // A record torn by power loss is skipped.
        let Ok(raw) = serde_json::from_slice::<Raw>(&line) else { continue };
        let record = LogRecord { stderr: raw.stream == "stderr", time: raw.time, line: raw.log, attrs: raw.attrs };
        if wanted(options, &record) {
            give(record)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tail_since_and_streams_select_records() {
        let dir = std::env::temp_dir().join(format!("skep-logs-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("temporary directory");
        let path = dir.join("x-json.log");
        let mut text = String::new();
        for n in 0..5 {
            let stream = if n == 3 { "stderr" } else { "stdout" };
            text +=
                &format!("{{\"log\":\"line {n}\\n\",\"stream\":\"{stream}\",\"time\":\"2026-01-01T00:00:0{n}.000000000Z\"}}\n");
        }
        std::fs::write(format!("{}.1", path.display()), text.lines().take(2).collect::<Vec<_>>().join("\n") + "\n")
            .expect("old");
        std::fs::write(&path, text.lines().skip(2).collect::<Vec<_>>().join("\n") + "\n{\"torn").expect("new");
        let read = async |options: LogOptions| {
            let mut lines = Vec::new();
            let mut stream = stream(path.clone(), options, || false);
            while let Some(r) = stream.recv().await {
                lines.push(r.line);
            }
            lines
        };
        let both = LogOptions { stdout: true, stderr: true, ..Default::default() };
        assert_eq!(read(both.clone()).await.len(), 5);
        assert_eq!(read(LogOptions { tail: Some(2), ..both.clone() }).await, ["line 3\n", "line 4\n"]);
        assert_eq!(read(LogOptions { stderr: false, follow: true, ..both.clone() }).await.len(), 4);
        let since = Some("2026-01-01T00:00:03".to_owned());
        assert_eq!(read(LogOptions { since, ..both }).await, ["line 3\n", "line 4\n"]);
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
