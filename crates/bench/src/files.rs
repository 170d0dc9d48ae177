//! What the members find in the benchmark's directory: certificates and addresses. Must never be used for a real swarm.

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use skep_pki::{Identity, RootCa, key_pair};
use skep_raft::Peer;
use skep_types::spec::Role;
use skep_types::{ClusterId, NodeId};
use skep_wire::Credentials;

/// Members of the group.
pub(crate) const MEMBERS: u64 = 3;

/// The node of a member. Real ids are large; a small one is digits only, which a TLS server name may not be.
fn node(number: u64) -> NodeId {
    NodeId(u128::MAX - u128::from(number))
}

/// A member and how it proves to be that.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) credentials: Credentials,
    pub(crate) peers: Vec<Peer>,
}

/// Makes the files of all members below `dir`.
pub(crate) fn make(dir: &Path) -> Result<(), String> {
    let root = RootCa::create(SystemTime::now()).map_err(|e| e.to_string())?;
    let mut addrs = Vec::new();
    let mut held = Vec::new();
    for _ in 0..MEMBERS {
        let l = TcpListener::bind("127.0.0.1:0").map_err(|e| format!("find a free port: {e}"))?;
        addrs.push(l.local_addr().map_err(|e| format!("find a free port: {e}"))?.to_string());
        held.push(l);
    }
    for number in 1..=MEMBERS {
        let (key, csr) = key_pair().map_err(|e| e.to_string())?;
        let who = Identity { node: node(number), role: Role::Manager, cluster: ClusterId(1) };
        let chain = root.issue(&csr, &who, SystemTime::now(), Duration::from_secs(86_400)).map_err(|e| e.to_string())?;
        let text = json!({"root": root.cert_pem(), "chain": chain, "key": key, "addrs": addrs}).to_string();
        let own = dir.join(number.to_string());
        std::fs::create_dir_all(&own).map_err(|e| format!("make {}: {e}", own.display()))?;
        std::fs::write(own.join("member.json"), text).map_err(|e| format!("write into {}: {e}", own.display()))?;
    }
    Ok(())
}

/// Reads the files of one member.
pub(crate) fn read(dir: &Path) -> Result<Given, String> {
    let path = dir.join("member.json");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("read {}: {e}", path.display()))?;
    let all: Value = serde_json::from_str(&text).map_err(|e| format!("read {}: {e}", path.display()))?;
    let field = |name: &str| all[name].as_str().map(str::to_owned).ok_or_else(|| format!("{}: no {name}", path.display()));
    let credentials = Credentials { root: field("root")?, chain: field("chain")?, key: field("key")? };
    let addrs = all["addrs"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let peers = (1..).zip(addrs).map(|(id, a)| Peer { id, node_id: node(id).to_string(), addr: a.to_owned() }).collect();
    Ok(Given { credentials, peers })
}
