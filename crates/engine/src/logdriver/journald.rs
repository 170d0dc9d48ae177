//! journald's native protocol: one datagram a record, fields as `NAME=value`, or with a length where a value has more than one line.

use super::{About, Line};

/// Field names of journald have capitals, digits and underscores only, and begin with a letter.
fn name(key: &str) -> String {
    let clean = key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    clean.collect::<String>().trim_start_matches(|c: char| !c.is_ascii_alphabetic()).to_owned()
}

fn put(out: &mut Vec<u8>, key: &str, value: &str) {
    if key.is_empty() {
        return;
    }
    out.extend_from_slice(key.as_bytes());
    if value.contains('\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

/// A record with the fields of Docker's driver.
pub(super) fn encode(about: &About, line: &Line) -> Vec<u8> {
    let mut out = Vec::with_capacity(line.text.len() + 512);
    put(&mut out, "PRIORITY", if line.stderr { "3" } else { "6" });
    put(&mut out, "MESSAGE", &line.text);
    put(&mut out, "CONTAINER_ID", about.short_id());
    put(&mut out, "CONTAINER_ID_FULL", &about.id);
    put(&mut out, "CONTAINER_NAME", &about.name);
    put(&mut out, "CONTAINER_TAG", &about.tag);
    put(&mut out, "IMAGE_NAME", &about.image);
    put(&mut out, "SYSLOG_IDENTIFIER", &about.tag);
    put(&mut out, "SYSLOG_TIMESTAMP", &line.time);
    if line.partial {
        put(&mut out, "CONTAINER_PARTIAL_MESSAGE", "true");
    }
    for (key, value) in &about.extra {
        put(&mut out, &name(key), value);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_names_and_values() {
        let extra = [("com.example/tier".to_owned(), "a\nb".to_owned()), ("9_x".to_owned(), "y".to_owned())];
        let about = About { id: "f".repeat(64), name: "web".into(), tag: "t".into(), extra: extra.into(), ..About::default() };
        let line = Line { stderr: true, time: "2026-01-01T00:00:00Z".into(), text: "oops".into(), partial: true };
        let bytes = encode(&about, &line);
        let text = String::from_utf8_lossy(&bytes);
        for part in
            ["PRIORITY=3\n", "MESSAGE=oops\n", "CONTAINER_ID=ffffffffffff\n", "CONTAINER_PARTIAL_MESSAGE=true\n", "\nX=y\n"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        let long = [&b"COM_EXAMPLE_TIER\n"[..], &3u64.to_le_bytes(), b"a\nb\n"].concat();
        assert!(bytes.windows(long.len()).any(|w| w == long));
    }
}
