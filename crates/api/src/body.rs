//! Request bodies: JSON with a limit, archives as streams; streamed answers.

use axum::body::Body;
use axum::extract::FromRequest;
use axum::http::{Request, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use serde_json::Value;
use skep_types::host::Progress;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::Upload;
use crate::error::{Failure, Handled};
use crate::fields::Fields;

/// Longest JSON body: twice the largest object that the swarm stores.
const MAX_JSON: usize = 4 << 20;

/// A JSON object; a missing body is an empty one.
#[derive(Debug)]
pub(crate) struct JsonBody(pub(crate) Fields);

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = Failure;

    async fn from_request(request: Request<Body>, _: &S) -> Handled<Self> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_owned();
        let bytes = axum::body::to_bytes(request.into_body(), MAX_JSON)
            .await
            .map_err(|_| Failure::invalid(format!("request body too large: the limit is {MAX_JSON} bytes")))?;
        if bytes.is_empty() {
            return Fields::of(Value::Null, "").map(Self);
        }
        if kind != "application/json" {
            return Err(Failure::invalid(format!("unsupported Content-Type header ({kind}): must be 'application/json'")));
        }
        let value = serde_json::from_slice(&bytes).map_err(|e| Failure::invalid(format!("invalid JSON: {e}")))?;
        Fields::of(value, "").map(Self)
    }
}

/// A body as it arrives.
pub(crate) fn upload(body: Body) -> Upload {
    let stream = body.into_data_stream().map_err(std::io::Error::other);
    Box::pin(ReadStream { stream: Box::pin(stream), chunk: Bytes::new() })
}

/// A stream of chunks as a reader.
struct ReadStream {
    stream: std::pin::Pin<Box<dyn futures_util::Stream<Item = std::io::Result<Bytes>> + Send>>,
    chunk: Bytes,
}

impl tokio::io::AsyncRead for ReadStream {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        use std::task::{Poll, ready};
        while self.chunk.is_empty() {
            match ready!(self.stream.as_mut().poll_next(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Ok(chunk)) => self.chunk = chunk,
                Some(Err(e)) => return Poll::Ready(Err(e)),
            }
        }
        let n = buf.remaining().min(self.chunk.len());
        let part = self.chunk.split_to(n);
        buf.put_slice(&part);
        Poll::Ready(Ok(()))
    }
}

/// A JSON list, written down row by row: the rows of a long list are never all there as values.
pub(crate) fn rows(rows: impl Iterator<Item = Value>) -> Response {
    let mut out = vec![b'['];
    for (n, row) in rows.enumerate() {
        if n > 0 {
            out.push(b',');
        }
        // A value has only texts as keys, and writing into memory cannot fail.
        let _ = serde_json::to_writer(&mut out, &row);
    }
    out.push(b']');
    ([(header::CONTENT_TYPE, "application/json")], out).into_response()
}

/// A stream of JSON objects, one a line.
pub(crate) fn json_lines(stream: impl futures_util::Stream<Item = Value> + Send + 'static) -> Response {
    let lines = stream.map(|v| Ok::<_, std::convert::Infallible>(Bytes::from(format!("{v}\r\n"))));
    ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(lines)).into_response()
}

/// Steps of a pull, push or load as Docker's clients draw them.
pub(crate) fn progress(receiver: mpsc::Receiver<Progress>) -> Response {
    json_lines(ReceiverStream::new(receiver).map(|p| {
        let mut out = serde_json::Map::new();
        if let Some(error) = p.error {
            out.insert("errorDetail".to_owned(), serde_json::json!({"message": error}));
            out.insert("error".to_owned(), Value::String(error));
            return Value::Object(out);
        }
        if let Some(stream) = p.stream {
            out.insert("stream".to_owned(), Value::String(stream));
            return Value::Object(out);
        }
        out.insert("status".to_owned(), Value::String(p.status));
        if !p.id.is_empty() {
            out.insert("id".to_owned(), Value::String(p.id));
        }
        if let Some((current, total)) = p.bytes {
            out.insert("progressDetail".to_owned(), serde_json::json!({"current": current, "total": total}));
        }
        Value::Object(out)
    }))
}
