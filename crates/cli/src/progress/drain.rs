//! Waiting until a drained node has no task left.

use std::time::Duration;

use serde_json::Value;

use super::show::Screen;
use crate::app::Failure;
use crate::client::{Client, query};
use crate::options::filter;
use crate::output::print;

/// How often the node's tasks are looked at.
const POLL: Duration = Duration::from_millis(200);

/// How many of a node's tasks have not ended.
fn left(tasks: &[Value]) -> usize {
    let ended = ["complete", "shutdown", "failed", "rejected", "remove", "orphaned"];
    tasks.iter().filter(|t| !ended.iter().any(|e| t["Status"]["State"] == *e)).count()
}

/// Waits until nothing is left on a node; Ctrl-C ends the waiting, not the draining.
///
/// # Errors
/// When the daemon cannot be asked.
pub async fn wait(client: &Client, node: &Value) -> Result<u8, Failure> {
    let id = node["ID"].as_str().unwrap_or_default();
    let path = query("/tasks", &[("filters", &filter("node", &[id]))]);
    let mut screen = Screen::new(false);
    loop {
        let tasks = client.call("GET", &path, None).await?;
        let left = left(tasks.as_array().map(Vec::as_slice).unwrap_or_default());
        if left == 0 {
            screen.rows(&["drained: no task is left on the node".to_owned()])?;
            return Ok(0);
        }
        screen.rows(&[format!("draining: {left} tasks left")])?;
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            _ = tokio::signal::ctrl_c() => {
                print("Operation continuing in background.\n")?;
                return Ok(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::left;

    #[test]
    fn tasks_that_have_ended_do_not_count() {
        let task = |s: &str| json!({"Status": {"State": s}});
        assert_eq!(left(&[task("running"), task("shutdown"), task("failed"), task("preparing")]), 2);
    }
}
