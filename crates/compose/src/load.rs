//! From the names of files to one tree: each is read, filled with variables, checked and made canonical; then `extends`, `include`,
//! profiles and `env_file` are worked out, and the files merged in order.
//!
//! It goes on past faults as long as what follows can be trusted, so that all of them are told at once.

mod extends;
mod finish;
mod include;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::interpolate::{Variables, interpolate};
use crate::node::{Map, Node, Value};
use crate::place::{Faults, Place, Report, Warning, one_line};
use crate::volumes::Paths;
use crate::yaml::{Budget, parse};
use crate::{canon, check, dotenv, limits, merge, warn};

/// Where the bytes of files come from.
pub trait Files {
    /// The content of a file; nothing if there is none. The path is absolute, or `-` for standard input. Of a file that is longer
    /// than `limit` bytes no more than `limit` + 1 need to be read.
    ///
    /// # Errors
    /// Why it cannot be read, without its name: `permission denied`.
    fn read(&self, path: &Path, limit: usize) -> Result<Option<Vec<u8>>, String>;
}

/// What to load.
#[derive(Debug, Clone)]
pub struct Options {
    /// Compose files in the order in which they merge, as the user named them; `-` is standard input.
    pub files: Vec<String>,
    /// The caller's directory, absolute.
    pub directory: PathBuf,
    /// The caller's environment. `HOME` is `~` in paths, `COMPOSE_PROFILES` the active profiles, by commas.
    pub environment: BTreeMap<String, String>,
    /// Name and content of the `.env` file beside the first compose file, if there is one; the environment wins over it.
    pub dotenv: Option<(String, Vec<u8>)>,
    /// Whether to put variables in; `false` is for `stack config --skip-interpolation` only, no stack can be made of it.
    pub interpolate: bool,
}

impl Options {
    /// The directory of the first file: relative paths begin there, and there is `.env`.
    #[must_use]
    pub fn project_directory(&self) -> PathBuf {
        let paths = Paths { base: &self.directory, home: None, raw: false };
        match self.files.first().map(String::as_str) {
            None | Some("-") => self.directory.clone(),
            Some(first) => paths.absolute(first).parent().map_or_else(|| self.directory.clone(), Path::to_owned),
        }
    }
}

/// Compose files, merged.
#[derive(Debug)]
pub struct Project {
    pub(crate) root: Node,
    pub(crate) variables: Variables,
    pub(crate) warnings: Vec<Warning>,
    pub(crate) interpolated: bool,
}

impl Project {
    /// What a swarm does not act on, or not as written; in the order of the files.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The top-level `name:`, if there is one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.root.get("name").and_then(Node::str)
    }

    /// The merged file as YAML, variables put in; it can be deployed in its turn.
    #[must_use]
    pub fn yaml(&self) -> String {
        crate::emit::yaml(&self.root, self.interpolated)
    }
}

/// Loads compose files.
///
/// # Errors
/// All that is wrong with them, with places.
pub fn load(options: &Options, files: &dyn Files) -> Result<Project, Faults> {
    let mut loader = Loader {
        files,
        options,
        budget: Budget::new(),
        report: Report::default(),
        read: 0,
        known: BTreeMap::new(),
        home: options.environment.get("HOME").map(String::as_str),
    };
    let variables = loader.variables();
    let root = loader.all(&variables);
    let warnings = loader.report.finish()?;
    Ok(Project { root, variables, warnings, interpolated: options.interpolate })
}

struct Loader<'a> {
    files: &'a dyn Files,
    options: &'a Options,
    budget: Budget,
    report: Report,
    read: usize,
    /// Files that `extends` names, canonical; none for those with faults.
    known: BTreeMap<PathBuf, Option<Arc<Node>>>,
    home: Option<&'a str>,
}

/// Where a file that is read stands, and what its variables are.
struct Source<'a> {
    path: &'a Path,
    /// Where its relative paths begin.
    base: &'a Path,
    variables: &'a Variables,
    /// Who names it; none for files of the command line.
    from: Option<&'a Place>,
}

impl Loader<'_> {
    fn variables(&mut self) -> Variables {
        let mut variables = self.options.environment.clone();
        if let Some((name, bytes)) = &self.options.dotenv {
            let file = Arc::from(name.as_str());
            if bytes.len() > limits::FILE_BYTES {
                self.report.fault(&Place { file, line: 1, column: 1 }, "the file is longer than 1 MiB");
                return variables;
            }
            match dotenv::parse(&file, bytes, &variables, false) {
                Ok(found) => fill(&mut variables, found),
                Err(fault) => self.report.fault(&fault.place, fault.text),
            }
        }
        variables
    }

    /// How a file is called in messages: as it was named, or relative to the caller's directory.
    fn shown(&self, path: &Path) -> Arc<str> {
        let short = path.strip_prefix(&self.options.directory).unwrap_or(path);
        Arc::from(one_line(&short.to_string_lossy()))
    }

    fn all(&mut self, variables: &Variables) -> Node {
        let base = self.options.project_directory();
        let mut whole: Option<Node> = None;
        let start = Place { file: Arc::from("-"), line: 1, column: 1 };
        if self.options.files.is_empty() {
            self.report.fault(&start, "no compose file was named");
        }
        for name in &self.options.files {
            let paths = Paths { base: &self.options.directory, home: None, raw: false };
            let path = if name == "-" { PathBuf::from("-") } else { paths.absolute(name) };
            let source = Source { path: &path, base: &base, variables, from: None };
            let Some(node) = self.file(&source, &Arc::from(name.as_str()), &mut Vec::new()) else { continue };
            match &mut whole {
                None => whole = Some(node),
                Some(whole) => {
                    self.same_version(whole, &node);
                    merge::merge(whole, node);
                }
            }
        }
        let mut root = whole.unwrap_or_else(|| Node::new(&start, Value::Map(Map::new())));
        merge::without_resets(&mut root);
        if self.report.failed() {
            return root;
        }
        self.profiles(&mut root, variables);
        let services = root.map_mut().and_then(|m| m.get_mut("services")).and_then(|e| e.node.map_mut());
        services.into_iter().flatten().for_each(|(_, e)| canon::plain_dependencies(&mut e.node));
        self.surroundings(&mut root, variables);
        warn::warn(&root, &mut self.report);
        root
    }

    fn same_version(&mut self, base: &Node, over: &Node) {
        if let (Some(a), Some(b)) = (base.get("version"), over.get("version"))
            && let (Some(first), Some(second)) = (a.str(), b.str())
            && first != second
        {
            let text = format!("version mismatched between two composefiles : {first} and {second}");
            self.report.fault(&b.at, text);
        }
    }

    /// Reads a file whole, with all that it extends and includes.
    fn file(&mut self, source: &Source<'_>, shown: &Arc<str>, chain: &mut Vec<PathBuf>) -> Option<Node> {
        let mut file = self.canonical(source, shown)?;
        self.extend_all(&mut file, source);
        self.include_all(&mut file, source, chain);
        Some(file)
    }

    /// Reads a file without following what it names.
    fn canonical(&mut self, source: &Source<'_>, shown: &Arc<str>) -> Option<Node> {
        let start = Place { file: Arc::clone(shown), line: 1, column: 1 };
        let place = source.from.unwrap_or(&start);
        let bytes = self.bytes(source.path, place, shown)??;
        let documents = match parse(shown, &bytes, &mut self.budget) {
            Ok(documents) => documents,
            Err(fault) => {
                self.report.fault(&fault.place, fault.text);
                return None;
            }
        };
        let raw = !self.options.interpolate;
        let mut whole: Option<Node> = None;
        for mut document in documents {
            let before = self.report.count();
            if !raw {
                interpolate(&mut document, "", source.variables, &mut self.budget, &mut self.report);
            }
            check::check(&mut document, raw, &mut self.report);
            self.version(&document);
            let paths = Paths { base: source.base, home: self.home, raw };
            let mut further = Report::default();
            canon::canonical(&mut document, paths, &mut further);
            // Where a value has a wrong type already, its form need not be told as well.
            self.report.add(further);
            if self.report.count() > before {
                // What is left of it would only bring faults that are none.
                continue;
            }
            match &mut whole {
                None => whole = Some(document),
                Some(whole) => merge::merge(whole, document),
            }
        }
        whole
    }

    fn version(&mut self, file: &Node) {
        let Some(node) = file.get("version") else { return };
        let Some(version) = node.str() else { return };
        let known = version == "3" || version.strip_prefix("3.").is_some_and(|minor| minor_version(minor).is_some());
        if !known {
            let hint = "the versions are 3 and 3.0 to 3.13; leave the key out for the Compose Specification";
            self.report.fault(&node.at, format!("unsupported Compose file version: {version} ({hint})"));
        }
    }

    /// The content of a file, a fault if it cannot be read; the inner option is for [`Self::optional`].
    fn bytes(&mut self, path: &Path, place: &Place, shown: &str) -> Option<Option<Vec<u8>>> {
        let bytes = self.optional(path, place, shown)?;
        if bytes.is_none() {
            self.report.fault(place, format!("open {shown}: no such file or directory"));
        }
        Some(bytes)
    }

    fn optional(&mut self, path: &Path, place: &Place, shown: &str) -> Option<Option<Vec<u8>>> {
        self.read += 1;
        if self.read > limits::FILES {
            self.report.fault(place, format!("more than {} files are read for one stack", limits::FILES));
            return None;
        }
        match self.files.read(path, limits::FILE_BYTES) {
            Ok(Some(bytes)) if bytes.len() > limits::FILE_BYTES => {
                self.report.fault(place, format!("{shown} is longer than 1 MiB"));
                None
            }
            Ok(bytes) => Some(bytes),
            Err(cause) => {
                self.report.fault(place, format!("read {shown}: {cause}"));
                None
            }
        }
    }
}

/// The minor version, 0 to 13.
fn minor_version(text: &str) -> Option<u8> {
    let digits = !text.is_empty() && text.len() <= 2 && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|n| digits && *n <= 13)
}

/// Adds variables that are not there yet.
fn fill(variables: &mut Variables, found: Vec<dotenv::Variable>) {
    let mut later: BTreeMap<String, String> = BTreeMap::new();
    for (key, value) in found {
        if let Some(value) = value {
            later.insert(key, value);
        }
    }
    for (key, value) in later {
        variables.entry(key).or_insert(value);
    }
}
