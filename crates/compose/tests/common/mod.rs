//! Files in memory, and short ways to load them.

#![allow(dead_code)] // each test uses its part

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use skep_compose::{Faults, Files, Options, Project, Stack, load};

/// Files by their absolute path; `-` is standard input.
#[derive(Default, Clone)]
pub(crate) struct Memory(pub(crate) BTreeMap<PathBuf, Vec<u8>>);

impl Memory {
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        Self(files.iter().map(|(name, text)| (Path::new("/app").join(name), text.as_bytes().to_vec())).collect())
    }
}

impl Files for Memory {
    fn read(&self, path: &Path, limit: usize) -> Result<Option<Vec<u8>>, String> {
        let path = if path == Path::new("-") { Path::new("/app/-") } else { path };
        Ok(self.0.get(path).map(|b| b[..b.len().min(limit + 1)].to_vec()))
    }
}

pub(crate) fn options(files: &[&str]) -> Options {
    let environment = [("HOME", "/home/me"), ("TAG", "1.2"), ("EMPTY", "")];
    Options {
        files: files.iter().map(|f| (*f).to_owned()).collect(),
        directory: PathBuf::from("/app"),
        environment: environment.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        dotenv: None,
        interpolate: true,
    }
}

pub(crate) fn project(files: &[(&str, &str)], named: &[&str]) -> Result<Project, Faults> {
    load(&options(named), &Memory::of(files))
}

/// The stack `app` of some files, the first `-c` of which are `named`.
pub(crate) fn stack_of(files: &[(&str, &str)], named: &[&str]) -> Result<Stack, Faults> {
    let memory = Memory::of(files);
    load(&options(named), &memory)?.stack("app", &memory)
}

/// The stack `app` of one file.
pub(crate) fn stack(text: &str) -> Result<Stack, Faults> {
    stack_of(&[("a.yml", text)], &["a.yml"])
}

/// The body of the service `web`, whose keys are given with an indent of 4.
pub(crate) fn web(keys: &str) -> Value {
    let text = format!("services:\n  web:\n    image: i\n{keys}\n");
    let stack = stack(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let web = stack.services.iter().find(|s| s.key == "web").expect("the service web");
    web.body.clone()
}

/// The container of that service.
pub(crate) fn container(keys: &str) -> Value {
    web(keys)["TaskTemplate"]["ContainerSpec"].clone()
}

/// What is wrong with a file.
pub(crate) fn faults(text: &str) -> String {
    match stack(text) {
        Ok(_) => String::new(),
        Err(faults) => faults.to_string(),
    }
}
