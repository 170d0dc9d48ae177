//! The calculator of the journeys: `GET /sum?a=1&b=2` answers 3, computed once and then found in redis.
//!
//! Listens on port 8080; `REDIS` is the store's `host:port`. The header `Cache` says whether the answer was there already.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// How long the store and the client may be silent.
const LIMIT: Duration = Duration::from_secs(5);
/// Longest line that is read of either.
const MAX_LINE: u64 = 8 << 10;

fn line(stream: &mut impl BufRead) -> std::io::Result<String> {
    let mut text = String::new();
    stream.take(MAX_LINE).read_line(&mut text)?;
    Ok(text.trim_end().to_owned())
}

/// One command to redis; its answer's value, if it has one.
fn ask(words: &[&str]) -> std::io::Result<Option<String>> {
    let store = std::env::var("REDIS").unwrap_or_else(|_| "redis:6379".to_owned());
    let mut stream = TcpStream::connect(&store)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut command = format!("*{}\r\n", words.len());
    for word in words {
        command += &format!("${}\r\n{word}\r\n", word.len());
    }
    stream.write_all(command.as_bytes())?;
    let mut answer = BufReader::new(stream);
    let head = line(&mut answer)?;
    match head.split_at_checked(1) {
        Some(("$", "-1")) => Ok(None),
        Some(("$", _)) => line(&mut answer).map(Some),
        Some(("+", text)) => Ok(Some(text.to_owned())),
        _ => Err(std::io::Error::other(format!("{store} answered {head:?}"))),
    }
}

/// The value of a parameter of the query.
fn parameter(query: &str, name: &str) -> Option<i64> {
    query.split('&').find_map(|p| p.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

/// Status, whether it was found in the store, and the text.
fn answer(target: &str) -> (&'static str, &'static str, String) {
    let numbers = target.strip_prefix("/sum?").and_then(|q| parameter(q, "a").zip(parameter(q, "b")));
    let Some(sum) = numbers.and_then(|(a, b)| a.checked_add(b)) else {
        return ("400 Bad Request", "none", "ask for /sum?a=1&b=2".to_owned());
    };
    let cached = || -> std::io::Result<(&'static str, String)> {
        if let Some(known) = ask(&["GET", target])? {
            return Ok(("hit", known));
        }
        let _ = ask(&["SET", target, &sum.to_string()])?;
        Ok(("miss", sum.to_string()))
    };
    match cached() {
        Ok((cache, text)) => ("200 OK", cache, text),
        Err(e) => ("503 Service Unavailable", "none", format!("no store: {e}")),
    }
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(LIMIT))?;
    let mut request = BufReader::new(stream.try_clone()?);
    let first = line(&mut request)?;
    while !line(&mut request)?.is_empty() {}
    let (status, cache, text) = answer(first.split(' ').nth(1).unwrap_or_default());
    println!("{first} {status} {cache}");
    let length = text.len() + 1;
    write!(stream, "HTTP/1.1 {status}\r\nCache: {cache}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}\n")
}

fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", 8080))?;
    println!("calculator listens on port 8080");
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || {
            if let Err(e) = serve(stream) {
                println!("a client broke off: {e}");
            }
        });
    }
    Ok(())
}
