//! `swarm …`: Docker's commands, and those that only Skep has (`status`, `backup`, `restore`, `renew`).

mod ca;
mod init;
mod keep;
mod status;
mod tokens;

use serde_json::{Value, json};

use crate::app::Failure;
use crate::client::Client;
use crate::grammar::{Arity, Command, Matches};
use crate::options::put;
use crate::options::words::fields;
use crate::output::human::cause;

/// Flags of `init` and `update` that say how the swarm is run.
const SPEC: &str = "
    --cert-expiry duration How long node certificates are valid (ns|us|ms|s|m|h) (default 2160h0m0s)
    --dispatcher-heartbeat duration How often agents tell that they live (ns|us|ms|s|m|h) (default 5s)
    --external-ca external-ca* Certificate signers outside: protocol=cfssl,url=URL[,cacert=FILE]
    --max-snapshots uint Number of old Raft snapshots to keep besides
    --snapshot-interval uint Log entries between Raft snapshots (default 10000)
    --task-history-limit int Number of tasks kept for each place (default 5)";
const INIT: &str = "
    --advertise-addr string Address told to other nodes: IP or interface, with a port or without
    --autolock bool Require an unlock key after a manager restarts
    --availability string What this node may be given: active, pause, drain (default active)
    --ca-cert pem-file Root certificate of one's own (needs --ca-key)
    --ca-key pem-file Key of that certificate
    --data-path-addr string Address or interface for the traffic of containers
    --data-path-port uint32 UDP port for the traffic of containers, 1024 to 49151 (default 4789)
    --default-addr-pool string* Addresses for networks of the swarm, as CIDR
    --default-addr-pool-mask-length uint32 Size of each network's subnet (default 24)
    --force-new-cluster bool Make a swarm of one from what this manager knows
    --listen-addr node-addr Where managers listen: IP or interface, with a port or without (default 0.0.0.0:2377)";
const JOIN: &str = "
    --advertise-addr string Address told to other nodes: IP or interface, with a port or without
    --availability string What this node may be given: active, pause, drain (default active)
    --data-path-addr string Address or interface for the traffic of containers
    --listen-addr node-addr Where managers listen (default 0.0.0.0:2377)
    --token string The join token of the role";
const UPDATE: &str = "--autolock bool Whether managers need an unlock key after a restart";
const LEAVE: &str = "-f --force bool Leave though this node is a manager";
const TOKEN: &str = "
    -q --quiet bool Only the token
    --rotate bool Make a new one; the old one is useless then";
const KEY: &str = "
    -q --quiet bool Only the key
    --rotate bool Make a new one";
const CA: &str = "
    --ca-cert pem-file Root certificate to change to
    --ca-key pem-file Key of that certificate
    --cert-expiry duration How long node certificates are valid (ns|us|ms|s|m|h) (default 2160h0m0s)
    -d --detach bool Do not wait until every node has a new certificate
    --external-ca external-ca* Certificate signers outside
    -q --quiet bool No progress
    --rotate bool Change the root; a new one is made if none is given";
const STATUS: &str = "--format string How to show it: table or json (default table)";
const RESTORE: &str = "
    --advertise-addr string Address told to other nodes
    --listen-addr string Where managers listen
    --unlock-key string The unlock key of that time, for a sealed backup; SKEP_UNLOCK_KEY if absent";
const RENEW: &str = "--token string The join token of this host's role";

/// The group.
pub const GROUP: Command = Command::group(
    "swarm",
    "Manage Swarm",
    &[
        Command::new("init", "[OPTIONS]", "Initialize a swarm", Arity::None, &[SPEC, INIT], |a, m| Box::pin(init::init(a, m)))
            .shown(&["swarm init --advertise-addr 10.0.0.1", "swarm init --autolock"]),
        Command::new(
            "join",
            "[OPTIONS] HOST:PORT",
            "Join a swarm as a node and/or manager",
            Arity::Exactly(1),
            &[JOIN],
            |a, m| Box::pin(init::join(a, m)),
        )
        .shown(&["swarm join --token SWMTKN-1-… 10.0.0.1:2377"]),
        Command::new("leave", "[OPTIONS]", "Leave the swarm", Arity::None, &[LEAVE], |a, m| Box::pin(init::leave(a, m))),
        Command::new("update", "[OPTIONS]", "Update the swarm", Arity::None, &[SPEC, UPDATE], |a, m| {
            Box::pin(init::update(a, m))
        }),
        Command::new("join-token", "[OPTIONS] (worker|manager)", "Manage join tokens", Arity::Exactly(1), &[TOKEN], |a, m| {
            Box::pin(tokens::join_token(a, m))
        }),
        Command::new("unlock", "", "Unlock swarm", Arity::None, &[], |a, m| Box::pin(tokens::unlock(a, m))),
        Command::new("unlock-key", "[OPTIONS]", "Manage the unlock key", Arity::None, &[KEY], |a, m| {
            Box::pin(tokens::unlock_key(a, m))
        }),
        Command::new("ca", "[OPTIONS]", "Display and rotate the root CA", Arity::None, &[CA], |a, m| Box::pin(ca::ca(a, m))),
        Command::new("status", "[OPTIONS]", "Show managers, quorum, log and certificates", Arity::None, &[STATUS], |a, m| {
            Box::pin(keep::status(a, m))
        }),
        Command::new(
            "backup",
            "FILE",
            "Write all that managers agree on, keys too, to a file (\"-\": standard output); keep it as you keep keys",
            Arity::Exactly(1),
            &[],
            |a, m| Box::pin(keep::backup(a, m)),
        ),
        Command::new(
            "restore",
            "[OPTIONS] FILE",
            "Make a swarm of one from a backup, on a host in no swarm (\"-\": standard input)",
            Arity::Exactly(1),
            &[RESTORE],
            |a, m| Box::pin(keep::restore(a, m)),
        ),
        Command::new(
            "renew",
            "[OPTIONS] [HOST:PORT]",
            "Get a new certificate after this host's has expired; it stays the node that it was",
            Arity::AtMost(1),
            &[RENEW],
            |a, m| Box::pin(keep::renew(a, m)),
        ),
    ],
);

/// Whether a flag was given that changes the swarm's spec.
fn changes_spec(m: &Matches) -> bool {
    let known = crate::grammar::flags::of(&[SPEC, UPDATE]);
    m.all_given().any(|g| known.iter().any(|f| f.name == g))
}

/// Writes what flags say into a spec.
fn change_spec(spec: &mut Value, m: &Matches) -> Result<(), Failure> {
    for (flag, path, value) in [
        ("task-history-limit", &["Orchestration", "TaskHistoryRetentionLimit"], m.int("task-history-limit").map(Value::from)),
        ("dispatcher-heartbeat", &["Dispatcher", "HeartbeatPeriod"], m.duration("dispatcher-heartbeat").map(Value::from)),
        ("snapshot-interval", &["Raft", "SnapshotInterval"], m.uint("snapshot-interval").map(Value::from)),
        ("max-snapshots", &["Raft", "KeepOldSnapshots"], m.uint("max-snapshots").map(Value::from)),
        (
            "autolock",
            &["EncryptionConfig", "AutoLockManagers"],
            m.switch("autolock").filter(|_| m.path == "swarm update").map(Value::from),
        ),
    ] {
        if let (true, Some(value)) = (m.given(flag), value) {
            put(spec, path, value);
        }
    }
    change_spec_ca(spec, m)
}

/// The part of it that `swarm ca` changes too.
fn change_spec_ca(spec: &mut Value, m: &Matches) -> Result<(), Failure> {
    if let Some(expiry) = m.duration("cert-expiry") {
        put(spec, &["CAConfig", "NodeCertExpiry"], expiry);
    }
    if m.given("external-ca") {
        put(spec, &["CAConfig", "ExternalCAs"], external_cas(m.list("external-ca"))?);
    }
    Ok(())
}

/// `protocol=cfssl,url=…,cacert=FILE,key=value`.
fn external_cas(given: &[String]) -> Result<Value, Failure> {
    let mut out = Vec::new();
    for one in given {
        let mut ca = json!({"Options": {}});
        for field in fields(one).map_err(Failure::new)? {
            let (key, value) = field
                .split_once('=')
                .ok_or_else(|| Failure::new(format!("invalid field '{field}' must be a key=value pair")))?;
            match key.to_ascii_lowercase().as_str() {
                "protocol" if value.eq_ignore_ascii_case("cfssl") => ca["Protocol"] = "cfssl".into(),
                "protocol" => return Err(Failure::new(format!("unrecognized external CA protocol {value}"))),
                "url" => ca["URL"] = value.into(),
                "cacert" => {
                    ca["CACert"] =
                        pem(value).map_err(|e| Failure::new(format!("unable to read CA cert for external CA: {e}")))?.into()
                }
                other => ca["Options"][other] = value.into(),
            }
        }
        if ca["Protocol"].is_null() {
            return Err(Failure::new("the external-ca option needs a protocol= parameter"));
        }
        if ca["URL"].is_null() {
            return Err(Failure::new("the external-ca option needs a url= parameter"));
        }
        out.push(ca);
    }
    Ok(Value::Array(out))
}

/// A PEM file; certificates are a few kilobytes.
fn pem(path: &str) -> Result<String, String> {
    let meta = std::fs::metadata(path).map_err(|e| format!("open {path}: {}", cause(&e)))?;
    if meta.is_file() && meta.len() > 1 << 20 {
        return Err(format!("{path}: longer than 1 MiB, that is no certificate"));
    }
    std::fs::read_to_string(path).map_err(|e| format!("open {path}: {}", cause(&e)))
}

/// The swarm, and its spec sent back changed.
async fn send_spec(client: &Client, swarm: &Value, spec: &Value, query: &str) -> Result<(), Failure> {
    let version = swarm["Version"]["Index"].as_u64().unwrap_or(0);
    client.call("POST", &format!("/swarm/update?version={version}{query}"), Some(spec)).await?;
    Ok(())
}
