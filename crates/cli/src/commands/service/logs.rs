//! `service logs`: lines of all tasks, each with where it comes from (`swarm-semantics` 11).

use std::collections::BTreeMap;

use crate::app::{App, Failure};
use crate::client::{Client, ClientError, Stream, escape, query};
use crate::commands::container::output::Buffered;
use crate::commands::system::moment;
use crate::commands::tasks::Names;
use crate::grammar::Matches;
use crate::output::human::short_id;

/// Longest frame of output; daemons send 16 KiB and less, but lines of any length are one.
const MAX_FRAME: usize = 64 << 20;

/// Where lines come from, and how that is shown.
struct Sources<'a> {
    client: &'a Client,
    m: &'a Matches,
    names: BTreeMap<String, String>,
    width: usize,
}

impl Sources<'_> {
    /// `web.1.abcdefghijkl@host`.
    async fn name(&mut self, node: &str, service: &str, task: &str) -> Result<String, Failure> {
        if let Some(known) = self.names.get(task) {
            return Ok(known.clone());
        }
        let found = self.client.call("GET", &format!("/tasks/{}", escape(task)), None).await.unwrap_or_default();
        let stub = serde_json::json!({"ServiceID": service, "NodeID": node});
        let names = if self.m.on("no-resolve") {
            Names::default()
        } else {
            Names::of(self.client, std::slice::from_ref(&stub)).await.unwrap_or_default()
        };
        let slot = found["Slot"].as_u64().unwrap_or(0);
        let mut name = format!("{}.{slot}", names.service(service));
        if !self.m.on("no-task-ids") {
            name += &format!(".{}", if self.m.on("no-trunc") { task } else { short_id(task) });
        }
        name += &format!("@{}", names.node(node));
        self.names.insert(task.to_owned(), name.clone());
        Ok(name)
    }
}

/// A line's attributes, `k=v,k=v` with values escaped as in a URL.
fn details(all: &str) -> BTreeMap<String, String> {
    let plain = |t: &str| {
        let mut bytes = Vec::with_capacity(t.len());
        let mut from = t.bytes();
        while let Some(b) = from.next() {
            if b == b'%' {
                let hex: Vec<u8> = from.by_ref().take(2).collect();
                let made = std::str::from_utf8(&hex).ok().and_then(|h| u8::from_str_radix(h, 16).ok());
                bytes.push(made.unwrap_or(b'?'));
            } else {
                bytes.push(if b == b'+' { b' ' } else { b });
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    all.split(',').filter_map(|p| p.split_once('=')).map(|(k, v)| (plain(k), plain(v))).collect()
}

/// Up to the first space, and what follows it.
fn cut(line: &[u8]) -> (&[u8], &[u8]) {
    let at = line.iter().position(|b| *b == b' ').unwrap_or(line.len());
    (&line[..at], line.get(at + 1..).unwrap_or_default())
}

/// Writes one line with where it comes from. The message's bytes stay as they are.
async fn line(sources: &mut Sources<'_>, text: &[u8], out: &mut Vec<u8>) -> Result<(), Failure> {
    let (stamp, rest) = if sources.m.on("timestamps") { cut(text) } else { (&[][..], text) };
    let (about, message) = cut(rest);
    let mut about = details(&String::from_utf8_lossy(about));
    let mut take = |what: &str| about.remove(&format!("com.docker.swarm.{what}.id")).unwrap_or_default();
    let (node, service, task) = (take("node"), take("service"), take("task"));
    if task.is_empty() {
        out.extend_from_slice(text);
        return Ok(());
    }
    let name = sources.name(&node, &service, &task).await?;
    sources.width = sources.width.max(name.chars().count());
    if !stamp.is_empty() {
        out.extend_from_slice(stamp);
        out.push(b' ');
    }
    out.extend_from_slice(format!("{name:<width$}    | ", width = sources.width).as_bytes());
    // As the stock client does, the space also where there are none.
    if sources.m.on("details") {
        let all: Vec<String> = about.iter().map(|(k, v)| format!("{k}={v}")).collect();
        out.extend_from_slice(format!("{} ", all.join(",")).as_bytes());
    }
    out.extend_from_slice(message);
    Ok(())
}

pub(super) async fn logs(app: &App, m: &Matches) -> Result<u8, Failure> {
    let client = app.client().await?;
    let name = m.arg(0);
    let yes = |on: bool| if on { "1" } else { "" };
    let since = moment("since", m.text_or_empty("since"))?;
    let tail = m.text("tail").unwrap_or("all");
    let pairs = [
        ("stdout", "1"),
        ("stderr", "1"),
        ("follow", yes(m.on("follow"))),
        ("timestamps", yes(m.on("timestamps"))),
        // Without its attributes nobody knows where a line comes from.
        ("details", yes(!m.on("raw") || m.on("details"))),
        ("since", since.as_str()),
        ("tail", tail),
    ];
    let (root, tty) = match client.call("GET", &format!("/services/{}", escape(name)), None).await {
        Ok(service) => ("services", service["Spec"]["TaskTemplate"]["ContainerSpec"]["TTY"] == true),
        Err(ClientError::Refused { status: 404, .. }) => {
            match client.call("GET", &format!("/tasks/{}", escape(name)), None).await {
                Ok(task) => ("tasks", task["Spec"]["ContainerSpec"]["TTY"] == true),
                Err(ClientError::Refused { status: 404, .. }) => {
                    return Err(Failure::new(format!("no such task or service: {name}")));
                }
                Err(e) => return Err(e.into()),
            }
        }
        Err(e) => return Err(e.into()),
    };
    if tty && !m.on("raw") {
        return Err(Failure::new("tty service logs only supported with --raw"));
    }
    let stream = client.open("GET", &query(&format!("/{root}/{}/logs", escape(name)), &pairs), &[]).await?;
    if m.on("raw") {
        return crate::commands::container::output::copy(stream, tty).await;
    }
    let sources = Sources { client, m, names: BTreeMap::new(), width: 0 };
    tokio::select! {
        done = shown(stream, sources) => done,
        _ = tokio::signal::ctrl_c() => Err(Failure::quiet(130)),
    }
}

async fn shown(mut stream: Stream, mut sources: Sources<'_>) -> Result<u8, Failure> {
    let mut out = Buffered::default();
    while let Some(head) = stream.exactly(8).await? {
        let length = usize::try_from(u32::from_be_bytes([head[4], head[5], head[6], head[7]])).unwrap_or(usize::MAX);
        if length > MAX_FRAME {
            return Err(Failure::new("the daemon sent a line of more than 64 MiB"));
        }
        let Some(bytes) = stream.exactly(length).await? else { break };
        // Errors of the log itself come on a stream of their own.
        if head[0] == 3 {
            out.flush()?;
            return Err(Failure::new(format!("Error grabbing logs: {}", String::from_utf8_lossy(&bytes).trim_end())));
        }
        let buffer = out.of(head[0])?;
        for one in bytes.split_inclusive(|b| *b == b'\n') {
            line(&mut sources, one.strip_suffix(b"\n").unwrap_or(one), buffer).await?;
            buffer.push(b'\n');
        }
        out.settle(stream.is_idle())?;
    }
    out.flush()?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_taken_off() {
        let (about, message) = cut(b"com.docker.swarm.node.id=n,a=b%2Cc GET / 200");
        assert_eq!(message, b"GET / 200");
        let about = details(std::str::from_utf8(about).unwrap());
        assert_eq!((about["com.docker.swarm.node.id"].as_str(), about["a"].as_str()), ("n", "b,c"));
        assert_eq!(cut(b"x").1, b"");
        assert_eq!(details("a=%zz")["a"], "?");
    }
}
