//! What the swarm has of a stack, asked for at once.

use futures_util::stream::{FuturesUnordered, StreamExt};
use serde_json::Value;
use skep_compose::Stack;

use super::deploy::of_stack;
use super::plan::Current;
use crate::app::Failure;
use crate::client::{Client, query};

/// What the stock client says when the daemon is no manager.
const NO_MANAGER: &str = "this node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node \
                          to swarm and try again";

/// How many questions are on their way at a time: some registries are far away.
pub(super) const READS: usize = 16;
/// How many changes are: managers write what comes together at once, but new services ask for the next address of the same
/// network, and all but one of them have to ask again.
pub(super) const WRITES: usize = 4;

/// Does several things, so `most` many at a time, beginning them in order. After a failure nothing new is begun, but what is on its way is
/// awaited.
///
/// # Errors
/// The first failure.
pub(super) async fn at_once<T, F: Future<Output = Result<T, Failure>>>(
    most: usize,
    work: impl IntoIterator<Item = F>,
) -> Result<Vec<T>, Failure> {
    let mut waiting = work.into_iter();
    let mut running = FuturesUnordered::new();
    let mut failed = None;
    let mut done = Vec::new();
    loop {
        while failed.is_none()
            && running.len() < most
            && let Some(next) = waiting.next()
        {
            running.push(next);
        }
        match running.next().await {
            None => return failed.map_or(Ok(done), Err),
            Some(Ok(one)) => done.push(one),
            Some(Err(e)) => failed = failed.or(Some(e)),
        }
    }
}

fn list(answer: Value) -> Vec<Value> {
    match answer {
        Value::Array(list) => list,
        _ => Vec::new(),
    }
}

/// Lists of the API, narrowed by a filter if there is one.
pub(super) async fn all(client: &Client, path: &str, filters: &str) -> Result<Vec<Value>, Failure> {
    Ok(list(client.call("GET", &query(path, &[("filters", filters)]), None).await?))
}

/// The services of a stack.
///
/// # Errors
/// When the daemon cannot be asked.
pub async fn services(client: &Client, stack: &str) -> Result<Vec<Value>, Failure> {
    all(client, "/services", &of_stack(stack)).await
}

/// What a deploy of a stack has to know.
///
/// # Errors
/// When the daemon is no manager, or cannot be asked.
pub async fn current(client: &Client, stack: &Stack) -> Result<Current, Failure> {
    let refers = |list: &str| {
        let named = |s: &skep_compose::Service| s.body["TaskTemplate"]["ContainerSpec"][list].is_array();
        stack.services.iter().any(named)
    };
    let secrets = !stack.secrets.is_empty() || refers("Secrets");
    let configs = !stack.configs.is_empty() || refers("Configs");
    let when = async |wanted: bool, path: &str| if wanted { all(client, path, "").await } else { Ok(Vec::new()) };
    let (info, services, networks, secrets, configs) = tokio::join!(
        client.call("GET", "/info", None),
        services(client, &stack.name),
        all(client, "/networks", ""),
        when(secrets, "/secrets"),
        when(configs, "/configs"),
    );
    if info?["Swarm"]["ControlAvailable"] != true {
        return Err(Failure::new(NO_MANAGER));
    }
    Ok(Current { services: services?, networks: networks?, secrets: secrets?, configs: configs? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
    }

    #[test]
    fn all_is_done_but_nothing_begun_after_a_failure() {
        let begun = std::cell::Cell::new(0_usize);
        let work = |fails: usize| {
            let begun = &begun;
            (0..100_usize).map(move |n| async move {
                begun.set(begun.get() + 1);
                tokio::task::yield_now().await;
                if n == fails { Err(Failure::new("no")) } else { Ok(n) }
            })
        };
        let mut done = run(at_once(READS, work(1000))).unwrap();
        done.sort_unstable();
        assert_eq!((done, begun.replace(0)), ((0..100).collect(), 100));
        assert_eq!(run(at_once(READS, work(20))), Err(Failure::new("no")));
        assert!(begun.get() > 20 && begun.get() <= 20 + 2 * READS, "{}", begun.get());
    }
}
