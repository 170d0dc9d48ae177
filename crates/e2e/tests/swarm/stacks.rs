//! J6 by the stock client: a stack of several services is deployed, changed, removed and deployed again at once.

use std::path::Path;

use skep_e2e::bed::{Bed, LONG};
use skep_e2e::client::Client;
use skep_e2e::{that, wait, web};
use skep_testkit::images;

use crate::needs;

const FILE: &str = r#"
version: "3.8"
services:
  web:
    image: web:1
    ports: ["8080:8000"]
    environment: {COLOUR: red}
    networks: [front, back]
    configs: [{source: site, target: /etc/site.conf}]
    secrets: [pw]
    depends_on: [store]
    deploy:
      replicas: 3
      restart_policy: {condition: on-failure, delay: 5s, max_attempts: 3}
      update_config: {parallelism: 1, delay: 1s}
  store:
    image: busybox:1.28
    command: [sleep, "100000"]
    stop_grace_period: 0s
    networks: [back]
    volumes: ["data:/data"]
    deploy:
      mode: global
      placement: {constraints: [node.role == manager]}
networks:
  front:
  back: {driver: overlay}
volumes:
  data:
configs:
  site: {file: site.conf}
secrets:
  pw: {external: true, name: stack-pw}
"#;

/// The file as it is for this round, with what it names beside it.
fn write(dir: &Path, colour: &str) -> String {
    std::fs::write(dir.join("site.conf"), "port = 80\n").expect("written");
    let path = dir.join("docker-compose.yml");
    std::fs::write(&path, FILE.replace("red", colour)).expect("written");
    path.display().to_string()
}

#[test]
fn a_stack_comes_changes_and_goes() {
    needs!();
    let bed = Bed::swarm(74, 3, 1);
    let image = images::busybox().unwrap_or_else(|| panic!("no busybox on this machine"));
    bed.load(images::archive(&image, "busybox:1.28"));
    bed.load_demo("web:1", "1.0");
    let dir = bed.playground.place.data.clone();
    let d = |args: &str| bed.d("manager", args);
    let deploy = |colour: &str| d(&format!("stack deploy --resolve-image never -c {} app", write(&dir, colour)));
    deploy("red").fails("secret not found: stack-pw");
    let secret = serde_json::json!({"Name": "stack-pw", "Data": "aHVudGVyMg=="});
    bed.api("manager", "POST", "/secrets/create", Some(&secret)).expect("a secret");
    let _ = d("stack rm app").ok();
    wait("the half stack to be gone", LONG, || {
        let ls = d("network ls -q --filter label=com.docker.stack.namespace=app").out;
        that(ls.is_empty(), ls)
    });
    let said = deploy("red").ok();
    for line in [
        "Creating network app_front",
        "Creating network app_back",
        "Creating config app_site",
        "Creating service app_web",
        "Creating service app_store",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    bed.await_running("manager", "app_web", 3, LONG);
    let store = bed.await_running("manager", "app_store", 1, LONG);
    assert_eq!(d("stack ls --format {{.Name}}={{.Services}}").ok(), "app=2");
    let services = d("stack services app --format {{.Name}}={{.Mode}}={{.Replicas}}").ok();
    assert_eq!(services, "app_store=global=1/1\napp_web=replicated=3/3");
    assert_eq!(d("stack ps app -q").ok().lines().count(), 4);
    for host in ["manager", "worker1", "worker2"] {
        let page = wait("the page", LONG, || web::get(&bed.address(host), 8080));
        assert!(page.contains("1.0"), "{page}");
    }
    // Names of the file, in the networks of the file.
    let container = store[0].container.clone();
    let exec = |script: &str| bed.docker("manager", &["exec", container.as_str(), "sh", "-c", script]);
    wait("web by its name", LONG, || {
        let got = exec("wget -q -O - http://web:8000/");
        that(got.out.contains("1.0"), got.err)
    });
    assert!(d("volume ls -q").ok().lines().any(|v| v == "app_data"));
    let template = "{{range .Spec.TaskTemplate.ContainerSpec.Configs}}{{.ConfigName}}:{{.File.Name}}{{end}}";
    assert_eq!(bed.docker("manager", &["service", "inspect", "--format", template, "app_web"]).ok(), "app_site:/etc/site.conf");

    // The same again changes nothing; a change restarts only what it is about.
    let live = |service: &str| bed.running("manager", service).iter().map(|l| l.id.clone()).collect::<Vec<_>>();
    let (webs, stores) = (live("app_web"), live("app_store"));
    assert!(deploy("red").ok().contains("Updating service app_web (id: "));
    assert_eq!((live("app_web"), live("app_store")), (webs.clone(), stores.clone()));
    let _ = deploy("blue").ok();
    wait("the update", LONG, || {
        let now = bed.running("manager", "app_web");
        let state = d("service inspect --format {{.UpdateStatus.State}} app_web").out;
        that(now.len() == 3 && now.iter().all(|l| !webs.contains(&l.id)) && state.trim() == "completed", state)
    });
    assert_eq!(live("app_store"), stores);

    // Gone without a trace, and there again at once.
    let said = d("stack rm app").ok();
    for line in ["Removing service app_web", "Removing config app_site", "Removing network app_back"] {
        assert!(said.contains(line), "{line}: {said}");
    }
    // What the stock client itself has to wait for: the networks of tasks that still stop.
    wait("to be deployed again", LONG, || {
        let again = deploy("green");
        that(again.code == 0, again.err)
    });
    bed.await_running("manager", "app_web", 3, LONG);
    let _ = d("stack rm app").ok();
    wait("nothing to be left", LONG, || {
        let left = d("network ls -q --filter label=com.docker.stack.namespace=app").out;
        let running: String = ["manager", "worker1", "worker2"].iter().map(|h| bed.d(h, "ps -q").out).collect();
        that(left.is_empty() && running.is_empty(), format!("{left}{running}"))
    });
    assert!(d("stack rm app").err.contains("Nothing found in stack: app"));
}

/// The same file by `skep`: what a file's config holds may change, nothing that did not change is touched, and a stack that is
/// removed is gone when the command ends.
#[test]
fn a_stack_by_skep_itself() {
    needs!();
    let bed = Bed::swarm(54, 3, 1);
    let image = images::busybox().unwrap_or_else(|| panic!("no busybox on this machine"));
    bed.load(images::archive(&image, "busybox:1.28"));
    bed.load_demo("web:1", "1.0");
    let dir = bed.playground.place.data.clone();
    let skep = |args: &str| bed.skep("manager", &args.split_whitespace().collect::<Vec<_>>());
    let file = write(&dir, "red");
    let deploy = || skep(&format!("stack deploy --resolve-image never -c {file} app"));
    let secret = serde_json::json!({"Name": "stack-pw", "Data": "aHVudGVyMg=="});
    bed.api("manager", "POST", "/secrets/create", Some(&secret)).expect("a secret");
    let said = deploy().ok();
    assert!(said.contains("Creating network app_front") && said.contains("Creating service app_web"), "{said}");
    bed.await_running("manager", "app_web", 3, LONG);
    let store = bed.await_running("manager", "app_store", 1, LONG);
    assert_eq!(skep("stack ls --format {{.Name}}={{.Services}}").ok(), "app=2");
    let services = skep("stack services app --format {{.Name}}={{.Mode}}={{.Replicas}}").ok();
    assert_eq!(services, "app_store=global=1/1\napp_web=replicated=3/3");
    assert!(deploy().ok().is_empty());

    // Another content of the same file is another version of the config, rolled out as the service says.
    std::fs::write(dir.join("site.conf"), "port = 81\n").expect("written");
    let _ = deploy().ok();
    wait("the new file in each task", LONG, || {
        let live = bed.running("manager", "app_web");
        let configs = bed.api("manager", "GET", "/services/app_web", None)?;
        let name = configs["Spec"]["TaskTemplate"]["ContainerSpec"]["Configs"][0]["ConfigName"].to_string();
        let state = configs["UpdateStatus"]["State"].to_string();
        let ps = || bed.d("manager", "service ps --no-trunc app_web").out;
        that(live.len() == 3 && name.contains("app_site_") && state.contains("completed"), format!("{name} {state}\n{}", ps()))
    });
    assert_eq!(bed.running("manager", "app_store")[0].id, store[0].id);

    std::fs::write(dir.join("bad.yml"), "services:\n  web:\n    image: web:1\n    deploy:\n      replicas: many\n")
        .expect("written");
    let bad = skep(&format!("stack deploy -c {} other", dir.join("bad.yml").display()));
    assert!(bad.code == 1 && bad.err.contains("bad.yml:5:17"), "{bad:?}");

    let said = skep("stack rm app").ok();
    assert!(said.contains("Removing service app_web") && said.contains("Removing network app_back"), "{said}");
    let _ = deploy().ok();
    bed.await_running("manager", "app_web", 3, LONG);
    let _ = skep("stack rm app").ok();
    assert_eq!(bed.d("manager", "network ls -q --filter label=com.docker.stack.namespace=app").ok(), "");
}

/// With `--detach=false` a deploy returns when all runs, and its exit code tells when it does not come to that.
#[test]
fn a_deploy_that_waits_tells_how_it_ended() {
    needs!();
    let bed = Bed::swarm(127, 2, 1);
    let image = images::busybox().unwrap_or_else(|| panic!("no busybox on this machine"));
    bed.load(images::archive(&image, "busybox:1.28"));
    let file = bed.playground.place.data.join("waits.yml");
    let write = |command: &str| {
        let update = "update_config: {failure_action: pause, monitor: 1s}";
        let text = format!(
            "version: '3.8'\nservices:\n  web:\n    image: busybox:1.28\n    command: {command}\n    stop_grace_period: 0s\n    \
             deploy: {{replicas: 2, {update}, restart_policy: {{delay: 1s}}}}\n"
        );
        std::fs::write(&file, text).expect("written");
    };
    for client in Client::BOTH {
        let stack = format!("by-{}", client.name());
        let deploy = format!("stack deploy --detach=false --resolve-image never -c {} {stack}", file.display());
        write("sleep 100000");
        let _ = client.line(&bed, "manager", &deploy).ok();
        assert_eq!(bed.running("manager", &format!("{stack}_web")).len(), 2);
        write("'false'");
        let failed = client.line(&bed, "manager", &deploy);
        assert!(failed.code == 1 && failed.err.contains("update paused"), "{failed:?}");
        let _ = client.line(&bed, "manager", &format!("stack rm {stack}")).ok();
    }
}
