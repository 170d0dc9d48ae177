//! A client of the Engine API: over a unix socket, TCP, TLS or ssh. Knows HTTP and nothing of what is asked.
//!
//! Answers that are read whole are bounded; streams and connections that become raw ones are passed on piece by piece.

mod body;
pub mod connect;
pub mod stream;
mod tls;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;

pub use connect::Endpoint;
pub use stream::{Raw, Stream};
pub use tls::Tls;

/// Longest answer that is read; the largest are backups.
const MAX_ANSWER: usize = 1 << 30;
/// How long a call may take; the longest are those that wait for a container to stop.
const LIMIT: Duration = Duration::from_secs(60);
/// How often a change is sent when the swarm itself notes something about the object meanwhile: it writes a few states, each once.
pub const MOST_TRIES: u32 = 5;

type Sender = SendRequest<UnsyncBoxBody<Bytes, std::io::Error>>;

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers on the socket, or the connection broke.
    #[error("{operation} on {socket}: {cause}")]
    Connection {
        /// Method and path.
        operation: String,
        /// The socket.
        socket: String,
        /// Why.
        cause: String,
    },
    /// Nobody could be reached.
    #[error("{}", unreachable(socket, cause, *denied))]
    Unreachable {
        /// The socket.
        socket: String,
        /// Why.
        cause: String,
        /// Whether that is for want of permission.
        denied: bool,
    },
    /// The daemon refused.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The daemon's text.
        message: String,
    },
}

fn unreachable(socket: &str, cause: &str, denied: bool) -> String {
    if denied {
        return format!("permission denied while trying to connect to the Docker daemon socket at {socket}: {cause}");
    }
    // What the stock client says, and users search for; ssh and TLS fail for reasons that must be told.
    let text = format!("Cannot connect to the Docker daemon at {socket}. Is the docker daemon running?");
    if socket.starts_with("unix://") { text } else { format!("{text} ({cause})") }
}

/// A daemon's API.
#[derive(Clone)]
pub struct Client {
    endpoint: Arc<Endpoint>,
    /// What stands before every path, such as `/v1.50`.
    prefix: String,
    limit: Option<Duration>,
    headers: Vec<(String, String)>,
    /// A connection that waits for the next request, if connections are kept.
    idle: Option<Arc<Mutex<Option<Sender>>>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("endpoint", &self.endpoint.to_string())
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// What is sent with a request.
struct Sent<'a> {
    method: &'a str,
    path: &'a str,
    kind: &'a str,
    headers: &'a [(&'a str, &'a str)],
}

impl Client {
    /// The API on a unix socket: a connection for each call, which ends after a minute.
    #[must_use]
    pub fn unix(socket: &Path) -> Self {
        Self {
            endpoint: Arc::new(Endpoint::Unix(socket.to_owned())),
            prefix: String::new(),
            limit: Some(LIMIT),
            headers: Vec::new(),
            idle: None,
        }
    }

    /// The API somewhere, for commands: calls take as long as they take, and one connection serves them one after the other.
    #[must_use]
    pub fn new(endpoint: Endpoint, headers: Vec<(String, String)>) -> Self {
        let idle = Some(Arc::new(Mutex::new(None)));
        Self { endpoint: Arc::new(endpoint), prefix: String::new(), limit: None, headers, idle }
    }

    /// The same, in a version of the API: `1.50`.
    #[must_use]
    pub fn at_version(&self, version: &str) -> Self {
        Self { prefix: format!("/v{version}"), ..self.clone() }
    }

    /// Where the API is, as a URL.
    #[must_use]
    pub fn host(&self) -> String {
        self.endpoint.to_string()
    }

    /// Calls with a JSON body, if any, and reads a JSON answer (null when there is none).
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, ClientError> {
        self.call_with(method, path, &[], body).await
    }

    /// The same with headers of the call's own.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn call_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value, ClientError> {
        let bytes = body.map(|b| Bytes::from(b.to_string())).unwrap_or_default();
        let kind = if body.is_some() { "application/json" } else { "text/plain" };
        let answer = self.whole(Sent { method, path, kind, headers }, bytes).await?;
        if answer.is_empty() {
            return Ok(Value::Null);
        }
        Ok(serde_json::from_slice(&answer).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&answer).into_owned())))
    }

    /// Asks, and returns the answer's text as it is.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn text(&self, path: &str) -> Result<String, ClientError> {
        let answer = self.whole(Sent { method: "GET", path, kind: "text/plain", headers: &[] }, Bytes::new()).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Sends bytes (an archive) and returns the answer's text.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn upload(&self, path: &str, bytes: Bytes) -> Result<String, ClientError> {
        let answer = self.whole(Sent { method: "POST", path, kind: "application/x-tar", headers: &[] }, bytes).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Calls with bytes and headers of its own, and returns the answer's bytes.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn exchange(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Bytes, ClientError> {
        self.whole(Sent { method, path, kind: "application/octet-stream", headers }, body).await
    }

    /// Calls, and returns the answer to be read piece by piece.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn open(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Result<Stream, ClientError> {
        let response = self.request(Sent { method, path, kind: "text/plain", headers }, full(Bytes::new())).await?.0;
        Ok(Stream::new(response, self.failure(method, path)))
    }

    /// Sends what a reader gives, and returns the answer to be read piece by piece.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn send_from(
        &self,
        path: &str,
        reader: impl tokio::io::AsyncRead + Send + Unpin + 'static,
    ) -> Result<Stream, ClientError> {
        let sent = Sent { method: "POST", path, kind: "application/x-tar", headers: &[] };
        let response = self.request(sent, body::from_reader(reader)).await?.0;
        Ok(Stream::new(response, self.failure("POST", path)))
    }

    /// Sends what a reader gives, and reads the answer, which says nothing.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn upload_from(
        &self,
        method: &str,
        path: &str,
        reader: impl tokio::io::AsyncRead + Send + Unpin + 'static,
    ) -> Result<(), ClientError> {
        let sent = Sent { method, path, kind: "application/x-tar", headers: &[] };
        let (response, _) = self.request(sent, body::from_reader(reader)).await?;
        let read = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        read.map(drop).map_err(|e| self.failure(method, path).because(&e.to_string()))
    }

    /// Calls, and returns one header of the answer.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn header(&self, method: &str, path: &str, name: &str) -> Result<Option<String>, ClientError> {
        let sent = Sent { method, path, kind: "text/plain", headers: &[] };
        let (response, _) = self.request(sent, full(Bytes::new())).await?;
        Ok(response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned))
    }

    /// Turns a connection into a raw one: attach and exec.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn hijack(&self, path: &str, body: Option<&Value>) -> Result<Raw, ClientError> {
        let bytes = body.map(|b| Bytes::from(b.to_string())).unwrap_or_default();
        let kind = if body.is_some() { "application/json" } else { "text/plain" };
        let headers = [("Connection", "Upgrade"), ("Upgrade", "tcp")];
        let sent = Sent { method: "POST", path, kind, headers: &headers };
        let (response, _) = self.request(sent, full(bytes)).await?;
        let multiplexed = response
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|t| t.to_str().ok())
            .is_some_and(|t| t == "application/vnd.docker.multiplexed-stream");
        let fail = self.failure("POST", path);
        let upgraded = hyper::upgrade::on(response).await.map_err(|e| fail.because(&e.to_string()))?;
        Ok(Raw { io: TokioIo::new(upgraded), multiplexed })
    }

    /// A raw connection to the daemon, for `system dial-stdio`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn dial(&self) -> Result<Box<dyn connect::Io>, ClientError> {
        self.endpoint.connect().await.map_err(|e| self.unreachable(&e))
    }

    /// The newest version of the API that the daemon speaks; empty if it does not say.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ping(&self) -> Result<String, ClientError> {
        let (response, sender) =
            self.request(Sent { method: "GET", path: "/_ping", kind: "text/plain", headers: &[] }, full(Bytes::new())).await?;
        let version = response.headers().get("Api-Version").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let read = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        read.map_err(|e| self.failure("GET", "/_ping").because(&e.to_string()))?;
        self.keep(sender);
        Ok(version)
    }

    /// Keeps a connection for the next call.
    fn keep(&self, sender: Sender) {
        if let Some(idle) = &self.idle
            && let Ok(mut idle) = idle.lock()
        {
            *idle = Some(sender);
        }
    }

    fn unreachable(&self, e: &std::io::Error) -> ClientError {
        let denied = e.kind() == std::io::ErrorKind::PermissionDenied;
        ClientError::Unreachable { socket: self.endpoint.to_string(), cause: e.to_string(), denied }
    }

    fn failure(&self, method: &str, path: &str) -> stream::Source {
        stream::Source { operation: format!("{method} {path}").trim().to_owned(), socket: self.endpoint.to_string() }
    }

    async fn sender(&self) -> Result<Sender, ClientError> {
        let kept = self.idle.as_ref().and_then(|i| i.lock().ok().and_then(|mut i| i.take()));
        if let Some(mut sender) = kept
            && sender.ready().await.is_ok()
        {
            return Ok(sender);
        }
        let stream = self.endpoint.connect().await.map_err(|e| self.unreachable(&e))?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| self.failure("connect", "").because(&e.to_string()))?;
        // It ends by itself when the sender and the answer are gone.
        tokio::spawn(connection.with_upgrades());
        Ok(sender)
    }

    /// Sends a request; an answer that refuses is an error.
    async fn request(
        &self,
        sent: Sent<'_>,
        body: UnsyncBoxBody<Bytes, std::io::Error>,
    ) -> Result<(Response<Incoming>, Sender), ClientError> {
        let source = self.failure(sent.method, sent.path);
        let fail = |cause: String| source.because(&cause);
        let mut sender = self.sender().await?;
        let method = Method::from_bytes(sent.method.as_bytes()).map_err(|e| fail(e.to_string()))?;
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{}", self.prefix, sent.path))
            .header(header::HOST, "docker")
            .header(header::CONTENT_TYPE, sent.kind);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        for (name, value) in sent.headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).map_err(|e| fail(e.to_string()))?;
        let response = sender.send_request(request).await.map_err(|e| fail(chain(&e)))?;
        let status = response.status().as_u16();
        if status < 400 {
            return Ok((response, sender));
        }
        let bytes = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|e| fail(e.to_string()))?.to_bytes();
        let message = serde_json::from_slice::<Value>(&bytes)
            .ok()
            .and_then(|v| v["message"].as_str().map(str::to_owned))
            .unwrap_or_else(|| String::from_utf8_lossy(&bytes).into_owned());
        Err(ClientError::Refused { status, message })
    }

    async fn whole(&self, sent: Sent<'_>, body: Bytes) -> Result<Bytes, ClientError> {
        let source = self.failure(sent.method, sent.path);
        let exchange = async {
            let (response, sender) = self.request(sent, full(body)).await?;
            let read = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            let bytes = read.map_err(|e| source.because(&e.to_string()))?.to_bytes();
            self.keep(sender);
            Ok(bytes)
        };
        match self.limit {
            None => exchange.await,
            Some(limit) => match tokio::time::timeout(limit, exchange).await {
                Ok(done) => done,
                Err(_) => Err(source.because("no answer within a minute")),
            },
        }
    }
}

fn full(bytes: Bytes) -> UnsyncBoxBody<Bytes, std::io::Error> {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        text += &format!(": {e}");
        cause = e.source();
    }
    text
}

/// For a path or a query: everything but letters, digits and `.-_~` is escaped.
#[must_use]
pub fn escape(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'~');
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// A path with a query of those pairs whose value is not empty.
#[must_use]
pub fn query(path: &str, pairs: &[(&str, &str)]) -> String {
    let given: Vec<String> = pairs.iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| format!("{k}={}", escape(v))).collect();
    if given.is_empty() { path.to_owned() } else { format!("{path}?{}", given.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_escaped() {
        assert_eq!(
            query("/tasks", &[("filters", "{\"a\":[\"b c\"]}"), ("x", "")]),
            "/tasks?filters=%7B%22a%22%3A%5B%22b%20c%22%5D%7D"
        );
        assert_eq!(query("/x", &[]), "/x");
        assert_eq!(escape("10.0.0.1:2377"), "10.0.0.1%3A2377");
    }
}
