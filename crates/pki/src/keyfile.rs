//! What a node keeps secret on its disk, as one file: its certificate with the key, and the keys of its raft data. With an unlock
//! key every secret is sealed by itself (XChaCha20-Poly1305), without one they are plain and the file's mode protects them
//! (`swarm-semantics` 6.5). Certificate and key are in one file, so that a crash cannot part them. Must never do I/O.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use skep_types::Secret;

use crate::UnlockKey;

const FORMAT: u32 = 1;
const NONCE: usize = 24;

/// A key of the raft log and snapshots.
#[derive(Clone, PartialEq, Eq)]
pub struct DataKey(pub [u8; 32]);

impl std::fmt::Debug for DataKey {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DataKey")
    }
}

/// The content of the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyFile {
    /// Certificate chain of the node, PEM.
    pub chain: String,
    /// Its key, PEM.
    pub key: Secret,
    /// Keys of the raft data, the one in use first. Empty on workers.
    pub data_keys: Vec<DataKey>,
    /// Version of the cluster object whose unlock key seals the file: an older one, seen while a manager catches up after its
    /// start, must not take its place.
    pub seal_version: u64,
}

/// Why a key file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// It is sealed and no key was given.
    #[error("the keys are sealed: the unlock key is needed")]
    Locked,
    /// It is sealed with another key.
    #[error("the keys cannot be opened with this unlock key")]
    WrongKey,
    /// It is no key file, or damaged.
    #[error("read key file: {0}")]
    Damaged(String),
}

#[derive(Serialize, Deserialize)]
struct Form {
    format: u32,
    sealed: bool,
    chain: String,
    key: String,
    #[serde(default)]
    data_keys: Vec<String>,
    #[serde(default)]
    seal_version: u64,
}

/// What a sealed text is bound to, so that one cannot be put in another's place.
fn place(what: &str) -> String {
    format!("skep key file {FORMAT} {what}")
}

pub(crate) fn seal(kek: &UnlockKey, nonce: [u8; NONCE], what: &str, plain: &[u8]) -> Vec<u8> {
    let cipher = XChaCha20Poly1305::new(&Key::from(kek.0));
    let place = place(what);
    let payload = Payload { msg: plain, aad: place.as_bytes() };
    // Sealing fails only for texts of 256 GiB; an empty text cannot be opened again.
    let sealed = cipher.encrypt(&XNonce::from(nonce), payload).unwrap_or_default();
    [nonce.as_slice(), &sealed].concat()
}

pub(crate) fn open(kek: &UnlockKey, what: &str, sealed: &[u8]) -> Result<Vec<u8>, KeyFileError> {
    let damaged = || KeyFileError::Damaged(format!("{what} is too short"));
    let (nonce, rest) = sealed.split_first_chunk::<NONCE>().ok_or_else(damaged)?;
    let place = place(what);
    let payload = Payload { msg: rest, aad: place.as_bytes() };
    XChaCha20Poly1305::new(&Key::from(kek.0)).decrypt(&XNonce::from(*nonce), payload).map_err(|_| KeyFileError::WrongKey)
}

impl KeyFile {
    /// The file's bytes, sealed with `kek` if there is one. `nonce` gives 24 random bytes each time.
    #[must_use]
    pub fn encode(&self, kek: Option<&UnlockKey>, mut nonce: impl FnMut() -> [u8; NONCE]) -> Vec<u8> {
        let mut text = |what: &str, plain: &[u8]| match kek {
            Some(kek) => STANDARD.encode(seal(kek, nonce(), what, plain)),
            None => STANDARD.encode(plain),
        };
        let form = Form {
            format: FORMAT,
            sealed: kek.is_some(),
            chain: self.chain.clone(),
            key: text("key", self.key.as_bytes()),
            data_keys: self.data_keys.iter().enumerate().map(|(i, k)| text(&format!("data key {i}"), &k.0)).collect(),
            seal_version: self.seal_version,
        };
        // Strings and numbers always have a JSON form; an empty file would be reported as damaged.
        serde_json::to_vec_pretty(&form).unwrap_or_default()
    }

    /// Whether the bytes are a key file that needs the unlock key.
    ///
    /// # Errors
    /// [`KeyFileError::Damaged`].
    pub fn is_sealed(bytes: &[u8]) -> Result<bool, KeyFileError> {
        form(bytes).map(|f| f.sealed)
    }

    /// Reads the file. A plain file opens with any key and with none.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn decode(bytes: &[u8], kek: Option<&UnlockKey>) -> Result<Self, KeyFileError> {
        let form = form(bytes)?;
        if form.sealed && kek.is_none() {
            return Err(KeyFileError::Locked);
        }
        let kek = kek.filter(|_| form.sealed);
        let plain = |what: &str, text: &str| {
            let bytes = STANDARD.decode(text).map_err(|e| KeyFileError::Damaged(format!("{what}: {e}")))?;
            match kek {
                Some(kek) => open(kek, what, &bytes),
                None => Ok(bytes),
            }
        };
        let key = String::from_utf8(plain("key", &form.key)?).map_err(|e| KeyFileError::Damaged(e.to_string()))?;
        let data_key = |(i, text): (usize, &String)| {
            let what = format!("data key {i}");
            let bytes = plain(&what, text)?;
            bytes.try_into().map(DataKey).map_err(|_| KeyFileError::Damaged(format!("{what} has not 32 bytes")))
        };
        let data_keys = form.data_keys.iter().enumerate().map(data_key).collect::<Result<_, KeyFileError>>()?;
        Ok(Self { chain: form.chain, key: Secret(key), data_keys, seal_version: form.seal_version })
    }
}

fn form(bytes: &[u8]) -> Result<Form, KeyFileError> {
    let form: Form = serde_json::from_slice(bytes).map_err(|e| KeyFileError::Damaged(e.to_string()))?;
    if form.format == FORMAT {
        Ok(form)
    } else {
        Err(KeyFileError::Damaged(format!(
            "format {} is not known, only {FORMAT}: was it written by a newer Skep?",
            form.format
        )))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn file() -> KeyFile {
        let data_keys = vec![DataKey([2; 32]), DataKey([1; 32])];
        KeyFile { chain: "CHAIN".into(), key: Secret("THE KEY".into()), data_keys, seal_version: 4 }
    }

    fn nonces() -> impl FnMut() -> [u8; 24] {
        let mut n = 0;
        move || {
            n += 1;
            [n; 24]
        }
    }

    #[test]
    fn a_sealed_file_opens_with_its_key_only() {
        let kek = UnlockKey::new([9; 32]);
        let bytes = file().encode(Some(&kek), nonces());
        assert!(KeyFile::is_sealed(&bytes).unwrap());
        assert_eq!(KeyFile::decode(&bytes, Some(&kek)).unwrap(), file());
        assert_eq!(KeyFile::decode(&bytes, None), Err(KeyFileError::Locked));
        assert_eq!(KeyFile::decode(&bytes, Some(&UnlockKey::new([8; 32]))), Err(KeyFileError::WrongKey));
        let text = String::from_utf8(bytes).unwrap();
        for secret in [STANDARD.encode("THE KEY"), STANDARD.encode([1; 32]), STANDARD.encode([2; 32])] {
            assert!(!text.contains(&secret));
        }
        // The sealed texts cannot change places.
        let mut form: Form = serde_json::from_str(&text).unwrap();
        form.data_keys.swap(0, 1);
        assert_eq!(KeyFile::decode(&serde_json::to_vec(&form).unwrap(), Some(&kek)), Err(KeyFileError::WrongKey));
    }

    #[test]
    fn a_plain_file_opens_with_anything() {
        let bytes = file().encode(None, nonces());
        assert!(!KeyFile::is_sealed(&bytes).unwrap());
        assert_eq!(KeyFile::decode(&bytes, None).unwrap(), file());
        assert_eq!(KeyFile::decode(&bytes, Some(&UnlockKey::new([1; 32]))).unwrap(), file());
    }

    #[test]
    fn damage_is_told() {
        let kek = UnlockKey::new([9; 32]);
        let bytes = file().encode(Some(&kek), nonces());
        for n in 0..bytes.len() {
            assert!(KeyFile::decode(&bytes[..n], Some(&kek)).is_err());
        }
        let newer = String::from_utf8(bytes).unwrap().replace("\"format\": 1", "\"format\": 2");
        assert!(matches!(KeyFile::decode(newer.as_bytes(), Some(&kek)), Err(KeyFileError::Damaged(e)) if e.contains("newer")));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in any::<Vec<u8>>()) {
            let _ = KeyFile::decode(&bytes, Some(&UnlockKey::new([0; 32])));
        }
    }
}
