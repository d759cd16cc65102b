//! What is told of which object. The reference page is made from these tables, and nothing is told that is not in them.

use kube::runtime::events::EventType;

use crate::api::conditions::{Reason, Type};

/// One thing that is told: that a condition has a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The condition.
    pub type_: Type,
    /// Its reason, which is also the Event's.
    pub reason: Reason,
    /// `Warning` where somebody may have to act.
    pub severity: EventType,
    /// At which moment.
    pub when: When,
}

/// When a row is told. All are transitions: what stays is told once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The condition takes this reason.
    Taken,
    /// What held, or was never known to hold, does not: the condition is false, or unknown after it was true.
    Lost,
    /// What was lost is back.
    Back,
    /// It is seen, whatever the condition says: other pools may have room.
    Seen,
}

impl When {
    /// For the reference page.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Taken => "the condition takes this reason",
            Self::Lost => "it does not hold, or is no longer known to",
            Self::Back => "it holds again",
            Self::Seen => "it is seen, also while the condition is true",
        }
    }
}

const fn row(type_: Type, reason: Reason, severity: EventType, when: When) -> Row {
    Row {
        type_,
        reason,
        severity,
        when,
    }
}

/// Of pipelines. Of `Balanced` only that somebody else changes the replicas: shifts are the daily work, and in
/// `status.decisions`.
pub const PIPELINE: &[Row] = {
    use EventType::{Normal, Warning};
    use When::{Back, Lost, Seen, Taken};
    &[
        row(Type::Ready, Reason::AsDeclared, Normal, Taken),
        row(Type::Ready, Reason::Pending, Normal, Taken),
        row(Type::Ready, Reason::RollingOut, Normal, Taken),
        row(Type::Ready, Reason::Paused, Normal, Taken),
        row(Type::Ready, Reason::NoCapacity, Warning, Taken),
        row(Type::Ready, Reason::NoPoolMatches, Warning, Taken),
        row(Type::Ready, Reason::PoolClosed, Warning, Taken),
        row(Type::Ready, Reason::Refused, Warning, Taken),
        row(Type::Ready, Reason::Invalid, Warning, Taken),
        row(Type::Ready, Reason::NameTaken, Warning, Taken),
        row(Type::Ready, Reason::ChildRefused, Warning, Taken),
        row(Type::Ready, Reason::ReplicasOwnedElsewhere, Warning, Taken),
        row(Type::SignalsAvailable, Reason::MetricsStale, Warning, Lost),
        row(Type::SignalsAvailable, Reason::Fresh, Normal, Back),
        row(Type::CapacityAvailable, Reason::NoCapacity, Warning, Lost),
        row(Type::CapacityAvailable, Reason::RoomLeft, Normal, Back),
        row(Type::CapacityAvailable, Reason::PoolDry, Warning, Seen),
        row(Type::Balanced, Reason::Contested, Warning, Lost),
        row(Type::Balanced, Reason::WithinTolerance, Normal, Back),
        row(Type::WithinBudget, Reason::BudgetExhausted, Warning, Lost),
        row(Type::WithinBudget, Reason::WithinBudget, Normal, Back),
        // Lower tiers are there to be used; a lasting loss is an alert.
        row(Type::PreferredTier, Reason::BelowPreferredTier, Normal, Lost),
        row(Type::PreferredTier, Reason::OnPreferredTier, Normal, Back),
        row(Type::WithinObjective, Reason::OutOfReach, Warning, Lost),
        row(Type::WithinObjective, Reason::HeadroomPlanned, Normal, Back),
    ]
};

/// Of pools. That one is full is no news: it fills and empties with every shift.
pub const POOL: &[Row] = {
    use EventType::{Normal, Warning};
    use When::Taken;
    &[
        row(Type::Ready, Reason::NodesAvailable, Normal, Taken),
        row(Type::Ready, Reason::Elastic, Normal, Taken),
        row(Type::Ready, Reason::InUse, Normal, Taken),
        row(Type::Ready, Reason::NoNodes, Warning, Taken),
        row(Type::Ready, Reason::NoUsableNodes, Warning, Taken),
        row(Type::Ready, Reason::PoolsOverlap, Warning, Taken),
        row(Type::Ready, Reason::Invalid, Warning, Taken),
    ]
};

/// The row of a condition under a reason, if it is told.
pub(crate) fn find(table: &'static [Row], type_: Type, reason: &str) -> Option<Row> {
    let mut rows = table.iter().copied();
    rows.find(|row| row.type_ == type_ && row.reason.as_str() == reason)
}

/// The row of pools that are dry, which is no reason of a condition.
pub fn dry_pools() -> Option<Row> {
    PIPELINE.iter().copied().find(|row| row.when == When::Seen)
}
