//! The files of /etc that the engine makes for a container: hosts, hostname, resolv.conf.

use std::net::IpAddr;
use std::path::Path;

use skep_types::container::ContainerInfo;

/// Content of /etc/hosts.
fn hosts(info: &ContainerInfo, hostname: &str, addresses: &[IpAddr]) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    for extra in &info.host.extra_hosts {
        if let Some((name, address)) = extra.split_once(':') {
            text += &format!("{address}\t{name}\n");
        }
    }
    for address in addresses {
        text += &format!("{address}\t{hostname}\n");
    }
    text
}

/// Writes the three files.
///
/// # Errors
/// When the disk refuses.
pub(super) fn write(
    dir: &Path,
    info: &ContainerInfo,
    hostname: &str,
    addresses: &[IpAddr],
    resolv_conf: &str,
) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    std::fs::write(dir.join("hosts"), hosts(info, hostname, addresses))?;
    std::fs::write(dir.join("hostname"), format!("{hostname}\n"))?;
    std::fs::write(dir.join("resolv.conf"), resolv_conf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_hosts_and_own_addresses_are_listed() {
        let mut info = ContainerInfo::default();
        info.host.extra_hosts = vec!["db:10.0.0.7".to_owned()];
        let text = hosts(&info, "me", &[IpAddr::from([172, 17, 0, 2])]);
        assert!(text.contains("10.0.0.7\tdb\n") && text.ends_with("172.17.0.2\tme\n"));
    }
}
