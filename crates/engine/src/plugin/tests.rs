//! Plugins of the test: what they are asked, and what becomes of those that hang, die or say no.

use std::convert::Infallible;
use std::path::PathBuf;

use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use skep_types::file::DriverAsk;
use skep_types::spec::EndpointSpec;
use tokio::net::UnixListener;
use tokio::task::JoinSet;

use super::*;

/// Directories that are gone with the test.
struct Dirs(PathBuf);

impl Drop for Dirs {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Dirs {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("skep-plugin-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir_all(&root).expect("temporary directory");
        Self(root)
    }

    fn plugins(&self) -> Arc<Plugins> {
        Arc::new(Plugins::new(PluginDirs { sockets: self.0.clone(), specs: Vec::new() }))
    }

    /// A plugin that answers by a table: call and body to status and answer; gone when dropped.
    fn plugin(&self, name: &str, table: fn(&str, &Value) -> Option<(u16, Value)>) -> JoinSet<()> {
        let path = self.0.join(format!("{name}.sock"));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(path).expect("bound");
        let mut work = JoinSet::new();
        work.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let serve = service_fn(move |request| answer(request, table));
                connections.spawn(async move {
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), serve).await;
                });
            }
        });
        work
    }
}

async fn answer(
    request: Request<Incoming>,
    table: fn(&str, &Value) -> Option<(u16, Value)>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    let call = head.uri.path().trim_start_matches('/').to_owned();
    let Some((status, said)) = table(&call, &serde_json::from_slice(&body).unwrap_or_default()) else {
        return std::future::pending().await;
    };
    let mut response = Response::new(Full::new(Bytes::from(said.to_string())));
    *response.status_mut() = status.try_into().expect("a status");
    Ok(response)
}

/// A driver with one volume, `v`, that everything can be done with once.
fn driver(call: &str, body: &Value) -> Option<(u16, Value)> {
    let known = body["Name"] == "v";
    Some(match call {
        "Plugin.Activate" => (200, json!({"Implements": ["VolumeDriver"]})),
        "VolumeDriver.Create" if body["Opts"]["size"] == "1" => (200, json!({"Err": ""})),
        "VolumeDriver.Create" => (500, json!({"Err": "no room"})),
        "VolumeDriver.Mount" if known && body["ID"] == "id" => (200, json!({"Mountpoint": "/mnt/v", "Err": ""})),
        "VolumeDriver.Mount" => (200, json!({"Mountpoint": "../etc", "Err": ""})),
        "VolumeDriver.Unmount" if known => (200, json!({})),
        "VolumeDriver.Get" if known => {
            (200, json!({"Volume": {"Name": "v", "Mountpoint": "/mnt/v", "Status": {"a": 1}}, "Err": ""}))
        }
        "VolumeDriver.Get" => (200, json!({"Err": "there is none"})),
        "VolumeDriver.List" => (200, json!({"Volumes": [{"Name": "v"}], "Err": null})),
        "VolumeDriver.Capabilities" => (200, json!({"Capabilities": {"Scope": "global"}})),
        _ => (404, json!({"message": "page not found"})),
    })
}

#[tokio::test]
async fn a_volume_driver_is_asked_by_dockers_protocol() {
    let dirs = Dirs::new("volume");
    let plugins = dirs.plugins();
    let _driver = dirs.plugin("vols", driver);
    let size = |n: &str| BTreeMap::from([("size".to_owned(), n.to_owned())]);
    assert_eq!(plugins.create_volume("vols", "v", &size("1")).await, Ok(()));
    let full = plugins.create_volume("vols", "v", &size("2")).await.expect_err("full");
    assert_eq!(full, Fault::Refused("volume plugin vols: VolumeDriver.Create: no room".to_owned()));
    assert_eq!(full.error("create v").message, "create v: volume plugin vols: VolumeDriver.Create: no room");
    assert_eq!(plugins.mount_volume("vols", "v", "id").await, Ok(PathBuf::from("/mnt/v")));
    let odd = plugins.mount_volume("vols", "w", "id").await.expect_err("no path");
    assert!(odd.text().contains("it must be an absolute path"), "{odd:?}");
    assert_eq!(plugins.unmount_volume("vols", "v", "id").await, Ok(()));
    let found = plugins.volume("vols", "v").await.expect("asked").expect("there");
    assert_eq!((found.mountpoint.as_str(), found.status.as_str()), ("/mnt/v", "{\"a\":1}"));
    assert_eq!(plugins.volume("vols", "w").await, Ok(None));
    assert_eq!(plugins.volumes("vols").await.expect("listed").len(), 1);
    assert!(plugins.is_global("vols").await);
    assert_eq!(plugins.volume_drivers(), ["vols"]);
    let missing = plugins.remove_volume("vols", "v").await.expect_err("no such call");
    assert!(matches!(missing, Fault::Unknown(_)), "{missing:?}");
}

#[tokio::test(start_paused = true)]
async fn plugins_that_hang_or_are_gone_are_errors_that_say_so() {
    let dirs = Dirs::new("hang");
    let plugins = dirs.plugins();
    let none = plugins.mount_volume("nobody", "v", "id").await.expect_err("nobody");
    assert!(
        none.text().starts_with("error looking up volume plugin nobody: plugin \"nobody\" not found: start it"),
        "{none:?}"
    );
    assert_eq!(none.error("create v").code, Code::NotFound);
    let _hangs =
        dirs.plugin("hangs", |call, _| (call == "Plugin.Activate").then(|| (200, json!({"Implements": ["VolumeDriver"]}))));
    let hangs = plugins.mount_volume("hangs", "v", "id").await.expect_err("hangs");
    assert!(
        hangs.text().contains("does not answer VolumeDriver.Mount (no answer within 120 s): it hangs: see its log"),
        "{hangs:?}"
    );
    let _mute = dirs.plugin("mute", |_, _| None);
    let mute = plugins.volumes("mute").await.expect_err("hangs");
    assert!(mute.text().contains("does not answer Plugin.Activate"), "{mute:?}");
    let dead = dirs.plugin("dead", driver);
    drop(dead);
    let dead = plugins.volumes("dead").await.expect_err("dead");
    assert!(matches!(&dead, Fault::Broken(why) if why.contains("start it again, or remove its file")), "{dead:?}");
    let _other = dirs.plugin("other", |_, _| Some((200, json!({"Implements": ["NetworkDriver"]}))));
    let other = plugins.volumes("other").await.expect_err("no volumes");
    assert!(other.text().contains("does not implement VolumeDriver: it implements NetworkDriver"), "{other:?}");
    let _odd = dirs.plugin("odd", |_, _| Some((200, json!("hello"))));
    assert!(plugins.volumes("odd").await.expect_err("no plugin").text().contains("is none of Docker's"));
}

#[tokio::test]
async fn what_the_host_can_do_follows_its_plugins() {
    let dirs = Dirs::new("watch");
    let plugins = dirs.plugins();
    let watch = tokio::spawn(Plugins::watch(Arc::downgrade(&plugins)));
    let becomes = async |names: &[&str]| {
        let work = async {
            while plugins.volume_drivers() != names {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), work).await.unwrap_or_else(|_| panic!("not {names:?}"));
    };
    let driver = dirs.plugin("vols", driver);
    becomes(&["vols"]).await;
    // Its program dies; the socket stays.
    drop(driver);
    becomes(&[]).await;
    watch.abort();
}

#[tokio::test]
async fn a_secret_comes_from_its_driver() {
    let dirs = Dirs::new("secret");
    let plugins = dirs.plugins();
    let _vault = dirs.plugin("vault", |call, body| {
        Some(match (call, body["SecretName"].as_str()) {
            ("Plugin.Activate", _) => (200, json!({"Implements": ["secretprovider"]})),
            ("SecretProvider.GetSecret", Some("db")) => (200, json!({"Value": "aHVudGVyMg==", "DoNotReuse": true})),
            ("SecretProvider.GetSecret", Some("odd")) => (200, json!({"Value": "?"})),
            _ => (200, json!({"Err": "sealed"})),
        })
    });
    let ask = |name: &str| DriverAsk {
        driver: "vault".into(),
        name: name.into(),
        labels: BTreeMap::new(),
        service_id: String::new(),
        service: String::new(),
        service_labels: BTreeMap::new(),
        hostname: String::new(),
        endpoint: EndpointSpec::default(),
        task_id: String::new(),
        task: String::new(),
        image: String::new(),
        node: String::new(),
    };
    let answer = plugins.secret(&ask("db")).await.expect("given");
    assert_eq!((&answer.data.0[..], answer.once), (&b"hunter2"[..], true));
    assert_eq!(plugins.secret(&ask("x")).await.expect_err("sealed"), "secret plugin vault: SecretProvider.GetSecret: sealed");
    assert!(plugins.secret(&ask("odd")).await.expect_err("odd").contains("not base64"));
    assert!(plugins.volume_drivers().is_empty());
}
