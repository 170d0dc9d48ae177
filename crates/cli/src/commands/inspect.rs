//! What all `inspect` commands do: ask for each name, show all that were found as one list of JSON or by a template, then tell
//! what was not found.

use serde_json::Value;

use crate::app::Failure;
use crate::output::indent::indent;
use crate::output::{list, print};

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
    print(&text(&found, format)?)?;
    Failure::all(failed)
}

/// The text for answers.
fn text(found: &[String], format: Option<&str>) -> Result<String, Failure> {
    let Some(format) = format.filter(|f| !f.is_empty()) else {
        return Ok(indent(&format!("[{}]", found.iter().map(|f| f.trim()).collect::<Vec<_>>().join(",")), "", "    ") + "\n");
    };
    if format == "json" {
        // Elements in one line, in the daemon's order of fields.
        return Ok(format!("[{}]\n", found.iter().map(|f| f.trim()).collect::<Vec<_>>().join(",")));
    }
    let mut out = String::new();
    for one in found {
        let value: Value =
            serde_json::from_str(one).map_err(|e| Failure::new(format!("the daemon's answer is no JSON: {e}")))?;
        out += &list::apply(format, &value)?;
        out.push('\n');
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn lists_and_templates() {
        let found = ["{\"b\":1,\"a\":[]}\n".to_owned()];
        assert_eq!(text(&found, None).unwrap(), "[\n    {\n        \"b\": 1,\n        \"a\": []\n    }\n]\n");
        assert_eq!(text(&[], None).unwrap(), "[]\n");
        assert_eq!(text(&found, Some("{{.b}}")).unwrap(), "1\n");
        assert_eq!(text(&found, Some("json")).unwrap(), "[{\"b\":1,\"a\":[]}]\n");
    }
}
