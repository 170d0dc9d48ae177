//! Log drivers. The shim writes each container's output to a file, whatever the driver, and the daemon sends what is to go elsewhere from
//! there ([`ship`]): the file is the buffer, its limits are the bound, and a position beside it says what was sent. So a daemon that
//! starts again goes on where the last one was, `docker logs` works for every driver, and no server that hangs ever stops a container.
//! A record may be sent twice after a crash or a broken connection; it is lost only when the file was rotated away before it was sent.

mod fluentd;
mod format;
mod gelf;
mod journald;
mod settings;
mod ship;
mod spool;
mod syslog;
mod tag;
mod tls;
mod wire;

use std::collections::BTreeMap;

use skep_types::container::ContainerInfo;
use skep_types::logdriver::{self, Fault};

pub(crate) use settings::Settings;
pub(crate) use ship::{Shipper, Shippers};

use crate::error::{Code, EngineError, Result, invalid};
use crate::host::HostFacts;

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

/// Labels and variables of a container that its log options name.
fn extra(info: &ContainerInfo) -> BTreeMap<String, String> {
    let keys = |option: &str| {
        let list = info.host.log_opts.get(option).map(String::as_str).unwrap_or_default();
        list.split(',').map(str::trim).filter(|k| !k.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let env: BTreeMap<&str, &str> = info.config.env.iter().filter_map(|e| e.split_once('=')).collect();
    let labels = keys("labels").into_iter().filter_map(|k| info.config.labels.get(&k).map(|v| (k, v.clone())));
    let mut out: BTreeMap<String, String> = labels.collect();
    out.extend(keys("env").into_iter().filter_map(|k| env.get(k.as_str()).map(|v| (k.clone(), (*v).to_owned()))));
    out
}

/// What is said of a container.
///
/// # Errors
/// 400 for a tag that cannot be filled in.
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
        extra: extra(info),
    };
    let template = info.host.log_opts.get("tag").map(String::as_str).filter(|t| !t.is_empty()).unwrap_or("{{.ID}}");
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
        let refused = check("gelf", &map(&[("gelf-address", "udp://a:1"), ("tag", "{{.Nope}}")])).expect_err("no such field");
        assert!(refused.message.starts_with("invalid log tag"), "{}", refused.message);
    }
}
