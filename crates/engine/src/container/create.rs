//! `POST /containers/create`: the image's configuration and the user's become one record.

use std::sync::Arc;

use skep_types::container::{
    ContainerConfig, ContainerInfo, ContainerState, CreateContainer, EngineRestart, HostConfig, MountPoint, PortMap,
};
use skep_types::host::ImageInfo;
use skep_types::names;
use skep_types::spec::{MountKind, Protocol};

use super::{Container, Record};
use crate::Engine;
use crate::error::{Code, EngineError, Result, conflict, internal, invalid};
use crate::logdriver::{self, with_defaults};
use crate::oci::{capabilities, merge_env};
use crate::volumes::NewVolume;

/// Smallest memory limit that the kernel lets a container start with, in bytes, as Docker refuses below it.
pub(super) const MIN_MEMORY: u64 = 6 << 20;

/// Fresh volumes with the image's directory that each is filled from.
type Mounts = (Vec<MountPoint>, Vec<(std::path::PathBuf, String)>, Vec<String>);

/// The user's configuration over the image's, by Docker's rules.
#[must_use]
pub(super) fn merge(mut config: ContainerConfig, image: &ImageInfo) -> ContainerConfig {
    let mut env = image.env.clone();
    merge_env(&mut env, &config.env);
    config.env = env;
    if config.entrypoint.is_none() {
        // The image's CMD belongs to the image's ENTRYPOINT.
        if config.cmd.is_empty() {
            config.cmd.clone_from(&image.cmd);
        }
        config.entrypoint = (!image.entrypoint.is_empty()).then(|| image.entrypoint.clone());
    }
    let or = |value: &mut String, other: &str| {
        if value.is_empty() {
            other.clone_into(value);
        }
    };
    or(&mut config.working_dir, &image.working_dir);
    or(&mut config.user, &image.user);
    or(&mut config.stop_signal, &image.stop_signal);
    for (key, value) in &image.labels {
        config.labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    // `--no-healthcheck` and `HEALTHCHECK NONE` stay, for `inspect`.
    config.health = match (config.health.take(), &image.health) {
        (Some(own), Some(image)) => Some(own.over(image)),
        (own, image) => own.or_else(|| image.clone()),
    };
    for (list, more) in [(&mut config.exposed_ports, &image.exposed_ports), (&mut config.volumes, &image.volumes)] {
        list.extend(more.iter().cloned());
        list.sort();
        list.dedup();
    }
    config
}

fn parse_port(text: &str) -> Option<(u16, Protocol)> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    Some((port.parse().ok()?, Protocol::named(protocol)?))
}

impl Engine {
    /// Creates a container; returns its id.
    ///
    /// # Errors
    /// 400 for what no container can have, 404 for a missing image, 409 for a name in use.
    pub async fn create(self: &Arc<Self>, mut request: CreateContainer) -> Result<String> {
        validate(&request)?;
        let host = &mut request.host;
        with_defaults(&mut host.log_driver, &mut host.log_opts, &self.config.log_driver, &self.config.log_opts);
        logdriver::check(&host.log_driver, &host.log_opts)?;
        self.check_host(&request.host)?;
        let image = self.images.image(&request.config.image)?;
        let lower = self.images.lower(&image.id)?;
        self.check_networks(&request)?;
        let id = crate::random_hex::<32>()?;
        let name = self.reserve_name(&request.name, &id)?;
        let dir = self.config.data_root.join("containers").join(&id);
        let made = self.make_record(&request, &image, lower, &id, &name, &dir).await;
        let stored = made.and_then(|record| {
            let bundle = self.config.exec_root.join("c").join(&id[..24]);
            let container = Container::new(record, dir.clone(), bundle);
            container.update(true, |_| {})?;
            Ok(Arc::new(container))
        });
        match stored {
            Ok(container) => {
                self.registry_insert(Arc::clone(&container));
                self.container_event(&container, "create", []);
                Ok(id)
            }
            Err(e) => {
                self.release_name(&name, &id);
                // Nothing is kept of a container that was not created.
                let _ = std::fs::remove_dir_all(&dir);
                Err(e)
            }
        }
    }

    /// What this host cannot do.
    fn check_host(&self, host: &HostConfig) -> Result<()> {
        let facts = self.runtime.facts();
        super::devices::check(host, &facts)?;
        if facts.selinux && host.selinux.iter().any(|o| o != "disable") {
            let text = "SELinux is in force on this host, and labels of containers are not built yet in Skep: leave --security-opt label= \
                        out, or say label=disable";
            return Err(EngineError::new(Code::Unimplemented, text));
        }
        Ok(())
    }

    async fn make_record(
        &self,
        request: &CreateContainer,
        image: &ImageInfo,
        lower: Vec<std::path::PathBuf>,
        id: &str,
        name: &str,
        dir: &std::path::Path,
    ) -> Result<Record> {
        let config = merge(request.config.clone(), image);
        let mut argv = config.entrypoint.clone().unwrap_or_default();
        argv.extend(config.cmd.iter().cloned());
        let mut argv = argv.into_iter();
        let Some(path) = argv.next() else {
            return Err(invalid("no command specified"));
        };
        for sub in ["upper", "work", "rootfs", "etc"] {
            std::fs::create_dir_all(dir.join(sub))
                .map_err(|e| internal(&format!("make the directory of container {name}"), e))?;
        }
        let mut host = request.host.clone();
        host.network_mode = self.settled_mode(&host.network_mode);
        if host.publish_all {
            for (port, protocol) in config.exposed_ports.iter().filter_map(|p| parse_port(p)) {
                if !host.ports.iter().any(|p| p.container_port == port && p.protocol == protocol) {
                    host.ports.push(PortMap { protocol, container_port: port, host_ip: None, host_port: 0, host_port_end: 0 });
                }
            }
        }
        let (mounts, copy_up, driven_copies) = self.mounts(request, &config, id).await?;
        let info = ContainerInfo {
            id: id.to_owned(),
            name: name.to_owned(),
            created: crate::now(),
            image_id: image.id.clone(),
            path,
            args: argv.collect(),
            state: ContainerState::Created,
            log_path: dir.join(format!("{id}-json.log")).display().to_string(),
            etc_dir: dir.join("etc").display().to_string(),
            config,
            host,
            mounts,
            ..ContainerInfo::default()
        };
        Ok(Record {
            info,
            lower,
            networks: request.networks.clone(),
            ingress_address: request.ingress_address,
            ingress_ports: request.ingress_ports.clone(),
            files: request.files.clone(),
            copy_up,
            driven_copies,
            ..Record::default()
        })
    }

    /// Volumes, binds and tmpfs of a container; named volumes are created on the way.
    async fn mounts(&self, request: &CreateContainer, config: &ContainerConfig, id: &str) -> Result<Mounts> {
        let mut points: Vec<MountPoint> = Vec::new();
        let (mut copy_up, mut driven_copies) = (Vec::new(), Vec::new());
        let mut volume = async |new: NewVolume, target: &str, rw: bool, copy: bool| -> Result<MountPoint> {
            let info = self.create_volume(new).await.map_err(|e| match e.code {
                // Clients take a 404 for a missing image, and go and pull it.
                Code::NotFound => invalid(e.message),
                _ => e,
            })?;
            match (copy, info.driver()) {
                (true, "local") => copy_up.push((info.mountpoint.clone().into(), target.to_owned())),
                // Where a plugin has it mounted is not known before the start.
                (true, _) => driven_copies.push(target.to_owned()),
                (false, _) => {}
            }
            let (source, destination) = (info.mountpoint, target.to_owned());
            Ok(MountPoint { kind: "volume".to_owned(), name: info.name, source, destination, rw, driver: info.driver })
        };
        for bind in &request.host.binds {
            let (source, target, options) = split_bind(bind)?;
            let rw = !options.split(',').any(|o| o == "ro");
            let copy = !options.split(',').any(|o| o == "nocopy");
            if source.starts_with('/') {
                // `-v` makes a missing source, `--mount` does not.
                std::fs::create_dir_all(&source)
                    .or_else(|e| if std::path::Path::new(&source).exists() { Ok(()) } else { Err(e) })
                    .map_err(|e| internal(&format!("make bind source {source}"), e))?;
                points.push(MountPoint { kind: "bind".to_owned(), source, destination: target, rw, ..MountPoint::default() });
            } else {
                let driver = request.host.volume_driver.clone();
                points.push(volume(NewVolume { name: source, driver, ..NewVolume::default() }, &target, rw, copy).await?);
            }
        }
        for mount in &request.host.mounts {
            let rw = !mount.read_only;
            match mount.kind {
                MountKind::Bind => {
                    if !std::path::Path::new(&mount.source).exists() {
                        return Err(invalid(format!(
                            "invalid mount config for type \"bind\": bind source path does not exist: {}",
                            mount.source
                        )));
                    }
                    let (source, destination) = (mount.source.clone(), mount.target.clone());
                    points.push(MountPoint { kind: "bind".to_owned(), source, destination, rw, ..MountPoint::default() });
                }
                MountKind::Volume => {
                    let anonymous = mount.source.is_empty();
                    let name = if anonymous { crate::random_hex::<32>()? } else { mount.source.clone() };
                    let (labels, options) = (mount.volume_labels.clone(), mount.volume_options.clone());
                    let driver = mount.volume_driver.clone().unwrap_or_default();
                    let new = NewVolume { name, labels, anonymous, options, driver };
                    points.push(volume(new, &mount.target, rw, !mount.no_copy).await?);
                }
                MountKind::Tmpfs => {
                    let mut options = format!("mode={:o}", if mount.tmpfs_mode == 0 { 0o1777 } else { mount.tmpfs_mode });
                    if mount.tmpfs_size > 0 {
                        options += &format!(",size={}", mount.tmpfs_size);
                    }
                    let destination = mount.target.clone();
                    points.push(MountPoint {
                        kind: "tmpfs".to_owned(),
                        source: options,
                        destination,
                        rw,
                        ..MountPoint::default()
                    });
                }
            }
        }
        for target in &config.volumes {
            if !points.iter().any(|p| p.destination == *target) {
                let (name, driver) = (crate::random_hex::<32>()?, request.host.volume_driver.clone());
                let new = NewVolume { name, driver, anonymous: true, ..NewVolume::default() };
                points.push(volume(new, target, true, true).await?);
            }
        }
        for (index, point) in points.iter().enumerate() {
            if points[..index].iter().any(|p| p.destination == point.destination) {
                return Err(invalid(format!("Duplicate mount point: {}", point.destination)));
            }
        }
        tracing::debug!(container = id, mounts = points.len(), "mounts planned");
        Ok((points, copy_up, driven_copies))
    }

    fn reserve_name(&self, wanted: &str, id: &str) -> Result<String> {
        if wanted.is_empty() {
            for attempt in 0..100 {
                let name = names::random_name(crate::random()?, attempt);
                if self.take_name(&name, id).is_ok() {
                    return Ok(name);
                }
            }
            return Err(internal("choose a name", "a hundred random names are all in use"));
        }
        let name = wanted.strip_prefix('/').unwrap_or(wanted);
        if !names::is_valid(name) {
            return Err(invalid(format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")));
        }
        self.take_name(name, id).map_err(|holder| {
            conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You have to remove (or \
                 rename) that container to be able to reuse that name."
            ))
        })?;
        Ok(name.to_owned())
    }
}

fn validate(request: &CreateContainer) -> Result<()> {
    let host = &request.host;
    capabilities(host)?;
    if request.config.image.is_empty() {
        return Err(invalid("config cannot be empty in order to create a container"));
    }
    super::files::check(&request.files)?;
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return Err(invalid(format!("Invalid value {}, range for oom score adj is [-1000, 1000]", host.oom_score_adj)));
    }
    if host.memory > 0 && host.memory < MIN_MEMORY {
        return Err(invalid("Minimum memory limit allowed is 6MB"));
    }
    check_restart(&host.restart)?;
    if host.auto_remove && !matches!(host.restart.name.as_str(), "" | "no") {
        return Err(invalid("can't create 'AutoRemove' container with restart policy"));
    }
    let dir = &request.config.working_dir;
    if !dir.is_empty() && !dir.starts_with('/') {
        return Err(invalid(format!("the working directory '{dir}' is invalid, it needs to be an absolute path")));
    }
    if request.config.hostname.len() > 63 {
        return Err(invalid(format!("invalid hostname: {}: longer than 63 characters", request.config.hostname)));
    }
    if !request.config.stop_signal.is_empty() {
        // One that nothing knows would keep the container from ever being stopped.
        super::stop::signal_number(&request.config.stop_signal)?;
    }
    for mount in &host.mounts {
        let wrong = match mount.kind {
            MountKind::Bind if !mount.source.starts_with('/') => {
                format!("\"bind\": invalid mount path: '{}' mount path must be absolute", mount.source)
            }
            MountKind::Tmpfs if !mount.source.is_empty() => "\"tmpfs\": field Source must not be specified".to_owned(),
            _ => continue,
        };
        return Err(invalid(format!("invalid mount config for type {wrong}")));
    }
    for target in host.mounts.iter().map(|m| &m.target).chain(host.tmpfs.keys()).chain(&request.config.volumes) {
        if !target.starts_with('/') || target == "/" {
            return Err(invalid(format!("invalid mount config: invalid mount path: '{target}' mount path must be absolute")));
        }
    }
    Ok(())
}

/// Whether a restart policy is one.
pub(super) fn check_restart(restart: &EngineRestart) -> Result<()> {
    if !matches!(restart.name.as_str(), "" | "no" | "always" | "unless-stopped" | "on-failure") {
        return Err(invalid(format!(
            "invalid restart policy: unknown policy '{}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
            restart.name
        )));
    }
    if restart.max_retry > 0 && restart.name != "on-failure" {
        return Err(invalid("invalid restart policy: maximum retry count can only be used with 'on-failure'"));
    }
    Ok(())
}

/// `source:target[:options]` or `target`.
fn split_bind(bind: &str) -> Result<(String, String, String)> {
    let parts: Vec<&str> = bind.split(':').collect();
    let bad = || invalid(format!("invalid volume specification: '{bind}'"));
    let (source, target, options) = match parts.as_slice() {
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        _ => return Err(bad()),
    };
    if source.is_empty() || !target.starts_with('/') || target == "/" {
        return Err(bad());
    }
    for option in options.split(',').filter(|o| !o.is_empty()) {
        if !matches!(
            option,
            "rw" | "ro" | "nocopy" | "z" | "Z" | "rprivate" | "private" | "consistent" | "cached" | "delegated"
        ) {
            return Err(invalid(format!(
                "invalid mode: {option} in volume '{bind}' (shared and slave propagation are not built yet)"
            )));
        }
    }
    Ok((source.to_owned(), target.to_owned(), options.to_owned()))
}

#[cfg(test)]
mod tests {
    use skep_types::spec::Mount;

    use super::*;

    #[test]
    fn the_users_entrypoint_drops_the_images_command() {
        let image = ImageInfo {
            entrypoint: vec!["/entry".to_owned()],
            cmd: vec!["serve".to_owned()],
            env: vec!["A=1".to_owned(), "B=2".to_owned()],
            ..Default::default()
        };
        let plain = merge(ContainerConfig { env: vec!["B=3".to_owned()], ..Default::default() }, &image);
        assert_eq!((plain.entrypoint, plain.cmd), (Some(vec!["/entry".to_owned()]), vec!["serve".to_owned()]));
        assert_eq!(plain.env, ["A=1", "B=3"]);
        let own = merge(ContainerConfig { entrypoint: Some(vec!["/bin/sh".to_owned()]), ..Default::default() }, &image);
        assert_eq!(own.cmd, Vec::<String>::new());
        let args = merge(ContainerConfig { cmd: vec!["x".to_owned()], ..Default::default() }, &image);
        assert_eq!((args.entrypoint, args.cmd), (Some(vec!["/entry".to_owned()]), vec!["x".to_owned()]));
    }

    #[test]
    fn what_no_container_can_have_is_refused() {
        let request = |change: &dyn Fn(&mut CreateContainer)| {
            let mut r = CreateContainer::default();
            r.config.image = "one".to_owned();
            change(&mut r);
            validate(&r).map_err(|e| e.message)
        };
        assert_eq!(request(&|r| r.config.stop_signal = "INT".to_owned()), Ok(()));
        assert_eq!(request(&|r| r.config.stop_signal = "FOO".to_owned()), Err("invalid signal: FOO".to_owned()));
        let mount = |kind, source: &str| {
            let mount = Mount {
                kind,
                source: source.to_owned(),
                target: "/x".to_owned(),
                read_only: false,
                volume_labels: Default::default(),
                volume_driver: None,
                volume_options: Default::default(),
                no_copy: false,
                tmpfs_size: 0,
                tmpfs_mode: 0,
            };
            request(&|r| r.host.mounts = vec![mount.clone()])
        };
        assert_eq!(mount(MountKind::Bind, "/a"), Ok(()));
        assert_eq!(mount(MountKind::Volume, "a"), Ok(()));
        let wrong = mount(MountKind::Bind, "a").expect_err("a relative path");
        assert_eq!(wrong, "invalid mount config for type \"bind\": invalid mount path: 'a' mount path must be absolute");
        let wrong = mount(MountKind::Tmpfs, "a").expect_err("nothing to mount from");
        assert_eq!(wrong, "invalid mount config for type \"tmpfs\": field Source must not be specified");
    }

    #[test]
    fn binds_are_split_or_refused() {
        assert_eq!(split_bind("v:/data:ro").expect("good").2, "ro");
        for bad in ["/x", "a:b", ":/x", "a:/:ro", "a:/x:rshared", "a:/x:ro:y"] {
            assert!(split_bind(bad).is_err(), "{bad}");
        }
    }
}
