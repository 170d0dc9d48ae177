//! Log drivers. The shim writes each container's output to a file, whatever the driver, and the daemon sends what is to go elsewhere from
//! there ([`ship`]): the file is the buffer, its limits are the bound, and a position beside it says what was sent. So a daemon that
//! starts again goes on where the last one was, `docker logs` works for every driver, and no server that hangs ever stops a container.
//! A record may be sent twice after a crash or a broken connection; it is lost only when the file was rotated away before it was sent.

mod aws;
mod fluentd;
mod format;
mod gelf;
mod journald;
mod settings;
mod ship;
mod splunk;
mod spool;
mod syslog;
mod tag;
pub(crate) mod tls;
mod wire;

#[cfg(test)]
mod collectors;

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};
use skep_types::container::ContainerInfo;
use skep_types::logdriver::{self, Fault};

pub(crate) use settings::Settings;
pub(crate) use ship::{Shipper, Shippers};

use crate::error::{Code, EngineError, Result, invalid};
use crate::host::HostFacts;

/// Bytes that a compiled expression may take; what a user writes by hand takes a thousandth of it.
const MOST_EXPRESSION: usize = 1 << 20;

/// What is said of a container with each record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct About {
    /// 64 hexadecimal digits.
    pub(crate) id: String,
    /// Without the leading slash.
    pub(crate) name: String,
    /// `sha256:…`.
    pub(crate) image_id: String,
    /// As the user gave it.
    pub(crate) image: String,
    /// Program and arguments.
    pub(crate) command: String,
    /// When it was created, RFC 3339.
    pub(crate) created: String,
    /// Name of this host.
    pub(crate) hostname: String,
    /// Its tag, filled in.
    pub(crate) tag: String,
    /// Labels and variables that were asked for.
    pub(crate) extra: BTreeMap<String, String>,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// From standard error.
    pub(crate) stderr: bool,
    /// RFC 3339, nanoseconds, UTC.
    pub(crate) time: String,
    /// Without its end.
    pub(crate) text: String,
    /// The line goes on in the next record.
    pub(crate) partial: bool,
}

impl About {
    fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }
}

/// What an option names by a regular expression, in the syntax of RE2, which Go's and ours are.
fn expression(options: &BTreeMap<String, String>, key: &str) -> Result<Option<Regex>> {
    let Some(text) = options.get(key).filter(|t| !t.is_empty()) else { return Ok(None) };
    let bad = |e: regex::Error| {
        // The lines before the last draw the expression.
        let why = e.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        invalid(format!("invalid value for log option {key}: {text:?} is no regular expression: {why}"))
    };
    RegexBuilder::new(text).size_limit(MOST_EXPRESSION).build().map(Some).map_err(bad)
}

/// Labels and variables of a container that its log options name, by list or by expression.
fn extra(info: &ContainerInfo) -> Result<BTreeMap<String, String>> {
    let options = &info.host.log_opts;
    let named = |list: &str, expression: &Option<Regex>, key: &str| {
        let list = options.get(list).map(String::as_str).unwrap_or_default();
        list.split(',').map(str::trim).any(|k| k == key) || expression.as_ref().is_some_and(|e| e.is_match(key))
    };
    let (label, variable) = (expression(options, "labels-regex")?, expression(options, "env-regex")?);
    let labels = info.config.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).filter(|(k, _)| named("labels", &label, k));
    let env = info.config.env.iter().filter_map(|e| e.split_once('=')).filter(|(k, _)| named("env", &variable, k));
    Ok(labels.chain(env).map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
}

/// What is said of a container.
///
/// # Errors
/// 400 for a tag that cannot be filled in, or an expression that is none.
pub(crate) fn about(info: &ContainerInfo, facts: &HostFacts) -> Result<About> {
    let command: Vec<&str> = std::iter::once(info.path.as_str()).chain(info.args.iter().map(String::as_str)).collect();
    let mut about = About {
        id: info.id.clone(),
        name: info.name.clone(),
        image_id: info.image_id.clone(),
        image: info.config.image.clone(),
        command: command.join(" "),
        created: info.created.rfc3339(),
        hostname: facts.hostname.clone(),
        tag: String::new(),
        extra: extra(info)?,
    };
    let template = info.host.log_opts.get("tag").map(String::as_str).filter(|t| !t.is_empty());
    // The name of a stream in CloudWatch, unless it has another.
    let default = if info.host.log_driver == "awslogs" { "{{.FullID}}" } else { "{{.ID}}" };
    let template = template.unwrap_or(default);
    about.tag = tag::expand(template, &about).map_err(|why| invalid(format!("invalid log tag {template:?}: {why}")))?;
    Ok(about)
}

/// What the file has in each record besides the line: JSON, or nothing.
pub(crate) fn attributes(info: &ContainerInfo, about: &About) -> String {
    let mut all = about.extra.clone();
    if info.host.log_opts.get("tag").is_some_and(|t| !t.is_empty()) {
        all.insert("tag".to_owned(), about.tag.clone());
    }
    // A map of texts always serialises.
    if all.is_empty() { String::new() } else { serde_json::to_string(&all).unwrap_or_default() }
}

/// Whether a container can log like this; the daemon's defaults are filled in already.
///
/// # Errors
/// 400 for what no driver takes, 501 for what is not built.
pub(crate) fn check(driver: &str, options: &BTreeMap<String, String>) -> Result<Settings> {
    logdriver::check(driver, options).map_err(|fault| match fault {
        Fault::Unknown(name) => invalid(format!("logger: no log driver named '{name}' is registered")),
        Fault::Unbuilt(what) => EngineError::new(Code::Unimplemented, format!("{what} is not built yet in Skep")),
        Fault::Invalid(text) => invalid(text),
    })?;
    let template = options.get("tag").map(String::as_str).unwrap_or_default();
    tag::expand(template, &About::default()).map_err(|why| invalid(format!("invalid log tag {template:?}: {why}")))?;
    for key in ["labels-regex", "env-regex"] {
        expression(options, key)?;
    }
    Settings::read(driver, options).map_err(invalid)
}

/// The daemon's defaults for what a container does not say, as Docker does: its options belong to its driver.
pub(crate) fn with_defaults(
    driver: &mut String,
    options: &mut BTreeMap<String, String>,
    default_driver: &str,
    default_options: &BTreeMap<String, String>,
) {
    let default = if default_driver.is_empty() { logdriver::DEFAULT } else { default_driver };
    if driver.is_empty() {
        default.clone_into(driver);
    }
    if driver == default {
        for (key, value) in default_options {
            options.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn options_of_the_daemon_belong_to_its_driver() {
        let defaults = map(&[("syslog-address", "udp://a:1"), ("tag", "x")]);
        let merged = |driver: &str, options: &[(&str, &str)]| {
            let (mut driver, mut options) = (driver.to_owned(), map(options));
            with_defaults(&mut driver, &mut options, "syslog", &defaults);
            (driver, options)
        };
        let own = map(&[("syslog-address", "udp://a:1"), ("tag", "y")]);
        assert_eq!(merged("", &[("tag", "y")]), ("syslog".to_owned(), own));
        assert_eq!(merged("json-file", &[]), ("json-file".to_owned(), map(&[])));
    }

    #[test]
    fn records_say_what_was_asked_for() {
        let mut info = ContainerInfo { id: "a".repeat(64), name: "web".into(), ..ContainerInfo::default() };
        info.config.labels = map(&[("tier", "front"), ("other", "x")]);
        info.config.env = vec!["ZONE=a".into(), "PASSWORD=b".into()];
        info.host.log_opts = map(&[("labels", "tier, none"), ("env", "ZONE"), ("tag", "{{.Name}}/{{.ID}}")]);
        let about = about(&info, &HostFacts::default()).expect("whole");
        assert_eq!(about.tag, "web/aaaaaaaaaaaa");
        assert_eq!(attributes(&info, &about), r#"{"ZONE":"a","tag":"web/aaaaaaaaaaaa","tier":"front"}"#);
        info.host.log_opts = map(&[("labels-regex", "^t"), ("env-regex", "^(ZONE|REGION)$"), ("env", "PASSWORD")]);
        let by_expression = super::about(&info, &HostFacts::default()).expect("whole");
        assert_eq!(by_expression.extra, map(&[("PASSWORD", "b"), ("ZONE", "a"), ("tier", "front")]));
        let refused = check("json-file", &map(&[("env-regex", "(")])).expect_err("no expression");
        let text = "invalid value for log option env-regex: \"(\" is no regular expression: unclosed group";
        assert_eq!(refused.message, text);
        let refused = check("gelf", &map(&[("gelf-address", "udp://a:1"), ("tag", "{{.Nope}}")])).expect_err("no such field");
        assert!(refused.message.starts_with("invalid log tag"), "{}", refused.message);
    }
}
