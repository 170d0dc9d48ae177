//! HTTP over a unix socket, as little as the Engine API needs: one request a connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longest silence of a daemon that is borne: loading an image on a busy machine.
const SILENCE: Duration = Duration::from_secs(60);

/// A status and a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// Sends one request and reads its answer.
pub(super) fn request(socket: &Path, method: &str, path: &str, kind: &str, body: &[u8]) -> Result<Answer, String> {
    let fail = |e: std::io::Error| format!("{method} {path} on {}: {e}", socket.display());
    let mut stream = UnixStream::connect(socket).map_err(fail)?;
    stream.set_read_timeout(Some(SILENCE)).map_err(fail)?;
    stream.set_write_timeout(Some(SILENCE)).map_err(fail)?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).map_err(fail)?;
    stream.write_all(body).map_err(fail)?;
    read_answer(BufReader::new(stream)).map_err(fail)
}

fn broken(what: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned())
}

fn line(from: &mut impl BufRead) -> std::io::Result<String> {
    let mut text = String::new();
    from.read_line(&mut text)?;
    Ok(text.trim_end().to_owned())
}

fn read_answer(mut from: impl BufRead) -> std::io::Result<Answer> {
    let first = line(&mut from)?;
    let status = first.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| broken("not an HTTP answer"))?;
    let (mut chunked, mut length) = (false, None);
    loop {
        let header = line(&mut from)?.to_ascii_lowercase();
        match header.split_once(':') {
            Some(("transfer-encoding", value)) => chunked = value.trim() == "chunked",
            Some(("content-length", value)) => length = value.trim().parse::<u64>().ok(),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = Vec::new();
    if chunked {
        loop {
            let size = line(&mut from)?;
            let size = size.split(';').next().unwrap_or_default();
            let size = u64::from_str_radix(size, 16).map_err(|_| broken("a chunk without its length"))?;
            if size == 0 {
                break;
            }
            if (&mut from).take(size).read_to_end(&mut body)? as u64 != size {
                return Err(broken("a chunk that breaks off"));
            }
            line(&mut from)?;
        }
    } else if let Some(length) = length {
        from.take(length).read_to_end(&mut body)?;
    } else if status != 204 && status != 304 {
        from.read_to_end(&mut body)?;
    }
    Ok(Answer { status, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Answer {
        read_answer(text.as_bytes()).unwrap()
    }

    #[test]
    fn bodies_end_as_the_head_says() {
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokmore").body, b"ok");
        assert_eq!(read("HTTP/1.1 200 OK\r\n\r\nall").body, b"all");
        let chunked = "HTTP/1.1 201 C\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n";
        assert_eq!(read(chunked), Answer { status: 201, body: b"abc0123456789".to_vec() });
    }

    #[test]
    fn broken_answers_are_errors() {
        assert!(read_answer("hello\r\n".as_bytes()).is_err());
        assert!(read_answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc".as_bytes()).is_err());
    }
}
