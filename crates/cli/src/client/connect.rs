//! Where a daemon is, and how to get there: `unix:///PATH`, `tcp://HOST:PORT` with TLS or without, `ssh://[USER@]HOST[:PORT]`.

use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::Tls;

/// How long making a TCP connection may take; a host that is off gives no answer at all.
const CONNECT: Duration = Duration::from_secs(30);

/// Both directions of a connection.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection in the making. Boxed, since one way may lead through another.
pub type Opening<'a> = Pin<Box<dyn Future<Output = std::io::Result<Box<dyn Io>>> + Send + 'a>>;

/// Where a daemon is.
#[derive(Debug)]
pub enum Endpoint {
    /// A socket of this machine.
    Unix(PathBuf),
    /// A host and port, with TLS if there is any.
    Tcp(String, Option<Tls>),
    /// The container of a task somewhere in the swarm, by way of a manager.
    Task {
        /// The manager.
        manager: Box<super::Client>,
        /// The task's id.
        task: String,
    },
    /// A node's network, to be looked at, by way of a manager.
    Network {
        /// The manager.
        manager: Box<super::Client>,
        /// The node's id.
        node: String,
    },
    /// The arguments for ssh: user and host, port.
    Ssh {
        /// `user@host` or `host`.
        target: String,
        /// The port, if it is not the usual one.
        port: Option<u16>,
    },
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address, _) => write!(f, "tcp://{address}"),
            Self::Task { manager, task } => write!(f, "task {task} by way of {}", manager.host()),
            Self::Network { manager, node } => write!(f, "node {node} by way of {}", manager.host()),
            Self::Ssh { target, port: None } => write!(f, "ssh://{target}"),
            Self::Ssh { target, port: Some(port) } => write!(f, "ssh://{target}:{port}"),
        }
    }
}

impl Endpoint {
    /// Reads what `-H` and `DOCKER_HOST` take. Without a port, TCP means 2375, or 2376 with TLS.
    ///
    /// # Errors
    /// In words, when it is none of the known forms.
    pub fn parse(host: &str, tls: Option<Tls>) -> Result<Self, String> {
        let bad = || format!("unable to parse docker host `{host}`");
        let (scheme, rest) = match host.split_once("://") {
            Some(parts) => parts,
            // As the stock client takes it: a bare HOST or HOST:PORT is TCP, a bare path a socket.
            None if host.starts_with('/') => ("unix", host),
            None if host.is_empty() => return Err(bad()),
            None => ("tcp", host),
        };
        match scheme {
            "unix" => {
                let path = if rest.is_empty() { "/var/run/docker.sock" } else { rest };
                Ok(Self::Unix(PathBuf::from(path)))
            }
            "tcp" | "http" | "https" => {
                let address = rest.split('/').next().unwrap_or_default();
                if address.is_empty() {
                    return Err(bad());
                }
                let bracket = address.rfind(']').map_or(0, |i| i + 1);
                let port = if tls.is_some() { 2376 } else { 2375 };
                let address = if address[bracket..].contains(':') { address.to_owned() } else { format!("{address}:{port}") };
                Ok(Self::Tcp(address, tls))
            }
            "ssh" => {
                let target = rest.trim_end_matches('/');
                let (target, port) = match target.rsplit_once(':') {
                    Some((target, port)) => (target, Some(port.parse().map_err(|_| bad())?)),
                    None => (target, None),
                };
                // A name that begins with a dash would be an option of ssh.
                if target.is_empty() || target.starts_with('-') || target.contains(['/', ' ']) {
                    return Err(format!("invalid SSH URL {host:?}: expected ssh://[USER@]HOST[:PORT]"));
                }
                Ok(Self::Ssh { target: target.to_owned(), port })
            }
            other => Err(format!("{}: unknown scheme {other:?}, expected unix, tcp or ssh", bad())),
        }
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// When nobody is there.
    pub fn connect(&self) -> Opening<'_> {
        Box::pin(async move { self.open().await })
    }

    async fn open(&self) -> std::io::Result<Box<dyn Io>> {
        match self {
            Self::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
            Self::Tcp(address, tls) => {
                let late = |_| std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer within 30 s");
                let stream = tokio::time::timeout(CONNECT, TcpStream::connect(address)).await.map_err(late)??;
                stream.set_nodelay(true)?;
                match tls {
                    None => Ok(Box::new(stream)),
                    Some(tls) => tls.wrap(address, stream).await,
                }
            }
            Self::Ssh { target, port } => ssh(target, *port),
            Self::Network { manager, node } => {
                let path = format!("/skep/v1/nodes/{}/tunnel", super::escape(node));
                Ok(Box::new(manager.hijack(&path, None).await.map_err(std::io::Error::other)?.io))
            }
            Self::Task { manager, task } => {
                let path = format!("/skep/v1/tasks/{}/tunnel", super::escape(task));
                Ok(Box::new(manager.hijack(&path, None).await.map_err(std::io::Error::other)?.io))
            }
        }
    }
}

/// ssh runs what connects its input and output with the daemon there.
fn ssh(target: &str, port: Option<u16>) -> std::io::Result<Box<dyn Io>> {
    let mut command = Command::new("ssh");
    command.args(["-o", "ConnectTimeout=30", "-T"]);
    if let Some(port) = port {
        command.arg("-p").arg(port.to_string());
    }
    if let Some((user, _)) = target.rsplit_once('@') {
        command.arg("-l").arg(user);
    }
    let host = target.rsplit_once('@').map_or(target, |(_, host)| host);
    command.args([
        "--",
        host,
        "if command -v skep >/dev/null; then exec skep system dial-stdio; else exec docker system dial-stdio; fi",
    ]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| std::io::Error::new(e.kind(), format!("run ssh: {e}: ssh:// hosts need the ssh client")))?;
    let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(std::io::Error::other("run ssh: its input and output cannot be had"));
    };
    Ok(Box::new(Piped { _child: child, input, output }))
}

/// A process's input and output as a connection; it ends with the connection.
struct Piped {
    _child: Child,
    input: ChildStdin,
    output: ChildStdout,
}

impl AsyncRead for Piped {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.output).poll_read(cx, buf)
    }
}

impl AsyncWrite for Piped {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.input).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.input).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.input).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::Endpoint;

    #[test]
    fn hosts_are_read() {
        let shown = |h: &str| Endpoint::parse(h, None).map(|e| e.to_string());
        assert_eq!(shown("unix:///run/skep/docker.sock").unwrap(), "unix:///run/skep/docker.sock");
        assert_eq!(shown("tcp://10.0.0.1").unwrap(), "tcp://10.0.0.1:2375");
        assert_eq!(shown("10.0.0.1:99").unwrap(), "tcp://10.0.0.1:99");
        assert_eq!(shown("tcp://[::1]").unwrap(), "tcp://[::1]:2375");
        assert_eq!(shown("ssh://me@host:22").unwrap(), "ssh://me@host:22");
        assert_eq!(shown("host").unwrap(), "tcp://host:2375");
        for bad in ["", "ftp://x", "ssh://", "ssh://-oProxyCommand=x", "tcp://"] {
            assert!(shown(bad).is_err(), "{bad}");
        }
    }
}
