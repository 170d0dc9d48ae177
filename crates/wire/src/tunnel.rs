//! Messages of a tunnel as a connection, for both of its ends.

use std::sync::Arc;

use skep_types::file::Bytes;
use skep_types::tunnel::TunnelMessage;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;

use crate::TunnelStream;

/// Bytes that wait on either side; then whoever writes waits.
const BUFFER: usize = 64 << 10;
/// Bytes of a message.
const CHUNK: usize = 32 << 10;

/// The connection of a tunnel. Each direction ends by itself, as of a TCP connection; a tunnel that breaks ends both. `kept` is
/// dropped when neither side has anything more to say.
#[must_use]
pub fn stream(mut incoming: TunnelStream, out: mpsc::Sender<TunnelMessage>, kept: impl Send + 'static) -> DuplexStream {
    let (near, far) = tokio::io::duplex(BUFFER);
    let (mut read, mut write) = tokio::io::split(far);
    tokio::spawn(async move {
        // Each says whether it came to its end.
        let send = async {
            let mut chunk = vec![0; CHUNK];
            loop {
                let read = tokio::select! {
                    read = read.read(&mut chunk) => read,
                    // Also while there is nothing to say: else a silent process would keep what nobody listens to.
                    () = out.closed() => return false,
                };
                let message = match read {
                    Ok(0) | Err(_) => TunnelMessage::End,
                    Ok(n) => TunnelMessage::Data(Bytes(Arc::from(&chunk[..n]))),
                };
                let last = message == TunnelMessage::End;
                if out.send(message).await.is_err() {
                    return false;
                }
                if last {
                    return true;
                }
            }
        };
        let receive = async {
            let mut heard = true;
            while let Some(message) = incoming.next().await {
                match message {
                    TunnelMessage::Begin { .. } => {}
                    // Who does not listen any more may have said something that is still on its way.
                    TunnelMessage::Data(bytes) => heard = heard && write.write_all(&bytes.0).await.is_ok(),
                    TunnelMessage::End => return write.shutdown().await.is_ok(),
                }
            }
            false
        };
        let whole = {
            tokio::pin!(send, receive);
            tokio::select! {
                whole = &mut send => whole && receive.await,
                whole = &mut receive => whole && send.await,
            }
        };
        // What was said last may still wait for the connection, which goes with `incoming`: the other side ends that when it has
        // heard all.
        drop(out);
        while whole && incoming.next().await.is_some() {}
        drop(kept);
    });
    near
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_stream::wrappers::ReceiverStream;

    /// Both ends of a tunnel.
    fn pair() -> (DuplexStream, DuplexStream) {
        let ((a, from_a), (b, from_b)) = (mpsc::channel(4), mpsc::channel(4));
        (stream(Box::pin(ReceiverStream::new(from_b)), a, ()), stream(Box::pin(ReceiverStream::new(from_a)), b, ()))
    }

    #[tokio::test]
    async fn each_direction_ends_by_itself() {
        let (mut here, mut there) = pair();
        let sent = vec![7u8; 3 * BUFFER];
        let wanted = sent.clone();
        let asking = tokio::spawn(async move {
            here.write_all(&sent).await.expect("taken");
            here.shutdown().await.expect("ended");
            let mut answer = Vec::new();
            here.read_to_end(&mut answer).await.expect("answered");
            answer
        });
        let mut got = Vec::new();
        there.read_to_end(&mut got).await.expect("heard to the end");
        assert_eq!(got, wanted);
        there.write_all(b"well").await.expect("taken");
        drop(there);
        assert_eq!(asking.await.expect("no panic"), b"well");
    }

    #[tokio::test]
    async fn the_last_words_of_one_that_does_not_listen_are_heard() {
        let (mut here, mut there) = pair();
        there.write_all(b"enough").await.expect("taken");
        drop(there);
        // More than waits anywhere on the way.
        let asking = tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(&mut here);
            let mut answer = Vec::new();
            let (_, read) = tokio::join!(write.write_all(&[7; 16 * BUFFER]), read.read_to_end(&mut answer));
            read.expect("an end");
            answer
        });
        assert_eq!(asking.await.expect("no panic"), b"enough");
    }

    #[tokio::test]
    async fn a_tunnel_that_breaks_ends_both() {
        let (out, from_here) = mpsc::channel(4);
        let (to_here, incoming) = mpsc::channel(4);
        let mut here = stream(Box::pin(ReceiverStream::new(incoming)), out, ());
        drop((to_here, from_here));
        let mut answer = Vec::new();
        assert_eq!(here.read_to_end(&mut answer).await.expect("an end"), 0);
    }
    /// As of an exec that has all its input and says nothing: a process that sleeps.
    #[tokio::test]
    async fn a_silent_side_keeps_nothing_of_a_tunnel_that_breaks() {
        let (out, from_here) = mpsc::channel(4);
        let (to_here, incoming) = mpsc::channel(4);
        let (kept, gone) = tokio::sync::oneshot::channel::<()>();
        let mut here = stream(Box::pin(ReceiverStream::new(incoming)), out, kept);
        to_here.send(TunnelMessage::End).await.expect("taken");
        let mut input = Vec::new();
        here.read_to_end(&mut input).await.expect("the end of the input");
        drop((to_here, from_here));
        assert!(gone.await.is_err());
        assert!(here.write_all(b"too late").await.is_err());
    }
}
