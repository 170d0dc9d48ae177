//! This host's keys in the swarm and how they lie on its disk: sealed under the swarm's unlock key on a manager of a swarm that is
//! locked, plain otherwise (`swarm-semantics` 6.5). Must never write a plain key where a sealed one is wanted.

use skep_manager::{Key, KeyRing};
use skep_pki::{DataKey, KeyFile, KeyFileError, UnlockKey};
use skep_types::Secret;
use skep_types::control::{ControlError, IssuedCertificate};
use skep_types::object::Version;
use skep_types::spec::Role;
use skep_wire::Credentials;

use crate::error::internal;
use crate::files::Files;

/// The keys, opened.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    root: String,
    file: KeyFile,
    kek: Option<UnlockKey>,
}

/// Why keys could not be opened.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// The unlock key is needed.
    Locked,
    /// It is another one.
    WrongKey,
    /// They cannot be read.
    Failed(ControlError),
}

fn nonce() -> Result<impl FnMut() -> [u8; 24], ControlError> {
    // One draw and a counter: the nonces of a file differ from each other and from all other files'.
    let mut first = [0; 24];
    getrandom::fill(&mut first).map_err(|e| internal("draw nonce", e))?;
    Ok(move || {
        first[0] = first[0].wrapping_add(1);
        first
    })
}

fn data_key() -> Result<DataKey, ControlError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|e| internal("draw key", e))?;
    Ok(DataKey(bytes))
}

/// The unlock key in a text; none if it is empty.
fn unlock_key(text: &Secret) -> Result<Option<UnlockKey>, ControlError> {
    if text.is_empty() {
        return Ok(None);
    }
    UnlockKey::parse(text).map(Some).map_err(|e| internal("read the swarm's unlock key", e))
}

impl Keys {
    /// Keys with a certificate that was just issued, under this root.
    pub(crate) fn new(root: String, cert: &IssuedCertificate, key: String) -> Result<Self, ControlError> {
        let mut keys = Self { root, file: KeyFile::default(), kek: None };
        keys.take(cert, key)?;
        Ok(keys)
    }

    /// Reads them.
    pub(crate) fn open(files: &Files, kek: Option<&UnlockKey>) -> Result<Self, OpenError> {
        let failed = |cause: &dyn std::fmt::Display| OpenError::Failed(internal("read keys of the swarm", cause));
        let bytes = files.keys().map_err(|e| failed(&e))?;
        let file = KeyFile::decode(&bytes, kek).map_err(|e| match e {
            KeyFileError::Locked => OpenError::Locked,
            KeyFileError::WrongKey => OpenError::WrongKey,
            e @ KeyFileError::Damaged(_) => failed(&e),
        })?;
        let sealed = KeyFile::is_sealed(&bytes).map_err(|e| failed(&e))?;
        let root = files.root().map_err(|e| failed(&e))?;
        Ok(Self { root, file, kek: kek.filter(|_| sealed).cloned() })
    }

    /// Uses another certificate and key. A worker's keys are not sealed and it has none for raft.
    fn take(&mut self, cert: &IssuedCertificate, key: String) -> Result<(), ControlError> {
        self.file.chain.clone_from(&cert.chain);
        self.file.key = Secret(key);
        if cert.role == Role::Worker {
            self.kek = None;
            self.file.data_keys.clear();
            self.file.seal_version = 0;
            return Ok(());
        }
        if self.file.data_keys.is_empty() {
            self.file.data_keys.push(data_key()?);
        }
        if cert.unlock_version.0 > self.file.seal_version {
            self.kek = unlock_key(&cert.unlock_key)?;
            self.file.seal_version = cert.unlock_version.0;
        }
        Ok(())
    }

    /// The same keys with another certificate and key.
    pub(crate) fn renewed(&self, cert: &IssuedCertificate, key: String) -> Result<Self, ControlError> {
        let mut keys = self.clone();
        keys.take(cert, key)?;
        Ok(keys)
    }

    /// The same keys under another root.
    pub(crate) fn with_root(&self, pem: String) -> Self {
        Self { root: pem, ..self.clone() }
    }

    /// The same keys, sealed as this version of the cluster wants it; `None` if they already are, or have seen a newer version.
    pub(crate) fn resealed(&self, wanted: &Secret, version: Version) -> Result<Option<Self>, ControlError> {
        if version.0 <= self.file.seal_version {
            return Ok(None);
        }
        let kek = unlock_key(wanted)?;
        if kek == self.kek {
            return Ok(None);
        }
        let mut keys = self.clone();
        keys.kek = kek;
        keys.file.seal_version = version.0;
        // The key before may have lain open on the disk.
        keys.file.data_keys.insert(0, data_key()?);
        Ok(Some(keys))
    }

    /// The keys of the raft log: the one for writing, and those that what is there may be sealed with.
    pub(crate) fn ring(&self) -> Result<KeyRing, ControlError> {
        let mut all = self.file.data_keys.iter().map(|k| Key::new(k.0));
        let current = all.next().ok_or_else(|| internal("read keys of the swarm", "there is none for the raft log"))?;
        Ok(KeyRing { current, older: all.collect() })
    }

    /// The same keys, without those that nothing of the raft log is sealed with once `current` is the only one.
    pub(crate) fn with_only(&self, current: &Key) -> Self {
        let mut keys = self.clone();
        keys.file.data_keys.retain(|k| Key::new(k.0).id() == current.id());
        keys
    }

    /// Writes them.
    pub(crate) fn save(&self, files: &Files) -> Result<(), ControlError> {
        let bytes = self.file.encode(self.kek.as_ref(), nonce()?);
        let write = || {
            files.save_root(&self.root)?;
            files.save_keys(&bytes, &self.file.chain)
        };
        write().map_err(|e| internal("write keys of the swarm", e))
    }

    /// As the wire takes them.
    pub(crate) fn credentials(&self) -> Credentials {
        Credentials { root: self.root.clone(), chain: self.file.chain.clone(), key: self.file.key.0.clone() }
    }

    /// The root that is trusted, PEM.
    pub(crate) fn root(&self) -> &str {
        &self.root
    }

    /// The certificate chain, PEM.
    pub(crate) fn chain(&self) -> &str {
        &self.file.chain
    }

    /// The key of the certificate, PEM.
    pub(crate) fn key(&self) -> &str {
        &self.file.key
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use skep_types::{ClusterId, NodeId, Time};

    fn cert(role: Role, unlock: &str, version: u64) -> IssuedCertificate {
        IssuedCertificate {
            node: NodeId(1),
            cluster: ClusterId(1),
            role,
            chain: "CHAIN".into(),
            issued_at: Time(1),
            unlock_key: Secret(unlock.into()),
            unlock_version: Version(version),
        }
    }

    #[test]
    fn a_managers_keys_are_sealed_from_the_first_write_and_a_workers_never() {
        let dir = tempfile::TempDir::new().unwrap();
        let files = Files(dir.path().to_path_buf());
        let kek = UnlockKey::new([3; 32]);
        let keys = Keys::new("ROOT".into(), &cert(Role::Manager, &kek.to_string(), 5), "THE KEY".into()).unwrap();
        keys.save(&files).unwrap();
        assert!(matches!(Keys::open(&files, None), Err(OpenError::Locked)));
        assert!(matches!(Keys::open(&files, Some(&UnlockKey::new([4; 32]))), Err(OpenError::WrongKey)));
        let back = Keys::open(&files, Some(&kek)).unwrap();
        assert_eq!((back.key(), back.chain(), back.root()), ("THE KEY", "CHAIN", "ROOT"));
        // An older state of the cluster, as while catching up, changes nothing; a newer one does.
        assert!(back.resealed(&Secret::default(), Version(5)).unwrap().is_none());
        assert!(back.resealed(&Secret(kek.to_string()), Version(6)).unwrap().is_none());
        back.resealed(&Secret::default(), Version(6)).unwrap().unwrap().save(&files).unwrap();
        assert_eq!(Keys::open(&files, None).unwrap().key(), "THE KEY");

        keys.save(&files).unwrap();
        keys.renewed(&cert(Role::Worker, "", 9), "OTHER".into()).unwrap().save(&files).unwrap();
        assert_eq!(Keys::open(&files, None).unwrap().key(), "OTHER");
    }
}
