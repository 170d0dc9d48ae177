//! Options of volumes of the driver `local`: what is mounted while containers use them, by dockerd's rules (moby's
//! `volume/local/local_unix.go`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Options that the driver has.
const KNOWN: [&str; 4] = ["type", "o", "device", "size"];
/// Filesystems of other hosts, whose address the kernel wants as a number.
const REMOTE: [&str; 4] = ["nfs", "nfs4", "cifs", "smb3"];

/// A filesystem to be mounted, as mount(8) names its parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Filesystem {
    /// `nfs`, `tmpfs`, `ext4`, …; `none` for binds.
    pub kind: String,
    /// What is mounted: a device, a directory, `:/export`, `//server/share`.
    pub device: String,
    /// Options, parted by commas.
    pub options: String,
}

/// What a volume's options ask to be mounted; nothing if there are none.
///
/// # Errors
/// dockerd's texts for options that are unknown or not whole.
pub fn read(options: &BTreeMap<String, String>) -> Result<Option<Filesystem>, String> {
    if let Some(odd) = options.keys().find(|k| !KNOWN.contains(&k.as_str())) {
        return Err(format!("invalid option: {odd:?}"));
    }
    let get = |key: &str| options.get(key).map(String::as_str);
    if let (Some("cifs"), Some(device)) = (get("type"), get("device"))
        && server(device).is_some_and(|host| host.contains(':'))
    {
        return Err("port not allowed in CIFS device URL, include 'port' in 'o='".to_owned());
    }
    if let Some(size) = get("size")
        && !size.trim_start_matches('0').trim_end_matches(|c: char| c.is_ascii_alphabetic()).is_empty()
    {
        return Err("quota size requested but no quota support".to_owned());
    }
    for (key, needs) in [("device", &["type"][..]), ("type", &["device"]), ("o", &["device", "type"])] {
        if let Some(missing) = needs.iter().find(|n| options.contains_key(key) && !options.contains_key(**n)) {
            return Err(format!("missing required option: {missing:?}"));
        }
    }
    let text = |key: &str| get(key).unwrap_or_default().to_owned();
    let all = Filesystem { kind: text("type"), device: text("device"), options: text("o") };
    if all.device.is_empty() && !all.kind.is_empty() {
        return Err("missing device in volume options".to_owned());
    }
    Ok((!all.device.is_empty()).then_some(all))
}

/// The host of `//host/share`.
fn server(device: &str) -> Option<&str> {
    let (_, rest) = device.split_once("//")?;
    rest.split(['/', '\\']).next().filter(|h| !h.is_empty())
}

fn is_address(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok()
}

impl Filesystem {
    /// The value of `addr=`.
    fn addr(&self) -> Option<&str> {
        self.options.split(',').find_map(|o| o.strip_prefix("addr=")).filter(|a| !a.is_empty())
    }

    /// The name of another host, which must become an address before the kernel is asked.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        if !REMOTE.contains(&self.kind.as_str()) {
            return None;
        }
        match self.addr() {
            Some(addr) => Some(addr).filter(|a| !is_address(a)),
            None if self.kind.starts_with("nfs") => None,
            None => server(&self.device).filter(|h| !is_address(h)),
        }
    }

    /// The same with the address of that host.
    #[must_use]
    pub fn with_address(&self, address: &str) -> Self {
        let mut out = self.clone();
        let Some(host) = self.host() else { return out };
        if self.addr().is_some() {
            let put = |o: &str| if o == format!("addr={host}") { format!("addr={address}") } else { o.to_owned() };
            out.options = self.options.split(',').map(put).collect::<Vec<_>>().join(",");
        } else {
            out.device = self.device.replacen(host, address, 1);
        }
        out
    }

    /// The options without what nobody else should read.
    #[must_use]
    pub fn shown_options(&self) -> String {
        let hide = |o: &str| match o.split_once('=') {
            Some((key @ ("password" | "pass" | "password2"), _)) => format!("{key}=********"),
            _ => o.to_owned(),
        };
        self.options.split(',').map(hide).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Option<Filesystem>, String> {
        read(&pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn options_are_whole_or_refused() {
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&[("size", "0")]), Ok(None));
        let nfs = of(&[("type", "nfs"), ("o", "addr=10.0.0.1,rw"), ("device", ":/export")]).unwrap().unwrap();
        assert_eq!((nfs.kind.as_str(), nfs.device.as_str(), nfs.options.as_str()), ("nfs", ":/export", "addr=10.0.0.1,rw"));
        for (pairs, text) in [
            (&[("mountpoint", "/x")][..], "invalid option: \"mountpoint\""),
            (&[("type", "nfs")], "missing required option: \"device\""),
            (&[("device", "/x")], "missing required option: \"type\""),
            (&[("o", "rw"), ("type", "nfs")], "missing required option: \"device\""),
            (&[("type", "nfs"), ("device", "")], "missing device in volume options"),
            (&[("size", "10m")], "quota size requested but no quota support"),
            (&[("type", "cifs"), ("device", "//nas:445/x")], "port not allowed in CIFS device URL, include 'port' in 'o='"),
        ] {
            assert_eq!(of(pairs), Err(text.to_owned()));
        }
    }

    #[test]
    fn names_of_servers_become_addresses() {
        let case = |kind: &str, device: &str, options: &str| {
            let f = Filesystem { kind: kind.into(), device: device.into(), options: options.into() };
            let to = f.with_address("10.9.9.9");
            (f.host().map(str::to_owned), to.device, to.options)
        };
        let named = Some("nas".to_owned());
        assert_eq!(
            case("nfs", ":/e", "rw,addr=nas,nfsvers=4"),
            (named.clone(), ":/e".into(), "rw,addr=10.9.9.9,nfsvers=4".into())
        );
        assert_eq!(case("nfs4", ":/e", "addr=10.0.0.1"), (None, ":/e".into(), "addr=10.0.0.1".into()));
        assert_eq!(case("nfs", ":/e", "mountaddr=nas"), (None, ":/e".into(), "mountaddr=nas".into()));
        assert_eq!(case("cifs", "//nas/nas", "user=a"), (named.clone(), "//10.9.9.9/nas".into(), "user=a".into()));
        assert_eq!(case("cifs", "//nas/s", "addr=nas"), (named, "//nas/s".into(), "addr=10.9.9.9".into()));
        assert_eq!(case("tmpfs", "tmpfs", "addr=nas"), (None, "tmpfs".into(), "addr=nas".into()));
        let f = Filesystem { options: "username=a,password=b,vers=3".into(), ..Filesystem::default() };
        assert_eq!(f.shown_options(), "username=a,password=********,vers=3");
    }
}
