//! Secrets that a driver keeps: asked when a task is told of that needs one, given to the task's node, and never stored. A driver that
//! hangs must never hold up a session.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use skep_state::Store;
use skep_types::file::{DriverAnswer, DriverAsk, FileKind};
use skep_types::{FileId, TaskId};

use super::assignments;
use crate::shared::Shared;

/// Questions under way at one manager: a driver is asked for each task by itself, and a service may have thousands.
pub(crate) const AT_ONCE: usize = 16;
/// A driver that has not answered by then will not; less than an agent waits.
const LIMIT: Duration = Duration::from_secs(20);

/// Those who keep secrets elsewhere.
#[async_trait]
pub trait SecretDrivers: Send + Sync + 'static {
    /// Asks for a secret.
    ///
    /// # Errors
    /// In words that name the driver and tell what to do.
    async fn secret(&self, ask: DriverAsk) -> Result<DriverAnswer, String>;
}

/// A question, and what came of it.
pub(super) type Answered = ((TaskId, FileId), Result<DriverAnswer, String>);

/// Asks the driver of a secret for a task.
pub(super) async fn asked(s: Arc<Shared>, store: Arc<Store>, pair: (TaskId, FileId)) -> Answered {
    let Some(ask) = assignments::ask(&store, pair.0, pair.1) else {
        return (pair, Err("the secret is gone".to_owned()));
    };
    let (driver, name) = (ask.driver.clone(), ask.name.clone());
    let fail = |why: &str| format!("secret {name}: {why}");
    let Some(drivers) = s.config.secrets.clone() else {
        return (pair, Err(fail(&format!("this manager has no driver {driver}"))));
    };
    let late =
        || fail(&format!("the secret driver {driver} did not answer within {} s: see what its plugin does", LIMIT.as_secs()));
    let work = async {
        // The semaphore is never closed.
        let _turn = s.asking.acquire().await;
        drivers.secret(ask).await
    };
    let answer = match tokio::time::timeout(LIMIT, work).await {
        Ok(answer) => answer.map_err(|why| fail(&why)).and_then(|a| whole(a, &driver).map_err(|why| fail(&why))),
        Err(_) => Err(late()),
    };
    if let Err(why) = &answer {
        tracing::warn!(task = %pair.0, %driver, "{why}");
    }
    (pair, answer)
}

/// A secret of a driver is no larger than any other.
fn whole(answer: DriverAnswer, driver: &str) -> Result<DriverAnswer, String> {
    let (bytes, limit) = (answer.data.0.len(), FileKind::Secret.limit());
    if (1..limit).contains(&bytes) {
        return Ok(answer);
    }
    Err(format!("the secret driver {driver} gave {bytes} bytes: a secret must be larger than 0 and less than {limit} bytes"))
}
