//! Looking into a container and changing it while it is there, by both clients: `cp`, `diff`, `export`, `commit`, `top`, `stats`,
//! `pause`, `rename`, `update`, and the pruning of what nobody uses.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use skep_e2e::bed::{Bed, LONG};
use skep_e2e::client::Client;
use skep_e2e::{Run, that, wait};
use skep_testkit::images;

use crate::needs;

/// One host with busybox, and a container of it that sleeps.
fn bed_with_sleeper(number: u8, options: &str) -> Bed {
    let bed = Bed::bare(number, 1, &[]);
    let busybox = images::busybox().unwrap_or_else(|| panic!("no busybox on this machine"));
    bed.load(images::archive(&busybox, "busybox:latest"));
    let _ = bed.d("manager", &format!("run -d --name box {options} busybox sleep 100000")).ok();
    bed
}

/// Runs a script in the container.
fn sh(bed: &Bed, script: &str) -> String {
    bed.docker("manager", &["exec", "box", "sh", "-c", script]).ok()
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
    std::fs::write(path, text).expect("written");
}

#[test]
fn files_go_in_and_out() {
    needs!();
    let bed = bed_with_sleeper(112, "-v data:/data --tmpfs /scratch");
    for client in Client::BOTH {
        let dir = bed.playground.place.data.join(client.name());
        let m = |args: &[&str]| client.run(&bed, "manager", args);
        let at = |name: &str| dir.join(name).display().to_string();
        write(&dir.join("tree/one"), "1\n");
        write(&dir.join("tree/deep/er/two"), "2\n");
        std::os::unix::fs::symlink("one", dir.join("tree/link")).expect("linked");
        let _ = sh(&bed, "rm -rf /in /data/*; mkdir /in");
        // A file to a name, a file into a directory, a tree into one, a tree's content, into a volume.
        let _ = m(&["cp", &at("tree/one"), "box:/in/renamed"]).ok();
        let _ = m(&["cp", &at("tree/one"), "box:/in"]).ok();
        let _ = m(&["cp", &at("tree"), "box:/in"]).ok();
        let _ = m(&["cp", &at("tree/."), "box:/in/new"]).ok();
        let _ = m(&["cp", &at("tree"), "box:/data/tree"]).ok();
        assert_eq!(
            sh(&bed, "cat /in/renamed /in/one /in/tree/deep/er/two /in/new/deep/er/two /data/tree/link"),
            "1\n1\n2\n2\n1"
        );
        assert_eq!(sh(&bed, "readlink /in/tree/link"), "one");
        assert_eq!(sh(&bed, "stat -c %u:%a /in/one"), "0:644");
        // Back: a tree under another name, a file, a symlink, the content of a directory, standard output.
        let _ = m(&["cp", "box:/in/tree", &at("back")]).ok();
        let _ = m(&["cp", "box:/data/tree/one", &at("file")]).ok();
        let _ = m(&["cp", "box:/in/tree/link", &at("back/other")]).ok();
        let _ = m(&["cp", "box:/in/new/.", &at("back")]).ok();
        let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!((read("back/deep/er/two"), read("file"), read("back/one")), ("2\n".into(), "1\n".into(), "1\n".into()));
        assert_eq!(std::fs::read_link(dir.join("back/other")).expect("a link").display().to_string(), "one");
        let archive = m(&["cp", "box:/in/tree", "-"]).ok();
        assert!(archive.contains("tree/deep/er/two"), "{archive:?}");
        // What cannot be.
        m(&["cp", "box:/nothing", &at("x")]).fails("Could not find the file /nothing in container box");
        m(&["cp", &at("nothing"), "box:/"]).fails("no such file or directory");
        let refused = m(&["cp", &at("tree"), "box:/in/one"]);
        assert!(refused.code == 1 && refused.err.contains("cannot copy directory"), "{refused:?}");
        m(&["cp", "box:/in", "box:/out"]).fails("copying between containers is not supported");
        m(&["cp", "gone:/in", &at("x")]).fails("No such container: gone");

        // It need not run.
        let _ = m(&["stop", "-t", "0", "box"]).ok();
        let _ = m(&["cp", &at("tree/one"), "box:/data/stopped"]).ok();
        let _ = m(&["cp", "box:/data/tree/deep", &at("stopped")]).ok();
        assert_eq!(read("stopped/er/two"), "2\n");
        let _ = m(&["start", "box"]).ok();
        assert_eq!(sh(&bed, "cat /data/stopped"), "1");

        // Changes, by kind; what the volume has is none.
        let _ = sh(&bed, "rm -rf /in; echo x > /root/added; rm /bin/yes; echo me:x:1:1::/: >> /etc/passwd");
        let changes = m(&["diff", "box"]).ok();
        for line in ["A /root/added", "C /root", "D /bin/yes", "C /bin", "C /etc/passwd"] {
            assert!(changes.lines().any(|l| l == line), "{line}: {changes}");
        }
        assert!(!changes.contains("/proc") && !changes.contains("stopped") && !changes.contains("hosts"), "{changes}");

        // All of it as an archive, and as an image.
        let _ = m(&["export", "-o", &at("all.tar"), "box"]).ok();
        let listed = Run::of(Command::new("tar").args(["-tf", &at("all.tar")])).ok();
        assert!(listed.lines().any(|l| l == "root/added") && !listed.contains("data/tree"), "{listed}");
        let made = m(&["commit", "-a", "me", "-m", "why", "-c", "ENV COLOUR=red", "-c", "CMD [\"env\"]", "box", "made:1"]).ok();
        assert!(made.starts_with("sha256:"), "{made}");
        let ran = m(&["run", "--rm", "made:1"]).ok();
        assert!(ran.contains("COLOUR=red"), "{ran}");
        let ran = m(&["run", "--rm", "made:1", "sh", "-c", "cat /root/added; ls /bin/yes; tail -n 1 /etc/passwd"]);
        assert!(ran.out.starts_with("x\nme:x:1:1") && ran.err.contains("/bin/yes: No such file"), "{ran:?}");
        let changes = ["-c", "ENV COLOUR=blue", "-c", "EXPOSE 9/sctp"];
        let _ = m(&[&["import"], &changes[..], &[&at("all.tar"), "brought:1"]].concat()).ok();
        let config = m(&["inspect", "--format", "{{.Config.Env}} {{json .Config.ExposedPorts}}", "brought:1"]).ok();
        assert!(config.contains("COLOUR=blue") && config.contains("{\"9/sctp\":{}}"), "{config}");
        let _ = m(&["rmi", "made:1", "brought:1"]).ok();
        let _ = sh(&bed, "sed -i /^me:/d /etc/passwd; rm /root/added; ln -s /bin/busybox /bin/yes");
    }
}

/// Races and traps that others set (CVE-2018-15664 and its kin): what is copied stays inside.
#[test]
fn nothing_leads_out_of_a_container() {
    needs!();
    let bed = bed_with_sleeper(113, "-v data:/data");
    let d = |args: &[&str]| bed.docker("manager", args);
    let dir = bed.playground.place.data.join("outside");
    write(&dir.join("secret"), "host\n");
    let outside = dir.display().to_string();
    // Links that lead out of the root, by name and by going up, lead to the container's own files.
    let _ = sh(&bed, &format!("ln -s {outside} /out; ln -s ../../../../../../..{outside} /up; ln -s /proc/1/root /magic"));
    for path in ["/out/secret", "/up/secret", "/magic/etc/passwd"] {
        let got = d(&["cp", &format!("box:{path}"), &dir.join("got").display().to_string()]);
        assert_eq!(got.code, 1, "{path}: {got:?}");
    }
    write(&dir.join("payload"), "evil\n");
    for path in ["/out/", "/up/"] {
        let put = d(&["cp", &dir.join("payload").display().to_string(), &format!("box:{path}")]);
        assert_eq!(put.code, 1, "{path}: {put:?}");
    }
    let _ = sh(&bed, &format!("mkdir -p {outside}"));
    let _ = d(&["cp", &dir.join("payload").display().to_string(), "box:/out/planted"]).ok();
    assert!(!dir.join("planted").exists());
    assert_eq!(sh(&bed, &format!("cat {outside}/planted")), "evil");
    // The kernel's own files are no files; a pipe is not waited for.
    let _ = sh(&bed, "mkdir /odd; mkfifo /odd/pipe; mknod /odd/null c 1 3");
    let listed = d(&["cp", "box:/odd", "-"]).ok();
    assert!(listed.contains("odd/pipe") && listed.contains("odd/null"), "{listed:?}");
    assert_eq!(d(&["cp", "box:/proc/kcore", "-"]).code, 1);
    // An archive that tries to leave.
    let mut evil = Vec::new();
    for (name, kind, link) in [("../escaped", b'0', ""), ("a", b'2', "/"), ("a/../../escaped2", b'0', "")] {
        let mut h = [0u8; 512];
        h[..name.len()].copy_from_slice(name.as_bytes());
        h[100..107].copy_from_slice(b"0000644");
        h[108..115].copy_from_slice(b"0000000");
        h[116..123].copy_from_slice(b"0000000");
        h[124..135].copy_from_slice(b"00000000000");
        h[136..147].copy_from_slice(b"00000000000");
        h[156] = kind;
        h[157..157 + link.len()].copy_from_slice(link.as_bytes());
        h[257..263].copy_from_slice(b"ustar\0");
        h[263..265].copy_from_slice(b"00");
        h[148..156].fill(b' ');
        let sum: u32 = h.iter().map(|b| u32::from(*b)).sum();
        h[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        evil.extend_from_slice(&h);
    }
    evil.extend_from_slice(&[0; 1024]);
    let file = dir.join("evil.tar");
    std::fs::write(&file, &evil).expect("written");
    let mut put = bed.command("manager", &["cp", "-", "box:/data"]);
    put.stdin(std::fs::File::open(&file).expect("opened")).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(!put.status().expect("run").success());
    assert_eq!(sh(&bed, "ls / /data | grep -c escaped; true"), "0");
    // A directory that is exchanged for a link all the while.
    let script =
        format!("mkdir /real; echo in > /real/secret; while true; do ln -sfn /real /flip; ln -sfn {outside} /flip; done");
    let _ = d(&["exec", "-d", "box", "sh", "-c", &script]).ok();
    for _ in 0..30 {
        let got = d(&["cp", "box:/flip/secret", "-"]);
        assert!(!got.out.contains("host"), "{got:?}");
    }
    // What is read-only stays so.
    let _ = bed.d("manager", "run -d --read-only --name fixed -v data:/data:ro busybox sleep 1000").ok();
    let payload = dir.join("payload").display().to_string();
    for running in [true, false] {
        d(&["cp", &payload, "fixed:/x"]).fails("container rootfs is marked read-only");
        d(&["cp", &payload, "fixed:/data/x"]).fails("mounted volume is marked read-only");
        if running {
            let _ = d(&["stop", "-t", "0", "fixed"]).ok();
        }
    }
}

#[test]
fn a_container_is_watched_and_changed() {
    needs!();
    let bed = bed_with_sleeper(114, "-m 64m");
    for client in Client::BOTH {
        let m = |args: &str| client.line(&bed, "manager", args);
        let top = m("top box").ok();
        let head: Vec<&str> = top.lines().next().unwrap_or_default().split_whitespace().collect();
        assert_eq!(head, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
        assert!(top.lines().any(|l| l.starts_with("root") && l.ends_with("sleep 100000")), "{top}");
        assert_eq!(m("top box -o pid,comm").ok().lines().nth(1).map(|l| l.ends_with("sleep")), Some(true));
        let stats = m("stats --no-stream --format {{.Name}}|{{.MemUsage}}|{{.PIDs}}|{{.CPUPerc}} box").ok();
        assert!(stats.starts_with("box|") && stats.contains(" / 64MiB|1|") && stats.ends_with('%'), "{stats}");
        assert!(m("stats --no-stream").ok().lines().any(|l| l.contains("box")), "no table");

        let _ = m("pause box").ok();
        assert!(m("ps --format {{.Status}}").ok().ends_with("(Paused)"));
        assert_eq!(m("inspect --format {{.State.Status}} box").ok(), "paused");
        m("exec box true").fails("is paused, unpause the container before exec");
        m("pause box").fails("is already paused");
        // A daemon that starts again knows.
        bed.kill_daemon("manager");
        bed.start_daemon("manager");
        assert_eq!(m("ps -q --filter status=paused").ok().lines().count(), 1);
        let _ = m("unpause box").ok();
        m("unpause box").fails("is not paused");
        assert_eq!(m("exec box echo on").ok(), "on");

        // A terminal has the user's size before the program looks.
        for line in ["exec -it box stty size", "run --rm -it busybox stty size"] {
            let shown = client.typed(&bed, "manager", line).ok();
            assert!(shown.contains("33 77"), "{line}: {shown:?}");
        }

        let _ = m("rename box other").ok();
        assert_eq!(m("exec other echo yes").ok(), "yes");
        assert_eq!(m("exec box true").code, 1);
        let _ = m("create --name third busybox true").ok();
        m("rename other third").fails("is already in use by container");
        let _ = m("rename other box").ok();

        let _ = m("update -m 128m --pids-limit 50 --cpus 0.5 --restart always box").ok();
        let shown = m("inspect --format {{.HostConfig.Memory}}|{{.HostConfig.PidsLimit}}|{{.HostConfig.NanoCpus}}|{{.HostConfig.RestartPolicy.Name}} box").ok();
        assert_eq!(shown, "134217728|50|500000000|always");
        let stats = m("stats --no-stream --format {{.MemUsage}} box").ok();
        assert!(stats.ends_with("/ 128MiB"), "{stats}");
        m("update -m 1m box").fails("Minimum memory limit allowed is 6MB");
        let _ = m("update -m 64m --restart no box").ok();

        // What nobody uses is cleared away; what runs, and what has a name, is not.
        let _ = m("volume create kept").ok();
        let _ = m("run --name once -v /anonymous busybox true").ok();
        let df: Vec<Value> =
            m("system df --format json").ok().lines().map(|l| serde_json::from_str(l).expect("json")).collect();
        assert_eq!(
            df.iter().map(|r| r["Type"].as_str().unwrap_or_default()).collect::<Vec<_>>()[..3],
            ["Images", "Containers", "Local Volumes"]
        );
        assert_eq!((&df[1]["TotalCount"], &df[1]["Active"]), (&Value::from("3"), &Value::from("1")), "{df:?}");
        let pruned = m("container prune -f").ok();
        assert!(pruned.starts_with("Deleted Containers:\n") && pruned.contains("Total reclaimed space: "), "{pruned}");
        let left = m("ps -a --format {{.Names}}").ok();
        assert_eq!(left, "box");
        assert!(m("volume prune -f").ok().starts_with("Deleted Volumes:\n"));
        assert_eq!(m("volume ls -q").ok(), "kept");
        assert!(m("volume prune -a -f").ok().contains("kept"));
        let _ = m("tag busybox:latest spare:1").ok();
        assert!(m("image prune -f").ok().starts_with("Total reclaimed space: 0B"));
        assert!(m("image prune -a -f").ok().starts_with("Total reclaimed space: 0B"));
    }
    // A paused container stops when it is told to.
    let _ = bed.d("manager", "pause box").ok();
    let _ = bed.d("manager", "stop -t 1 box").ok();
    wait("it to be gone", LONG, || {
        let state = bed.d("manager", "inspect --format {{.State.Status}} box").out;
        that(state.trim() == "exited", state)
    });
}
