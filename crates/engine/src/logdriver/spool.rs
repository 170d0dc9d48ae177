//! Reading a container's log file from a remembered place on, over its rotations. Must never read a record twice of itself, nor pass over
//! one that is still there.

use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::Line;

/// Most rotated files that are looked for.
const MOST_FILES: u32 = 1000;

/// A file, whatever it is called by now. Inode numbers are given out again, so the time of birth belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct FileId {
    ino: u64,
    born: u64,
}

impl FileId {
    fn of(meta: &Metadata) -> Self {
        let born = meta.created().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
        Self { ino: meta.ino(), born: born.and_then(|d| u64::try_from(d.as_nanos()).ok()).unwrap_or(0) }
    }
}

/// Up to where records were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    file: FileId,
    offset: u64,
}

#[derive(Deserialize)]
struct Raw {
    log: String,
    stream: String,
    time: String,
}

/// A log that is read.
#[derive(Debug)]
pub(super) struct Spool {
    path: PathBuf,
    reader: Option<(BufReader<File>, FileId)>,
    offset: u64,
    /// Files that were rotated away before they were read.
    pub(super) gaps: u64,
}

impl Spool {
    /// Begins at a position, or at the oldest record.
    pub(super) fn open(path: &Path, position: Option<Position>) -> Self {
        let mut spool = Self { path: path.to_owned(), reader: None, offset: 0, gaps: 0 };
        if let Some(p) = position {
            let found = spool.files().into_iter().find(|(_, id, len)| *id == p.file && *len >= p.offset);
            let begun = found.is_some_and(|(path, ..)| File::open(path).and_then(|f| spool.begin(f, p.offset)).is_ok());
            spool.gaps += u64::from(!begun);
        }
        spool
    }

    /// The files that there are, oldest first, with their lengths.
    fn files(&self) -> Vec<(PathBuf, FileId, u64)> {
        let numbered = |n: u32| PathBuf::from(format!("{}.{n}", self.path.display()));
        let mut paths: Vec<PathBuf> = (1..MOST_FILES).map(numbered).take_while(|p| p.exists()).collect();
        paths.reverse();
        paths.push(self.path.clone());
        paths.into_iter().filter_map(|p| p.metadata().ok().map(|m| (p, FileId::of(&m), m.len()))).collect()
    }

    fn begin(&mut self, mut file: File, offset: u64) -> io::Result<()> {
        let meta = file.metadata()?;
        file.seek(SeekFrom::Start(offset))?;
        self.reader = Some((BufReader::new(file), FileId::of(&meta)));
        self.offset = offset;
        Ok(())
    }

    /// Where reading goes on.
    pub(super) fn position(&self) -> Option<Position> {
        self.reader.as_ref().map(|(_, file)| Position { file: *file, offset: self.offset })
    }

    /// Bytes that have not been read.
    pub(super) fn behind(&self) -> u64 {
        let files = self.files();
        let own = self.reader.as_ref().and_then(|(_, id)| files.iter().position(|(_, other, _)| other == id));
        let rest: u64 = files.iter().skip(own.unwrap_or(0)).map(|(.., len)| len).sum();
        rest.saturating_sub(if own.is_some() { self.offset } else { 0 })
    }

    /// Whole records, of about `most` bytes together; none if there are no more.
    pub(super) fn read(&mut self, most: u64) -> io::Result<Vec<Line>> {
        let mut out = Vec::new();
        let begun = self.offset;
        loop {
            if self.reader.is_none() {
                let Some((path, ..)) = self.files().into_iter().next() else { return Ok(out) };
                self.begin(File::open(path)?, 0)?;
            }
            self.read_file(most, begun, &mut out)?;
            if !out.is_empty() || !self.step()? {
                return Ok(out);
            }
        }
    }

    fn read_file(&mut self, most: u64, begun: u64, out: &mut Vec<Line>) -> io::Result<()> {
        let Some((reader, _)) = &mut self.reader else { return Ok(()) };
        let mut bytes = Vec::new();
        while self.offset.saturating_sub(begun) < most {
            bytes.clear();
            let n = reader.read_until(b'\n', &mut bytes)?;
            if !bytes.ends_with(b"\n") {
                // It is still being written.
                reader.seek_relative(-i64::try_from(n).unwrap_or(0))?;
                return Ok(());
            }
            self.offset += n as u64;
            // A record torn by power loss is skipped.
            let Ok(raw) = serde_json::from_slice::<Raw>(&bytes) else { continue };
            let partial = !raw.log.ends_with('\n');
            let text = raw.log.trim_end_matches('\n').trim_end_matches('\r').to_owned();
            out.push(Line { stderr: raw.stream == "stderr", time: raw.time, text, partial });
        }
        Ok(())
    }

    /// Goes on to the next file, if this one is not the last.
    fn step(&mut self) -> io::Result<bool> {
        let Some((_, id)) = self.reader.as_ref() else { return Ok(false) };
        let id = *id;
        let files = self.files();
        let next = match files.iter().position(|(_, other, _)| *other == id) {
            Some(at) => at + 1,
            None => 0,
        };
        let Some((path, ..)) = files.get(next) else { return Ok(false) };
        // What was written between the last read and the rotation.
        let Some((reader, _)) = &mut self.reader else { return Ok(false) };
        let mut rest = Vec::new();
        let n = reader.read_until(b'\n', &mut rest)?;
        if rest.ends_with(b"\n") {
            reader.seek_relative(-i64::try_from(n).unwrap_or(0))?;
            return Ok(true);
        }
        let file = File::open(path)?;
        if next == 0 {
            self.gaps += 1;
        }
        self.begin(file, 0)?;
        Ok(true)
    }

    /// Gives up the oldest records until about `keep` bytes are left. Returns how many bytes were given up.
    pub(super) fn skip(&mut self, keep: u64) -> io::Result<u64> {
        let mut skipped = 0;
        loop {
            let behind = self.behind();
            if behind <= keep {
                return Ok(skipped);
            }
            // Record by record, so that what is left begins with a whole one.
            let before = self.behind();
            if self.read((behind - keep).min(64 << 10))?.is_empty() {
                return Ok(skipped);
            }
            skipped += before.saturating_sub(self.behind());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    struct Files(PathBuf);

    impl Drop for Files {
        fn drop(&mut self) {
            // A directory that stays behind is no fault of what is tested.
            let _ = self.0.parent().map(std::fs::remove_dir_all);
        }
    }

    impl Files {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("skep-spool-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&dir);
            std::fs::create_dir_all(&dir).expect("temporary directory");
            Self(dir.join("x-json.log"))
        }

        fn write(&self, lines: std::ops::Range<u32>) {
            let mut file = File::options().create(true).append(true).open(&self.0).expect("opened");
            for n in lines {
                let time = format!("2026-01-01T00:00:{n:02}Z");
                writeln!(file, "{{\"log\":\"line {n}\\n\",\"stream\":\"stdout\",\"time\":\"{time}\"}}").expect("written");
            }
        }

        /// As the shim rotates, with so many files kept.
        fn rotate(&self, keep: u32) {
            let name = |n: u32| PathBuf::from(format!("{}.{n}", self.0.display()));
            for n in (1..keep - 1).rev() {
                let _ = std::fs::rename(name(n), name(n + 1));
            }
            std::fs::rename(&self.0, name(1)).expect("rotated");
        }
    }

    fn all(spool: &mut Spool) -> Vec<String> {
        let mut out = Vec::new();
        loop {
            let lines = spool.read(150).expect("read");
            if lines.is_empty() {
                return out;
            }
            out.extend(lines.into_iter().map(|l| l.text.trim_start_matches("line ").to_owned()));
        }
    }

    #[test]
    fn every_record_is_read_once_over_rotations_and_restarts() {
        let files = Files::new("once");
        let mut spool = Spool::open(&files.0, None);
        assert!(all(&mut spool).is_empty());
        files.write(0..3);
        assert_eq!(all(&mut spool), ["0", "1", "2"]);
        files.write(3..5);
        files.rotate(4);
        files.write(5..7);
        files.rotate(4);
        assert_eq!(all(&mut spool), ["3", "4", "5", "6"]);
        let kept = spool.position();
        files.write(7..9);
        files.rotate(4);
        files.write(9..10);
        let mut again = Spool::open(&files.0, kept);
        assert_eq!((all(&mut again), again.gaps), (["7", "8", "9"].map(str::to_owned).to_vec(), 0));
        assert_eq!(all(&mut spool), ["7", "8", "9"]);
        // Half a record waits for its end.
        let mut file = File::options().append(true).open(&files.0).expect("opened");
        file.write_all(b"{\"log\":\"line 10\\n\",").expect("written");
        assert!(all(&mut spool).is_empty());
        file.write_all(b"\"stream\":\"stderr\",\"time\":\"t\"}\n").expect("written");
        assert_eq!(all(&mut spool), ["10"]);
    }

    #[test]
    fn what_was_rotated_away_is_counted_and_what_is_too_old_given_up() {
        let files = Files::new("gap");
        files.write(0..2);
        let mut spool = Spool::open(&files.0, None);
        assert_eq!(spool.read(1).expect("read").len(), 1);
        let kept = spool.position();
        drop(spool);
        for n in 1..4 {
            files.rotate(2);
            files.write(n * 2..n * 2 + 2);
        }
        let mut spool = Spool::open(&files.0, kept);
        assert_eq!((all(&mut spool), spool.gaps), (["4", "5", "6", "7"].map(str::to_owned).to_vec(), 1));
        files.write(8..18);
        let behind = spool.behind();
        assert!(spool.skip(behind / 2).expect("skipped") >= behind / 2 - 80);
        let left = all(&mut spool);
        assert!(left.len() >= 4 && left.len() <= 5 && left.last().is_some_and(|l| l == "17"), "{left:?}");
    }
}
