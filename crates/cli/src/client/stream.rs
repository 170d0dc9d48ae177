//! Answers that are read piece by piece, and connections that have become raw.

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;
use hyper::header;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::Value;

use super::ClientError;

/// Longest line of a stream of JSON: an event or a line of progress; the longest carry every label of an object.
const MAX_LINE: usize = 16 << 20;

/// What was asked, for errors.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) operation: String,
    pub(super) socket: String,
}

impl Source {
    pub(super) fn because(&self, cause: &str) -> ClientError {
        ClientError::Connection { operation: self.operation.clone(), socket: self.socket.clone(), cause: cause.to_owned() }
    }
}

/// A raw connection to a process in a container.
#[derive(Debug)]
pub struct Raw {
    /// Both directions; shutting it down tells that there is no more input.
    pub io: TokioIo<Upgraded>,
    /// Whether output comes in frames, as without a terminal.
    pub multiplexed: bool,
}

/// An answer in pieces.
#[derive(Debug)]
pub struct Stream {
    body: Incoming,
    headers: hyper::HeaderMap,
    source: Source,
    waiting: BytesMut,
    /// Whether the answer says that it comes in frames; `None` if it does not say (API before 1.42).
    pub multiplexed: Option<bool>,
}

impl Stream {
    pub(super) fn new(response: Response<Incoming>, source: Source) -> Self {
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|t| t.to_str().ok());
        let multiplexed = match kind {
            Some("application/vnd.docker.multiplexed-stream") => Some(true),
            Some("application/vnd.docker.raw-stream") => Some(false),
            _ => None,
        };
        let headers = response.headers().clone();
        Self { body: response.into_body(), headers, source, waiting: BytesMut::new(), multiplexed }
    }

    /// A header of the answer.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned)
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        if !self.waiting.is_empty() {
            return Ok(Some(self.waiting.split().freeze()));
        }
        self.fetch().await
    }

    /// Whether nothing more has come yet: the time to show what there is.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    async fn fetch(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|e| self.source.because(&e.to_string()))?;
            if let Ok(data) = frame.into_data()
                && !data.is_empty()
            {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// Exactly so many bytes; `None` if the stream ends before.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn exactly(&mut self, n: usize) -> Result<Option<Bytes>, ClientError> {
        while self.waiting.len() < n {
            match self.fetch().await? {
                Some(data) => self.waiting.extend_from_slice(&data),
                None => return Ok(None),
            }
        }
        Ok(Some(self.waiting.split_to(n).freeze()))
    }

    /// The next value of a stream of JSON values, one after the other; `None` at the end.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is no JSON.
    pub async fn json(&mut self) -> Result<Option<Value>, ClientError> {
        loop {
            let mut values = serde_json::Deserializer::from_slice(&self.waiting).into_iter::<Value>();
            match values.next() {
                Some(Ok(value)) => {
                    let used = values.byte_offset();
                    self.waiting.advance(used);
                    return Ok(Some(value));
                }
                Some(Err(e)) if !e.is_eof() => return Err(self.source.because(&format!("the answer is no JSON: {e}"))),
                _ => {}
            }
            if self.waiting.len() > MAX_LINE {
                return Err(self.source.because("a line of the answer is too long"));
            }
            match self.fetch().await? {
                Some(data) => self.waiting.extend_from_slice(&data),
                None => return Ok(None),
            }
        }
    }
}
