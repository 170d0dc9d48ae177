//! `/skep/v1/…`: what Docker's API has no word for. Fields are only ever added.
//!
//! | Route | Body or parameters | Answer |
//! |---|---|---|
//! | `GET /skep/v1/swarm/status` | | [`SwarmStatus`] as JSON |
//! | `GET /skep/v1/swarm/backup` | | the backup's bytes |
//! | `POST /skep/v1/swarm/restore` | the backup's bytes; `listen-addr`, `advertise-addr`; header `X-Skep-Unlock-Key` for a sealed one | id of this node, a JSON string |
//! | `POST /skep/v1/tasks/{id}/tunnel` | a connection upgrade | a connection to the task's node, on which the calls of that one container are served |
//! | `POST /skep/v1/nodes/{id}/tunnel` | a connection upgrade | a connection to the node, on which `/skep/v1/network/…` is served |
//! | `GET /skep/v1/network/dump` | | what the kernel has of this host's networks, and how that differs from what it should have |
//! | `GET /skep/v1/network/doctor` | | the same, with `Findings` in words, for which other nodes are asked; takes some seconds |
//! | `POST /skep/v1/swarm/renew` | `{JoinToken, RemoteAddr}` | nothing |

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};
use skep_types::Time;
use skep_types::control::{RestoreRequest, SwarmStatus};
use tokio::io::DuplexStream;

use crate::body::JsonBody;
use crate::error::{Failure, Handled};
use crate::hijack::Hijack;
use crate::swarm::{advertise, listen_address, with_port};
use crate::{ApiResult, App};

/// Largest backup that is taken: the tables of a million tasks are half of it.
const MAX_BACKUP: usize = 1 << 30;

fn shown(s: &SwarmStatus) -> Value {
    let reachable = s.managers.iter().filter(|m| m.voter && m.reachable).count();
    let voters = s.managers.iter().filter(|m| m.voter).count();
    let position = |m: &skep_types::control::ManagerPosition| {
        json!({
            "NodeID": m.node, "Hostname": m.hostname, "Addr": m.addr, "Leader": m.leader, "Voter": m.voter,
            // Only a leader hears the others.
            "Reachable": s.by_leader.then_some(m.reachable), "Matched": m.matched,
            "Lag": m.matched.map(|at| s.last_log.saturating_sub(at)),
        })
    };
    let certificate = |(node, name, from, until): &(skep_types::NodeId, String, Time, Time)| {
        json!({
            "NodeID": node, "Hostname": name, "NotBefore": from.rfc3339(), "NotAfter": until.rfc3339(),
            "SecondsLeft": until.since(s.time).as_secs(),
        })
    };
    json!({
        "ClusterID": s.cluster, "NodeID": s.by, "ByLeader": s.by_leader, "Time": s.time.rfc3339(), "Term": s.term,
        "LastLog": s.last_log, "Committed": s.committed,
        "Quorum": {
            "Managers": voters, "Needed": voters / 2 + 1, "Reachable": s.by_leader.then_some(reachable),
            "MayFail": s.by_leader.then(|| reachable.saturating_sub(voters / 2 + 1)),
        },
        "Snapshot": {"Index": s.snapshot, "AgeSeconds": s.snapshot_age.map(|a| a.as_secs()), "Bytes": s.snapshot_bytes},
        "LogBytes": s.log_bytes, "Managers": s.managers.iter().map(position).collect::<Vec<_>>(),
        "Certificates": s.certificates.iter().map(certificate).collect::<Vec<_>>(),
    })
}

pub(crate) async fn status(State(app): State<App>) -> Handled {
    Ok(Json(shown(&app.cluster.status().await?)).into_response())
}

pub(crate) async fn backup(State(app): State<App>) -> Handled {
    let bytes = app.cluster.backup().await?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct RestoreQuery {
    listen_addr: Option<String>,
    advertise_addr: Option<String>,
}

pub(crate) async fn restore(
    State(app): State<App>,
    Query(query): Query<RestoreQuery>,
    headers: HeaderMap,
    body: Body,
) -> Handled {
    let listen_addr = listen_address(query.listen_addr.as_deref().unwrap_or_default())?;
    let (advertise_addr, advertise_from) = advertise(&app, query.advertise_addr.as_deref().unwrap_or_default(), &listen_addr)?;
    let request = RestoreRequest {
        advertise_addr,
        advertise_from,
        listen_addr,
        unlock_key: headers.get("X-Skep-Unlock-Key").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned().into(),
        backup: axum::body::to_bytes(body, MAX_BACKUP)
            .await
            .map_err(|e| Failure::invalid(format!("read the backup (at most {MAX_BACKUP} bytes): {e}")))?
            .to_vec(),
    };
    let id = app.cluster.restore(request).await?;
    Ok(Json(json!(id)).into_response())
}

pub(crate) async fn renew(State(app): State<App>, JsonBody(mut f): JsonBody) -> Handled {
    let (token, remote): (String, String) = (f.get("JoinToken")?, f.get("RemoteAddr")?);
    f.finish()?;
    let remote = if remote.is_empty() { remote } else { with_port(&remote, 2377) };
    app.cluster.renew(&token, &remote).await?;
    Ok(StatusCode::OK.into_response())
}

/// A connection to wherever a task runs.
pub(crate) async fn tunnel(State(app): State<App>, Path(task): Path<String>, request: Request) -> Handled {
    join(request, app.cluster.tunnel(&task)).await
}

/// A connection to a node's network.
pub(crate) async fn node_tunnel(State(app): State<App>, Path(node): Path<String>, request: Request) -> Handled {
    join(request, app.cluster.network_tunnel(&node)).await
}

/// Makes one connection of the client's and the far one.
async fn join(mut request: Request, far: impl Future<Output = ApiResult<DuplexStream>>) -> Handled {
    let hijack = Hijack::of(&mut request);
    if !hijack.asked() {
        return Err(Failure::invalid("a tunnel needs a connection upgrade (headers Connection: Upgrade, Upgrade: tcp)"));
    }
    let mut far = far.await?;
    let response = hijack.accept(true);
    tokio::spawn(async move {
        if let Some(mut near) = hijack.connection().await {
            // Either side's end is the other's; why is nobody's concern any more.
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        }
    });
    Ok(response)
}
