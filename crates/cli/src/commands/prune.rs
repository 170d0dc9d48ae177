//! What nobody uses, cleared away: a kind of thing by `container prune` and its like, all of them by `system prune`.

use serde_json::Value;

use crate::app::{App, Failure};
use crate::client::query;
use crate::grammar::Matches;
use crate::options;
use crate::output::human::size;
use crate::output::print;
use crate::terminal::confirm;

/// A kind of thing that can be cleared away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Containers that have stopped.
    Containers,
    /// Networks that nobody is on.
    Networks,
    /// Volumes that no container names.
    Volumes,
    /// Images that no container is of.
    Images,
    /// What building images has left.
    BuildCache,
}

impl Kind {
    /// Where it is asked for, where the answer lists what is gone, and what is said before that list.
    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Containers => ("/containers/prune", "ContainersDeleted", "Deleted Containers:\n"),
            Self::Networks => ("/networks/prune", "NetworksDeleted", "Deleted Networks:\n"),
            Self::Volumes => ("/volumes/prune", "VolumesDeleted", "Deleted Volumes:\n"),
            Self::Images => ("/images/prune", "ImagesDeleted", "Deleted Images:\n"),
            Self::BuildCache => ("/build/prune", "CachesDeleted", "Deleted build cache objects:\n"),
        }
    }

    /// Clears away what fits the filters; what that was, in words, and the bytes that it took.
    pub(crate) async fn prune(self, app: &App, given: &[String]) -> Result<(String, i64), Failure> {
        let (path, key, head) = self.words();
        let filters = options::filters(given)?;
        let done = app.client().await?.call("POST", &query(path, &[("filters", &filters)]), None).await?;
        let gone = match self {
            Self::Images => super::image::removed(&done[key]).to_lowercase(),
            _ => done[key].as_array().into_iter().flatten().filter_map(Value::as_str).map(|n| format!("{n}\n")).collect(),
        };
        let text = if gone.is_empty() { gone } else { format!("{head}{gone}\n") };
        Ok((text, done["SpaceReclaimed"].as_i64().unwrap_or(0)))
    }

    /// Asks, clears away, tells.
    pub(crate) async fn command(self, app: &App, m: &Matches, what: &str, more: &[String]) -> Result<u8, Failure> {
        if !confirm(m.on("force"), &format!("WARNING! This will remove {what}."))? {
            return Ok(0);
        }
        let given: Vec<String> = m.list("filter").iter().chain(more).cloned().collect();
        let (text, bytes) = self.prune(app, &given).await?;
        let total = if self == Self::Networks { String::new() } else { reclaimed(bytes) };
        print(&format!("{text}{total}"))?;
        Ok(0)
    }
}

fn reclaimed(bytes: i64) -> String {
    format!("Total reclaimed space: {}\n", size(bytes))
}

/// What `system prune` says before it does anything.
fn warning(all: bool, volumes: bool, filters: &[String]) -> String {
    let mut what = vec!["all stopped containers", "all networks not used by at least one container"];
    if volumes {
        what.push("all anonymous volumes not used by at least one container");
    }
    what.extend(if all {
        ["all images without at least one container associated to them", "all build cache"]
    } else {
        ["all dangling images", "unused build cache"]
    });
    let list = |items: &[&str]| items.iter().map(|i| format!("\n  - {i}")).collect::<String>();
    let mut text = format!("WARNING! This will remove:{}\n", list(&what));
    if !filters.is_empty() {
        let mut shown: Vec<&str> = filters.iter().map(String::as_str).collect();
        shown.sort_unstable();
        text += &format!("\n  Items to be pruned will be filtered with:{}\n", list(&shown));
    }
    text
}

/// `system prune`.
pub(super) async fn system(app: &App, m: &Matches) -> Result<u8, Failure> {
    let (all, volumes, filters) = (m.on("all"), m.on("volumes"), m.list("filter"));
    let of_time = |f: &String| f.starts_with("until=");
    if volumes && filters.iter().any(of_time) {
        return Err(Failure::new("ERROR: The \"until\" filter is not supported with \"--volumes\""));
    }
    if !confirm(m.on("force"), &warning(all, volumes, filters))? {
        return Ok(0);
    }
    let mut kinds = vec![Kind::Containers, Kind::Networks];
    kinds.extend(volumes.then_some(Kind::Volumes));
    kinds.extend([Kind::Images, Kind::BuildCache]);
    let mut bytes = 0;
    for kind in kinds {
        let mut given = filters.to_vec();
        match kind {
            Kind::Images => given.push(format!("dangling={}", !all)),
            // All that there is goes, and its age is all that it could be asked for.
            Kind::BuildCache => given.clear(),
            _ => {}
        }
        let (text, more) = kind.prune(app, &given).await?;
        print(&text)?;
        bytes += more;
    }
    print(&reclaimed(bytes))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_is_docker_s() {
        let texts = |all: &[&str]| all.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            warning(false, false, &[]),
            "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n  - \
             all dangling images\n  - unused build cache\n"
        );
        let whole = warning(true, true, &texts(&["until=24h", "label=a"]));
        assert!(whole.contains("\n  - all anonymous volumes not used by at least one container\n  - all images without"));
        assert!(
            whole.ends_with(
                "\n  - all build cache\n\n  Items to be pruned will be filtered with:\n  - label=a\n  - until=24h\n"
            )
        );
    }
}
