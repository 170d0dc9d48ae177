//! The steps of an image's build, as its configuration tells them.

use serde_json::Value;
use skep_types::Time;

use crate::config::parse_time;
use crate::error::Result;
use crate::store::ImageStore;

/// A step of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// When it was taken.
    pub created: Time,
    /// What was done: a line of a Dockerfile, or a command.
    pub created_by: String,
    /// Why.
    pub comment: String,
    /// Bytes of the layer that it made; 0 if it made none.
    pub size: u64,
}

impl ImageStore {
    /// The steps of an image's build, the last one first. Layers that no step tells of are steps of their own.
    ///
    /// # Errors
    /// No such image.
    pub fn history(&self, text: &str) -> Result<Vec<Step>> {
        let (id, _) = self.image(text)?;
        let config = self.config(&id)?;
        let sizes = config.rootfs.diff_ids.iter().map(|diff_id| self.layers.size(diff_id)).collect();
        Ok(steps(&config.history, sizes, parse_time(&config.created).unwrap_or_default()))
    }
}

fn steps(history: &[Value], sizes: Vec<u64>, made: Time) -> Vec<Step> {
    let mut sizes = sizes.into_iter();
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let mut all: Vec<Step> = history
        .iter()
        .map(|entry| Step {
            created: parse_time(&text(entry, "created")).unwrap_or_default(),
            created_by: text(entry, "created_by"),
            comment: text(entry, "comment"),
            size: if entry["empty_layer"] == true { 0 } else { sizes.next().unwrap_or(0) },
        })
        .collect();
    all.extend(sizes.map(|size| Step { created: made, created_by: String::new(), comment: String::new(), size }));
    all.reverse();
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn steps_have_the_sizes_of_their_layers() {
        let history = [
            json!({"created": "1970-01-01T00:00:01Z", "created_by": "ADD rootfs"}),
            json!({"created_by": "ENV A=1", "empty_layer": true}),
            json!({"created_by": "RUN make", "comment": "c"}),
        ];
        let all = steps(&history, vec![10, 20, 30], Time(9));
        let shown: Vec<(&str, u64)> = all.iter().map(|s| (s.created_by.as_str(), s.size)).collect();
        assert_eq!(shown, [("", 30), ("RUN make", 20), ("ENV A=1", 0), ("ADD rootfs", 10)]);
        assert_eq!((all[0].created, all[3].created, all[1].comment.as_str()), (Time(9), Time(1_000_000_000), "c"));
        // Fewer layers than the steps say: what is there is told.
        assert_eq!(steps(&history, vec![10], Time(0)).iter().map(|s| s.size).sum::<u64>(), 10);
    }
}
