//! The controller of ComputePools: status from nodes and pods. Writes nothing else, to no other object.
//!
//! Pools have no finalizer. One that is deleted is gone at once; the pipelines that used it find out from the store.

mod status;

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{FutureExt, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    Api, Client, Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::{
        Controller,
        controller::{self, Action},
        reflector::Store,
    },
};
use tokio::sync::watch;
use tokio::time::Instant;

pub use status::compute_status;

use super::capacity::{PoolObservation, observe};
use super::events::Events;
use super::events::table::POOL;
use super::own_writes::OwnWrites;
use super::report::{Kept, ShadowPrices};
use super::spans;
use super::status_write;
use super::view::{NodeView, PodView, coalesced, watcher_config};
use crate::api::compute_pool::{ComputePoolStatus, Tier};
use crate::api::{ComputePool, conditions};
use crate::telemetry::{Metrics, PoolSample, ResourceSample};

/// Numbers of a status settle this long; conditions do not wait.
const SETTLE: Duration = Duration::from_secs(2);
/// Changes of nodes and pods are looked at together, at most this often.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A status that was not taken is looked at again so soon, in case no news of the pool comes.
const UNWRITTEN: Duration = Duration::from_secs(10);
/// Passes at once: each is a computation and at most one write.
const CONCURRENCY: u16 = 8;

/// What the controller works with. The stores are filled by whoever polls the watches of [`super::view`].
pub struct Context {
    /// For status writes; retries off.
    pub client: Client,
    /// All pools.
    pub pools: Store<DeserializeGuard<ComputePool>>,
    /// All nodes.
    pub nodes: Store<NodeView>,
    /// All pods that hold requests.
    pub pods: Store<PodView>,
    /// What the rebalancer says about room that is short.
    pub prices: ShadowPrices,
    /// What room is to be kept for bursts.
    pub kept: Kept,
    /// Tells people.
    pub events: Events,
    /// Where the numbers of pools are shown.
    pub metrics: Metrics,
    /// Statuses on their way to the store.
    own: OwnWrites<ComputePoolStatus>,
    /// By UID; pools that are gone are forgotten.
    memory: Mutex<BTreeMap<String, Memory>>,
}

/// What is remembered of a pool between passes.
#[derive(Default)]
struct Memory {
    name: String,
    written_at: Option<Instant>,
    failures: u32,
}

impl Context {
    /// A context that remembers nothing yet.
    pub fn new(
        client: Client,
        (pools, nodes, pods): (Store<DeserializeGuard<ComputePool>>, Store<NodeView>, Store<PodView>),
        (prices, kept): (ShadowPrices, Kept),
        events: Events,
        metrics: Metrics,
    ) -> Self {
        Self {
            client,
            pools,
            nodes,
            pods,
            prices,
            kept,
            events,
            metrics,
            own: OwnWrites::default(),
            memory: Mutex::default(),
        }
    }

    fn remember<T>(&self, uid: &str, with: impl FnOnce(&mut Memory) -> T) -> T {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        with(memory.entry(uid.to_owned()).or_default())
    }

    fn forget_all_but(&self, pools: &[Arc<ComputePool>]) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.retain(|uid, known| {
            let live = pools.iter().any(|pool| pool.metadata.uid.as_ref() == Some(uid));
            let named = |pool: &Arc<ComputePool>| pool.name_any() == known.name;
            if !live && !pools.iter().any(named) {
                self.metrics.forget_pool(&known.name);
            }
            live
        });
    }
}

/// Why a pass failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object does not decode.
    #[error("compute pool does not decode: correct it, or update its definition: {0}")]
    Malformed(String),
    /// The API server refused the write, broke it off or did not answer in time.
    #[error("could not write the status of compute pool '{pool}'")]
    Write {
        /// Name of the pool.
        pool: String,
        /// Why.
        #[source]
        source: status_write::Error,
    },
    /// A defect of tiercel; the other pools go on.
    #[error("the pass over compute pool '{pool}' panicked: please report it with the operator's log")]
    Panicked {
        /// Name of the pool.
        pool: String,
    },
}

/// One pass over one pool: observe, compute, write if something differs.
pub async fn reconcile(object: Arc<DeserializeGuard<ComputePool>>, ctx: Arc<Context>) -> Result<Action, Error> {
    let pool = object
        .0
        .as_ref()
        .map_err(|invalid| Error::Malformed(invalid.error.clone()))?;
    let uid = pool.metadata.uid.clone().unwrap_or_default();
    // The object at hand is newer than the store, or as new.
    let others = ctx
        .pools
        .state()
        .into_iter()
        .filter_map(|guard| guard.0.as_ref().ok().cloned());
    let mut pools: Vec<Arc<ComputePool>> = vec![Arc::new(pool.clone())];
    pools.extend(
        others
            .filter(|other| other.metadata.uid != pool.metadata.uid)
            .map(Arc::new),
    );
    ctx.forget_all_but(&pools);
    let observations = observe(&pools, &ctx.nodes.state(), &ctx.pods.state());
    let Some(observation) = observations.first() else {
        return Ok(repeat(&uid));
    };

    let last_write = ctx.remember(&uid, |memory| {
        memory.name.clone_from(&observation.name);
        memory.written_at
    });
    let own = ctx.own.after(&pool.metadata);
    let previous = own.as_ref().or(pool.status.as_ref());
    let room = ctx.kept.on(&observation.name);
    let status = compute_status(pool, observation, &ctx.prices, &room, previous, &now());
    ctx.metrics
        .set_pool(&observation.name, sample(observation, &ctx.prices, &status));
    let before = previous.map(|status| status.conditions.as_slice());
    ctx.events.tell(
        &pool.object_ref(&()),
        POOL,
        before.unwrap_or_default(),
        &status.conditions,
    );
    let action = match urgency(previous, &status) {
        Urgency::Nothing => repeat(&uid),
        Urgency::Numbers if let Some(wait) = last_write.and_then(settling) => Action::requeue(wait),
        Urgency::Numbers | Urgency::Conditions => {
            if write(&ctx, pool, status).await? {
                repeat(&uid)
            } else {
                Action::requeue(UNWRITTEN)
            }
        }
    };
    ctx.remember(&uid, |memory| memory.failures = 0);
    Ok(action)
}

/// State of a pool, as metrics tell it.
fn sample(observed: &PoolObservation, prices: &ShadowPrices, status: &ComputePoolStatus) -> PoolSample {
    let (used, free) = (observed.totals.used_by_tiercel, observed.totals.free);
    let bytes_millis = |kib: u64| kib.saturating_mul(1_024 * 1_000);
    let sample = |resource: &str, used: u64, free: u64| ResourceSample {
        resource: resource.to_owned(),
        capacity_millis: used.saturating_add(free),
        used_millis: used,
    };
    let mut resources = vec![
        sample("cpu", used.cpu_millis, free.cpu_millis),
        sample("memory", bytes_millis(used.memory_kib), bytes_millis(free.memory_kib)),
    ];
    if let Some(device) = &observed.device {
        resources.push(sample(device, used.device_millis, free.device_millis));
    }
    PoolSample {
        tier: match observed.tier {
            Tier::Cpu => "CPU",
            Tier::Accelerator => "Accelerator",
        },
        price_per_hour_micros: observed.cost_per_node_micros,
        shadow_price_per_hour_micros: (observed.shape).and_then(|node| prices.of_node(&observed.name, &node)),
        nodes: observed.nodes,
        usable_nodes: u32::try_from(observed.usable.len()).unwrap_or(u32::MAX),
        placeholders: (status.warm_buffer.as_ref())
            .map(|kept| (kept.placeholders.unsigned_abs(), kept.held.unsigned_abs())),
        conditions: conditions::verdicts(&status.conditions),
        resources,
    }
}

/// What a new status is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Urgency {
    /// Says the same.
    Nothing,
    /// Other numbers: may settle.
    Numbers,
    /// Another condition, reason or generation: at once.
    Conditions,
}

fn urgency(previous: Option<&ComputePoolStatus>, status: &ComputePoolStatus) -> Urgency {
    let Some(previous) = previous else {
        return Urgency::Conditions;
    };
    if previous == status {
        return Urgency::Nothing;
    }
    let verdicts = |status: &ComputePoolStatus| -> BTreeMap<String, (String, String)> {
        let conditions = status.conditions.iter();
        conditions
            .map(|c| (c.type_.clone(), (c.status.clone(), c.reason.clone())))
            .collect()
    };
    let same = previous.observed_generation == status.observed_generation && verdicts(previous) == verdicts(status);
    if same { Urgency::Numbers } else { Urgency::Conditions }
}

/// How long numbers still have to settle.
fn settling(last_write: Instant) -> Option<Duration> {
    let left = SETTLE.saturating_sub(last_write.elapsed());
    (!left.is_zero()).then_some(left)
}

/// Whether the status was taken: not by a pool that is gone, or that another writer was faster with.
async fn write(ctx: &Context, pool: &ComputePool, status: ComputePoolStatus) -> Result<bool, Error> {
    let api = Api::<ComputePool>::all(ctx.client.clone());
    let stored = status_write::apply(&api, pool, &status)
        .await
        .map_err(|source| Error::Write {
            pool: pool.name_any(),
            source,
        })?;
    let Some(stored) = stored else {
        return Ok(false);
    };
    let uid = pool.metadata.uid.clone().unwrap_or_default();
    ctx.remember(&uid, |memory| memory.written_at = Some(Instant::now()));
    ctx.own.note(&stored.metadata, stored.status.unwrap_or(status));
    Ok(true)
}

/// Nothing is trusted to wake us for ever: look again after four to five minutes, spread by identity.
fn repeat(uid: &str) -> Action {
    let spread = uid
        .bytes()
        .fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)))
        % 60;
    Action::requeue(Duration::from_secs(240 + spread))
}

/// The wall clock in whole seconds, as the API server keeps it; for display.
fn now() -> Time {
    let now = jiff::Timestamp::now();
    Time(jiff::Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// Again after 1 s, doubling up to a minute. What does not decode waits for an edit.
#[expect(clippy::needless_pass_by_value, reason = "the shape that kube calls")]
fn error_policy(object: Arc<DeserializeGuard<ComputePool>>, error: &Error, ctx: Arc<Context>) -> Action {
    let name = object.meta().name.clone().unwrap_or_default();
    tracing::warn!(
        controller = "computepool",
        name,
        error = error as &dyn std::error::Error,
        "pass failed"
    );
    if matches!(error, Error::Malformed(_)) {
        return Action::await_change();
    }
    let failures = ctx.remember(object.meta().uid.as_deref().unwrap_or_default(), |memory| {
        memory.failures = memory.failures.saturating_add(1);
        memory.failures
    });
    Action::requeue(Duration::from_secs(1 << (failures - 1).min(6)).min(Duration::from_mins(1)))
}

/// Runs the controller until `shutdown` resolves and the passes under way have ended.
///
/// `changed` is signalled by whoever polls the watches, for every change of a pool, node or pod (`send_replace(())`):
/// then all pools are evaluated anew, because they share nodes. Starts only once all stores are filled; returns at once
/// if one of them never will be, because its watch is gone.
///
/// `watches` is a client whose calls may last: the writing one has a deadline on every body.
pub async fn run(
    ctx: Arc<Context>,
    watches: Client,
    changed: watch::Receiver<()>,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let shutdown = shutdown.shared();
    let filled = async {
        ctx.pools.wait_until_ready().await?;
        ctx.nodes.wait_until_ready().await?;
        ctx.pods.wait_until_ready().await
    };
    tokio::select! {
        filled = filled => if filled.is_err() {
            tracing::error!(controller = "computepool", "a watch ended before its first list: not started");
            return;
        },
        () = shutdown.clone() => return,
    }
    let api = Api::<DeserializeGuard<ComputePool>>::all(watches);
    let rooms = coalesced(ctx.kept.rooms.clone(), LOOK_EVERY);
    let troubles = coalesced(ctx.kept.troubles.clone(), LOOK_EVERY);
    Controller::new(api, watcher_config())
        .with_config(controller::Config::default().concurrency(CONCURRENCY))
        .reconcile_all_on(coalesced(changed, LOOK_EVERY))
        .reconcile_all_on(rooms)
        .reconcile_all_on(troubles)
        .graceful_shutdown_on(shutdown)
        .run(caught, error_policy, ctx)
        .for_each(|pass| {
            match pass {
                Ok((pool, _)) => tracing::debug!(controller = "computepool", name = pool.name, "pass done"),
                // Logged with its cause by the error policy.
                Err(controller::Error::ReconcilerFailed(..)) => {}
                Err(error) => tracing::warn!(controller = "computepool", %error, "watch disturbed"),
            }
            std::future::ready(())
        })
        .await;
}

/// A panic would end the controller for all pools: make it the failure of one pass.
async fn caught(object: Arc<DeserializeGuard<ComputePool>>, ctx: Arc<Context>) -> Result<Action, Error> {
    let pool = object.meta().name.clone().unwrap_or_default();
    let span = spans::pass("computepool", object.meta());
    let pass = AssertUnwindSafe(reconcile(object, ctx)).catch_unwind();
    spans::within(span, pass.map(|done| done.unwrap_or(Err(Error::Panicked { pool })))).await
}

#[cfg(test)]
mod situations;
#[cfg(test)]
mod tests;
