//! `service update`, `rollback`, `scale`.

use serde_json::{Value, json};

use super::spec::{container, shared};
use super::{after, lists, one, resolve};
use crate::app::{App, Failure};
use crate::client::{Client, escape, query};
use crate::grammar::Matches;
use crate::options::{put, refs, words};
use crate::output::{print, warn};
use crate::progress;

/// Writes what flags say into a service's spec. Pure but for the networks, whose names are resolved later.
fn change(spec: &mut Value, m: &Matches) -> Result<(), Failure> {
    if let Some(image) = m.text("image") {
        put(spec, &container("Image"), image);
    }
    if let Some(line) = m.text("args") {
        put(spec, &container("Args"), words::split(line).map_err(Failure::new)?);
    }
    let mode = spec["Mode"].clone();
    if let Some(n) = m.uint("replicas") {
        if mode.get("Replicated").is_none() {
            return Err(Failure::new("replicas can only be used with replicated mode"));
        }
        put(spec, &["Mode", "Replicated", "Replicas"], n);
    }
    if let Some(n) = m.uint("max-concurrent") {
        if mode.get("ReplicatedJob").is_none() {
            return Err(Failure::new("max-concurrent can only be used with replicated-job mode"));
        }
        put(spec, &["Mode", "ReplicatedJob", "MaxConcurrent"], n);
    }
    let roll = |f: &str| (f.starts_with("update-") || f.starts_with("rollback-")) && f != "rollback";
    if (mode.get("ReplicatedJob").is_some() || mode.get("GlobalJob").is_some()) && m.all_given().any(roll) {
        return Err(Failure::new("update and rollback configuration is not supported for jobs"));
    }
    shared(spec, m)?;
    lists::change(spec, m)?;
    if m.on("force") {
        let count = spec.pointer("/TaskTemplate/ForceUpdate").and_then(Value::as_u64).unwrap_or(0);
        put(spec, &["TaskTemplate", "ForceUpdate"], count + 1);
    }
    Ok(())
}

/// Networks taken away and added, by name or id.
async fn networks(client: &Client, spec: &mut Value, m: &Matches) -> Result<(), Failure> {
    if !m.given("network-add") && !m.given("network-rm") {
        return Ok(());
    }
    let id = async |name: &str| {
        let found = client.call("GET", &query(&format!("/networks/{}", escape(name)), &[("scope", "swarm")]), None).await?;
        Ok::<_, Failure>(found["Id"].as_str().unwrap_or_default().to_owned())
    };
    let mut list = spec.pointer("/TaskTemplate/Networks").and_then(Value::as_array).cloned().unwrap_or_default();
    for name in m.list("network-rm") {
        let gone = id(name).await?;
        list.retain(|n| n["Target"] != gone.as_str());
    }
    for text in m.list("network-add") {
        let mut added = refs::network(text).map_err(Failure::new)?;
        let target = id(added["Target"].as_str().unwrap_or_default()).await?;
        if list.iter().any(|n| n["Target"] == target.as_str()) {
            let name = added["Target"].as_str().unwrap_or_default();
            return Err(Failure::new(format!("service is already attached to network {name}")));
        }
        added["Target"] = target.into();
        list.push(added);
    }
    list.sort_by_key(|n| n["Target"].to_string());
    put(spec, &["TaskTemplate", "Networks"], list);
    Ok(())
}

/// Sends a spec back.
async fn send(
    client: &Client,
    service: &Value,
    spec: &Value,
    extra: &[(&str, &str)],
    headers: &[(&str, &str)],
) -> Result<(), Failure> {
    let id = service["ID"].as_str().unwrap_or_default();
    let version = service["Version"]["Index"].as_u64().unwrap_or(0).to_string();
    let pairs = [&[("version", version.as_str())], extra].concat();
    let answer =
        client.call_with("POST", &query(&format!("/services/{}/update", escape(id)), &pairs), headers, Some(spec)).await?;
    for warning in answer["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        warn(warning);
    }
    Ok(())
}

pub(super) async fn update(app: &App, m: &Matches) -> Result<u8, Failure> {
    let client = app.client().await?;
    let name = m.arg(0);
    let service = one(client, name).await?;
    if m.on("rollback") {
        if m.all_given().any(|f| !matches!(f, "rollback" | "detach" | "quiet" | "wait")) {
            return Err(Failure::new("other flags may not be combined with --rollback"));
        }
        send(client, &service, &service["Spec"], &[("rollback", "previous"), ("registryAuthFrom", "spec")], &[]).await?;
    } else {
        let mut spec = service["Spec"].clone();
        change(&mut spec, m)?;
        networks(client, &mut spec, m).await?;
        resolve::names(client, &mut spec).await?;
        let image = spec.pointer("/TaskTemplate/ContainerSpec/Image").and_then(Value::as_str).unwrap_or_default().to_owned();
        let auth = crate::config::auth::header(&app.config, &image);
        let headers = [("X-Registry-Auth", auth.as_str())];
        if m.given("image")
            && !m.on("no-resolve-image")
            && let Some(warning) = resolve::pin(client, &mut spec, &headers).await
        {
            warn(&warning);
        }
        if m.on("with-registry-auth") {
            send(client, &service, &spec, &[], &headers).await?;
        } else {
            send(client, &service, &spec, &[("registryAuthFrom", "spec")], &[]).await?;
        }
    }
    print(&format!("{name}\n"))?;
    after(app, m, name).await
}

pub(super) async fn rollback(app: &App, m: &Matches) -> Result<u8, Failure> {
    let client = app.client().await?;
    let service = one(client, m.arg(0)).await?;
    send(client, &service, &service["Spec"], &[("rollback", "previous"), ("registryAuthFrom", "spec")], &[]).await?;
    print(&format!("{}\n", m.arg(0)))?;
    after(app, m, m.arg(0)).await
}

/// `web=5`.
fn specifier<'a>(program: &str, text: &'a str) -> Result<(&'a str, u64), Failure> {
    let (name, n) = text.split_once('=').ok_or_else(|| {
        Failure::new(format!(
            "invalid scale specifier '{text}'.\nSee '{program} service scale --help'.\n\nUsage:  {program} service scale \
             SERVICE=REPLICAS [SERVICE=REPLICAS...]\n\nScale one or multiple replicated services"
        ))
    })?;
    let n = n.parse().map_err(|_| {
        Failure::new(format!("{name}: invalid replicas value {n}: strconv.ParseUint: parsing {n:?}: invalid syntax"))
    })?;
    Ok((name, n))
}

/// Sets the number of a service's tasks.
fn set_scale(spec: &mut Value, n: u64) -> Result<(), Failure> {
    if spec["Mode"].get("Replicated").is_some() {
        put(spec, &["Mode", "Replicated", "Replicas"], json!(n));
    } else if spec["Mode"].get("ReplicatedJob").is_some() {
        put(spec, &["Mode", "ReplicatedJob", "TotalCompletions"], json!(n));
    } else {
        return Err(Failure::new("scale can only be used with replicated or replicated-job mode"));
    }
    Ok(())
}

pub(super) async fn scale(app: &App, m: &Matches) -> Result<u8, Failure> {
    let wanted: Vec<(&str, u64)> = m.args().iter().map(|a| specifier(&app.program, a)).collect::<Result<_, _>>()?;
    let client = app.client().await?;
    let mut failed = Vec::new();
    let mut scaled = Vec::new();
    for (name, n) in wanted {
        let done = async {
            let service = one(client, name).await?;
            let mut spec = service["Spec"].clone();
            set_scale(&mut spec, n)?;
            send(client, &service, &spec, &[], &[]).await
        };
        match done.await {
            Ok(()) => {
                print(&format!("{name} scaled to {n}\n"))?;
                scaled.push(name);
            }
            Err(e) => failed.push(Failure::new(format!("{name}: {}", e.message))),
        }
    }
    if !m.on("detach") || m.on("wait") {
        for name in scaled {
            match progress::follow(client, &app.program, name, false).await {
                Ok(progress::Ended::Interrupted) => break,
                Ok(progress::Ended::Converged) => {}
                Err(e) => failed.push(Failure::new(format!("{name}: {}", e.message))),
            }
        }
    }
    Failure::all(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::tests::{read, words};

    fn service() -> Value {
        json!({
            "Name": "web", "Labels": {"a": "1"}, "Mode": {"Replicated": {"Replicas": 2}},
            "TaskTemplate": {
                "ContainerSpec": {
                    "Image": "nginx:1@sha256:0", "Env": ["A=1", "B=2"], "Hosts": ["10.0.0.1 a", "10.0.0.2 a"],
                    "Mounts": [{"Type": "volume", "Source": "v", "Target": "/v"}], "CapabilityDrop": ["CAP_CHOWN"],
                    "Secrets": [{"SecretName": "old", "SecretID": "1", "File": {"Name": "pw"}}],
                },
                "Placement": {"Constraints": ["node.role==worker"]}, "ForceUpdate": 3,
            },
            "EndpointSpec": {"Mode": "vip", "Ports": [{"Protocol": "tcp", "TargetPort": 5000, "PublishedPort": 80, "PublishMode": "ingress"}]},
        })
    }

    fn changed(line: &str) -> Value {
        let mut spec = service();
        change(&mut spec, &read(&format!("service update {line} web"))).unwrap_or_else(|e| panic!("{line}: {}", e.message));
        spec
    }

    #[test]
    fn nothing_asked_is_nothing_changed() {
        assert_eq!(changed(""), service());
        assert_eq!(changed("--detach -q"), service());
    }

    #[test]
    fn lists_are_added_to_and_taken_from() {
        let c = |line: &str, path: &str| changed(line).pointer(path).cloned().unwrap_or(Value::Null);
        let container = |line: &str, key: &str| c(line, &format!("/TaskTemplate/ContainerSpec/{key}"));
        assert_eq!(container("--env-add A=9 --env-add C=3 --env-rm B", "Env"), json!(["A=9", "C=3"]));
        assert_eq!(c("--label-rm a --label-add b=2", "/Labels"), json!({"b": "2"}));
        assert_eq!(container("--host-rm a:10.0.0.1 --host-add b:10.0.0.3", "Hosts"), json!(["10.0.0.2 a", "10.0.0.3 b"]));
        assert_eq!(
            container("--mount-rm /v --mount-add src=w,dst=/w", "Mounts"),
            json!([{"Type": "volume", "Source": "w", "Target": "/w"}])
        );
        assert_eq!(container("--cap-add chown", "CapabilityAdd"), json!(["CAP_CHOWN"]));
        assert_eq!(container("--cap-add chown", "CapabilityDrop"), json!([]));
        assert_eq!(
            c("--publish-rm 80:5000 --publish-add 8080:5000", "/EndpointSpec/Ports"),
            json!([{"Protocol": "tcp", "TargetPort": 5000, "PublishedPort": 8080, "PublishMode": "ingress"}])
        );
        assert_eq!(c("--publish-rm 5000", "/EndpointSpec/Ports"), json!([]));
        assert_eq!(c("--publish-rm 81:5000", "/EndpointSpec/Ports").as_array().unwrap().len(), 1);
        assert_eq!(
            container("--secret-rm old --secret-add source=new,target=pw", "Secrets"),
            json!([{"SecretName": "new", "File": {"Name": "pw", "UID": "0", "GID": "0", "Mode": 292}}])
        );
        assert_eq!(
            c("--constraint-rm node.role==worker --constraint-add node.id==x", "/TaskTemplate/Placement/Constraints"),
            json!(["node.id==x"])
        );
        assert_eq!(c("--force", "/TaskTemplate/ForceUpdate"), 4);
        assert_eq!(c("--replicas 5 --image nginx:2", "/Mode"), json!({"Replicated": {"Replicas": 5}}));
        let line = ["service", "update", "--args", "-c 'a b'", "web"].map(str::to_owned);
        let mut spec = service();
        change(&mut spec, &words(&line)).unwrap();
        assert_eq!(spec.pointer("/TaskTemplate/ContainerSpec/Args"), Some(&json!(["-c", "a b"])));
    }

    #[test]
    fn numbers_of_tasks() {
        assert_eq!(specifier("skep", "web=5").unwrap(), ("web", 5));
        assert!(
            specifier("skep", "web").is_err()
                && specifier("skep", "web=x").unwrap_err().message.contains("invalid replicas value x")
        );
        let mut global = json!({"Mode": {"Global": {}}});
        assert_eq!(
            set_scale(&mut global, 2).unwrap_err().message,
            "scale can only be used with replicated or replicated-job mode"
        );
        let mut spec = json!({"Mode": {"Global": {}}});
        let refused = change(&mut spec, &read("service update --replicas 2 web")).unwrap_err();
        assert_eq!(refused.message, "replicas can only be used with replicated mode");
    }
}
