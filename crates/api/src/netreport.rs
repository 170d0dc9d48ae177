//! `/skep/v1/network/…`: what the kernel has of this host's networks, for tests and for `skep network doctor`.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use serde_json::{Value, json};
use skep_types::netreport::{Finding, NamesReport, NetworkReport, SpaceReport};

use crate::App;
use crate::error::Handled;

fn space(s: &SpaceReport) -> Value {
    json!({
        "Name": s.name, "Links": s.links, "Neighbours": s.neighbours, "Forwarding": s.forwarding, "Sets": s.sets,
        "Chains": s.chains, "Differences": s.differences,
    })
}

fn finding(f: &Finding) -> Value {
    json!({"Level": f.level.as_str(), "About": f.about, "Peer": f.peer.map(|p| p.to_string()), "Text": f.text})
}

fn shown(r: &NetworkReport) -> Value {
    let names = |n: &NamesReport| json!({"Container": n.container, "Network": n.network, "Names": n.names});
    json!({
        "NodeID": r.node.map(|n| n.to_string()), "Addr": r.addr, "MTU": r.mtu, "Features": r.features,
        "Spaces": r.spaces.iter().map(space).collect::<Vec<_>>(), "Names": r.names.iter().map(names).collect::<Vec<_>>(),
        "Findings": r.findings.iter().map(finding).collect::<Vec<_>>(),
    })
}

pub(crate) async fn dump(State(app): State<App>) -> Handled {
    Ok(Json(shown(&app.engine.network_report(false, Vec::new()).await)).into_response())
}

pub(crate) async fn doctor(State(app): State<App>) -> Handled {
    let managers = app.cluster.info().await.managers;
    Ok(Json(shown(&app.engine.network_report(true, managers).await)).into_response())
}
