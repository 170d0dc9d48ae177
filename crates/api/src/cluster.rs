//! Small answers about objects of the swarm, shared by the routes.

use axum::Json;
use axum::extract::Path;
use serde_json::json;
use skep_types::control::{Code, ControlResponse};
use skep_types::object::Version;

use crate::error::{Failure, Handled};

/// There are no plugins, which is all that clients need to know.
pub(crate) async fn no_plugins() -> Json<serde_json::Value> {
    Json(json!([]))
}

/// There are no plugins, so none is found.
pub(crate) async fn no_plugin(Path(name): Path<String>) -> Failure {
    Failure::new(Code::NotFound, format!("plugin \"{}\" not found", name.trim_end_matches("/json")))
}

/// `?version=` of an update, refused as Go's number parser does.
pub(crate) fn version(text: Option<&String>, what: &str) -> Handled<Version> {
    let text = text.map(String::as_str).unwrap_or_default();
    text.parse().map(Version).map_err(|e: std::num::ParseIntError| {
        let why = if *e.kind() == std::num::IntErrorKind::PosOverflow { "value out of range" } else { "invalid syntax" };
        Failure::invalid(format!("invalid {what} version '{text}': strconv.ParseUint: parsing {text:?}: {why}"))
    })
}

/// An answer that a call cannot give: a manager of another version, at best.
pub(crate) fn unexpected(response: &ControlResponse) -> Failure {
    let mut text = format!("{response:?}");
    text.truncate(text.char_indices().nth(60).map_or(text.len(), |(at, _)| at));
    Failure::new(Code::Internal, format!("the manager gave an answer of another kind: {text}"))
}
