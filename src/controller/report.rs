//! What the rebalancer knows about each pipeline, for status, `why` and metrics. Written by the rebalancer, read by the
//! reconciler; views of the same record.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Write as _};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use super::by_name::ByName;
use crate::api::tiered_pipeline::{DecisionSummary, Learned};
use crate::rebalance::decision::{HoldReason, Lack, NotUsed, Reason};
use crate::rebalance::world::Resources;

/// Decisions kept per pipeline.
pub const DECISIONS_MAX: usize = 5;

/// One pipeline as the rebalancer sees it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PipelineView {
    /// By stage name.
    pub stages: ByName<StageView>,
    /// The last decisions, newest first.
    pub decisions: VecDeque<Arc<DecisionSummary>>,
    /// What becomes of the latency objective; absent without one.
    pub objective: Option<Prospect>,
    /// What all pipelines of the namespace take while that is more than they may: millionths per hour, and milliwatts.
    pub together: Option<(u128, u128)>,
}

/// What becomes of a latency objective, in names. Nothing in it moves on every tick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prospect {
    /// Headroom is planned that keeps it.
    Kept,
    /// All replicas that are allowed would take about so many milliseconds.
    OutOfReach(u64),
    /// A stage does not declare what is needed.
    Undeclared(Arc<str>, Lack),
    /// The demand of a stage is not known.
    Unseen(Arc<str>),
}

/// One stage as the rebalancer sees it. Nothing in it moves on every tick.
#[derive(Clone, Debug, PartialEq)]
pub struct StageView {
    /// Wanted replicas by pool.
    pub planned: ByName<u32>,
    /// The plan leaves demand unserved.
    pub short: bool,
    /// The pipeline's throughput is limited here.
    pub bottleneck: bool,
    /// Why the plan is not what runs.
    pub hold: Option<HoldReason>,
    /// What shaped the plan.
    pub reason: Reason,
    /// How far its signals can be trusted.
    pub signals: Signals,
    /// Presets of which nothing fresh is known while replicas are Ready; `signal.preset` stands for the stage's own.
    pub missing: Vec<&'static str>,
    /// For a time that counts as loss, many of its replicas have been no part of what is known.
    pub partial: bool,
    /// Who says nothing fresh, and why; empty while all do.
    pub silence: Vec<Silence>,
    /// What was learned, by pool; observations rounded down to a power of two.
    pub learned: ByName<PoolLearned>,
    /// Calls per request of its callers, as learned.
    pub calls: Option<Learned>,
    /// Why pools are not used more.
    pub not_used: ByName<NotUsed>,
    /// Who else writes the replicas.
    pub foreign: Option<Foreign>,
}

/// What was learned of a stage on one pool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolLearned {
    /// What one replica serves.
    pub requests_per_second: Option<Learned>,
    /// Seconds until a replica is Ready.
    pub startup_seconds: Option<Learned>,
}

/// How far the signals of a stage can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signals {
    /// Fresh enough to shrink on.
    Fresh,
    /// Too old, or from too few replicas.
    Stale,
    /// None has ever come.
    Unseen,
}

/// Why one preset says nothing fresh, or not of every pod. Nothing in it moves on every tick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// The preset.
    pub preset: String,
    /// Who is asked, such as `pods` or `metrics.k8s.io`.
    pub source: String,
    /// The pool whose pods are read; absent if the source speaks of the stage as a whole.
    pub pool: Option<String>,
    /// Pods that are part of what is known, and those that should be; absent likewise.
    pub pods: Option<(u32, u32)>,
    /// What is wrong.
    pub why: Option<String>,
    /// The first pods that it is about, by name.
    pub named: Vec<String>,
    /// How many there are.
    pub about: u32,
    /// When its newest part was received, RFC 3339 in whole seconds; absent if nothing is left of it.
    pub newest: Option<String>,
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "preset '{}' ({})", self.preset, self.source)?;
        if let Some(pool) = &self.pool {
            write!(f, " on pool '{pool}'")?;
        }
        if let Some((sampled, expected)) = self.pods {
            write!(f, " has {sampled} of {expected} pods")?;
        }
        if let Some(newest) = &self.newest {
            write!(f, ", the newest of {newest}")?;
        }
        if let Some(why) = &self.why {
            write!(f, "; ")?;
            let more = usize::try_from(self.about)
                .unwrap_or(usize::MAX)
                .saturating_sub(self.named.len());
            match (self.named.join(", "), more) {
                (named, _) if named.is_empty() => {}
                (named, 0) => write!(f, "{named}: ")?,
                (named, more) => write!(f, "{named} and {more} more: ")?,
            }
            write!(f, "{why}")?;
        }
        Ok(())
    }
}

/// Somebody else writes the replicas of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// Another autoscaler owns them, by field manager.
    Autoscaler(String),
    /// Somebody changed them back too often, by field manager.
    Contested(String),
}

/// The views of all pipelines, by UID.
#[derive(Clone, Debug, Default)]
pub struct Views(Arc<RwLock<BTreeMap<String, Arc<PipelineView>>>>);

impl Views {
    /// The view of one pipeline, once the rebalancer has looked at it.
    pub fn get(&self, uid: &str) -> Option<Arc<PipelineView>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(uid)
            .map(Arc::clone)
    }

    /// Replaces a view. Says whether it differs from the last one.
    pub fn put(&self, uid: &str, view: PipelineView) -> bool {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if all.get(uid).is_some_and(|known| **known == view) {
            return false;
        }
        all.insert(uid.to_owned(), Arc::new(view));
        true
    }

    /// Forgets pipelines that are gone.
    pub fn retain(&self, live: impl Fn(&str) -> bool) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|uid, _| live(uid));
    }
}

/// What one more of a pool's resources would save per hour, by the pool's name: millionths of a dollar for a core, a GiB and
/// a device. Only of pools that are short. Written by the rebalancer, read by the pools' reconciler.
#[derive(Clone, Debug, Default)]
pub struct ShadowPrices(Arc<RwLock<BTreeMap<String, [u64; 3]>>>);

impl ShadowPrices {
    /// Replaces all.
    pub fn set(&self, prices: BTreeMap<String, [u64; 3]>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = prices;
    }

    /// What one more node would save per hour, millionths of a dollar; none if its pool is not short.
    pub fn of_node(&self, pool: &str, node: &Resources) -> Option<u64> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let [core, gib, device] = all.get(pool)?.map(u128::from);
        let micros = core * u128::from(node.cpu_millis) / 1_000
            + gib * u128::from(node.memory_kib) / (1 << 20)
            + device * u128::from(node.device_millis) / 1_000;
        u64::try_from(micros).ok()
    }
}

/// Room that is to be kept on a pool for bursts: so many times so much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmRoom {
    /// What one placeholder requests.
    pub part: Resources,
    /// Placeholders.
    pub parts: u32,
    /// Whose burst it is for, and why so much is kept.
    pub reason: String,
}

/// By the pool's name. Written by the rebalancer, read by the pools' reconciler and by who keeps the room.
pub type WarmRooms = BTreeMap<String, WarmRoom>;

/// Why the room of a pool is not held, by the pool's name. Written by who holds it.
pub type WarmTroubles = BTreeMap<String, String>;

/// What is known of rooms that are kept.
#[derive(Clone, Debug)]
pub struct Kept {
    /// What is wanted; absent until the rebalancer has looked.
    pub rooms: watch::Receiver<Option<Arc<WarmRooms>>>,
    /// What is refused.
    pub troubles: watch::Receiver<Arc<WarmTroubles>>,
}

/// What is to be kept on one pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Room {
    /// Nobody has looked yet.
    Unknown,
    /// Nothing.
    None,
    /// So much.
    Wanted(WarmRoom),
}

impl Kept {
    /// What is to be kept on a pool. Whatever is wrong is among the reasons.
    pub fn on(&self, pool: &str) -> Room {
        let Some(rooms) = self.rooms.borrow().clone() else {
            return Room::Unknown;
        };
        let Some(mut room) = rooms.get(pool).cloned() else {
            return Room::None;
        };
        if let Some(trouble) = self.troubles.borrow().get(pool) {
            let _ = write!(room.reason, "; it is not held: {trouble}");
        }
        Room::Wanted(room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_saves_what_its_cores_memory_and_devices_save() {
        let prices = ShadowPrices::default();
        let node = Resources {
            cpu_millis: 4_500,
            memory_kib: 2 << 20,
            device_millis: 8_000,
        };
        assert_eq!(prices.of_node("a", &node), None);
        prices.set(BTreeMap::from([("a".to_owned(), [2_000, 30, 100])]));
        assert_eq!(prices.of_node("a", &node), Some(9_000 + 60 + 800));
        prices.set(BTreeMap::new());
        assert_eq!(prices.of_node("a", &node), None, "not short any more");
    }
}
