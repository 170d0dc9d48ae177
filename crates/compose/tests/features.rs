//! Each key of the format that a swarm acts on, by what it becomes in the Engine API.

mod common;

use common::{container, project, stack, stack_of, web};
use serde_json::{Value, json};
use skep_compose::WarningKind;

/// Keys of a service (indent 4), a path into its body, and what stands there.
#[test]
fn keys_of_a_service() {
    let cases: &[(&str, &str, Value)] = &[
        ("    image: nginx:1", "TaskTemplate.ContainerSpec.Image", json!("nginx:1")),
        ("    command: sh -c 'echo a b'", "TaskTemplate.ContainerSpec.Args", json!(["sh", "-c", "echo a b"])),
        ("    command: [a, b c]", "TaskTemplate.ContainerSpec.Args", json!(["a", "b c"])),
        ("    entrypoint: /run.sh -x", "TaskTemplate.ContainerSpec.Command", json!(["/run.sh", "-x"])),
        ("    hostname: h-{{.Task.Slot}}", "TaskTemplate.ContainerSpec.Hostname", json!("h-{{.Task.Slot}}")),
        ("    environment: [B=2, A=1=x, C]", "TaskTemplate.ContainerSpec.Env", json!(["A=1=x", "B=2", "C"])),
        (
            "    environment: {N: 5, F: 1.10, T: yes, E: '', X: null, TAG: null, B: true}",
            "TaskTemplate.ContainerSpec.Env",
            json!(["B=true", "E=", "F=1.1", "N=5", "T=yes", "TAG=1.2", "X"]),
        ),
        ("    user: '1000:1000'", "TaskTemplate.ContainerSpec.User", json!("1000:1000")),
        ("    working_dir: /srv", "TaskTemplate.ContainerSpec.Dir", json!("/srv")),
        ("    tty: true", "TaskTemplate.ContainerSpec.TTY", json!(true)),
        ("    stdin_open: 'yes'", "TaskTemplate.ContainerSpec.OpenStdin", json!(true)),
        ("    read_only: on", "TaskTemplate.ContainerSpec.ReadOnly", json!(true)),
        ("    init: false", "TaskTemplate.ContainerSpec.Init", json!(false)),
        ("    stop_signal: SIGINT", "TaskTemplate.ContainerSpec.StopSignal", json!("SIGINT")),
        ("    stop_grace_period: 1m30s", "TaskTemplate.ContainerSpec.StopGracePeriod", json!(90_000_000_000_i64)),
        ("    group_add: [mail, 7]", "TaskTemplate.ContainerSpec.Groups", json!(["mail", "7"])),
        (
            "    dns: 8.8.8.8\n    dns_search: [a.b]\n    dns_opt: [use-vc]",
            "TaskTemplate.ContainerSpec.DNSConfig",
            json!({"Nameservers": ["8.8.8.8"], "Search": ["a.b"], "Options": ["use-vc"]}),
        ),
        ("    extra_hosts: ['db:10.0.0.1', 'v6=::1']", "TaskTemplate.ContainerSpec.Hosts", json!(["10.0.0.1 db", "::1 v6"])),
        (
            "    extra_hosts: {db: [10.0.0.1, 10.0.0.2]}",
            "TaskTemplate.ContainerSpec.Hosts",
            json!(["10.0.0.1 db", "10.0.0.2 db"]),
        ),
        (
            "    cap_add: [net_admin, CAP_CHOWN]",
            "TaskTemplate.ContainerSpec.CapabilityAdd",
            json!(["CAP_CHOWN", "CAP_NET_ADMIN"]),
        ),
        ("    cap_drop: [ALL]", "TaskTemplate.ContainerSpec.CapabilityDrop", json!(["ALL"])),
        ("    sysctls: [net.core.somaxconn=1024]", "TaskTemplate.ContainerSpec.Sysctls", json!({"net.core.somaxconn": "1024"})),
        (
            "    ulimits: {nproc: 65535, nofile: {soft: 1, hard: 2}}",
            "TaskTemplate.ContainerSpec.Ulimits",
            json!([{"Name": "nofile", "Soft": 1, "Hard": 2}, {"Name": "nproc", "Soft": 65535, "Hard": 65535}]),
        ),
        ("    oom_score_adj: -500", "TaskTemplate.ContainerSpec.OomScoreAdj", json!(-500)),
        (
            "    labels: {a: 1, b: null}",
            "TaskTemplate.ContainerSpec.Labels",
            json!({"a": "1", "b": "", "com.docker.stack.namespace": "app"}),
        ),
        (
            "    deploy: {labels: [a=1]}",
            "Labels",
            json!({"a": "1", "com.docker.stack.image": "i", "com.docker.stack.namespace": "app"}),
        ),
        (
            "    healthcheck: {test: curl -f x, interval: 5s, timeout: 1s, retries: 3, start_period: 10s, start_interval: 500ms}",
            "TaskTemplate.ContainerSpec.Healthcheck",
            json!({"Test": ["CMD-SHELL", "curl -f x"], "Interval": 5_000_000_000_i64, "Timeout": 1_000_000_000, "Retries": 3,
                   "StartPeriod": 10_000_000_000_i64, "StartInterval": 500_000_000}),
        ),
        ("    healthcheck: {disable: true}", "TaskTemplate.ContainerSpec.Healthcheck", json!({"Test": ["NONE"]})),
        (
            "    logging: {driver: json-file, options: {max-size: 10m, max-file: 3}}",
            "TaskTemplate.LogDriver",
            json!({"Name": "json-file", "Options": {"max-size": "10m", "max-file": "3"}}),
        ),
        ("    ports: []", "EndpointSpec", json!({})),
        (
            "    ports: ['8080:80', 53:53/udp, 443]",
            "EndpointSpec.Ports",
            json!([
                {"Protocol": "tcp", "TargetPort": 443, "PublishMode": "ingress"},
                {"Protocol": "udp", "TargetPort": 53, "PublishedPort": 53, "PublishMode": "ingress"},
                {"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "ingress"},
            ]),
        ),
        (
            "    ports: ['9999:9999/sctp', '9999:9999/udp', {target: 7, protocol: sctp, mode: host}]",
            "EndpointSpec.Ports",
            json!([
                {"Protocol": "sctp", "TargetPort": 7, "PublishMode": "host"},
                {"Protocol": "sctp", "TargetPort": 9999, "PublishedPort": 9999, "PublishMode": "ingress"},
                {"Protocol": "udp", "TargetPort": 9999, "PublishedPort": 9999, "PublishMode": "ingress"},
            ]),
        ),
        (
            "    ports: ['9000-9001:80-81']",
            "EndpointSpec.Ports",
            json!([
                {"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 9000, "PublishMode": "ingress"},
                {"Protocol": "tcp", "TargetPort": 81, "PublishedPort": 9001, "PublishMode": "ingress"},
            ]),
        ),
        (
            "    ports: ['9000-9001:80']",
            "EndpointSpec.Ports",
            json!([
                {"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 9000, "PublishMode": "ingress"},
                {"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 9001, "PublishMode": "ingress"},
            ]),
        ),
        (
            "    ports: [{target: 80, published: '8080', mode: host, protocol: tcp}]",
            "EndpointSpec.Ports",
            json!([{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "host"}]),
        ),
        ("    deploy: {endpoint_mode: dnsrr}", "EndpointSpec.Mode", json!("dnsrr")),
        ("", "Mode", json!({"Replicated": {"Replicas": 1}})),
        ("    deploy: {replicas: '${N:-3}'}", "Mode", json!({"Replicated": {"Replicas": 3}})),
        ("    scale: 4", "Mode", json!({"Replicated": {"Replicas": 4}})),
        ("    deploy: {mode: global}", "Mode", json!({"Global": {}})),
        ("    deploy: {mode: global-job}", "Mode", json!({"GlobalJob": {}})),
        (
            "    deploy: {mode: replicated-job, replicas: 5}",
            "Mode",
            json!({"ReplicatedJob": {"MaxConcurrent": 5, "TotalCompletions": 5}}),
        ),
        (
            "    deploy: {placement: {constraints: [node.role == manager], preferences: [{spread: node.labels.az}], max_replicas_per_node: 2}}",
            "TaskTemplate.Placement",
            json!({"Constraints": ["node.role == manager"], "MaxReplicas": 2,
                   "Preferences": [{"Spread": {"SpreadDescriptor": "node.labels.az"}}]}),
        ),
        (
            "    platform: linux/arm64",
            "TaskTemplate.Placement",
            json!({"Platforms": [{"OS": "linux", "Architecture": "arm64"}]}),
        ),
        (
            "    deploy: {resources: {limits: {cpus: '0.5', memory: 50M, pids: 10}, reservations: {cpus: 0.25, memory: 20m, \
             generic_resources: [{discrete_resource_spec: {kind: gpu, value: 2}}]}}}",
            "TaskTemplate.Resources",
            json!({"Limits": {"NanoCPUs": 500_000_000, "MemoryBytes": 52_428_800, "Pids": 10},
                   "Reservations": {"NanoCPUs": 250_000_000, "MemoryBytes": 20_971_520,
                                    "GenericResources": [{"DiscreteResourceSpec": {"Kind": "gpu", "Value": 2}}]}}),
        ),
        (
            "    cpus: 1.5\n    mem_limit: 1g\n    mem_reservation: 512m\n    pids_limit: 9",
            "TaskTemplate.Resources",
            json!({"Limits": {"NanoCPUs": 1_500_000_000, "MemoryBytes": 1_073_741_824, "Pids": 9},
                   "Reservations": {"MemoryBytes": 536_870_912}}),
        ),
        (
            "    deploy: {restart_policy: {condition: on-failure, delay: 5s, max_attempts: 3, window: 2m}}\n    restart: always",
            "TaskTemplate.RestartPolicy",
            json!({"Condition": "on-failure", "Delay": 5_000_000_000_i64, "MaxAttempts": 3, "Window": 120_000_000_000_i64}),
        ),
        ("    restart: unless-stopped", "TaskTemplate.RestartPolicy", json!({"Condition": "any"})),
        ("    restart: on-failure:4", "TaskTemplate.RestartPolicy", json!({"Condition": "on-failure", "MaxAttempts": 4})),
        ("    restart: 'no'", "TaskTemplate.RestartPolicy", Value::Null),
        (
            "    deploy: {update_config: {delay: 10s, order: start-first, failure_action: rollback, monitor: 1m, max_failure_ratio: 0.3}}",
            "UpdateConfig",
            json!({"Parallelism": 1, "Delay": 10_000_000_000_i64, "Order": "start-first", "FailureAction": "rollback",
                   "Monitor": 60_000_000_000_i64, "MaxFailureRatio": 0.3}),
        ),
        ("    deploy: {rollback_config: {parallelism: 0}}", "RollbackConfig", json!({"Parallelism": 0})),
        ("    deploy: {update_config: {}}", "RollbackConfig", Value::Null),
        (
            "    tmpfs: ['/run:size=64m,mode=1770', /tmp]",
            "TaskTemplate.ContainerSpec.Mounts",
            json!([{"Type": "tmpfs", "Target": "/run", "TmpfsOptions": {"SizeBytes": 67_108_864, "Mode": 0o1770}},
                   {"Type": "tmpfs", "Target": "/tmp"}]),
        ),
        (
            "    volumes: ['./html:/usr/share:ro,rslave', '/abs/../x:/y', '~/z:/z', /anon]",
            "TaskTemplate.ContainerSpec.Mounts",
            json!([
                {"Type": "volume", "Target": "/anon"},
                {"Type": "bind", "Source": "/app/html", "Target": "/usr/share", "ReadOnly": true, "BindOptions": {"Propagation": "rslave"}},
                {"Type": "bind", "Source": "/x", "Target": "/y"},
                {"Type": "bind", "Source": "/home/me/z", "Target": "/z"},
            ]),
        ),
        (
            "    volumes: [{type: tmpfs, target: /t, tmpfs: {size: 1048576, mode: 0700}}, {type: bind, source: ./a, target: /a, bind: {recursive: disabled}}]",
            "TaskTemplate.ContainerSpec.Mounts",
            json!([{"Type": "bind", "Source": "/app/a", "Target": "/a", "BindOptions": {"NonRecursive": true}},
                   {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1_048_576, "Mode": 0o700}}]),
        ),
    ];
    for (keys, path, expected) in cases {
        // `image` in the keys would stand twice.
        let body = match keys.strip_prefix("    image: ") {
            Some(image) => stack(&format!("services: {{web: {{image: '{image}'}}}}")).unwrap().services[0].body.clone(),
            None => web(keys),
        };
        let found = path.split('.').fold(&body, |v, key| &v[key]);
        assert_eq!(found, expected, "{keys}");
    }
}

#[test]
fn anchors_and_merges() {
    let text = "
x-base: &base
  image: nginx
  environment: &env {A: '1', B: '2'}
services:
  a:
    <<: *base
    hostname: a
  b:
    <<: [*base, {image: other, user: u}]
    environment: {<<: *env, B: '3'}
";
    let stack = stack(text).unwrap();
    let container = |n: usize| &stack.services[n].body["TaskTemplate"]["ContainerSpec"];
    assert_eq!(container(0)["Image"], json!("nginx"));
    assert_eq!(container(1)["Image"], json!("nginx"));
    assert_eq!(container(1)["User"], json!("u"));
    assert_eq!(container(1)["Env"], json!(["A=1", "B=3"]));
}

#[test]
fn files_merge_in_order() {
    let base = "
version: '3.8'
services:
  web:
    image: one
    command: [a, b]
    environment: [A=1, B=2]
    ports: ['80:80', '81:81']
    volumes: ['d:/d', 'e:/e']
    dns: [1.1.1.1]
    logging: {driver: json-file, options: {max-size: 1m}}
    deploy: {replicas: 2, labels: {x: y}, placement: {constraints: [a == b]}}
    healthcheck: {test: x, retries: 2}
volumes: {d: {}, e: {}, f: {}}
";
    let over = "
version: '3.8'
services:
  web:
    image: two
    command: c
    environment: {B: '3', C: '4'}
    ports: ['82:82', '80:80']
    volumes: ['f:/d']
    dns: 8.8.8.8
    logging: {driver: json-file, options: {max-file: 2}}
    deploy: {replicas: 5, placement: {constraints: [c == d]}}
    healthcheck: {test: [CMD, y]}
  new: {image: n}
";
    let stack = stack_of(&[("a.yml", base), ("b.yml", over)], &["a.yml", "b.yml"]).unwrap();
    assert_eq!(stack.services.len(), 2);
    let body = &stack.services[1].body;
    let container = &body["TaskTemplate"]["ContainerSpec"];
    assert_eq!(container["Image"], json!("two"));
    assert_eq!(container["Args"], json!(["c"]));
    assert_eq!(container["Env"], json!(["A=1", "B=3", "C=4"]));
    assert_eq!(container["DNSConfig"]["Nameservers"], json!(["1.1.1.1", "8.8.8.8"]));
    assert_eq!(container["Healthcheck"], json!({"Test": ["CMD", "y"], "Retries": 2}));
    let sources: Vec<&str> = container["Mounts"].as_array().unwrap().iter().map(|m| m["Source"].as_str().unwrap()).collect();
    assert_eq!(sources, ["app_f", "app_e"]);
    assert_eq!(body["TaskTemplate"]["LogDriver"]["Options"], json!({"max-size": "1m", "max-file": "2"}));
    assert_eq!(body["Mode"], json!({"Replicated": {"Replicas": 5}}));
    assert_eq!(body["TaskTemplate"]["Placement"]["Constraints"], json!(["a == b", "c == d"]));
    let published: Vec<i64> =
        body["EndpointSpec"]["Ports"].as_array().unwrap().iter().map(|p| p["PublishedPort"].as_i64().unwrap()).collect();
    assert_eq!(published, [80, 81, 82]);
}

#[test]
fn reset_and_override_tags() {
    let base = "services: {web: {image: i, ports: ['80:80'], environment: {A: '1', B: '2'}, dns: [1.1.1.1]}}";
    let over = "services: {web: {ports: !override ['90:90'], environment: {A: !reset null}, dns: !reset []}}";
    let stack = stack_of(&[("a.yml", base), ("b.yml", over)], &["a.yml", "b.yml"]).unwrap();
    let body = &stack.services[0].body;
    assert_eq!(body["EndpointSpec"]["Ports"].as_array().unwrap().len(), 1);
    assert_eq!(body["EndpointSpec"]["Ports"][0]["PublishedPort"], json!(90));
    let container = &body["TaskTemplate"]["ContainerSpec"];
    assert_eq!((&container["Env"], &container["DNSConfig"]), (&json!(["B=2"]), &Value::Null));
}

#[test]
fn documents_of_one_file_merge() {
    let stack = stack("services: {web: {image: i}}\n---\nservices: {web: {user: u}}\n---\n").unwrap();
    assert_eq!(stack.services[0].body["TaskTemplate"]["ContainerSpec"]["User"], json!("u"));
}

#[test]
fn services_extend_others() {
    let files = [
        (
            "a.yml",
            "services:\n  base: {image: i, environment: [A=1], volumes: ['./x:/x']}\n  web: {extends: base, environment: [B=2]}\n  \
             far: {extends: {file: sub/common.yml, service: app}, user: u}\n",
        ),
        (
            "sub/common.yml",
            "services:\n  root: {image: r, volumes: ['./y:/y'], env_file: e.env}\n  app: {extends: {service: root}, tty: true}\n",
        ),
        ("sub/e.env", "E=5\n"),
    ];
    let stack = stack_of(&files, &["a.yml"]).unwrap();
    let of = |key: &str| stack.services.iter().find(|s| s.key == key).unwrap().body["TaskTemplate"]["ContainerSpec"].clone();
    assert_eq!(of("web")["Env"], json!(["A=1", "B=2"]));
    assert_eq!(of("web")["Image"], json!("i"));
    assert_eq!(of("far")["Image"], json!("r"));
    assert_eq!(of("far")["TTY"], json!(true));
    assert_eq!(of("far")["User"], json!("u"));
    assert_eq!(of("far")["Env"], json!(["E=5"]));
    assert_eq!(of("far")["Mounts"][0]["Source"], json!("/app/sub/y"));
}

#[test]
fn files_include_others() {
    let files = [
        (
            "a.yml",
            "include: [sub/b.yml, {path: [c.yml, c2.yml], env_file: c.env, project_directory: ./else}]\nservices: {web: {image: i}}",
        ),
        ("sub/b.yml", "services: {b: {image: 'b:${FROM_B}', volumes: ['./d:/d']}}\nvolumes: {v: {}}"),
        ("sub/.env", "FROM_B=7\nTAG=no\n"),
        ("c.yml", "services: {c: {image: 'c:${FROM_C}-${TAG}', volumes: ['./d:/d']}}"),
        ("c2.yml", "services: {c: {user: u}}"),
        ("c.env", "FROM_C=8\n"),
    ];
    let stack = stack_of(&files, &["a.yml"]).unwrap();
    let of = |n: usize| stack.services[n].body["TaskTemplate"]["ContainerSpec"].clone();
    assert_eq!(stack.services.len(), 3);
    assert_eq!((of(0)["Image"].clone(), of(0)["Mounts"][0]["Source"].clone()), (json!("b:7"), json!("/app/sub/d")));
    assert_eq!((of(1)["Image"].clone(), of(1)["User"].clone()), (json!("c:8-1.2"), json!("u")));
    assert_eq!(of(1)["Mounts"][0]["Source"], json!("/app/else/d"));
}

#[test]
fn profiles_choose_services() {
    let text = "services: {a: {image: i}, b: {image: i, profiles: [debug]}, c: {image: i, profiles: [x, y]}}";
    let memory = common::Memory::of(&[("a.yml", text)]);
    let keys = |profiles: &str| {
        let mut options = common::options(&["a.yml"]);
        options.environment.insert("COMPOSE_PROFILES".to_owned(), profiles.to_owned());
        let stack = skep_compose::load(&options, &memory).unwrap().stack("app", &memory).unwrap();
        stack.services.iter().map(|s| s.key.clone()).collect::<String>()
    };
    assert_eq!((keys(""), keys("debug"), keys("y, debug"), keys("*")), ("a".into(), "ab".into(), "abc".into(), "abc".into()));
}

#[test]
fn the_dotenv_file_gives_way_to_the_environment() {
    let memory = common::Memory::of(&[("a.yml", "services: {web: {image: 'i:${TAG}-${OTHER}', environment: [OTHER]}}")]);
    let mut options = common::options(&["a.yml"]);
    options.dotenv = Some((".env".to_owned(), b"TAG=no\nOTHER=$TAG!\n".to_vec()));
    let stack = skep_compose::load(&options, &memory).unwrap().stack("app", &memory).unwrap();
    assert_eq!(stack.services[0].image, "i:1.2-1.2!");
    assert_eq!(stack.services[0].body["TaskTemplate"]["ContainerSpec"]["Env"], json!(["OTHER=1.2!"]));
}

#[test]
fn env_files_give_way_to_the_environment_key() {
    let files = [
        ("one.env", "A='1'\nB=2 # x\nTAG\n"),
        ("two.env", "B=3\n"),
        (
            "a.yml",
            "services: {web: {image: i, env_file: [one.env, {path: two.env}, {path: none.env, required: false}], environment: {C: '4'}}}",
        ),
        ("v3.yml", "version: '3'\nservices: {web: {image: i, env_file: one.env, environment: {TAG: ''}}}"),
        ("labels", "l=1\n"),
        ("b.yml", "services: {web: {image: i, label_file: labels, labels: {m: '2'}}}"),
    ];
    let of = |name: &str| stack_of(&files, &[name]).unwrap().services[0].body["TaskTemplate"]["ContainerSpec"].clone();
    assert_eq!(of("a.yml")["Env"], json!(["A=1", "B=3", "C=4", "TAG=1.2"]));
    // With a version as the stock client reads them: quotes and comments are part of the value.
    assert_eq!(of("v3.yml")["Env"], json!(["A='1'", "B=2 # x", "TAG=1.2"]));
    assert_eq!((&of("b.yml")["Labels"]["l"], &of("b.yml")["Labels"]["m"]), (&json!("1"), &json!("2")));
}

#[test]
fn what_a_swarm_cannot_is_named() {
    let text = "
services:
  web:
    image: i
    build: .
    container_name: c
    privileged: true
    restart: always
    expose: [80]
    depends_on: {db: {condition: service_healthy, restart: true}}
    networks: {default: {ipv4_address: 10.0.0.9}}
    ports: ['127.0.0.1:80:80']
    volumes: ['./a:/a:z']
    deploy: {resources: {reservations: {devices: [{capabilities: [gpu]}]}}}
  db: {image: i, depends_on: [web]}
";
    let stack = stack(text).unwrap();
    let of = |kind| stack.warnings.iter().filter(|w| w.kind == kind).map(|w| w.path.as_str()).collect::<Vec<_>>();
    assert_eq!(of(WarningKind::Unsupported), ["services.web.build", "services.web.privileged", "services.web.restart"]);
    assert_eq!(of(WarningKind::Deprecated), ["services.web.container_name", "services.web.expose"]);
    assert_eq!(
        of(WarningKind::Note),
        [
            "services.web.depends_on.db.condition",
            "services.web.depends_on.db.restart",
            "services.web.networks.default.ipv4_address",
            "services.web.ports.0",
            "services.web.volumes.0",
            "services.web.deploy.resources.reservations.devices",
        ]
    );
    assert_eq!(stack.warnings[0].to_string().split(": ").take(2).collect::<Vec<_>>(), ["a.yml:5:5", "services.web.build"]);
}

/// What `stack config` prints reads back as the same stack.
#[test]
fn the_printed_file_is_the_same_stack() {
    let text = "
version: '3.8'
services:
  web:
    image: 'nginx:${TAG}'
    command: ['sh', '-c', \"echo $$HOME \\\"x\\\" 'y' # no\\n\\ttab: [a]\", '', ' lead', '-x', '1', 'true', 'null', '~', 'a: b', 'x:']
    environment: {A: '$$5', B: null, C: 'yes', D: '0777', E: 'ü\u{2028}', 'k y': v}
    ports: ['8080:80', '53:53/udp']
    volumes: ['./a:/a', 'd:/d']
    deploy: {replicas: 3, resources: {limits: {cpus: 1.5}}, placement: {preferences: [{spread: x}]}}
    ulimits: {nproc: 1}
    healthcheck: {test: [NONE]}
volumes: {d: }
configs: {c: {content: |
      many
      lines
    }}
x-any: [[1, [2]], {a: []}, {}]
";
    let text = text.replace(
        "configs: {c: {content: |\n      many\n      lines\n    }}",
        "configs:\n  c:\n    content: |\n      many\n      $$lines",
    );
    let first = project(&[("a.yml", &text)], &["a.yml"]).unwrap_or_else(|e| panic!("{e}"));
    let printed = first.yaml();
    let memory = common::Memory::default();
    let again = project(&[("b.yml", &printed)], &["b.yml"]).unwrap_or_else(|e| panic!("{e}\n{printed}"));
    assert_eq!(again.yaml(), printed);
    let bodies = |p: &skep_compose::Project| {
        let stack = p.stack("app", &memory).unwrap();
        stack.services.iter().map(|s| s.body.clone()).collect::<Vec<_>>()
    };
    assert_eq!(bodies(&first), bodies(&again), "{printed}");
    assert!(printed.starts_with("version: \"3.8\"\nservices:\n  web:\n"), "{printed}");
}

#[test]
fn variables_may_be_left_as_they_are() {
    let text =
        "services: {web: {image: 'i:${TAG}', ports: ['${P}:80', '90:90'], deploy: {replicas: '${N}'}, volumes: ['${D}:/d']}}";
    let mut options = common::options(&["a.yml"]);
    options.interpolate = false;
    let project = skep_compose::load(&options, &common::Memory::of(&[("a.yml", text)])).unwrap();
    let printed = project.yaml();
    for part in ["i:${TAG}", "${P}:80", "published: 90", "replicas: \"${N}\"", "${D}:/d"] {
        assert!(printed.contains(part), "{part}\n{printed}");
    }
    assert!(project.stack("app", &common::Memory::default()).is_err());
}

#[test]
fn standard_input_and_names() {
    let memory = common::Memory::of(&[("-", "name: n\nservices: {web: {image: i, volumes: ['./a:/a']}}")]);
    let project = skep_compose::load(&common::options(&["-"]), &memory).unwrap();
    assert_eq!(project.name(), Some("n"));
    for name in ["", " ", "'\"", "\t"] {
        let faults = project.stack(name, &memory).unwrap_err().to_string();
        assert!(faults.contains(&format!("invalid stack name: {name:?}")), "{faults}");
    }
    assert!(project.stack(&"s".repeat(60), &memory).unwrap_err().to_string().contains("name must be 63 characters or fewer"));
    assert!(project.stack("a b", &memory).unwrap_err().to_string().contains("name must be valid as a DNS name component"));
    assert_eq!(container("    volumes: ['./a:/a']")["Mounts"][0]["Source"], json!("/app/a"));
}
