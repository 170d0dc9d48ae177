//! The log: one JSON object a line, as Docker's json-file writes it, rotated by size. Whatever the driver: the daemon sends on what is in it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use skep_engine::logfiles;
use skep_engine::shim::LogConfig;
use skep_types::Time;

/// Longest piece of a line in one record, as in Docker; a longer line continues in the next record.
const MAX_LINE: usize = 16 << 10;

/// Writes one container's log. A log that cannot be written (disk full) never stops the container; lines are lost and
/// counted.
#[derive(Debug)]
pub(crate) struct Log {
    config: LogConfig,
    file: Option<File>,
    size: u64,
    /// Unfinished lines of standard output and standard error.
    partial: [Vec<u8>; 2],
    lost: u64,
}

fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::default().after(since)
}

impl Log {
    pub(crate) fn open(config: LogConfig) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(&config.path).ok();
        let size = file.as_ref().and_then(|f| f.metadata().ok()).map_or(0, |m| m.len());
        Self { config, file, size, partial: [Vec::new(), Vec::new()], lost: 0 }
    }

    /// Takes output as it came.
    pub(crate) fn write(&mut self, stderr: bool, bytes: &[u8]) {
        let stamp = now().rfc3339();
        let mut records = Vec::with_capacity(bytes.len() + 128);
        let partial = &mut self.partial[usize::from(stderr)];
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            for part in piece.chunks(MAX_LINE) {
                partial.extend_from_slice(part);
                if partial.ends_with(b"\n") || partial.len() >= MAX_LINE {
                    record(&mut records, partial, stderr, &stamp, &self.config.attrs);
                    partial.clear();
                }
            }
        }
        self.append(&records);
    }

    /// Writes unfinished lines.
    pub(crate) fn finish(&mut self) {
        let stamp = now().rfc3339();
        for stderr in [false, true] {
            let partial = std::mem::take(&mut self.partial[usize::from(stderr)]);
            if !partial.is_empty() {
                let mut records = Vec::new();
                record(&mut records, &partial, stderr, &stamp, &self.config.attrs);
                self.append(&records);
            }
        }
    }

    fn append(&mut self, records: &[u8]) {
        if records.is_empty() {
            return;
        }
        if self.config.max_size > 0 && self.size > 0 && self.size + records.len() as u64 > self.config.max_size {
            self.rotate();
        }
        match self.file.as_mut().map(|f| f.write_all(records)) {
            Some(Ok(())) => self.size += records.len() as u64,
            _ => self.lost += 1,
        }
    }

    fn rotate(&mut self) {
        let c = &self.config;
        let moved = logfiles::rotate(&c.path, c.max_files, c.packs);
        if moved.is_err() && c.path.exists() {
            // It grows on until it can be moved.
            return;
        }
        self.file = OpenOptions::new().create(true).append(true).open(&self.config.path).ok();
        self.size = 0;
    }
}

fn record(out: &mut Vec<u8>, line: &[u8], stderr: bool, stamp: &str, attrs: &str) {
    let text = String::from_utf8_lossy(line);
    out.extend_from_slice(b"{\"log\":");
    // Text always serialises.
    out.extend_from_slice(&serde_json::to_vec(&text).unwrap_or_default());
    out.extend_from_slice(if stderr { b",\"stream\":\"stderr\"" } else { b",\"stream\":\"stdout\"" });
    if !attrs.is_empty() {
        out.extend_from_slice(b",\"attrs\":");
        out.extend_from_slice(attrs.as_bytes());
    }
    out.extend_from_slice(b",\"time\":\"");
    out.extend_from_slice(stamp.as_bytes());
    out.extend_from_slice(b"\"}\n");
}

#[cfg(test)]
mod tests {
    use std::fs;

    use skep_engine::logfiles::numbered;

    use super::*;

    #[test]
    fn lines_become_records_and_files_rotate() {
        let dir = std::env::temp_dir().join(format!("skep-log-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("temporary directory");
        let path = dir.join("c-json.log");
        let mut log =
            Log::open(LogConfig { path: path.clone(), max_size: 400, max_files: 2, attrs: String::new(), packs: false });
        log.write(false, b"one\ntw");
        log.write(true, b"oops\n");
        log.write(false, b"o\nlast");
        log.finish();
        let text = fs::read_to_string(&path).expect("written");
        let logs: Vec<String> = text
            .lines()
            .map(|l| serde_json::from_str::<serde_json::Value>(l).expect("JSON")["log"].as_str().expect("text").to_owned())
            .collect();
        assert_eq!(logs, ["one\n", "oops\n", "two\n", "last"]);
        for _ in 0..20 {
            log.write(false, b"0123456789012345678901234567890123456789\n");
        }
        assert!(fs::metadata(&path).expect("current").len() <= 400);
        assert!(numbered(&path, 1).exists() && !numbered(&path, 2).exists());
        let mut said = Vec::new();
        super::record(&mut said, b"x\n", true, "t", r#"{"tag":"web"}"#);
        assert_eq!(said, b"{\"log\":\"x\\n\",\"stream\":\"stderr\",\"attrs\":{\"tag\":\"web\"},\"time\":\"t\"}\n");
        fs::remove_dir_all(&dir).expect("removed");
    }
}
