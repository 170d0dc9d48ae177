//! Volumes with options of the driver `local`: what is mounted while containers use them, and by whom it is seen.

use std::process::Command;

use serde_json::json;
use skep_e2e::bed::{Bed, LONG};
use skep_e2e::{Run, that, wait};
use skep_testkit::images;

use crate::needs;

fn busybox(bed: &Bed) {
    let image = images::busybox().unwrap_or_else(|| panic!("no busybox on this machine"));
    bed.load(images::archive(&image, "busybox:latest"));
}

/// Nothing of a volume is mounted on the host.
fn is_clean(bed: &Bed) -> bool {
    let pid = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let volumes = bed.playground.place.data.display().to_string();
    !pid.lines().any(|l| l.contains(&volumes) && l.contains("/volumes/"))
}

#[test]
fn a_volume_is_mounted_while_containers_use_it() {
    needs!();
    let bed = Bed::bare(140, 1, &[]);
    busybox(&bed);
    let d = |args: &str| bed.d("manager", args);
    let sh = |name: &str, script: &str| bed.docker("manager", &["exec", name, "sh", "-c", script]);
    let make = "volume create -o type=tmpfs -o device=tmpfs -o o=size=10m,uid=1000,noexec mem";
    assert_eq!(d(make).ok(), "mem");
    assert_eq!(d(make).ok(), "mem");
    d("volume create -o type=tmpfs -o device=tmpfs -o o=size=11m mem").fails("create mem: volume name must be unique");
    assert_eq!(d("volume inspect --format {{.Options.o}} mem").ok(), "size=10m,uid=1000,noexec");

    // One mount for all that have it at a time, whatever becomes of the daemon.
    let _ = d("run -d --name box-a -v mem:/m busybox sleep 100000").ok();
    assert_eq!(sh("box-a", "echo one > /m/one; stat -c %u /m; df -m /m | tail -1 | awk '{print $2}'").ok(), "1000\n10");
    assert!(sh("box-a", "cat /proc/mounts").ok().lines().any(|l| l.contains(" /m tmpfs ") && l.contains("noexec")));
    let _ = d("run -d --name box-b -v mem:/n:ro busybox sleep 100000").ok();
    assert_eq!(sh("box-b", "cat /n/one").ok(), "one");
    sh("box-b", "echo two > /n/two").fails("Read-only file system");
    assert!(is_clean(&bed));
    bed.kill_daemon("manager");
    bed.start_daemon("manager");
    let _ = d("rm -f box-a").ok();
    let _ = d("run -d --name box-a -v mem:/m busybox sleep 100000").ok();
    assert_eq!(sh("box-a", "cat /m/one; echo three > /m/three").ok(), "one");
    assert_eq!(sh("box-b", "cat /n/three").ok(), "three");
    // A container that does not run is looked into with the volume as the others have it.
    let _ = d("create --name box-c -v mem:/m busybox true").ok();
    let file = bed.scratch().join("one");
    let _ = bed.docker("manager", &["cp", "box-c:/m/one", &file.display().to_string()]).ok();
    assert_eq!(std::fs::read_to_string(&file).expect("copied"), "one\n");
    assert!(!d("diff box-c").ok().contains("/m/one"));
    let all = bed.docker("manager", &["export", "-o", &bed.scratch().join("all.tar").display().to_string(), "box-c"]);
    let _ = all.ok();
    // After the last one it is gone.
    let _ = d("rm -f box-a box-b").ok();
    assert_eq!(d("run --rm -v mem:/m busybox ls /m").ok(), "");
    d("volume rm mem").fails("volume is in use");
    let _ = d("rm box-c").ok();
    let _ = d("volume rm mem").ok();
    assert!(is_clean(&bed));
}

#[test]
fn directories_and_devices_of_the_host_are_volumes() {
    needs!();
    let bed = Bed::bare(141, 1, &[]);
    busybox(&bed);
    let d = |args: &str| bed.d("manager", args);
    let dir = bed.playground.place.data.join("exported");
    std::fs::create_dir_all(&dir).expect("made");
    std::fs::write(dir.join("kept"), "host\n").expect("written");
    let here = dir.display().to_string();
    let _ = d(&format!("volume create -o type=none -o o=bind -o device={here} bound")).ok();
    let ran = bed.docker(
        "manager",
        &["run", "--name", "box-a", "-v", "bound:/b", "busybox", "sh", "-c", "cat /b/kept; echo x > /b/new"],
    );
    assert_eq!(ran.ok(), "host");
    assert_eq!(std::fs::read_to_string(dir.join("new")).expect("through the mount"), "x\n");
    let _ = bed.docker("manager", &["cp", &dir.join("kept").display().to_string(), "box-a:/b/copied"]).ok();
    assert!(dir.join("copied").exists());
    let _ = d("rm box-a").ok();
    let _ = d("volume rm bound").ok();
    assert!(dir.join("kept").exists(), "what a volume names is not the volume's");

    // A device, by the mount of a service's or a container's own.
    let disk = bed.playground.place.data.join("disk");
    std::fs::File::create(&disk).and_then(|f| f.set_len(32 << 20)).expect("a sparse file");
    let _ = Run::of(Command::new("mkfs.ext4").args(["-q", &disk.display().to_string()])).ok();
    let device = Run::of(Command::new("losetup").args(["-f", "--show", &disk.display().to_string()])).ok();
    let mount = format!("type=volume,src=disk,dst=/d,volume-opt=type=ext4,volume-opt=device={device},volume-label=a=b");
    let ran = bed.docker("manager", &["run", "--rm", "--mount", &mount, "busybox", "sh", "-c", "echo kept > /d/file; ls /d"]);
    let again = d("run --rm -v disk:/d busybox cat /d/file");
    let _ = Run::of(Command::new("losetup").args(["-d", &device])).ok();
    assert_eq!(ran.ok(), "file\nlost+found");
    assert_eq!(again.ok(), "kept");
    assert_eq!(d("volume inspect --format {{.Labels.a}} disk").ok(), "b");

    // What cannot be mounted is told in words, and nothing else runs.
    for (name, options, words) in [
        ("nofs", "-o type=nosuchfs -o device=x", "mount x:".to_owned()),
        ("nofs2", "-o type=nosuchfs -o device=x -o o=password=hush", "data: password=********".to_owned()),
        ("nodir", "-o type=none -o o=bind -o device=/no/such/dir", "/no/such/dir does not exist on this host".to_owned()),
        (
            "nohost",
            "-o type=nfs -o o=addr=nas..invalid -o device=:/e",
            "error resolving passed in network volume address".to_owned(),
        ),
        ("nodev", &format!("-o type=ext4 -o device={}", disk.display()), "is no block device".to_owned()),
    ] {
        let _ = d(&format!("volume create {options} {name}")).ok();
        let ran = d(&format!("run --rm -v {name}:/x busybox true"));
        assert!(ran.code != 0 && ran.err.contains("error while mounting volume '") && ran.err.contains(&words), "{ran:?}");
        let _ = d(&format!("create --name {name} -v {name}:/x busybox true")).ok();
        let copied = d(&format!("cp {name}:/x -"));
        assert!(copied.code != 0 && copied.err.contains("error while mounting volume '"), "{copied:?}");
    }
    for (options, text) in [
        ("-o type=nfs", "create bad: missing required option: \"device\""),
        ("-o mountpoint=/x", "create bad: invalid option: \"mountpoint\""),
        ("-o size=10m", "create bad: quota size requested but no quota support"),
        ("-d rexray", "error looking up volume plugin rexray: plugin \"rexray\" not found"),
    ] {
        d(&format!("volume create {options} bad")).fails(text);
    }
    assert!(!d("volume ls -q").ok().lines().any(|l| l == "bad"));
    assert!(is_clean(&bed));
}

#[test]
fn a_services_volumes_have_options() {
    needs!();
    let bed = Bed::swarm(142, 1, 1);
    busybox(&bed);
    let m = |args: &[&str]| bed.docker("manager", args);
    let mount = "type=volume,src={{.Service.Name}},dst=/d,volume-driver=local,volume-opt=type=tmpfs,volume-opt=device=tmpfs,\
                 \"volume-opt=o=size=5m,uid=7\"";
    let _ = m(&["service", "create", "-d", "--name", "mem", "--replicas", "2", "--mount", mount, "busybox", "sleep", "100000"])
        .ok();
    let tasks = bed.await_running("manager", "mem", 2, LONG);
    assert_eq!(m(&["exec", &tasks[0].container, "sh", "-c", "echo hi > /d/x; stat -c %u /d"]).ok(), "7");
    assert_eq!(m(&["exec", &tasks[1].container, "cat", "/d/x"]).ok(), "hi");
    let spec =
        bed.api("manager", "GET", "/services/mem", None).expect("there")["Spec"]["TaskTemplate"]["ContainerSpec"].clone();
    let driver = json!({"Name": "local", "Options": {"type": "tmpfs", "device": "tmpfs", "o": "size=5m,uid=7"}});
    assert_eq!(spec["Mounts"][0]["VolumeOptions"]["DriverConfig"], driver);
    let volume = bed.api("manager", "GET", "/volumes/mem", None).expect("by its placeholder");
    assert_eq!(volume["Options"], driver["Options"]);

    // What a node cannot mount is to be read where users look.
    let nfs = "type=volume,src=far,dst=/d,volume-opt=type=nfs,volume-opt=device=:/e,volume-opt=o=addr=nas..invalid";
    let _ = m(&["service", "create", "-d", "--name", "far", "--mount", nfs, "busybox", "sleep", "100000"]).ok();
    wait("the reason to be told", LONG, || {
        let ps = m(&["service", "ps", "--no-trunc", "far"]).out;
        let text =
            "\"starting container failed: error while mounting volume 'far': error resolving passed in network volume address";
        that(ps.contains(text), ps)
    });
    m(&["service", "create", "--name", "bad", "--mount", "type=volume,src=v,dst=/d,volume-opt=type=nfs", "busybox"])
        .fails("invalid mount config: missing required option: \"device\"");

    // The same by a stack: its second deploy changes nothing.
    let file = bed.scratch().join("stack.yml");
    let text = "services: {web: {image: 'busybox:latest', command: sleep 100000, volumes: ['data:/d']}}\n\
                volumes: {data: {driver: local, driver_opts: {type: tmpfs, device: tmpfs, o: size=3m}}}\n";
    std::fs::write(&file, text).expect("written");
    let deploy =
        || bed.skep("manager", &["stack", "deploy", "--resolve-image", "never", "-c", &file.display().to_string(), "app"]);
    let _ = deploy().ok();
    let task = bed.await_running("manager", "app_web", 1, LONG).remove(0);
    assert!(m(&["exec", &task.container, "df", "-m", "/d"]).ok().contains(" 3 "));
    let _ = deploy().ok();
    assert_eq!(bed.await_running("manager", "app_web", 1, LONG)[0].id, task.id);
}
