//! Why a stage or a pool holds no more, in words.

use super::most::Limit;
use crate::api::tiered_pipeline::Mode;
use crate::controller::pipeline::validated::{Permission, StagePool, ValidatedStage};
use crate::rebalance::decision::NotUsed;

/// What is known of a stage on a pool while its pipeline serves its most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held<'a> {
    /// What the core says of the pool.
    pub(super) why: Option<NotUsed>,
    /// Replicas of the stage that have a place, on all of its pools.
    pub(super) reached: u32,
    /// What keeps the pipeline from more.
    pub(super) limit: Limit,
    /// Name of its narrowest stage, if that is what does and the stage itself could serve more.
    pub(super) narrowest: Option<&'a str>,
    /// One replica more finds no place on the pool.
    pub(super) full: bool,
    /// The pool is better than one that the stage uses.
    pub(super) preferred: bool,
    /// One replica more there exceeds the budget, in money and in power.
    pub(super) broke: [bool; 2],
}

const NO_ROOM: &str = "no room for one more";
const NO_MONEY: &str = "the budget leaves no more";
const NO_POWER: &str = "the ceiling on power leaves no more";

/// Why a pool holds no more of a stage; absent where nothing is known that keeps it from more.
pub(super) fn held(row: &Held<'_>, permission: Permission, stage: &ValidatedStage, pool: &StagePool) -> Option<String> {
    let told = match row.why {
        Some(NotUsed::Excluded) if pool.fit.is_none() => "no longer for this stage: must be left".to_owned(),
        Some(NotUsed::Excluded) if pool.room == 0 => "no node has room for one replica".to_owned(),
        Some(NotUsed::Excluded) => "what a node offers or costs is not known".to_owned(),
        Some(NotUsed::Dearer(_)) if pool.fit.as_ref().is_some_and(|fit| !fit.preferred) => {
            format!("not the tier that tierHint '{}' prefers", stage.hint.as_str())
        }
        Some(NotUsed::Dearer(_)) => "dearer for what it serves".to_owned(),
        // What the stage would rather use than what it does.
        Some(NotUsed::Full | NotUsed::DryUntil(..)) if row.preferred => NO_ROOM.to_owned(),
        _ => return bound(row, permission, stage),
    };
    Some(told)
}

/// What keeps the stage as a whole from more.
fn bound(row: &Held<'_>, permission: Permission, stage: &ValidatedStage) -> Option<String> {
    if row.reached >= stage.max {
        return Some(format!("replicas.max of {} is reached", stage.max));
    }
    let still = match permission {
        Permission::Mode(Mode::Paused) => Some("the pipeline is paused"),
        Permission::Mode(Mode::Advisory) => Some("mode Advisory: nothing is written"),
        Permission::NoScaleOut => Some("growth is paused"),
        Permission::Mode(Mode::Automatic) | Permission::NoScaleIn => None,
    };
    if let Some(why) = still {
        return Some(why.to_owned());
    }
    let why = match (row.limit, row.narrowest) {
        (Limit::Budget, _) => NO_MONEY,
        (Limit::Power, _) => NO_POWER,
        (Limit::Namespace, _) => "the namespace's ceiling leaves no more",
        (Limit::BudgetAndPower, _) => "budget and ceiling on power leave no more",
        (Limit::Narrowest(_), Some(name)) if name != stage.name => {
            return Some(format!("no use: '{name}' is its pipeline's narrowest"));
        }
        (Limit::Narrowest(_) | Limit::Still, _) if row.full => NO_ROOM,
        (Limit::Narrowest(_) | Limit::Still, _) => match row.broke {
            [true, _] => NO_MONEY,
            [false, true] => NO_POWER,
            [false, false] => return None,
        },
    };
    Some(why.to_owned())
}

/// What may be written for a pipeline, as its field and annotation say it.
pub(super) const fn mode(permission: Permission) -> &'static str {
    match permission {
        Permission::Mode(Mode::Automatic) => "Automatic",
        Permission::Mode(Mode::Advisory) => "Advisory",
        Permission::Mode(Mode::Paused) => "Paused",
        Permission::NoScaleIn => "NoScaleIn",
        Permission::NoScaleOut => "NoScaleOut",
    }
}
