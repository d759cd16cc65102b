//! Why a stage or a pool holds no more, in words.

use crate::api::tiered_pipeline::Mode;
use crate::controller::pipeline::validated::{Permission, StagePool, ValidatedStage};
use crate::rebalance::decision::{NotUsed, Reason, StageReport};

/// Why a pool holds no more of a stage that needs its most.
pub(super) fn because(why: NotUsed, stage: &ValidatedStage, pool: &StagePool) -> String {
    match why {
        NotUsed::Dearer(_) if pool.fit.as_ref().is_some_and(|fit| !fit.preferred) => {
            format!("not the tier that tierHint '{}' prefers", stage.hint.as_str())
        }
        NotUsed::Dearer(_) => "dearer for what it serves".to_owned(),
        NotUsed::Full | NotUsed::DryUntil(..) => "no room for one more".to_owned(),
        NotUsed::OverBudget => "the budget leaves no more".to_owned(),
        NotUsed::OverPower => "the ceiling on power leaves no more".to_owned(),
        NotUsed::OverShared => "the namespace's ceiling leaves no more".to_owned(),
        NotUsed::AtBounds => format!("replicas.max of {} is reached", stage.max),
        NotUsed::Excluded if pool.fit.is_none() => "no longer for this stage: must be left".to_owned(),
        NotUsed::Excluded if pool.room == 0 => "no node has room for one replica".to_owned(),
        NotUsed::Excluded => "what a node offers or costs is not known".to_owned(),
    }
}

/// What keeps a stage as a whole from its most. `broke`: what is left of the budget, in money or power, is less than one
/// replica more.
pub(super) fn bound(report: &StageReport, permission: Permission, broke: bool) -> Option<String> {
    let why = match permission {
        Permission::Mode(Mode::Paused) => "the pipeline is paused",
        Permission::Mode(Mode::Advisory) => "mode Advisory: nothing is written",
        Permission::NoScaleOut => "growth is paused",
        Permission::Mode(Mode::Automatic) | Permission::NoScaleIn if broke => "the budget leaves no more",
        Permission::Mode(Mode::Automatic) | Permission::NoScaleIn => match report.reason {
            Reason::PoolFull | Reason::PoolDry(_) | Reason::NoCapacity => "no room for one more",
            _ => return None,
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
