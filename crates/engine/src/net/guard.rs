//! Our tables stay as we made them: whoever flushes the host's rules or reloads its firewall takes them away, and they come back.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use skep_netplan::Ns;

use super::core::Core;
use super::{NetHost, TableWatch};

/// How often the watcher looks whether the manager is still there; where nothing can be watched, how often the tables are
/// looked at instead.
const TURN: Duration = Duration::from_secs(1);
/// Between two looks, for whoever changes rules without end.
const REST: Duration = Duration::from_millis(50);

/// Watches for as long as the manager lives, on a thread of its own since it waits in the kernel.
pub(super) fn start(core: Weak<Mutex<Core>>, host: &Arc<dyn NetHost>) {
    let watch = host.watch().inspect_err(|e| {
        tracing::warn!(error = e as &dyn std::error::Error, "changes of the firewall are looked for every second");
    });
    let mut watch = watch.ok();
    let started = thread::Builder::new().name("skep-guard".to_owned()).spawn(move || {
        while core.strong_count() > 0 {
            if !turn(&mut watch) {
                continue;
            }
            let Some(core) = core.upgrade() else { return };
            core.lock().unwrap_or_else(PoisonError::into_inner).mend();
            thread::sleep(REST);
        }
    });
    if let Err(error) = started {
        tracing::warn!(%error, "nobody watches for changes of the firewall");
    }
}

/// Waits for its turn to look. A watch that broke is given up.
fn turn(watch: &mut Option<Box<dyn TableWatch>>) -> bool {
    match watch.as_mut().map(|w| w.changed(TURN)) {
        Some(Ok(changed)) => changed,
        Some(Err(error)) => {
            tracing::warn!(%error, "changes of the firewall are looked for every second");
            *watch = None;
            true
        }
        None => {
            thread::sleep(TURN);
            true
        }
    }
}

impl Core {
    /// Makes tables of the host anew that are not whole any more.
    fn mend(&mut self) {
        let Some(applied) = self.applied.get(&Ns::Host) else { return };
        let damaged = match self.host.damaged(&Ns::Host, &applied.tables) {
            Ok(damaged) => damaged,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the tables of the firewall cannot be read");
                return;
            }
        };
        if damaged.is_empty() {
            return;
        }
        let names: Vec<&str> = damaged.iter().map(|(_, name)| name.as_str()).collect();
        tracing::warn!(tables = ?names, "somebody changed our tables of nftables: they are made anew");
        if let Some(applied) = self.applied.get_mut(&Ns::Host) {
            applied.tables.retain(|key, _| !damaged.contains(key));
        }
        // What fails is logged there, and tried again.
        self.reconcile(Some(&std::collections::BTreeSet::from([Ns::Host])));
    }
}
