//! HTTP and plain TCP as a client outside of the swarm sees them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long one exchange may take.
const LIMIT: Duration = Duration::from_secs(3);

/// Sends bytes and reads until the other side closes or `enough` says so.
///
/// # Errors
/// What the connection came to.
pub fn exchange(address: &str, port: u16, send: &[u8], enough: impl Fn(&str) -> bool) -> Result<String, String> {
    let bracketed = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let target: SocketAddr = format!("{bracketed}:{port}").parse().map_err(|e| format!("{address}:{port}: {e}"))?;
    let fail = |e: std::io::Error| format!("{target}: {e}");
    let mut stream = TcpStream::connect_timeout(&target, LIMIT).map_err(fail)?;
    stream.set_read_timeout(Some(LIMIT)).map_err(fail)?;
    stream.write_all(send).map_err(fail)?;
    let mut all = Vec::new();
    let mut part = [0u8; 4096];
    loop {
        let n = stream.read(&mut part).map_err(fail)?;
        all.extend_from_slice(&part[..n]);
        let text = String::from_utf8_lossy(&all);
        if n == 0 || enough(&text) {
            return Ok(text.into_owned());
        }
    }
}

/// The page at `/`: status 200, body returned.
///
/// # Errors
/// What came instead.
pub fn get(address: &str, port: u16) -> Result<String, String> {
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let answer = exchange(address, port, request.as_bytes(), |_| false)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("{address}:{port} answered {answer:?}"))?;
    if head.starts_with("HTTP/1.1 200") { Ok(body.to_owned()) } else { Err(format!("{address}:{port} answered {head}")) }
}

/// The value of a line `Key: value` of the demo's page.
#[must_use]
pub fn field(page: &str, key: &str) -> String {
    let line = page.lines().find_map(|l| l.strip_prefix(key).and_then(|l| l.strip_prefix(": ")));
    line.unwrap_or_default().to_owned()
}
