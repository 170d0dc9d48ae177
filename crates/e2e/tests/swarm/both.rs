//! What both clients show of one daemon, line by line: lists in each of their forms, templates, texts of refusals; and the commands that no
//! journey has for both.

use std::cell::RefCell;

use serde_json::{Value, json};
use skep_e2e::bed::{Bed, LONG};
use skep_e2e::client::Client;
use skep_e2e::{that, wait};
use skep_testkit::images;

use crate::needs;

/// Ages come to the same in this many tries, and so does what both look at while it changes.
const TRIES: usize = 8;

/// What a run came to, with ages cut off, as they change while one looks, and with one name for both clients.
fn told(bed: &Bed, client: Client, args: &[&str]) -> String {
    let run = client.run(bed, "manager", args);
    let name = |text: String| {
        if client == Client::Skep {
            text.replace("/skep/", "/…/").replace("skep", "docker").replace("/…/", "/skep/")
        } else {
            text
        }
    };
    let ageless = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let cut = words.iter().position(|w| matches!(*w, "ago" | "second" | "seconds" | "minute" | "minutes"));
        cut.map_or_else(|| line.trim_end().to_owned(), |at| words[..at.saturating_sub(1)].join(" "))
    };
    let text = format!("exit {}\n{}\n--\n{}", run.code, run.out, name(run.err));
    text.lines().map(ageless).collect::<Vec<_>>().join("\n")
}

/// Holds what both say of a swarm against each other, and tells all that differs at the end.
struct Pair<'a> {
    bed: &'a Bed,
    differs: RefCell<Vec<String>>,
}

impl Pair<'_> {
    /// What both say; objects change while one looks, so there is more than one try.
    fn same(&self, args: &[&str]) -> String {
        let mut said = [String::new(), String::new()];
        for _ in 0..TRIES {
            said = Client::BOTH.map(|c| told(self.bed, c, args));
            if said[0] == said[1] {
                break;
            }
        }
        let [theirs, ours] = said;
        if theirs != ours {
            self.differs.borrow_mut().push(format!("{args:?}\ndocker: {theirs}\nskep: {ours}"));
        }
        theirs
    }

    fn line(&self, text: &str) -> String {
        self.same(&text.split_whitespace().collect::<Vec<_>>())
    }
}

fn with_busybox(number: u8, hosts: u8) -> Bed {
    let bed = Bed::swarm(number, hosts, 1);
    let image = images::busybox().unwrap_or_else(|| panic!("no busybox on this machine"));
    bed.load(images::archive(&image, "busybox:1.28"));
    bed
}

const STACK: &str = "version: '3.8'\nservices:\n  web:\n    image: busybox:1.28\n    command: [sleep, '100000']\n    stop_grace_period: 0s\n    \
                     environment: {A: 'one'}\n    deploy: {replicas: 2}\n    configs: [{source: site, target: /site}]\nconfigs:\n  \
                     site: {file: ./site}\n";

#[test]
fn both_clients_show_the_same() {
    needs!();
    let bed = with_busybox(150, 2);
    let dir = bed.scratch().join("both");
    std::fs::create_dir_all(&dir).expect("made");
    let file = |name: &str, text: &[u8]| {
        let path = dir.join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let (one, empty, stack) = (file("site", b"port = 80\n"), file("empty", b""), file("stack.yml", STACK.as_bytes()));
    let large = file("large", &vec![b'x'; 512_001]);
    for (client, n) in Client::BOTH.into_iter().zip(["1", "2"]) {
        let run = |args: &[&str]| client.run(&bed, "manager", args).ok();
        let _ = run(&["secret", "create", "-l", "a.b=1", &format!("pw{n}"), &one]);
        let _ = run(&["config", "create", "--template-driver", "golang", &format!("site{n}"), &one]);
        let _ = run(&["volume", "create", "--label", "a=b", &format!("vol{n}")]);
        let _ = run(&["stack", "deploy", "--resolve-image", "never", "--detach=false", "-q", "-c", &stack, &format!("st{n}")]);
    }
    let create = "service create -d --quiet --no-resolve-image --name big --secret pw1 --config source=site1,target=/c -p 8080:80 \
                  --mount type=volume,src=vol1,dst=/v -e A=b --label l=1 --container-label c=2 --constraint node.role==manager \
                  --limit-memory 64M --reserve-cpu 0.1 --update-delay 1s --rollback-delay 2s --hostname h --stop-grace-period 1s \
                  --restart-delay 3s --network st1_default busybox:1.28 sleep 100000";
    let _ = bed.d("manager", create).ok();
    let _ = bed.docker("manager", &["service", "update", "-d", "-q", "--health-cmd", "test -d /v", "big"]).ok();
    wait("the service to be as it was updated", LONG, || {
        let state = bed.d("manager", "service inspect -f {{.UpdateStatus.State}} big").out;
        that(state.trim() == "completed", state)
    });

    let pair = Pair { bed: &bed, differs: RefCell::default() };
    // Lists, in each of their forms. A row as a whole and types in errors are Go's own.
    let lists = [
        ("service ls", "{{.Name}} {{.Ports}}"),
        ("service ps big", "{{.Name}} {{.Node}}"),
        ("node ls", "{{.Hostname}} {{.TLSStatus}}"),
        ("node ps self", "{{.Name}}"),
        ("stack ls", "{{.Name}}={{.Services}}"),
        ("stack ps st1", "{{.ID}} {{.Name}}"),
        ("stack services st1", "{{.Name}} {{.Replicas}}"),
        ("secret ls", "{{.Name}} {{.Labels}} {{.Label \"a.b\"}}"),
        ("config ls", "{{.Name}} {{.Labels}}"),
        ("network ls", "{{.Name}} {{.Scope}} {{.Labels}}"),
        ("volume ls", "{{.Name}} {{.Labels}}"),
        ("images", "{{.Repository}}:{{.Tag}}"),
        ("ps", "{{.Names}} {{.Labels}}"),
        ("context ls", "{{.Name}} {{.Description}}"),
    ];
    for (list, own) in lists {
        let words: Vec<&str> = list.split_whitespace().collect();
        for format in [own, "", "raw", "json", "table", "{{json .}}", "{{", &format!("table {own}")] {
            // Ours has a column more here, the load of each node.
            if list != "node ls" || !matches!(format, "" | "table") {
                pair.same(&[&words[..], &["--format", format]].concat());
            }
        }
    }
    for quiet in
        ["service ls", "service ps big", "node ls", "stack ps st1", "stack ps --no-trunc st1", "secret ls", "config ls", "ps"]
    {
        pair.line(&format!("{quiet} -q"));
    }

    // One object: whole, for people, and by templates that show moments, durations, bytes and fields in their order.
    for object in [
        "service inspect big",
        "service inspect --pretty big",
        "service inspect nothing",
        "node inspect self",
        "secret inspect pw1 pw2",
        "secret inspect --pretty pw1",
        "secret inspect --pretty -f x pw1",
        "config inspect site1",
        "config inspect --pretty site1",
        "volume inspect vol1 nothing",
        "network inspect st1_default",
        "swarm ca",
        "secret inspect nothing pw1",
    ] {
        pair.line(object);
    }
    for (object, template) in [
        ("service big", "{{json .Spec}}"),
        ("service big", "{{.CreatedAt}} {{json .UpdatedAt}} {{println .ID}}"),
        ("service big", "{{.Spec.UpdateConfig.Delay}} {{.Spec.TaskTemplate.ContainerSpec.StopGracePeriod}}"),
        ("service big", "{{with .Spec.TaskTemplate}}{{.RestartPolicy.Delay}} {{json .ContainerSpec.Healthcheck}}{{end}}"),
        ("service big", "{{range .Endpoint.Ports}}{{.Protocol}}{{.TargetPort}}{{end}} {{.Spec.Mode.Replicated.Replicas}}"),
        ("node self", "{{json .Description.Engine.Plugins}} {{.CreatedAt}}"),
        ("secret pw1", "{{json .Spec}} {{.UpdatedAt}}"),
        ("config site1", "{{.Spec.Data}} {{printf \"%s\" .Spec.Data}} {{json .Spec}}"),
        ("volume vol1", "{{json .}}"),
        ("service big", "{{"),
    ] {
        let (group, name) = object.split_once(' ').expect("two words");
        pair.same(&[group, "inspect", "-f", template, name]);
    }
    for wrong in ["info", "version"] {
        let run = Client::Skep.run(&bed, "manager", &[wrong, "--format", "{{"]);
        assert_eq!(run.code, 64, "{run:?}");
        let empty = Client::Skep.run(&bed, "manager", &[wrong, "--format", ""]).ok();
        assert!(empty.lines().count() > 5, "{empty}");
    }

    // Refusals, word for word.
    let nowhere = dir.join("nowhere").display().to_string();
    for args in [
        &["secret", "create", "x"][..],
        &["secret", "create", "x", &nowhere],
        &["secret", "create", "x", &empty],
        &["secret", "create", "x", &large],
        &["secret", "create", "-d", "vault", "x", &one],
        &["secret", "create", "a b", &one],
        &["secret", "create", "pw1", &one],
        &["config", "create", "x", &nowhere],
        &["config", "create", "x", &empty],
        &["config", "create", "site1", &one],
        &["config", "rm", "site1"],
        &["secret", "rm", "pw1", "nothing"],
        &["service", "logs", "--since", "noon", "big"],
        &["events", "--since", "noon"],
        &["service", "create", "-p", "99999", "busybox"],
        &["service", "create", "--mount", "foo", "busybox"],
        &["service", "update", "--publish-rm", "x", "big"],
        &["inspect", "--type", "foo", "x"],
        &["service", "ls", "-f", "x"],
        &["stack", "deploy", "x"],
        &["stack", "config"],
        &["stack", "ps", "nothing"],
        &["network", "create", "-d", "overlay", "a b"],
        &["context", "use", "nothing"],
        &["context", "rm", "nothing"],
        &["context", "create", "cc", "--docker", "foo=bar"],
        &["context", "create", "cc", "--docker", "host=word"],
        &["--context", "nothing", "ps"],
    ] {
        let text = pair.same(args);
        assert!(!text.starts_with("exit 0"), "{args:?}: {text}");
    }
    // A group alone says what there is, and that is no output.
    for group in ["secret", "stack"] {
        let [theirs, ours] = Client::BOTH.map(|c| c.run(&bed, "manager", &[group]));
        assert_eq!((theirs.code, theirs.out), (ours.code, ours.out), "{group}");
        assert!(ours.err.contains("Commands:"), "{}", ours.err);
    }
    let differs = pair.differs.into_inner();
    assert!(differs.is_empty(), "{} differ:\n{}", differs.len(), differs.join("\n\n"));
}

#[test]
fn each_command_by_both_clients() {
    needs!();
    let bed = with_busybox(151, 1);
    let dir = bed.scratch().join("each");
    std::fs::create_dir_all(&dir).expect("made");
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let (_, stack) = (write("site", "port = 80\n"), write("stack.yml", STACK));
    let other = write("other.yml", &STACK.replace("replicas: 2", "replicas: 1"));
    for client in Client::BOTH {
        let run = |args: &str| client.line(&bed, "manager", args);
        let said = |args: &str| run(args).ok();
        // Settings and keys of the swarm: what one sets the next reads.
        let limit = if client == Client::Docker { 7 } else { 8 };
        assert_eq!(said(&format!("swarm update --task-history-limit {limit}")), "Swarm updated.");
        let swarm = bed.api("manager", "GET", "/swarm", None).expect("the swarm");
        assert_eq!(swarm["Spec"]["Orchestration"]["TaskHistoryRetentionLimit"], limit);
        let locked = said("swarm update --autolock=true");
        let key = locked.lines().find_map(|l| l.trim().strip_prefix("SWMKEY-1-")).map(|k| format!("SWMKEY-1-{k}"));
        assert_eq!(Some(said("swarm unlock-key -q")), key, "{locked}");
        assert!(said("swarm unlock-key").contains(&key.clone().unwrap_or_default()));
        let rotated = said("swarm unlock-key --rotate -q");
        assert!(rotated.starts_with("SWMKEY-1-") && Some(&rotated) != key.as_ref(), "{rotated}");
        assert_eq!(said("swarm update --autolock=false"), "Swarm updated.");
        assert!(said("swarm ca").starts_with("-----BEGIN CERTIFICATE-----"));
        run("swarm update --cert-expiry 59m").fails("minimum certificate expiry time is: 1h0m0s");

        // A stack's files, and its tasks.
        let name = client.name();
        assert!(said(&format!("stack config -c {stack}")).contains("image: busybox:1.28"));
        let _ = said(&format!("stack deploy --detach=false -q --resolve-image never -c {stack} {name}"));
        let ps = said(&format!("stack ps --format {{{{.Name}}}}={{{{.DesiredState}}}} {name}"));
        assert_eq!(ps, format!("{name}_web.1=Running\n{name}_web.2=Running"));

        // Events of the swarm and of this host, in words and as JSON.
        let events = said(&format!("events --since 1h --until 0s --filter service={name}_web"));
        assert!(events.lines().any(|l| l.contains("service create ") && l.contains(&format!("name={name}_web"))), "{events}");
        let objects = said(&format!("events --since 1h --until 0s --filter service={name}_web --format json"));
        let first: Value = serde_json::from_str(objects.lines().next().unwrap_or_default()).expect("JSON");
        assert_eq!((&first["Type"], &first["scope"]), (&json!("service"), &json!("swarm")));
        run("events --since noon").fails("failed to parse value as time or duration: \"noon\"");

        // Contexts, as far as a daemon.
        let host = bed.host("manager").socket(&bed.playground.place).display().to_string();
        let _ = said(&format!("context create {name}-c --description far --docker host=unix://{host}"));
        let read = |args: &str| {
            let mut command = client.command(&bed, "manager", &args.split_whitespace().collect::<Vec<_>>());
            skep_e2e::Run::of(command.env_remove("DOCKER_HOST")).ok()
        };
        assert_eq!(read(&format!("--context {name}-c info -f {{{{.Name}}}}")), "manager");
        assert_eq!(read(&format!("context use {name}-c")), format!("{name}-c"));
        assert_eq!(read("context show"), format!("{name}-c"));
        assert_eq!(read("info -f {{.Name}}"), "manager");
        let archive = dir.join(format!("{name}.dockercontext")).display().to_string();
        let _ = read(&format!("context export {name}-c {archive}"));
        let _ = read(&format!("context import {name}-d {archive}"));
        let _ = read(&format!("context update --description near {name}-d"));
        let known = read("context ls --format {{.Name}}={{.Description}}");
        for one in [format!("{name}-c=far"), format!("{name}-d=near")] {
            assert!(known.lines().any(|l| l == one), "{one} in {known}");
        }
        assert!(read(&format!("context inspect {name}-c")).contains(&format!("unix://{host}")));
        let _ = read("context use default");
        assert_eq!(read(&format!("context rm {name}-c {name}-d")), format!("{name}-c\n{name}-d"));

        assert!(said("version").contains("Server:"));
        assert!(said("system info").contains("Swarm: active"));
        assert!(said(&format!("system events --since 1h --until 0s --filter service={name}_web")).contains("service create"));
        assert!(said("system prune -f").contains("Total reclaimed space:"));
        assert_eq!(said(&format!("volume create {name}-v")), format!("{name}-v"));
        assert!(said(&format!("volume inspect {name}-v")).contains(&format!("\"Name\": \"{name}-v\"")));
        let site = dir.join("site").display().to_string();
        let _ = said(&format!("config create {name}-site {site}"));
        assert!(said(&format!("config ls --filter name={name}-site")).contains(&format!("{name}-site")));
        assert_eq!(said(&format!("config rm {name}-site")), format!("{name}-site"));
        let _ = said(&format!("secret create {name}-pw {site}"));
        assert_eq!(said(&format!("secret rm {name}-pw")), format!("{name}-pw"));
        let _ = said(&format!("stack rm {name}"));
    }

    // What only ours has for stacks.
    let skep = |args: &str| bed.skep("manager", &args.split_whitespace().collect::<Vec<_>>());
    assert!(skep("ping").ok().contains("answers: API 1.50"));
    skep("stack history nothing").fails("nothing found in stack: nothing");
    skep("stack rollback nothing").fails("nothing found in stack: nothing");
    let deploy = |file: &str| skep(&format!("stack deploy --detach=false -q --resolve-image never -c {file} app")).ok();
    deploy(&stack);
    let diff = skep(&format!("stack diff -c {other} app")).ok();
    assert!(diff.contains("Mode.Replicated.Replicas: 2 -> 1"), "{diff}");
    deploy(&other);
    assert_eq!(bed.running("manager", "app_web").len(), 1);
    assert_eq!(skep("stack history --format {{.Deploy}}={{.Changed}} app").ok(), "2=app_web\n1=app_web");
    let back = skep("stack rollback --detach=false -q app").ok();
    assert!(back.contains("Rolling back stack app to deploy 1"), "{back}");
    assert_eq!(bed.running("manager", "app_web").len(), 2);
    skep("stack rollback app 9").fails("stack app has no deploy \"9\"");
    assert_eq!(skep("why app_web").ok(), "app_web waits for nothing: all its 2 tasks run.");
    let _ = skep("stack rm --wait app").ok();
}

/// Without its image a task fails while it is prepared, long before it was to run again: that is no reason to try all the time.
#[test]
fn a_missing_image_is_asked_for_as_often_as_the_delay_says() {
    needs!();
    let bed = Bed::swarm(152, 1, 1);
    let create = "service create -d --quiet --name none --restart-delay 10m no-such-image:1";
    let _ = bed.d("manager", create).ok();
    let tasks = |state: &str| -> Vec<Value> {
        let all = bed.api("manager", "GET", "/tasks", None).expect("tasks");
        all.as_array().into_iter().flatten().filter(|t| t["Status"]["State"] == state).cloned().collect()
    };
    // The first one, and its replacement, which is to wait for ten minutes.
    wait("two that were rejected", LONG, || that(tasks("rejected").len() == 2, format!("{:?}", tasks("rejected"))));
    let why = bed.skep("manager", &["why", "none"]).ok();
    assert!(why.contains("none.1: tried again when the restart's delay is over"), "{why}");
    // What comes next is planned at once; another service's tasks are, too.
    for n in 0..3 {
        let other = format!("service create -d --quiet --name other{n} --restart-condition none no-such-image:1");
        let _ = bed.d("manager", &other).ok();
        wait("another's rejection", LONG, || {
            let all = tasks("rejected");
            that(all.len() == 3 + n, format!("{all:?}"))
        });
    }
    assert_eq!(bed.running("manager", "none"), []);
}
