//! Graylog's form: JSON, over UDP compressed and in chunks, over TCP ended by a zero byte.

use std::io::Write;

use flate2::Compression as Level;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::{Map, Value, json};

use super::{About, Line};

/// Bytes of a datagram that every network carries whole, as Docker's driver counts them.
const CHUNK: usize = 1420;
/// Bytes before the data of a chunk.
const HEAD: usize = 12;
/// Most chunks of a message; a longer one is cut by the server anyway.
const MOST: usize = 128;

/// How messages are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    /// Over TCP: not at all, ended by a zero byte.
    Stream,
    /// Not at all.
    None,
    /// gzip of a level.
    Gzip(u32),
    /// zlib of a level.
    Zlib(u32),
}

/// The form of messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gelf {
    pub(super) compression: Compression,
}

fn message(about: &About, line: &Line) -> Vec<u8> {
    let at = line.time.parse::<jiff::Timestamp>().unwrap_or_default();
    let mut out = Map::new();
    for (key, value) in &about.extra {
        out.insert(format!("_{key}"), Value::from(value.as_str()));
    }
    let fields = json!({
        "version": "1.1", "host": about.hostname, "short_message": line.text,
        // Milliseconds are what the format promises.
        "timestamp": at.as_millisecond() as f64 / 1000.0, "level": if line.stderr { 3 } else { 6 },
        "_container_id": about.id, "_container_name": about.name, "_image_id": about.image_id, "_image_name": about.image,
        "_command": about.command, "_tag": about.tag, "_created": about.created,
    });
    if let Value::Object(fields) = fields {
        out.extend(fields);
    }
    Value::Object(out).to_string().into_bytes()
}

impl Gelf {
    /// A record as datagrams, or as the bytes of a stream; nothing if it is too long for any datagrams.
    pub(super) fn encode(&self, about: &About, line: &Line, id: [u8; 8]) -> Vec<Vec<u8>> {
        let mut plain = message(about, line);
        let packed = match self.compression {
            Compression::Stream => {
                plain.push(0);
                return vec![plain];
            }
            Compression::None => plain,
            Compression::Gzip(level) => {
                let mut to = GzEncoder::new(Vec::new(), Level::new(level));
                // Memory takes all.
                let _ = to.write_all(&plain);
                to.finish().unwrap_or_default()
            }
            Compression::Zlib(level) => {
                let mut to = ZlibEncoder::new(Vec::new(), Level::new(level));
                let _ = to.write_all(&plain);
                to.finish().unwrap_or_default()
            }
        };
        if packed.len() <= CHUNK {
            return vec![packed];
        }
        let chunks: Vec<&[u8]> = packed.chunks(CHUNK - HEAD).collect();
        let Some(count) = u8::try_from(chunks.len()).ok().filter(|n| usize::from(*n) <= MOST) else { return Vec::new() };
        let one = |(number, data): (u8, &&[u8])| [&[0x1e, 0x0f][..], &id, &[number, count], data].concat();
        (0..count).zip(&chunks).map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn line(text: &str) -> Line {
        Line { stderr: true, time: "2026-01-01T00:00:00.25Z".into(), text: text.into(), partial: false }
    }

    #[test]
    fn messages_are_packed_and_parted() {
        let about = About { name: "web".into(), extra: [("zone".to_owned(), "a".to_owned())].into(), ..About::default() };
        let stream = Gelf { compression: Compression::Stream }.encode(&about, &line("hi"), [0; 8]).remove(0);
        assert_eq!(stream.last(), Some(&0));
        let value: Value = serde_json::from_slice(&stream[..stream.len() - 1]).expect("JSON");
        assert_eq!((&value["short_message"], &value["level"], &value["_zone"]), (&json!("hi"), &json!(3), &json!("a")));
        assert_eq!(value["timestamp"], json!(1_767_225_600.25));
        let packed = Gelf { compression: Compression::Gzip(1) }.encode(&about, &line("hi"), [0; 8]).remove(0);
        let mut text = String::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut text).expect("gzip");
        assert!(text.contains("\"short_message\":\"hi\""));
        let long = line(&"x".repeat(5000));
        let chunks = Gelf { compression: Compression::None }.encode(&about, &long, [7; 8]);
        assert_eq!(chunks.len(), 4);
        assert!(
            chunks
                .iter()
                .enumerate()
                .all(|(i, c)| c[..2] == [0x1e, 0x0f] && c[2..10] == [7; 8] && c[10] == i as u8 && c[11] == 4)
        );
        let whole: Vec<u8> = chunks.iter().flat_map(|c| c[12..].to_vec()).collect();
        assert!(serde_json::from_slice::<Value>(&whole).is_ok());
        let endless = line(&"x".repeat(400_000));
        assert!(Gelf { compression: Compression::None }.encode(&about, &endless, [7; 8]).is_empty());
    }
}
