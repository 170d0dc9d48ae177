//! What the fuzzer feeds, of what is nobody else's to call.

use crate::fields::Fields;
use crate::filters::Filters;

/// Reads filters and asks them about an object with a name and a label.
pub fn filters(text: &str) {
    let known = ["name", "label", "label!", "dangling", "until"];
    if let Ok(filters) = Filters::parse(Some(text), &known) {
        let labels = [("a".to_owned(), "b".to_owned())].into();
        let _ = (filters.any("name", |n| n == "web"), filters.labels("label", &labels), filters.labels("label!", &labels));
        let _ = filters.flag("dangling");
    }
}

/// Reads the body of `POST /services/create`.
pub fn service(text: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<serde_json::Value>(text) {
        let _ = Fields::of(value, "").and_then(crate::spec_read::service);
    }
}
