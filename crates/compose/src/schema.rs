//! The table of the format: which keys there are and what they hold.
//!
//! It is the union of the Compose Specification and version 3.13 (the only key of 3.13 that the specification lacks is
//! `cgroupns_mode`); a test holds it against both schemas. Every object may have `x-` keys. What a swarm makes of a key is not
//! said here.

/// What a value may be.
#[derive(Debug)]
pub(crate) enum Kind {
    /// Anything.
    Any,
    /// Text.
    Str,
    /// A whole number, or text that is one.
    Int,
    /// A number, or text that is one.
    Num,
    /// True or false, or text that says so.
    Bool,
    /// Text or a number.
    Scalar,
    /// Text, a number or a truth value.
    AnyScalar,
    /// Text, a number, a truth value or nothing.
    MaybeScalar,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list.
    List(&'static Kind),
    /// A mapping with any keys.
    Map(&'static Kind),
    /// A mapping whose keys are names: letters, digits, `.`, `_`, `-`.
    Named(&'static Kind),
    /// A mapping with these keys, the second of which must be there.
    Object(&'static [(&'static str, Kind)], &'static [&'static str]),
    /// This or null.
    Or(&'static Kind, &'static Kind),
    /// Null.
    Null,
}

use Kind::{Any, AnyScalar, Bool, Int, List, Map, MaybeScalar, Named, Null, Num, Object, Or, Scalar, Str, Word};

type Fields = &'static [(&'static str, Kind)];

const STRINGS: Kind = List(&Str);
const STRING_OR_LIST: Kind = Or(&Str, &STRINGS);
const LIST_OR_DICT: Kind = Or(&Map(&MaybeScalar), &STRINGS);
const SCALARS: Kind = List(&Scalar);
const OPTIONS: Kind = Map(&Scalar);
const COMMAND: Kind = Or(&Null, &STRING_OR_LIST);
const EXTRA_HOSTS: Kind = Or(&Map(&STRING_OR_LIST), &STRINGS);
const ORDER: Kind = Word(&["start-first", "stop-first"]);

/// A whole file.
pub(crate) const FILE: Kind = Object(
    &[
        ("version", Str),
        ("name", Str),
        ("include", List(&Or(&Str, &Object(INCLUDE, &[])))),
        ("services", Named(&Object(SERVICE, &[]))),
        ("models", Named(&Object(MODEL, &["model"]))),
        ("networks", Named(&Or(&Null, &Object(NETWORK, &[])))),
        ("volumes", Named(&Or(&Null, &Object(VOLUME, &[])))),
        ("secrets", Named(&Object(SECRET, &[]))),
        ("configs", Named(&Object(CONFIG, &[]))),
    ],
    &[],
);

const INCLUDE: Fields = &[("path", STRING_OR_LIST), ("env_file", STRING_OR_LIST), ("project_directory", Str)];
const MODEL: Fields = &[("name", Str), ("model", Str), ("context_size", Int), ("runtime_flags", STRINGS)];
const EXTERNAL: Kind = Or(&Bool, &Object(&[("name", Str)], &[]));

const NETWORK: Fields = &[
    ("name", Str),
    ("driver", Str),
    ("driver_opts", OPTIONS),
    ("ipam", Object(&[("driver", Str), ("config", List(&Object(IPAM, &[]))), ("options", Map(&Str))], &[])),
    ("external", EXTERNAL),
    ("internal", Bool),
    ("enable_ipv4", Bool),
    ("enable_ipv6", Bool),
    ("attachable", Bool),
    ("labels", LIST_OR_DICT),
];
const IPAM: Fields = &[("subnet", Str), ("ip_range", Str), ("gateway", Str), ("aux_addresses", Map(&Str))];
const VOLUME: Fields =
    &[("name", Str), ("driver", Str), ("driver_opts", OPTIONS), ("external", EXTERNAL), ("labels", LIST_OR_DICT)];
const SECRET: Fields = &[
    ("name", Str),
    ("environment", Str),
    ("file", Str),
    ("external", EXTERNAL),
    ("labels", LIST_OR_DICT),
    ("driver", Str),
    ("driver_opts", OPTIONS),
    ("template_driver", Str),
];
const CONFIG: Fields = &[
    ("name", Str),
    ("content", Str),
    ("environment", Str),
    ("file", Str),
    ("external", EXTERNAL),
    ("labels", LIST_OR_DICT),
    ("template_driver", Str),
];

const SERVICE: Fields = &[
    ("annotations", LIST_OR_DICT),
    ("attach", Bool),
    ("blkio_config", Object(BLKIO, &[])),
    ("build", Or(&Str, &Object(BUILD, &[]))),
    ("cap_add", STRINGS),
    ("cap_drop", STRINGS),
    ("cgroup", Word(&["host", "private"])),
    ("cgroup_parent", Str),
    ("cgroupns_mode", Str),
    ("command", COMMAND),
    ("configs", FILE_REFERENCES),
    ("container_name", Str),
    ("cpu_count", Int),
    ("cpu_percent", Int),
    ("cpu_period", Scalar),
    ("cpu_quota", Scalar),
    ("cpu_rt_period", Scalar),
    ("cpu_rt_runtime", Scalar),
    ("cpu_shares", Scalar),
    ("cpus", Num),
    ("cpuset", Str),
    ("credential_spec", Object(&[("config", Str), ("file", Str), ("registry", Str)], &[])),
    ("depends_on", Or(&STRINGS, &Named(&Object(DEPENDS_ON, &["condition"])))),
    ("deploy", Or(&Null, &Object(DEPLOY, &[]))),
    ("develop", Or(&Null, &Object(&[("watch", List(&Object(WATCH, &["path", "action"])))], &[]))),
    ("device_cgroup_rules", STRINGS),
    ("devices", List(&Or(&Str, &Object(&[("source", Str), ("target", Str), ("permissions", Str)], &["source"])))),
    ("dns", STRING_OR_LIST),
    ("dns_opt", STRINGS),
    ("dns_search", STRING_OR_LIST),
    ("domainname", Str),
    ("entrypoint", COMMAND),
    ("env_file", Or(&Str, &List(&Or(&Str, &Object(&[("path", Str), ("format", Str), ("required", Bool)], &["path"]))))),
    ("environment", LIST_OR_DICT),
    ("expose", SCALARS),
    ("extends", Or(&Str, &Object(&[("service", Str), ("file", Str)], &["service"]))),
    ("external_links", STRINGS),
    ("extra_hosts", EXTRA_HOSTS),
    ("gpus", Or(&Word(&["all"]), &List(&Object(GPU, &[])))),
    ("group_add", SCALARS),
    ("healthcheck", Object(HEALTHCHECK, &[])),
    ("hostname", Str),
    ("image", Str),
    ("init", Bool),
    ("ipc", Str),
    ("isolation", Str),
    ("label_file", STRING_OR_LIST),
    ("labels", LIST_OR_DICT),
    ("links", STRINGS),
    ("logging", Object(&[("driver", Str), ("options", Map(&MaybeScalar))], &[])),
    ("mac_address", Str),
    ("mem_limit", Scalar),
    ("mem_reservation", Scalar),
    ("mem_swappiness", Int),
    ("memswap_limit", Scalar),
    ("models", Or(&STRINGS, &Named(&Object(&[("endpoint_var", Str), ("model_var", Str)], &[])))),
    ("network_mode", Str),
    ("networks", Or(&STRINGS, &Named(&Or(&Null, &Object(SERVICE_NETWORK, &[]))))),
    ("oom_kill_disable", Bool),
    ("oom_score_adj", Int),
    ("pid", Or(&Null, &Str)),
    ("pids_limit", Int),
    ("platform", Str),
    ("ports", List(&Or(&Scalar, &Object(PORT, &[])))),
    ("post_start", List(&Object(HOOK, &["command"]))),
    ("pre_stop", List(&Object(HOOK, &["command"]))),
    ("privileged", Bool),
    ("profiles", STRINGS),
    ("provider", Object(&[("type", Str), ("options", Map(&Or(&AnyScalar, &List(&AnyScalar))))], &["type"])),
    ("pull_policy", Str),
    ("pull_refresh_after", Str),
    ("read_only", Bool),
    ("restart", Str),
    ("runtime", Str),
    ("scale", Int),
    ("secrets", FILE_REFERENCES),
    ("security_opt", STRINGS),
    ("shm_size", Scalar),
    ("stdin_open", Bool),
    ("stop_grace_period", Str),
    ("stop_signal", Str),
    ("storage_opt", Map(&Any)),
    ("sysctls", LIST_OR_DICT),
    ("tmpfs", STRING_OR_LIST),
    ("tty", Bool),
    ("ulimits", ULIMITS),
    ("use_api_socket", Bool),
    ("user", Str),
    ("userns_mode", Str),
    ("uts", Str),
    ("volumes", List(&Or(&Str, &Object(MOUNT, &["type"])))),
    ("volumes_from", STRINGS),
    ("working_dir", Str),
];

const BLKIO: Fields = &[
    ("device_read_bps", List(&BLKIO_LIMIT)),
    ("device_read_iops", List(&BLKIO_LIMIT)),
    ("device_write_bps", List(&BLKIO_LIMIT)),
    ("device_write_iops", List(&BLKIO_LIMIT)),
    ("weight", Int),
    ("weight_device", List(&Object(&[("path", Str), ("weight", Int)], &[]))),
];
const BLKIO_LIMIT: Kind = Object(&[("path", Str), ("rate", Scalar)], &[]);
const BUILD: Fields = &[
    ("additional_contexts", LIST_OR_DICT),
    ("args", LIST_OR_DICT),
    ("cache_from", STRINGS),
    ("cache_to", STRINGS),
    ("context", Str),
    ("dockerfile", Str),
    ("dockerfile_inline", Str),
    ("entitlements", STRINGS),
    ("extra_hosts", EXTRA_HOSTS),
    ("isolation", Str),
    ("labels", LIST_OR_DICT),
    ("network", Str),
    ("no_cache", Bool),
    ("platforms", STRINGS),
    ("privileged", Bool),
    ("provenance", AnyScalar),
    ("pull", Bool),
    ("sbom", AnyScalar),
    ("secrets", FILE_REFERENCES),
    ("shm_size", Scalar),
    ("ssh", LIST_OR_DICT),
    ("tags", STRINGS),
    ("target", Str),
    ("ulimits", ULIMITS),
];
const DEPENDS_ON: Fields = &[
    ("restart", Bool),
    ("required", Bool),
    ("condition", Word(&["service_started", "service_healthy", "service_completed_successfully"])),
];
const WATCH: Fields = &[
    ("ignore", STRING_OR_LIST),
    ("include", STRING_OR_LIST),
    ("path", Str),
    ("action", Word(&["rebuild", "sync", "restart", "sync+restart", "sync+exec"])),
    ("target", Str),
    ("exec", Object(HOOK, &["command"])),
    ("initial_sync", Bool),
];
const HOOK: Fields =
    &[("command", COMMAND), ("user", Str), ("privileged", Bool), ("working_dir", Str), ("environment", LIST_OR_DICT)];
const GPU: Fields =
    &[("capabilities", STRINGS), ("count", Scalar), ("device_ids", STRINGS), ("driver", Str), ("options", LIST_OR_DICT)];
const FILE_REFERENCES: Kind =
    List(&Or(&Str, &Object(&[("source", Str), ("target", Str), ("uid", Str), ("gid", Str), ("mode", Scalar)], &[])));
const HEALTHCHECK: Fields = &[
    ("disable", Bool),
    ("interval", Str),
    ("retries", Int),
    ("test", STRING_OR_LIST),
    ("timeout", Str),
    ("start_period", Str),
    ("start_interval", Str),
];
const SERVICE_NETWORK: Fields = &[
    ("aliases", STRINGS),
    ("interface_name", Str),
    ("ipv4_address", Str),
    ("ipv6_address", Str),
    ("link_local_ips", STRINGS),
    ("mac_address", Str),
    ("driver_opts", OPTIONS),
    ("priority", Num),
    ("gw_priority", Num),
];
const PORT: Fields = &[
    ("name", Str),
    ("mode", Str),
    ("host_ip", Str),
    ("target", Int),
    ("published", Scalar),
    ("protocol", Str),
    ("app_protocol", Str),
];
const ULIMITS: Kind = Map(&Or(&Int, &Object(&[("hard", Int), ("soft", Int)], &["soft", "hard"])));
const MOUNT: Fields = &[
    ("type", Word(&["bind", "volume", "tmpfs", "cluster", "npipe", "image"])),
    ("source", Str),
    ("target", Str),
    ("read_only", Bool),
    ("consistency", Str),
    ("bind", Object(MOUNT_BIND, &[])),
    ("volume", Object(&[("labels", LIST_OR_DICT), ("nocopy", Bool), ("subpath", Str)], &[])),
    ("tmpfs", Object(&[("size", Scalar), ("mode", Scalar)], &[])),
    ("image", Object(&[("subpath", Str)], &[])),
];
const MOUNT_BIND: Fields = &[
    ("propagation", Str),
    ("create_host_path", Bool),
    ("recursive", Word(&["enabled", "disabled", "writable", "readonly"])),
    ("selinux", Word(&["z", "Z"])),
];

const DEPLOY: Fields = &[
    ("mode", Str),
    ("endpoint_mode", Str),
    ("replicas", Int),
    ("labels", LIST_OR_DICT),
    ("rollback_config", Object(UPDATE, &[])),
    ("update_config", Object(UPDATE, &[])),
    ("resources", Object(&[("limits", Object(LIMITS, &[])), ("reservations", Object(RESERVATIONS, &[]))], &[])),
    ("restart_policy", Object(RESTART, &[])),
    ("placement", Object(PLACEMENT, &[])),
];
const UPDATE: Fields = &[
    ("parallelism", Int),
    ("delay", Str),
    ("failure_action", Str),
    ("monitor", Str),
    ("max_failure_ratio", Num),
    ("order", ORDER),
];
const LIMITS: Fields = &[("cpus", Num), ("memory", Str), ("pids", Int)];
const RESERVATIONS: Fields = &[
    ("cpus", Num),
    ("memory", Str),
    ("generic_resources", List(&Object(&[("discrete_resource_spec", Object(&[("kind", Str), ("value", Num)], &[]))], &[]))),
    ("devices", List(&Object(GPU, &["capabilities"]))),
];
const RESTART: Fields = &[("condition", Str), ("delay", Str), ("max_attempts", Int), ("window", Str)];
const PLACEMENT: Fields =
    &[("constraints", STRINGS), ("preferences", List(&Object(&[("spread", Str)], &[]))), ("max_replicas_per_node", Int)];

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{FILE, Kind};

    /// What of a schema the table lacks: properties, and types of values.
    fn lacking(schema: &Value, root: &Value, kinds: &[&'static Kind], path: &str, depth: usize, found: &mut Vec<String>) {
        if depth > 24 {
            return;
        }
        let down = |s: &Value, kinds: &[&'static Kind], path: &str, found: &mut Vec<String>| {
            lacking(s, root, kinds, path, depth + 1, found);
        };
        if let Some(name) = schema["$ref"].as_str() {
            return down(&root["definitions"][name.trim_start_matches("#/definitions/")], kinds, path, found);
        }
        let kinds: Vec<&'static Kind> = kinds.iter().flat_map(|k| alternatives(k)).collect();
        for one in schema["oneOf"].as_array().into_iter().flatten() {
            down(one, &kinds, path, found);
        }
        let types = schema["type"].as_array().cloned().unwrap_or_else(|| vec![schema["type"].clone()]);
        for kind in types.iter().filter_map(Value::as_str) {
            if !kinds.iter().any(|k| takes(k, kind)) {
                found.push(format!("{path}: {kind}"));
            }
        }
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            let known = kinds.iter().find_map(|k| match k {
                Kind::Object(fields, _) => fields.iter().find(|(n, _)| n == name).map(|(_, k)| k),
                _ => None,
            });
            let path = format!("{path}.{name}");
            match known {
                Some(kind) => down(inner, &[kind], &path, found),
                None if name.starts_with("x-") || kinds.iter().any(|k| matches!(k, Kind::Any)) => {}
                None => found.push(path),
            }
        }
        for inner in schema["patternProperties"].as_object().into_iter().flatten().filter(|(p, _)| *p != "^x-") {
            let below: Vec<&'static Kind> = kinds
                .iter()
                .filter_map(|k| match k {
                    Kind::Map(k) | Kind::Named(k) => Some(*k),
                    _ => None,
                })
                .collect();
            down(inner.1, &below, &format!("{path}.*"), found);
        }
        if schema["items"].is_object() {
            let below: Vec<&'static Kind> =
                kinds.iter().filter_map(|k| if let Kind::List(k) = k { Some(*k) } else { None }).collect();
            down(&schema["items"], &below, &format!("{path}[]"), found);
        }
    }

    fn alternatives(kind: &'static Kind) -> Vec<&'static Kind> {
        match kind {
            Kind::Or(one, other) => [alternatives(one), alternatives(other)].concat(),
            kind => vec![kind],
        }
    }

    fn takes(kind: &Kind, word: &str) -> bool {
        match kind {
            Kind::Any => true,
            Kind::Str | Kind::Word(_) => word == "string",
            Kind::Int => matches!(word, "string" | "integer" | "number"),
            Kind::Num | Kind::Scalar => matches!(word, "string" | "integer" | "number"),
            Kind::Bool => matches!(word, "string" | "boolean"),
            Kind::AnyScalar => matches!(word, "string" | "integer" | "number" | "boolean"),
            Kind::MaybeScalar => matches!(word, "string" | "integer" | "number" | "boolean" | "null"),
            Kind::List(_) => word == "array",
            Kind::Map(_) | Kind::Named(_) | Kind::Object(..) => word == "object",
            Kind::Null => word == "null",
            Kind::Or(one, other) => takes(one, word) || takes(other, word),
        }
    }

    #[test]
    fn the_table_has_all_that_the_schemas_have() {
        for text in [include_str!("../tests/data/compose-spec.json"), include_str!("../tests/data/compose-v3.13.json")] {
            let schema: Value = serde_json::from_str(text).unwrap();
            let mut found = Vec::new();
            lacking(&schema, &schema, &[&FILE], "", 0, &mut found);
            // Version 3 allows a host without an address, or with a number for one; there is no use for either.
            found.retain(|f| !f.contains("extra_hosts.*: n"));
            assert_eq!(found, Vec::<String>::new());
        }
    }
}
