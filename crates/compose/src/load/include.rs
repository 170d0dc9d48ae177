//! `include`: files with directories and variables of their own, whose objects stand beside those of the file (Compose
//! Specification, include).

use std::path::{Path, PathBuf};

use super::{Loader, Source, fill};
use crate::node::{Entry, Map, Node, Value};
use crate::volumes::Paths;
use crate::{dotenv, limits, merge};

impl Loader<'_> {
    pub(super) fn include_all(&mut self, file: &mut Node, source: &Source<'_>, chain: &mut Vec<PathBuf>) {
        let Some(Entry { node, .. }) = file.map_mut().and_then(|m| m.remove("include")) else { return };
        let this = source.path.to_owned();
        chain.push(this);
        for item in node.items() {
            if let Some(included) = self.include(item, source, chain) {
                self.import(file, included);
            }
        }
        chain.pop();
    }

    fn include(&mut self, item: &Node, source: &Source<'_>, chain: &mut Vec<PathBuf>) -> Option<Node> {
        let texts = |node: Option<&Node>| -> Vec<String> {
            let one = node.and_then(Node::str).map(str::to_owned);
            one.into_iter().chain(node.into_iter().flat_map(Node::items).filter_map(|n| n.str().map(str::to_owned))).collect()
        };
        let paths = Paths { base: source.base, home: self.home, raw: false };
        let files = if item.map().is_some() { texts(item.get("path")) } else { texts(Some(item)) };
        let files: Vec<PathBuf> = files.iter().map(|f| paths.absolute(f)).collect();
        let Some(first) = files.first() else {
            self.report.fault(&item.at, "include: path is required");
            return None;
        };
        let directory = match item.get("project_directory").and_then(Node::str) {
            Some(text) => paths.absolute(text),
            None => first.parent().map_or_else(PathBuf::new, Path::to_owned),
        };
        let mut variables = source.variables.clone();
        let named = texts(item.get("env_file"));
        let env_files: Vec<(PathBuf, bool)> = if named.is_empty() {
            vec![(directory.join(".env"), false)]
        } else {
            named.iter().map(|f| (paths.absolute(f), true)).collect()
        };
        for (path, needed) in env_files {
            let shown = self.shown(&path);
            let bytes = if needed { self.bytes(&path, &item.at, &shown) } else { self.optional(&path, &item.at, &shown) };
            let Some(bytes) = bytes.flatten() else { continue };
            match dotenv::parse(&shown, &bytes, &variables, false) {
                Ok(found) => fill(&mut variables, found),
                Err(fault) => self.report.fault(&fault.place, fault.text),
            }
        }
        let mut whole: Option<Node> = None;
        for path in &files {
            let shown = self.shown(path);
            if chain.contains(path) {
                let names: Vec<String> = chain.iter().chain([path]).map(|p| self.shown(p).to_string()).collect();
                self.report.fault(&item.at, format!("include cycle detected: {}", names.join(" includes ")));
                return None;
            }
            if chain.len() >= limits::CHAIN {
                self.report.fault(&item.at, format!("more than {} files include each other in a row", limits::CHAIN));
                return None;
            }
            let inner = Source { path, base: &directory, variables: &variables, from: Some(&item.at) };
            let node = self.file(&inner, &shown, chain)?;
            match &mut whole {
                None => whole = Some(node),
                Some(whole) => merge::merge(whole, node),
            }
        }
        whole
    }

    /// Puts what an included file defines beside what is there.
    fn import(&mut self, file: &mut Node, mut included: Node) {
        for section in ["services", "networks", "volumes", "secrets", "configs", "models"] {
            let Some(Entry { key, node }) = included.map_mut().and_then(|m| m.remove(section)) else { continue };
            let Value::Map(objects) = node.value else { continue };
            let Some(map) = file.map_mut() else { continue };
            let own = map
                .entry(section.to_owned())
                .or_insert_with(|| Entry { node: Node::new(&key, Value::Map(Map::new())), key: key.clone() });
            let Some(own) = own.node.map_mut() else { continue };
            for (name, entry) in objects {
                match own.get(&name) {
                    None => {
                        own.insert(name, entry);
                    }
                    Some(here) if here.node.same(&entry.node) => {}
                    Some(here) => {
                        let text = format!("{section}.{name} conflicts with imported resource at {}", entry.key);
                        self.report.fault(&here.key, text);
                    }
                }
            }
        }
    }
}
