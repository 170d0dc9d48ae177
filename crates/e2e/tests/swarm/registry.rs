//! Real software, pulled from a real registry by every host.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::Stdio;

use skep_e2e::bed::{Bed, LONG};
use skep_e2e::client::Client;
use skep_e2e::{Run, that, wait, web};
use skep_testkit::images;
use skep_testkit::registry::Registry;

use crate::needs;

#[test]
fn nginx_and_redis_from_a_registry() {
    needs!();
    let Some((nginx_image, redis_image)) = images::nginx("Welcome to nginx").zip(images::redis()) else {
        return skep_testkit::skip("needs nginx and redis-server");
    };
    let number = 34;
    let registry = format!("10.89.{number}.1:5000");
    let bed = Bed::bare(number, 3, &["--insecure-registry".to_owned(), registry.clone()]);
    assert_eq!(bed.playground.place.machine().to_string(), format!("10.89.{number}.1"));
    bed.form(1);
    let address = registry.parse().unwrap_or_else(|e| panic!("{registry}: {e}"));
    let Some(_server) = Registry::start(&bed.playground.place.data.join("registry"), address) else {
        return skep_testkit::skip("needs docker-registry");
    };
    let m = |args: &str| bed.d("manager", args);
    let (nginx, redis) = (format!("{registry}/nginx:1"), format!("{registry}/redis:1"));
    for (tag, archive) in [(&nginx, images::archive(&nginx_image, &nginx)), (&redis, images::archive(&redis_image, &redis))] {
        bed.load_on("manager", archive);
        let pushed = m(&format!("push {tag}")).ok();
        assert!(pushed.contains("digest: sha256:"), "{pushed}");
        let _ = m(&format!("rmi {tag}")).ok();
    }
    for (name, image, port) in [("web", &nginx, "80:80"), ("store", &redis, "6379:6379")] {
        let made = m(&format!("service create --name {name} --replicas 3 -p {port} {image}"));
        assert!(!made.err.contains("could not be accessed"), "{}", made.err);
        let text = made.ok();
        assert!(text.contains("overall progress: 3 out of 3 tasks"), "{text}");
        let live = bed.await_running("manager", name, 3, LONG);
        assert_eq!(live.iter().map(|l| l.node.as_str()).collect::<BTreeSet<_>>().len(), 3, "{live:?}");
        let pinned = m(&format!("service inspect --format {{{{.Spec.TaskTemplate.ContainerSpec.Image}}}} {name}")).ok();
        assert!(pinned.starts_with(&format!("{image}@sha256:")), "{pinned}");
    }
    for host in ["manager", "worker1", "worker2"] {
        let address = bed.address(host);
        let page = wait("nginx's page", LONG, || web::get(&address, 80));
        assert_eq!(page, "Welcome to nginx\n");
        wait("redis", LONG, || {
            let answer = web::exchange(&address, 6379, b"PING\r\n", |t| t.ends_with("\r\n"))?;
            that(answer == "+PONG\r\n", answer)
        });
    }
}

/// Runs a client's command with something on its standard input.
fn fed(bed: &Bed, client: Client, args: &[&str], input: &str) -> Run {
    let mut command = client.command(bed, "manager", args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("taken");
    let done = child.wait_with_output().expect("ended");
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    Run {
        command: format!("{command:?}"),
        code: done.status.code().unwrap_or(-1),
        out: text(&done.stdout),
        err: text(&done.stderr),
    }
}

/// A registry that wants to know who asks: credentials are tried, kept, sent with each call and to the nodes, and forgotten; and images
/// go from host to host without it.
#[test]
fn a_registry_with_a_password_and_archives_without_one() {
    needs!();
    let number = 128;
    let registry = format!("10.89.{number}.1:5000");
    let bed = Bed::bare(number, 2, &["--insecure-registry".to_owned(), registry.clone()]);
    bed.form(1);
    let address = registry.parse().unwrap_or_else(|e| panic!("{registry}: {e}"));
    let Some(_server) = Registry::start_locked(&bed.playground.place.data.join("registry"), address) else {
        return skep_testkit::skip("needs docker-registry");
    };
    bed.load_on("manager", skep_e2e::images::demo("web:1", "1.0"));
    for client in Client::BOTH {
        let m = |args: &str| client.line(&bed, "manager", args);
        let tag = format!("{registry}/{}/web:1", client.name());
        let _ = m(&format!("tag web:1 {tag}")).ok();
        assert_ne!(m(&format!("push {tag}")).code, 0);
        let login = ["login", "-u", "me", "--password-stdin", registry.as_str()];
        let wrong = fed(&bed, client, &login, "simsim\n");
        assert!(wrong.code == 1 && wrong.err.contains("401 Unauthorized"), "{wrong:?}");
        assert_ne!(m(&format!("push {tag}")).code, 0);
        let right = fed(&bed, client, &login, "sesame\n");
        assert!(right.code == 0 && right.out.trim_end().ends_with("Login Succeeded"), "{right:?}");
        assert!(right.err.contains("stored unencrypted in"), "{right:?}");
        let file = bed.playground.place.run.join("config.json");
        let kept = std::fs::read_to_string(&file).expect("the user's file");
        assert!(kept.contains(&registry) && !kept.contains("sesame"), "{kept}");
        // Again without a word, by what is kept.
        assert!(m(&format!("login {registry}")).ok().ends_with("Login Succeeded"));
        assert!(m(&format!("push {tag}")).ok().contains("digest: sha256:"));
        // A node that has neither the image nor the credentials gets both.
        let name = format!("by-{}", client.name());
        let create = format!("service create -d --with-registry-auth --name {name} --constraint node.role==worker {tag}");
        let _ = m(&create).ok();
        bed.await_running("manager", &name, 1, LONG);
        let _ = m(&format!("service rm {name}")).ok();
        assert_eq!(m(&format!("logout {registry}")).ok(), format!("Removing login credentials for {registry}"));
        let left = std::fs::read_to_string(&file).expect("the user's file");
        assert!(!left.contains(&registry), "{left}");
        let _ = m(&format!("rmi {tag}")).ok();
        assert_ne!(m(&format!("pull {tag}")).code, 0);
    }

    // Saved by one client, loaded by the other, on a host that has neither image.
    let worker = |client: Client, args: &str| client.line(&bed, "worker1", args);
    let id = bed.d("manager", "images -q --no-trunc web:1").ok();
    for (saver, loader) in [(Client::Docker, Client::Skep), (Client::Skep, Client::Docker)] {
        for tag in ["kept:1", "kept:2", "other/name:x"] {
            let _ = bed.d("manager", &format!("tag web:1 {tag}")).ok();
        }
        let file = bed.playground.place.data.join(format!("{}.tar", saver.name()));
        let path = file.display().to_string();
        let _ = saver.line(&bed, "manager", &format!("save -o {path} kept other/name:x")).ok();
        let loaded = worker(loader, &format!("load -i {path}")).ok();
        for tag in ["kept:1", "kept:2", "other/name:x"] {
            assert!(loaded.contains(&format!("Loaded image: {tag}")), "{loaded}");
            assert_eq!(worker(loader, &format!("images -q --no-trunc {tag}")).ok(), id);
            let _ = worker(loader, &format!("rmi -f {tag}")).ok();
        }
        saver.line(&bed, "manager", &format!("save -o {path}.none nothing:1")).fails("No such image: nothing:1");
    }
    // What an image was made by, with sizes; the same to both.
    let steps = |client: Client| client.line(&bed, "manager", "history --no-trunc --human=false web:1").ok();
    assert_eq!(steps(Client::Docker), steps(Client::Skep));
    assert!(steps(Client::Skep).contains(&id), "{}", steps(Client::Skep));

    // What nobody uses goes, when asked twice; the same words from both.
    for client in Client::BOTH {
        let m = |args: &str| client.line(&bed, "manager", args);
        let _ = m("network create waste").ok();
        let _ = m("create --name stale web:1").ok();
        let no = fed(&bed, client, &["system", "prune"], "n\n");
        assert!(no.out.starts_with("WARNING! This will remove:\n  - all stopped containers\n"), "{no:?}");
        assert!(m("ps -aq --filter name=stale").ok().len() == 12 && no.code == 0, "{no:?}");
        let yes = fed(&bed, client, &["system", "prune", "--volumes"], "y\n").ok();
        assert!(yes.contains("Deleted Containers:\n") && yes.contains("Deleted Networks:\nwaste\n"), "{yes}");
        assert!(yes.contains("Total reclaimed space: "), "{yes}");
        assert!(m("ps -aq --filter name=stale").ok().is_empty());
    }
    bed.skep("manager", &["search", "nginx"]).fails("not built yet in Skep");
}
