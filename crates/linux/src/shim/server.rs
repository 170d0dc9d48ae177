//! The shim's one loop: its socket, its processes, their output.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use libcontainer::container::Container;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use skep_engine::shim::{Exit, PROTOCOL, Request, Response, SOCKET_FILE, ShimConfig};

use super::client::{Client, Incoming, Role};
use super::log::Log;
use super::output::{blocked, is_over, pump};
use super::session::{MAX_STDIN, Session};
use super::{ShimError, chain, exec, launch};
use crate::cgroup;

/// Connections at a time: attached clients, execs (health checks included) and the daemon's own.
const MAX_CLIENTS: usize = 256;
/// How long the last output may take to reach slow clients once the container ended.
const FAREWELL: Duration = Duration::from_secs(5);

/// Listens on the bundle's socket.
pub(crate) fn listen(bundle: &Path) -> Result<UnixListener, ShimError> {
    let path = bundle.join(SOCKET_FILE);
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).map_err(|e| ShimError::new(&format!("listen on {}", path.display()), e))?;
    listener.set_nonblocking(true).map_err(|e| ShimError::new("make the socket non-blocking", e))?;
    Ok(listener)
}

pub(crate) struct Server {
    bundle: PathBuf,
    config: ShimConfig,
    listener: UnixListener,
    container: Container,
    started: bool,
    init: Session,
    execs: BTreeMap<String, Session>,
    pending: Vec<exec::Pending>,
    clients: Vec<Client>,
    log: Option<Log>,
    /// There may be children that nobody waits for.
    strays: bool,
}

/// What a polled descriptor belongs to.
#[derive(Clone, Copy)]
enum Source {
    Listener,
    Client(usize),
    Other,
}

impl Server {
    pub(crate) fn new(bundle: &Path, config: ShimConfig, listener: UnixListener, container: Container, init: Session) -> Self {
        let log = config.log.clone().map(Log::open);
        Self {
            bundle: bundle.to_owned(),
            config,
            listener,
            container,
            started: false,
            init,
            execs: BTreeMap::new(),
            pending: Vec::new(),
            clients: Vec::new(),
            log,
            strays: false,
        }
    }

    /// Runs until the container ended and everyone who listens knows.
    pub(crate) fn run(mut self) {
        while !is_over(&self.init) {
            let ready = self.wait(None);
            self.serve(&ready);
            self.move_output();
            self.check_processes();
        }
        self.end();
    }

    /// Waits until something can be done; returns the sources that are ready.
    fn wait(&self, limit: Option<Duration>) -> Vec<Source> {
        let mut sources = vec![Source::Listener];
        let mut fds = vec![PollFd::new(&self.listener, PollFlags::IN)];
        for (index, client) in self.clients.iter().enumerate() {
            let mut flags = PollFlags::empty();
            if !self.input_is_full(client) {
                flags |= PollFlags::IN;
            }
            if client.wants_write() {
                flags |= PollFlags::OUT;
            }
            sources.push(Source::Client(index));
            fds.push(PollFd::new(client.stream(), flags));
        }
        let helpers: Vec<_> = self.pending.iter().filter_map(helper_fd).collect();
        let mut tick = limit;
        let mut at_most = |d: Duration| tick = Some(tick.map_or(d, |t| t.min(d)));
        for helper in &helpers {
            fds.push(PollFd::new(helper, PollFlags::IN));
        }
        if helpers.len() < self.pending.len() {
            at_most(Duration::from_millis(5));
        }
        if self.strays {
            at_most(Duration::from_millis(20));
        }
        for session in std::iter::once(&self.init).chain(self.execs.values()) {
            if session.exited.is_some() {
                // Only waits for the rest of its output, or for nobody to hold its pipe.
                at_most(Duration::from_millis(20));
            } else {
                fds.push(PollFd::new(&session.pidfd, PollFlags::IN));
            }
            if blocked(session, &self.clients) {
                at_most(Duration::from_millis(500));
            } else {
                for fd in [&session.streams.stdout, &session.streams.stderr].into_iter().flatten() {
                    fds.push(PollFd::new(fd, PollFlags::IN));
                }
            }
            if let Some(fd) = session.streams.stdin.as_ref().filter(|_| !session.stdin_buffer.is_empty()) {
                fds.push(PollFd::new(fd, PollFlags::OUT));
            }
        }
        sources.resize(fds.len(), Source::Other);
        let limit = tick
            .map(|d| Timespec { tv_sec: i64::try_from(d.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(d.subsec_nanos()) });
        // An interrupted poll is a poll with nothing ready.
        let _ = poll(&mut fds, limit.as_ref());
        let ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        fds.iter().zip(sources).filter(|(fd, _)| ready(fd)).map(|(_, source)| source).collect()
    }

    fn input_is_full(&self, client: &Client) -> bool {
        let Role::Attached { exec, stdin: true, .. } = &client.role else { return false };
        let session = exec.as_ref().map_or(Some(&self.init), |id| self.execs.get(id));
        session.is_some_and(|s| s.stdin_buffer.len() > MAX_STDIN)
    }

    fn serve(&mut self, ready: &[Source]) {
        for source in ready {
            match source {
                Source::Listener => self.accept(),
                Source::Client(index) => {
                    if let Some(client) = self.clients.get_mut(*index) {
                        client.flush();
                        client.fill();
                    }
                    self.answer(*index);
                }
                Source::Other => {}
            }
        }
        let gone: Vec<Role> = self.clients.extract_if(.., |c| c.is_done()).map(|c| c.role).collect();
        for role in gone {
            if let Role::Attached { exec: None, stdin: true, .. } = role
                && self.config.stdin_once
            {
                self.init.stdin_ends = true;
            }
        }
        self.init.feed();
        self.execs.values_mut().for_each(Session::feed);
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if self.clients.len() < MAX_CLIENTS
                && let Ok(client) = Client::new(stream)
            {
                self.clients.push(client);
            }
        }
    }

    fn answer(&mut self, index: usize) {
        while let Some(frame) = self.clients.get_mut(index).and_then(Client::take_frame) {
            match frame {
                Incoming::Request(request) => {
                    let response = self.carry_out(index, request);
                    if let (Some(client), Some(response)) = (self.clients.get_mut(index), response) {
                        client.answer(&response);
                    }
                }
                Incoming::Stdin(bytes) => self.input(index, |s| s.stdin_buffer.extend_from_slice(&bytes)),
                Incoming::StdinEnd => self.input(index, |s| s.stdin_ends = true),
            }
        }
    }

    fn input(&mut self, index: usize, give: impl FnOnce(&mut Session)) {
        let Some(Role::Attached { exec, stdin: true, .. }) = self.clients.get(index).map(|c| &c.role) else { return };
        let session = match exec {
            Some(id) => self.execs.get_mut(id),
            None => Some(&mut self.init),
        };
        if let Some(session) = session {
            give(session);
        }
    }

    fn carry_out(&mut self, index: usize, request: Request) -> Option<Response> {
        let done = |result: std::io::Result<()>| match result {
            Ok(()) => Some(Response::Done),
            Err(e) => Some(Response::Failed { message: e.to_string() }),
        };
        let missing = |what: &str| Some(Response::Failed { message: format!("no such {what}") });
        match request {
            Request::Hello => Some(Response::Hello { version: PROTOCOL, pid: self.init.pid, started: self.started }),
            Request::Start => Some(self.start()),
            Request::Kill { signal } => done(self.init.signal(signal)),
            Request::Wait => {
                self.set_role(index, Role::Waiting);
                None
            }
            Request::Attach { stdin, stdout, stderr } => {
                self.set_role(index, Role::Attached { exec: None, stdin, stdout, stderr });
                Some(Response::Done)
            }
            Request::Exec(request) => {
                let role = Role::Attached { exec: Some(request.id.clone()), stdin: request.stdin, stdout: true, stderr: true };
                match exec::begin(&self.bundle, &self.config, &request) {
                    Ok(pending) => {
                        self.pending.push(pending);
                        self.set_role(index, role);
                        None
                    }
                    Err(e) => Some(Response::Failed { message: e.0 }),
                }
            }
            Request::Resize { exec: None, height, width } => {
                self.init.resize(height, width);
                Some(Response::Done)
            }
            Request::Resize { exec: Some(id), height, width } => match self.execs.get(&id) {
                Some(session) => {
                    session.resize(height, width);
                    Some(Response::Done)
                }
                None => missing("exec"),
            },
            Request::KillExec { exec, signal } => match self.execs.get(&exec) {
                Some(session) => done(session.signal(signal)),
                None => missing("exec"),
            },
        }
    }

    fn set_role(&mut self, index: usize, role: Role) {
        if let Some(client) = self.clients.get_mut(index) {
            client.role = role;
        }
    }

    fn start(&mut self) -> Response {
        if !self.started {
            if let Err(e) = self.container.start() {
                return Response::Failed { message: chain(&e) };
            }
            self.started = true;
        }
        Response::Started { pid: self.init.pid }
    }

    /// Reads each session's output until it would block or a client is behind.
    fn move_output(&mut self) {
        for stderr in [false, true] {
            // A few rounds, so that a container that never pauses cannot keep the shim from its other duties.
            for _ in 0..8 {
                if blocked(&self.init, &self.clients) || !pump(&mut self.init, stderr, &mut self.clients, self.log.as_mut()) {
                    break;
                }
            }
            for session in self.execs.values_mut() {
                for _ in 0..8 {
                    if blocked(session, &self.clients) || !pump(session, stderr, &mut self.clients, None) {
                        break;
                    }
                }
            }
        }
    }

    /// Reaps children that nobody waits for: helpers of the runtime library, and processes that never came to run. Left as
    /// zombies they would keep the container's pid namespace from ending.
    fn reap_strays(&mut self) {
        // While a helper runs, its process may end before it was handed over.
        if !self.strays || !self.pending.is_empty() {
            return;
        }
        let skip: Vec<i32> = std::iter::once(&self.init).chain(self.execs.values()).map(|s| s.pid).collect();
        // The kernel's own list, so that processes which are waited for elsewhere can be left alone.
        let list = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
        self.strays = false;
        for pid in list.split_whitespace().filter_map(|p| p.parse().ok()).filter(|p| !skip.contains(p)) {
            let id = rustix::process::Pid::from_raw(pid);
            // One that still runs is left for the next round.
            self.strays |= matches!(rustix::process::waitpid(id, rustix::process::WaitOptions::NOHANG), Ok(None));
        }
    }

    fn check_processes(&mut self) {
        self.init.reap();
        let mut finished = Vec::new();
        let mut index = 0;
        while index < self.pending.len() {
            if matches!(self.pending[index].helper.try_wait(), Ok(None)) {
                index += 1;
            } else {
                finished.push(self.pending.swap_remove(index));
            }
        }
        self.strays |= !finished.is_empty();
        for pending in finished {
            self.exec_began(pending);
        }
        self.reap_strays();
        self.execs.values_mut().for_each(Session::reap);
        let over: Vec<String> = self.execs.iter().filter(|(_, s)| is_over(s)).map(|(id, _)| id.clone()).collect();
        for id in over {
            if let Some(session) = self.execs.remove(&id) {
                let exit = exit_of(&session, false);
                self.tell(Some(&id), &Response::Exited(exit), true);
            }
        }
    }

    fn exec_began(&mut self, pending: exec::Pending) {
        let id = pending.id.clone();
        match exec::finish(&self.config, pending, self.pending.is_empty()) {
            Ok(session) => {
                self.tell(Some(&id), &Response::Started { pid: session.pid }, false);
                // Input may have come while the helper ran.
                self.execs.insert(id, session);
            }
            Err(e) => self.tell(Some(&id), &Response::Failed { message: e.0 }, true),
        }
    }

    /// Tells those who stream a process.
    fn tell(&mut self, id: Option<&str>, response: &Response, last: bool) {
        for client in &mut self.clients {
            if matches!(&client.role, Role::Attached { exec, .. } if exec.as_deref() == id) {
                client.answer(response);
                client.finished |= last;
            }
        }
    }

    /// The container ended: clean up, write it down, tell, go.
    fn end(mut self) {
        let cgroup = self.config.spec["linux"]["cgroupsPath"].as_str().unwrap_or_default().to_owned();
        let exit = exit_of(&self.init, cgroup::oom_killed(&cgroup));
        if let Some(log) = &mut self.log {
            log.finish();
        }
        launch::cleanup(&self.config);
        // If this cannot be written the daemon still learns it from the socket, or that the code is unknown.
        let _ = write_exit(&self.config.exit_file, &exit);
        // Nobody may find a shim that is about to go.
        let _ = std::fs::remove_file(self.bundle.join(SOCKET_FILE));
        let execs: Vec<String> = self.execs.keys().cloned().collect();
        for id in execs {
            self.tell(Some(&id), &Response::Exited(Exit { code: 137, ..exit.clone() }), true);
        }
        for client in &mut self.clients {
            if !matches!(client.role, Role::Control) && !client.finished {
                client.answer(&Response::Exited(exit.clone()));
            }
            client.finished = true;
        }
        let deadline = Instant::now() + FAREWELL;
        self.clients.retain(|c| !c.is_done());
        while !self.clients.is_empty() && Instant::now() < deadline {
            self.wait(Some(Duration::from_millis(100)));
            self.clients.iter_mut().for_each(Client::flush);
            self.clients.retain(|c| !c.is_done());
        }
    }
}

fn helper_fd(pending: &exec::Pending) -> Option<std::os::fd::OwnedFd> {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pending.helper.id()).ok()?)?;
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
}

fn exit_of(session: &Session, oom: bool) -> Exit {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Exit {
        code: session.exited.map_or(255, |(code, _)| code),
        oom,
        at: i64::try_from(at.as_nanos()).unwrap_or(i64::MAX),
        pid: session.pid,
    }
}

/// Durable before anyone is told: file synced, renamed, directory synced.
fn write_exit(path: &Path, exit: &Exit) -> std::io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(exit)?)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    let Some(parent) = path.parent() else { return Ok(()) };

    std::fs::File::open(parent)?.sync_all()
}
