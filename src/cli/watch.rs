//! Objects of one kind, kept up to date.

use std::time::Duration;

use futures::{Stream, StreamExt as _};
use kube::Api;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt as _, watcher};

use super::cluster::plainly;

/// Something that came from the server.
pub(super) type Event = Result<(), watcher::Error>;

/// A store, and the events that fill it. Refusals wait before they ask again.
pub(super) fn stored<K>(api: Api<K>, config: watcher::Config) -> (Store<K>, impl Stream<Item = Event> + Unpin)
where
    K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let events = watcher(api, config).default_backoff().reflect(writer);
    (store, events.map(|event| event.map(drop)).boxed())
}

/// Whether a store has seen all that there is.
pub(super) async fn is_filled<K>(store: &Store<K>) -> bool
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    tokio::time::timeout(Duration::ZERO, store.wait_until_ready())
        .await
        .is_ok()
}

/// What a store holds.
pub(super) fn held<K>(store: &Store<K>) -> Vec<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    store.state().iter().map(|object| (**object).clone()).collect()
}

/// What is in the way.
pub(super) fn said(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => plainly(error),
        other => other.to_string(),
    }
}
