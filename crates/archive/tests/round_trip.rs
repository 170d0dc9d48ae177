//! Trees go through archives and back; GNU tar reads the same in them. Owners and devices need root; without it those parts are left out.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use skep_archive::{
    ChangeKind, Extract, changes, extract, extract_as, open_root, pack, pack_all, pack_as, pack_layer, size, stat, unpack,
};

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("skep-archive-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("made");
        Self(path)
    }

    fn dir(&self, name: &str) -> PathBuf {
        let dir = self.0.join(name);
        fs::create_dir_all(&dir).expect("made");
        dir
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Path, kind, permissions, link target or content of all that is below a directory.
fn list(dir: &Path) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(at) = todo.pop() {
        for entry in fs::read_dir(&at).expect("read").flatten() {
            let (path, meta) = (entry.path(), entry.path().symlink_metadata().expect("there"));
            let what = match meta.file_type() {
                t if t.is_symlink() => format!("-> {}", fs::read_link(&path).expect("a link").display()),
                t if t.is_dir() => format!("d{:o}", meta.permissions().mode() & 0o7777),
                t if t.is_file() => format!(
                    "f{:o} {} {}",
                    meta.permissions().mode() & 0o7777,
                    meta.mtime(),
                    fs::read_to_string(&path).expect("text")
                ),
                _ => "other".to_owned(),
            };
            out.insert(path.strip_prefix(dir).expect("below").display().to_string(), what);
            if meta.is_dir() {
                todo.push(path);
            }
        }
    }
    out
}

fn tree(dir: &Path) {
    let long = "n".repeat(120);
    fs::create_dir_all(dir.join(&long).join(&long)).expect("made");
    fs::write(dir.join(&long).join(&long).join("deep"), "deep\n").expect("written");
    fs::write(dir.join("plain"), "one\n").expect("written");
    fs::set_permissions(dir.join("plain"), fs::Permissions::from_mode(0o4750)).expect("set");
    fs::hard_link(dir.join("plain"), dir.join("second")).expect("linked");
    symlink("plain", dir.join("link")).expect("linked");
    symlink(format!("/{long}/{long}"), dir.join("far")).expect("linked");
    fs::create_dir(dir.join("empty")).expect("made");
    fs::write(dir.join("ünï"), "").expect("written");
}

#[test]
fn a_tree_comes_back_as_it_was_and_gnu_tar_reads_the_same() {
    let scratch = Scratch::new("trip");
    let (from, to, other) = (scratch.dir("a/tree"), scratch.dir("to"), scratch.dir("other"));
    tree(&from);
    let root = open_root(&scratch.0).expect("a root");
    let mut archive = Vec::new();
    pack(&root, Path::new("/a/tree"), &mut archive).expect("packed");
    extract(&archive[..], &open_root(&to).expect("a root"), Path::new(""), Extract::default()).expect("unpacked");
    assert_eq!(list(&to.join("tree")), list(&from));
    assert_eq!(fs::metadata(to.join("tree/plain")).expect("there").nlink(), 2);
    let file = scratch.0.join("archive.tar");
    fs::write(&file, &archive).expect("written");
    let done = Command::new("tar").arg("-xpf").arg(&file).arg("-C").arg(&other).status().expect("GNU tar runs");
    assert!(done.success());
    assert_eq!(list(&other), list(&to));
    // And the other way round: what GNU tar writes, in each of its forms.
    for form in ["gnu", "pax", "ustar"] {
        let back = scratch.dir(&format!("back-{form}"));
        let made = Command::new("tar")
            .args([&format!("--format={form}"), "-cf"])
            .arg(&file)
            .arg("-C")
            .arg(scratch.0.join("a"))
            .arg("tree")
            .stderr(std::process::Stdio::null())
            .status()
            .expect("GNU tar runs");
        if form == "ustar" && !made.success() {
            // It has no room for such long names.
            continue;
        }
        let bytes = fs::read(&file).expect("read");
        extract(&bytes[..], &open_root(&back).expect("a root"), Path::new(""), Extract::default()).expect("unpacked");
        assert_eq!(list(&back.join("tree")), list(&from), "{form}");
    }
}

#[test]
fn names_are_changed_on_the_way() {
    let scratch = Scratch::new("names");
    let from = scratch.dir("tree");
    tree(&from);
    let root = open_root(&scratch.0).expect("a root");
    for (packed, from_name, wanted) in
        [("/tree", "tree", "new"), ("/tree/.", ".", "new"), ("/tree", "tree", ""), ("/tree/.", ".", "")]
    {
        let to = scratch.dir("to");
        let mut archive = Vec::new();
        pack(&root, Path::new(packed), &mut archive).expect("packed");
        let rename = Some((Path::new(from_name), Path::new(wanted)));
        extract_as(&archive[..], &open_root(&to).expect("a root"), Path::new(""), Extract::default(), rename)
            .expect("unpacked");
        assert_eq!(list(&to.join(wanted)), list(&from), "{packed} {wanted}");
        fs::remove_dir_all(&to).expect("removed");
    }
    let mut archive = Vec::new();
    pack_as(&root, Path::new("/tree/plain"), b"called", &mut archive).expect("packed");
    let to = scratch.dir("to");
    extract(&archive[..], &open_root(&to).expect("a root"), Path::new(""), Extract::default()).expect("unpacked");
    assert_eq!(fs::read_to_string(to.join("called")).expect("there"), "one\n");
    let mut archive = Vec::new();
    pack_all(&open_root(&from).expect("a root"), &mut archive).expect("packed");
    let to = scratch.dir("all");
    extract(&archive[..], &open_root(&to).expect("a root"), Path::new(""), Extract::default()).expect("unpacked");
    assert_eq!(list(&to), list(&from));
}

#[test]
fn links_lead_nowhere_else_and_kinds_are_kept() {
    let scratch = Scratch::new("inside");
    let (inside, outside) = (scratch.dir("root"), scratch.dir("outside"));
    fs::write(outside.join("secret"), "secret").expect("written");
    fs::create_dir(inside.join("dir")).expect("made");
    symlink(&outside, inside.join("out")).expect("linked");
    symlink("../../../outside", inside.join("dir/up")).expect("linked");
    symlink("dir", inside.join("in")).expect("linked");
    let root = open_root(&inside).expect("a root");
    for path in ["/out/secret", "/dir/up/secret", "/../outside/secret"] {
        assert!(pack(&root, Path::new(path), std::io::sink()).is_err(), "{path}");
    }
    assert_eq!(stat(&root, Path::new("/in")).expect("there").link, "/dir");
    assert_eq!(stat(&root, Path::new("/dir/up")).expect("there").link, "/outside");
    assert_eq!(stat(&root, Path::new("/")).expect("there").name, "/");
    // A file over a directory, and a directory over a file.
    let (files, dirs) = (scratch.dir("files"), scratch.dir("dirs/x"));
    fs::write(files.join("dir"), "").expect("written");
    let keep = Extract { keep_kinds: true, ..Extract::default() };
    let mut archive = Vec::new();
    pack_all(&open_root(&files).expect("a root"), &mut archive).expect("packed");
    let refused = extract(&archive[..], &root, Path::new("/"), keep).expect_err("a directory is there");
    assert!(refused.to_string().contains("cannot overwrite directory"), "{refused}");
    fs::write(inside.join("x"), "").expect("written");
    let mut archive = Vec::new();
    pack_all(&open_root(dirs.parent().expect("it has one")).expect("a root"), &mut archive).expect("packed");
    let refused = extract(&archive[..], &root, Path::new("/"), keep).expect_err("a file is there");
    assert!(refused.to_string().contains("cannot overwrite non-directory"), "{refused}");
}

#[test]
fn a_writable_layer_tells_what_it_changed() {
    let scratch = Scratch::new("layer");
    let (upper, lower) = (scratch.dir("upper"), scratch.dir("lower"));
    for (dir, files) in
        [(&lower, &["etc/passwd", "etc/hosts", "bin/a", "bin/b"][..]), (&upper, &["etc/passwd", "root/new", "etc/resolv.conf"])]
    {
        for f in files {
            fs::create_dir_all(dir.join(f).parent().expect("it has one")).expect("made");
            fs::write(dir.join(f), if f.ends_with("conf") { "" } else { "text" }).expect("written");
        }
    }
    let told = || -> Vec<String> {
        let letter = |k| match k {
            ChangeKind::Modified => 'C',
            ChangeKind::Added => 'A',
            ChangeKind::Deleted => 'D',
        };
        let all = changes(&upper, std::slice::from_ref(&lower)).expect("read");
        all.iter().map(|c| format!("{} {}", letter(c.kind), c.path.display())).collect()
    };
    let all = told();
    for line in ["C /etc/passwd", "A /root", "A /root/new"] {
        assert!(all.iter().any(|l| l == line), "{line}: {all:?}");
    }
    assert!(!all.iter().any(|l| l.contains("resolv")), "{all:?}");
    assert_eq!(size(&upper).expect("read"), 8);
    if !rustix::process::geteuid().is_root() {
        return;
    }
    fs::create_dir(upper.join("bin")).expect("made");
    let mode = rustix::fs::Mode::empty();
    rustix::fs::mknodat(rustix::fs::CWD, upper.join("bin/a"), rustix::fs::FileType::CharacterDevice, mode, 0).expect("made");
    assert!(told().iter().any(|l| l == "D /bin/a"), "{:?}", told());
    // As an image's layer it hides the same, and unpacks to the same again.
    let mut archive = Vec::new();
    pack_layer(&upper, &mut archive).expect("packed");
    let back = scratch.dir("back");
    unpack(&archive[..], &back).expect("unpacked");
    assert!(list(&back).get("bin/a").is_some_and(|w| w == "other") && !back.join("etc/resolv.conf").exists());
    assert_eq!(fs::read_to_string(back.join("root/new")).expect("there"), "text");
}
