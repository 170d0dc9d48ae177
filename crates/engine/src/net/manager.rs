//! The asynchronous door: each call hands its work to a thread that may block, one at a time.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use skep_netplan::facts::Member;
use skep_types::NodeId;
use skep_types::dataplane::DataPlane;
use skep_types::wireguard::PublicKey;
use tokio::sync::watch;

use super::core::Core;
use super::{LocalNetwork, LocalNetworkSpec, NetConfig, NetError, NetHost, NetworkRequest, Sandbox, SandboxRequest};

/// Digits of an id as users see it.
const SHORT_ID: usize = 12;
/// How long a container waits for the managers to tell of its overlay network: the assignment and the data plane travel on
/// different ways, and one may be a little late.
const PLANE_WAIT: Duration = Duration::from_secs(10);
/// What the kernel refused is tried again after the first of these, later and later up to the second: soon enough for a port that
/// its last owner is about to give up, seldom enough for the log when it stays refused.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// The networks of this host.
pub struct NetworkManager {
    core: Arc<Mutex<Core>>,
    /// Counts data planes; waited on by containers that came before their network.
    planes: watch::Sender<u64>,
    host: Arc<dyn NetHost>,
}

impl fmt::Debug for NetworkManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetworkManager").finish_non_exhaustive()
    }
}

impl NetworkManager {
    /// Opens the networks of a host. `alive` are the sandboxes of containers that still run: they are kept untouched, and served again.
    /// All else that bears one of our names is removed.
    ///
    /// # Errors
    /// What is kept cannot be read, or what exists cannot be listed.
    pub async fn open(host: Arc<dyn NetHost>, config: NetConfig, alive: Vec<Sandbox>) -> Result<Self, NetError> {
        let runtime = tokio::runtime::Handle::current();
        let shared = host.clone();
        let core = Arc::new(Mutex::new(blocking(move || Core::open(shared, config, alive, runtime)).await?));
        tokio::spawn(catch_up(Arc::downgrade(&core)));
        super::guard::start(Arc::downgrade(&core), &host);
        Ok(Self { core, planes: watch::channel(0).0, host })
    }

    /// The kernel's side.
    #[must_use]
    pub fn host(&self) -> &Arc<dyn NetHost> {
        &self.host
    }

    pub(super) async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Core) -> Result<T, NetError> + Send + 'static,
    ) -> Result<T, NetError> {
        with(self.core.clone(), work).await
    }

    /// Makes a bridge network.
    ///
    /// # Errors
    /// A taken name or subnet, or the kernel's refusal; then nothing is left.
    pub async fn create_network(&self, spec: LocalNetworkSpec) -> Result<LocalNetwork, NetError> {
        self.with(move |core| {
            let network = core.create(spec)?;
            if network.spec.config_only { Ok(network) } else { core.settle_network(network) }
        })
        .await
    }

    /// The bridge through which containers on overlay networks leave, made if it is not there.
    ///
    /// # Errors
    /// As for [`NetworkManager::create_network`].
    pub async fn ensure_gwbridge(&self) -> Result<LocalNetwork, NetError> {
        self.with(|core| {
            let network = core.gwbridge()?;
            core.settle_network(network)
        })
        .await
    }

    /// Removes a local network that nobody is on.
    ///
    /// # Errors
    /// It is unknown, predefined or in use.
    pub async fn remove_network(&self, name_or_id: &str) -> Result<(), NetError> {
        let text = name_or_id.to_owned();
        self.with(move |core| {
            core.remove(&text)?;
            let host = std::collections::BTreeSet::from([skep_netplan::Ns::Host]);
            NetError::collect(core.reconcile(Some(&host)))
        })
        .await
    }

    /// Local networks, predefined ones included.
    pub async fn networks(&self) -> Vec<LocalNetwork> {
        self.with(|core| Ok(core.networks.values().cloned().collect())).await.unwrap_or_default()
    }

    /// A local network by id, name or id prefix.
    ///
    /// # Errors
    /// None or several fit.
    pub async fn network(&self, text: &str) -> Result<LocalNetwork, NetError> {
        let text = text.to_owned();
        self.with(move |core| core.find(&text).cloned()).await
    }

    /// Whether a name or id, or what is surely meant as the short form of one, is that of a local network.
    pub async fn is_local(&self, text: &str) -> bool {
        // A short name of a swarm's network may by chance begin an id.
        let surely = |n: &LocalNetwork| n.name == text || n.id == text || text.len() >= SHORT_ID;
        self.network(text).await.is_ok_and(|n| surely(&n))
    }

    /// Sandboxes that exist.
    pub async fn sandboxes(&self) -> Vec<Sandbox> {
        self.with(|core| Ok(core.sandboxes.values().cloned().collect())).await.unwrap_or_default()
    }

    /// Makes the namespace of a container, with everything in it before the container starts. Waits a little for an overlay network
    /// that the managers have not told of yet.
    ///
    /// # Errors
    /// A network, address or port is not to be had, or the kernel refused; then nothing is left.
    pub async fn attach(&self, request: SandboxRequest) -> Result<Sandbox, NetError> {
        self.told(move |core| core.attach(request.clone())).await
    }

    /// Does something for which the managers may have to tell of an overlay network first, and waits a little for that.
    async fn told<T: Send + 'static>(
        &self,
        work: impl Fn(&mut Core) -> Result<T, NetError> + Clone + Send + 'static,
    ) -> Result<T, NetError> {
        let deadline = tokio::time::Instant::now() + PLANE_WAIT;
        let mut planes = self.planes.subscribe();
        loop {
            match self.with(work.clone()).await {
                Err(NetError::NotFound(network)) => {
                    let member = self.with(|core| Ok(core.member.is_some())).await?;
                    let news = tokio::time::timeout_at(deadline, planes.changed()).await;
                    if !member || news.is_err() {
                        return Err(NetError::NotFound(network));
                    }
                }
                other => return other,
            }
        }
    }

    /// Gives a running container an interface on one more network; its sandbox as it is then. Waits as [`NetworkManager::attach`] does.
    ///
    /// # Errors
    /// The network or address is not to be had, or the kernel refused; then nothing has changed.
    pub async fn connect(&self, container_id: &str, wanted: NetworkRequest) -> Result<Sandbox, NetError> {
        let id = container_id.to_owned();
        self.told(move |core| core.connect(&id, &wanted)).await
    }

    /// Takes a running container's interface on a network away; its sandbox as it is then.
    ///
    /// # Errors
    /// It is not on that network, or the kernel refused.
    pub async fn disconnect(&self, container_id: &str, network_id: &str) -> Result<Sandbox, NetError> {
        let (id, network) = (container_id.to_owned(), network_id.to_owned());
        self.with(move |core| core.disconnect(&id, &network)).await
    }

    /// Lets a container be found by another name. No error if it has no namespace.
    ///
    /// # Errors
    /// None that is known of; the door is that of all changes.
    pub async fn rename(&self, container_id: &str, name: &str) -> Result<(), NetError> {
        let (id, name) = (container_id.to_owned(), name.to_owned());
        self.with(move |core| {
            if let Some(sandbox) = core.sandboxes.get_mut(&id) {
                sandbox.request.name = name;
                core.refresh_tables();
            }
            Ok(())
        })
        .await
    }

    /// Ends a container's namespace. No error if it is unknown.
    ///
    /// # Errors
    /// All that could not be undone; it is tried again by later passes.
    pub async fn detach(&self, container_id: &str) -> Result<(), NetError> {
        let id = container_id.to_owned();
        self.with(move |core| core.detach(&id)).await
    }

    /// Makes this host carry what the managers say. Applies only what changed. `addr` is this node's address on the underlay; the
    /// payload size of overlays follows from that of the link which has it.
    ///
    /// # Errors
    /// All steps that failed; the next call tries them again.
    pub async fn set_dataplane(&self, node: NodeId, addr: Ipv4Addr, plane: DataPlane) -> Result<(), NetError> {
        let done = self
            .with(move |core| {
                let mtu = core.underlay_mtu(addr)?;
                let drained = core.member.as_ref().map(|m| m.drained.clone()).unwrap_or_default();
                let former = core.member.as_ref().map(|m| m.plane.clone()).unwrap_or_default();
                let mut member = Member { node, addr, mtu, plane: former, drained };
                member.advance(plane);
                if core.member.as_ref() != Some(&member) {
                    core.member = Some(member);
                    core.save_member()?;
                }
                core.gwbridge()?;
                let errors = core.reconcile(None);
                core.refresh_tables();
                NetError::collect(errors)
            })
            .await;
        self.planes.send_modify(|count| *count += 1);
        done
    }

    /// Networks of the swarm that this host has.
    pub async fn overlays(&self) -> Vec<skep_types::object::Network> {
        let shown = |plane: DataPlane| plane.shown.iter().map(|n| (**n).clone()).collect();
        self.dataplane().await.map(shown).unwrap_or_default()
    }

    /// This host's key for encrypted networks.
    ///
    /// # Errors
    /// It can be neither read nor made.
    pub async fn wireguard_key(&self) -> Result<PublicKey, NetError> {
        self.with(|core| core.host.wireguard_key()).await
    }

    /// Whether containers of this host can have IPv6.
    #[must_use]
    pub fn has_ipv6(&self) -> bool {
        self.host.features().ipv6
    }

    /// What the managers last said, as it is kept; `None` outside of a swarm.
    pub async fn dataplane(&self) -> Option<DataPlane> {
        self.with(|core| Ok(core.member.as_ref().map(|m| m.plane.clone()))).await.ok().flatten()
    }

    /// Takes away everything of the swarm; containers on overlay networks should be gone by then.
    ///
    /// # Errors
    /// All that could not be undone.
    pub async fn clear_swarm(&self) -> Result<(), NetError> {
        self.with(|core| {
            core.member = None;
            core.save_member()?;
            let errors = core.reconcile(None);
            core.refresh_tables();
            NetError::collect(errors)
        })
        .await
    }
}

impl Core {
    /// Applies a network that was just made, or takes it back.
    fn settle_network(&mut self, network: LocalNetwork) -> Result<LocalNetwork, NetError> {
        let host = std::collections::BTreeSet::from([skep_netplan::Ns::Host]);
        let errors = self.reconcile(Some(&host));
        let made = self.applied.get(&skep_netplan::Ns::Host).is_some_and(|h| h.links.contains_key(&network.link));
        if !made && !errors.is_empty() {
            self.networks.remove(&network.id);
            self.save_networks()?;
            NetError::collect(errors)?;
        }
        Ok(network)
    }
}

/// Tries again whatever failed before, for as long as the manager lives.
async fn catch_up(core: Weak<Mutex<Core>>) {
    let mut pause = RETRY.0;
    loop {
        tokio::time::sleep(pause).await;
        let Some(core) = core.upgrade() else { return };
        let tried = with(core, |core| Ok(core.catch_up())).await;
        pause = if tried.unwrap_or(true) { (pause * 2).min(RETRY.1) } else { RETRY.0 };
    }
}

async fn with<T: Send + 'static>(
    core: Arc<Mutex<Core>>,
    work: impl FnOnce(&mut Core) -> Result<T, NetError> + Send + 'static,
) -> Result<T, NetError> {
    blocking(move || {
        // a panic in between leaves maps whole: every change of ours is one insertion or removal
        let mut core = core.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut core)
    })
    .await
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NetError> + Send + 'static,
) -> Result<T, NetError> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.unwrap_or_else(|e| Err(NetError::host("run", "network work", std::io::Error::other(e))))
}
