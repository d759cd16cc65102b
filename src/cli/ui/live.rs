//! Keeps the board up to date: watches, and a question every few seconds whether the API server still answers. A watch alone does
//! not notice for minutes that a network is gone.

use std::time::Duration;

use futures::stream::{self, BoxStream, SelectAll};
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::Store;
use kube::runtime::watcher;
use kube::{Api, Client};

use super::board::Board;
use crate::api::{ComputePool, TieredPipeline, labels};
use crate::cli::cluster::plainly;
use crate::cli::print;
use crate::cli::watch::{Event, held, is_filled, said, stored};
use crate::controller::stores::status_code;
use crate::view::tree::Seen;

/// Changes within so long are shown together.
const TOGETHER: Duration = Duration::from_millis(300);
/// Between two questions whether the server answers.
const PROBE: Duration = Duration::from_secs(5);
/// How long an answer may take.
const PROBE_DEADLINE: Duration = Duration::from_secs(4);
/// How to go on where only waiting helps.
const WAIT: &str = "check the network and the cluster; this page goes on by itself once it answers";

/// What is looked at.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    /// `None` for all namespaces.
    pub(super) namespace: Option<String>,
    /// Pods may be seen.
    pub(super) pods: bool,
    /// Pools may be seen.
    pub(super) pools: bool,
}

impl Sources {
    /// Objects of a kind where it looks.
    pub(super) fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        }
    }
}

/// Who said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Pipelines,
    Pools,
    Pods,
    Probe,
}

/// What is in the way, and how to go on.
type Trouble = (String, &'static str);
type Heard = (From, Result<(), Trouble>);

/// Until dropped.
pub(super) async fn follow(client: Client, sources: Sources, board: &Board) {
    let mut streams: SelectAll<BoxStream<'static, Heard>> = SelectAll::new();
    let (pipelines, events) = stored(sources.api::<TieredPipeline>(&client), watcher::Config::default());
    streams.push(heard(From::Pipelines, events));
    let pools: Option<Store<ComputePool>> = sources.pools.then(|| {
        let (store, events) = stored(Api::all(client.clone()), watcher::Config::default());
        streams.push(heard(From::Pools, events));
        store
    });
    let pods: Option<Store<Pod>> = sources.pods.then(|| {
        let ours = format!("{}={},{}", labels::MANAGED_BY, labels::MANAGER, labels::PIPELINE);
        let (store, events) = stored(sources.api(&client), watcher::Config::default().labels(&ours));
        streams.push(heard(From::Pods, events));
        store
    });
    streams.push(probes(client).boxed());
    let mut troubles: Vec<(From, Trouble)> = Vec::new();
    while let Some(first) = streams.next().await {
        note(&mut troubles, first);
        let more = async {
            while let Some(heard) = streams.next().await {
                note(&mut troubles, heard);
            }
        };
        let _ = tokio::time::timeout(TOGETHER, more).await;
        if let Some((_, (problem, advice))) = troubles.first() {
            board.lose(problem.clone(), advice, print::now());
            continue;
        }
        // Half a picture would show pipelines without their pods.
        let filled = is_filled(&pipelines).await
            && (async { filled_or_left_out(pools.as_ref()).await && filled_or_left_out(pods.as_ref()).await }).await;
        if filled {
            let seen = Seen {
                pipelines: held(&pipelines),
                pods: pods.as_ref().map(held).unwrap_or_default(),
                pools: pools.as_ref().map(held).unwrap_or_default(),
            };
            board.show(seen, print::now());
        }
    }
}

async fn filled_or_left_out<K>(store: Option<&Store<K>>) -> bool
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    match store {
        Some(store) => is_filled(store).await,
        None => true,
    }
}

/// A trouble lasts until the same source says that all is well.
fn note(troubles: &mut Vec<(From, Trouble)>, (from, said): Heard) {
    troubles.retain(|(who, _)| *who != from);
    if let Err(trouble) = said {
        troubles.push((from, trouble));
    }
}

fn heard(from: From, events: impl Stream<Item = Event> + Send + 'static) -> BoxStream<'static, Heard> {
    events
        .map(move |event| (from, event.map_err(|error| trouble(&error))))
        .boxed()
}

/// What the server says, or that it says nothing.
fn trouble(error: &watcher::Error) -> Trouble {
    let code = status_code(error);
    let problem = said(error);
    let problem = if code == 0 { unanswered(&problem) } else { problem };
    (problem, advice(code))
}

fn unanswered(problem: &str) -> String {
    format!("the API server does not answer: {problem}")
}

const fn advice(code: u16) -> &'static str {
    match code {
        401 => "log in again, then start this command again",
        403 => "ask for the right to list and watch tieredpipelines, computepools and pods",
        404 => "tiercel is not installed there any more: install it, or look at another cluster with --context",
        _ => WAIT,
    }
}

/// Whether the server answers, every few seconds. What it answers does not matter.
fn probes(client: Client) -> impl Stream<Item = Heard> + Send {
    stream::unfold(client, |client| async {
        tokio::time::sleep(PROBE).await;
        let asked = tokio::time::timeout(PROBE_DEADLINE, client.apiserver_version()).await;
        let answered = match asked {
            Err(_) => Err(format!("no answer within {} s", PROBE_DEADLINE.as_secs())),
            Ok(Ok(_) | Err(kube::Error::Api(_))) => Ok(()),
            Ok(Err(error)) => Err(plainly(&error)),
        };
        let said = answered.map_err(|problem| (unanswered(&problem), WAIT));
        Some(((From::Probe, said), client))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_lasts_until_the_same_source_says_that_all_is_well() {
        let mut troubles = Vec::new();
        note(&mut troubles, (From::Pods, Err(("refused".to_owned(), WAIT))));
        note(&mut troubles, (From::Probe, Err(("silent".to_owned(), WAIT))));
        note(&mut troubles, (From::Pipelines, Ok(())));
        assert_eq!(troubles.len(), 2);
        note(&mut troubles, (From::Pods, Ok(())));
        assert_eq!(troubles, [(From::Probe, ("silent".to_owned(), WAIT))]);
        note(&mut troubles, (From::Probe, Ok(())));
        assert!(troubles.is_empty());
    }

    #[test]
    fn whoever_may_not_look_is_told_what_it_takes() {
        let refused = |code: u16| {
            let status = kube::core::Status::failure("no", "").with_code(code).boxed();
            trouble(&watcher::Error::WatchStartFailed(kube::Error::Api(status)))
        };
        for (code, words) in [
            (401, "log in"),
            (403, "ask for the right"),
            (404, "not installed"),
            (500, WAIT),
        ] {
            let (problem, advice) = refused(code);
            assert!(advice.contains(words) && problem == "no", "{code}: {problem}; {advice}");
        }
        let silent = trouble(&watcher::Error::NoResourceVersion);
        assert!(
            silent.0.starts_with("the API server does not answer: ") && silent.1 == WAIT,
            "{silent:?}"
        );
    }
}
