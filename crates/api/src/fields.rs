//! Reading JSON objects field by field, so that what has no effect yet is refused by name and never ignored.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{Failure, Handled};

/// An object whose fields are taken one by one.
#[derive(Debug)]
pub(crate) struct Fields {
    map: Map<String, Value>,
    path: String,
}

/// Zero, empty, absent, or -1, which Docker's clients send for "unset".
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64().is_some_and(|n| n == 0.0 || n == -1.0),
        Value::String(s) => s.is_empty() || s == "default",
        Value::Array(a) => a.iter().all(is_zero),
        Value::Object(o) => o.values().all(is_zero),
    }
}

impl Fields {
    /// The fields of an object; null is an empty one.
    pub(crate) fn of(value: Value, path: &str) -> Handled<Self> {
        match value {
            Value::Object(map) => Ok(Self { map, path: path.to_owned() }),
            Value::Null => Ok(Self { map: Map::new(), path: path.to_owned() }),
            other => Err(Failure::invalid(format!("invalid JSON: {} must be an object, not {}", name(path), kind(&other)))),
        }
    }

    fn full(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn raw(&mut self, key: &str) -> Option<Value> {
        // Go's decoder, and so Docker, takes keys in any case.
        let exact = self.map.remove(key);
        exact.or_else(|| {
            let found = self.map.keys().find(|k| k.eq_ignore_ascii_case(key)).cloned()?;
            self.map.remove(&found)
        })
    }

    /// A field; its default when absent or null.
    pub(crate) fn get<T: DeserializeOwned + Default>(&mut self, key: &str) -> Handled<T> {
        Ok(self.option(key)?.unwrap_or_default())
    }

    /// A field; `None` when absent or null.
    pub(crate) fn option<T: DeserializeOwned>(&mut self, key: &str) -> Handled<Option<T>> {
        let full = self.full(key);
        match self.raw(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let what = kind(&value);
                serde_json::from_value(value)
                    .map(Some)
                    .map_err(|e| Failure::invalid(format!("invalid JSON: cannot read {what} as {full}: {e}")))
            }
        }
    }

    /// An unsigned number that clients send as a signed one; negative ones are refused, but -1 is zero.
    pub(crate) fn number(&mut self, key: &str) -> Handled<u64> {
        match self.get::<i64>(key)? {
            -1 => Ok(0),
            n => u64::try_from(n).map_err(|_| Failure::invalid(format!("{} must not be negative: {n}", self.full(key)))),
        }
    }

    /// An object within.
    pub(crate) fn object(&mut self, key: &str) -> Handled<Fields> {
        let full = self.full(key);
        let value = self.raw(key).unwrap_or(Value::Null);
        Fields::of(value, &full)
    }

    /// An object within, if it is there.
    pub(crate) fn object_option(&mut self, key: &str) -> Handled<Option<Fields>> {
        let full = self.full(key);
        match self.raw(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => Fields::of(value, &full).map(Some),
        }
    }

    /// A list of objects.
    pub(crate) fn objects(&mut self, key: &str) -> Handled<Vec<Fields>> {
        let full = self.full(key);
        let list: Vec<Value> = self.get(key)?;
        list.into_iter().map(|v| Fields::of(v, &full)).collect()
    }

    /// Fields that only describe the client's side.
    pub(crate) fn skip(&mut self, keys: &[&str]) {
        for key in keys {
            self.raw(key);
        }
    }

    /// Refuses what is left and would have an effect.
    pub(crate) fn finish(self) -> Handled<()> {
        match self.map.iter().find(|(_, v)| !is_zero(v)) {
            Some((key, value)) => {
                let mut shown = value.to_string();
                shown.truncate(shown.char_indices().nth(80).map_or(shown.len(), |(at, _)| at));
                Err(Failure::unbuilt(format!("{} = {shown}", self.full(key))))
            }
            None => Ok(()),
        }
    }
}

fn name(path: &str) -> &str {
    if path.is_empty() { "the body" } else { path }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_has_no_effect_is_refused_by_name() {
        let mut fields = Fields::of(json!({"A": 1, "b": "x", "C": {"D": [0, null]}, "E": 2}), "Spec").expect("object");
        assert_eq!(fields.get::<u64>("A").expect("number"), 1);
        assert_eq!(fields.get::<String>("B").expect("any case"), "x");
        let refused = fields.finish().expect_err("E has an effect");
        assert!(refused.0.message.contains("Spec.E = 2"), "{}", refused.0.message);
        assert!(Fields::of(json!([]), "").is_err());
        let mut wrong = Fields::of(json!({"A": "x"}), "").expect("object");
        assert!(wrong.get::<u64>("A").is_err());
    }
}
