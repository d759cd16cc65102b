//! Wrong variants of the core, one at a time, to show that the tests see what they are there to see.
//!
//! Nothing of this is in a build without the feature `seeded-bugs`: [`seeded`] is constantly false there, and what it
//! guards is dropped. With the feature, and only then, one environment variable, [`VARIABLE`], names the bug that is on;
//! it is read once. It is the one place where the core looks at its surroundings, which is why no release is built so.
//!
//! Which test must catch which bug is in [`tests`]; `make bugs` runs them.

/// Names the bug that is on, as in [`Bug`].
#[cfg(feature = "seeded-bugs")]
pub(super) const VARIABLE: &str = "TIERCEL_SEEDED_BUG";

/// What may be wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    /// Pods that did not report count as idle, also for shrinking.
    SilentPodsAreIdle,
    /// So do Ready replicas of a variant that says nothing at all.
    SilentVariantIsIdle,
    /// What a signal beside a stage's own would show while it is silent is nothing.
    SilentAlsoIsIdle,
    /// A reading without any number in it counts as a reading of zero.
    EmptyReadingIsZero,
    /// A reading is good for ever.
    StaleIsFresh,
    /// One idle reading proves idleness.
    IdleAtOnce,
    /// The scale-down window has no length.
    CoolDownIgnored,
    /// What callers offer does not reach the called.
    FanOutDropped,
    /// The cheapest cover may have one replica less than the floor.
    FloorOffByOne,
    /// The cheapest cover does not look at the floor on reliable pools.
    ReliableFloorIgnored,
    /// The last replica under `Uniform` is rounded away.
    PaceRoundedDown,
    /// Replicas of several paces serve at their mean.
    UniformIsMean,
    /// Equal pools are taken in the order of their declaration.
    TieByPlace,
    /// Stages that compete for a short pool are served in the order of their keys.
    TieByName,
    /// Stages that compete for a short pool are served without regard to their class.
    PriorityIgnored,
    /// The bound of a search that was cut off is what it had found by then.
    IncumbentIsBound,
    /// Handing out replicas does not take from the budget.
    BudgetForgotten,
    /// Replicas draw no power that counts.
    PowerForgotten,
    /// What pipelines take of ceilings that they share is not counted.
    SharedForgotten,
    /// A pool is full only when its CPU or its devices are.
    MemoryForgotten,
    /// Pods on their way out hold nothing.
    LeavingForgotten,
    /// Replicas whose write is still on its way count as there.
    InFlightIsCertain,
    /// What was asked for is forgotten at once.
    AskedAgain,
    /// A pool that was dry once is dry for ever.
    DryForever,
    /// A pool that stays dry is tried as often as at first.
    DryPauseStays,
    /// One replica too many may go before the floor of Ready ones is looked at.
    SpareOffByOne,
    /// Ready replicas go before others have taken over.
    BreakBeforeMake,
    /// Of stages that wait for each other's room, the one that loses most gives way.
    MostGivesWay,
    /// For a lower price, too.
    PriceGivesWay,
    /// What shrinks is written before what grows.
    ShrinkFirst,
    /// A shift grows as far as there is room.
    SurgeIgnored,
    /// Decisions are written unchecked.
    VerifySkipped,
    /// Prices of pools make a pool cheaper.
    PriceSign,
    /// The search to the end drops choices that exceed their stage's least by half of what is left to the best plan.
    GapHalved,
    /// What the room is worth is added to the bound.
    RoomTermSign,
    /// Stages are taken in the caller's order.
    CallersOrder,
    /// Stages of a pipeline buy what their neighbours cannot pass on.
    BottleneckIgnored,
    /// Where pools are short, queues count in full.
    QueuesCountInFull,
    /// A product and a sum are rounded once instead of twice.
    Fused,
    /// Readings of full replicas teach what a replica serves.
    LearnsFromSaturated,
    /// What is learned may be any number.
    LearnedUnbounded,
    /// One sample is in force at once.
    OneSampleTeaches,
    /// Demand that was measured in the old capacity is held against the new one.
    DemandNotConverted,
    /// What was learned before a restart is not taken back.
    LearnedForgotten,
    /// Calls per request are learned while a queue grows.
    FanOutFromQueue,
}

/// Whether this bug is on: never.
#[cfg(not(feature = "seeded-bugs"))]
#[inline]
pub(super) const fn seeded(_: Bug) -> bool {
    false
}

/// Whether this bug is on.
#[cfg(feature = "seeded-bugs")]
pub(super) fn seeded(bug: Bug) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| std::env::var(VARIABLE).ok());
    chosen.as_ref().is_some_and(|name| *name == format!("{bug:?}"))
}

#[cfg(feature = "seeded-bugs")]
#[cfg(test)]
mod tests;
