//! The kernel's side of the house: namespaces, mounts, cgroups, netlink, nftables, and the shim that runs a container through
//! `libcontainer`. The only crate with `unsafe`; each block says why it is sound. It decides nothing: `engine` and `netplan`
//! say what should be, this crate makes it so and says what is.

pub mod cgroup;
pub mod host;
pub mod memory;
pub mod net;
mod peer;
mod processes;
pub mod reach;
pub mod runtime;
pub mod seccomp;
pub mod shim;
mod usage;
pub mod wireguard;
