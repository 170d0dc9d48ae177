//! Layers as they come, and as an attacker would make them. The parts with devices and owners need root.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use super::*;

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("skep-unpack-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("layer")).expect("made");
        Self(path)
    }

    fn layer(&self) -> PathBuf {
        self.0.join("layer")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An archive of (kind, path, link or content).
fn archive(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
    let mut out = tar::Builder::new(Vec::new());
    for (kind, path, text) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o4755);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_000);
        // as an attacker would: the library refuses such names
        let raw = path.as_bytes();
        header.as_old_mut().name[..raw.len()].copy_from_slice(raw);
        let data = if matches!(kind, EntryType::Link | EntryType::Symlink) {
            header.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes());
            ""
        } else {
            text
        };
        if matches!(kind, EntryType::Char) {
            header.set_device_major(1).expect("set");
            header.set_device_minor(3).expect("set");
        }
        header.set_size(data.len() as u64);
        header.set_cksum();
        out.append(&header, data.as_bytes()).expect("appended");
    }
    out.into_inner().expect("finished")
}

#[test]
fn all_kinds_of_entries_arrive() {
    let scratch = Scratch::new("kinds");
    let bytes = archive(&[
        (EntryType::Directory, "d/", ""),
        (EntryType::Regular, "d/f", "hello"),
        (EntryType::Link, "d/hard", "d/f"),
        (EntryType::Symlink, "d/soft", "f"),
        (EntryType::Fifo, "d/fifo", ""),
        (EntryType::Char, "d/null", ""),
        (EntryType::Regular, "d/.wh.gone", ""),
        (EntryType::Directory, "o/", ""),
        (EntryType::Regular, "o/.wh..wh..opq", ""),
        (EntryType::Regular, "made/on/the/way", "x"),
    ]);
    assert_eq!(unpack(bytes.as_slice(), &scratch.layer()).expect("unpacks"), 6);
    let at = |path: &str| fs::symlink_metadata(scratch.layer().join(path)).expect(path);
    assert_eq!(at("d/f").permissions().mode() & 0o7777, 0o4755);
    assert_eq!((at("d/f").uid(), at("d/f").gid(), at("d/f").mtime(), at("d").mtime()), (7, 8, 1_000, 1_000));
    assert_eq!(at("d/hard").ino(), at("d/f").ino());
    assert!(at("d/soft").file_type().is_symlink());
    assert!(at("d/fifo").file_type().is_fifo());
    assert_eq!(at("d/null").rdev(), makedev(1, 3));
    assert!(at("d/gone").file_type().is_char_device());
    assert_eq!(at("d/gone").rdev(), 0);
    let mut value = [0u8; 4];
    let len = rustix::fs::getxattr(scratch.layer().join("o"), "trusted.overlay.opaque", &mut value[..]).expect("set");
    assert_eq!(&value[..len], b"y");
}

#[test]
fn nothing_leaves_the_layer() {
    let scratch = Scratch::new("escape");
    fs::write(scratch.0.join("secret"), "kept").expect("written");
    fs::create_dir(scratch.0.join("outside")).expect("made");
    let outside = scratch.0.join("outside").display().to_string();
    let cases: [&[(EntryType, &str, &str)]; 8] = [
        &[(EntryType::Regular, "../secret", "stolen")],
        &[(EntryType::Regular, "a/../../secret", "stolen")],
        &[(EntryType::Symlink, "up", "../.."), (EntryType::Regular, "up/outside/x", "stolen")],
        &[(EntryType::Symlink, "abs", &outside), (EntryType::Regular, "abs/x", "stolen")],
        &[(EntryType::Symlink, "abs", &outside), (EntryType::Link, "hard", "abs/../secret")],
        &[(EntryType::Link, "hard", "../secret")],
        &[(EntryType::Symlink, "f", "../secret"), (EntryType::Regular, "f", "stolen")],
        &[(EntryType::Symlink, "d", &outside), (EntryType::Regular, "d/.wh.x", "")],
    ];
    for case in cases {
        // refused, or kept inside: both are right
        let _ = unpack(archive(case).as_slice(), &scratch.layer());
        assert_eq!(fs::read_to_string(scratch.0.join("secret")).expect("there"), "kept", "{case:?}");
        assert_eq!(fs::read_dir(scratch.0.join("outside")).expect("there").count(), 0, "{case:?}");
        assert_eq!(fs::metadata(scratch.0.join("secret")).expect("there").nlink(), 1, "{case:?}");
    }
}

#[test]
fn later_entries_replace_earlier_ones() {
    let scratch = Scratch::new("replace");
    let bytes = archive(&[
        (EntryType::Regular, "x/deep/f", "1"),
        (EntryType::Regular, "x", "file now"),
        (EntryType::Regular, "y", "1"),
        (EntryType::Directory, "y/", ""),
        (EntryType::Symlink, "z", "nowhere"),
        (EntryType::Regular, "z", "2"),
    ]);
    unpack(bytes.as_slice(), &scratch.layer()).expect("unpacks");
    assert_eq!(fs::read_to_string(scratch.layer().join("x")).expect("file"), "file now");
    assert!(scratch.layer().join("y").is_dir());
    assert_eq!(fs::read_to_string(scratch.layer().join("z")).expect("file"), "2");
}

#[test]
fn noise_is_refused() {
    let scratch = Scratch::new("noise");
    for len in [1usize, 511, 512, 513, 4_000] {
        let noise: Vec<u8> = (0..len).map(|i| (i * 131 % 251) as u8).collect();
        let _ = unpack(noise.as_slice(), &scratch.layer());
    }
}
