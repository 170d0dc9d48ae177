//! What the stock client shows by its types, which JSON alone does not tell: fields in their order, moments, durations and bytes.

use std::collections::HashMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::list::go_json;
use super::order::ordered;
use super::time;
use crate::grammar::values::show_duration;
use crate::template::Types;

/// Fields of the swarm's objects that are moments.
const MOMENTS: &[&str] = &["CreatedAt", "UpdatedAt", "StartedAt", "CompletedAt", "Timestamp"];
/// Fields that are durations, in nanoseconds.
const DURATIONS: &[&str] = &[
    "Delay",
    "Monitor",
    "Window",
    "StopGracePeriod",
    "Interval",
    "Timeout",
    "StartPeriod",
    "StartInterval",
    "NodeCertExpiry",
    "HeartbeatPeriod",
];

/// One answer of the daemon, with what its text tells beside its values.
#[derive(Debug)]
pub struct Typed {
    /// Orders of fields, by the fields in the order of the alphabet.
    orders: HashMap<Vec<String>, Vec<String>>,
    /// It is an object of the swarm.
    swarm: bool,
}

impl Typed {
    /// Of an answer's text and the value that it was read to.
    #[must_use]
    pub fn of(text: &str, value: &Value) -> Self {
        let mut orders = HashMap::new();
        let swarm = value["Version"]["Index"].is_u64();
        let text = if swarm { ordered(text) } else { text.to_owned() };
        // The text was read before, so it is JSON; what could not be walked through is shown in the alphabet's order.
        let _ = Walk(&mut orders).deserialize(&mut serde_json::Deserializer::from_str(&text));
        Self { orders, swarm }
    }

    fn write(&self, value: &Value, out: &mut String) {
        match value {
            Value::Object(map) => {
                let keys: Vec<String> = map.keys().cloned().collect();
                out.push('{');
                for (i, key) in self.orders.get(&keys).unwrap_or(&keys).iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    *out += &go_json(&Value::from(key.as_str()));
                    out.push(':');
                    self.write(&map[key], out);
                }
                out.push('}');
            }
            Value::Array(all) => {
                out.push('[');
                for (i, one) in all.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    self.write(one, out);
                }
                out.push(']');
            }
            other => *out += &go_json(other),
        }
    }
}

impl Types for Typed {
    fn json(&self, value: &Value) -> String {
        let mut out = String::new();
        self.write(value, &mut out);
        out
    }

    fn shown(&self, field: &str, value: &Value) -> Option<Value> {
        if !self.swarm {
            return None;
        }
        match value {
            Value::String(at) if MOMENTS.contains(&field) => Some(time::go(time::parse(at)?).into()),
            Value::Number(n) if DURATIONS.contains(&field) => Some(show_duration(n.as_i64()?).into()),
            Value::String(bytes) if field == "Data" => Some(STANDARD.decode(bytes).ok()?.into()),
            _ => None,
        }
    }
}

/// Notes the order of each object's fields. The reader of JSON bounds how deep it goes.
struct Walk<'a>(&'a mut HashMap<Vec<String>, Vec<String>>);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<(), A::Error> {
        while all.next_element_seed(Walk(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut order = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            order.push(key);
            map.next_value_seed(Walk(self.0))?;
        }
        let mut sorted = order.clone();
        sorted.sort();
        self.0.entry(sorted).or_insert(order);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::list;

    fn show(format: &str, text: &str) -> String {
        let value: Value = serde_json::from_str(text).unwrap();
        list::apply_typed(&list::parse(format).unwrap(), &value, &Typed::of(text, &value)).unwrap()
    }

    const SERVICE: &str = r#"{"ID":"x","Version":{"Index":7},"CreatedAt":"2026-11-30T15:11:46.6799Z",
        "Spec":{"Name":"web","Labels":{"b":"<"},"Data":"b25lCg==","UpdateConfig":{"Parallelism":1,"Delay":1500000000}}}"#;

    #[test]
    fn fields_come_in_the_daemons_order() {
        let spec = "{\"Name\":\"web\",\"Labels\":{\"b\":\"\\u003c\"},\
                    \"UpdateConfig\":{\"Parallelism\":1,\"Delay\":1500000000},\"Data\":\"b25lCg==\"}";
        assert_eq!(show("{{json .Spec}}", SERVICE), spec);
        assert_eq!(
            show("{{json .CreatedAt}} {{json .Spec.UpdateConfig.Delay}}", SERVICE),
            "\"2026-11-30T15:11:46.6799Z\" 1500000000"
        );
    }

    #[test]
    fn moments_durations_and_bytes_are_shown_as_go_prints_them() {
        assert_eq!(show("{{.CreatedAt}}", SERVICE), "2026-11-30 15:11:46.6799 +0000 UTC");
        assert_eq!(show("{{.Spec.UpdateConfig.Delay}}", SERVICE), "1.5s");
        assert_eq!(show("{{with .Spec.UpdateConfig}}{{.Delay}}{{end}}", SERVICE), "1.5s");
        assert_eq!(show("{{.Spec.Data}}", SERVICE), "[111 110 101 10]");
        assert_eq!(show("{{printf \"%s|%v\" .Spec.Data .CreatedAt}}", SERVICE), "one\n|2026-11-30 15:11:46.6799 +0000 UTC");
        // A container's are texts already, and no object of the swarm.
        assert_eq!(show("{{.State.StartedAt}}", r#"{"State":{"StartedAt":"2026-01-01T00:00:00Z"}}"#), "2026-01-01T00:00:00Z");
    }
}
