//! `skep wireguard DIR LINK MTU`: the process that carries a WireGuard link where the kernel cannot. It outlives the daemon, as shims do, and
//! ends with its link: who deletes that ends it, and when it dies the link is gone and nothing passes.
//!
//! It is told what to do by WireGuard's own configuration protocol for such processes, on a socket in DIR.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use gotatun::device::DeviceBuilder;
use gotatun::device::uapi::UapiServer;
use skep_types::wireguard::PublicKey;
use tokio::sync::watch;

use super::udp::Sockets;
use super::{Link, tun};

/// Name of the control socket.
const SOCKET: &str = "control.sock";
/// Word that the process writes when its link is there.
const READY: &str = "ready";
/// The process answers at once; this only keeps one that hangs from holding a thread for ever.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of an answer: some 300 for each peer, and room for ten thousand.
const MOST: u64 = 4 << 20;

/// Starts the process in the calling thread's namespace, and waits until the link is there.
pub(super) fn start(dir: &Path, name: &str, mtu: u32) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg("wireguard").arg(dir).args([name, &mtu.to_string()]);
    // The first process ends at once; what it says comes from the one that stays.
    let mut first = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut said = String::new();
    let read = first.stdout.take().map(|out| out.take(1024).read_to_string(&mut said)).unwrap_or(Ok(0));
    first.wait()?;
    read?;
    match said.trim() {
        READY => Ok(()),
        "" => Err(io::Error::other("the process for it ended without a word")),
        why => Err(io::Error::other(why.to_owned())),
    }
}

/// The process's entry: forks, so that nobody waits for it, and stays until its link is gone. Returns the exit code.
#[must_use]
#[allow(unsafe_code)]
pub fn main(args: &[String]) -> i32 {
    let [dir, name, mtu] = args else {
        eprintln!("skep: this command is for the daemon's own use");
        return 1;
    };
    // SAFETY: the process has one thread, so the child may go on with any code.
    match unsafe { nix::unistd::fork() } {
        Ok(nix::unistd::ForkResult::Parent { .. }) => return 0,
        Ok(nix::unistd::ForkResult::Child) => {}
        Err(e) => {
            println!("fork: {e}");
            return 1;
        }
    }
    match run(Path::new(dir), name, mtu.parse().unwrap_or(1420)) {
        Ok(()) => 0,
        Err(e) => {
            println!("{e}");
            1
        }
    }
}

fn run(dir: &Path, name: &str, mtu: u16) -> io::Result<()> {
    nix::unistd::setsid()?;
    let (device, headers) = tun::open(name)?;
    let path = dir.join(SOCKET);
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (client, server) = UapiServer::new();
    let (gone, mut is_gone) = watch::channel(false);
    runtime.block_on(async move {
        let (writer, reader) = tun::split(device, headers, mtu, gone)?;
        let device = DeviceBuilder::new().with_udp(Sockets::new()).with_ip_pair(writer, reader).with_uapi(server).build();
        let device = device.await.map_err(|e| io::Error::other(e.to_string()))?;
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                client.clone().wrap_read_write(stream);
            }
        });
        println!("{READY}");
        detach()?;
        // The sender is the link's: it goes when the link does, whether it says so or not.
        let _ = is_gone.wait_for(|gone| *gone).await;
        device.stop().await;
        Ok::<(), io::Error>(())
    })?;
    let _ = fs::remove_file(&path);
    Ok(())
}

/// Lets go of whoever waits for a word.
fn detach() -> io::Result<()> {
    io::stdout().flush()?;
    let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}

/// The way to that process.
pub(super) struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// None if there is no such process.
    pub(super) fn connect(dir: &Path) -> Option<Self> {
        let stream = UnixStream::connect(dir.join(SOCKET)).ok()?;
        stream.set_read_timeout(Some(TIMEOUT)).ok()?;
        Some(Self { stream: BufReader::new(stream) })
    }

    /// Sends a request; the lines of the answer as (key, value).
    fn ask(&mut self, request: &str) -> io::Result<Vec<(String, String)>> {
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut out = Vec::new();
        let mut answer = (&mut self.stream).take(MOST);
        loop {
            let mut line = String::new();
            if answer.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match line.trim_end().split_once('=') {
                None => break,
                Some((key, value)) => out.push((key.to_owned(), value.to_owned())),
            }
        }
        match out.iter().find(|(k, _)| k == "errno").map(|(_, v)| v.parse::<i32>()) {
            None | Some(Ok(0)) => Ok(out),
            Some(Ok(code)) => Err(io::Error::from_raw_os_error(code.saturating_abs())),
            Some(Err(e)) => Err(io::Error::other(e)),
        }
    }
}

impl Link for Client {
    fn identify(&mut self, private: &[u8; 32], port: u16) -> io::Result<()> {
        let private = PublicKey(*private);
        self.ask(&format!("set=1\nprivate_key={private}\nlisten_port={port}\n\n")).map(drop)
    }

    fn set_peer(&mut self, key: PublicKey, addr: Ipv4Addr, port: u16) -> io::Result<()> {
        let peer = format!("public_key={key}\nendpoint={addr}:{port}\nreplace_allowed_ips=true\nallowed_ip={addr}/32");
        self.ask(&format!("set=1\n{peer}\n\n")).map(drop)
    }

    fn delete_peer(&mut self, key: PublicKey) -> io::Result<()> {
        self.ask(&format!("set=1\npublic_key={key}\nremove=true\n\n")).map(drop)
    }

    fn peers(&mut self) -> io::Result<BTreeMap<Ipv4Addr, PublicKey>> {
        let mut out = BTreeMap::new();
        let mut peer = None;
        for (key, value) in self.ask("get=1\n\n")? {
            match key.as_str() {
                "public_key" => peer = value.parse::<PublicKey>().ok(),
                "allowed_ip" => {
                    let addr = value.split('/').next().and_then(|a| a.parse::<Ipv4Addr>().ok());
                    out.extend(addr.zip(peer));
                }
                _ => {}
            }
        }
        Ok(out)
    }
}
