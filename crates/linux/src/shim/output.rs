//! From a process's pipes to its log and to the attached clients.

use std::time::Duration;

use skep_engine::shim::FrameKind;

use super::client::{Client, Role};
use super::log::Log;
use super::session::Session;

/// How long output is still read after a process ended while somebody else (a child of an exec) holds its pipe open.
pub(crate) const LINGER: Duration = Duration::from_millis(200);

/// Whether a client that streams this session is so far behind that its output must wait.
pub(crate) fn blocked(session: &Session, clients: &[Client]) -> bool {
    clients.iter().any(|c| c.is_full() && !c.dead && streams(c, session))
}

fn streams(client: &Client, session: &Session) -> bool {
    matches!(&client.role, Role::Attached { exec, .. } if *exec == session.exec)
}

/// Reads one descriptor of a session once; returns whether there may be more.
pub(crate) fn pump(session: &mut Session, stderr: bool, clients: &mut [Client], log: Option<&mut Log>) -> bool {
    let mut chunk = [0u8; 32 << 10];
    let slot = if stderr { &mut session.streams.stderr } else { &mut session.streams.stdout };
    let Some(fd) = slot else { return false };
    match rustix::io::read(&*fd, &mut chunk) {
        Ok(0) => {
            *slot = None;
            false
        }
        Ok(n) => {
            let kind = if stderr { FrameKind::Stderr } else { FrameKind::Stdout };
            for client in clients.iter_mut() {
                let wanted = matches!(&client.role, Role::Attached { exec, stdout, stderr: e, .. }
                    if *exec == session.exec && if stderr { *e } else { *stdout });
                if wanted {
                    client.send(kind, &chunk[..n]);
                }
            }
            if let Some(log) = log {
                log.write(stderr, &chunk[..n]);
            }
            true
        }
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => false,
        // A terminal whose other side is closed reads as EIO.
        Err(_) => {
            *slot = None;
            false
        }
    }
}

/// Whether a session's process ended and its output was read.
pub(crate) fn is_over(session: &Session) -> bool {
    let Some((_, at)) = session.exited else { return false };
    (session.streams.stdout.is_none() && session.streams.stderr.is_none()) || at.elapsed() > LINGER
}
