//! Every bad service spec, over the API of a real manager: the reference's status and text, and nothing changes. Texts are those
//! of swarmkit's `controlapi` and moby's `cluster/convert`; what Docker takes in silence and has no meaning is refused too.

use serde_json::{Value, json};
use skep_e2e::bed::{Bed, LONG};

use crate::needs;

/// What stands before a text of the manager's.
const BAD: &str = "rpc error: code = InvalidArgument desc = ";

/// A spec that is right, for a service of this name.
fn good(name: &str) -> Value {
    json!({"Name": name, "TaskTemplate": {"ContainerSpec": {"Image": "ws:1.0"}}})
}

/// Puts `value` where `path` says, making the objects on the way.
fn put(spec: &mut Value, path: &str, value: Value) {
    let mut at = spec;
    for key in path.split('.') {
        at = &mut at[key];
    }
    *at = value;
}

/// Status and text without [`BAD`], which stands before the text if it begins with `!`.
type Case = (&'static str, Value, u16, &'static str);

/// What is wrong in itself: where, what, status and text.
fn wrong() -> Vec<Case> {
    let long = "a".repeat(64);
    let port = |mode: &str| json!({"TargetPort": 80, "PublishedPort": 8080, "PublishMode": mode});
    let mount = |target: &str| json!({"Type": "tmpfs", "Target": target});
    vec![
        ("Name", json!("not_-good_"), 400, "!name must be valid as a DNS name component"),
        ("Name", json!("ä"), 400, "!name must be valid as a DNS name component"),
        ("Name", json!(long), 400, "!name must be 63 characters or fewer"),
        ("Name", json!(7), 400, "invalid JSON: cannot read a number as Name: invalid type: integer `7`, expected a string"),
        ("Labels", json!({"": "x"}), 400, "!label key must not be empty"),
        (
            "Labels",
            json!({"skep.update.deadline": "soon"}),
            400,
            "!label skep.update.deadline=soon: the value must be a duration above zero, such as 90s or 1h30m",
        ),
        (
            "Labels",
            json!({"skep.restart": "5m"}),
            400,
            "!label skep.restart is no option of a service: those that begin with skep. are skep.mesh.prefer, skep.restart.backoff, skep.update.deadline",
        ),
        ("TaskTemplate.ContainerSpec.Privileges.AppArmor.Mode", json!("mine"), 400, "!invalid AppArmor mode: \"mine\""),
        (
            "TaskTemplate.ContainerSpec.Privileges.CredentialSpec",
            json!({"Config": "x"}),
            400,
            "credential specs are for containers of Windows: this swarm runs containers of Linux, leave --credential-spec out",
        ),
        ("TaskTemplate.LogDriver", json!({"Name": "gcplogs"}), 501, "the log driver gcplogs is not built yet in Skep"),
        (
            "TaskTemplate.LogDriver",
            json!({"Name": "syslog", "Options": {"colour": "red"}}),
            400,
            "unknown log opt 'colour' for syslog log driver",
        ),
        (
            "TaskTemplate.ContainerSpec.Mounts",
            json!([{"Type": "volume", "Target": "/a", "VolumeOptions": {"DriverConfig": {"Options": {"o": "addr=x"}}}}]),
            400,
            "invalid mount config: missing required option: \"device\"",
        ),
        (
            "TaskTemplate.ContainerSpec.Ulimits",
            json!([{"Name": "sheep", "Soft": 1, "Hard": 1}]),
            400,
            "invalid ulimit type: sheep",
        ),
        (
            "TaskTemplate.ContainerSpec.DNSConfig.Nameservers",
            json!(["x"]),
            400,
            "!ContainerSpec: invalid nameserver \"x\": it must be an IP address",
        ),
        ("Mode", json!({"Global": {}, "Replicated": {}}), 400, "must specify only one service mode"),
        ("Mode", json!({"GlobalJob": {}, "ReplicatedJob": {}}), 400, "must specify only one service mode"),
        ("Mode.Replicated.Replicas", json!(-1), 400, "!Number of replicas must be non-negative"),
        ("Mode.Replicated.Replicas", json!(u64::MAX), 400, "!Number of replicas must be non-negative"),
        ("Mode.ReplicatedJob.MaxConcurrent", json!(-1), 400, "!Maximum concurrent jobs must not be negative"),
        ("Mode.ReplicatedJob.TotalCompletions", json!(-1), 400, "!Total completed jobs must not be negative"),
        ("TaskTemplate", json!({}), 400, "mismatched Runtime and *Spec fields"),
        ("TaskTemplate.ContainerSpec", json!(null), 400, "mismatched Runtime and *Spec fields"),
        ("TaskTemplate.Runtime", json!("wasm"), 400, "unsupported runtime"),
        ("TaskTemplate.Runtime", json!("plugin"), 501, "a service that runs no containers is not built yet in Skep"),
        ("TaskTemplate.ContainerSpec.Image", json!(""), 400, "!ContainerSpec: image reference must be provided"),
        ("TaskTemplate.ContainerSpec.Image", json!("UP/x:"), 400, "!ContainerSpec: \"UP/x:\" is not a valid repository/tag"),
        (
            "TaskTemplate.ContainerSpec.Mounts",
            json!([mount("/a"), mount("/a")]),
            400,
            "!ContainerSpec: duplicate mount point: /a",
        ),
        ("TaskTemplate.ContainerSpec.Mounts", json!([{"Type": "x", "Target": "/a"}]), 400, "invalid MountType: \"x\""),
        (
            "TaskTemplate.ContainerSpec.Mounts",
            json!([{"Type": "bind", "Source": "/", "Target": "/a", "BindOptions": {"Propagation": "x"}}]),
            400,
            "invalid MountPropagation: \"x\"",
        ),
        (
            "TaskTemplate.ContainerSpec.Env",
            json!(["A={{.Task.Nope}}"]),
            400,
            "!expanding env failed: template: unknown placeholder {{.Task.Nope}}",
        ),
        ("TaskTemplate.ContainerSpec.StopGracePeriod", json!(-1), 400, "!ContainerSpec: stop-grace-period cannot be negative"),
        (
            "TaskTemplate.ContainerSpec.Healthcheck.Interval",
            json!(999_999),
            400,
            "!ContainerSpec: Interval in HealthConfig cannot be less than 1ms",
        ),
        (
            "TaskTemplate.ContainerSpec.Healthcheck.Timeout",
            json!(-1),
            400,
            "!ContainerSpec: Timeout in HealthConfig cannot be less than 1ms",
        ),
        (
            "TaskTemplate.ContainerSpec.Healthcheck.StartPeriod",
            json!(1),
            400,
            "!ContainerSpec: StartPeriod in HealthConfig cannot be less than 1ms",
        ),
        (
            "TaskTemplate.ContainerSpec.Healthcheck.Retries",
            json!(-2),
            400,
            "!ContainerSpec: Retries in HealthConfig cannot be negative",
        ),
        ("TaskTemplate.Resources.Limits.NanoCPUs", json!(500_000), 400, "!invalid cpu value 0.0005: Must be at least 0.001"),
        ("TaskTemplate.Resources.Limits.NanoCPUs", json!(-1), 400, "!invalid cpu value -1e-09: Must be at least 0.001"),
        ("TaskTemplate.Resources.Reservations.NanoCPUs", json!(1), 400, "!invalid cpu value 1e-09: Must be at least 0.001"),
        (
            "TaskTemplate.Resources.Limits.MemoryBytes",
            json!(4_194_303),
            400,
            "!invalid memory value 4194303: Must be at least 4MiB",
        ),
        ("TaskTemplate.Resources.Reservations.MemoryBytes", json!(-5), 400, "!invalid memory value -5: Must be at least 4MiB"),
        (
            "TaskTemplate.Resources.Reservations.GenericResources",
            json!([{"NamedResourceSpec": {"Kind": "GPU", "Value": "a"}}]),
            400,
            "!a service reserves a number of a generic resource, never a name",
        ),
        ("TaskTemplate.RestartPolicy.Condition", json!("maybe"), 400, "invalid RestartCondition: \"maybe\""),
        ("TaskTemplate.RestartPolicy.Delay", json!(-1), 400, "!TaskSpec: restart-delay cannot be negative"),
        ("TaskTemplate.RestartPolicy.Window", json!(-1), 400, "!TaskSpec: restart-window cannot be negative"),
        ("TaskTemplate.Placement.Constraints", json!(["node.role"]), 400, "!constraint expected one operator from ==, !="),
        ("TaskTemplate.Placement.Constraints", json!(["-x==y"]), 400, "!key '-x' is invalid"),
        ("TaskTemplate.Placement.Constraints", json!(["node.role=="]), 400, "!value '' is invalid"),
        ("TaskTemplate.Networks", json!([{"Target": "nowhere"}]), 404, "network nowhere not found"),
        (
            "TaskTemplate.Networks",
            json!([{"Target": "host"}, {"Target": "bridge"}]),
            400,
            "!a service on each host's own network \"host\" can be on no other network",
        ),
        (
            "TaskTemplate.Networks",
            json!([{"Target": "none"}]),
            403,
            "The network none cannot be used with services. Only networks scoped to the swarm can be used, such as those created with the overlay driver.",
        ),
        (
            "TaskTemplate.Networks",
            json!([{"Target": "ingress"}]),
            400,
            "!Service cannot be explicitly attached to the ingress network \"ingress\"",
        ),
        ("UpdateConfig.FailureAction", json!("retry"), 400, "unrecognized update failure action retry"),
        ("UpdateConfig.Order", json!("sideways"), 400, "unrecognized update order sideways"),
        ("UpdateConfig.Delay", json!(-1), 400, "!TaskSpec: update-delay cannot be negative"),
        ("UpdateConfig.Monitor", json!(-1), 400, "!TaskSpec: update-monitor cannot be negative"),
        (
            "UpdateConfig.MaxFailureRatio",
            json!(1.5),
            400,
            "!TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1",
        ),
        (
            "UpdateConfig.MaxFailureRatio",
            json!(-0.1),
            400,
            "!TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1",
        ),
        ("RollbackConfig.FailureAction", json!("rollback"), 400, "unrecognized update failure action rollback"),
        ("RollbackConfig.Delay", json!(-1), 400, "!TaskSpec: rollback-delay cannot be negative"),
        ("EndpointSpec.Mode", json!("anycast"), 400, "invalid resolution mode: \"anycast\""),
        (
            "EndpointSpec",
            json!({"Mode": "dnsrr", "Ports": [port("ingress")]}),
            400,
            "!EndpointSpec: port published with ingress mode can't be used with dnsrr mode",
        ),
        (
            "EndpointSpec.Ports",
            json!([port("ingress"), port("host")]),
            400,
            "!EndpointSpec: duplicate published ports provided",
        ),
        ("EndpointSpec.Ports", json!([{"TargetPort": 0}]), 400, "!EndpointSpec: target port must be between 1 and 65535"),
        (
            "EndpointSpec.Ports",
            json!([{"TargetPort": 80, "PublishedPort": 70000}]),
            400,
            "!EndpointSpec: invalid port 70000: it must be at most 65535",
        ),
        ("EndpointSpec.Ports", json!([{"TargetPort": 80, "Protocol": "x"}]), 400, "!EndpointSpec: invalid protocol: \"x\""),
        (
            "EndpointSpec.Ports",
            json!([{"TargetPort": 80, "PublishedPort": 81, "Protocol": "sctp"}, {"TargetPort": 82, "PublishedPort": 81, "Protocol": "sctp"}]),
            400,
            "!EndpointSpec: duplicate published ports provided",
        ),
        (
            "EndpointSpec.Ports",
            json!([{"TargetPort": 80, "PublishMode": "x"}]),
            400,
            "!EndpointSpec: invalid publish mode: \"x\"",
        ),
    ]
}

/// Everything that a call could have changed.
fn everything(bed: &Bed) -> Vec<Value> {
    let read = |path: &str| bed.api("manager", "GET", path, None).unwrap_or_else(|e| panic!("{path}: {e}"));
    let tasks = read("/tasks");
    let tasks = tasks.as_array().into_iter().flatten().map(|t| json!([t["ID"], t["DesiredState"], t["NodeID"]])).collect();
    vec![read("/services"), read("/networks"), tasks, read("/volumes"), read("/containers/json?all=1")]
}

/// Every bad call is refused in these words.
fn refuses(bed: &Bed, method: &str, path: &str, body: Option<&Value>, status: u16, text: &str) {
    let text = text.strip_prefix('!').map_or_else(|| text.to_owned(), |t| format!("{BAD}{t}"));
    assert_eq!(bed.refused("manager", method, path, body), (status, text), "{method} {path} {body:?}");
}

#[test]
fn bad_specs_change_nothing() {
    needs!();
    let bed = Bed::bare(75, 1, &[]);
    bed.form(1);
    bed.load_demo("ws:1.0", "1.0");
    let create = |spec: &Value| bed.api("manager", "POST", "/services/create", Some(spec)).unwrap_or_else(|e| panic!("{e}"));
    let mut web = good("web");
    put(&mut web, "EndpointSpec.Ports", json!([{"TargetPort": 8000, "PublishedPort": 80}]));
    let id = create(&web)["ID"].as_str().unwrap_or_default().to_owned();
    let mut host = good("host");
    put(&mut host, "EndpointSpec.Ports", json!([{"TargetPort": 8000, "PublishedPort": 81, "PublishMode": "host"}]));
    let host = create(&host)["ID"].as_str().unwrap_or_default().to_owned();
    let mut job = good("job");
    put(&mut job, "Mode.GlobalJob", json!({}));
    put(&mut job, "TaskTemplate.Placement.Constraints", json!(["node.role==nobody"]));
    create(&job);
    bed.await_running("manager", "web", 1, LONG);
    bed.await_running("manager", "host", 1, LONG);
    let before = everything(&bed);
    let version = before[0].as_array().into_iter().flatten().find(|s| s["ID"] == *id).map(|s| s["Version"]["Index"].clone());
    let version = version.unwrap_or_else(|| panic!("no service web in {before:?}"));
    let update = |query: &str| format!("/services/web/update?version={version}{query}");

    for (path, value, status, text) in wrong() {
        let mut spec = good("b");
        put(&mut spec, path, value.clone());
        refuses(&bed, "POST", "/services/create", Some(&spec), status, text);
        if path.starts_with("Mode.ReplicatedJob") || path == "Name" {
            continue;
        }
        let mut spec = web.clone();
        put(&mut spec, path, value);
        refuses(&bed, "POST", &update(""), Some(&spec), status, text);
    }

    // What others have already.
    let taken = "rpc error: code = AlreadyExists desc = name conflicts with an existing object: service web already exists";
    refuses(&bed, "POST", "/services/create", Some(&good("web")), 409, taken);
    let in_use = |port: u16, name: &str, id: &str, how: &str| {
        format!("!port '{port}' is already in use by service '{name}' ({id}) as {how}")
    };
    let publish = |port: u16, mode: &str| {
        let mut spec = good("b");
        put(&mut spec, "EndpointSpec.Ports", json!([{"TargetPort": 1, "PublishedPort": port, "PublishMode": mode}]));
        spec
    };
    for (port, mode, text) in [
        (80, "ingress", in_use(80, "web", &id, "an ingress port")),
        (80, "host", in_use(80, "web", &id, "an ingress port")),
        (81, "ingress", in_use(81, "host", &host, "a host-published port")),
    ] {
        refuses(&bed, "POST", "/services/create", Some(&publish(port, mode)), 400, &text);
    }
    let mut moved = web.clone();
    put(&mut moved, "EndpointSpec.Ports", json!([{"TargetPort": 8000, "PublishedPort": 81}]));
    refuses(&bed, "POST", &update(""), Some(&moved), 400, &in_use(81, "host", &host, "a host-published port"));

    // Jobs.
    for config in ["UpdateConfig", "RollbackConfig"] {
        let mut spec = good("b");
        put(&mut spec, "Mode.GlobalJob", json!({}));
        put(&mut spec, config, json!({"Parallelism": 1}));
        refuses(&bed, "POST", "/services/create", Some(&spec), 400, "!Jobs may not have an update config");
    }

    // Updates.
    let to = |path: &str, value: Value| {
        let mut spec = web.clone();
        put(&mut spec, path, value);
        spec
    };
    let unimplemented = "rpc error: code = Unimplemented desc = ";
    let rename = format!("{unimplemented}renaming services is not supported");
    refuses(&bed, "POST", &update(""), Some(&to("Name", json!("web2"))), 501, &rename);
    let mode = format!("{unimplemented}service mode change is not allowed");
    for kind in ["Global", "GlobalJob", "ReplicatedJob"] {
        refuses(&bed, "POST", &update(""), Some(&to("Mode", json!({kind: {}}))), 501, &mode);
    }
    let syntax = "invalid service version '': strconv.ParseUint: parsing \"\": invalid syntax";
    refuses(&bed, "POST", "/services/web/update", Some(&web), 400, syntax);
    let syntax = "invalid service version 'new': strconv.ParseUint: parsing \"new\": invalid syntax";
    refuses(&bed, "POST", "/services/web/update?version=new", Some(&web), 400, syntax);
    let sequence = "rpc error: code = Unknown desc = update out of sequence";
    refuses(&bed, "POST", "/services/web/update?version=1", Some(&web), 500, sequence);
    refuses(&bed, "POST", "/services/nothing/update?version=1", Some(&web), 404, "service nothing not found");
    refuses(&bed, "POST", &update("&rollback=twice"), Some(&web), 400, "unrecognized rollback option twice");
    let none = format!("rpc error: code = FailedPrecondition desc = service {id} does not have a previous spec");
    refuses(&bed, "POST", &update("&rollback=previous"), Some(&web), 400, &none);
    let none = "service does not have a previous spec";
    refuses(&bed, "POST", &update("&registryAuthFrom=previous-spec"), Some(&web), 400, none);
    refuses(&bed, "POST", &update("&registryAuthFrom=moon"), Some(&web), 400, "unsupported registryAuthFrom value");
    refuses(&bed, "GET", "/services/nothing", None, 404, "service nothing not found");
    refuses(&bed, "DELETE", "/services/nothing", None, 404, "service nothing not found");
    refuses(&bed, "POST", "/services/create", Some(&json!([])), 400, "invalid JSON: the body must be an object, not an array");

    // Nodes.
    let node = bed.api("manager", "GET", "/nodes/self", None).unwrap_or_else(|e| panic!("{e}"));
    let mut spec = node["Spec"].clone();
    put(&mut spec, "Labels", json!({"skep.drain": "slowly"}));
    let path = format!("/nodes/self/update?version={}", node["Version"]["Index"]);
    refuses(&bed, "POST", &path, Some(&spec), 400, "!label skep.drain=slowly: the value must be update or at-once");

    // Cluster volumes.
    let volume =
        json!({"Name": "v", "Driver": "csi", "ClusterVolumeSpec": {"AccessMode": {"Scope": "single", "MountVolume": {}}}});
    let (status, text) = bed.refused("manager", "POST", "/volumes/create", Some(&volume));
    assert!(status == 501 && text.starts_with("cluster volumes (CSI) are not built yet in Skep"), "{status} {text}");
    let mounted = to("TaskTemplate.ContainerSpec.Mounts", json!([{"Type": "cluster", "Source": "group:g", "Target": "/a"}]));
    assert_eq!(bed.refused("manager", "POST", &update(""), Some(&mounted)), (501, text));
    let spec = json!({"Spec": {"Availability": "drain"}});
    refuses(&bed, "PUT", "/volumes/v?version=1", Some(&spec), 404, "get v: no such volume");

    assert_eq!(everything(&bed), before, "a refused call changed something");
}

#[test]
fn a_service_without_a_name_gets_one() {
    needs!();
    let bed = Bed::bare(76, 1, &[]);
    bed.form(1);
    let create = |spec: &Value| bed.api("manager", "POST", "/services/create", Some(spec)).unwrap_or_else(|e| panic!("{e}"));
    create(&good(""));
    create(&good(""));
    let names = bed.d("manager", "service ls --format {{.Name}}").ok();
    let names: Vec<&str> = names.lines().collect();
    let is_name = |n: &&str| n.split_once('_').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty());
    assert!(names.len() == 2 && names[0] != names[1] && names.iter().all(is_name), "{names:?}");
}

/// Each takes the next address of the same network: none may be refused for the others.
#[test]
fn many_services_are_created_on_one_network_at_once() {
    needs!();
    let bed = Bed::swarm(53, 1, 1);
    let _ = bed.d("manager", "network create -d overlay back").ok();
    let create = |n: usize| {
        let spec = json!({
            "Name": format!("s{n}"), "Mode": {"Replicated": {"Replicas": 0}},
            "TaskTemplate": {"ContainerSpec": {"Image": "ws:1.0"}, "Networks": [{"Target": "back"}]},
        });
        bed.api("manager", "POST", "/services/create", Some(&spec))
    };
    let failed: Vec<String> = std::thread::scope(|s| {
        let create = &create;
        let all: Vec<_> = (0..48).map(|n| s.spawn(move || create(n))).collect();
        all.into_iter().filter_map(|t| t.join().expect("no panic").err()).collect()
    });
    assert_eq!(failed, Vec::<String>::new());
    assert_eq!(bed.api("manager", "GET", "/services", None).expect("services").as_array().map(Vec::len), Some(48));
}
