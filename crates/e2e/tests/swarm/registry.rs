//! Real software, pulled from a real registry by every host.

use std::collections::BTreeSet;

use skep_e2e::bed::{Bed, LONG};
use skep_e2e::{that, wait, web};
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
