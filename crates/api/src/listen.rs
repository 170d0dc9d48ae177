//! Unix sockets that the API is served on.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, Uri};
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;

use crate::App;
use crate::error::Failure;
use crate::version::{self, API_VERSION};

/// Connections at a time on one socket; beyond it new ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 4096;
/// How long a client may take to send its request head.
const HEAD_LIMIT: Duration = Duration::from_secs(30);

/// A socket could not be made.
#[derive(Debug, thiserror::Error)]
#[error("listen on {path}")]
pub struct ListenError {
    path: String,
    #[source]
    cause: std::io::Error,
}

/// A socket that was made; the path is taken away when it is dropped.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
}

impl Listener {
    /// Makes a socket of mode 0660 for root and the group, replacing what a dead daemon left.
    ///
    /// # Errors
    /// When the path cannot be used, or another daemon answers on it.
    pub fn bind(path: &Path, group: Option<u32>) -> Result<Self, ListenError> {
        let fail = |cause| ListenError { path: path.display().to_string(), cause };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(fail)?;
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(fail(std::io::Error::new(std::io::ErrorKind::AddrInUse, "a daemon already answers there")));
        }
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(fail(e)),
            _ => {}
        }
        let socket = UnixListener::bind(path).map_err(fail)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(fail)?;
        if group.is_some() {
            std::os::unix::fs::chown(path, None, group).map_err(fail)?;
        }
        Ok(Self { socket, path: path.to_owned() })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Serves the API until the task is dropped.
pub async fn serve(listener: Listener, app: App) {
    let router = crate::router::router(app.clone());
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let stream = match listener.socket.accept().await {
            Ok((stream, _)) => stream,
            Err(e) => {
                // Out of descriptors, most likely; a moment later some are free.
                tracing::warn!(error = %e, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (router, app) = (router.clone(), app.clone());
        tokio::spawn(async move {
            serve_connection(stream, router, app).await;
            drop(permit);
        });
    }
}

/// Serves one connection to its end.
pub(crate) async fn serve_connection<I>(io: I, router: Router, app: App)
where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let (router, app) = (router.clone(), app.clone());
        async move { Ok::<_, std::convert::Infallible>(answer(router, app, request.map(Body::new)).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades()
        .await;
    if let Err(e) = served {
        tracing::debug!(error = %e, "connection ended");
    }
}

async fn answer(router: Router, app: App, mut request: Request<Body>) -> Response {
    let mut response = match rewrite(&mut request) {
        Ok(()) => {
            use tower_service::Service;
            let mut router = router;
            match router.call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        }
        Err(failure) => failure.into_response(),
    };
    let headers = response.headers_mut();
    let version = HeaderValue::from_str(&format!("{}.{}", API_VERSION.0, API_VERSION.1));
    headers.insert("Api-Version", version.unwrap_or(HeaderValue::from_static("1.50")));
    headers.insert("Ostype", HeaderValue::from_static("linux"));
    headers.insert("Docker-Experimental", HeaderValue::from_static("false"));
    let server = HeaderValue::from_str(&format!("Docker/{} (linux)", app.engine.daemon().version));
    headers.insert("Server", server.unwrap_or(HeaderValue::from_static("Docker (linux)")));
    response
}

/// Takes the version off the path and keeps it beside.
fn rewrite(request: &mut Request<Body>) -> Result<(), Failure> {
    let (version, path) = version::split(request.uri().path())?;
    let target = request.uri().query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let uri: Uri = target.parse().map_err(|e| Failure::invalid(format!("invalid path: {e}")))?;
    *request.uri_mut() = uri;
    request.extensions_mut().insert(version);
    Ok(())
}
