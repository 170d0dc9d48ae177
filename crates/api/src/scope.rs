//! The Engine API of one container: what a client elsewhere in the swarm may do with the container of a task. Whatever container a
//! path names is that one; what could change another, or what the task is, is refused. And that of a node's network, to look at.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, Uri};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use skep_types::control::Code;
use tokio::io::DuplexStream;

use crate::App;
use crate::error::Failure;
use crate::listen::serve_connection;
use crate::router::router;

/// Calls on the container itself.
const CALLS: [(Method, &str); 12] = [
    (Method::GET, "json"),
    (Method::GET, "logs"),
    (Method::GET, "top"),
    (Method::GET, "stats"),
    (Method::GET, "archive"),
    (Method::HEAD, "archive"),
    (Method::PUT, "archive"),
    (Method::POST, "exec"),
    (Method::POST, "attach"),
    (Method::POST, "resize"),
    (Method::POST, "wait"),
    // Who is attached passes signals on.
    (Method::POST, "kill"),
];
/// Calls on an exec of it.
const OF_EXEC: [(Method, &str); 3] = [(Method::POST, "start"), (Method::POST, "resize"), (Method::GET, "json")];

/// Speaks the API of one container on a connection, to its end.
pub async fn serve_container(app: App, container: String, io: DuplexStream) {
    let scope = (app.clone(), container);
    // The layer of the outer one comes before the routes of the inner one: a path is another one when it is looked up.
    let scoped = Router::new().fallback_service(router(app.clone())).layer(from_fn_with_state(scope, within));
    serve_connection(io, scoped, app).await;
}

/// Lets a node's network be looked at on a connection, to its end; nothing else.
pub async fn serve_network(app: App, io: DuplexStream) {
    let scoped = Router::new().fallback_service(router(app.clone())).layer(from_fn(looking));
    serve_connection(io, scoped, app).await;
}

/// Whether a call only looks at the network.
fn looks(method: &Method, path: &str) -> bool {
    method == Method::GET && matches!(path, "/_ping" | "/skep/v1/network/dump" | "/skep/v1/network/doctor")
}

async fn looking(request: Request, next: Next) -> Response {
    if looks(request.method(), request.uri().path()) {
        return next.run(request).await;
    }
    let text = format!("{} {} is not for looking at a node's network", request.method(), request.uri().path());
    Failure::new(Code::PermissionDenied, text).into_response()
}

/// Where a call leads within the scope; nothing if it is none of its calls. `owns` tells whether an exec is the container's.
fn lead(method: &Method, path: &str, container: &str, owns: impl Fn(&str) -> bool) -> Option<String> {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let allowed = |calls: &[(Method, &str)], call: &str| calls.iter().any(|(m, c)| m == method && *c == call);
    match parts.as_slice() {
        ["_ping"] => Some(path.to_owned()),
        ["containers", _, call] if allowed(&CALLS, call) => Some(format!("/containers/{container}/{call}")),
        ["exec", id, call] if allowed(&OF_EXEC, call) && owns(id) => Some(path.to_owned()),
        _ => None,
    }
}

async fn within(State((app, container)): State<(App, String)>, mut request: Request, next: Next) -> Response {
    let owns = |id: &str| app.engine.exec(id).is_ok_and(|e| e.container == container);
    let Some(path) = lead(request.method(), request.uri().path(), &container, owns) else {
        let text = format!("{} {} is not for the container of a task", request.method(), request.uri().path());
        return Failure::new(Code::PermissionDenied, text).into_response();
    };
    let target = request.uri().query().map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
    match target.parse::<Uri>() {
        Ok(uri) => *request.uri_mut() = uri,
        Err(e) => return Failure::invalid(format!("invalid path: {e}")).into_response(),
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_to_another_container() {
        let to = |method: Method, path: &str| lead(&method, path, "abc", |id| id == "own");
        assert_eq!(to(Method::POST, "/containers/other/exec").as_deref(), Some("/containers/abc/exec"));
        assert_eq!(to(Method::POST, "/containers/other/wait").as_deref(), Some("/containers/abc/wait"));
        assert_eq!(to(Method::PUT, "/containers/web.1/archive").as_deref(), Some("/containers/abc/archive"));
        assert_eq!(to(Method::POST, "/exec/own/start").as_deref(), Some("/exec/own/start"));
        for (method, path) in [
            (Method::POST, "/exec/other/start"),
            (Method::POST, "/containers/abc/stop"),
            (Method::POST, "/containers/create"),
            (Method::DELETE, "/containers/abc"),
            (Method::GET, "/containers/json"),
            (Method::GET, "/containers/abc/../other/json"),
            (Method::GET, "/swarm"),
            (Method::GET, "/containers/abc/export"),
            (Method::POST, "/skep/v1/tasks/x/tunnel"),
        ] {
            assert_eq!(to(method.clone(), path), None, "{method} {path}");
        }
        assert!(looks(&Method::GET, "/skep/v1/network/doctor") && !looks(&Method::POST, "/skep/v1/network/doctor"));
        assert!(!looks(&Method::GET, "/networks") && !looks(&Method::GET, "/v1.50/containers/json"));
    }
}
