//! A client of served pages that can choose its source port, as a test of who is seen as the client needs it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_reuseaddr, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

/// How a page is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    /// Longest silence that is borne, for the connection too.
    pub timeout: Duration,
    /// Source port; any if absent.
    pub source_port: Option<u16>,
}

impl Default for Client {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(3), source_port: None }
    }
}

/// A page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// HTTP status.
    pub status: u16,
    /// Header lines.
    pub head: String,
    /// Body.
    pub body: String,
}

impl Client {
    /// Gets `http://ADDRESS:PORT/PATH`.
    ///
    /// # Errors
    /// What the connection came to.
    pub fn get(&self, url: &str) -> Result<Page, String> {
        let (target, path) = parse(url)?;
        let fail = |e: std::io::Error| format!("GET {url}: {e}");
        let mut stream = self.connect(target).map_err(fail)?;
        stream.set_read_timeout(Some(self.timeout)).map_err(fail)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n").map_err(fail)?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).map_err(fail)?;
        let text = String::from_utf8_lossy(&bytes);
        let odd = || format!("GET {url}: not an HTTP answer: {text:?}");
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(odd)?;
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(odd)?;
        Ok(Page { status, head: head.to_owned(), body: body.to_owned() })
    }

    fn connect(&self, target: SocketAddrV4) -> std::io::Result<TcpStream> {
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // The kernel bounds connect by the time that sending may take.
        set_socket_timeout(&socket, Timeout::Send, Some(self.timeout))?;
        if let Some(port) = self.source_port {
            set_socket_reuseaddr(&socket, true)?;
            bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))?;
        }
        connect(&socket, &SocketAddr::V4(target))?;
        Ok(TcpStream::from(socket))
    }
}

/// Gets a page with the usual client; its body if the status is 200.
///
/// # Errors
/// What came instead.
pub fn get(url: &str) -> Result<String, String> {
    let page = Client::default().get(url)?;
    if page.status == 200 { Ok(page.body) } else { Err(format!("GET {url}: status {}: {}", page.status, page.body.trim())) }
}

fn parse(url: &str) -> Result<(SocketAddrV4, &str), String> {
    let odd = || format!("{url}: not of the form http://1.2.3.4:80/path");
    let rest = url.strip_prefix("http://").ok_or_else(odd)?;
    let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let target = host.parse().or_else(|_| host.parse().map(|ip| SocketAddrV4::new(ip, 80))).map_err(|_| odd())?;
    Ok((target, path))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Answers one request with its own first line and the client's port.
    fn serve(answer: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, peer) = listener.accept().unwrap();
            // The whole head: a server that closes with bytes unread resets the connection.
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut part = [0; 1024];
                let n = stream.read(&mut part).unwrap();
                assert_ne!(n, 0, "the client closed before its request ended");
                request.extend_from_slice(&part[..n]);
            }
            let line = String::from_utf8_lossy(&request).lines().next().unwrap_or_default().to_owned();
            write!(stream, "{answer}\r\n\r\n{line} from {}", peer.port()).unwrap();
        });
        port
    }

    #[test]
    fn a_page_comes_back() {
        let port = serve("HTTP/1.1 200 OK");
        assert!(get(&format!("http://127.0.0.1:{port}/x?y")).unwrap().starts_with("GET /x?y HTTP/1.1 from "));
        let port = serve("HTTP/1.1 503 No");
        assert!(get(&format!("http://127.0.0.1:{port}")).unwrap_err().contains("status 503"));
    }

    #[test]
    fn the_source_port_is_kept() {
        // A port that was free a moment ago.
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let port = serve("HTTP/1.1 200 OK");
        let client = Client { source_port: Some(free), ..Client::default() };
        let page = client.get(&format!("http://127.0.0.1:{port}/")).unwrap();
        assert!(page.body.ends_with(&format!("from {free}")), "{page:?}");
    }

    #[test]
    fn silence_and_refusal_are_errors() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = Client { timeout: Duration::from_millis(50), ..Client::default() };
        assert!(client.get(&format!("http://127.0.0.1:{port}/")).is_err());
        drop(listener);
        assert!(client.get(&format!("http://127.0.0.1:{port}/")).is_err());
        assert!(client.get("https://example/").is_err());
    }
}
