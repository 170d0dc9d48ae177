//! `service create`: flags become a spec; names of networks, secrets and configs become ids; the image gets its digest.

use serde_json::{Value, json};

use super::spec::{CONTAINER, container, shared};
use super::{after, resolve};
use crate::app::{App, Failure};
use crate::grammar::Matches;
use crate::options::{environment, map, mount, port, put, refs};
use crate::output::{print, warn};

/// Values of a flag read one by one.
pub(super) fn each<T>(m: &Matches, flag: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, Failure> {
    let shown = if flag == "publish" { "-p, --publish".to_owned() } else { format!("--{flag}") };
    let one =
        |v: &String| read(v).map_err(|why| Failure::with(125, format!("invalid argument {v:?} for \"{shown}\" flag: {why}")));
    m.list(flag).iter().map(one).collect()
}

/// A name of its own for a service that was given none: the daemon would make one, but not all daemons do.
fn mode(m: &Matches) -> Result<Value, Failure> {
    let mode = m.text("mode").unwrap_or("replicated").to_ascii_lowercase();
    let replicas = m.uint("replicas");
    let only = |flag: &str, what: &str| Failure::new(format!("{flag} can only be used with {what} mode"));
    if mode != "replicated-job" && m.given("max-concurrent") {
        return Err(only("max-concurrent", "replicated-job"));
    }
    if mode.starts_with("global") {
        if replicas.is_some() {
            return Err(only("replicas", "replicated or replicated-job"));
        }
        if m.uint("replicas-max-per-node").is_some_and(|n| n > 0) {
            return Err(only("replicas-max-per-node", "replicated or replicated-job"));
        }
    }
    let roll = |f: &str| f.starts_with("update-") || f.starts_with("rollback-");
    if mode.ends_with("-job") && m.all_given().any(roll) {
        return Err(Failure::new("update and rollback configuration is not supported for jobs"));
    }
    Ok(match mode.as_str() {
        "global" => json!({"Global": {}}),
        "global-job" => json!({"GlobalJob": {}}),
        "replicated" => match replicas {
            Some(n) => json!({"Replicated": {"Replicas": n}}),
            None => json!({"Replicated": {}}),
        },
        "replicated-job" => {
            let concurrent = m.uint("max-concurrent").or(replicas).unwrap_or(1);
            json!({"ReplicatedJob": {"TotalCompletions": replicas.unwrap_or(1), "MaxConcurrent": concurrent}})
        }
        other => return Err(Failure::new(format!("Unknown mode: {other}, only replicated and global supported"))),
    })
}

/// The spec that a command line says, with names where ids are to come.
pub(super) fn spec(m: &Matches) -> Result<Value, Failure> {
    let mut spec = json!({
        "Name": m.text_or_empty("name"), "Labels": map(m.list("label")), "Mode": mode(m)?,
        "TaskTemplate": {"ContainerSpec": {"Image": m.arg(0), "Init": m.on("init")}},
    });
    let mut list = |path: &[&str], values: Vec<Value>| {
        if !values.is_empty() {
            put(&mut spec, path, values);
        }
    };
    let texts = |flag: &str| m.list(flag).iter().map(|v| Value::from(v.as_str())).collect::<Vec<_>>();
    list(&container("Args"), m.args()[1..].iter().map(|v| Value::from(v.as_str())).collect());
    let env = environment(m.list("env-file"), m.list("env")).map_err(Failure::new)?;
    list(&container("Env"), env.into_iter().map(Value::from).collect());
    list(&container("Groups"), texts("group"));
    list(&container("CapabilityAdd"), capabilities(m.list("cap-add")));
    list(&container("CapabilityDrop"), capabilities(m.list("cap-drop")));
    list(&container("Hosts"), each(m, "host", refs::host)?.into_iter().map(Value::from).collect());
    list(&container("Mounts"), each(m, "mount", mount::parse)?);
    list(&container("Secrets"), each(m, "secret", |v| refs::file("Secret", v))?);
    list(&container("Configs"), each(m, "config", |v| refs::file("Config", v))?);
    list(&container("Ulimits"), each(m, "ulimit", refs::ulimit)?);
    let dns = |key: &'static str| [CONTAINER, &["DNSConfig", key]].concat();
    list(&dns("Nameservers"), texts("dns"));
    list(&dns("Search"), texts("dns-search"));
    list(&dns("Options"), texts("dns-option"));
    list(&["TaskTemplate", "Placement", "Constraints"], texts("constraint"));
    list(&["TaskTemplate", "Placement", "Preferences"], each(m, "placement-pref", refs::preference)?);
    list(&["TaskTemplate", "Resources", "Reservations", "GenericResources"], each(m, "generic-resource", refs::generic)?);
    list(&["TaskTemplate", "Networks"], each(m, "network", refs::network)?);
    list(&["EndpointSpec", "Ports"], each(m, "publish", port::service)?.into_iter().flatten().collect());
    if m.given("container-label") {
        put(&mut spec, &container("Labels"), map(m.list("container-label")));
    }
    if m.given("sysctl") {
        put(&mut spec, &container("Sysctls"), map(m.list("sysctl")));
    }
    shared(&mut spec, m)?;
    Ok(spec)
}

/// `CAP_NET_ADMIN` for `net_admin`; `ALL` stays.
pub(crate) fn capabilities(given: &[String]) -> Vec<Value> {
    let one = |c: &String| {
        let upper = c.trim().to_ascii_uppercase();
        if upper == "ALL" || upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") }
    };
    let mut all: Vec<String> = given.iter().map(one).collect();
    all.sort();
    all.dedup();
    all.into_iter().map(Value::from).collect()
}

pub(super) async fn create(app: &App, m: &Matches) -> Result<u8, Failure> {
    let mut spec = spec(m)?;
    let client = app.client().await?;
    resolve::names(client, &mut spec).await?;
    let image = m.arg(0).to_owned();
    let auth = crate::config::auth::header(&app.config, &image);
    let headers = [("X-Registry-Auth", auth.as_str())];
    let pin = if m.on("no-resolve-image") { None } else { resolve::pin(client, &mut spec, &headers).await };
    let headers: &[(&str, &str)] = if m.on("with-registry-auth") { &headers } else { &[] };
    let made = client.call_with("POST", "/services/create", headers, Some(&spec)).await?;
    if let Some(warning) = pin {
        warn(&warning);
    }
    for warning in made["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        warn(warning);
    }
    let id = made["ID"].as_str().unwrap_or_default();
    print(&format!("{id}\n"))?;
    after(app, m, id).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::tests::{read, words};

    fn body(line: &str) -> Value {
        spec(&read(&format!("service create {line}"))).unwrap_or_else(|e| panic!("{line}: {}", e.message))
    }

    /// The smallest spec of an image.
    fn plain(image: &str) -> Value {
        json!({
            "Name": "", "Labels": {}, "Mode": {"Replicated": {}},
            "TaskTemplate": {"ContainerSpec": {"Image": image, "Init": false}},
        })
    }

    #[test]
    fn command_lines_become_bodies() {
        assert_eq!(body("nginx"), plain("nginx"));
        // J2.
        let mut ws = plain("ws:1.0");
        ws["Name"] = "ws".into();
        ws["Mode"] = json!({"Replicated": {"Replicas": 5}});
        ws["EndpointSpec"] =
            json!({"Ports": [{"Protocol": "tcp", "TargetPort": 8000, "PublishedPort": 80, "PublishMode": "ingress"}]});
        assert_eq!(body("--replicas 5 --name ws -p 80:8000 ws:1.0"), ws);
        // J4.
        let mysql = body(
            "--name mysql --env MYSQL_ROOT_PASSWORD=root --network demo \
             --mount type=volume,source=mysql-data,destination=/var/lib/mysql mysql:5.7",
        );
        assert_eq!(mysql["TaskTemplate"]["Networks"], json!([{"Target": "demo"}]));
        assert_eq!(
            mysql["TaskTemplate"]["ContainerSpec"],
            json!({"Image": "mysql:5.7", "Init": false, "Env": ["MYSQL_ROOT_PASSWORD=root"],
                "Mounts": [{"Type": "volume", "Source": "mysql-data", "Target": "/var/lib/mysql"}]})
        );
    }

    #[test]
    fn everything_has_its_place() {
        let c = |line: &str, path: &str| body(line).pointer(path).cloned().unwrap_or(Value::Null);
        let container = |line: &str, key: &str| c(line, &format!("/TaskTemplate/ContainerSpec/{key}"));
        assert_eq!(container("--cap-add net_admin --cap-drop ALL a", "CapabilityAdd"), json!(["CAP_NET_ADMIN"]));
        assert_eq!(container("--cap-drop ALL a", "CapabilityDrop"), json!(["ALL"]));
        assert_eq!(
            container("--dns 1.1.1.1 --dns-search x --dns-option y a", "DNSConfig"),
            json!({"Nameservers": ["1.1.1.1"], "Search": ["x"], "Options": ["y"]})
        );
        assert_eq!(container("--host a:10.0.0.1 a", "Hosts"), json!(["10.0.0.1 a"]));
        assert_eq!(container("--stop-grace-period 1m a", "StopGracePeriod"), json!(60_000_000_000_i64));
        assert_eq!(
            container("--health-cmd x --health-retries 2 a", "Healthcheck"),
            json!({"Test": ["CMD-SHELL", "x"], "Retries": 2})
        );
        assert_eq!(container("--no-healthcheck a", "Healthcheck"), json!({"Test": ["NONE"]}));
        assert_eq!(container("--sysctl a.b=1 a", "Sysctls"), json!({"a.b": "1"}));
        assert_eq!(container("--read-only -t -u me -w /x --hostname h a", "User"), "me");
        assert_eq!(container("a sh -c x", "Args"), json!(["sh", "-c", "x"]));
        assert_eq!(
            c("--constraint node.role==manager a", "/TaskTemplate/Placement/Constraints"),
            json!(["node.role==manager"])
        );
        assert_eq!(
            c("--limit-cpu .5 --limit-memory 64m a", "/TaskTemplate/Resources/Limits"),
            json!({"NanoCPUs": 500_000_000, "MemoryBytes": 67_108_864})
        );
        assert_eq!(
            c("--restart-condition none a", "/TaskTemplate/RestartPolicy"),
            json!({"Condition": "none", "Delay": 5_000_000_000_i64, "MaxAttempts": 0})
        );
        assert_eq!(
            c("--update-delay 10s a", "/UpdateConfig"),
            json!({"Parallelism": 1, "Delay": 10_000_000_000_i64, "FailureAction": "pause", "Monitor": 5_000_000_000_i64,
                "MaxFailureRatio": 0.0, "Order": "stop-first"})
        );
        assert_eq!(c("--mode global a", "/Mode"), json!({"Global": {}}));
        assert_eq!(
            c("--mode replicated-job --replicas 4 --max-concurrent 2 a", "/Mode"),
            json!({"ReplicatedJob": {"TotalCompletions": 4, "MaxConcurrent": 2}})
        );
        assert_eq!(c("--endpoint-mode dnsrr a", "/EndpointSpec"), json!({"Mode": "dnsrr"}));
        assert_eq!(
            c("--log-driver json-file --log-opt max-size=1m a", "/TaskTemplate/LogDriver"),
            json!({"Name": "json-file", "Options": {"max-size": "1m"}})
        );
        assert_eq!(c("-l a=b --label c a", "/Labels"), json!({"a": "b", "c": ""}));
        let line = ["service", "create", "--entrypoint", "sh -c 'a b'", "a"].map(str::to_owned);
        assert_eq!(
            spec(&words(&line)).unwrap().pointer("/TaskTemplate/ContainerSpec/Command"),
            Some(&json!(["sh", "-c", "a b"]))
        );
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let fails = |line: &str| spec(&read(&format!("service create {line}"))).unwrap_err().message;
        assert_eq!(fails("--mode global --replicas 2 a"), "replicas can only be used with replicated or replicated-job mode");
        assert_eq!(fails("--max-concurrent 2 a"), "max-concurrent can only be used with replicated-job mode");
        assert_eq!(
            fails("--mode replicated-job --update-delay 1s a"),
            "update and rollback configuration is not supported for jobs"
        );
        assert_eq!(fails("--no-healthcheck --health-cmd x a"), "--no-healthcheck conflicts with --health-* options");
        assert_eq!(
            fails("-p 1.2.3.4:80:80 a"),
            "invalid argument \"1.2.3.4:80:80\" for \"-p, --publish\" flag: hostip is not supported"
        );
        assert!(fails("--mode x a").starts_with("Unknown mode: x"));
    }
}
