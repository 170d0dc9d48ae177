//! The way to a server.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UdpSocket, UnixDatagram, UnixStream};
use tokio_rustls::client::TlsStream;

use super::About;
use super::aws::{self, Stream};
use super::splunk::{self, Collector};
use super::tls::{self, Tls};

/// How long a connection may take, and a server may take nothing.
const LIMIT: Duration = Duration::from_secs(10);
/// Where the host's own syslog listens, as Docker looks for it.
const LOCAL: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];

/// Whom to send to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// Datagrams to `host:port`.
    Udp(String),
    /// A stream to `host:port`.
    Tcp(String),
    /// The same, with TLS.
    Tls(String, Tls),
    /// A stream to a socket of this host.
    Unix(PathBuf),
    /// Datagrams to a socket of this host.
    Unixgram(PathBuf),
    /// This host's syslog, wherever it listens.
    LocalSyslog,
    /// Splunk's collector.
    Splunk(Box<Collector>),
    /// CloudWatch.
    Aws(Box<Stream>),
}

impl Target {
    /// Reads `proto://address`; a port may be left out.
    pub(super) fn read(text: &str, port: u16, known: &[&str], option: &str) -> Result<Self, String> {
        let bad = |why: &str| format!("invalid value for log option {option}: {text}: {why}");
        let (proto, rest) = text.split_once("://").ok_or_else(|| bad("it should be in the form proto://address"))?;
        if !known.contains(&proto) {
            return Err(bad(&format!("the protocol is none of {}", known.join(", "))));
        }
        if proto.starts_with("unix") {
            let path = PathBuf::from(rest);
            return match (path.is_absolute(), proto) {
                (false, _) => Err(bad("the path of a socket must be absolute")),
                (true, "unix") => Ok(Self::Unix(path)),
                (true, _) => Ok(Self::Unixgram(path)),
            };
        }
        // An address of IPv6 stands in brackets.
        let bare = rest.rsplit_once(']').map_or(rest, |(_, after)| after);
        let whole = match bare.rsplit_once(':') {
            Some((_, n)) if n.parse::<u16>().is_ok_and(|n| n > 0) => rest.to_owned(),
            Some(_) => return Err(bad("the port is no number")),
            None => format!("{rest}:{port}"),
        };
        if whole.starts_with(':') {
            return Err(bad("there is no host"));
        }
        Ok(match proto {
            "udp" => Self::Udp(whole),
            "tcp" => Self::Tcp(whole),
            _ => Self::Tls(whole, Tls::default()),
        })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Udp(a) => write!(f, "udp {a}"),
            Self::Tcp(a) | Self::Tls(a, _) => write!(f, "tcp {a}"),
            Self::Unix(p) => write!(f, "unix {}", p.display()),
            Self::Unixgram(p) => write!(f, "unixgram {}", p.display()),
            Self::Splunk(to) => write!(f, "{to}"),
            Self::Aws(to) => write!(f, "{to}"),
            Self::LocalSyslog => write!(f, "this host's syslog ({})", LOCAL.join(", ")),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(super) enum Wire {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
    Unixgram(UnixDatagram),
    Splunk(Box<splunk::Link>),
    Aws(Box<aws::Link>),
}

async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer within 10 s");
    tokio::time::timeout(LIMIT, work).await.map_err(late)?
}

/// Whether a stream has come to its end, without waiting. Servers say nothing on it that anybody needs.
async fn ended(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    let mut bytes = [0u8; 256];
    std::future::poll_fn(|context| {
        let mut buffer = ReadBuf::new(&mut bytes);
        Poll::Ready(match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
            Poll::Ready(Ok(())) => buffer.filled().is_empty(),
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        })
    })
    .await
}

fn datagrams(path: &Path) -> io::Result<Wire> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(Wire::Unixgram(socket))
}

impl Wire {
    /// Connects, with what was dialled in each error, as Docker says it.
    pub(super) async fn connect(target: &Target, about: &About) -> io::Result<Self> {
        match target {
            // They say themselves whom they dial, and have more than one question to ask.
            Target::Splunk(to) => return Ok(Self::Splunk(Box::new(splunk::Link::connect(to).await?))),
            Target::Aws(to) => return Ok(Self::Aws(Box::new(aws::Link::connect(to, about).await?))),
            _ => {}
        }
        let dial = |e: io::Error| io::Error::new(e.kind(), format!("dial {target}: {e}"));
        let made = async {
            Ok(match target {
                Target::Tcp(address) => Self::Tcp(TcpStream::connect(address).await?),
                Target::Tls(address, tls) => {
                    let stream = TcpStream::connect(address).await?;
                    Self::Tls(Box::new(tls::connect(tls, address, stream).await?))
                }
                Target::Udp(address) => {
                    let found = tokio::net::lookup_host(address).await?.next();
                    let to = found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such host"))?;
                    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).await?;
                    socket.connect(to).await?;
                    Self::Udp(socket)
                }
                Target::Unix(path) => Self::Unix(UnixStream::connect(path).await?),
                Target::Unixgram(path) => datagrams(path)?,
                Target::Splunk(_) | Target::Aws(_) => return Err(io::ErrorKind::Unsupported.into()),
                Target::LocalSyslog => {
                    let mut found = LOCAL.iter().filter_map(|p| datagrams(Path::new(p)).ok());
                    let none = || io::Error::new(io::ErrorKind::NotFound, "nobody listens there");
                    found.next().ok_or_else(none)?
                }
            })
        };
        in_time(made).await.map_err(dial)
    }

    /// Whether the server has closed a stream: what is written then would be lost without an error.
    async fn is_closed(&mut self) -> bool {
        match self {
            Self::Tcp(s) => ended(s).await,
            Self::Tls(s) => ended(s).await,
            Self::Unix(s) => ended(s).await,
            _ => false,
        }
    }

    /// Whether it is known of each message if it was taken. Of a stream nobody knows what came through.
    pub(super) fn counts(&self) -> bool {
        matches!(self, Self::Unixgram(_) | Self::Aws(_))
    }

    /// Sends messages; returns how many are gone for certain, and why no more.
    pub(super) async fn send(&mut self, messages: &[Vec<u8>]) -> (usize, io::Result<()>) {
        if self.is_closed().await {
            return (0, Err(io::Error::new(io::ErrorKind::ConnectionReset, "the server has closed the connection")));
        }
        match self {
            Self::Tcp(stream) => (messages.len(), in_time(stream.write_all(&messages.concat())).await),
            Self::Tls(stream) => {
                let all = async {
                    stream.write_all(&messages.concat()).await?;
                    stream.flush().await
                };
                (messages.len(), in_time(all).await)
            }
            Self::Unix(stream) => (messages.len(), in_time(stream.write_all(&messages.concat())).await),
            Self::Udp(socket) => {
                for m in messages {
                    // A datagram that nobody takes is lost, as any may be.
                    let _ = in_time(socket.send(m)).await;
                }
                (messages.len(), Ok(()))
            }
            Self::Splunk(link) => (messages.len(), link.send(messages).await),
            Self::Aws(link) => link.send(messages).await,
            Self::Unixgram(socket) => {
                for (n, m) in messages.iter().enumerate() {
                    if let Err(e) = in_time(socket.send(m)).await {
                        return (n, Err(e));
                    }
                }
                (messages.len(), Ok(()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_or_refused() {
        let known = ["udp", "tcp", "tcp+tls", "unix", "unixgram"];
        let of = |text: &str| Target::read(text, 514, &known, "syslog-address");
        assert_eq!(of("udp://10.0.0.1"), Ok(Target::Udp("10.0.0.1:514".into())));
        assert_eq!(of("tcp://[fd00::1]:99"), Ok(Target::Tcp("[fd00::1]:99".into())));
        assert_eq!(of("tcp://[fd00::1]"), Ok(Target::Tcp("[fd00::1]:514".into())));
        assert_eq!(of("tcp+tls://h"), Ok(Target::Tls("h:514".into(), Tls::default())));
        assert_eq!(of("unixgram:///dev/log"), Ok(Target::Unixgram("/dev/log".into())));
        for bad in ["10.0.0.1", "udp://", "udp://h:port", "unix://log", "http://h", "tls://h:1"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
