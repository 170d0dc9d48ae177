//! `images` and `history`.

use serde_json::{Value, json};

use super::pull::path;
use crate::app::{App, Failure};
use crate::client::query;
use crate::grammar::Matches;
use crate::options::filters;
use crate::output::human::{ago, ellipsis, longer_size, short_id, size};
use crate::output::list::{self, List};
use crate::output::time::{plain, rfc3339_seconds};

const TABLE: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const TABLE_DIGESTS: &str = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const RAW: &str = "repository: {{.Repository}}\ntag: {{.Tag}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\n\
                   virtual_size: {{.Size}}\n";
const COLUMNS: &[list::Column] = &[
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("VirtualSize", "VIRTUAL SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
];

/// A row for each name of each image.
fn rows(images: &[Value], whole: bool, digests: bool) -> Vec<Value> {
    let mut out = Vec::new();
    for image in images {
        let id = image["Id"].as_str().unwrap_or_default();
        let created = i128::from(image["Created"].as_i64().unwrap_or(0)) * 1_000_000_000;
        let bytes = size(image["Size"].as_i64().unwrap_or(0));
        let list = |key: &str| -> Vec<String> {
            let all = image[key].as_array().into_iter().flatten().filter_map(Value::as_str);
            all.filter(|t| !t.starts_with("<none>")).map(str::to_owned).collect()
        };
        let digest_of = |repository: &str| {
            let found = list("RepoDigests")
                .into_iter()
                .find_map(|d| d.split_once('@').filter(|(r, _)| *r == repository).map(|(_, d)| d.to_owned()));
            found.unwrap_or_else(|| "<none>".to_owned())
        };
        let mut named: Vec<(String, String, String)> = list("RepoTags")
            .iter()
            .filter_map(|t| t.rsplit_once(':').map(|(r, t)| (r.to_owned(), t.to_owned(), digest_of(r))))
            .collect();
        for pinned in list("RepoDigests") {
            if let Some((repository, digest)) = pinned.split_once('@')
                && (digests || named.is_empty())
                && !named.iter().any(|(r, ..)| r == repository)
            {
                named.push((repository.to_owned(), "<none>".to_owned(), digest.to_owned()));
            }
        }
        if named.is_empty() {
            named.push(("<none>".to_owned(), "<none>".to_owned(), "<none>".to_owned()));
        }
        for (repository, tag, digest) in named {
            let containers =
                image["Containers"].as_i64().filter(|n| *n >= 0).map_or_else(|| "N/A".to_owned(), |n| n.to_string());
            out.push(json!({
                "ID": if whole { id } else { short_id(id) }, "Repository": repository, "Tag": tag, "Digest": digest,
                "CreatedSince": if created > 0 { ago(created) } else { "N/A".to_owned() }, "CreatedAt": plain(created), "Size": bytes,
                "Containers": containers, "VirtualSize": longer_size(image["Size"].as_i64().unwrap_or(0)), "SharedSize": "N/A", "UniqueSize": "N/A",
            }));
        }
    }
    out
}

pub(super) async fn ls(app: &App, m: &Matches) -> Result<u8, Failure> {
    let quiet = m.on("quiet");
    let mut given = m.list("filter").to_vec();
    if !m.arg(0).is_empty() {
        given.push(format!("reference={}", m.arg(0)));
    }
    let all = if m.on("all") { "1" } else { "" };
    let found =
        app.client().await?.call("GET", &query("/images/json", &[("all", all), ("filters", &filters(&given)?)]), None).await?;
    let rows = rows(found.as_array().map(Vec::as_slice).unwrap_or_default(), m.on("no-trunc"), m.on("digests"));
    let table = if m.on("digests") { TABLE_DIGESTS } else { TABLE };
    let format = list::raw(app.format(m.text("format"), "imagesFormat", quiet), quiet, "image_id: {{.ID}}", RAW);
    List { table, quiet: "{{.ID}}", columns: COLUMNS, rows }.show(format, quiet)?;
    Ok(0)
}

pub(super) async fn history(app: &App, m: &Matches) -> Result<u8, Failure> {
    let found = app.client().await?.call("GET", &format!("/images/{}/history", path(m.arg(0))), None).await?;
    let (whole, human) = (m.on("no-trunc"), m.switch("human").unwrap_or(true));
    let row = |h: &Value| {
        let id = h["Id"].as_str().unwrap_or_default();
        let created = i128::from(h["Created"].as_i64().unwrap_or(0)) * 1_000_000_000;
        let by = h["CreatedBy"].as_str().unwrap_or_default().replace('\t', " ");
        let bytes = h["Size"].as_i64().unwrap_or(0);
        json!({
            "ID": if whole { id } else { short_id(id) }, "CreatedSince": match human {
                _ if created == 0 => "N/A".to_owned(),
                true => ago(created),
                false => rfc3339_seconds(created),
            },
            "CreatedAt": rfc3339_seconds(created), "CreatedBy": if whole { by } else { ellipsis(&by, 45) },
            "Size": if human { size(bytes) } else { bytes.to_string() }, "Comment": h["Comment"],
        })
    };
    let list = List {
        table: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
        quiet: "{{.ID}}",
        columns: &[
            ("ID", "IMAGE"),
            ("CreatedSince", if human { "CREATED" } else { "CREATED AT" }),
            ("CreatedBy", "CREATED BY"),
            ("Size", "SIZE"),
            ("Comment", "COMMENT"),
        ],
        rows: found.as_array().into_iter().flatten().map(row).collect(),
    };
    list.show(m.text_or_empty("format"), m.on("quiet"))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_docker_s() {
        let images = [
            json!({"Id": "sha256:0123456789abcdef", "RepoTags": ["nginx:1", "web:2"], "RepoDigests": ["nginx@sha256:ff"], "Created": 0, "Size": 77_000_000}),
        ];
        let list = List { table: TABLE, quiet: "{{.ID}}", columns: COLUMNS, rows: rows(&images, false, false) };
        let want = "REPOSITORY   TAG       IMAGE ID       CREATED   SIZE\n\
                    nginx        1         0123456789ab   N/A       77MB\n\
                    web          2         0123456789ab   N/A       77MB\n";
        assert_eq!(list.render("", false).unwrap(), want);
        assert_eq!(list.render("{{.Digest}}", false).unwrap(), "sha256:ff\n<none>\n");
    }
}
