//! The mounts of a service: its `volumes`, and `tmpfs` in its short form.

use std::collections::BTreeSet;

use serde_json::{Value as JsonValue, json};

use super::{Body, Maker, flag, pairs, text};
use crate::node::{Node, Value};
use crate::place::{Warning, WarningKind};
use crate::values;

impl Maker<'_> {
    pub(super) fn mounts(&mut self, node: &Node, path: &str) -> Vec<JsonValue> {
        let mut made: Vec<JsonValue> = Vec::new();
        let mut targets = BTreeSet::new();
        for (n, mount) in node.get("volumes").map(Node::items).unwrap_or_default().iter().enumerate() {
            let path = format!("{path}.volumes.{n}");
            let target = text(mount, "target").unwrap_or_default();
            if !targets.insert(target.to_owned()) {
                self.report.fault(&mount.at, format!("{path}: duplicate mount point: {target}"));
            }
            made.extend(self.mount(mount, target, &path));
        }
        for (n, item) in node.get("tmpfs").map(Node::items).unwrap_or_default().iter().enumerate() {
            let path = format!("{path}.tmpfs.{n}");
            let (target, options) = item.str().and_then(|t| t.split_once(':')).unwrap_or((item.str().unwrap_or_default(), ""));
            if !target.starts_with('/') {
                self.report.fault(&item.at, format!("{path}: invalid mount target, must be an absolute path: {target}"));
            }
            if !targets.insert(target.to_owned()) {
                self.report.fault(&item.at, format!("{path}: duplicate mount point: {target}"));
            }
            made.push(self.tmpfs(item, target, options, &path));
        }
        made.sort_by(|a, b| a["Target"].as_str().cmp(&b["Target"].as_str()));
        made
    }

    fn tmpfs(&mut self, item: &Node, target: &str, options: &str, path: &str) -> JsonValue {
        let mut settings = Body::default();
        for option in options.split(',').filter(|o| !o.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            let number = match key {
                "size" => values::bytes(value),
                "mode" => i64::from_str_radix(value, 8).ok(),
                _ => {
                    self.report.warn(Warning {
                        place: item.at.clone(),
                        kind: WarningKind::Note,
                        key: "tmpfs".to_owned(),
                        path: path.to_owned(),
                        text: format!("the option {option:?} has no effect on a tmpfs of a service"),
                    });
                    continue;
                }
            };
            match number {
                Some(number) => settings.put(if key == "size" { "SizeBytes" } else { "Mode" }, number),
                None => {
                    self.report.fault(&item.at, format!("{path}: invalid {key}: {value:?}"));
                    continue;
                }
            };
        }
        let mut body = Body::default();
        body.put("Type", "tmpfs").put("Target", target).filled("TmpfsOptions", settings.done());
        body.done()
    }

    fn mount(&mut self, mount: &Node, target: &str, path: &str) -> Option<JsonValue> {
        let kind = text(mount, "type").unwrap_or("volume");
        let source = text(mount, "source").unwrap_or_default();
        let mut body = Body::default();
        body.put("Type", kind).put("Target", target);
        body.maybe("ReadOnly", flag(mount, "read_only")).maybe("Consistency", text(mount, "consistency"));
        match kind {
            "bind" => {
                body.put("Source", source);
                body.filled("BindOptions", bind_options(mount));
            }
            "tmpfs" => {
                body.filled("TmpfsOptions", self.tmpfs_options(mount, path));
            }
            // A volume of a cluster driver is named as it is, or by its group.
            "cluster" => {
                body.put("Source", source).put("ClusterOptions", json!({}));
            }
            _ => self.named_volume(mount, source, path, &mut body)?,
        }
        Some(body.done())
    }

    fn tmpfs_options(&mut self, mount: &Node, path: &str) -> JsonValue {
        let mut options = Body::default();
        if let Some(given) = mount.get("tmpfs") {
            let path = format!("{path}.tmpfs");
            options.maybe("SizeBytes", self.bytes(given, "size", &path)).maybe("Mode", self.mode(given, &path));
        }
        options.done()
    }

    fn named_volume(&mut self, mount: &Node, source: &str, path: &str, body: &mut Body) -> Option<()> {
        let none = Node::new(&mount.at, Value::Null);
        let own = mount.get("volume").unwrap_or(&none);
        let mut options = Body::default();
        options.maybe("NoCopy", flag(own, "nocopy")).maybe("Subpath", text(own, "subpath"));
        if source.is_empty() {
            // Anonymous: it lives as long as its container.
            let labels = pairs(own, "labels");
            options.filled("Labels", labels);
            body.filled("VolumeOptions", options.done());
            return Some(());
        }
        let Some(entry) = self.project.root.get("volumes").and_then(|v| v.map()?.get(source)) else {
            let at = mount.get("source").map_or(&mount.at, |n| &n.at);
            self.report.fault(at, format!("{path}: undefined volume {source:?}"));
            return None;
        };
        let volume = &entry.node;
        let external = flag(volume, "external") == Some(true);
        let name = text(volume, "name").map(str::to_owned);
        body.put("Source", name.unwrap_or_else(|| if external { source.to_owned() } else { self.scoped(source) }));
        if !external {
            let mut labels = self.labels(volume);
            labels.extend(pairs(own, "labels"));
            options.put("Labels", labels);
            let mut driver = Body::default();
            driver.maybe("Name", text(volume, "driver")).filled("Options", pairs(volume, "driver_opts"));
            options.filled("DriverConfig", driver.done());
        }
        body.filled("VolumeOptions", options.done());
        Some(())
    }
}

fn bind_options(mount: &Node) -> JsonValue {
    let mut options = Body::default();
    if let Some(given) = mount.get("bind") {
        options.maybe("Propagation", text(given, "propagation").filter(|p| !p.is_empty()));
        match text(given, "recursive") {
            Some("disabled") => options.put("NonRecursive", true),
            Some("writable") => options.put("ReadOnlyNonRecursive", true),
            Some("readonly") => options.put("ReadOnlyForceRecursive", true),
            _ => &mut options,
        };
    }
    options.done()
}
