//! `container …`, and the same commands at the top: `run`, `ps`, `logs`, …

mod body;
pub(crate) mod copy;
mod flags;
mod ls;
pub(crate) mod output;
pub(crate) mod run;
pub(crate) mod session;
mod simple;
pub(crate) mod usage;

use super::{FILTER, FORMAT, INSPECT_FORMAT};
use crate::grammar::{Arity, Command};

const LS: &str = "
    -a --all bool Also those that do not run
    -n --last int Only the last n that were made
    -l --latest bool Only the last one
    --no-trunc bool Do not cut ids and commands short
    -q --quiet bool Only ids
    -s --size bool Also their sizes";
const STOP: &str = "
    -s --signal string Signal that asks it to stop
    -t --timeout int Seconds to wait before it is killed
    --time int The same as --timeout";
const KILL: &str = "-s --signal string The signal (default KILL)";
const RM: &str = "
    -f --force bool Kill it first, if it runs
    -l --link bool Remove a link
    -v --volumes bool Remove its volumes without a name too";
const START: &str = "
    -a --attach bool Attach to its output, and pass signals on
    --detach-keys string Keys that leave the container (default ctrl-p,ctrl-q)
    -i --interactive bool Attach to its input";
pub(crate) const ATTACH: &str = "
    --detach-keys string Keys that leave the container (default ctrl-p,ctrl-q)
    --no-stdin bool Do not attach to its input
    --sig-proxy bool Pass signals on to the process (default true)";
pub(crate) const EXEC: &str = "
    -d --detach bool Run it in the background
    --detach-keys string Keys that leave the command (default ctrl-p,ctrl-q)
    -e --env list* Environment variable
    --env-file list* File of environment variables
    -i --interactive bool Keep standard input open
    --privileged bool Give it all that the host may do
    -t --tty bool Give it a terminal
    -u --user string User or UID, with a group or without
    -w --workdir string Working directory";
const LOGS: &str = "
    --details bool Show further attributes of each line
    -f --follow bool Go on with what is yet to come
    --since string Only from then on (RFC 3339, or an age such as 42m)
    -n --tail string Number of lines from the end (default all)
    -t --timestamps bool Show when each line was written
    --until string Only until then";
const INSPECT: &str = "-s --size bool Also its size";
pub(crate) const STATS: &str = "
    -a --all bool Also those that do not run
    --no-stream bool Once only
    --no-trunc bool Do not cut ids short";
const UPDATE: &str = "
    --blkio-weight uint Relative weight of its disk traffic
    --cpu-period int Period of the processor limit in microseconds
    --cpu-quota int Microseconds of processor time in each period
    -c --cpu-shares int Relative weight of its processor time
    --cpus cpus Most processors
    --cpuset-cpus string Processors that it may use
    --cpuset-mems string Memory nodes that it may use
    -m --memory bytes Most memory
    --memory-reservation bytes Memory that it is held to when memory is short
    --memory-swap bytes Most memory and swap together
    --pids-limit int Most processes (-1 for no limit)
    --restart string When it is started again by itself: no, always, unless-stopped, on-failure[:TIMES]";
pub(crate) const CP: &str = "
    -a --archive bool Keep the owners
    -L --follow-link bool Copy what a link leads to
    -q --quiet bool Say nothing when it is done";
const COMMIT: &str = "
    -a --author string Who made it
    -c --change list* Instruction for the image, as in a Dockerfile
    -m --message string Why
    -p --pause bool The container stands still meanwhile (default true)";
const EXPORT: &str = "-o --output string File to write, instead of standard output";
const PRUNE: &str = "-f --force bool Do not ask";

const MANY: &str = "CONTAINER [CONTAINER...]";
const MANY_OPTIONS: &str = "[OPTIONS] CONTAINER [CONTAINER...]";

/// `run`.
pub const RUN: Command = Command::new(
    "run",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create and run a new container from an image",
    Arity::AtLeast(1),
    &[flags::CREATE, flags::RUN],
    |a, m| Box::pin(run::run(a, m)),
)
.before_rest()
.shown(&["run --rm -it alpine sh", "run -d --name web -p 8080:80 nginx", "run --rm -v data:/data busybox ls /data"]);
/// `create`.
pub const CREATE: Command = Command::new(
    "create",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create a new container",
    Arity::AtLeast(1),
    &[flags::CREATE],
    |a, m| Box::pin(run::create(a, m)),
)
.before_rest();
/// `start`.
pub const START_CMD: Command =
    Command::new("start", MANY_OPTIONS, "Start one or more stopped containers", Arity::AtLeast(1), &[START], |a, m| {
        Box::pin(run::start(a, m))
    });
/// `stop`.
pub const STOP_CMD: Command =
    Command::new("stop", MANY_OPTIONS, "Stop one or more running containers", Arity::AtLeast(1), &[STOP], |a, m| {
        Box::pin(simple::stop(a, m))
    });
/// `restart`.
pub const RESTART: Command =
    Command::new("restart", MANY_OPTIONS, "Restart one or more containers", Arity::AtLeast(1), &[STOP], |a, m| {
        Box::pin(simple::restart(a, m))
    });
/// `kill`.
pub const KILL_CMD: Command =
    Command::new("kill", MANY_OPTIONS, "Kill one or more running containers", Arity::AtLeast(1), &[KILL], |a, m| {
        Box::pin(simple::kill(a, m))
    });
/// `rm`.
pub const RM_CMD: Command =
    Command::new("rm", MANY_OPTIONS, "Remove one or more containers", Arity::AtLeast(1), &[RM], |a, m| {
        Box::pin(simple::rm(a, m))
    })
    .alias(&["remove"]);
/// `ps`.
pub const LS_CMD: Command =
    Command::new("ls", "[OPTIONS]", "List containers", Arity::None, &[FILTER, FORMAT, LS], |a, m| Box::pin(ls::ps(a, m)))
        .alias(&["list", "ps"])
        .shown(&["ps -a", "ps --filter status=exited --format '{{.Names}}: {{.Status}}'"]);
/// `logs`.
pub const LOGS_CMD: Command =
    Command::new("logs", "[OPTIONS] CONTAINER", "Fetch the logs of a container", Arity::Exactly(1), &[LOGS], |a, m| {
        Box::pin(simple::logs(a, m))
    });
/// `exec`.
pub const EXEC_CMD: Command = Command::new(
    "exec",
    "[OPTIONS] CONTAINER COMMAND [ARG...]",
    "Execute a command in a running container",
    Arity::AtLeast(2),
    &[EXEC],
    |a, m| Box::pin(run::exec(a, m)),
)
.before_rest()
.shown(&["exec -it web sh", "exec -e A=1 web env"]);
/// `attach`.
pub const ATTACH_CMD: Command = Command::new(
    "attach",
    "[OPTIONS] CONTAINER",
    "Attach local standard input, output, and error streams to a running container",
    Arity::Exactly(1),
    &[ATTACH],
    |a, m| Box::pin(run::attach(a, m)),
);
/// `wait`.
pub const WAIT: Command = Command::new(
    "wait",
    MANY,
    "Block until one or more containers stop, then print their exit codes",
    Arity::AtLeast(1),
    &[],
    |a, m| Box::pin(simple::wait(a, m)),
);
/// `rename`.
pub const RENAME: Command =
    Command::new("rename", "CONTAINER NEW_NAME", "Rename a container", Arity::Exactly(2), &[], |a, m| {
        Box::pin(simple::rename(a, m))
    });
/// `pause`.
pub const PAUSE: Command =
    Command::new("pause", MANY, "Pause all processes within one or more containers", Arity::AtLeast(1), &[], |a, m| {
        Box::pin(simple::pause(a, m))
    });
/// `unpause`.
pub const UNPAUSE: Command =
    Command::new("unpause", MANY, "Unpause all processes within one or more containers", Arity::AtLeast(1), &[], |a, m| {
        Box::pin(simple::unpause(a, m))
    });
/// `port`.
pub const PORT: Command = Command::new(
    "port",
    "CONTAINER [PRIVATE_PORT[/PROTO]]",
    "List port mappings or a specific mapping for the container",
    Arity::Between(1, 2),
    &[],
    |a, m| Box::pin(simple::port(a, m)),
);
/// `top`.
pub const TOP: Command = Command::new(
    "top",
    "CONTAINER [ps OPTIONS]",
    "Display the running processes of a container",
    Arity::AtLeast(1),
    &[],
    |a, m| Box::pin(simple::top(a, m)),
)
.before_rest();
/// `stats`.
pub const STATS_CMD: Command = Command::new(
    "stats",
    "[OPTIONS] [CONTAINER...]",
    "Display resource usage statistics of containers",
    Arity::Any,
    &[FORMAT, STATS],
    |a, m| Box::pin(usage::stats(a, m)),
);
/// `update`.
pub const UPDATE_CMD: Command = Command::new(
    "update",
    MANY_OPTIONS,
    "Update configuration of one or more containers",
    Arity::AtLeast(1),
    &[UPDATE],
    |a, m| Box::pin(usage::update(a, m)),
);
/// `cp`.
pub const CP_CMD: Command = Command::new(
    "cp",
    "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|- | SRC_PATH|- CONTAINER:DEST_PATH",
    "Copy files/folders between a container and the local filesystem",
    Arity::Exactly(2),
    &[CP],
    |a, m| Box::pin(copy::copy(a, m)),
)
.shown(&["cp web:/etc/nginx/nginx.conf .", "cp site/. web:/var/www/html", "cp web:/var/log - | tar -t"]);
/// `diff`.
pub const DIFF: Command = Command::new(
    "diff",
    "CONTAINER",
    "Inspect changes to files or directories on a container's filesystem",
    Arity::Exactly(1),
    &[],
    |a, m| Box::pin(simple::diff(a, m)),
);
/// `export`.
pub const EXPORT_CMD: Command = Command::new(
    "export",
    "[OPTIONS] CONTAINER",
    "Export a container's filesystem as a tar archive",
    Arity::Exactly(1),
    &[EXPORT],
    |a, m| Box::pin(simple::export(a, m)),
);
/// `commit`.
pub const COMMIT_CMD: Command = Command::new(
    "commit",
    "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    "Create a new image from a container's changes",
    Arity::Between(1, 2),
    &[COMMIT],
    |a, m| Box::pin(simple::commit(a, m)),
);

/// The group.
pub const GROUP: Command = Command::group(
    "container",
    "Manage containers",
    &[
        RUN,
        CREATE,
        START_CMD,
        STOP_CMD,
        RESTART,
        KILL_CMD,
        RM_CMD,
        LS_CMD,
        LOGS_CMD,
        EXEC_CMD,
        ATTACH_CMD,
        WAIT,
        RENAME,
        PAUSE,
        UNPAUSE,
        PORT,
        TOP,
        STATS_CMD,
        UPDATE_CMD,
        CP_CMD,
        DIFF,
        EXPORT_CMD,
        COMMIT_CMD,
        Command::new(
            "inspect",
            MANY_OPTIONS,
            "Display detailed information on one or more containers",
            Arity::AtLeast(1),
            &[INSPECT_FORMAT, INSPECT],
            |a, m| Box::pin(simple::inspect(a, m)),
        ),
        Command::new("prune", "[OPTIONS]", "Remove all stopped containers", Arity::None, &[FILTER_LONG, PRUNE], |a, m| {
            Box::pin(simple::prune(a, m))
        }),
    ],
);

/// Where `-f` means something else.
pub(crate) const FILTER_LONG: &str = "--filter filter* Only what fits, such as label=a=b";
