//! What happened on this host, for `docker events`: a bounded history and a broadcast.

use std::collections::VecDeque;
use std::sync::Mutex;

use skep_types::container::Event;
use tokio::sync::broadcast;

/// Events kept for `--since`, as many as Docker keeps.
const HISTORY: usize = 256;
/// Events that a slow listener may be behind before it misses some.
const QUEUE: usize = 1024;

/// The host's events.
#[derive(Debug)]
pub struct Events {
    history: Mutex<VecDeque<Event>>,
    sender: broadcast::Sender<Event>,
}

impl Default for Events {
    fn default() -> Self {
        Self { history: Mutex::default(), sender: broadcast::channel(QUEUE).0 }
    }
}

impl Events {
    /// Tells of something that happened on this host just now.
    pub fn emit(&self, kind: &str, action: &str, id: &str, attributes: impl IntoIterator<Item = (String, String)>) {
        self.tell(Event {
            kind: kind.to_owned(),
            action: action.to_owned(),
            id: id.to_owned(),
            attributes: attributes.into_iter().collect(),
            time: crate::now(),
            swarm: false,
        });
    }

    /// Tells of an event.
    pub fn tell(&self, event: Event) {
        let mut history = crate::lock(&self.history);
        // Those of execs are for who listens: health checks make so many that nothing else would be remembered.
        if !event.action.starts_with("exec_") {
            if history.len() == HISTORY {
                history.pop_front();
            }
            history.push_back(event.clone());
        }
        // Nobody needs to listen. Sent under the lock, so that a new listener sees each event once.
        let _ = self.sender.send(event);
    }

    /// The history, and what comes after it.
    pub fn subscribe(&self) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let history = crate::lock(&self.history);
        (history.iter().cloned().collect(), self.sender.subscribe())
    }
}
