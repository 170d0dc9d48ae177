//! `image …`, and the same commands at the top: `images`, `pull`, `rmi`, …

mod ls;
pub mod pull;
mod show;

use std::io::IsTerminal;

use serde_json::{Value, json};

use super::container::FILTER_LONG;
use super::each::each_told;
use super::inspect;
use super::prune::Kind;
use super::{FILTER, FORMAT, INSPECT_FORMAT};
use crate::app::{App, Failure};
use crate::client::query;
use crate::grammar::{Arity, Command, Matches};
use crate::options::filters;
use crate::output::human::{cause, ellipsis};
use crate::output::list::List;
use crate::output::print;

const LS: &str = "
    -a --all bool Also those that only other images are made of
    --digests bool Also their digests
    --no-trunc bool Do not cut ids short
    -q --quiet bool Only ids";
const PULL: &str = "
    -a --all-tags bool All tags of the repository
    --disable-content-trust bool Taken and ignored
    --platform string Platform of the image
    -q --quiet bool No progress";
const LOAD: &str = "
    -i --input string Archive to read, instead of standard input
    --platform string Only this platform
    -q --quiet bool No progress";
const IMPORT: &str = "
    -c --change list* Instruction for the image, as in a Dockerfile
    -m --message string Message of the image
    --platform string Platform of the image";
const RM: &str = "
    -f --force bool Remove it though containers were made of it
    --no-prune bool Keep images without a name that it was made of";
const HISTORY: &str = "
    -H --human bool Ages and sizes in words (default true)
    --no-trunc bool Do not cut ids and commands short
    -q --quiet bool Only ids";
const SAVE: &str = "
    -o --output string Where to write it, instead of standard output
    --platform string Only this platform";
const SEARCH: &str = "
    --limit int Most that are shown
    --no-trunc bool Do not cut descriptions short";
const PRUNE: &str = "
    -a --all bool All that no container uses, not only those without a name
    -f --force bool Do not ask";

/// `images`.
pub const LS_CMD: Command =
    Command::new("ls", "[OPTIONS] [REPOSITORY[:TAG]]", "List images", Arity::AtMost(1), &[FILTER, FORMAT, LS], |a, m| {
        Box::pin(ls::ls(a, m))
    })
    .alias(&["list"]);
/// `pull`.
pub const PULL_CMD: Command = Command::new(
    "pull",
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    "Download an image from a registry",
    Arity::Exactly(1),
    &[PULL],
    |a, m| Box::pin(pull::pull_command(a, m)),
);
/// `push`.
pub const PUSH: Command =
    Command::new("push", "[OPTIONS] NAME[:TAG]", "Upload an image to a registry", Arity::Exactly(1), &[PULL], |a, m| {
        Box::pin(pull::push(a, m))
    });
/// `load`.
pub const LOAD_CMD: Command =
    Command::new("load", "[OPTIONS]", "Load an image from a tar archive or STDIN", Arity::None, &[LOAD], |a, m| {
        Box::pin(load(a, m))
    })
    .shown(&["load -i web.tar", "load < web.tar"]);
/// `import`.
pub const IMPORT_CMD: Command = Command::new(
    "import",
    "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    "Import the contents from a tarball to create a filesystem image",
    Arity::Between(1, 2),
    &[IMPORT],
    |a, m| Box::pin(import(a, m)),
);
/// `tag`.
pub const TAG: Command = Command::new(
    "tag",
    "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    Arity::Exactly(2),
    &[],
    |a, m| Box::pin(tag(a, m)),
);
/// `rmi`.
pub const RM_CMD: Command =
    Command::new("rm", "[OPTIONS] IMAGE [IMAGE...]", "Remove one or more images", Arity::AtLeast(1), &[RM], |a, m| {
        Box::pin(rm(a, m))
    })
    .alias(&["remove"]);
/// `history`.
pub const HISTORY_CMD: Command = Command::new(
    "history",
    "[OPTIONS] IMAGE",
    "Show the history of an image",
    Arity::Exactly(1),
    &[FORMAT, HISTORY],
    |a, m| Box::pin(ls::history(a, m)),
);

/// `save`.
pub const SAVE_CMD: Command = Command::new(
    "save",
    "[OPTIONS] IMAGE [IMAGE...]",
    "Save one or more images to a tar archive (streamed to STDOUT by default)",
    Arity::AtLeast(1),
    &[SAVE],
    |a, m| Box::pin(save(a, m)),
)
.shown(&["save -o web.tar web:1 web:2", "save web | gzip > web.tar.gz"]);
/// `search`.
pub const SEARCH_CMD: Command = Command::new(
    "search",
    "[OPTIONS] TERM",
    "Search Docker Hub for images",
    Arity::Exactly(1),
    &[FILTER, FORMAT, SEARCH],
    |a, m| Box::pin(search(a, m)),
);

/// The group.
pub const GROUP: Command = Command::group(
    "image",
    "Manage images",
    &[
        LS_CMD,
        PULL_CMD,
        PUSH,
        LOAD_CMD,
        IMPORT_CMD,
        TAG,
        RM_CMD,
        HISTORY_CMD,
        SAVE_CMD,
        Command::new(
            "inspect",
            "[OPTIONS] IMAGE [IMAGE...]",
            "Display detailed information on one or more images",
            Arity::AtLeast(1),
            &[INSPECT_FORMAT],
            |a, m| Box::pin(inspect_images(a, m)),
        ),
        Command::new("prune", "[OPTIONS]", "Remove unused images", Arity::None, &[FILTER_LONG, PRUNE], |a, m| {
            Box::pin(prune(a, m))
        }),
    ],
);

async fn load(app: &App, m: &Matches) -> Result<u8, Failure> {
    let quiet = m.on("quiet") || !crate::output::on_terminal();
    let path = query("/images/load", &[("quiet", if quiet { "1" } else { "0" }), ("platform", m.text_or_empty("platform"))]);
    let client = app.client().await?;
    let stream = match m.text("input").filter(|i| *i != "-") {
        Some(file) => {
            let opened = tokio::fs::File::open(file).await.map_err(|e| Failure::new(format!("open {file}: {}", cause(&e))))?;
            client.send_from(&path, opened).await?
        }
        None if std::io::stdin().is_terminal() => {
            return Err(Failure::new("requested load from stdin, but stdin is empty"));
        }
        None => client.send_from(&path, tokio::io::stdin()).await?,
    };
    show::show(stream, false, false).await?;
    Ok(0)
}

async fn import(app: &App, m: &Matches) -> Result<u8, Failure> {
    let source = m.arg(0);
    let client = app.client().await?;
    let (repo, tag) = pull::split(m.arg(1));
    let remote = source.starts_with("http://") || source.starts_with("https://");
    let mut path = query(
        "/images/create",
        &[
            ("fromSrc", if remote { source } else { "-" }),
            ("repo", repo),
            ("tag", tag),
            ("message", m.text_or_empty("message")),
            ("platform", m.text_or_empty("platform")),
        ],
    );
    for change in m.list("change") {
        path += &format!("&changes={}", crate::client::escape(change));
    }
    let mut stream = if remote {
        client.open("POST", &path, &[]).await?
    } else if source == "-" {
        client.send_from(&path, tokio::io::stdin()).await?
    } else {
        let opened = tokio::fs::File::open(source).await.map_err(|e| Failure::new(format!("open {source}: {}", cause(&e))))?;
        client.send_from(&path, opened).await?
    };
    while let Some(message) = stream.json().await? {
        if let Some(text) = message["error"].as_str() {
            return Err(Failure::new(text));
        }
        print(&format!("{}\n", message["status"].as_str().unwrap_or_default()))?;
    }
    Ok(0)
}

async fn tag(app: &App, m: &Matches) -> Result<u8, Failure> {
    let (repo, tag) = pull::split(m.arg(1));
    let path = query(&format!("/images/{}/tag", pull::path(m.arg(0))), &[("repo", repo), ("tag", tag)]);
    app.client().await?.call("POST", &path, None).await?;
    Ok(0)
}

async fn rm(app: &App, m: &Matches) -> Result<u8, Failure> {
    let flag = |name: &str| if m.on(name) { "1" } else { "" };
    let (force, no_prune) = (flag("force"), flag("no-prune"));
    let path = |name: &str| query(&format!("/images/{}", pull::path(name)), &[("force", force), ("noprune", no_prune)]);
    each_told(app, m.args(), "DELETE", None, path, |_, done| removed(done)).await
}

/// `Untagged:` and `Deleted:` lines.
pub(super) fn removed(done: &Value) -> String {
    let one = |d: &Value| match (d["Untagged"].as_str(), d["Deleted"].as_str()) {
        (Some(name), _) if !name.is_empty() => format!("Untagged: {name}\n"),
        (_, Some(id)) => format!("Deleted: {id}\n"),
        _ => String::new(),
    };
    done.as_array().into_iter().flatten().map(one).collect()
}

async fn inspect_images(app: &App, m: &Matches) -> Result<u8, Failure> {
    let client = app.client().await?;
    let fetch = async |name: &str| Ok(client.text(&format!("/images/{}/json", pull::path(name))).await?);
    inspect::show(m.args(), m.text("format"), fetch).await
}

async fn prune(app: &App, m: &Matches) -> Result<u8, Failure> {
    let what = if m.on("all") { "all images without at least one container associated to them" } else { "all dangling images" };
    Kind::Images.command(app, m, what, &[format!("dangling={}", !m.on("all"))]).await
}

/// `save`: images as one archive, to a file or to standard output.
async fn save(app: &App, m: &Matches) -> Result<u8, Failure> {
    let file = m.text("output").filter(|o| !o.is_empty());
    if file.is_none() && crate::output::on_terminal() {
        return Err(Failure::new("cowardly refusing to save to a terminal. Use the -o flag or redirect"));
    }
    let names: Vec<(&str, &str)> = m.args().iter().map(|n| ("names", n.as_str())).collect();
    let path = query("/images/get", &[&names[..], &[("platform", m.text_or_empty("platform"))][..]].concat());
    let stream = app.client().await?.open("GET", &path, &[]).await?;
    super::container::copy::save(stream, file).await
}

/// `search`: the daemon's to serve, or to refuse.
async fn search(app: &App, m: &Matches) -> Result<u8, Failure> {
    let limit = m.text_or_empty("limit");
    let pairs = [("term", m.arg(0)), ("limit", limit), ("filters", &filters(m.list("filter"))?)];
    let found = app.client().await?.call("GET", &query("/images/search", &pairs), None).await?;
    let yes = |v: &Value| if *v == true { "[OK]" } else { "" };
    let row = |r: &Value| {
        let about = r["description"].as_str().unwrap_or_default().replace(['\r', '\n'], " ");
        let about = if m.on("no-trunc") { about } else { ellipsis(&about, 45) };
        json!({
            "Name": r["name"], "Description": about, "StarCount": r["star_count"].to_string(),
            "IsOfficial": yes(&r["is_official"]), "IsAutomated": yes(&r["is_automated"]),
        })
    };
    let list = List {
        table: "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}",
        quiet: "{{.Name}}",
        columns: &[("Name", "NAME"), ("Description", "DESCRIPTION"), ("StarCount", "STARS"), ("IsOfficial", "OFFICIAL")],
        rows: found.as_array().into_iter().flatten().map(row).collect(),
    };
    list.show(m.text_or_empty("format"), false)?;
    Ok(0)
}
