//! Every word that the core has. A new one does not compile until it stands in its row.

use crate::rebalance::decision::{Driver, HoldReason, Reason};
use crate::rebalance::world::DryReason;

fn all<T: Copy>(first: T, next: impl Fn(T) -> Option<T>) -> Vec<T> {
    std::iter::successors(Some(first), |one| next(*one)).collect()
}

pub(super) fn reasons() -> Vec<Reason> {
    all(Reason::Cheapest, |reason| {
        Some(match reason {
            Reason::Cheapest => Reason::PoolFull,
            Reason::PoolFull => Reason::PoolDry(DryReason::Unschedulable),
            Reason::PoolDry(DryReason::Unschedulable) => Reason::PoolDry(DryReason::CannotStart),
            Reason::PoolDry(DryReason::CannotStart) => Reason::PoolDry(DryReason::Reclaimed),
            Reason::PoolDry(DryReason::Reclaimed) => Reason::BudgetExhausted,
            Reason::BudgetExhausted => Reason::AtBounds,
            Reason::AtBounds => Reason::NoCapacity,
            Reason::NoCapacity => Reason::MakeBeforeBreak,
            Reason::MakeBeforeBreak => Reason::GivesWay,
            Reason::GivesWay => Reason::Probe,
            Reason::Probe => Reason::Fallback,
            Reason::Fallback => return None,
        })
    })
}

pub(super) fn drivers() -> Vec<Driver> {
    all(Driver::Rate, |driver| {
        Some(match driver {
            Driver::Rate => Driver::Utilization,
            Driver::Utilization => Driver::Running,
            Driver::Running => Driver::Waiting,
            Driver::Waiting => Driver::Saturation,
            Driver::Saturation => Driver::Callers,
            Driver::Callers => Driver::Also(0),
            Driver::Also(_) => Driver::Latency,
            Driver::Latency => Driver::Recent,
            Driver::Recent => Driver::Floor,
            Driver::Floor => Driver::Fallback,
            Driver::Fallback => return None,
        })
    })
}

pub(super) fn holds() -> Vec<HoldReason> {
    all(HoldReason::MetricsStale, |hold| {
        Some(match hold {
            HoldReason::MetricsStale => HoldReason::Paused,
            HoldReason::Paused => HoldReason::Advisory,
            HoldReason::Advisory => HoldReason::BudgetExhausted,
            HoldReason::BudgetExhausted => HoldReason::NoCapacity,
            HoldReason::NoCapacity => HoldReason::CoolingDown,
            HoldReason::CoolingDown => HoldReason::MovesExhausted,
            HoldReason::MovesExhausted => HoldReason::WithinTolerance,
            HoldReason::WithinTolerance => HoldReason::AwaitingReady,
            HoldReason::AwaitingReady => HoldReason::AtFloor,
            HoldReason::AtFloor => HoldReason::PlanRejected,
            HoldReason::PlanRejected => return None,
        })
    })
}
