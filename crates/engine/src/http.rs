//! Requests to a server that is reached by TCP, TLS or a socket of this host: one connection, kept while the server keeps it. Must never
//! wait for longer than it was told.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::HOST;
use hyper::http::HeaderValue;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

use crate::logdriver::tls::{self, Tls};

/// How long a connection may take, and an answer unless its caller says otherwise.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);
/// Most bytes of an answer; the longest that means something is a secret, or the list of a plugin's volumes.
const MOST_ANSWER: usize = 8 << 20;

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    tls: bool,
    host: String,
    port: u16,
    /// Begins with a slash.
    pub(crate) path: String,
}

impl Url {
    /// Reads `http://host[:port][/path]` or the same with https.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not of the form https://host[:port]");
        let (tls, rest) = match text.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            _ => return Err(bad()),
        };
        let (authority, path) = rest.split_once('/').map_or((rest, ""), |(a, p)| (a, p));
        // An address of IPv6 stands in brackets.
        let bare = authority.rsplit_once(']').map_or(authority, |(_, after)| after);
        let (host, port) = match bare.rsplit_once(':') {
            Some((_, port)) => {
                let host = &authority[..authority.len() - port.len() - 1];
                (host, port.parse().ok().filter(|p| *p > 0).ok_or_else(bad)?)
            }
            None => (authority, if tls { 443 } else { 80 }),
        };
        let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '@' | '?' | '#');
        if host.is_empty() || rest.contains(odd) {
            return Err(bad());
        }
        Ok(Self { tls, host: host.to_owned(), port, path: format!("/{path}") })
    }

    /// As it stands in the header `Host`.
    pub(crate) fn authority(&self) -> String {
        if self.port == (if self.tls { 443 } else { 80 }) { self.host.clone() } else { self.address() }
    }

    fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}{}", if self.tls { "https" } else { "http" }, self.authority(), self.path)
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Answer {
    /// For people: the status and the beginning of what was said.
    pub(crate) fn words(&self) -> String {
        let said: String = String::from_utf8_lossy(&self.body).chars().take(300).collect();
        format!("{} {}", self.status, said.trim())
    }
}

/// How a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Way {
    Tcp(Url, Tls),
    Unix(PathBuf),
}

/// A way to a server.
#[derive(Debug)]
pub(crate) struct Client {
    way: Way,
    limit: Duration,
    connection: Option<Connection>,
}

async fn in_time<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", limit.as_secs()));
    tokio::time::timeout(limit, work).await.map_err(late)?
}

/// A connection, and who drives it: ended when dropped, whatever the server does.
type Connection = (SendRequest<Full<Bytes>>, JoinSet<()>);

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> io::Result<Connection> {
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let mut driver = JoinSet::new();
    // Whoever waits for an answer learns of its end.
    driver.spawn(async move { drop(connection.await) });
    Ok((sender, driver))
}

impl Client {
    /// To a server of the network.
    pub(crate) fn new(url: Url, tls: Tls) -> Self {
        Self { way: Way::Tcp(url, tls), limit: LIMIT, connection: None }
    }

    /// To a socket of this host.
    pub(crate) fn unix(path: PathBuf) -> Self {
        Self { way: Way::Unix(path), limit: LIMIT, connection: None }
    }

    /// The same with another limit for answers.
    pub(crate) fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    async fn connect(&self) -> io::Result<Connection> {
        let work = async {
            match &self.way {
                Way::Unix(path) => speak(UnixStream::connect(path).await?).await,
                Way::Tcp(url, tls) => {
                    let stream = TcpStream::connect(url.address()).await?;
                    if url.tls { speak(tls::connect(tls, &url.address(), stream).await?).await } else { speak(stream).await }
                }
            }
        };
        let what = || match &self.way {
            Way::Tcp(url, _) => format!("tcp {}", url.address()),
            Way::Unix(path) => format!("unix {}", path.display()),
        };
        in_time(LIMIT, work).await.map_err(|e| io::Error::new(e.kind(), format!("dial {}: {e}", what())))
    }

    /// Sends a request whose address is a path, and waits for the whole answer.
    pub(crate) async fn ask(&mut self, mut request: Request<Full<Bytes>>) -> io::Result<Answer> {
        let host = match &self.way {
            Way::Tcp(url, _) => HeaderValue::try_from(url.authority()).map_err(io::Error::other)?,
            Way::Unix(_) => HeaderValue::from_static("localhost"),
        };
        request.headers_mut().insert(HOST, host);
        let kept = match self.connection.take() {
            // One that the server has closed meanwhile is no fault.
            Some(mut kept) => kept.0.ready().await.is_ok().then_some(kept),
            None => None,
        };
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let answer = in_time(self.limit, async {
            let answer = connection.0.send_request(request).await.map_err(io::Error::other)?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MOST_ANSWER).collect().await.map_err(io::Error::other)?.to_bytes();
            Ok(Answer { status, body })
        })
        .await?;
        self.connection = Some(connection);
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_or_refused() {
        let of = |text: &str| Url::read(text).map(|u| (u.to_string(), u.address()));
        let good = |text: &str, shown: &str, address: &str| assert_eq!(of(text), Ok((shown.to_owned(), address.to_owned())));
        good("https://splunk:8088", "https://splunk:8088/", "splunk:8088");
        good("http://10.0.0.1", "http://10.0.0.1/", "10.0.0.1:80");
        good("https://logs.example.com:443/a/b", "https://logs.example.com/a/b", "logs.example.com:443");
        good("http://[fd00::1]:8080", "http://[fd00::1]:8080/", "[fd00::1]:8080");
        for bad in
            ["splunk:8088", "ftp://x", "https://", "https://:1", "http://h:0", "http://h:x", "http://u@h", "http://h/?a=b"]
        {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
