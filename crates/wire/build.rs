//! Generates the RPC glue: services whose messages are serde types in MessagePack.

use tonic_build::manual::{Builder, Method, Service};

const CODEC: &str = "crate::codec::Rmp";

fn method(name: &str, route: &str, input: &str, output: &str) -> tonic_build::manual::MethodBuilder {
    Method::builder()
        .name(name)
        .route_name(route)
        .input_type(format!("crate::message::{input}"))
        .output_type(format!("crate::message::{output}"))
        .codec_path(CODEC)
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let ca = Service::builder()
        .name("Ca")
        .package("skep")
        .method(method("root", "Root", "Empty", "RootAnswer").build())
        .method(method("issue", "Issue", "CertificateRequest", "CertificateAnswer").build())
        .method(method("renew", "Renew", "CertificateRequest", "CertificateAnswer").build())
        .build();
    let raft = Service::builder()
        .name("Raft")
        .package("skep")
        .method(method("call", "Call", "RaftMessage", "RaftAnswer").build())
        .build();
    let control = Service::builder()
        .name("Control")
        .package("skep")
        .method(method("call", "Call", "ControlCall", "ControlAnswer").build())
        .build();
    let dispatcher = Service::builder()
        .name("Dispatcher")
        .package("skep")
        .method(method("session", "Session", "AgentMessage", "ManagerMessage").client_streaming().server_streaming().build())
        .method(method("logs", "Logs", "LogMessage", "Empty").client_streaming().build())
        .method(method("tunnel", "Tunnel", "TunnelMessage", "TunnelMessage").client_streaming().server_streaming().build())
        .build();
    let gossip =
        Service::builder().name("Gossip").package("skep").method(method("tell", "Tell", "Gossip", "Empty").build()).build();
    Builder::new().build_transport(false).compile(&[ca, raft, control, dispatcher, gossip]);
}
