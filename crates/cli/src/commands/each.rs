//! What commands with several names do: one call for each, printed when it is done; what failed is told at the end.

use serde_json::Value;

use crate::app::{App, Failure};
use crate::client::escape;
use crate::output::print;

/// One call for each name, whose escaped form `path` puts into a path; the name is printed when it is done.
///
/// # Errors
/// What could not be done, a line each; the others are done.
pub(crate) async fn each(
    app: &App,
    names: &[String],
    method: &str,
    body: Option<&Value>,
    path: impl Fn(&str) -> String,
) -> Result<u8, Failure> {
    each_told(app, names, method, body, |name| path(&escape(name)), |name, _| format!("{name}\n")).await
}

/// The same with names as they are, and words of its own for what was done.
///
/// # Errors
/// As [`each`].
pub(crate) async fn each_told(
    app: &App,
    names: &[String],
    method: &str,
    body: Option<&Value>,
    path: impl Fn(&str) -> String,
    told: impl Fn(&str, &Value) -> String,
) -> Result<u8, Failure> {
    let client = app.client().await?;
    let mut failed = Vec::new();
    for name in names {
        match client.call(method, &path(name), body).await {
            Ok(done) => print(&told(name, &done))?,
            Err(e) => failed.push(e.into()),
        }
    }
    Failure::all(failed)
}
