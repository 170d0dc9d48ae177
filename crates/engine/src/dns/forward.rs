//! Asking upstream resolvers, in the namespace of the daemon.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// Time for one server: a client's library usually gives up after 5 s, so two servers get their turn.
const PATIENCE: Duration = Duration::from_secs(2);
/// Servers that are asked for one query, as resolv.conf(5) has it.
const SERVERS: usize = 3;

/// The first answer of a server, or `None` if all were silent.
pub(super) async fn ask(query: &[u8], servers: &[SocketAddr], udp: bool) -> Option<Vec<u8>> {
    for server in servers.iter().take(SERVERS) {
        let asked = async { if udp { by_udp(query, *server).await } else { by_tcp(query, *server).await } };
        match timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => tracing::debug!(%server, %error, "upstream resolver failed"),
            Err(_) => tracing::debug!(%server, "upstream resolver is silent"),
        }
    }
    None
}

async fn by_udp(query: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    // a new socket, hence a new random port, for each query: answers are hard to forge
    let local: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buf = vec![0; 65_535];
    loop {
        let len = socket.recv(&mut buf).await?;
        if len >= 12 && buf.get(..2) == query.get(..2) {
            buf.truncate(len);
            return Ok(buf);
        }
    }
}

async fn by_tcp(query: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    write_message(&mut stream, query).await?;
    read_message(&mut stream).await
}

/// Writes a message with its length before it (RFC 1035, 4.2.2).
pub(super) async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let len = u16::try_from(message.len()).map_err(|_| io::Error::other("DNS message above 64 KiB"))?;
    let mut bytes = len.to_be_bytes().to_vec();
    bytes.extend_from_slice(message);
    stream.write_all(&bytes).await
}

/// Reads a message with its length before it.
pub(super) async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let len = stream.read_u16().await?;
    let mut bytes = vec![0; usize::from(len)];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn answers_that_do_not_match_are_passed_over() {
        let server = UdpSocket::bind("127.0.0.1:0").await.expect("binds");
        let addr = server.local_addr().expect("bound");
        let answers = tokio::spawn(async move {
            let mut buf = [0; 512];
            let (len, client) = server.recv_from(&mut buf).await.expect("asked");
            let mut forged = buf[..len].to_vec();
            forged[0] ^= 1;
            server.send_to(&forged, client).await.expect("sent");
            server.send_to(&buf[..len], client).await.expect("sent");
        });
        let query = b"\x12\x34 a query of any kind";
        // nobody answers at the first one
        let closed = UdpSocket::bind("127.0.0.1:0").await.expect("binds").local_addr().expect("bound");
        assert_eq!(ask(query, &[closed, addr], true).await.as_deref(), Some(&query[..]));
        answers.await.expect("served");
    }

    #[tokio::test]
    async fn tcp_is_asked_over_tcp() {
        let server = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let addr = server.local_addr().expect("bound");
        tokio::spawn(async move {
            let (mut stream, _) = server.accept().await.expect("asked");
            let query = read_message(&mut stream).await.expect("read");
            write_message(&mut stream, &query).await.expect("sent");
        });
        assert_eq!(ask(b"question", &[addr], false).await.as_deref(), Some(&b"question"[..]));
        assert_eq!(ask(b"question", &[], false).await, None);
    }
}
