//! Flags that `create` and `update` share, written into a service's spec. Pure.

use serde_json::{Value, json};

use crate::app::Failure;
use crate::grammar::Matches;
use crate::options::{put, refs, words};

/// Where a container's spec is in a service's.
pub(super) const CONTAINER: &[&str] = &["TaskTemplate", "ContainerSpec"];

/// A path below the container's spec.
pub(super) fn container(path: &'static str) -> Vec<&'static str> {
    [CONTAINER, &[path]].concat()
}

/// Writes the value of a flag, if it was given.
fn write(spec: &mut Value, path: &[&str], value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        put(spec, path, value);
    }
}

/// Writes what the shared flags say. Fields whose flags were not given stay as they are.
pub(super) fn shared(spec: &mut Value, m: &Matches) -> Result<(), Failure> {
    const T: &str = "TaskTemplate";
    for (flag, path) in [
        ("hostname", "Hostname"),
        ("user", "User"),
        ("workdir", "Dir"),
        ("stop-signal", "StopSignal"),
        ("isolation", "Isolation"),
    ] {
        write(spec, &container(path), m.text(flag));
    }
    for (flag, path) in [("tty", "TTY"), ("read-only", "ReadOnly"), ("init", "Init")] {
        write(spec, &container(path), m.switch(flag));
    }
    if let Some(line) = m.text("entrypoint") {
        put(spec, &container("Command"), words::split(line).map_err(Failure::new)?);
    }
    write(spec, &container("StopGracePeriod"), m.duration("stop-grace-period"));
    write(spec, &container("OomScoreAdj"), m.int("oom-score-adj"));
    if let Some(text) = m.text("credential-spec") {
        put(spec, &[CONTAINER, &["Privileges", "CredentialSpec"]].concat(), refs::credential_spec(text).map_err(Failure::new)?);
    }
    for (flag, path, value) in [
        ("limit-cpu", ["Limits", "NanoCPUs"], m.nano_cpus("limit-cpu")),
        ("limit-memory", ["Limits", "MemoryBytes"], m.bytes("limit-memory")),
        ("limit-pids", ["Limits", "Pids"], m.int("limit-pids")),
        ("reserve-cpu", ["Reservations", "NanoCPUs"], m.nano_cpus("reserve-cpu")),
        ("reserve-memory", ["Reservations", "MemoryBytes"], m.bytes("reserve-memory")),
    ] {
        if m.given(flag) {
            write(spec, &[T, "Resources", path[0], path[1]], value);
        }
    }
    write(spec, &[T, "Resources", "SwapBytes"], m.bytes("memory-swap"));
    write(spec, &[T, "Resources", "MemorySwappiness"], m.int("memory-swappiness"));
    restart(spec, m)?;
    write(spec, &[T, "Placement", "MaxReplicas"], m.uint("replicas-max-per-node"));
    for (prefix, key) in [("update", "UpdateConfig"), ("rollback", "RollbackConfig")] {
        roll_out(spec, m, prefix, key)?;
    }
    if let Some(mode) = m.text("endpoint-mode") {
        if !matches!(mode, "vip" | "dnsrr") {
            return Err(Failure::new(format!("invalid endpoint mode: {mode}: expected vip or dnsrr")));
        }
        put(spec, &["EndpointSpec", "Mode"], mode);
    }
    if m.given("log-driver") || m.given("log-opt") {
        let mut driver = json!({"Name": m.text_or_empty("log-driver")});
        if m.given("log-opt") {
            driver["Options"] = crate::options::map(m.list("log-opt"));
        }
        put(spec, &[T, "LogDriver"], driver);
    }
    health(spec, m)
}

fn one_of(m: &Matches, flag: &str, known: &[&str]) -> Result<(), Failure> {
    match m.text(flag) {
        Some(v) if !known.contains(&v) => {
            Err(Failure::new(format!("invalid argument {v:?} for --{flag}: expected one of {}", known.join(", "))))
        }
        _ => Ok(()),
    }
}

fn restart(spec: &mut Value, m: &Matches) -> Result<(), Failure> {
    if !["restart-condition", "restart-delay", "restart-max-attempts", "restart-window"].iter().any(|f| m.given(f)) {
        return Ok(());
    }
    one_of(m, "restart-condition", &["none", "on-failure", "any"])?;
    let at = |key: &'static str| ["TaskTemplate", "RestartPolicy", key];
    // Given one of them, the client says the others too, as the daemon has no defaults within a policy.
    if !spec["TaskTemplate"]["RestartPolicy"].is_object() {
        put(
            spec,
            &["TaskTemplate", "RestartPolicy"],
            json!({"Condition": "any", "Delay": 5_000_000_000_i64, "MaxAttempts": 0}),
        );
    }
    write(spec, &at("Condition"), m.text("restart-condition"));
    write(spec, &at("Delay"), m.duration("restart-delay"));
    write(spec, &at("MaxAttempts"), m.uint("restart-max-attempts"));
    write(spec, &at("Window"), m.duration("restart-window"));
    Ok(())
}

fn roll_out(spec: &mut Value, m: &Matches, prefix: &str, key: &str) -> Result<(), Failure> {
    let flag = |name: &str| format!("{prefix}-{name}");
    let all = ["parallelism", "delay", "monitor", "failure-action", "max-failure-ratio", "order"];
    if !all.iter().any(|n| m.given(&flag(n))) {
        return Ok(());
    }
    let actions: &[&str] = if prefix == "update" { &["pause", "continue", "rollback"] } else { &["pause", "continue"] };
    one_of(m, &flag("failure-action"), actions)?;
    one_of(m, &flag("order"), &["start-first", "stop-first"])?;
    if let Some(ratio) = m.float(&flag("max-failure-ratio")).filter(|r| !(0.0..=1.0).contains(r)) {
        return Err(Failure::new(format!("invalid argument \"{ratio}\" for --{}: expected 0 to 1", flag("max-failure-ratio"))));
    }
    if !spec[key].is_object() {
        spec[key] = json!({
            "Parallelism": 1, "Delay": 0, "FailureAction": "pause", "Monitor": 5_000_000_000_i64, "MaxFailureRatio": 0.0,
            "Order": "stop-first",
        });
    }
    write(spec, &[key, "Parallelism"], m.uint(&flag("parallelism")));
    write(spec, &[key, "Delay"], m.duration(&flag("delay")));
    write(spec, &[key, "Monitor"], m.duration(&flag("monitor")));
    write(spec, &[key, "FailureAction"], m.text(&flag("failure-action")));
    write(spec, &[key, "MaxFailureRatio"], m.float(&flag("max-failure-ratio")));
    write(spec, &[key, "Order"], m.text(&flag("order")));
    Ok(())
}

/// What `--health-*` say, as the API's `Healthcheck`; nothing if none was given. Containers have the same flags.
pub(crate) fn healthcheck(m: &Matches) -> Result<Option<Value>, Failure> {
    let flags =
        ["health-cmd", "health-interval", "health-timeout", "health-retries", "health-start-period", "health-start-interval"];
    let given = flags.iter().any(|f| m.given(f));
    if m.on("no-healthcheck") {
        if given {
            return Err(Failure::new("--no-healthcheck conflicts with --health-* options"));
        }
        return Ok(Some(json!({"Test": ["NONE"]})));
    }
    if !given {
        return Ok(None);
    }
    let mut check = json!({});
    if let Some(command) = m.text("health-cmd").filter(|c| !c.is_empty()) {
        check["Test"] = json!(["CMD-SHELL", command]);
    }
    for (flag, key) in [
        ("health-interval", "Interval"),
        ("health-timeout", "Timeout"),
        ("health-start-period", "StartPeriod"),
        ("health-start-interval", "StartInterval"),
    ] {
        if let Some(span) = m.duration(flag) {
            if span < 0 {
                return Err(Failure::new(format!("--{flag} cannot be negative")));
            }
            check[key] = span.into();
        }
    }
    if let Some(n) = m.int("health-retries") {
        if n < 0 {
            return Err(Failure::new("--health-retries cannot be negative"));
        }
        check["Retries"] = n.into();
    }
    Ok(Some(check))
}

fn health(spec: &mut Value, m: &Matches) -> Result<(), Failure> {
    let Some(mut check) = healthcheck(m)? else { return Ok(()) };
    // What is not said stays as it was, unless checks are turned off.
    let path = container("Healthcheck");
    let old = spec.pointer("/TaskTemplate/ContainerSpec/Healthcheck").cloned().unwrap_or(Value::Null);
    if let (Some(new), Some(old)) = (check.as_object_mut(), old.as_object())
        && !m.on("no-healthcheck")
        && old.get("Test") != Some(&json!(["NONE"]))
    {
        for (key, value) in old {
            new.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    put(spec, &path, check);
    Ok(())
}
