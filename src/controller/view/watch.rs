//! The watches that feed the stores, and what they tell those who wait for a change.

use std::{future, time::Duration};

use futures::{Stream, StreamExt, stream};
use kube::{
    Api, Client, Resource as _,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt, reflector,
        reflector::{ObjectRef, Store, store::Writer},
        watcher,
        watcher::Event,
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::{NodeView, PodView, Watched};
use crate::api::ComputePool;

/// Longest life of one watch, seconds: a connection that died silently is noticed after it.
const WATCH_SECONDS: u32 = 55;
/// Objects per page of a list: bounds what is held twice.
const PAGE_SIZE: u32 = 250;

/// What a watch tells those it wakes. The store already has it.
#[derive(Clone, Debug)]
pub enum Change<K> {
    /// Added, or changed in something that is read.
    Applied(K),
    /// Gone.
    Deleted(K),
    /// The whole store was read anew. Whatever vanished in a gap of the watch is gone without a `Deleted`, so compare
    /// with the store.
    Relisted,
}

/// Settings of every watch.
pub fn watcher_config() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE_SIZE)
}

/// Watches the pods of all namespaces. Poll the stream, or the store stays empty; its errors are reports, the watch goes
/// on by itself with back-off.
///
/// Pods in a final phase are left out on the server: they hold nothing, and there can be thousands.
pub fn watch_pods(
    client: Client,
) -> (
    Store<PodView>,
    impl Stream<Item = watcher::Result<Change<PodView>>> + Send + use<>,
) {
    let config = watcher_config().fields("status.phase!=Succeeded,status.phase!=Failed");
    watched(watcher(Api::all(client), config).default_backoff())
}

/// Watches the nodes; as [`watch_pods`]. Heartbeats change the store and wake nobody.
pub fn watch_nodes(
    client: Client,
) -> (
    Store<NodeView>,
    impl Stream<Item = watcher::Result<Change<NodeView>>> + Send + use<>,
) {
    watched(watcher(Api::all(client), watcher_config()).default_backoff())
}

/// Watches the pools; an object that cannot be decoded does not stop the others.
pub fn watch_pools(
    client: Client,
) -> (
    Store<DeserializeGuard<ComputePool>>,
    impl Stream<Item = watcher::Result<Event<DeserializeGuard<ComputePool>>>> + Send + use<>,
) {
    let (store, writer) = reflector::store();
    let events = watcher(Api::all(client), watcher_config()).default_backoff();
    // Looks copy the pools.
    let stream = events.modify(|pool: &mut DeserializeGuard<ComputePool>| {
        pool.meta_mut().managed_fields = None;
        pool.meta_mut().annotations = None;
    });
    (store, stream.reflect(writer))
}

pub(super) fn watched<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send,
) -> (Store<K>, impl Stream<Item = watcher::Result<Change<K>>> + Send)
where
    K: Watched + Clone + DeserializeOwned + Send + Sync + 'static,
{
    let (store, mut writer) = reflector::store();
    let changes = events
        .modify(K::strip)
        .filter_map(move |event| future::ready(event.map(|event| reflect(&mut writer, event)).transpose()));
    (store, changes)
}

/// Stores an event and says what of it is news.
fn reflect<K>(writer: &mut Writer<K>, event: Event<K>) -> Option<Change<K>>
where
    K: Watched + Clone + 'static,
{
    let known = match &event {
        Event::Apply(object) => writer.as_reader().get(&ObjectRef::from_obj(object)),
        _ => None,
    };
    writer.apply_watcher_event(&event);
    match event {
        Event::Apply(object) if known.is_some_and(|known| known.reads_like(&object)) => None,
        Event::Apply(object) => Some(Change::Applied(object)),
        Event::Delete(object) => Some(Change::Deleted(object)),
        Event::InitDone => Some(Change::Relisted),
        Event::Init | Event::InitApply(_) => None,
    }
}

/// One item per change, but not more often than `every`: the first at once, what comes in between as one at the end.
/// Ends when the sender is gone.
pub fn coalesced<T: Send + Sync + 'static>(
    changed: watch::Receiver<T>,
    every: Duration,
) -> impl Stream<Item = ()> + Send + use<T> {
    stream::unfold((changed, None), move |(mut changed, last)| async move {
        if let Some(last) = last {
            tokio::time::sleep_until(last + every).await;
        }
        changed.changed().await.ok()?;
        Some(((), (changed, Some(tokio::time::Instant::now()))))
    })
}
