//! Splunk and CloudWatch, with a server of the test that refuses, goes away and comes back.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use flate2::read::GzDecoder;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::settings::Remote;
use super::ship::tests::{Log, remote, soon};
use super::ship::{Shipper, Shippers};
use super::wire::Target;

/// Requests that nobody has looked at yet; a test makes a handful.
const REQUESTS: usize = 64;

/// A request as it came, and what it is answered with.
struct Heard {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Heard {
    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }
}

/// A server; gone with its connections when dropped.
struct Server {
    address: SocketAddr,
    heard: mpsc::Receiver<Heard>,
    /// What is answered next; 200 and nothing when there is nothing left.
    answers: Arc<Mutex<VecDeque<(u16, String)>>>,
    _work: JoinSet<()>,
}

impl Server {
    async fn start(at: Option<SocketAddr>) -> Self {
        let bound = async {
            loop {
                match TcpListener::bind(at.unwrap_or(([127, 0, 0, 1], 0).into())).await {
                    Ok(listener) => return listener,
                    // The one that was there is still going.
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        let listener = soon(bound).await;
        let address = listener.local_addr().expect("address");
        let (sender, heard) = mpsc::channel(REQUESTS);
        let answers = Arc::new(Mutex::new(VecDeque::new()));
        let mut work = JoinSet::new();
        let shared = Arc::clone(&answers);
        work.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (sender, answers) = (sender.clone(), Arc::clone(&shared));
                let serve = move |request| answer(request, sender.clone(), Arc::clone(&answers));
                connections.spawn(async move {
                    // A client that breaks off is no fault.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(serve)).await;
                });
            }
        });
        Self { address, heard, answers, _work: work }
    }

    fn will_say(&self, status: u16, body: &Value) {
        crate::lock(&self.answers).push_back((status, body.to_string()));
    }

    async fn next(&mut self) -> Heard {
        soon(self.heard.recv()).await.expect("a request")
    }
}

async fn answer(
    request: Request<Incoming>,
    heard: mpsc::Sender<Heard>,
    answers: Arc<Mutex<VecDeque<(u16, String)>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|b| b.to_bytes().to_vec()).unwrap_or_default();
    let headers = head.headers.iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap_or_default().to_owned())).collect();
    let _ = heard.send(Heard { method: head.method.to_string(), path: head.uri.to_string(), headers, body }).await;
    let (status, body) = crate::lock(&answers).pop_front().unwrap_or((200, String::new()));
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status.try_into().expect("a status");
    Ok(response)
}

/// The lines of the events in a body.
fn lines(body: &[u8]) -> Vec<String> {
    let events = serde_json::Deserializer::from_slice(body).into_iter::<Value>();
    events.map(|e| e.expect("JSON")["event"]["line"].as_str().expect("a line").to_owned()).collect()
}

#[tokio::test]
async fn splunk_gets_each_record_once_whatever_its_collector_says() {
    let log = Log::new("splunk");
    let mut server = Server::start(None).await;
    let address = server.address;
    let url = format!("http://{address}");
    let to = || remote("splunk", &[("splunk-url", &url), ("splunk-token", "T0K"), ("splunk-gzip", "true")]);
    log.write(&["one"]);
    server.will_say(403, &json!({"text": "Token disabled", "code": 1}));
    let refused = Shipper::open(to(), Log::about()).await.expect_err("verified first");
    assert!(refused.message.contains("splunk: failed to verify connection - 403 Forbidden"), "{}", refused.message);
    assert_eq!(server.next().await.method, "OPTIONS");
    log.start(Shipper::open(to(), Log::about()).await.expect("reached")).await;
    assert_eq!(server.next().await.method, "OPTIONS");
    let first = server.next().await;
    assert_eq!((first.method.as_str(), first.path.as_str()), ("POST", "/services/collector/event/1.0"));
    assert_eq!((first.header("authorization"), first.header("content-encoding")), ("Splunk T0K", "gzip"));
    let mut plain = Vec::new();
    GzDecoder::new(&first.body[..]).read_to_end(&mut plain).expect("gzip");
    assert_eq!(lines(&plain), ["one"]);
    log.running.store(false, Ordering::SeqCst);
    log.shippers.finish(&Log::about().id, Duration::from_secs(30)).await;

    // It goes away with a container of the next daemon at work, and is busy when it is back.
    log.running.store(true, Ordering::SeqCst);
    let next = Log { shippers: Shippers::default(), dir: log.dir.clone(), running: Arc::clone(&log.running) };
    let to = remote("splunk", &[("splunk-url", &url), ("splunk-token", "T0K"), ("splunk-verify-connection", "false")]);
    next.start(Shipper::open(to, Log::about()).await.expect("starts without asking")).await;
    next.write(&["two"]);
    assert_eq!(lines(&server.next().await.body), ["two"]);
    drop(server);
    next.write(&["three", "four"]);
    let mut server = Server::start(Some(address)).await;
    server.will_say(503, &json!({"text": "Server is busy", "code": 9}));
    assert_eq!(lines(&server.next().await.body), ["three", "four"], "refused");
    assert_eq!(lines(&server.next().await.body), ["three", "four"], "taken");
    // Events that it will never take hold up no others.
    server.will_say(400, &json!({"text": "Invalid data format", "code": 6}));
    next.write(&["five"]);
    assert_eq!(lines(&server.next().await.body), ["five"]);
    next.write(&["six"]);
    assert_eq!(lines(&server.next().await.body), ["six"]);
    std::fs::remove_dir_all(&log.dir).expect("removed");
}

fn cloud(address: SocketAddr, more: &[(&str, &str)]) -> Remote {
    let endpoint = format!("http://{address}");
    let own = [("awslogs-region", "eu-west-1"), ("awslogs-group", "g"), ("awslogs-endpoint", endpoint.as_str())];
    let mut to = remote("awslogs", &[&own[..], more].concat());
    let Target::Aws(stream) = to.target else { panic!("awslogs") };
    let env = [("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "hidden"), ("AWS_SESSION_TOKEN", "lent")];
    to.target = Target::Aws(Box::new(stream.with_env(&env)));
    to
}

/// What a call asks for, and its body.
fn call(heard: &Heard) -> (String, Value) {
    let action = heard.header("x-amz-target").trim_start_matches("Logs_20140328.").to_owned();
    (action, serde_json::from_slice(&heard.body).expect("JSON"))
}

fn messages(heard: &Heard) -> Vec<String> {
    let (action, body) = call(heard);
    assert_eq!(action, "PutLogEvents");
    let all = body["logEvents"].as_array().expect("events").clone();
    all.iter().map(|e| e["message"].as_str().expect("text").to_owned()).collect()
}

#[tokio::test]
async fn cloudwatch_gets_a_stream_and_signed_calls() {
    let log = Log::new("aws");
    let mut server = Server::start(None).await;
    let missing =
        json!({"__type": "com.amazonaws#ResourceNotFoundException", "message": "The specified log group does not exist."});
    server.will_say(400, &missing);
    let refused = Shipper::open(cloud(server.address, &[]), Log::about()).await.expect_err("there is no group");
    assert!(
        refused.message.contains("failed to initialize logging driver: awslogs: failed to create Cloudwatch log stream"),
        "{}",
        refused.message
    );
    assert_eq!(
        call(&server.next().await),
        ("CreateLogStream".to_owned(), json!({"logGroupName": "g", "logStreamName": "web"}))
    );

    server.will_say(400, &missing);
    log.write(&["one", "", "two"]);
    let to = cloud(server.address, &[("awslogs-create-group", "true"), ("awslogs-stream", "s")]);
    log.start(Shipper::open(to, Log::about()).await.expect("made")).await;
    let actions = [server.next().await, server.next().await, server.next().await].map(|h| call(&h).0);
    assert_eq!(actions, ["CreateLogStream", "CreateLogGroup", "CreateLogStream"]);
    let put = server.next().await;
    assert_eq!(messages(&put), ["one", "two"]);
    assert_eq!(call(&put).1["logEvents"][0]["timestamp"], json!(1_767_225_600_000_i64));
    let signed = put.header("authorization");
    assert!(
        signed.starts_with("AWS4-HMAC-SHA256 Credential=AKID/") && signed.contains("/eu-west-1/logs/aws4_request, "),
        "{signed}"
    );
    assert!(signed.contains("SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, "), "{signed}");
    assert_eq!((put.header("x-amz-security-token"), put.header("content-type")), ("lent", "application/x-amz-json-1.1"));

    // Throttled, then gone and back, then without its stream.
    server.will_say(400, &json!({"__type": "ThrottlingException"}));
    log.write(&["three"]);
    assert_eq!(messages(&server.next().await), ["three"]);
    let again = async |server: &mut Server| loop {
        let heard = server.next().await;
        if call(&heard).0 == "PutLogEvents" {
            return messages(&heard);
        }
    };
    assert_eq!(again(&mut server).await, ["three"]);
    let address = server.address;
    drop(server);
    log.write(&["four"]);
    let mut server = Server::start(Some(address)).await;
    assert_eq!(again(&mut server).await, ["four"]);
    server.will_say(400, &missing);
    log.write(&["five"]);
    assert_eq!(messages(&server.next().await), ["five"]);
    assert_eq!(call(&server.next().await).0, "CreateLogStream");
    assert_eq!(messages(&server.next().await), ["five"]);
    std::fs::remove_dir_all(&log.dir).expect("removed");
}

#[tokio::test]
async fn keys_are_lent_by_the_container_service() {
    let mut server = Server::start(None).await;
    let keys = json!({"AccessKeyId": "LENT", "SecretAccessKey": "s", "Token": "t", "Expiration": "2126-01-01T00:00:00Z"});
    server.will_say(200, &keys);
    let mut to = cloud(server.address, &[]);
    let Target::Aws(stream) = to.target else { panic!("awslogs") };
    let uri = format!("http://{}/role", server.address);
    let env = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "who"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/no/such/file"),
    ];
    to.target = Target::Aws(Box::new(stream.with_env(&env)));
    Shipper::open(to, Log::about()).await.expect("reached");
    let asked = server.next().await;
    assert_eq!((asked.method.as_str(), asked.path.as_str(), asked.header("authorization")), ("GET", "/role", "who"));
    assert!(server.next().await.header("authorization").contains("Credential=LENT/"));
}
