//! The files of a container's log: the current one, rotated ones by number, the newest first, and those that are packed (`….2.gz`). The
//! shim rotates, the daemon packs what was rotated; a lock beside them keeps the two from renaming at the same time. Whoever dies on the
//! way leaves each record in one file at least: what is packed gets its name when it is whole and on disk, and its source goes after that.

use std::fs::{self, File, TryLockError};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;

/// Most rotated files that are looked at.
const MOST: u32 = 1000;
/// How long a rotation waits for whoever renames just now, in steps of a millisecond: its container stands still meanwhile.
const PATIENCE: u32 = 20;

fn with(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

/// The rotated file of a number, 1 or more.
#[must_use]
pub fn numbered(path: &Path, n: u32) -> PathBuf {
    with(path, &format!(".{n}"))
}

/// The same, packed.
#[must_use]
pub fn packed(path: &Path, n: u32) -> PathBuf {
    with(path, &format!(".{n}.gz"))
}

/// What is being packed; it has no reader.
fn unfinished(path: &Path) -> PathBuf {
    with(path, ".gz.tmp")
}

fn lock_file(path: &Path) -> PathBuf {
    with(path, ".lock")
}

fn lock(path: &Path) -> io::Result<File> {
    let file = File::options().create(true).append(true).open(lock_file(path))?;
    file.lock()?;
    Ok(file)
}

/// Moves each file on by one; `keep` of them, the current one included, stay. With `packs`, others may be renaming at this moment.
///
/// # Errors
/// When somebody else keeps the lock: the file grows on, and the next call tries again.
pub fn rotate(path: &Path, keep: u32, packs: bool) -> io::Result<()> {
    let _lock = if packs { Some(lock_soon(path)?) } else { None };
    if keep <= 1 {
        return fs::remove_file(path);
    }
    let top = keep - 1;
    // What is not there need not move.
    let _ = fs::remove_file(numbered(path, top));
    let _ = fs::remove_file(packed(path, top));
    for n in (1..top).rev() {
        let _ = fs::rename(numbered(path, n), numbered(path, n + 1));
        let _ = fs::rename(packed(path, n), packed(path, n + 1));
    }
    fs::rename(path, numbered(path, 1))
}

fn lock_soon(path: &Path) -> io::Result<File> {
    let file = File::options().create(true).append(true).open(lock_file(path))?;
    for _ in 0..PATIENCE {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
            Err(TryLockError::Error(e)) => return Err(e),
        }
    }
    Err(io::Error::new(io::ErrorKind::WouldBlock, "the log's files are being renamed by another process"))
}

/// A file that was rotated.
#[derive(Debug)]
pub enum Old {
    /// As it was written.
    Plain(File),
    /// gzip.
    Packed(File),
}

/// Opens all files at once, so that none is missed or met twice while they are renamed: those that were rotated, the oldest first, and
/// the current one.
///
/// # Errors
/// When there is no log.
pub fn open_all(path: &Path) -> io::Result<(Vec<Old>, File)> {
    // A log that is never packed has no lock.
    let guard = File::open(lock_file(path)).ok();
    if let Some(guard) = &guard {
        guard.lock_shared()?;
    }
    let one = |n: u32| {
        let plain = File::open(numbered(path, n)).map(Old::Plain);
        plain.or_else(|_| File::open(packed(path, n)).map(Old::Packed)).ok()
    };
    let mut old: Vec<Old> = (1..MOST).map_while(one).collect();
    old.reverse();
    Ok((old, File::open(path)?))
}

/// Packs the oldest rotated file that is not packed yet; `false` if there is none. One caller at a time.
///
/// # Errors
/// When the disk refuses; nothing is lost then.
pub fn pack_one(path: &Path, keep: u32) -> io::Result<bool> {
    let Some((from, ino)) = (1..keep.min(MOST)).rev().find_map(|n| inode(&numbered(path, n)).map(|ino| (n, ino))) else {
        // One that was begun by a daemon which was killed; its source was rotated away since.
        return fs::remove_file(unfinished(path)).map(|()| false).or(Ok(false));
    };
    let temporary = unfinished(path);
    if !packed(path, from).exists() {
        let source = match File::open(numbered(path, from)) {
            Ok(source) if source.metadata()?.ino() == ino => source,
            // It was moved on; the next call finds it.
            _ => return Ok(true),
        };
        write_packed(source, &temporary)?;
        let _lock = lock(path)?;
        match find(path, ino, keep) {
            Some(n) => fs::rename(&temporary, packed(path, n))?,
            // It is gone, and so is what was made of it.
            None => return fs::remove_file(&temporary).map(|()| true),
        }
    }
    if let Some(dir) = path.parent() {
        // A loss of power must not leave neither.
        File::open(dir)?.sync_all()?;
    }
    let _lock = lock(path)?;
    match find(path, ino, keep) {
        Some(n) if packed(path, n).exists() => fs::remove_file(numbered(path, n)).map(|()| true),
        _ => Ok(true),
    }
}

fn write_packed(source: File, to: &Path) -> io::Result<()> {
    let mut target = File::options();
    let target = target.create(true).write(true).truncate(true).open(to)?;
    target.set_permissions(source.metadata()?.permissions())?;
    let mut encoder = GzEncoder::new(BufWriter::new(target), Compression::default());
    io::copy(&mut BufReader::new(source), &mut encoder)?;
    let mut buffered = encoder.finish()?;
    buffered.flush()?;
    buffered.get_ref().sync_all()
}

fn inode(path: &Path) -> Option<u64> {
    path.metadata().ok().map(|m| m.ino())
}

/// The number that a rotated file has by now.
fn find(path: &Path, ino: u64, keep: u32) -> Option<u32> {
    (1..keep.min(MOST)).find(|n| inode(&numbered(path, *n)) == Some(ino))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::MultiGzDecoder;

    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("skep-logfiles-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(&dir).expect("temporary directory");
            Self(dir)
        }

        fn log(&self) -> PathBuf {
            self.0.join("x-json.log")
        }

        fn write(&self, text: &str) {
            let mut file = File::options().create(true).append(true).open(self.log()).expect("opened");
            file.write_all(text.as_bytes()).expect("written");
        }

        fn read(&self) -> String {
            let (old, current) = open_all(&self.log()).expect("opened");
            let mut out = String::new();
            for file in old {
                match file {
                    Old::Plain(mut f) => f.read_to_string(&mut out),
                    Old::Packed(f) => MultiGzDecoder::new(f).read_to_string(&mut out),
                }
                .expect("read");
            }
            { current }.read_to_string(&mut out).expect("read");
            out
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).expect("listed").flatten();
            let mut all: Vec<String> =
                entries.map(|e| e.file_name().to_string_lossy().trim_start_matches("x-json.log").to_owned()).collect();
            all.sort();
            all
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_was_rotated_is_packed_and_moves_on() {
        let dir = Dir::new("pack");
        for text in ["a", "b", "c", "d"] {
            dir.write(text);
            rotate(&dir.log(), 4, true).expect("rotated");
            if text == "b" {
                while pack_one(&dir.log(), 4).expect("packed") {}
                assert_eq!(dir.names(), [".1.gz", ".2.gz", ".lock"]);
            }
        }
        dir.write("e");
        assert_eq!(dir.names(), ["", ".1", ".2", ".3.gz", ".lock"]);
        assert_eq!(dir.read(), "bcde");
        assert!(pack_one(&dir.log(), 4).expect("packed"));
        assert_eq!(dir.names(), ["", ".1", ".2.gz", ".3.gz", ".lock"]);
        assert_eq!(dir.read(), "bcde");
    }

    #[test]
    fn whatever_a_kill_leaves_is_read_once_and_finished() {
        let dir = Dir::new("kill");
        for text in ["a", "b"] {
            dir.write(text);
            rotate(&dir.log(), 3, true).expect("rotated");
        }
        dir.write("c");
        // Half-way through the packing.
        fs::write(unfinished(&dir.log()), b"\x1f\x8b half").expect("written");
        assert_eq!(dir.read(), "abc");
        // After it got its name, before its source went.
        write_packed(File::open(numbered(&dir.log(), 2)).expect("opened"), &packed(&dir.log(), 2)).expect("packed");
        assert_eq!(dir.read(), "abc");
        rotate(&dir.log(), 4, true).expect("rotated");
        dir.write("d");
        assert_eq!(dir.read(), "abcd");
        while pack_one(&dir.log(), 4).expect("packed") {}
        assert_eq!(dir.names(), ["", ".1.gz", ".2.gz", ".3.gz", ".lock"]);
        assert_eq!(dir.read(), "abcd");
        fs::write(unfinished(&dir.log()), b"x").expect("written");
        assert!(!pack_one(&dir.log(), 4).expect("nothing to do"));
        assert!(!unfinished(&dir.log()).exists());
    }

    #[test]
    fn a_writer_that_rotates_meanwhile_loses_nothing() {
        let dir = Dir::new("race");
        let (log, keep) = (dir.log(), 400);
        let writer = std::thread::spawn({
            let log = log.clone();
            move || {
                for n in 0..300 {
                    let mut file = File::options().create(true).append(true).open(&log).expect("opened");
                    file.write_all(format!("{n}\n").repeat(200).as_bytes()).expect("written");
                    // One that waited in vain tries again, as the shim does.
                    let _ = rotate(&log, keep, true);
                }
            }
        });
        let mut packed = 0;
        while !writer.is_finished() {
            packed += u32::from(pack_one(&log, keep).expect("packed"));
        }
        writer.join().expect("written");
        assert!(packed > 0);
        File::options().create(true).append(true).open(&log).expect("a current one");
        let all: String = (0..300).map(|n| format!("{n}\n").repeat(200)).collect();
        assert!(dir.read() == all, "as it was written");
    }

    #[test]
    fn who_keeps_the_lock_holds_up_nobody() {
        let dir = Dir::new("lock");
        dir.write("a");
        let _held = lock(&dir.log()).expect("locked");
        assert!(rotate(&dir.log(), 3, true).is_err());
        dir.write("b");
        assert_eq!(fs::read_to_string(dir.log()).expect("read"), "ab");
    }
}
