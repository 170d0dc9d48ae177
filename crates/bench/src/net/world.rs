//! Hosts as network namespaces joined by a bridge, each with the real network manager; programs that serve in containers'
//! namespaces are threads of this process, whose sockets were opened inside. Everything is gone when dropped.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use skep_engine::net::{NetConfig, NetHost, NetworkManager, NetworkRequest, PortMap, SandboxRequest};
use skep_linux::net::LinuxNet;
use skep_netplan::Ns;
use skep_types::dataplane::{
    DataPlane, IngressBackend, IngressPort, IngressView, OverlayEndpoint, OverlayView, Peer, ServiceView, View,
};
use skep_types::spec::Protocol;
use skep_types::{Ipv4Net, NetworkId, NodeId};

use super::traffic;

pub(crate) type Done<T> = Result<T, String>;

/// Hosts of the world; the client is one more.
pub(crate) const HOSTS: u8 = 3;
const CLIENT: u8 = 100;
/// Network of the tasks.
pub(crate) const OVERLAY: NetworkId = NetworkId(77);
/// Network of tasks whose packets are encrypted between hosts. A namespace is called by the first digits of its network.
pub(crate) const SEALED: NetworkId = NetworkId(78 << 100);
/// Port on which tasks and host programs serve.
pub(crate) const PORT: u16 = 80;

pub(crate) fn underlay(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 77, n)
}

pub(crate) fn overlay(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 1, n)
}

pub(crate) fn sealed(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 2, 1, n)
}

fn ingress(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 255, 0, n)
}

fn node(n: u8) -> NodeId {
    NodeId(u128::from(n))
}

/// What ran, or why not.
pub(crate) fn run(program: &str, args: &str) -> Done<()> {
    let out = Command::new(program).args(args.split(' ')).output().map_err(|e| format!("run {program}: {e}"))?;
    if out.status.success() {
        return Ok(());
    }
    Err(format!("{program} {args}: {}", String::from_utf8_lossy(&out.stderr).trim()))
}

/// One host: its namespace and, but for the client, its manager.
pub(crate) struct Host {
    pub(crate) net: Arc<LinuxNet>,
    pub(crate) manager: Option<NetworkManager>,
}

impl Host {
    pub(crate) fn manager(&self) -> Done<&NetworkManager> {
        self.manager.as_ref().ok_or_else(|| "the client has no manager".to_owned())
    }

    /// Runs work in a namespace of the host.
    pub(crate) fn within<T: Send>(&self, ns: &Ns, work: impl FnOnce() -> io::Result<T> + Send) -> Done<T> {
        self.net.run_in(ns, work).map_err(|e| format!("in {ns}: {e}"))
    }

    /// Serves on a port in a namespace until the process ends.
    pub(crate) fn serve(&self, ns: &Ns, port: u16) -> Done<()> {
        let listener = self.within(ns, || TcpListener::bind(("0.0.0.0", port)))?;
        traffic::serve(listener);
        Ok(())
    }
}

/// All hosts; the client is the last.
pub(crate) struct World {
    prefix: String,
    dir: PathBuf,
    pub(crate) hosts: Vec<Host>,
}

impl World {
    pub(crate) async fn new() -> Done<Self> {
        let prefix = format!("skep-bench{}", std::process::id());
        let dir = std::env::temp_dir().join(&prefix);
        let mut world = Self { prefix: prefix.clone(), dir: dir.clone(), hosts: Vec::new() };
        run("ip", &format!("netns add {prefix}-u"))?;
        run("ip", &format!("-n {prefix}-u link add br0 type bridge"))?;
        run("ip", &format!("-n {prefix}-u link set br0 up"))?;
        for n in (1..=HOSTS).chain([CLIENT]) {
            run("ip", &format!("netns add {prefix}-{n}"))?;
            run("ip", &format!("-n {prefix}-u link add p{n} type veth peer name eth0 netns {prefix}-{n}"))?;
            run("ip", &format!("-n {prefix}-u link set p{n} up master br0"))?;
            run("ip", &format!("-n {prefix}-{n} addr add {}/24 dev eth0", underlay(n)))?;
            run("ip", &format!("-n {prefix}-{n} link set eth0 up"))?;
            run("ip", &format!("-n {prefix}-{n} link set lo up"))?;
            let ns = File::open(format!("/run/netns/{prefix}-{n}")).map_err(|e| e.to_string())?;
            let dir = dir.join(n.to_string());
            let net = Arc::new(LinuxNet::with_host(ns, dir.join("netns")).map_err(|e| e.to_string())?);
            let config = NetConfig { default_bridge: false, ..NetConfig::new(dir) };
            let manager = if n == CLIENT {
                None
            } else {
                Some(NetworkManager::open(net.clone(), config, Vec::new()).await.map_err(|e| e.to_string())?)
            };
            world.hosts.push(Host { net, manager });
        }
        Ok(world)
    }

    /// Host `n`, from 1.
    pub(crate) fn host(&self, n: u8) -> Done<&Host> {
        self.hosts.get(usize::from(n) - 1).ok_or_else(|| format!("there is no host {n}"))
    }

    pub(crate) fn client(&self) -> Done<&Host> {
        self.host(HOSTS + 1)
    }

    /// Name of host `n`'s namespace, for other programs.
    pub(crate) fn netns(&self, n: u8) -> String {
        format!("{}-{n}", self.prefix)
    }

    /// Tells every host the same tasks and services.
    pub(crate) async fn tell(&self, tasks: &[(u8, u8)], services: &[ServiceView], published: &[(u16, u8)]) -> Done<()> {
        for n in 1..=HOSTS {
            let plane = self.plane(n, tasks, services, published)?;
            let told = self.host(n)?.manager()?.set_dataplane(node(n), underlay(n), plane);
            told.await.map_err(|e| format!("host {n}: {e}"))?;
        }
        Ok(())
    }

    /// A task's namespace on host `n`, with a server if `serves`.
    pub(crate) async fn task(&self, n: u8, task: u8, serves: bool, ports: Vec<PortMap>) -> Done<Ns> {
        self.task_on((OVERLAY, overlay(task)), n, task, serves, ports).await
    }

    /// The same on a network of choice.
    pub(crate) async fn task_on(
        &self,
        (network, address): (NetworkId, Ipv4Addr),
        n: u8,
        task: u8,
        serves: bool,
        ports: Vec<PortMap>,
    ) -> Done<Ns> {
        let id: String = format!("{task:064x}").chars().rev().collect();
        let request = SandboxRequest {
            container_id: id.clone(),
            name: format!("task{task}"),
            hostname: format!("task{task}"),
            networks: vec![NetworkRequest {
                network: network.to_string(),
                address: Some(address),
                ..NetworkRequest::default()
            }],
            ingress_address: Some(ingress(task)),
            ingress_ports: vec![(Protocol::Tcp, PORT)],
            ports,
            ..SandboxRequest::default()
        };
        let host = self.host(n)?;
        host.manager()?.attach(request).await.map_err(|e| format!("task {task}: {e}"))?;
        let ns = Ns::Sandbox(id.chars().take(12).collect());
        if serves {
            host.serve(&ns, PORT)?;
        }
        Ok(ns)
    }

    fn plane(&self, own: u8, tasks: &[(u8, u8)], services: &[ServiceView], published: &[(u16, u8)]) -> Done<DataPlane> {
        let mut peers = Vec::new();
        for n in (1..=HOSTS).filter(|n| *n != own) {
            let key = self.host(n)?.net.wireguard_key().map_err(|e| e.to_string())?;
            peers.push(Peer { node: node(n), addr: underlay(n), ingress_addr: ingress(n), wireguard: Some(key), ipv6: None });
        }
        let endpoint = |addr: Ipv4Addr, t: &(u8, u8)| OverlayEndpoint {
            addr,
            node: node(t.1),
            task_name: format!("web.{}.x", t.0),
            container: None,
            aliases: Vec::new(),
        };
        let at = |task: u8| {
            tasks.iter().filter(move |t| t.0 == task).map(|t| IngressBackend {
                addr: ingress(t.0),
                node: node(t.1),
                task: None,
            })
        };
        let port = |(published, task): &(u16, u8)| IngressPort {
            protocol: Protocol::Tcp,
            published: *published,
            target: PORT,
            backends: at(*task).collect(),
            host_ip: None,
            prefer_local: false,
        };
        let open = OverlayView {
            id: OVERLAY,
            name: "net".to_owned(),
            vni: 4097,
            subnet: Ipv4Net::new(Ipv4Addr::new(10, 0, 0, 0), 16),
            gateway: Ipv4Addr::new(10, 0, 0, 1),
            internal: false,
            encrypted: false,
            mtu: None,
            endpoints: tasks.iter().map(|t| endpoint(overlay(t.0), t)).collect(),
            services: services.to_vec(),
            pairing: None,
        };
        let encrypted = OverlayView {
            id: SEALED,
            name: "sealed".to_owned(),
            vni: 4098,
            subnet: Ipv4Net::new(Ipv4Addr::new(10, 2, 0, 0), 16),
            gateway: Ipv4Addr::new(10, 2, 0, 1),
            encrypted: true,
            endpoints: tasks.iter().map(|t| endpoint(sealed(t.0), t)).collect(),
            services: Vec::new(),
            ..open.clone()
        };
        Ok(DataPlane {
            node: Some(node(own)),
            addr: Some(underlay(own)),
            ingress_addr: Some(ingress(own)),
            data_path_port: 4789,
            peers: peers.into_iter().collect(),
            networks: vec![View::new(open), View::new(encrypted)],
            ingress: Some(View::new(IngressView {
                vni: 4096,
                subnet: Ipv4Net::new(Ipv4Addr::new(10, 255, 0, 0), 24),
                ports: published.iter().map(port).collect(),
                pairing: None,
            })),
            ..DataPlane::default()
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.hosts.clear();
        for n in (1..=HOSTS).chain([CLIENT]).map(|n| n.to_string()).chain(["u".to_owned()]) {
            // with it ends whatever carries it
            let _ = run("ip", &format!("-n {}-{n} link del skwg", self.prefix));
            let _ = run("ip", &format!("netns del {}-{n}", self.prefix));
        }
        unpin(&self.dir);
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn unpin(dir: &std::path::Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            unpin(&path);
        } else if path.parent().is_some_and(|p| p.ends_with("netns")) {
            let _ = run("umount", &format!("-l {}", path.display()));
        }
    }
}
