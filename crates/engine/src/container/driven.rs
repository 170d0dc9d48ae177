//! Volumes that plugins have: made and removed by them, mounted by them for each container that starts. A mount is noted before its
//! plugin is asked, and forgotten when the plugin has taken it back: what a crash or a plugin that is away leaves is swept.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use skep_types::container::VolumeInfo;
use tokio::time::MissedTickBehavior;

use super::{Container, Record};
use crate::Engine;
use crate::error::{Result, internal, not_found};
use crate::plugin::Fault;
use crate::shim::MOUNT_FAILED;
use crate::volumes::{Held, NewVolume, check_name, taken};

/// How often mounts without a container are looked for.
const SWEEP: Duration = Duration::from_secs(10);
/// A mount that its plugin has refused to take back so often is one that it knows nothing of: it was started anew, or the host was.
const MOST_REFUSALS: u32 = 30;

impl Engine {
    /// Creates a volume, or returns the one of that name.
    ///
    /// # Errors
    /// 400 for a bad name or bad options, 404 for a driver that is not there, 409 when the one of that name is another, 500.
    pub async fn create_volume(&self, new: NewVolume) -> Result<VolumeInfo> {
        let existing = self.volumes.get(&new.name).ok();
        let driver = match (&existing, new.driver.as_str()) {
            (Some(existing), "") => existing.driver().to_owned(),
            (None, "") => "local".to_owned(),
            (_, named) => named.to_owned(),
        };
        let (info, created) = if driver == "local" {
            self.volumes.create(NewVolume { driver, ..new })?
        } else {
            self.create_driven(driver, new, existing).await?
        };
        if created {
            let attributes = [("driver".to_owned(), info.driver().to_owned())];
            self.events.emit("volume", "create", &info.name, attributes);
        }
        Ok(info)
    }

    async fn create_driven(&self, driver: String, new: NewVolume, existing: Option<VolumeInfo>) -> Result<(VolumeInfo, bool)> {
        let NewVolume { name, labels, anonymous, options, .. } = new;
        check_name(&name)?;
        if let Some(existing) = existing.filter(|e| e.driver() != driver) {
            return Err(taken(&existing));
        }
        let _guard = self.volumes.starting(&name).await;
        let fail = |e: Fault| e.error(&format!("create {name}"));
        // Made by another host, or before: it is taken as it is.
        let found = self.plugins.volume(&driver, &name).await.map_err(fail)?;
        if found.is_none() {
            self.plugins.create_volume(&driver, &name, &options).await.map_err(fail)?;
        }
        let global = self.plugins.is_global(&driver).await;
        let status = found.as_ref().map(|f| f.status.clone()).unwrap_or_default();
        let mountpoint = found.as_ref().map(|f| f.mountpoint.clone()).unwrap_or_default();
        let created = crate::now();
        let info = VolumeInfo { name: name.clone(), mountpoint, created, labels, anonymous, options, driver, global, status };
        Ok((self.volumes.adopt(info)?, found.is_none()))
    }

    /// A volume, as its driver tells of it now.
    ///
    /// # Errors
    /// 404, 500 if its plugin does not answer.
    pub async fn volume(&self, name: &str) -> Result<VolumeInfo> {
        match self.volumes.get(name) {
            Ok(info) if info.driver() == "local" => Ok(info),
            Ok(info) => {
                let told = self.plugins.volume(info.driver(), name).await.map_err(|e| e.error(&format!("get {name}")))?;
                let told = told.ok_or_else(|| {
                    not_found(format!("get {name}: no such volume: its driver {} has lost it", info.driver()))
                })?;
                Ok(VolumeInfo { mountpoint: told.mountpoint, status: told.status, ..info })
            }
            Err(missing) => {
                for driver in self.plugins.volume_drivers() {
                    // One that does not answer may have it; then it cannot be looked at.
                    if let Ok(Some(told)) = self.plugins.volume(&driver, name).await {
                        let (mountpoint, status) = (told.mountpoint, told.status);
                        return Ok(VolumeInfo { name: name.to_owned(), mountpoint, status, driver, ..VolumeInfo::default() });
                    }
                }
                Err(missing)
            }
        }
    }

    /// All volumes, by name, and what could not be asked.
    pub async fn all_volumes(&self) -> (Vec<VolumeInfo>, Vec<String>) {
        let (mut all, mut warnings) = (self.volumes.list(), Vec::new());
        let asked = self.plugins.volume_drivers().into_iter().map(|driver| {
            let plugins = Arc::clone(&self.plugins);
            // Beside one another: one that hangs is waited for once.
            tokio::spawn(async move { (plugins.volumes(&driver).await, driver) })
        });
        for answer in asked.collect::<Vec<_>>() {
            match answer.await {
                Ok((Ok(told), driver)) => {
                    for t in told {
                        let is_known = |v: &VolumeInfo| v.name == t.name && v.driver() == driver;
                        match all.iter_mut().find(|v| is_known(v)) {
                            Some(known) => known.mountpoint = t.mountpoint,
                            None => all.push(VolumeInfo {
                                name: t.name,
                                mountpoint: t.mountpoint,
                                driver: driver.clone(),
                                ..VolumeInfo::default()
                            }),
                        }
                    }
                }
                Ok((Err(why), _)) => warnings.push(why.text().to_owned()),
                // Only a panic ends it.
                Err(e) => warnings.push(e.to_string()),
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        (all, warnings)
    }

    /// Removes a volume that none of `users` (container ids) has. With `force` one whose plugin is gone is forgotten.
    ///
    /// # Errors
    /// 404, 409 when it is in use, 500 when the disk or its plugin refuses.
    pub async fn remove_volume(&self, name: &str, force: bool, users: &[String]) -> Result<()> {
        let known = self.volumes.get(name).ok();
        let driver = match &known {
            Some(info) => info.driver().to_owned(),
            None => self.volume(name).await.map(|v| v.driver).unwrap_or_default(),
        };
        if matches!(driver.as_str(), "" | "local") {
            return self.remove_known(name, force, users, "local");
        }
        if !users.is_empty() {
            return self.remove_known(name, force, users, &driver);
        }
        // Whoever had it last may still be giving it back.
        for (_, held) in self.volumes.all_held().into_iter().filter(|(n, _)| n == name) {
            self.unmount(name, &held).await;
        }
        let guard = self.volumes.starting(name).await;
        match self.plugins.remove_volume(&driver, name).await {
            Ok(()) => {}
            Err(Fault::Missing(_) | Fault::Broken(_)) if force => {}
            Err(e) => return Err(e.error(&format!("remove {name}"))),
        }
        drop(guard);
        if known.is_some() { self.remove_known(name, force, users, &driver) } else { Ok(()) }
    }

    fn remove_known(&self, name: &str, force: bool, users: &[String], driver: &str) -> Result<()> {
        self.volumes.remove(name, force, users)?;
        self.events.emit("volume", "destroy", name, [("driver".to_owned(), driver.to_owned())]);
        Ok(())
    }

    /// Has the plugins mount the volumes of a container that starts, and puts into its record where they are.
    pub(super) async fn mount_driven(&self, container: &Container, record: &mut Record) -> Result<()> {
        let names: BTreeSet<(String, String)> = record
            .info
            .mounts
            .iter()
            .filter(|m| m.kind == "volume" && !m.driver.is_empty())
            .map(|m| (m.name.clone(), m.driver.clone()))
            .collect();
        for (name, driver) in names {
            let held = Held { id: crate::random_hex::<32>()?, container: container.id.clone(), refusals: 0 };
            let _guard = self.volumes.starting(&name).await;
            // It may have been removed while no container ran.
            self.volumes.get(&name)?;
            self.volumes.change_held(&name, |all| all.push(held.clone()))?;
            let at = self.plugins.mount_volume(&driver, &name, &held.id).await;
            let at = at.map_err(|e| e.error(&format!("{MOUNT_FAILED}'{name}'")))?;
            let source = at.display().to_string();
            if !at.exists() {
                let why = format!("its driver {driver} mounted it at {source}, which is not there on this host");
                return Err(internal(&format!("{MOUNT_FAILED}'{name}'"), why));
            }
            for m in record.info.mounts.iter_mut().filter(|m| m.kind == "volume" && m.name == name) {
                m.source.clone_from(&source);
            }
            let wants = |target: &&String| record.info.mounts.iter().any(|m| m.name == name && m.destination == **target);
            let targets: Vec<String> = record.driven_copies.iter().filter(wants).cloned().collect();
            record.copy_up.extend(targets.into_iter().map(|target| (at.clone(), target)));
        }
        Ok(())
    }

    /// Has the plugins take back what a container that ended had, without anybody waiting for it.
    pub(crate) fn unmount_soon(self: &Arc<Self>, container: &str) {
        let held: Vec<_> = self.volumes.all_held().into_iter().filter(|(_, h)| h.container == container).collect();
        if held.is_empty() {
            return;
        }
        let engine = Arc::clone(self);
        tokio::spawn(async move {
            for (name, held) in held {
                engine.unmount(&name, &held).await;
            }
        });
    }

    /// Has a plugin take a mount back. What it does not take now is tried again by the sweep.
    async fn unmount(&self, name: &str, held: &Held) {
        let _guard = self.volumes.starting(name).await;
        let Ok(volume) = self.volumes.get(name) else { return };
        // Somebody else was first.
        if !self.volumes.all_held().iter().any(|(n, h)| n == name && h.id == held.id) {
            return;
        }
        let (driver, container) = (volume.driver(), &held.container);
        let over = match self.plugins.unmount_volume(driver, name, &held.id).await {
            Ok(()) => true,
            Err(Fault::Refused(why) | Fault::Unknown(why)) if held.refusals >= MOST_REFUSALS => {
                tracing::warn!(volume = name, %container, why, "its plugin does not know of this mount any more: it is forgotten");
                true
            }
            Err(e) => {
                if held.refusals == 0 {
                    tracing::warn!(volume = name, %container, why = e.text(), "cannot be unmounted yet; it is tried again");
                }
                let refused = matches!(e, Fault::Refused(_) | Fault::Unknown(_));
                let count = |all: &mut Vec<Held>| {
                    all.iter_mut().filter(|h| h.id == held.id).for_each(|h| h.refusals += u32::from(refused));
                };
                // What cannot be written down is counted the next time.
                let _ = self.volumes.change_held(name, count);
                false
            }
        };
        if over && let Err(e) = self.volumes.change_held(name, |all| all.retain(|h| h.id != held.id)) {
            tracing::warn!(volume = name, error = %e, "that it is unmounted could not be written down");
        }
    }

    /// Has the plugins take back what nobody has any more: of containers that ended while this or the plugin was not there.
    pub(crate) async fn sweep_mounts(engine: Weak<Self>) {
        let mut tick = tokio::time::interval(SWEEP);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let Some(engine) = engine.upgrade() else { return };
            let mut seen = BTreeSet::new();
            // The last mount of a container for a volume is the one that it runs with.
            for (name, held) in engine.volumes.all_held().into_iter().rev() {
                let last = seen.insert((name.clone(), held.container.clone()));
                // One that starts just now keeps what it has mounted; the next start has another mount than this one.
                let wanted = engine.find(&held.container).is_ok_and(|c| match c.ops.try_lock() {
                    Ok(_) => last && c.is_running(),
                    Err(_) => true,
                });
                if !wanted {
                    engine.unmount(&name, &held).await;
                }
            }
        }
    }
}
