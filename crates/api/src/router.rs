//! Which path is answered by whom. What is not listed answers 501 and says so.

use axum::Router;
use axum::http::{Method, Uri};
use axum::routing::{delete, get, post};

use skep_types::control::Code;
use skep_types::file::FileKind;

use crate::error::Failure;
use crate::{
    App, cluster, containers, events, exec, files, images, netreport, networks, nodes, prune, reach, service_logs, services,
    skep, swarm, system, tasks, usage, volumes,
};

pub(crate) fn router(app: App) -> Router {
    Router::new()
        .route("/_ping", get(system::ping).head(system::ping))
        .route("/version", get(system::version))
        .route("/info", get(system::info))
        .route("/events", get(events::events))
        .route("/auth", post(system::auth))
        .route("/containers/json", get(containers::list))
        .route("/containers/create", post(containers::create))
        .route("/containers/{id}", delete(containers::remove))
        .route("/containers/{id}/json", get(containers::inspect))
        .route("/containers/{id}/start", post(containers::start))
        .route("/containers/{id}/stop", post(containers::stop))
        .route("/containers/{id}/restart", post(containers::restart))
        .route("/containers/{id}/kill", post(containers::kill))
        .route("/containers/{id}/wait", post(containers::wait))
        .route("/containers/{id}/resize", post(containers::resize))
        .route("/containers/{id}/attach", post(containers::attach))
        .route("/containers/{id}/logs", get(containers::logs))
        .route("/containers/{id}/exec", post(exec::create))
        .route("/containers/{id}/pause", post(usage::pause))
        .route("/containers/{id}/unpause", post(usage::unpause))
        .route("/containers/{id}/rename", post(usage::rename))
        .route("/containers/{id}/update", post(usage::update))
        .route("/containers/{id}/top", get(usage::top))
        .route("/containers/{id}/stats", get(usage::stats))
        .route("/containers/{id}/archive", get(reach::copy_out).head(reach::stat).put(reach::copy_in))
        .route("/containers/{id}/changes", get(reach::changes))
        .route("/containers/{id}/export", get(reach::export))
        .route("/containers/prune", post(prune::containers))
        .route("/commit", post(reach::commit))
        .route("/system/df", get(prune::df))
        .route("/build/prune", post(prune::build_cache))
        .route("/exec/{id}/start", post(exec::start))
        .route("/exec/{id}/resize", post(exec::resize))
        .route("/exec/{id}/json", get(exec::inspect))
        .route("/images/json", get(images::list))
        .route("/images/create", post(images::create))
        .route("/images/get", get(images::save_all))
        .route("/images/load", post(images::load))
        .route("/images/prune", post(prune::images))
        .route("/images/{*name}", get(images::get).post(images::post).delete(images::remove))
        .route("/distribution/{*name}", get(images::distribution))
        .route("/volumes", get(volumes::list))
        .route("/volumes/create", post(volumes::create))
        .route("/volumes/prune", post(prune::volumes))
        .route("/volumes/{name}", get(volumes::inspect).put(volumes::update).delete(volumes::remove))
        .route("/networks", get(networks::list))
        .route("/networks/create", post(networks::create))
        .route("/networks/prune", post(networks::prune))
        .route("/networks/{id}/connect", post(networks::connect))
        .route("/networks/{id}/disconnect", post(networks::disconnect))
        .route("/networks/{id}", get(networks::inspect).delete(networks::remove))
        .route("/swarm", get(swarm::inspect))
        .route("/swarm/init", post(swarm::init))
        .route("/swarm/join", post(swarm::join))
        .route("/swarm/leave", post(swarm::leave))
        .route("/swarm/update", post(swarm::update))
        .route("/swarm/unlock", post(swarm::unlock))
        .route("/swarm/unlockkey", get(swarm::unlock_key))
        .route("/skep/v1/swarm/status", get(skep::status))
        .route("/skep/v1/swarm/backup", get(skep::backup))
        .route("/skep/v1/swarm/restore", post(skep::restore))
        .route("/skep/v1/swarm/renew", post(skep::renew))
        .route("/skep/v1/tasks/{id}/tunnel", post(skep::tunnel))
        .route("/skep/v1/nodes/{id}/tunnel", post(skep::node_tunnel))
        .route("/skep/v1/network/dump", get(netreport::dump))
        .route("/skep/v1/network/doctor", get(netreport::doctor))
        .route("/nodes", get(nodes::list))
        .route("/nodes/{id}", get(nodes::inspect).delete(nodes::remove))
        .route("/nodes/{id}/update", post(nodes::update))
        .route("/services", get(services::list))
        .route("/services/create", post(services::create))
        .route("/services/{id}", get(services::inspect).delete(services::remove))
        .route("/services/{id}/update", post(services::update))
        .route("/services/{id}/logs", get(service_logs::service))
        .route("/tasks/{id}/logs", get(service_logs::task))
        .route("/tasks", get(tasks::list))
        .route("/tasks/{id}", get(tasks::inspect))
        .merge(files::routes(FileKind::Secret))
        .merge(files::routes(FileKind::Config))
        .route("/plugins", get(cluster::no_plugins))
        .route("/plugins/{*name}", get(cluster::no_plugin))
        .fallback(unbuilt)
        .method_not_allowed_fallback(unbuilt)
        .with_state(app)
}

async fn unbuilt(method: Method, uri: Uri) -> Failure {
    // `docker inspect` of an image name with slashes asks for a container, a volume or a network of that name first.
    if method == Method::GET {
        let parts: Vec<&str> = uri.path().trim_start_matches('/').split('/').collect();
        let missing = |what: &str, name: String| Failure::new(Code::NotFound, format!("{what}{name}"));
        match parts.as_slice() {
            ["containers", name @ .., "json"] if name.len() > 1 => return missing("No such container: ", name.join("/")),
            ["volumes", name @ ..] if name.len() > 1 => return missing("no such volume: ", name.join("/")),
            ["networks" | "nodes" | "services" | "tasks" | "secrets" | "configs", name @ ..] if name.len() > 1 => {
                return missing("not found: ", name.join("/"));
            }
            _ => {}
        }
    }
    Failure::unbuilt(format!("{method} {}", uri.path()))
}
