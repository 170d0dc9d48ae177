//! `extends`: a service with another one, of the same file or another, below it (Compose Specification, extends).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Loader, Source};
use crate::node::Node;
use crate::place::Place;
use crate::volumes::Paths;
use crate::yaml::TOO_MUCH;
use crate::{limits, merge};

impl Loader<'_> {
    pub(super) fn extend_all(&mut self, file: &mut Node, source: &Source<'_>) {
        let names: Vec<String> = file.get("services").into_iter().flat_map(Node::entries).map(|(k, _)| k.clone()).collect();
        let extending = |name: &String| file.get("services").and_then(|s| s.get(name)?.get("extends")).is_some();
        if !names.iter().any(extending) {
            return;
        }
        if !self.budget.pay_tree(file) {
            self.report.fault(&file.at, TOO_MUCH);
            return;
        }
        let unextended = Arc::new(file.clone());
        for name in names {
            if let Some(done) = self.extended(&unextended, source, &name, &mut Vec::new())
                && let Some(services) = file.map_mut().and_then(|m| m.get_mut("services"))
                && let Some(entry) = services.node.map_mut().and_then(|m| m.get_mut(&name))
            {
                entry.node = done;
            }
        }
    }

    /// A service with what it extends below it.
    fn extended(
        &mut self,
        file: &Arc<Node>,
        source: &Source<'_>,
        name: &str,
        chain: &mut Vec<(PathBuf, String)>,
    ) -> Option<Node> {
        let service = file.get("services").and_then(|s| s.get(name))?;
        let Some(extends) = service.get("extends") else {
            if !chain.is_empty() && !self.budget.pay_tree(service) {
                self.report.fault(&service.at, TOO_MUCH);
                return None;
            }
            return Some(service.clone());
        };
        let path = format!("services.{name}.extends");
        let at = &extends.at;
        let base = extends.get("service").and_then(Node::str).unwrap_or_default();
        let link = (source.path.to_owned(), name.to_owned());
        if chain.contains(&link) {
            let names: Vec<&str> = chain.iter().map(|(_, n)| n.as_str()).chain([name]).collect();
            self.report.fault(at, format!("{path}: circular reference: {}", names.join(" extends ")));
            return None;
        }
        if chain.len() >= limits::CHAIN {
            self.report.fault(at, format!("{path}: more than {} services extend each other in a row", limits::CHAIN));
            return None;
        }
        chain.push(link);
        let below = match extends.get("file") {
            None => self.base_service(file, source, base, &path, at, chain),
            Some(other) => {
                let paths = Paths { base: source.base, home: self.home, raw: false };
                let other_path = paths.absolute(other.str().unwrap_or_default());
                let directory = other_path.parent().map_or_else(PathBuf::new, Path::to_owned);
                let inner = Source { path: &other_path, base: &directory, variables: source.variables, from: Some(&other.at) };
                let loaded = match self.known.get(&other_path) {
                    Some(known) => known.clone(),
                    None => {
                        let shown = self.shown(&other_path);
                        let loaded = self.canonical(&inner, &shown).map(Arc::new);
                        self.known.insert(other_path.clone(), loaded.clone());
                        loaded
                    }
                };
                loaded.and_then(|loaded| self.base_service(&loaded, &inner, base, &path, at, chain))
            }
        };
        chain.pop();
        let mut below = below?;
        let mut own = service.clone();
        if let Some(map) = own.map_mut() {
            map.remove("extends");
        }
        if !self.budget.pay_tree(&own) {
            self.report.fault(at, TOO_MUCH);
            return None;
        }
        below.at = own.at.clone();
        merge::merge_service(&mut below, own);
        Some(below)
    }

    fn base_service(
        &mut self,
        file: &Arc<Node>,
        source: &Source<'_>,
        base: &str,
        path: &str,
        at: &Place,
        chain: &mut Vec<(PathBuf, String)>,
    ) -> Option<Node> {
        if file.get("services").and_then(|s| s.get(base)).is_none() {
            let shown = self.shown(source.path);
            self.report.fault(at, format!("{path}: cannot extend service {base:?} in {shown}: service not found"));
            return None;
        }
        self.extended(file, source, base, chain)
    }
}
