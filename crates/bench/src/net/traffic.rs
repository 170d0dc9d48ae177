//! The programs on both ends: a server that answers by the first byte, and clients that count what they get through.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// Bytes of one write or read of bulk traffic.
const CHUNK: usize = 128 << 10;
/// Longest that anything waits for the other end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Serves until the process ends: `b` is followed by bytes without end, `p` by single bytes that are sent back.
pub(crate) fn serve(listener: TcpListener) {
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                // An error is the client's going away.
                let _ = answer(stream);
            });
        }
    });
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut kind = [0u8];
    stream.read_exact(&mut kind)?;
    if kind[0] == b'b' {
        let mut sink = vec![0u8; CHUNK];
        while stream.read(&mut sink)? > 0 {}
        return Ok(());
    }
    loop {
        stream.write_all(&kind)?;
        stream.read_exact(&mut kind)?;
    }
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn rate(count: u64, since: Instant) -> f64 {
    count as f64 / since.elapsed().as_secs_f64()
}

/// Bytes a second of one stream.
pub(crate) fn bulk(to: SocketAddr, time: Duration) -> io::Result<f64> {
    let mut stream = connect(to)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(b"b")?;
    let data = vec![0u8; CHUNK];
    let (start, mut sent) = (Instant::now(), 0u64);
    while start.elapsed() < time {
        sent += stream.write(&data)? as u64;
    }
    Ok(rate(sent, start))
}

/// New connections a second, one after the other: opened, one byte there and back, ended.
pub(crate) fn connections(to: SocketAddr, time: Duration) -> io::Result<f64> {
    let (start, mut count) = (Instant::now(), 0u64);
    while start.elapsed() < time {
        let mut stream = connect(to)?;
        stream.write_all(b"p")?;
        let mut byte = [0u8];
        stream.read_exact(&mut byte)?;
        // Reset at its end: thousands of ports in TIME_WAIT would be measured otherwise.
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
        count += 1;
    }
    Ok(rate(count, start))
}

/// Requests and answers of one byte a second, on one connection.
pub(crate) fn requests(to: SocketAddr, time: Duration) -> io::Result<f64> {
    let mut stream = connect(to)?;
    let (start, mut count, mut byte) = (Instant::now(), 0u64, [b'p']);
    while start.elapsed() < time {
        stream.write_all(b"p")?;
        stream.read_exact(&mut byte)?;
        count += 1;
    }
    Ok(rate(count, start))
}

/// Answers of the resolver a second, asked one after the other, and how long each took in microseconds.
pub(crate) fn names(name: &str, time: Duration) -> io::Result<(f64, Vec<u64>)> {
    let mut query = vec![0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).unwrap_or(63));
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1]);
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect("127.0.0.11:53")?;
    let (start, mut took, mut buf) = (Instant::now(), Vec::new(), [0u8; 2048]);
    while start.elapsed() < time {
        let asked = Instant::now();
        socket.send(&query)?;
        let len = socket.recv(&mut buf)?;
        if len < 12 || buf[3] & 0x0f != 0 || buf[7] == 0 {
            return Err(io::Error::other(format!("the resolver knows no {name}")));
        }
        took.push(u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    let per_second = rate(took.len() as u64, start);
    took.sort_unstable();
    Ok((per_second, took))
}
