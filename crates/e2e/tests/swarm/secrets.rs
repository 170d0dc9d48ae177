//! J5: secrets and configs, from the command to the file in the container, and nowhere else.

use std::path::Path;
use std::process::{Command, Stdio};

use skep_e2e::bed::{Bed, LONG};
use skep_e2e::client::Client;
use skep_e2e::{Run, that, wait};
use skep_testkit::images;

use crate::needs;

/// What must be found in no file of a host.
const CANARY: &str = "canary-4f1d9b7c02";

/// Runs a command of the CLI with this on its standard input.
fn fed(bed: &Bed, args: &[&str], input: &str) -> Run {
    use std::io::Write;
    let mut command = bed.command("manager", args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("docker");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("docker reads");
    let done = child.wait_with_output().expect("docker ends");
    Run {
        command: format!("{command:?}"),
        code: done.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&done.stdout).into_owned(),
        err: String::from_utf8_lossy(&done.stderr).into_owned(),
    }
}

/// Files of a directory with the canary in them.
fn found_in(dir: &Path) -> String {
    let grep = Command::new("grep").args(["-rlaF", CANARY]).arg(dir).output().expect("grep");
    String::from_utf8_lossy(&grep.stdout).into_owned()
}

#[test]
fn a_secret_reaches_its_tasks_and_no_disk() {
    needs!();
    a_secret_reaches_its_tasks_and_no_disk_by(Client::Docker, 66);
}

#[test]
fn a_secret_reaches_its_tasks_and_no_disk_by_skep() {
    needs!();
    a_secret_reaches_its_tasks_and_no_disk_by(Client::Skep, 116);
}

fn a_secret_reaches_its_tasks_and_no_disk_by(client: Client, number: u8) {
    let bed = Bed::swarm(number, 3, 1).by(client);
    let image = images::busybox().unwrap_or_else(|| panic!("no busybox on this machine"));
    bed.load(images::archive(&image, "busybox:1.28"));
    let d = |args: &str| bed.d("manager", args);
    assert_eq!(fed(&bed, &["secret", "create", "--label", "a=b", "my-pw", "-"], CANARY).ok().len(), 25);
    assert_eq!(fed(&bed, &["config", "create", "site", "-"], "port = 80\n").ok().len(), 25);
    let template = format!("{{{{.Task.Slot}}}}/{{{{env \"A\"}}}}/{{{{secret \"pw\"}}}}/{CANARY}");
    let _ = fed(&bed, &["config", "create", "--template-driver", "golang", "filled", "-"], &template).ok();
    assert_eq!(d("secret ls --format {{.Name}}").ok(), "my-pw");
    let shown = d("secret inspect my-pw").ok();
    assert!(!shown.contains("Data") && shown.contains("\"a\": \"b\""), "{shown}");
    assert!(d("config inspect --pretty site").ok().contains("port = 80"));

    // Only on worker1 at first: what worker2 never needed, it must not have.
    let files = "--secret source=my-pw,target=pw,uid=7,gid=8,mode=0440 --secret source=my-pw,target=/etc/deep/key \
                 --config site --config source=filled,target=/filled";
    let service =
        format!("service create -d --name client --constraint node.hostname==worker1 -e A=x {files} busybox:1.28 sleep 10000");
    let _ = d(&service).ok();
    bed.await_running("manager", "client", 1, LONG);
    let container = bed.d("worker1", "ps -q").ok();
    let run = |command: &[&str]| bed.docker("worker1", &[&["exec", container.as_str()], command].concat());
    assert_eq!(run(&["cat", "/run/secrets/pw"]).ok(), CANARY);
    assert_eq!(run(&["cat", "/etc/deep/key"]).ok(), CANARY);
    assert_eq!(run(&["cat", "/site"]).ok(), "port = 80");
    assert_eq!(run(&["cat", "/filled"]).ok(), format!("1/x/{CANARY}/{CANARY}"));
    assert_eq!(run(&["stat", "-c", "%a %u %g", "/run/secrets/pw"]).ok(), "440 7 8");
    assert_eq!(run(&["stat", "-c", "%a %u %g", "/etc/deep/key"]).ok(), "444 0 0");
    for file in ["/run/secrets/pw", "/etc/deep/key", "/filled"] {
        assert_eq!(run(&["stat", "-f", "-c", "%T", file]).ok(), "tmpfs", "{file}");
        run(&["sh", "-c", &format!("echo x > {file}")]).fails("Read-only file system");
    }
    assert_eq!(run(&["ls", "/run/secrets"]).ok(), "pw");
    let mounts = run(&["grep", " /run/secrets ", "/proc/mounts"]).ok();
    assert!(mounts.contains("ro,nosuid,nodev,noexec"), "{mounts}");

    // In use, by its name and in both kinds of object.
    d("secret rm my-pw").fails("secret 'my-pw' is in use by the following service: client");
    d("config rm site").fails("config 'site' is in use by the following service: client");

    // A restart of the daemon leaves the files where they are; nothing of them is on any disk of any host.
    bed.kill_daemon("worker1");
    bed.start_daemon("worker1");
    assert_eq!(run(&["cat", "/run/secrets/pw"]).ok(), CANARY);
    let place = &bed.playground.place;
    for host in &bed.playground.hosts {
        let data = host.data_root(place);
        assert_eq!(found_in(&data), "", "on {}", host.name);
    }
    assert_eq!(found_in(&place.run), "");
    // Another task on the same node gets them too, after that restart; killed, its container is replaced with all its files.
    let _ = d("service scale -d client=2").ok();
    bed.await_running("manager", "client", 2, LONG);
    let _ = bed.d("worker1", &format!("kill {container}")).ok();
    wait("the replacement", LONG, || {
        let ids = bed.d("worker1", "ps -q --no-trunc").out;
        that(ids.lines().count() == 2 && !ids.contains(&container), ids)
    });
    for id in bed.d("worker1", "ps -q").ok().lines() {
        assert_eq!(bed.docker("worker1", &["exec", id, "cat", "/run/secrets/pw"]).ok(), CANARY);
    }

    // Another secret in its place replaces the tasks; the old one is free then.
    let _ = fed(&bed, &["secret", "create", "my-pw2", "-"], "new").ok();
    let update = "service update -d --secret-rm my-pw --secret-add source=my-pw2,target=pw --config-rm filled client";
    let _ = d(update).ok();
    wait("all tasks to have the new one", LONG, || {
        let ids = bed.d("worker1", "ps -q").out;
        let all: Vec<String> =
            ids.lines().map(|id| bed.docker("worker1", &["exec", id, "cat", "/run/secrets/pw"]).out).collect();
        that(all == ["new", "new"], format!("{all:?}"))
    });
    let _ = d("service rm client").ok();
    for name in ["my-pw", "my-pw2"] {
        assert_eq!(d(&format!("secret rm {name}")).ok(), name);
    }
    assert_eq!(d("secret ls -q").ok(), "");
}

#[test]
fn bad_secrets_and_configs_are_refused() {
    needs!();
    let bed = Bed::swarm(67, 1, 1);
    let d = |args: &str| bed.d("manager", args);
    let create = |kind: &str, name: &str, data: &str| fed(&bed, &[kind, "create", name, "-"], data);
    let _ = create("secret", "taken", "x").ok();
    create("secret", "taken", "y").fails("rpc error: code = AlreadyExists desc = secret taken already exists");
    let _ = create("config", "taken", "the other kind").ok();
    create("secret", "_bad", "x").fails("invalid name, only 64 [a-zA-Z0-9-_.] characters allowed");
    create("secret", &"n".repeat(65), "x").fails("invalid name, only 64");
    create("secret", "large", &"x".repeat(512_000)).fails("secret data must be larger than 0 and less than 512000 bytes");
    let _ = create("secret", "fits", &"x".repeat(511_999)).ok();
    create("config", "large", &"x".repeat(1_024_000)).fails("config data must be larger than 0 and less than 1024000 bytes");
    let _ = create("config", "fits", &"x".repeat(1_023_999)).ok();
    let loops = fed(&bed, &["config", "create", "--template-driver", "golang", "loop", "-"], "{{range .}}x{{end}}");
    loops.fails("template: unknown placeholder {{range .}}");
    fed(&bed, &["secret", "create", "--template-driver", "mustache", "m", "-"], "x").fails("unsupported template driver");
    let both = serde_json::json!({"Name": "v", "Driver": {"Name": "vault"}, "Data": "eA=="});
    let (status, text) = bed.refused("manager", "POST", "/secrets/create", Some(&both));
    assert!(status == 400 && text.contains("a secret with a driver has no data of its own"), "{status} {text}");
    let nameless = serde_json::json!({"Name": "v", "Driver": {"Options": {"a": "b"}}});
    let (status, text) = bed.refused("manager", "POST", "/secrets/create", Some(&nameless));
    assert!(status == 400 && text.contains("driver name: name must be provided"), "{status} {text}");
    d("secret rm nothing").fails("nothing");
    d("secret inspect nothing").fails("secret nothing not found");
    let post = |body: serde_json::Value| bed.refused("manager", "POST", "/secrets/create", Some(&body));
    let (status, text) = post(serde_json::json!({"Name": "a", "Data": "***"}));
    assert!(status == 400 && text.contains("is not base64"), "{status} {text}");
    assert_eq!(post(serde_json::json!({"Name": "a"})).0, 400);
    let id = bed.api("manager", "GET", "/secrets/taken", None).expect("there");
    let version = &id["Version"]["Index"];
    let path = format!("/secrets/taken/update?version={version}");
    let body = |data: &str| serde_json::json!({"Name": "taken", "Data": data, "Labels": {"a": "b"}});
    let (status, text) = bed.refused("manager", "POST", &path, Some(&body("eQ==")));
    assert_eq!((status, text.as_str()), (400, "rpc error: code = InvalidArgument desc = only updates to Labels are allowed"));
    bed.api("manager", "POST", &path, Some(&body("eA=="))).expect("the same data and other labels");
    let (status, text) = bed.refused("manager", "POST", &path, Some(&body("eA==")));
    assert_eq!((status, text.as_str()), (500, "rpc error: code = Unknown desc = update out of sequence"));
    assert_eq!(bed.api("manager", "GET", "/secrets/taken", None).expect("there")["Spec"]["Labels"]["a"], "b");
}

#[test]
fn a_service_cannot_name_what_is_not_there() {
    needs!();
    let bed = Bed::swarm(68, 1, 1);
    let spec = |secrets: serde_json::Value| serde_json::json!({"Name": "s", "TaskTemplate": {"ContainerSpec": {"Image": "busybox:1.28", "Secrets": secrets}}});
    let refused = |secrets| bed.refused("manager", "POST", "/services/create", Some(&spec(secrets)));
    let file = serde_json::json!({"Name": "x", "UID": "0", "GID": "0", "Mode": 292});
    let (status, text) = refused(serde_json::json!([{"SecretID": "gone", "SecretName": "gone", "File": file}]));
    assert_eq!((status, text.as_str()), (400, "rpc error: code = InvalidArgument desc = secret not found: gone"));
    let (status, text) = refused(serde_json::json!([{"SecretID": "gone", "SecretName": "gone"}]));
    assert_eq!((status, text.contains("no target provided")), (400, true));
    assert_eq!(bed.api("manager", "GET", "/services", None).expect("a list"), serde_json::json!([]));
}
