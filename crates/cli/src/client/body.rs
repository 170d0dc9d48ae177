//! A request's body that is read while it is sent: archives are larger than memory.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame};
use tokio::io::{AsyncRead, ReadBuf};

/// Piece that is read at once.
const CHUNK: usize = 64 << 10;

struct Reader<R>(R);

impl<R: AsyncRead + Unpin> Body for Reader<R> {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let mut chunk = vec![0u8; CHUNK];
        let mut buffer = ReadBuf::new(&mut chunk);
        let read = ready!(Pin::new(&mut self.0).poll_read(cx, &mut buffer));
        let filled = buffer.filled().len();
        chunk.truncate(filled);
        Poll::Ready(match read {
            Err(e) => Some(Err(e)),
            Ok(()) if filled == 0 => None,
            Ok(()) => Some(Ok(Frame::data(Bytes::from(chunk)))),
        })
    }
}

/// A body of what a reader gives.
pub(super) fn from_reader(reader: impl AsyncRead + Send + Unpin + 'static) -> UnsyncBoxBody<Bytes, std::io::Error> {
    Reader(reader).boxed_unsync()
}
