//! Lists as `--format` and `-q` ask for them: a table, a template for each row, or JSON for each row.

use serde_json::{Map, Value};

use super::typed::Typed;
use super::{print, table};
use crate::app::Failure;
use crate::template::{self, Template, TemplateError};

/// One column: the field that templates call it by, and its heading.
pub type Column = (&'static str, &'static str);

/// Rows to show; each is an object with a text (or a list) for every field.
#[derive(Debug)]
pub struct List<'a> {
    /// The table's template when nothing else is asked for.
    pub table: &'a str,
    /// What is printed for each row with `-q`.
    pub quiet: &'a str,
    /// Heading of each field.
    pub columns: &'a [Column],
    /// The rows.
    pub rows: Vec<Value>,
}

/// What `--format` may be.
#[derive(Debug)]
enum Style {
    Table(Template),
    Lines(Template),
    Json,
}

/// Backslashed letters in a format: a shell passes `\t` and `\n` on as two characters.
#[must_use]
pub fn unescape(format: &str) -> String {
    format.replace("\\t", "\t").replace("\\n", "\n")
}

/// Whether a format is a table.
#[must_use]
pub fn is_table(format: &str) -> bool {
    let format = format.trim();
    format.is_empty() || format == "table" || format.starts_with("table ") || format.starts_with("table\t")
}

/// A format with `raw` made the template that it stands for: a line for each field, an empty one after each row.
#[must_use]
pub fn raw<'a>(format: &'a str, quiet: bool, of_id: &'a str, all: &'a str) -> &'a str {
    match format.trim() {
        "raw" if quiet => of_id,
        "raw" => all,
        _ => format,
    }
}

impl List<'_> {
    fn style(&self, format: &str, quiet: bool) -> Result<Style, Failure> {
        // Spaces only: a line break at the end is the user's.
        let format = format.trim_matches(' ');
        Ok(match format {
            "" | "table" if quiet => Style::Lines(parse(self.quiet)?),
            "" | "table" => Style::Table(parse(self.table)?),
            "json" => Style::Json,
            _ => match format.strip_prefix("table").filter(|_| is_table(format)) {
                Some(own) => Style::Table(parse(own.trim_start())?),
                None => Style::Lines(parse(format)?),
            },
        })
    }

    /// The text of the list.
    ///
    /// # Errors
    /// When the template is wrong, or names a field that there is not.
    pub fn render(&self, format: &str, quiet: bool) -> Result<String, Failure> {
        let run = |t: &Template, row: &Value| t.run(row, &methods(row)).map_err(told);
        let mut out = String::new();
        match self.style(format, quiet)? {
            Style::Json => {
                for row in &self.rows {
                    out += &format!("{}\n", go_json(row));
                }
                return Ok(out);
            }
            Style::Lines(template) => {
                for row in &self.rows {
                    out += &run(&template, row)?;
                    out.push('\n');
                }
                return Ok(out);
            }
            Style::Table(template) => {
                let heads: Map<String, Value> = self.columns.iter().map(|(f, h)| ((*f).to_owned(), (*h).into())).collect();
                out += &heading(&template, &Value::Object(heads))?;
                out.push('\n');
                for row in &self.rows {
                    out += &run(&template, row)?;
                    out.push('\n');
                }
            }
        }
        Ok(table::columns(&out))
    }

    /// Prints it.
    ///
    /// # Errors
    /// As [`List::render`].
    pub fn show(&self, format: &str, quiet: bool) -> Result<(), Failure> {
        print(&self.render(format, quiet)?)
    }
}

/// The headings: the template run on them. Functions that need something else than a heading (`json`, `Label`) leave it as it is.
fn heading(template: &Template, heads: &Value) -> Result<String, Failure> {
    let label = |name: &str, args: &[Value]| match (name, args.first()) {
        ("Label", Some(Value::String(key))) => {
            Some(Value::String(key.rsplit('.').next().unwrap_or(key).replace(['-', '_'], " ")))
        }
        _ => None,
    };
    template.run_heading(heads, &label).map_err(told)
}

/// What templates can call on a row: `.Label "key"`.
fn methods(row: &Value) -> impl Fn(&str, &[Value]) -> Option<Value> + '_ {
    move |name, args| match (name, args) {
        ("Label", [Value::String(key)]) => {
            let labels = row["Labels"].as_str().unwrap_or_default();
            let found = labels.split(',').find_map(|l| l.split_once('=').filter(|(k, _)| k == key).map(|(_, v)| v.to_owned()));
            Some(Value::String(found.unwrap_or_default()))
        }
        _ => None,
    }
}

/// JSON in one line as Go's encoder writes it: what a web page could take for markup is escaped.
#[must_use]
pub fn go_json(value: &Value) -> String {
    // These characters stand in texts only, nowhere in JSON's own signs.
    let text = value.to_string();
    text.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

/// Labels as a row shows them: `a=1,b=2`, sorted.
#[must_use]
pub fn labels(labels: &Value) -> String {
    let one = |(k, v): (&String, &Value)| format!("{k}={}", v.as_str().unwrap_or_default());
    let mut all: Vec<String> = labels.as_object().into_iter().flatten().map(one).collect();
    // As whole texts: `a.b=1` comes before `a=1`.
    all.sort_unstable();
    all.join(",")
}

/// A value shown by a template, for `inspect --format`.
///
/// # Errors
/// When the template is wrong.
pub fn apply(format: &str, value: &Value) -> Result<String, Failure> {
    // What `info`, `version` and the like end with; of objects by their names it is 1.
    let template = parse(format).map_err(|e| Failure::with(64, e.message))?;
    template.run(value, &template::no_methods).map_err(told)
}

/// The same by a template that was read, for an object whose types are known.
///
/// # Errors
/// When the object has not what the template names.
pub fn apply_typed(template: &Template, value: &Value, types: &Typed) -> Result<String, Failure> {
    template.run_typed(value, types).map_err(told)
}

/// Reads a template.
///
/// # Errors
/// In the stock client's words.
pub fn parse(format: &str) -> Result<Template, Failure> {
    Template::parse(&unescape(if format == "json" { "{{json .}}" } else { format })).map_err(told)
}

fn told(e: TemplateError) -> Failure {
    Failure::new(format!("template parsing error: {e}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn list() -> List<'static> {
        List {
            table: "{{.ID}}\t{{.Name}}",
            quiet: "{{.ID}}",
            columns: &[("ID", "ID"), ("Name", "NAME"), ("Labels", "LABELS")],
            rows: vec![json!({"ID": "abc", "Name": "web", "Labels": "com.x.role=db,b=2"})],
        }
    }

    #[test]
    fn all_forms() {
        let show = |f: &str, q: bool| list().render(f, q).unwrap();
        assert_eq!(show("", false), "ID        NAME\nabc       web\n");
        assert_eq!(show("", true), "abc\n");
        assert_eq!(show("table {{.Name}}", false), "NAME\nweb\n");
        assert_eq!(show("{{.Name}}\\t{{upper .ID}}", false), "web\tABC\n");
        assert_eq!(show("json", false), "{\"ID\":\"abc\",\"Labels\":\"com.x.role=db,b=2\",\"Name\":\"web\"}\n");
        assert_eq!(show("{{.Label \"b\"}}", false), "2\n");
        assert_eq!(show("table {{.Name}}\\t{{.Label \"com.x.role\"}}", false), "NAME      role\nweb       db\n");
        let wrong = list().render("{{.Nme}}", false).unwrap_err();
        assert!(wrong.message.contains("can't evaluate field Nme"), "{}", wrong.message);
        assert!(list().render("{{.Name", false).unwrap_err().message.starts_with("template parsing error: template: :1:"));
    }
}
