//! `service …`.

mod create;
mod flags;
mod inside;
mod list;
mod lists;
mod logs;
mod pretty;
mod resolve;
pub(crate) mod spec;
mod update;

pub(crate) use create::capabilities;
pub use list::print_list;

use serde_json::Value;

use super::each::each;
use super::{FILTER, FORMAT, INSPECT_FORMAT, container};
use crate::app::{App, Failure};
use crate::client::{Client, escape};
use crate::grammar::{Arity, Command, Matches};
use crate::progress;

const LS: &str = "-q --quiet bool Only ids";
const PS: &str = "
    --no-resolve bool Show ids instead of names
    --no-trunc bool Do not cut ids and errors short
    -q --quiet bool Only ids";
const INSPECT: &str = "--pretty bool Show what matters, for people";
const LOGS: &str = "
    --details bool Show further attributes of each line
    -f --follow bool Go on with what is yet to come
    --no-resolve bool Show ids instead of names
    --no-task-ids bool Leave the tasks' ids out
    --no-trunc bool Do not cut ids short
    --raw bool Only the messages
    --since string Only from then on (RFC 3339, or an age such as 42m)
    -n --tail string Number of lines from the end of each task's log (default all)
    -t --timestamps bool Show when each line was written";
const WAITING: &str = "
    -d --detach bool Return at once, do not wait until the service is as asked
    --wait bool Wait until the service is as asked (the default; overrides --detach)";
const RM: &str = "--wait bool Wait until no task of theirs is left";
const ROLLBACK: &str = "-q --quiet bool No progress";

/// The group.
pub const GROUP: Command = Command::group(
    "service",
    "Manage Swarm services",
    &[
        Command::new(
            "create",
            "[OPTIONS] IMAGE [COMMAND] [ARG...]",
            "Create a new service",
            Arity::AtLeast(1),
            &[flags::BOTH, flags::CREATE],
            |a, m| Box::pin(create::create(a, m)),
        )
        .before_rest()
        .shown(&[
            "service create --name web --replicas 3 -p 80:80 nginx",
            "service create --name db --network demo --mount src=data,dst=/var/lib/mysql -e MYSQL_ROOT_PASSWORD=root mysql",
            "service create --mode global --constraint node.role==worker agent:1.0",
        ]),
        Command::new(
            "update",
            "[OPTIONS] SERVICE",
            "Update a service",
            Arity::Exactly(1),
            &[flags::BOTH, flags::UPDATE],
            |a, m| Box::pin(update::update(a, m)),
        )
        .shown(&[
            "service update --image nginx:1.27 web",
            "service update --env-add A=1 --limit-memory 256m web",
            "service update --publish-rm 80 --publish-add 8080:80 web",
        ]),
        Command::new(
            "inspect",
            "[OPTIONS] SERVICE [SERVICE...]",
            "Display detailed information on one or more services",
            Arity::AtLeast(1),
            &[INSPECT_FORMAT, INSPECT],
            |a, m| Box::pin(list::inspect(a, m)),
        ),
        Command::new("ls", "[OPTIONS]", "List services", Arity::None, &[FILTER, FORMAT, LS], |a, m| Box::pin(list::ls(a, m)))
            .alias(&["list"])
            .shown(&["service ls", "service ls --filter mode=global --format '{{.Name}} {{.Replicas}}'"]),
        Command::new(
            "ps",
            "[OPTIONS] SERVICE [SERVICE...]",
            "List the tasks of one or more services",
            Arity::AtLeast(1),
            &[FILTER, FORMAT, PS],
            |a, m| Box::pin(list::ps(a, m)),
        ),
        Command::new(
            "logs",
            "[OPTIONS] SERVICE|TASK",
            "Fetch the logs of a service or task",
            Arity::Exactly(1),
            &[LOGS],
            |a, m| Box::pin(logs::logs(a, m)),
        )
        .shown(&["service logs -f --tail 10 web"]),
        Command::new(
            "exec",
            "[OPTIONS] SERVICE[.SLOT] COMMAND [ARG...]",
            "Execute a command in a task of a service, on whichever node it runs",
            Arity::AtLeast(2),
            &[container::EXEC],
            |a, m| Box::pin(inside::exec(a, m)),
        )
        .before_rest()
        .shown(&["service exec -it web sh", "service exec web.2 env", "service exec agent.worker1 cat /etc/hosts"]),
        Command::new(
            "attach",
            "[OPTIONS] SERVICE[.SLOT]",
            "Attach local standard input, output, and error streams to a task of a service",
            Arity::Exactly(1),
            &[container::ATTACH],
            |a, m| Box::pin(inside::attach(a, m)),
        ),
        Command::new(
            "cp",
            "[OPTIONS] SERVICE[.SLOT]:SRC_PATH DEST_PATH|- | SRC_PATH|- SERVICE[.SLOT]:DEST_PATH",
            "Copy files/folders between a task of a service and the local filesystem",
            Arity::Exactly(2),
            &[container::CP],
            |a, m| Box::pin(inside::cp(a, m)),
        )
        .shown(&["service cp web.1:/var/log/app.log .", "service cp patch.conf web.1:/etc/app.conf"]),
        Command::new(
            "top",
            "SERVICE[.SLOT] [ps OPTIONS]",
            "Display the running processes of the tasks of a service",
            Arity::AtLeast(1),
            &[],
            |a, m| Box::pin(inside::top(a, m)),
        )
        .before_rest(),
        Command::new(
            "stats",
            "[OPTIONS] SERVICE[.SLOT]",
            "Display resource usage statistics of the tasks of a service",
            Arity::Exactly(1),
            &[FORMAT, container::STATS],
            |a, m| Box::pin(inside::stats(a, m)),
        ),
        Command::new("rm", "SERVICE [SERVICE...]", "Remove one or more services", Arity::AtLeast(1), &[RM], |a, m| {
            Box::pin(rm(a, m))
        })
        .alias(&["remove"]),
        Command::new(
            "rollback",
            "[OPTIONS] SERVICE",
            "Revert changes to a service's configuration",
            Arity::Exactly(1),
            &[WAITING, ROLLBACK],
            |a, m| Box::pin(update::rollback(a, m)),
        ),
        Command::new(
            "scale",
            "SERVICE=REPLICAS [SERVICE=REPLICAS...]",
            "Scale one or multiple replicated services",
            Arity::AtLeast(1),
            &[WAITING],
            |a, m| Box::pin(update::scale(a, m)),
        )
        .shown(&["service scale web=5 api=2"]),
    ],
);

/// One service.
pub(crate) async fn one(client: &Client, name: &str) -> Result<Value, Failure> {
    Ok(client.call("GET", &format!("/services/{}", escape(name)), None).await?)
}

/// Waits until a service is as asked, unless the user does not want to.
async fn after(app: &App, m: &Matches, id: &str) -> Result<u8, Failure> {
    if m.on("detach") && !m.on("wait") {
        return Ok(0);
    }
    let quiet = m.has("quiet") && m.on("quiet");
    progress::follow(app.client().await?, &app.program, id, quiet).await?;
    Ok(0)
}

async fn rm(app: &App, m: &Matches) -> Result<u8, Failure> {
    let client = app.client().await?;
    let mut services = Vec::new();
    if m.on("wait") {
        for name in m.args() {
            // One that there is not is told by what follows.
            services.extend(one(client, name).await.ok());
        }
    }
    let done = each(app, m.args(), "DELETE", None, |name| format!("/services/{name}")).await;
    if m.on("wait") {
        super::stack::remove::gone(client, &services).await?;
    }
    done
}
