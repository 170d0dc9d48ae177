//! Broken files: each gives an error that names file, line and column, none panics, loops or takes memory without bound.

mod common;

use std::fmt::Write as _;

use common::{Memory, faults, options, stack_of};

/// A file, and a part of what is told about it.
const BROKEN: &[(&str, &str)] = &[
    // No YAML, or not a compose file.
    ("", "a.yml:1:1: Top-level object must be a mapping"),
    ("# nothing\n", "a.yml:1:1: Top-level object must be a mapping"),
    ("~", "Top-level object must be a mapping"),
    ("[]", "a.yml:1:1: Top-level object must be a mapping"),
    ("- a\n- b", "Top-level object must be a mapping"),
    ("text", "a.yml:1:1: Top-level object must be a mapping"),
    ("services", "Top-level object must be a mapping"),
    ("5", "Top-level object must be a mapping"),
    ("services: [", "yaml:"),
    ("services: {", "yaml:"),
    ("services: {web: {image: i}", "yaml:"),
    ("services:\n\tweb: {image: i}", "a.yml:2:"),
    ("services:\n  web:\n image: i\n   x: y", "yaml:"),
    ("services: 'open", "yaml:"),
    ("services: \"open", "yaml:"),
    ("services: \"\\q\"", "yaml:"),
    ("services: *none", "yaml:"),
    ("services: &a *a", "yaml:"),
    ("services: &a {web: *a}", "yaml: the alias stands inside its own anchor"),
    ("services: &a [*a]", "yaml: the alias stands inside its own anchor"),
    ("{---", "yaml:"),
    ("services: {? [a] : b}", "yaml: a key must be text"),
    ("services: {? {a: b} : c}", "yaml: a key must be text"),
    ("services: {}\nservices: {}", "a.yml:2:1: yaml: mapping key \"services\" already defined at line 1"),
    ("services: {web: {image: a, image: b}}", "yaml: mapping key \"image\" already defined"),
    ("services: !include a.yml", "yaml: the tag !include is not known here"),
    ("services: {web: {image: !!int x}}", "yaml: cannot decode \"x\" as a !!int"),
    ("services: {web: {image: !!binary aGk=}}", "is not known here"),
    ("services: {web: {<<: 5, image: i}}", "map merge requires map"),
    ("services: {web: {<<: [5], image: i}}", "map merge requires map"),
    ("services: {web: {<<: text}}", "map merge requires map"),
    ("%YAML 9.9.9\n---\na: b", "yaml:"),
    ("a: b: c", "yaml:"),
    ("services: {}\n- x", "yaml:"),
    ("@x", "yaml:"),
    ("`x", "yaml:"),
    ("services:\n  web: {image: i}\n  web: {image: j}", "already defined at line 2"),
    // Keys.
    ("service: {}", "a.yml:1:1: (root) Additional property service is not allowed (did you mean services?)"),
    ("servcies: {}", "(did you mean services?)"),
    ("foo: 1", "(root) Additional property foo is not allowed"),
    ("services: {web: {image: i, foo: 1}}", "a.yml:1:28: services.web Additional property foo is not allowed"),
    ("services: {web: {image: i, enviroment: {}}}", "(did you mean environment?)"),
    ("services: {web: {image: i, cap-add: []}}", "(did you mean cap_add?)"),
    ("services: {web: {image: i, volume_driver: x}}", "services.web Additional property volume_driver is not allowed"),
    ("services: {web: {image: i, deploy: {replica: 1}}}", "services.web.deploy Additional property replica is not allowed"),
    (
        "services: {web: {image: i, deploy: {resources: {limit: {}}}}}",
        "services.web.deploy.resources Additional property limit",
    ),
    ("services: {web: {image: i, deploy: {update_config: {order_: x}}}}", "Additional property order_ is not allowed"),
    ("services: {web: {image: i, healthcheck: {tset: x}}}", "services.web.healthcheck Additional property tset"),
    ("services: {web: {image: i, ports: [{target: 80, public: 1}]}}", "services.web.ports.0 Additional property public"),
    ("services: {'a b': {image: i}}", "services Additional property a b is not allowed"),
    ("services: {'': {image: i}}", "services Additional property  is not allowed"),
    ("services: {ü: {image: i}}", "services Additional property ü is not allowed"),
    ("networks: {n: {subnet: x}}", "networks.n Additional property subnet is not allowed"),
    ("volumes: {v: {size: x}}", "volumes.v Additional property size is not allowed"),
    ("secrets: {s: {path: x}}", "secrets.s Additional property path is not allowed"),
    ("configs: {s: {data: x}}", "configs.s Additional property data is not allowed"),
    ("services: {web: {image: i, \"a\\nb\\e\": 1}}", "services.web Additional property a\\nb\\u{1b} is not allowed"),
    // Versions.
    ("version: '2'", "unsupported Compose file version: 2 "),
    ("version: '2.4'", "unsupported Compose file version: 2.4"),
    ("version: '3.14'", "unsupported Compose file version: 3.14"),
    ("version: '3.'", "unsupported Compose file version: 3."),
    ("version: '4'", "unsupported Compose file version: 4"),
    ("version: ''", "unsupported Compose file version: "),
    ("version: '3.99999999999'", "unsupported Compose file version"),
    ("version: 3", "a.yml:1:10: version must be a string"),
    ("version: 3.8", "version must be a string"),
    ("version: [3]", "version must be a string"),
    // Values.
    ("services: {web: {image: i, deploy: {replicas: abc}}}", "services.web.deploy.replicas: failed to cast to expected type"),
    ("services: {web: {image: i, deploy: {replicas: '1.5'}}}", "failed to cast to expected type: \"1.5\" is not a integer"),
    ("services: {web: {image: i, deploy: {replicas: 1.5}}}", "services.web.deploy.replicas must be a integer"),
    ("services: {web: {image: i, deploy: {replicas: -1}}}", "services.web.deploy.replicas must be 0 or more, not -1"),
    ("services: {web: {image: i, deploy: {replicas: 99999999999999999999}}}", "services.web.deploy.replicas must be a integer"),
    ("services: {web: {image: i, deploy: {mode: best}}}", "services.web.deploy.mode must be one of replicated, global"),
    ("services: {web: {image: i, deploy: {mode: global, replicas: 2}}}", "replicas can only be used with replicated"),
    ("services: {web: {image: i, deploy: {endpoint_mode: x}}}", "services.web.deploy.endpoint_mode must be one of vip, dnsrr"),
    ("services: {web: {image: i, deploy: {update_config: {order: x}}}}", "order must be one of start-first, stop-first"),
    (
        "services: {web: {image: i, deploy: {update_config: {delay: 5}}}}",
        "services.web.deploy.update_config.delay must be a string",
    ),
    (
        "services: {web: {image: i, deploy: {update_config: {delay: 5x}}}}",
        "delay must be a duration: time: invalid duration \"5x\"",
    ),
    ("services: {web: {image: i, deploy: {update_config: {delay: -5s}}}}", "must be a duration"),
    ("services: {web: {image: i, deploy: {update_config: {failure_action: x}}}}", "failure_action must be one of pause"),
    ("services: {web: {image: i, deploy: {rollback_config: {failure_action: rollback}}}}", "must be one of pause, continue"),
    ("services: {web: {image: i, deploy: {update_config: {max_failure_ratio: 2}}}}", "must be between 0 and 1"),
    ("services: {web: {image: i, deploy: {restart_policy: {condition: x}}}}", "condition must be one of none, on-failure, any"),
    ("services: {web: {image: i, deploy: {resources: {limits: {memory: 5Q}}}}}", "limits.memory: invalid size: '5Q'"),
    ("services: {web: {image: i, deploy: {resources: {limits: {memory: 5}}}}}", "limits.memory must be a string"),
    ("services: {web: {image: i, deploy: {resources: {limits: {cpus: x}}}}}", "services.web.deploy.resources.limits.cpus"),
    ("services: {web: {image: i, deploy: {resources: {limits: {cpus: '-1'}}}}}", "limits.cpus: failed to parse"),
    ("services: {web: {image: i, deploy: {resources: {reservations: {generic_resources: [{}]}}}}}", "needs a kind and a value"),
    ("services: {web: {image: i, deploy: {placement: {constraints: x}}}}", "placement.constraints must be a list"),
    ("services: {web: {image: i, deploy: {placement: {preferences: [x]}}}}", "preferences.0 must be a mapping"),
    ("services: {web: {image: i, deploy: {placement: {max_replicas_per_node: -1}}}}", "must be 0 or more"),
    ("services: {web: {image: i, deploy: []}}", "services.web.deploy must be a mapping"),
    ("services: {web: {image: i, restart: sometimes}}", "services.web.restart: unknown restart policy: sometimes"),
    ("services: {web: {image: i, restart: 'on-failure:x'}}", "unknown restart policy: on-failure:x"),
    ("services: {web: {image: i, ports: '80:80'}}", "services.web.ports must be a list"),
    ("services: {web: {image: i, ports: [x]}}", "services.web.ports.0: invalid containerPort: x"),
    ("services: {web: {image: i, ports: ['x:80']}}", "invalid hostPort: x"),
    ("services: {web: {image: i, ports: ['80:']}}", "no port specified: 80:<empty>"),
    ("services: {web: {image: i, ports: ['']}}", "no port specified"),
    ("services: {web: {image: i, ports: ['0']}}", "invalid containerPort: 0"),
    ("services: {web: {image: i, ports: ['70000:80']}}", "invalid hostPort: 70000"),
    ("services: {web: {image: i, ports: ['80:80/icmp']}}", "invalid proto: icmp"),
    ("services: {web: {image: i, ports: ['1-3:1-2']}}", "invalid ranges specified for container and host Ports"),
    ("services: {web: {image: i, ports: ['3-1']}}", "invalid range specified for containerPort: 3-1"),
    ("services: {web: {image: i, ports: ['x.y:80:80']}}", "invalid IP address: x.y"),
    ("services: {web: {image: i, ports: ['1:2:3:4:5']}}", "invalid IP address"),
    ("services: {web: {image: i, ports: [-1]}}", "invalid containerPort"),
    ("services: {web: {image: i, ports: [1.5]}}", "invalid containerPort: 1.5"),
    ("services: {web: {image: i, ports: [{published: 80}]}}", "services.web.ports.0: target is required"),
    ("services: {web: {image: i, ports: [{target: 0}]}}", "invalid containerPort: 0"),
    ("services: {web: {image: i, ports: [{target: 80, mode: x}]}}", "invalid publish mode \"x\""),
    ("services: {web: {image: i, ports: [{target: 80, published: x}]}}", "invalid hostPort: x"),
    ("services: {web: {image: i, ports: [[80]]}}", "services.web.ports.0 must be a"),
    ("services: {web: {image: i, ports: ['1-65535:1-65535', '1-65535:1-65535/udp']}}", "more than 65536 ports"),
    ("services: {web: {image: i, volumes: x}}", "services.web.volumes must be a list"),
    ("services: {web: {image: i, volumes: ['']}}", "empty section between colons"),
    ("services: {web: {image: i, volumes: ['a::b']}}", "invalid spec: a::b: empty section between colons"),
    ("services: {web: {image: i, volumes: ['a:/b:ro:x']}}", "too many colons"),
    ("services: {web: {image: i, volumes: ['a:b']}}", "invalid mount target, must be an absolute path: b"),
    ("services: {web: {image: i, volumes: ['none:/b']}}", "services.web.volumes.0: undefined volume \"none\""),
    ("services: {web: {image: i, volumes: [{target: /x}]}}", "services.web.volumes.0 type is required"),
    ("services: {web: {image: i, volumes: [{type: x, target: /x}]}}", "type must be one of bind, volume"),
    ("services: {web: {image: i, volumes: [{type: bind, target: /x}]}}", "invalid bind source, source cannot be empty"),
    ("services: {web: {image: i, volumes: [{type: bind, source: /x}]}}", "target is required"),
    ("services: {web: {image: i, volumes: [{type: volume, source: /x, target: /x}]}}", "must not be an absolute path: /x"),
    ("services: {web: {image: i, volumes: [{type: tmpfs, source: x, target: /x}]}}", "source must be empty"),
    (
        "services: {web: {image: i, volumes: [{type: tmpfs, target: /x, bind: {propagation: shared}}]}}",
        "incompatible with type tmpfs",
    ),
    (
        "services: {web: {image: i, volumes: [{type: bind, source: /a, target: /x, bind: {propagation: x}}]}}",
        "invalid propagation",
    ),
    ("services: {web: {image: i, volumes: [{type: image, source: a, target: /x}]}}", "not possible in a swarm"),
    ("services: {web: {image: i, volumes: ['/a:/x', '/b:/x']}}", "services.web.volumes.1: duplicate mount point: /x"),
    ("services: {web: {image: i, volumes: ['/a:/x'], tmpfs: /x}}", "duplicate mount point: /x"),
    ("services: {web: {image: i, tmpfs: x}}", "must be an absolute path: x"),
    ("services: {web: {image: i, tmpfs: '/x:size=5Q'}}", "invalid size: \"5Q\""),
    ("services: {web: {image: i, networks: [none]}}", "services.web.networks.none: undefined network \"none\""),
    ("services: {web: {image: i, networks: none}}", "services.web.networks must be a list or mapping"),
    ("services: {web: {image: i, networks: {a: 5}}}", "services.web.networks.a must be a mapping"),
    ("services: {web: {image: i, secrets: [x]}}", "services.web.secrets.0: undefined secret \"x\""),
    ("services: {web: {image: i, configs: [x]}}", "services.web.configs.0: undefined config \"x\""),
    ("services: {web: {image: i, secrets: [{target: x}]}}", "services.web.secrets.0 source is required"),
    ("services: {web: {image: i, secrets: [{source: s, mode: 'x'}]}}\nsecrets: {s: {external: true}}", "invalid file mode"),
    ("services: {web: {image: i, secrets: [{source: s, mode: 99999}]}}\nsecrets: {s: {external: true}}", "invalid file mode"),
    ("services: {web: {image: i, environment: 5}}", "services.web.environment must be a"),
    ("services: {web: {image: i, environment: [{a: b}]}}", "services.web.environment.0 must be a string"),
    ("services: {web: {image: i, environment: {a: [b]}}}", "services.web.environment.a must be a"),
    (
        "services: {web: {image: i, env_file: none.env}}",
        "a.yml:1:38: services.web.env_file: open none.env: no such file or directory",
    ),
    ("services: {web: {image: i, label_file: none}}", "services.web.label_file: open none: no such file or directory"),
    ("services: {web: {image: i, command: \"a 'b\"}}", "services.web.command: invalid command line: EOF found"),
    ("services: {web: {image: i, command: {a: b}}}", "services.web.command must be a string or list"),
    ("services: {web: {image: i, command: [[a]]}}", "services.web.command.0 must be a string"),
    ("services: {web: {image: i, command: 5}}", "services.web.command must be a"),
    ("services: {web: {image: i, healthcheck: {test: [x]}}}", "test must begin with NONE, CMD or CMD-SHELL"),
    ("services: {web: {image: i, healthcheck: {interval: soon}}}", "services.web.healthcheck.interval must be a duration"),
    ("services: {web: {image: i, healthcheck: {test: x, disable: true}}}", "can't be set at the same time"),
    ("services: {web: {image: i, healthcheck: {retries: -1}}}", "retries must be 0 or more"),
    ("services: {web: {image: i, stop_grace_period: 5}}", "services.web.stop_grace_period must be a string"),
    ("services: {web: {image: i, stop_grace_period: '5'}}", "must be a duration"),
    ("services: {web: {image: i, ulimits: {nofile: {soft: 1}}}}", "services.web.ulimits.nofile hard is required"),
    ("services: {web: {image: i, ulimits: {nofile: {soft: 2, hard: 1}}}}", "soft limit must be less than or equal"),
    ("services: {web: {image: i, oom_score_adj: 5000}}", "must be between -1000 and 1000"),
    ("services: {web: {image: i, extra_hosts: [x]}}", "services.web.extra_hosts.0: bad format for add-host"),
    ("services: {web: {image: i, platform: linux}}", "services.web.platform must be OS/ARCHITECTURE"),
    ("services: {web: {image: i, depends_on: x}}", "services.web.depends_on must be a list or mapping"),
    ("services: {web: {image: i, depends_on: {db: {condition: x}}}}", "condition must be one of"),
    ("services: {web: {image: i, depends_on: {db: {}}}}", "services.web.depends_on.db condition is required"),
    ("services: {web: {image: i, init: maybe}}", "failed to cast to expected type: \"maybe\" is not a boolean"),
    ("services: {web: {image: i, tty: 1}}", "services.web.tty must be a boolean"),
    ("services: {web: {}}", "invalid image reference for service web: no image specified"),
    ("services: {web: {image: ''}}", "no image specified"),
    ("services: {web: {image: '${NONE}'}}", "no image specified"),
    ("services: {web: {image: 5}}", "services.web.image must be a string"),
    ("services: {web: }", "services.web must be a mapping"),
    ("services: {web: i}", "services.web must be a mapping"),
    ("services: [web]", "services must be a mapping"),
    ("services: ", "services must be a mapping"),
    ("networks: [n]", "networks must be a mapping"),
    ("volumes: v", "volumes must be a mapping"),
    ("services: {web.db: {image: i}}", "name must be valid as a DNS name component: app_web.db"),
    ("services: {web-: {image: i}}", "name must be valid as a DNS name component"),
    // Objects.
    ("secrets: {s: {}}", "secrets.s: where its content comes from is missing"),
    ("secrets: {s: {file: none}}", "secrets.s.file: open /app/none: no such file or directory"),
    ("secrets: {s: {environment: NONE}}", "environment variable \"NONE\" is not set"),
    ("secrets: {s: {environment: EMPTY}}", "secret data must be larger than 0 and less than 512000 bytes"),
    ("configs: {s: {content: ''}}", "config data must be larger than 0 and less than 1024000 bytes"),
    ("configs: {s: {content: a, file: b}}", "exclude each other"),
    ("secrets: {s: }", "secrets.s must be a mapping"),
    ("secrets: {s: {external: true, file: x}}", "conflicting parameters \"external\" and \"file\" specified for secret \"s\""),
    (
        "volumes: {v: {external: true, driver: x}}",
        "conflicting parameters \"external\" and \"driver\" specified for volume \"v\"",
    ),
    ("networks: {n: {external: {name: a}, name: b}}", "networks.n.external.name and networks.n.name conflict"),
    ("networks: {n: {external: perhaps}}", "failed to cast to expected type"),
    ("secrets: {s.: {environment: TAG}}", "only 64 [a-zA-Z0-9-_.] characters allowed"),
    // Variables.
    (
        "services: {web: {image: 'i:${TAG'}}",
        "a.yml:1:25: invalid interpolation format for services.web.image: \"i:${TAG\"; you may need to escape any $ with another $",
    ),
    ("services: {web: {image: 'i:$'}}", "invalid interpolation format for services.web.image"),
    ("services: {web: {image: 'i:${TAG:?}${X:?need x}'}}", "required variable X is missing a value: need x"),
    ("services: {web: {image: i, command: ['${1}']}}", "invalid interpolation format for services.web.command.0"),
    (
        "services: {web: {image: i, deploy: {replicas: '${TAG}'}}}",
        "services.web.deploy.replicas: failed to cast to expected type: \"1.2\"",
    ),
    ("services: {web: {image: i, deploy: {replicas: '${EMPTY}'}}}", "failed to cast"),
    ("services: {web: {image: i, ports: ['${EMPTY}:x']}}", "invalid containerPort: x"),
    // extends and include.
    ("services: {web: {extends: none}}", "cannot extend service \"none\" in a.yml: service not found"),
    ("services: {web: {extends: web}}", "circular reference: web extends web"),
    ("services: {a: {extends: b}, b: {extends: c}, c: {extends: a}}", "circular reference: a extends b extends c extends a"),
    ("services: {web: {extends: {file: none.yml, service: x}}}", "open none.yml: no such file or directory"),
    ("services: {web: {extends: {file: a.yml, service: web}}}", "circular reference: web extends web"),
    ("services: {web: {extends: {file: x.yml}}}", "services.web.extends service is required"),
    ("services: {web: {extends: 5}}", "services.web.extends must be a string or mapping"),
    ("include: none.yml", "include must be a list"),
    ("include: [none.yml]", "a.yml:1:11: open none.yml: no such file or directory"),
    ("include: [a.yml]", "include cycle detected: a.yml includes a.yml"),
    ("include: [{env_file: x}]", "include: path is required"),
    ("include: [{path: b.yml, env_file: none}]", "open none: no such file or directory"),
    ("include: [5]", "include.0 must be a string or mapping"),
    ("include: [{path: b.yml, foo: 1}]", "include.0 Additional property foo is not allowed"),
];

/// Each line names a place, unless it counts the rest.
fn has_places(told: &str) -> bool {
    told.lines().all(|line| {
        let mut parts = line.splitn(4, ':');
        let file = parts.next().is_some_and(|f| !f.is_empty());
        let number = |p: Option<&str>| p.is_some_and(|n| n.parse::<u32>().is_ok_and(|n| n > 0));
        line.starts_with('(') || (file && number(parts.next()) && number(parts.next()) && parts.next().is_some())
    })
}

#[test]
fn each_is_told_with_its_place() {
    let mut wrong = String::new();
    for (text, expected) in BROKEN {
        let told = faults(text);
        if !told.contains(expected) || !has_places(&told) {
            let _ = writeln!(wrong, "{text:?}\n  wanted: {expected}\n  told:   {told}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(BROKEN.len() >= 200, "{}", BROKEN.len());
}

/// Every key of a service with every wrong type.
#[test]
fn every_key_refuses_other_types() {
    let keys = "build cap_add command configs container_name deploy devices dns entrypoint env_file environment expose extends \
                healthcheck hostname image init labels logging networks ports privileged read_only restart secrets stdin_open \
                stop_signal sysctls tty ulimits user volumes working_dir develop models profiles platform scale";
    let mut count = 0;
    for key in keys.split_whitespace() {
        // Some of these are right for some keys; but no key takes more than three of them.
        let mut refused = 0;
        for value in ["{'': {'': [5]}}", "[[[5]]]", "[{'': 5}]", "5.5", "true"] {
            let image = if key == "image" { "" } else { "image: i, " };
            let told = faults(&format!("services: {{web: {{{image}{key}: {value}}}}}"));
            assert!(has_places(&told), "{key}: {value}\n{told}");
            refused += usize::from(!told.is_empty());
        }
        assert!(refused >= 2, "{key}");
        count += refused;
    }
    assert!(count > 100, "{count}");
}

#[test]
fn wrong_types_do_not_hide_wrong_forms() {
    let text = "services:\n  web:\n    image: 5\n    ports: ['80:x', [1]]\n    volumes: ['a:b']\n    command: \"'\"\n";
    let told = faults(text);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(
        lines,
        [
            "a.yml:3:12: services.web.image must be a string",
            "a.yml:4:13: services.web.ports.0: invalid containerPort: x",
            "a.yml:4:21: services.web.ports.1 must be a string or number or mapping",
            "a.yml:5:15: services.web.volumes.0: invalid mount target, must be an absolute path: b",
            "a.yml:6:14: services.web.command: invalid command line: EOF found when expecting closing quote",
        ]
    );
}

#[test]
fn all_faults_are_told_in_order_but_not_more_than_twenty() {
    let text = "services:\n  web:\n    image: 5\n    foo: 1\n    ports: ['x']\n  db:\n    image: ${\n    tty: 7\n";
    let told = faults(text);
    let places: Vec<&str> = told.lines().map(|l| l.split(' ').next().unwrap()).collect();
    assert_eq!(places, ["a.yml:3:12:", "a.yml:4:5:", "a.yml:5:13:", "a.yml:7:12:", "a.yml:8:10:"], "{told}");
    let mut text = "services:\n".to_owned();
    for n in 0..100 {
        let _ = writeln!(text, "  s{n}: {{image: 5}}");
    }
    let told = faults(&text);
    assert_eq!(told.lines().count(), 21);
    assert!(told.ends_with("(80 more)"), "{told}");
}

#[test]
fn faults_of_all_files_are_told() {
    let files = [
        ("a.yml", "services: {web: {image: 5}}"),
        ("b.yml", "services: {web: {tty: 5}}"),
        ("c.yml", "version: '3.8'"),
        ("d.yml", "version: '3.9'"),
    ];
    let told = stack_of(&files, &["a.yml", "b.yml", "none.yml"]).unwrap_err().to_string();
    assert_eq!(told.lines().count(), 3, "{told}");
    assert!(told.contains("none.yml:1:1: open none.yml: no such file or directory"), "{told}");
    let told = stack_of(&files, &["c.yml", "d.yml"]).unwrap_err().to_string();
    assert!(told.contains("version mismatched between two composefiles : 3.8 and 3.9"), "{told}");
    assert!(stack_of(&files, &[]).unwrap_err().to_string().contains("no compose file was named"));
}

#[test]
fn imported_resources_conflict() {
    let files = [("a.yml", "include: [b.yml]\nservices: {web: {image: i}}"), ("b.yml", "services: {web: {image: j}}")];
    let told = stack_of(&files, &["a.yml"]).unwrap_err().to_string();
    assert!(told.starts_with("a.yml:2:12: services.web conflicts with imported resource at b.yml:1:12"), "{told}");
}

fn bomb(levels: usize, wide: usize, open: char, close: char) -> String {
    let mut text = "x-a0: &a0 [lol, lol]\n".to_owned();
    for n in 1..=levels {
        let items = (0..wide)
            .map(|i| if open == '{' { format!("k{i}: *a{}", n - 1) } else { format!("*a{}", n - 1) })
            .collect::<Vec<_>>();
        let _ = writeln!(text, "x-a{n}: &a{n} {open}{}{close}", items.join(", "));
    }
    text
}

#[test]
fn bombs_and_giants_end_with_an_error() {
    let many = |line: &str, count: usize| line.repeat(count);
    let deep = |open: &str, close: &str, n: usize| format!("x-a: {}{}", open.repeat(n), close.repeat(n));
    let long_chain = (0..100).fold("services:\n".to_owned(), |mut text, n| {
        let _ = writeln!(text, "  s{n}: {{extends: s{}}}", n + 1);
        text
    });
    let wide = format!(
        "services: {{web: {{image: i, environment: {{A: &a '{}'}}}}}}\nx-b: [{}]",
        "v".repeat(300_000),
        many("*a, ", 2000)
    );
    let extending = format!(
        "services:\n  base: {{image: i, labels: {{a: '{}'}}}}\n{}",
        "v".repeat(100_000),
        (0..2000).fold(String::new(), |mut text, n| {
            let _ = writeln!(text, "  s{n}: {{extends: base}}");
            text
        })
    );
    for (name, text) in [
        ("lists of aliases", bomb(20, 10, '[', ']')),
        ("mappings of aliases", bomb(20, 10, '{', '}')),
        ("a deep chain of aliases", bomb(60, 1, '[', ']')),
        ("text repeated by an alias", wide),
        ("services that extend a large one", extending),
        ("deep lists", deep("[", "]", 100)),
        ("deep mappings", deep("{a: ", "}", 100)),
        ("very deep lists", deep("[", "]", 100_000)),
        ("very deep open lists", deep("[", "", 200_000)),
        ("very deep dashes", format!("x-a:\n  {}x", "- ".repeat(50_000))),
        ("a file over a megabyte", many("# comment\n", 200_000)),
        ("nothing but spaces", many(" ", 2 << 20)),
        ("a long chain of extends", long_chain),
        ("many questions", many("? ", 100_000)),
        ("many anchors", (0..100_000).fold("x-a: ".to_owned(), |t, _| t + "&a ")),
        ("many open quotes", many("'", 100_001)),
        ("many braces", many("{", 300_000)),
    ] {
        let told = faults(&text);
        assert!(!told.is_empty() && has_places(&told), "{name}: {told}");
    }
}

#[test]
fn variables_do_not_grow_without_bound() {
    let memory =
        Memory::of(&[("a.yml", &format!("services: {{web: {{image: i, labels: {{a: '{}'}}}}}}", "$BIG".repeat(1000)))]);
    let mut options = options(&["a.yml"]);
    options.environment.insert("BIG".to_owned(), "x".repeat(100_000));
    let told = skep_compose::load(&options, &memory).unwrap_err().to_string();
    assert!(told.contains("longer than 4 MiB"), "{told}");
    let labels = (0..100).fold(String::new(), |t, n| t + &format!("l{n}: '{}', ", "$BIG".repeat(30)));
    let memory = Memory::of(&[("a.yml", &format!("services: {{web: {{image: i, labels: {{{labels}}}}}}}"))]);
    let told = skep_compose::load(&options, &memory).unwrap_err().to_string();
    assert!(told.contains("the file grows beyond"), "{told}");
}

#[test]
fn includes_are_bounded() {
    let names: Vec<String> = (0..300).map(|n| format!("f{n}.yml")).collect();
    let chain: Vec<String> = (0..300).map(|n| format!("include: [f{}.yml]", n + 1)).collect();
    let files: Vec<(&str, &str)> = names.iter().map(String::as_str).zip(chain.iter().map(String::as_str)).collect();
    let told = stack_of(&files, &["f0.yml"]).unwrap_err().to_string();
    assert!(told.contains("files include each other in a row") && has_places(&told), "{told}");
    let all = format!("include: [{}]", (1..300).map(|n| format!("f{n}.yml")).collect::<Vec<_>>().join(", "));
    let files: Vec<(&str, &str)> =
        names.iter().enumerate().map(|(n, name)| (name.as_str(), if n == 0 { all.as_str() } else { "services: {}" })).collect();
    let told = stack_of(&files, &["f0.yml"]).unwrap_err().to_string();
    assert!(told.contains("more than 200 files are read"), "{told}");
}

#[test]
fn bytes_that_are_no_text() {
    let mut memory = Memory::default();
    memory.0.insert("/app/a.yml".into(), b"services:\n  a\xff: 1".to_vec());
    let told = skep_compose::load(&options(&["a.yml"]), &memory).unwrap_err().to_string();
    assert_eq!(told, "a.yml:2:4: yaml: the file is not UTF-8 text");
    memory.0.insert("/app/a.yml".into(), b"services: {web: {image: \"a\0b\"}}".to_vec());
    let _ = skep_compose::load(&options(&["a.yml"]), &memory);
}
