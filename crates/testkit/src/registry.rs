//! A registry to push to and pull from: the distribution's `docker-registry`, on an address of the test's.

use std::net::SocketAddrV4;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::{http, program, wait_for};

/// How long the registry may take to answer.
const START: Duration = Duration::from_secs(20);

/// A registry that lives as long as this value.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddrV4,
    process: Child,
}

impl Registry {
    /// Starts a registry that keeps its data below `dir`; returns when it answers. `None` if none is installed.
    ///
    /// # Panics
    /// If it cannot be started, with the end of its log.
    #[must_use]
    pub fn start(dir: &Path, address: SocketAddrV4) -> Option<Self> {
        Self::launch(dir, address, "")
    }

    /// The same for those who know the password only, which is `sesame` for the user `me`.
    ///
    /// # Panics
    /// As [`Registry::start`].
    #[must_use]
    pub fn start_locked(dir: &Path, address: SocketAddrV4) -> Option<Self> {
        let file = dir.join("htpasswd");
        // By bcrypt, as the registry wants it.
        let line = "me:$2y$05$abcdefghijklmnopqrstuuKcS.CYWVYVaLiiCKrrc0A5s3mGesJ9O\n";
        std::fs::create_dir_all(dir)
            .and_then(|()| std::fs::write(&file, line))
            .unwrap_or_else(|e| panic!("write {}: {e}", file.display()));
        Self::launch(dir, address, &format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", file.display()))
    }

    fn launch(dir: &Path, address: SocketAddrV4, more: &str) -> Option<Self> {
        let binary = program("docker-registry")?;
        let config = format!(
            "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  addr: {address}\n{more}",
            dir.join("data").display()
        );
        let (file, log) = (dir.join("config.yml"), dir.join("log"));
        let spawn = || {
            std::fs::create_dir_all(dir)?;
            std::fs::write(&file, config)?;
            let errors = std::fs::File::create(&log)?;
            Command::new(binary).arg("serve").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).spawn()
        };
        let process = spawn().unwrap_or_else(|e| panic!("start a registry in {}: {e}", dir.display()));
        let mut made = Self { address, process };
        wait_for(START, "the registry to answer", || {
            let ended = made.process.try_wait().ok().flatten();
            let said = || std::fs::read_to_string(&log).unwrap_or_default();
            assert!(ended.is_none(), "the registry ended with {ended:?}: {}", said());
            let page = http::Client::default().get(&format!("http://{address}/v2/"))?;
            if matches!(page.status, 200 | 401) { Ok(()) } else { Err(format!("{}", page.status)) }
        });
        Some(made)
    }

    /// Name of an image in this registry: `ADDRESS/NAME`.
    #[must_use]
    pub fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // One that is gone already is what was wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;
    use crate::{skip, wait_until};

    #[test]
    fn a_registry_lives_as_long_as_its_value() {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        let Some(registry) = Registry::start(dir.path(), address) else { return skip("needs docker-registry") };
        assert_eq!(registry.name("a:b"), format!("127.0.0.1:{port}/a:b"));
        let catalog = format!("http://{address}/v2/_catalog");
        assert!(http::get(&catalog).unwrap().contains("repositories"));
        drop(registry);
        wait_until(Duration::from_secs(5), "the registry to be gone", || http::get(&catalog).is_err());
    }
}
