//! Tags: the fields that Docker documents for `--log-opt tag`, and labels and variables by `(.ExtraAttributes nil).KEY`.

use super::About;

/// Fills a tag in.
pub(super) fn expand(template: &str, about: &About) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (inside, left) = after.split_once("}}").ok_or("unclosed action")?;
        out.push_str(before);
        out.push_str(&value(inside.trim(), about)?);
        rest = left;
    }
    out.push_str(rest);
    Ok(out)
}

fn value(field: &str, about: &About) -> Result<String, String> {
    let image = about.image_id.trim_start_matches("sha256:");
    Ok(match field {
        ".ID" => about.short_id(),
        ".FullID" => &about.id,
        ".Name" => &about.name,
        ".ImageID" => image.get(..12).unwrap_or(image),
        ".ImageFullID" => &about.image_id,
        ".ImageName" => &about.image,
        ".Command" => &about.command,
        ".Hostname" => &about.hostname,
        ".DaemonName" => "docker",
        _ => {
            let key = field.strip_prefix('(').and_then(|f| f.trim_start().strip_prefix(".ExtraAttributes nil"));
            let key = key.and_then(|f| f.trim_start().strip_prefix(").")).filter(|k| !k.is_empty());
            let key = key.ok_or_else(|| {
                format!(
                    "{{{{{field}}}}} is none of .ID, .FullID, .Name, .ImageID, .ImageFullID, .ImageName, .Command, .Hostname, \
                     .DaemonName and (.ExtraAttributes nil).KEY"
                )
            })?;
            return Ok(about.extra.get(key).cloned().unwrap_or_default());
        }
    }
    .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_filled_in_and_others_refused() {
        let about = About {
            id: "0123456789abcdef".into(),
            name: "web".into(),
            image_id: "sha256:fedcba9876543210".into(),
            image: "nginx:1".into(),
            extra: [("ZONE".to_owned(), "a".to_owned())].into(),
            ..About::default()
        };
        let of = |t: &str| expand(t, &about);
        assert_eq!(of("{{.ImageName}}/{{ .Name }}/{{.ID}}").as_deref(), Ok("nginx:1/web/0123456789ab"));
        assert_eq!(
            of("{{.ImageID}} {{(.ExtraAttributes nil).ZONE}}{{ ( .ExtraAttributes nil ).X }}!").as_deref(),
            Ok("fedcba987654 a!")
        );
        assert_eq!(of("plain }} text").as_deref(), Ok("plain }} text"));
        for bad in ["{{.Nope}}", "{{.ID", "{{}}", "{{printf .ID}}"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
