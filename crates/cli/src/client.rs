//! A client of the Engine API over a unix socket: one request a connection.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

/// Longest answer that is read; the largest are backups.
const MAX_ANSWER: usize = 1 << 30;
/// How long a call may take; the longest are those that wait for a container to stop.
const LIMIT: Duration = Duration::from_secs(60);

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
    /// The daemon refused.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The daemon's text.
        message: String,
    },
}

/// A daemon's API.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// The API on a unix socket.
    #[must_use]
    pub fn unix(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Calls with a JSON body, if any, and reads a JSON answer (null when there is none).
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, ClientError> {
        let bytes = body.map(|b| Bytes::from(b.to_string())).unwrap_or_default();
        let kind = if body.is_some() { "application/json" } else { "text/plain" };
        let answer = self.send(method, path, kind, bytes).await?;
        if answer.is_empty() {
            return Ok(Value::Null);
        }
        Ok(serde_json::from_slice(&answer).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&answer).into_owned())))
    }

    /// Sends bytes (an archive) and returns the answer's text.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn upload(&self, path: &str, bytes: Bytes) -> Result<String, ClientError> {
        let answer = self.send("POST", path, "application/x-tar", bytes).await?;
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
        self.send_with(method, path, "application/octet-stream", headers, body).await
    }

    async fn send(&self, method: &str, path: &str, kind: &str, body: Bytes) -> Result<Bytes, ClientError> {
        self.send_with(method, path, kind, &[], body).await
    }

    async fn send_with(
        &self,
        method: &str,
        path: &str,
        kind: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Bytes, ClientError> {
        let fail = |cause: String| ClientError::Connection {
            operation: format!("{method} {path}"),
            socket: self.socket.display().to_string(),
            cause,
        };
        let exchange = async {
            let stream = UnixStream::connect(&self.socket).await.map_err(|e| e.to_string())?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
            let driver = tokio::spawn(connection);
            let method = Method::from_bytes(method.as_bytes()).map_err(|e| e.to_string())?;
            let mut request =
                Request::builder().method(method).uri(path).header(header::HOST, "docker").header(header::CONTENT_TYPE, kind);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let request = request.body(Full::new(body)).map_err(|e| e.to_string())?;
            let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
            let status = response.status().as_u16();
            let bytes = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|e| e.to_string())?.to_bytes();
            driver.abort();
            Ok::<_, String>((status, bytes))
        };
        let (status, bytes) = match tokio::time::timeout(LIMIT, exchange).await {
            Ok(done) => done.map_err(fail)?,
            Err(_) => return Err(fail("no answer within a minute".to_owned())),
        };
        if status < 400 {
            return Ok(bytes);
        }
        let message = serde_json::from_slice::<Value>(&bytes)
            .ok()
            .and_then(|v| v["message"].as_str().map(str::to_owned))
            .unwrap_or_else(|| String::from_utf8_lossy(&bytes).into_owned());
        Err(ClientError::Refused { status, message })
    }
}
