//! Images through a real registry (Debian's `docker-registry`) on the loopback, and through archives. Needs root, as layers do.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use skep_image::{ImageBuilder, ImageError, ImageStore, RegistryOptions};
use skep_types::host::{Progress, RegistryAuth, Removed};
use tokio::sync::mpsc;

/// A directory, and a registry in it, that go with the test.
struct World {
    dir: PathBuf,
    registry: Option<(Child, u16)>,
}

impl World {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("skep-timage-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        Self { dir, registry: None }
    }

    fn store(&self, name: &str) -> Arc<ImageStore> {
        Arc::new(ImageStore::open(&self.dir.join(name), RegistryOptions::default()).unwrap())
    }

    /// Starts the registry; its `host:port`.
    fn serve(&mut self) -> String {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = self.dir.join("registry.yml");
        let root = self.dir.join("registry");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: 127.0.0.1:{port}}}\n",
            root.display()
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        self.registry = Some((command.spawn().unwrap(), port));
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "the registry does not listen");
            std::thread::yield_now();
        }
        format!("127.0.0.1:{port}")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.registry {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn app() -> ImageBuilder {
    // enough to be sent in more than one piece
    let large: Vec<u8> = (0..9u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    ImageBuilder::new()
        .file("/bin/app", "#!/bin/sh\n", 0o4755)
        .file("/data/large", large, 0o600)
        .link("/bin/sh", "app")
        .dir("/empty", 0o700)
        .entrypoint(&["/bin/app"])
        .cmd(&["-x"])
        .env("PATH", "/bin")
        .expose("80/tcp")
        .label("a", "b")
}

fn archive(tag: &str) -> Vec<u8> {
    let mut out = Vec::new();
    app().write(tag, &mut out).unwrap();
    out
}

/// A receiver of everything, and what it got.
fn listen() -> (mpsc::Sender<Progress>, tokio::task::JoinHandle<Vec<Progress>>) {
    let (sender, mut receiver) = mpsc::channel(16);
    let all = tokio::spawn(async move {
        let mut all = Vec::new();
        while let Some(step) = receiver.recv().await {
            all.push(step);
        }
        all
    });
    (sender, all)
}

fn nobody() -> RegistryAuth {
    RegistryAuth::default()
}

fn unused(_: &str) -> Vec<(String, bool)> {
    Vec::new()
}

fn check(store: &ImageStore, name: &str) {
    let info = store.get(name).unwrap();
    assert_eq!((info.entrypoint, info.cmd), (vec!["/bin/app".to_owned()], vec!["-x".to_owned()]));
    assert_eq!(info.exposed_ports, ["80/tcp"]);
    assert!(info.size > 9 << 20);
    let layers = store.mount_plan(name).unwrap();
    assert_eq!(layers.len(), 1);
    assert_eq!(fs::read_to_string(layers[0].join("bin/app")).unwrap(), "#!/bin/sh\n");
    assert_eq!(fs::metadata(layers[0].join("bin/app")).unwrap().permissions().mode() & 0o7777, 0o4755);
    assert_eq!(fs::metadata(layers[0].join("data/large")).unwrap().len(), 9 << 20);
}

fn files(dir: &Path) -> usize {
    fs::read_dir(dir).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_trip_through_a_registry() {
    let mut world = World::new("trip");
    let registry = world.serve();
    let name = format!("{registry}/team/app:1");
    let here = world.store("here");
    assert_eq!(here.load_from(archive("app:1").as_slice()).unwrap(), ["app:1"]);
    check(&here, "app:1");
    here.tag("app:1", &name).unwrap();

    let (sender, steps) = listen();
    let digest = here.push(&name, &nobody(), &sender).await.unwrap();
    drop(sender);
    let steps = steps.await.unwrap();
    assert!(steps.iter().any(|s| s.status == "Pushed"), "{steps:?}");
    assert!(steps.last().unwrap().status.starts_with("1: digest: sha256:"), "{steps:?}");
    let (sender, steps) = listen();
    assert_eq!(here.push(&name, &nobody(), &sender).await.unwrap(), digest);
    drop(sender);
    assert!(steps.await.unwrap().iter().any(|s| s.status == "Layer already exists"));
    assert_eq!(here.resolve_digest(&name, &nobody()).await.unwrap(), digest);
    let remote = here.remote(&name, &nobody()).await.unwrap();
    assert_eq!((remote.digest.as_str(), remote.platforms[0].0.as_str()), (digest.as_str(), "linux"));

    let there = world.store("there");
    for (expected, status) in [(2, "Status: Downloaded newer image for"), (1, "Status: Image is up to date for")] {
        let (sender, steps) = listen();
        let info = there.pull(&name, &nobody(), &sender).await.unwrap();
        drop(sender);
        let steps = steps.await.unwrap();
        assert_eq!(info.id, here.get("app:1").unwrap().id);
        assert_eq!(info.repo_digests, [format!("{registry}/team/app@{digest}")]);
        assert_eq!((steps[0].id.as_str(), steps[0].status.as_str()), ("1", "Pulling from team/app"));
        assert_eq!(steps.last().unwrap().status, format!("{status} {name}"));
        let complete = steps.iter().filter(|s| s.status.ends_with(" complete")).count();
        assert_eq!(complete, if expected == 2 { 2 } else { 0 }, "{steps:?}");
    }
    check(&there, &name);
    let pinned = format!("{registry}/team/app@{digest}");
    let (sender, _) = listen();
    there.pull(&pinned, &nobody(), &sender).await.unwrap();
    check(&there, &pinned);

    // refusals, in Docker's words
    let missing = format!("{registry}/team/app:2");
    let error = there.pull(&missing, &nobody(), &sender).await.unwrap_err();
    assert_eq!(error.to_string(), format!("manifest for {missing} not found: manifest unknown: manifest unknown"));
    assert_eq!(error.status(), 404);
    let error = there.pull("Upper", &nobody(), &sender).await.unwrap_err();
    assert_eq!(error.to_string(), "invalid reference format: repository name (Upper) must be lowercase");
    let error = there.push("never:1", &nobody(), &sender).await.unwrap_err();
    assert!(error.to_string().contains("An image does not exist locally"), "{error}");

    // a restarted store knows it; removal leaves nothing
    drop(there);
    let there = world.store("there");
    check(&there, &name);
    let id = there.get(&name).unwrap().id;
    let removed = there.remove(&name, false, &unused).unwrap();
    assert!(removed.contains(&Removed::Untagged(name.clone())) && removed.contains(&Removed::Deleted(id)), "{removed:?}");
    assert_eq!(files(&world.dir.join("there/image/blobs/sha256")), 0);
    assert_eq!(files(&world.dir.join("there/image/layers")), 0);
    assert_eq!(there.get(&name).unwrap_err().to_string(), format!("No such image: {name}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_lies_is_found_out() {
    let mut world = World::new("lies");
    let registry = world.serve();
    let name = format!("{registry}/app:1");
    let here = world.store("here");
    here.load_from(archive(&name).as_slice()).unwrap();
    let (sender, steps) = listen();
    here.push(&name, &nobody(), &sender).await.unwrap();
    let layer = here.get(&name).unwrap().layers[0].trim_start_matches("sha256:").to_owned();
    let data = world.dir.join(format!("registry/docker/registry/v2/blobs/sha256/{}/{layer}/data", &layer[..2]));
    let mut bytes = fs::read(&data).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&data, bytes).unwrap();
    let there = world.store("there");
    let error = there.pull(&name, &nobody(), &sender).await.unwrap_err();
    assert!(error.chain().contains("digest"), "{}", error.chain());
    assert_eq!(there.count(), 0);
    assert!(!world.dir.join(format!("there/image/blobs/sha256/{layer}")).exists());
    drop(sender);
    steps.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_and_names() {
    let world = World::new("names");
    let here = world.store("here");
    let (sender, steps) = listen();
    let names = here.load(Box::pin(std::io::Cursor::new(archive("app:1"))), &sender).await.unwrap();
    assert_eq!(names, ["app:1"]);
    drop(sender);
    assert_eq!(steps.await.unwrap()[0].stream.as_deref(), Some("Loaded image: app:1\n"));
    let id = here.get("app:1").unwrap().id;

    // saved and loaded elsewhere it is the same
    here.tag("app:1", "other/name:x").unwrap();
    let mut saved = Vec::new();
    here.save(&["app:1".to_owned(), "other/name:x".to_owned()], &mut saved).unwrap();
    let mut gzipped = Vec::new();
    flate2::read::GzEncoder::new(saved.as_slice(), flate2::Compression::fast()).read_to_end(&mut gzipped).unwrap();
    let there = world.store("there");
    assert_eq!(there.load_from(gzipped.as_slice()).unwrap(), ["app:1", "other/name:x"]);
    assert_eq!(there.get("other/name:x").unwrap().id, id);
    check(&there, &id[7..19]);
    assert!(matches!(there.load_from(&b"no archive"[..]), Err(ImageError::Io { .. } | ImageError::Invalid { .. })));

    // by its repository it comes with all its tags, by its id without any, and twice named only once
    here.tag("app:1", "app:2").unwrap();
    let saved_as = |names: &[&str]| {
        let mut saved = Vec::new();
        here.save(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>(), &mut saved).unwrap();
        let mut names = world.store(&format!("for-{}", names.len())).load_from(saved.as_slice()).unwrap();
        names.sort();
        names
    };
    assert_eq!(saved_as(&["app", "app:2"]), ["app:1", "app:2"]);
    assert_eq!(saved_as(&[&id[7..19]]).concat(), id);
    assert_eq!(here.save(&["nothing".to_owned()], &mut Vec::new()).unwrap_err().status(), 404);
    let steps: Vec<u64> = here.history("app:1").unwrap().iter().map(|s| s.size).collect();
    assert_eq!(steps.iter().sum::<u64>(), here.get("app:1").unwrap().size);

    // names go one by one; the image with the last, unless a container needs it
    assert_eq!(there.remove("app:1", false, &unused).unwrap(), [Removed::Untagged("app:1".to_owned())]);
    let used = |_: &str| vec![("c0ffee".to_owned(), true)];
    let error = there.remove("other/name:x", false, &used).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "conflict: unable to remove repository reference \"other/name:x\" (must force) - container c0ffee is using its \
             referenced image {}",
            &id[7..19]
        )
    );
    let error = there.remove(&id, true, &used).unwrap_err();
    assert_eq!((error.status(), error.to_string().contains("(cannot be forced)")), (409, true));
    there.remove(&id, false, &unused).unwrap();
    assert_eq!(there.get("missing").unwrap_err().to_string(), "No such image: missing:latest");

    // a root filesystem becomes an image
    let mut rootfs = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(2);
    header.set_mode(0o644);
    rootfs.append_data(&mut header, "etc/x", &b"hi"[..]).unwrap();
    let bytes = rootfs.into_inner().unwrap();
    let changes = ["CMD [\"/x\"]".to_owned(), "ENV A=b".to_owned(), "EXPOSE 53/udp".to_owned()];
    let made = there.import(Box::pin(std::io::Cursor::new(bytes)), "root:1", &changes, "made").await.unwrap();
    let info = there.get("root:1").unwrap();
    assert_eq!((info.id, info.cmd, info.env), (made, vec!["/x".to_owned()], vec!["A=b".to_owned()]));
    assert_eq!(fs::read(there.mount_plan("root:1").unwrap()[0].join("etc/x")).unwrap(), b"hi");
}
