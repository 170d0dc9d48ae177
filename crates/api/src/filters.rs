//! `?filters=`: JSON in either of Docker's forms, `{"k":["v"]}` or `{"k":{"v":true}}`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::error::{Failure, Handled};

/// Values by key; several values of a key are alternatives, except for labels.
#[derive(Debug, Default, Clone)]
pub(crate) struct Filters(BTreeMap<String, BTreeSet<String>>);

impl Filters {
    /// Reads the parameter; only `known` keys are taken.
    pub(crate) fn parse(text: Option<&str>, known: &[&str]) -> Handled<Self> {
        let Some(text) = text.filter(|t| !t.is_empty()) else { return Ok(Self::default()) };
        let bad = || Failure::invalid("invalid filter");
        let map: BTreeMap<String, Value> = serde_json::from_str(text).map_err(|_| bad())?;
        let mut out = BTreeMap::new();
        for (key, value) in map {
            if !known.contains(&key.as_str()) {
                return Err(Failure::invalid(format!("invalid filter '{key}'")));
            }
            let values: BTreeSet<String> = match value {
                Value::Array(list) => list.into_iter().filter_map(|v| v.as_str().map(str::to_owned)).collect(),
                Value::Object(map) => map.into_iter().filter(|(_, on)| on != &Value::Bool(false)).map(|(k, _)| k).collect(),
                _ => return Err(bad()),
            };
            out.insert(key, values);
        }
        Ok(Self(out))
    }

    /// The values of a key.
    pub(crate) fn values(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.get(key).into_iter().flatten().map(String::as_str)
    }

    /// The key is not used, or one of its values fits.
    pub(crate) fn any(&self, key: &str, fits: impl Fn(&str) -> bool) -> bool {
        self.0.get(key).is_none_or(|values| values.is_empty() || values.iter().any(|v| fits(v)))
    }

    /// Every `label` value (`key` or `key=value`) fits.
    pub(crate) fn labels(&self, key: &str, labels: &BTreeMap<String, String>) -> bool {
        self.values(key).all(|wanted| match wanted.split_once('=') {
            Some((k, v)) => labels.get(k).is_some_and(|have| have == v),
            None => labels.contains_key(wanted),
        })
    }

    /// Every value of a key is, in whatever case, one of the `known` words.
    ///
    /// # Errors
    /// 400 with the reference's text.
    pub(crate) fn check(&self, key: &str, known: &[&str]) -> Handled<()> {
        let is_known = |v: &&str| v.is_empty() || known.iter().any(|k| k.eq_ignore_ascii_case(v));
        match self.values(key).find(|v| !is_known(v)) {
            Some(other) => Err(Failure::invalid(format!("Invalid {key} filter: '{other}'"))),
            None => Ok(()),
        }
    }

    /// A switch such as `dangling=true`.
    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        self.values(key).next().map(|v| matches!(v, "1" | "true" | "True" | "TRUE"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_unknown_keys_refused() {
        let a = Filters::parse(Some(r#"{"name":["a","b"]}"#), &["name"]).expect("list");
        let b = Filters::parse(Some(r#"{"name":{"a":true,"b":true}}"#), &["name"]).expect("map");
        assert_eq!(a.0, b.0);
        assert!(a.any("name", |v| v == "b") && a.any("other", |_| false));
        assert!(Filters::parse(Some(r#"{"x":["y"]}"#), &["name"]).is_err());
        assert!(Filters::parse(Some("nonsense"), &["name"]).is_err());
        let f = Filters::parse(Some(r#"{"role":["Manager"],"state":["nope"]}"#), &["role", "state"]).expect("both are known");
        assert!(f.check("role", &["manager", "worker"]).is_ok() && f.check("other", &[]).is_ok());
        assert_eq!(f.check("state", &["running"]).expect_err("no such state").0.message, "Invalid state filter: 'nope'");
    }
}
