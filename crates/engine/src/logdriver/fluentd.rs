//! fluentd's forward protocol, message mode: `[tag, time, record]` in MessagePack.

use rmpv::Value;

use super::{About, Line};

/// The form of messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fluentd {
    /// Times have nanoseconds (EventTime).
    pub(super) precise: bool,
}

impl Fluentd {
    pub(super) fn encode(&self, about: &About, line: &Line) -> Vec<u8> {
        let at = line.time.parse::<jiff::Timestamp>().unwrap_or_default();
        let seconds = at.as_second();
        let time = if self.precise {
            let high = u32::try_from(seconds).unwrap_or(0).to_be_bytes();
            let low = u32::try_from(at.subsec_nanosecond()).unwrap_or(0).to_be_bytes();
            Value::Ext(0, [high, low].concat())
        } else {
            Value::from(seconds)
        };
        let source = if line.stderr { "stderr" } else { "stdout" };
        let mut record = vec![
            ("container_id".to_owned(), about.id.clone()),
            ("container_name".to_owned(), format!("/{}", about.name)),
            ("source".to_owned(), source.to_owned()),
            ("log".to_owned(), line.text.clone()),
        ];
        record.extend(about.extra.iter().map(|(k, v)| (k.clone(), v.clone())));
        if line.partial {
            record.push(("partial_message".to_owned(), "true".to_owned()));
        }
        let record = record.into_iter().map(|(k, v)| (Value::from(k), Value::from(v))).collect();
        let all = Value::Array(vec![Value::from(about.tag.as_str()), time, Value::Map(record)]);
        let mut out = Vec::new();
        // Memory takes all.
        let _ = rmpv::encode::write_value(&mut out, &all);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_messagepack() {
        let about = About { id: "ab".into(), name: "web".into(), tag: "t".into(), ..About::default() };
        let line = Line { stderr: false, time: "2026-01-01T00:00:00.5Z".into(), text: "hi".into(), partial: true };
        let read = |precise: bool| {
            let bytes = Fluentd { precise }.encode(&about, &line);
            rmpv::decode::read_value(&mut &bytes[..]).expect("MessagePack")
        };
        let message = read(false);
        assert_eq!((message[0].as_str(), message[1].as_i64()), (Some("t"), Some(1_767_225_600)));
        assert_eq!((message[2]["log"].as_str(), message[2]["partial_message"].as_str()), (Some("hi"), Some("true")));
        assert_eq!(message[2]["container_name"].as_str(), Some("/web"));
        let Value::Ext(0, time) = &read(true)[1] else { panic!("an EventTime") };
        assert_eq!(time[4..], 500_000_000u32.to_be_bytes());
    }
}
