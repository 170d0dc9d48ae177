//! The flags of `run` and `create` as the body of `/containers/create`. Pure, but for files that are named.

use serde_json::{Map, Value, json};

use crate::app::Failure;
use crate::commands::service::{capabilities, spec::healthcheck};
use crate::grammar::Matches;
use crate::options::{environment, file_lines, map, mount, port, put, refs};

fn invalid(flag: &str, value: &str, why: &str) -> Failure {
    Failure::with(125, format!("invalid argument {value:?} for \"{flag}\" flag: {why}"))
}

/// Whether a stream is attached: by `-a`, or all of them when nothing is said and it does not run in the background.
pub(super) fn attached(m: &Matches, stream: &str, detach: bool) -> bool {
    if m.given("attach") {
        return m.list("attach").iter().any(|a| a.eq_ignore_ascii_case(stream));
    }
    !detach && (stream != "stdin" || m.on("interactive"))
}

/// The body, with its networks under the names that were typed.
pub(super) fn body(m: &Matches, detach: bool) -> Result<Value, Failure> {
    let mut out = json!({
        "Image": m.arg(0), "Hostname": m.text_or_empty("hostname"), "Domainname": m.text_or_empty("domainname"),
        "User": m.text_or_empty("user"), "WorkingDir": m.text_or_empty("workdir"),
        "AttachStdin": attached(m, "stdin", detach), "AttachStdout": attached(m, "stdout", detach),
        "AttachStderr": attached(m, "stderr", detach), "Tty": m.on("tty"), "OpenStdin": m.on("interactive"),
        "StdinOnce": m.on("interactive") && attached(m, "stdin", detach),
        "HostConfig": {"AutoRemove": m.on("rm"), "NetworkMode": "default"},
    });
    if m.args().len() > 1 {
        out["Cmd"] = m.args()[1..].into();
    }
    if let Some(entrypoint) = m.text("entrypoint") {
        // An empty one takes the image's away.
        out["Entrypoint"] = json!([entrypoint]);
    }
    let env = environment(m.list("env-file"), m.list("env")).map_err(|e| Failure::with(125, e))?;
    if !env.is_empty() {
        out["Env"] = env.into();
    }
    let mut labels = file_lines(m.list("label-file")).map_err(|e| Failure::with(125, e))?;
    labels.extend(m.list("label").iter().cloned());
    out["Labels"] = map(&labels);
    if let Some(signal) = m.text("stop-signal") {
        out["StopSignal"] = signal.into();
    }
    if let Some(seconds) = m.int("stop-timeout") {
        out["StopTimeout"] = seconds.into();
    }
    if let Some(check) = healthcheck(m)? {
        out["Healthcheck"] = check;
    }
    ports(&mut out, m)?;
    volumes(&mut out, m)?;
    host(&mut out["HostConfig"], m)?;
    networks(&mut out, m)?;
    Ok(out)
}

fn ports(out: &mut Value, m: &Matches) -> Result<(), Failure> {
    let mut exposed = Map::new();
    let mut bindings: Map<String, Value> = Map::new();
    for text in m.list("publish") {
        for port in port::short(text).map_err(|why| invalid("-p, --publish", text, &why))? {
            let key = format!("{}/{}", port.target, port.protocol);
            exposed.insert(key.clone(), json!({}));
            let list = bindings.entry(key).or_insert_with(|| json!([]));
            if let Some(list) = list.as_array_mut() {
                list.push(json!({"HostIp": port.ip, "HostPort": port.published}));
            }
        }
    }
    for text in m.list("expose") {
        for port in port::short(text).map_err(|why| invalid("--expose", text, &why))? {
            exposed.insert(format!("{}/{}", port.target, port.protocol), json!({}));
        }
    }
    if !exposed.is_empty() {
        out["ExposedPorts"] = exposed.into();
    }
    if !bindings.is_empty() {
        put(out, &["HostConfig", "PortBindings"], Value::Object(bindings));
    }
    if m.on("publish-all") {
        put(out, &["HostConfig", "PublishAllPorts"], true);
    }
    Ok(())
}

/// `-v PATH` is a volume without a name; `-v A:B[:mode]` binds; a path that begins with a dot is the client's.
fn volumes(out: &mut Value, m: &Matches) -> Result<(), Failure> {
    let mut binds = Vec::new();
    let mut anonymous = Map::new();
    for text in m.list("volume") {
        let parts: Vec<&str> = text.split(':').collect();
        match parts.as_slice() {
            [target] if target.starts_with('/') => {
                anonymous.insert((*target).to_owned(), json!({}));
            }
            [source, rest @ ..] if !rest.is_empty() && rest.len() < 3 && !source.is_empty() => {
                let absolute = source.starts_with('.').then(|| std::path::absolute(source).ok()).flatten();
                let source = absolute.map_or_else(|| (*source).to_owned(), |p| p.display().to_string());
                binds.push(Value::from(format!("{source}:{}", rest.join(":"))));
            }
            _ => return Err(invalid("-v, --volume", text, &format!("invalid volume specification: '{text}'"))),
        }
    }
    if !binds.is_empty() {
        put(out, &["HostConfig", "Binds"], binds);
    }
    if !anonymous.is_empty() {
        out["Volumes"] = anonymous.into();
    }
    let mut mounts = Vec::new();
    for text in m.list("mount") {
        mounts.push(mount::parse(text).map_err(|why| invalid("--mount", text, &why))?);
    }
    if !mounts.is_empty() {
        put(out, &["HostConfig", "Mounts"], mounts);
    }
    if m.given("tmpfs") {
        let one = |t: &String| t.split_once(':').map_or((t.clone(), "".into()), |(p, o)| (p.to_owned(), Value::from(o)));
        put(out, &["HostConfig", "Tmpfs"], Value::Object(m.list("tmpfs").iter().map(one).collect()));
    }
    Ok(())
}

fn host(h: &mut Value, m: &Matches) -> Result<(), Failure> {
    for (flag, key) in [
        ("cgroup-parent", "CgroupParent"),
        ("cgroupns", "CgroupnsMode"),
        ("cpuset-cpus", "CpusetCpus"),
        ("cpuset-mems", "CpusetMems"),
        ("ipc", "IpcMode"),
        ("isolation", "Isolation"),
        ("pid", "PidMode"),
        ("runtime", "Runtime"),
        ("userns", "UsernsMode"),
        ("uts", "UTSMode"),
        ("volume-driver", "VolumeDriver"),
    ] {
        if let Some(text) = m.text(flag) {
            h[key] = text.into();
        }
    }
    for (flag, key, value) in [
        ("cpu-period", "CpuPeriod", m.int("cpu-period")),
        ("cpu-quota", "CpuQuota", m.int("cpu-quota")),
        ("cpu-shares", "CpuShares", m.int("cpu-shares")),
        ("cpus", "NanoCpus", m.nano_cpus("cpus")),
        ("memory", "Memory", m.bytes("memory")),
        ("memory-reservation", "MemoryReservation", m.bytes("memory-reservation")),
        ("memory-swap", "MemorySwap", m.bytes("memory-swap")),
        ("memory-swappiness", "MemorySwappiness", m.int("memory-swappiness")),
        ("oom-score-adj", "OomScoreAdj", m.int("oom-score-adj")),
        ("pids-limit", "PidsLimit", m.int("pids-limit")),
        ("shm-size", "ShmSize", m.bytes("shm-size")),
        ("blkio-weight", "BlkioWeight", m.int("blkio-weight")),
    ] {
        if m.given(flag)
            && let Some(value) = value
        {
            h[key] = value.into();
        }
    }
    for (flag, key) in [
        ("privileged", "Privileged"),
        ("read-only", "ReadonlyRootfs"),
        ("init", "Init"),
        ("oom-kill-disable", "OomKillDisable"),
    ] {
        if let Some(on) = m.switch(flag) {
            h[key] = on.into();
        }
    }
    for (flag, key) in [
        ("device-cgroup-rule", "DeviceCgroupRules"),
        ("dns", "Dns"),
        ("dns-option", "DnsOptions"),
        ("dns-search", "DnsSearch"),
        ("group-add", "GroupAdd"),
        ("link", "Links"),
        ("security-opt", "SecurityOpt"),
        ("volumes-from", "VolumesFrom"),
    ] {
        if m.given(flag) {
            h[key] = m.list(flag).into();
        }
    }
    for (flag, key) in [("cap-add", "CapAdd"), ("cap-drop", "CapDrop")] {
        if m.given(flag) {
            h[key] = capabilities(m.list(flag)).into();
        }
    }
    for (flag, key) in [("sysctl", "Sysctls"), ("storage-opt", "StorageOpt"), ("annotation", "Annotations")] {
        if m.given(flag) {
            h[key] = map(m.list(flag));
        }
    }
    if m.given("add-host") {
        let mut all = Vec::new();
        for text in m.list("add-host") {
            let (name, ip) = text
                .split_once(['=', ':'])
                .filter(|(n, i)| !n.is_empty() && !i.is_empty())
                .ok_or_else(|| invalid("--add-host", text, &format!("bad format for add-host: {text:?}")))?;
            all.push(Value::from(format!("{name}:{}", ip.trim_matches(['[', ']']))));
        }
        h["ExtraHosts"] = all.into();
    }
    if m.given("ulimit") {
        let mut all = Vec::new();
        for text in m.list("ulimit") {
            all.push(refs::ulimit(text).map_err(|why| invalid("--ulimit", text, &why))?);
        }
        h["Ulimits"] = all.into();
    }
    if m.given("device") {
        let one = |d: &String| {
            let parts: Vec<&str> = d.split(':').collect();
            let (on_host, inside) = (parts[0], parts.get(1).filter(|p| p.starts_with('/')).unwrap_or(&parts[0]));
            let mode = parts.get(2).or_else(|| parts.get(1).filter(|p| !p.starts_with('/'))).unwrap_or(&"rwm");
            json!({"PathOnHost": on_host, "PathInContainer": inside, "CgroupPermissions": mode})
        };
        h["Devices"] = m.list("device").iter().map(one).collect();
    }
    if m.given("log-driver") || m.given("log-opt") {
        h["LogConfig"] = json!({"Type": m.text_or_empty("log-driver"), "Config": map(m.list("log-opt"))});
    }
    if let Some(policy) = m.text("restart") {
        let policy = restart(policy)?;
        if m.on("rm") && policy["Name"] != "no" {
            return Err(Failure::with(125, "conflicting options: cannot specify both --restart and --rm"));
        }
        h["RestartPolicy"] = policy;
    }
    Ok(())
}

/// `always`, `on-failure:3`.
pub(super) fn restart(text: &str) -> Result<Value, Failure> {
    let (name, count) = text.split_once(':').unwrap_or((text, "0"));
    let bad = |_| Failure::with(125, "invalid restart policy format: maximum retry count must be an integer".to_owned());
    let count: u32 = count.parse().map_err(bad)?;
    Ok(json!({"Name": name, "MaximumRetryCount": count}))
}

fn networks(out: &mut Value, m: &Matches) -> Result<(), Failure> {
    let mut endpoints = Map::new();
    let all: Vec<&String> = m.list("network").iter().chain(m.list("net")).collect();
    for (i, text) in all.iter().enumerate() {
        let network = refs::network_of_container(text).map_err(|why| invalid("--network", text, &why))?;
        let (name, mut endpoint) = network;
        if i == 0 {
            put(out, &["HostConfig", "NetworkMode"], name.clone());
            if m.given("network-alias") {
                endpoint["Aliases"] = m.list("network-alias").into();
            }
            for (flag, key) in [("ip", "IPv4Address"), ("ip6", "IPv6Address")] {
                if let Some(ip) = m.text(flag) {
                    put(&mut endpoint, &["IPAMConfig", key], ip);
                }
            }
        }
        if endpoint.as_object().is_some_and(|e| !e.is_empty()) || all.len() > 1 {
            endpoints.insert(name, endpoint);
        }
    }
    if all.is_empty() && (m.given("ip") || m.given("ip6")) {
        return Err(Failure::with(125, "--ip and --ip6 need a network of one's own: give --network"));
    }
    if let Some(mac) = m.text("mac-address") {
        out["MacAddress"] = mac.into();
    }
    if !endpoints.is_empty() {
        out["NetworkingConfig"] = json!({"EndpointsConfig": endpoints});
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::tests::read;

    fn of(line: &str) -> Value {
        let m = read(&format!("run {line}"));
        body(&m, m.on("detach")).unwrap_or_else(|e| panic!("{line}: {}", e.message))
    }

    #[test]
    fn command_lines_become_bodies() {
        assert_eq!(
            of("--rm -it -e A=1 alpine sh -c x"),
            json!({
                "Image": "alpine", "Cmd": ["sh", "-c", "x"], "Env": ["A=1"], "Hostname": "", "Domainname": "", "User": "", "WorkingDir": "",
                "AttachStdin": true, "AttachStdout": true, "AttachStderr": true, "Tty": true, "OpenStdin": true, "StdinOnce": true,
                "Labels": {}, "HostConfig": {"AutoRemove": true, "NetworkMode": "default"},
            })
        );
        let d = of(
            "-d --name x -p 8080:80 -p 53/udp -v data:/v:ro -v /anon --restart on-failure:3 --network demo --network-alias a --ip 10.0.0.9 nginx",
        );
        assert_eq!((&d["AttachStdout"], &d["Volumes"]), (&json!(false), &json!({"/anon": {}})));
        assert_eq!(
            d["HostConfig"],
            json!({
                "AutoRemove": false, "NetworkMode": "demo", "Binds": ["data:/v:ro"],
                "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}], "53/udp": [{"HostIp": "", "HostPort": ""}]},
                "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
            })
        );
        assert_eq!(
            d["NetworkingConfig"]["EndpointsConfig"]["demo"],
            json!({"Aliases": ["a"], "IPAMConfig": {"IPv4Address": "10.0.0.9"}})
        );
        let h = of(
            "-m 64m --cpus 0.5 --pids-limit 9 --cap-drop all --cap-add net_admin --dns 1.1.1.1 --add-host a:1.2.3.4 --shm-size 1m --tmpfs /t:size=1m x",
        );
        let want = json!({
            "AutoRemove": false, "NetworkMode": "default", "Memory": 67_108_864, "NanoCpus": 500_000_000, "PidsLimit": 9, "CapDrop": ["ALL"],
            "CapAdd": ["CAP_NET_ADMIN"], "Dns": ["1.1.1.1"], "ExtraHosts": ["a:1.2.3.4"], "ShmSize": 1_048_576, "Tmpfs": {"/t": "size=1m"},
        });
        assert_eq!(h["HostConfig"], want);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let fails = |line: &str| {
            let failure = body(&read(&format!("run {line}")), false).unwrap_err();
            assert_eq!(failure.code, 125, "{line}");
            failure.message
        };
        assert!(fails("-p x:80 a").contains("invalid hostPort: x"));
        assert!(fails("-v : a").contains("invalid volume specification"));
        assert_eq!(fails("--rm --restart always a"), "conflicting options: cannot specify both --restart and --rm");
    }
}
