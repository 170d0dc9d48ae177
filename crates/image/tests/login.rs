//! Logging in at a registry that wants a token of another server. The distribution's registry checks passwords itself (`e2e`); this
//! one speaks its documented protocol, so that credentials go where it says, and nowhere else.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use skep_image::{ImageError, ImageStore, RegistryOptions};
use skep_types::host::RegistryAuth;

/// `me:sesame`.
const BASIC: &str = "authorization: basic bWU6c2VzYW1l";

fn answer(mut stream: TcpStream, own: &str, heard: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    while !head.windows(4).any(|w| w == b"\r\n\r\n") {
        match stream.read(&mut chunk) {
            Ok(n @ 1..) => head.extend_from_slice(&chunk[..n]),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let has = |what: &str| head.to_lowercase().contains(&what.to_lowercase());
    heard.lock().unwrap().push(head.lines().next().unwrap_or_default().to_owned());
    let (status, more, body) = if has("get /token") {
        if has(BASIC) { ("200 OK", String::new(), "{\"token\":\"T0\"}") } else { ("401 Unauthorized", String::new(), "{}") }
    } else if has("authorization: bearer T0") {
        ("200 OK", String::new(), "{}")
    } else {
        assert!(!has("authorization: basic"), "the password was shown to the registry itself");
        (
            "401 Unauthorized",
            format!("WWW-Authenticate: Bearer realm=\"http://{own}/token\",service=\"the registry\"\r\n"),
            "{}",
        )
    };
    let text = format!("HTTP/1.1 {status}\r\n{more}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    let _ = stream.write_all(text.as_bytes());
}

#[tokio::test]
async fn credentials_are_tried_where_the_registry_says() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().to_string();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (address, log) = (own.clone(), heard.clone());
    // It ends with the process.
    std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| answer(stream, &address, &log)));
    let dir = std::env::temp_dir().join(format!("skep-tlogin-{}", std::process::id()));
    let store = ImageStore::open(&dir, RegistryOptions::default()).unwrap();
    let auth = |password: &str| RegistryAuth { username: "me".into(), password: password.into() };

    store.login(&own, &auth("sesame")).await.unwrap();
    let asked = heard.lock().unwrap().drain(..).collect::<Vec<String>>();
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert!(asked[1].starts_with("GET /token?service=the") && asked[1].contains("account=me"), "{asked:?}");

    let error = store.login(&format!("http://{own}/v2/"), &auth("simsim")).await.unwrap_err();
    assert!(matches!(error, ImageError::Unauthorized(_)) && error.status() == 401, "{error}");
    assert!(error.to_string().ends_with("unauthorized: incorrect username or password"), "{error}");
    // Nobody there.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let error = store.login(&gone, &auth("sesame")).await.unwrap_err();
    assert!(error.chain().starts_with(&format!("reach registry {gone}: ")), "{}", error.chain());
    drop(store);
    let _ = std::fs::remove_dir_all(&dir);
}
