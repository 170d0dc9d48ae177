//! Go's text templates, as `--format` takes them, on JSON values: actions, pipelines, variables, `if`, `else`, `with`, `range`,
//! trim marks and the functions that Docker's users have. Own work, because no library speaks this language.
//!
//! A template is a user's text: it is bounded in length, depth, steps and output, and never panics. `define`, `template` and
//! `block` are refused.

mod eval;
mod funcs;
mod lex;
mod parse;
mod print;

use serde_json::Value;

/// Longest template: far more than a shell's line that somebody typed.
const MAX_LENGTH: usize = 64 << 10;

/// What is wrong with a template, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(pub(crate) String);

/// What can be called on the top value with arguments: name and arguments to a value, `None` if there is no such thing.
pub type Methods<'a> = dyn Fn(&str, &[Value]) -> Option<Value> + 'a;

/// For values that nothing can be called on.
#[must_use]
pub fn no_methods(_: &str, _: &[Value]) -> Option<Value> {
    None
}

/// What a client that has types for an answer knows of it beside its values.
pub trait Types {
    /// What `json` gives for a value of it.
    fn json(&self, value: &Value) -> String;

    /// What a field of this name is printed as, if that is something else than its value.
    fn shown(&self, field: &str, value: &Value) -> Option<Value>;
}

/// A template that was read.
#[derive(Debug, Clone)]
pub struct Template {
    nodes: Vec<parse::Node>,
    text: String,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// [`TemplateError`] such as `template: :1: unclosed action`.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.len() > MAX_LENGTH {
            return Err(TemplateError(format!("template: longer than {MAX_LENGTH} bytes")));
        }
        Ok(Self { nodes: parse::parse(text)?, text: text.to_owned() })
    }

    /// Runs it on a value.
    ///
    /// # Errors
    /// [`TemplateError`] such as `template: :1:2: executing "" at <.X>: can't evaluate field X …`.
    pub fn run(&self, value: &Value, methods: &Methods<'_>) -> Result<String, TemplateError> {
        eval::run(&self.nodes, &self.text, value, methods, None, false)
    }

    /// Runs it on a value whose types are known.
    ///
    /// # Errors
    /// As [`Template::run`].
    pub fn run_typed(&self, value: &Value, types: &dyn Types) -> Result<String, TemplateError> {
        eval::run(&self.nodes, &self.text, value, &no_methods, Some(types), false)
    }

    /// Runs it on the headings of a table: every field is a text there, and a list of them is empty.
    ///
    /// # Errors
    /// As [`Template::run`].
    pub fn run_heading(&self, heads: &Value, methods: &Methods<'_>) -> Result<String, TemplateError> {
        eval::run(&self.nodes, &self.text, heads, methods, None, true)
    }
}

#[cfg(test)]
mod tests;
