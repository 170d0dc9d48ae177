//! Who a process runs as: names of the image's own passwd and group files, read without leaving its root.

use std::io::Read;
use std::path::Path;

use rustix::fs::OFlags;

use super::ShimError;
use super::rootfs::open_inside;

/// Longest passwd or group file that is read.
const MAX_FILE: u64 = 1 << 20;

/// A user as the kernel takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

fn read(root: &Path, path: &str) -> String {
    let mut text = String::new();
    if let Ok(file) = open_inside(root, path, OFlags::RDONLY) {
        // A file that is not text names nobody.
        let _ = file.take(MAX_FILE).read_to_string(&mut text);
    }
    text
}

/// Resolves `user[:group]`, by name or number; empty is root. `more` are groups that it has besides.
///
/// # Errors
/// With Docker's texts when a name is unknown.
pub(crate) fn resolve(root: &Path, user: &str, more: &[String]) -> Result<Identity, ShimError> {
    let group = read(root, "/etc/group");
    let mut identity = resolve_in(&read(root, "/etc/passwd"), &group, user)?;
    for wanted in more {
        identity.groups.push(group_id(&group, wanted)?);
    }
    Ok(identity)
}

fn group_id(group: &str, wanted: &str) -> Result<u32, ShimError> {
    let mut groups = group.lines().map(|l| l.split(':').collect::<Vec<_>>()).filter(|f| f.len() >= 3);
    let by_name = groups.find(|f| f[0] == wanted).and_then(|f| f[2].parse().ok());
    let unknown = || ShimError(format!("unable to find group {wanted}: no matching entries in group file"));
    by_name.or_else(|| wanted.parse().ok()).ok_or_else(unknown)
}

fn resolve_in(passwd: &str, group: &str, user: &str) -> Result<Identity, ShimError> {
    let (name, wanted_group) = user.split_once(':').map_or((user, None), |(u, g)| (u, Some(g)));
    let name = if name.is_empty() { "0" } else { name };
    let number = name.parse::<u32>().ok();
    let entry = passwd
        .lines()
        .map(|l| l.split(':').collect::<Vec<_>>())
        .find(|f| f.len() >= 6 && (f[0] == name || number.is_some() && f[2].parse().ok() == number));
    let (login, uid, gid, home) = match (&entry, number) {
        (Some(f), _) => (f[0], f[2].parse().unwrap_or(0), f[3].parse().unwrap_or(0), f[5]),
        (None, Some(uid)) => ("", uid, 0, "/"),
        (None, None) => return Err(ShimError(format!("unable to find user {name}: no matching entries in passwd file"))),
    };
    let groups: Vec<Vec<&str>> = group.lines().map(|l| l.split(':').collect()).filter(|f: &Vec<_>| f.len() >= 3).collect();
    if let Some(wanted) = wanted_group.filter(|g| !g.is_empty()) {
        let gid = group_id(group, wanted)?;
        return Ok(Identity { uid, gid, groups: Vec::new(), home: home.to_owned() });
    }
    let member = |f: &&Vec<&str>| !login.is_empty() && f.len() >= 4 && f[3].split(',').any(|m| m == login);
    let more = groups.iter().filter(member).filter_map(|f| f[2].parse().ok()).collect();
    Ok(Identity { uid, gid, groups: more, home: home.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:33:www:/var/www:/bin/false\n";
    const GROUP: &str = "root:x:0:\nwww:x:33:\naudio:x:29:www,other\n";

    #[test]
    fn names_numbers_and_groups_resolve_as_in_docker() {
        let of = |user| resolve_in(PASSWD, GROUP, user);
        assert_eq!(of("").expect("root").home, "/root");
        let www = of("www").expect("known");
        assert_eq!((www.uid, www.gid, www.groups), (33, 33, vec![29]));
        assert_eq!(of("1000").expect("any number").gid, 0);
        let with_group = of("33:audio").expect("known");
        assert_eq!((with_group.gid, with_group.groups.len()), (29, 0));
        assert_eq!(of("1:77").expect("any number").gid, 77);
        assert!(of("nobody").expect_err("unknown").0.contains("no matching entries in passwd file"));
        assert!(of("www:none").expect_err("unknown").0.contains("no matching entries in group file"));
    }
}
