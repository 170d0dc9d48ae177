//! What all `inspect` commands do: ask for each name, show all that were found as one list of JSON or by a template, then tell
//! what was not found.

use serde_json::Value;

use super::INSPECT_FORMAT;
use crate::app::{App, Failure};
use crate::client::{ClientError, escape, query};
use crate::grammar::{Arity, Command, Matches};
use crate::output::indent::indent;
use crate::output::typed::Typed;
use crate::output::{list, print};

const FLAGS: &str = "
    -s --size bool Also the sizes of containers
    --type string Only objects of this kind: container, image, volume, network, node, service, task, plugin, secret, config";
/// Kinds of objects, in the order in which they are tried, with their paths.
const KINDS: &[(&str, &str, &str)] = &[
    ("container", "/containers/", "/json"),
    ("image", "/images/", "/json"),
    ("volume", "/volumes/", ""),
    ("network", "/networks/", ""),
    ("node", "/nodes/", ""),
    ("service", "/services/", ""),
    ("task", "/tasks/", ""),
    ("plugin", "/plugins/", "/json"),
    ("secret", "/secrets/", ""),
    ("config", "/configs/", ""),
];

/// `inspect`.
pub const INSPECT: Command = Command::new(
    "inspect",
    "[OPTIONS] NAME|ID [NAME|ID...]",
    "Return low-level information on Docker objects",
    Arity::AtLeast(1),
    &[INSPECT_FORMAT, FLAGS],
    |a, m| Box::pin(any(a, m)),
);

/// Objects of any kind: the first that there is of that name.
async fn any(app: &App, m: &Matches) -> Result<u8, Failure> {
    let client = app.client().await?;
    let wanted = m.text("type");
    if let Some(kind) = wanted
        && !KINDS.iter().any(|(k, ..)| *k == kind)
    {
        let mut known: Vec<String> = KINDS.iter().map(|(k, ..)| format!("{k:?}")).collect();
        known.sort();
        return Err(Failure::new(format!("unknown type: {kind:?}: must be one of {}", known.join(", "))));
    }
    let size = if m.on("size") { "1" } else { "" };
    let fetch = async |name: &str| {
        for (kind, before, after) in KINDS.iter().filter(|(k, ..)| wanted.is_none_or(|w| w == *k)) {
            let name = if *kind == "image" { super::image::pull::path(name) } else { escape(name) };
            let sized = if *kind == "container" { size } else { "" };
            match client.text(&query(&format!("{before}{name}{after}"), &[("size", sized)])).await {
                Ok(text) => return Ok(text),
                // A host in no swarm has no such objects; nor has one whose daemon does not know the kind.
                Err(ClientError::Refused { status: 404 | 406 | 501 | 503, .. }) => {}
                Err(ClientError::Refused { status: 400 | 500, .. }) if wanted.is_none() && *kind == "plugin" => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(Failure::new(match wanted {
            Some(kind) => format!("Error: No such {kind}: {name}"),
            None => format!("Error: No such object: {name}"),
        }))
    };
    show(m.args(), m.text("format"), fetch).await
}

/// An object that there is not, in the client's own words.
pub(crate) fn missing(kind: &str, name: &str, e: ClientError) -> Failure {
    match e {
        ClientError::Refused { status: 404, .. } => Failure::new(format!("Error: no such {kind}: {name}")),
        other => other.into(),
    }
}

/// Asks for each name with `fetch` (an answer's JSON as it came) and shows what came.
///
/// # Errors
/// What could not be fetched or shown, after everything else was shown.
pub async fn show(
    names: &[String],
    format: Option<&str>,
    fetch: impl AsyncFn(&str) -> Result<String, Failure>,
) -> Result<u8, Failure> {
    let mut found = Vec::new();
    let mut failed = Vec::new();
    for name in names {
        match fetch(name).await {
            Ok(text) => found.push(text),
            Err(failure) => failed.push(failure),
        }
    }
    let (shown, refused) = text(&found, format)?;
    print(&shown)?;
    // What the template cannot be told of comes after what it could.
    failed.extend(refused);
    Failure::all(failed)
}

/// The text for answers, up to the first that a template cannot show.
fn text(found: &[String], format: Option<&str>) -> Result<(String, Option<Failure>), Failure> {
    let whole = |text: String| Ok((text, None));
    let Some(format) = format.filter(|f| !f.is_empty()) else {
        return whole(
            indent(&format!("[{}]", found.iter().map(|f| f.trim()).collect::<Vec<_>>().join(",")), "", "    ") + "\n",
        );
    };
    if format == "json" {
        // Elements in one line, in the daemon's order of fields.
        return whole(format!("[{}]\n", found.iter().map(|f| f.trim()).collect::<Vec<_>>().join(",")));
    }
    let template = list::parse(format)?;
    let (mut out, mut refused) = (String::new(), None);
    for one in found {
        let value: Value =
            serde_json::from_str(one).map_err(|e| Failure::new(format!("the daemon's answer is no JSON: {e}")))?;
        match list::apply_typed(&template, &value, &Typed::of(one, &value)) {
            Ok(text) => out += &format!("{text}\n"),
            Err(failure) => {
                refused = Some(failure);
                break;
            }
        }
    }
    // The stock client ends the line that it has not begun.
    Ok((if out.is_empty() { "\n".to_owned() } else { out }, refused))
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn lists_and_templates() {
        let found = ["{\"b\":1,\"a\":[]}\n".to_owned()];
        let text = |found: &[String], format| text(found, format).map(|(shown, refused)| (shown, refused.map(|f| f.message)));
        let whole = |text: &str| Ok((text.to_owned(), None));
        assert_eq!(text(&found, None), whole("[\n    {\n        \"b\": 1,\n        \"a\": []\n    }\n]\n"));
        assert_eq!(text(&[], None), whole("[]\n"));
        assert_eq!(text(&found, Some("{{.b}}")), whole("1\n"));
        assert_eq!(text(&found, Some("json")), whole("[{\"b\":1,\"a\":[]}]\n"));
        assert_eq!(text(&[], Some("{{.b}}")), whole("\n"));
        // What came before stays, and so does the line's end if nothing came.
        let two = [found[0].clone(), "{\"c\":1}".to_owned()];
        let (shown, refused) = text(&two, Some("{{.b}}")).unwrap();
        assert!(shown == "1\n" && refused.is_some_and(|why| why.starts_with("template parsing error: template: :1:2:")));
        assert!(text(&two, Some("{{.b")).is_err());
    }
}
