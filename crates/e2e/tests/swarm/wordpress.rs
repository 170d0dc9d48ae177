//! J4 and J6 with the real software, by both clients: WordPress in front of MariaDB, its installer driven to the end through the
//! mesh, and a post that outlives what happens to the database's host; the stacks of both files; the calculator with its redis.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use skep_e2e::bed::{Bed, LONG};
use skep_e2e::client::Client;
use skep_e2e::{Run, that, wait, web};
use skep_testkit::images;

use crate::needs;

const HOSTS: [&str; 3] = ["manager", "worker1", "worker2"];
/// The first page of a database that has just been made takes its time on a slow machine.
const SLOW: Duration = Duration::from_secs(120);

/// A swarm whose hosts have the images; nothing where the software is not installed.
fn with_software(number: u8) -> Option<Bed> {
    let Some((mysql, wordpress)) = images::wordpress::mysql().zip(images::wordpress::wordpress()) else {
        skep_testkit::skip("needs mariadb-server-core, wordpress and its theme");
        return None;
    };
    let bed = Bed::swarm(number, 3, 1);
    bed.load(images::archive(&mysql, "mysql:5.7"));
    bed.load(images::archive(&wordpress, "wordpress:latest"));
    Some(bed)
}

/// A browser: curl, with cookies of its own.
struct Browser(PathBuf);

impl Browser {
    fn new(dir: &Path, name: &str) -> Self {
        let jar = dir.join(format!("{name}.cookies"));
        // One of an earlier visitor is none of ours.
        let _ = std::fs::remove_file(&jar);
        Self(jar)
    }

    fn get(&self, url: &str, more: &[&str]) -> Result<String, String> {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-g", "-L", "--noproxy", "*", "--max-time", "30", "-b"]).arg(&self.0).arg("-c").arg(&self.0);
        let done = Run::of(curl.args(more).arg(url));
        if done.code == 0 { Ok(done.out) } else { Err(format!("{url}: {}", done.err)) }
    }

    /// Sends a form; the page that comes holds `text`.
    fn post(&self, url: &str, form: &[(&str, &str)], header: &str, text: &str) -> Result<String, String> {
        let fields: Vec<String> = form.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let mut more = vec!["-H", header];
        fields.iter().for_each(|f| more.extend(["--data-urlencode", f]));
        let page = self.get(url, &more)?;
        that(page.contains(text), format!("{url} has no {text}: {page}"))?;
        Ok(page)
    }

    fn shows(&self, url: &str, text: &str) {
        wait(&format!("{url} to show {text:?}"), SLOW, || {
            let page = self.get(url, &[])?;
            that(page.contains(text), page)
        });
    }
}

/// Drives the installer to its end at one host, once it opens at each, and writes a post; the post's address, less the host's.
fn install(bed: &Bed, browser: &Browser, service: &str, port: &str) -> String {
    for host in HOSTS {
        browser.shows(&format!("http://{}{port}/", bed.address(host)), "action=\"install.php?step=2\"");
    }
    let post = write_post(browser, &format!("http://{}{port}", bed.address("worker1")));
    let post = post.unwrap_or_else(|e| panic!("{e}\n{}", bed.docker("manager", &["service", "logs", "--raw", service]).err));
    format!("{port}/?rest_route=/wp/v2/posts/{post}")
}

/// The id of a post that was written on a site that was just installed.
fn write_post(browser: &Browser, site: &str) -> Result<Value, String> {
    let admin = [("user_name", "keeper"), ("admin_password", "smoke-and-honey"), ("admin_password2", "smoke-and-honey")];
    let rest = [("weblog_title", "The apiary"), ("admin_email", "keeper@example.org"), ("blog_public", "0")];
    browser.post(
        &format!("{site}/wp-admin/install.php?step=2"),
        &[&admin[..], &rest[..]].concat(),
        "Accept: */*",
        "Success!",
    )?;
    browser.shows(&format!("{site}/wp-login.php"), "The apiary");
    let login = [("log", "keeper"), ("pwd", "smoke-and-honey"), ("testcookie", "1")];
    browser.post(&format!("{site}/wp-login.php"), &login, "Accept: */*", "Dashboard")?;
    let nonce = browser.get(&format!("{site}/wp-admin/admin-ajax.php?action=rest-nonce"), &[])?;
    let post = [("title", "Swarming season"), ("content", "Two hives today."), ("status", "publish")];
    let made = browser.post(&format!("{site}/?rest_route=/wp/v2/posts"), &post, &format!("X-WP-Nonce: {nonce}"), "\"id\":")?;
    let made: Value = serde_json::from_str(&made).map_err(|e| format!("{e}: {made}"))?;
    browser.shows(&format!("{site}/?p={}", made["id"]), "Two hives today.");
    Ok(made["id"].clone())
}

/// The post is there for a new visitor at every host.
fn the_post_is_there(bed: &Bed, post: &str) {
    let visitor = Browser::new(bed.scratch(), "visitor");
    for host in HOSTS {
        visitor.shows(&format!("http://{}{post}", bed.address(host)), "Two hives today.");
    }
}

#[test]
fn wordpress_and_its_database() {
    needs!();
    let Some(bed) = with_software(110) else { return };
    for client in Client::BOTH {
        let m = |args: &str| client.line(&bed, "manager", args);
        let _ = m("network create -d overlay demo").ok();
        let _ = m("service create --name mysql --env MYSQL_ROOT_PASSWORD=root --env MYSQL_DATABASE=wordpress --network demo \
                   --mount type=volume,source=mysql-data,destination=/var/lib/mysql mysql:5.7")
        .ok();
        let _ = m("service create --name wordpress -p 80:80 --env WORDPRESS_DB_PASSWORD=root --env WORDPRESS_DB_HOST=mysql \
                   --network demo wordpress")
        .ok();
        let post = install(&bed, &Browser::new(bed.scratch(), client.name()), "wordpress", "");
        the_post_is_there(&bed, &post);

        // The volume is where the database began, so there it is to stay.
        let home = bed.running("manager", "mysql")[0].node.clone();
        let hosts = HOSTS.map(|h| (bed.node_id(h), h));
        let host = hosts.iter().find(|(id, _)| *id == home).map(|(_, h)| *h).unwrap_or_else(|| panic!("no host is {home}"));
        let _ = m(&format!("service update --constraint-add node.hostname=={host} mysql")).ok();
        let before = bed.await_running("manager", "mysql", 1, LONG)[0].clone();
        assert_eq!(before.node, home);
        let _ = client.line(&bed, host, &format!("kill {}", before.container)).ok();
        wait("the database's next task", LONG, || {
            let now = bed.running("manager", "mysql");
            that(now.len() == 1 && now[0].id != before.id && now[0].node == home, format!("{now:?}"))
        });
        the_post_is_there(&bed, &post);

        let _ = m(&format!("node update --availability drain {host}")).ok();
        wait("the database to wait for its node", LONG, || {
            let ps = m("service ps --no-trunc --format {{.CurrentState}}|{{.Error}} mysql").out;
            that(ps.contains("Pending") && ps.contains("no suitable node (scheduling constraints not satisfied"), ps)
        });
        let site = format!("http://{}/", bed.address(host));
        Browser::new(bed.scratch(), "visitor").shows(&site, "Error establishing a database connection");
        let _ = m(&format!("node update --availability active {host}")).ok();
        bed.await_running("manager", "mysql", 1, LONG);
        the_post_is_there(&bed, &post);

        let _ = m("service rm wordpress mysql").ok();
        // A volume can go once no container has it, a network once no task has.
        for (host, args) in [(host, "volume rm mysql-data"), ("manager", "network rm demo")] {
            wait(args, LONG, || {
                let done = client.line(&bed, host, args);
                that(done.code == 0, done.err)
            });
        }
    }
}

const SITE: &str = r#"
version: "3"
services:
  web:
    image: wordpress
    ports: ["8080:80"]
    environment: {WORDPRESS_DB_HOST: mysql, WORDPRESS_DB_PASSWORD: root}
    depends_on: [mysql]
    networks: [site]
    deploy:
      replicas: 3
      restart_policy: {condition: on-failure, delay: 5s, max_attempts: 3}
      update_config: {parallelism: 1, delay: 10s}
  mysql:
    image: mysql:5.7
    environment: {MYSQL_ROOT_PASSWORD: root, MYSQL_DATABASE: wordpress}
    networks: [site]
    volumes: ["mysql-data:/var/lib/mysql"]
    deploy:
      mode: global
      placement: {constraints: [node.role == manager]}
networks:
  site: {driver: overlay}
volumes:
  mysql-data:
"#;

/// The same with the password in a secret that is there already, updated all at once.
fn with_secret() -> String {
    SITE.replace("version: \"3\"", "version: \"3.1\"")
        .replace("WORDPRESS_DB_PASSWORD: root}", "WORDPRESS_DB_PASSWORD_FILE: /run/secrets/pw}\n    secrets: [pw]")
        .replace("MYSQL_ROOT_PASSWORD: root,", "MYSQL_ROOT_PASSWORD_FILE: /run/secrets/pw,")
        .replace("    volumes: [\"mysql", "    secrets: [pw]\n    volumes: [\"mysql")
        .replace("parallelism: 1, delay: 10s", "parallelism: 3")
        + "secrets:\n  pw: {external: true}\n"
}

const CALCULATOR: &str = r#"
version: "3"
services:
  calculator:
    image: calculator:1
    ports: ["8881:8080"]
    deploy: {replicas: 3}
  redis:
    image: redis:1
"#;

/// What the calculator says at a host, and whether it knew.
fn sum(bed: &Bed, host: &str, query: &str) -> Result<(String, bool), String> {
    let request = format!("GET /sum?{query} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let answer = web::exchange(&bed.address(host), 8881, request.as_bytes(), |_| false)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("{answer:?}"))?;
    that(head.starts_with("HTTP/1.1 200"), &answer)?;
    Ok((body.trim().to_owned(), head.contains("Cache: hit")))
}

#[test]
fn stacks_of_real_software() {
    needs!();
    let Some(redis) = images::redis() else { return skep_testkit::skip("needs redis-server") };
    let Some(bed) = with_software(111) else { return };
    bed.load(images::archive(&redis, "redis:1"));
    let program = Path::new(env!("CARGO_BIN_EXE_calculator"));
    let calculator = images::with_program(skep_image::ImageBuilder::new().dir("/etc", 0o755), program);
    bed.load(images::archive(&calculator.entrypoint(&[&program.to_string_lossy()]), "calculator:1"));
    let secret = serde_json::json!({"Name": "pw", "Data": "cm9vdA=="});
    bed.api("manager", "POST", "/secrets/create", Some(&secret)).expect("a secret");
    let dir = bed.playground.place.data.clone();
    let mut post = None;
    for client in Client::BOTH {
        let m = |args: &str| client.line(&bed, "manager", args);
        let deploy = |name: &str, text: &str| {
            let file = dir.join("docker-compose.yml");
            std::fs::write(&file, text).expect("written");
            wait("what was there before to be gone", LONG, || {
                let done = m(&format!("stack deploy --resolve-image never --compose-file {} {name}", file.display()));
                if done.code == 0 { Ok(done.out) } else { Err(done.err) }
            })
        };
        let said = deploy("wordpress", SITE);
        assert!(said.contains("Creating network wordpress_site") && said.contains("Creating service wordpress_web"), "{said}");
        bed.await_running("manager", "wordpress_web", 3, LONG);
        let database = bed.await_running("manager", "wordpress_mysql", 1, LONG);
        assert_eq!(database[0].node, bed.node_id("manager"));
        // The second client finds the volume that the first one's stack left.
        let post = post.get_or_insert_with(|| install(&bed, &Browser::new(bed.scratch(), "author"), "wordpress_web", ":8080"));
        the_post_is_there(&bed, post);

        let said = deploy("wordpress", &with_secret());
        assert!(said.contains("Updating service wordpress_web (id: "), "{said}");
        wait("the tasks with the secret", LONG, || {
            let (web, mysql) = (bed.running("manager", "wordpress_web"), bed.running("manager", "wordpress_mysql"));
            let state = |s: &str| m(&format!("service inspect --format {{{{.UpdateStatus.State}}}} {s}")).out;
            let states = state("wordpress_web") + &state("wordpress_mysql");
            let moved = mysql.len() == 1 && mysql[0].id != database[0].id && web.len() == 3;
            that(moved && states == "completed\ncompleted\n", states)
        });
        the_post_is_there(&bed, post);

        let _ = deploy("app", CALCULATOR);
        bed.await_running("manager", "app_calculator", 3, LONG);
        bed.await_running("manager", "app_redis", 1, LONG);
        assert_eq!(m("stack ls --format {{.Name}}={{.Services}}").ok(), "app=2\nwordpress=2");
        let listed = m("stack services app --format {{.Name}}={{.Replicas}}").ok();
        assert_eq!(listed, "app_calculator=3/3\napp_redis=1/1");
        let first = wait("the calculator", LONG, || sum(&bed, "worker2", "a=1&b=2"));
        assert_eq!(first, ("3".to_owned(), false));
        for host in HOSTS {
            assert_eq!(sum(&bed, host, "a=1&b=2"), Ok(("3".to_owned(), true)), "{host}");
        }
        let said = m("stack rm app wordpress").ok();
        for line in ["Removing service app_redis", "Removing service wordpress_web", "Removing network wordpress_site"] {
            assert!(said.contains(line), "{line}: {said}");
        }
    }
}
