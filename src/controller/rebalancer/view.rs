//! Pure: what the core decided and reports, in names and sentences.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::super::report::{Foreign, PipelineView, PoolLearned, Prospect, Signals, Silence, StageView};
use super::explain::hold_word;
use super::learned::on_record;
use super::world::{Index, StageRef};
use crate::api::decimal::money;
use crate::api::tiered_pipeline::DecisionSummary;
use crate::explain::{Signal, State as Read};
use crate::rebalance::State;
use crate::rebalance::decision::{self, Decision, Driver, NotUsed, Reason, StageReport, Trigger};
use crate::rebalance::world::{DryReason, PipelineIdx, PoolIdx, Stage, StageIdx, Tier, VariantIdx, World};
use crate::telemetry::{PipelineSample, StageSample, VariantSample};

/// Longest summary; the schema says the same.
const SUMMARY_MAX: usize = 250;

/// One decision as people read it.
pub fn summarize(
    decision: &Decision,
    driver: Option<Driver>,
    index: &Index,
    epoch: i64,
    time: Timestamp,
) -> DecisionSummary {
    let stage = index.stage(decision.stage).map_or("?", |stage| &*stage.name);
    let moves: Vec<String> = decision
        .moves
        .iter()
        .map(|step| {
            let pool = index.variant(step.variant).map_or("?", |variant| &*variant.pool);
            format!("{pool} {}->{}", step.from, step.to)
        })
        .collect();
    let advisory = if decision.advisory { " (advisory)" } else { "" };
    let mut summary = format!("{stage}: {}{advisory}", moves.join(", "));
    summary.truncate(SUMMARY_MAX);
    DecisionSummary {
        id: format!("{epoch}-{}", decision.id),
        time: time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        trigger: trigger_word(decision.trigger).to_owned(),
        summary,
        cost_before: money(decision.cost_before_micros),
        cost_after: money(decision.cost_after_micros),
        reason: reason_word(decision.reason).to_owned(),
        signal: driver.map(|driver| driver_word(driver, index.stage(decision.stage)).to_owned()),
    }
}

/// The word for the need that was the largest; the preset's name of a signal beside the stage's own.
pub fn driver_word(driver: Driver, stage: Option<&StageRef>) -> &'static str {
    match driver {
        Driver::Rate => "Rate",
        Driver::Utilization => "Utilization",
        Driver::Running => "Running",
        Driver::Waiting => "Waiting",
        Driver::Saturation => "Saturation",
        Driver::Callers => "Callers",
        Driver::Also(at) => stage
            .and_then(|stage| stage.also.get(usize::from(at)))
            .map_or("?", |preset| preset.name()),
        Driver::Latency => "Latency",
        Driver::Recent => "Recent",
        Driver::Floor => "Floor",
        Driver::Fallback => "Fallback",
    }
}

/// The word for what set a decision off.
pub const fn trigger_word(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::DemandRose => "DemandRose",
        Trigger::DemandFell => "DemandFell",
        Trigger::SpecChanged => "SpecChanged",
        Trigger::CapacityLost => "CapacityLost",
        Trigger::CapacityGained => "CapacityGained",
        Trigger::ReplicaReady => "ReplicaReady",
        Trigger::SignalsLost => "SignalsLost",
        Trigger::Drift => "Drift",
        Trigger::Learned => "Learned",
    }
}

/// The word for what shaped a decision.
pub const fn reason_word(reason: Reason) -> &'static str {
    match reason {
        Reason::Cheapest => "Cheapest",
        Reason::PoolFull => "PoolFull",
        Reason::PoolDry(DryReason::Unschedulable) => "PoolDry",
        Reason::PoolDry(DryReason::CannotStart) => "CannotStart",
        Reason::PoolDry(DryReason::Reclaimed) => "Reclaimed",
        Reason::BudgetExhausted => "BudgetExhausted",
        Reason::AtBounds => "AtBounds",
        Reason::NoCapacity => "NoCapacity",
        Reason::MakeBeforeBreak => "MakeBeforeBreak",
        Reason::GivesWay => "GivesWay",
        Reason::Probe => "Probe",
        Reason::Fallback => "Fallback",
    }
}

/// The view of one pipeline. `foreign` says who else writes the replicas of a variant.
pub fn view(
    pipeline: PipelineIdx,
    index: &Index,
    state: &State,
    decisions: &VecDeque<Arc<DecisionSummary>>,
    foreign: impl Fn(VariantIdx) -> Option<Foreign>,
) -> PipelineView {
    let of_pipeline = index.stages_of(pipeline).map(StageIdx);
    let reported: Vec<(&Arc<str>, StageIdx, &StageReport)> = of_pipeline
        .filter_map(|at| Some((&index.stage(at)?.name, at, state.report(at)?)))
        .collect();
    // Where most of the demand stays unserved, the pipeline's throughput is limited.
    let bottleneck = reported
        .iter()
        .filter(|(_, _, report)| report.unserved_millis > 0)
        .max_by_key(|(_, _, report)| {
            let demand = report.demand_millis.unwrap_or_default().max(1);
            u128::from(report.unserved_millis) * 1_000_000 / u128::from(demand)
        })
        .map(|(_, at, _)| *at);
    let stages = reported
        .iter()
        .map(|(name, at, report)| {
            (
                Arc::clone(name),
                stage(*at, report, index, state, bottleneck == Some(*at), &foreign),
            )
        })
        .collect();
    PipelineView {
        stages,
        decisions: decisions.clone(),
        objective: state.prospect(pipeline).map(|prospect| named(prospect, index)),
        together: state.exceeds_together(pipeline),
    }
}

fn named(prospect: decision::Prospect, index: &Index) -> Prospect {
    let name = |stage| {
        index
            .stage(stage)
            .map_or_else(|| "?".into(), |stage| Arc::clone(&stage.name))
    };
    match prospect {
        decision::Prospect::Kept(_) => Prospect::Kept,
        decision::Prospect::OutOfReach(latency_ms) => Prospect::OutOfReach(two_digits(latency_ms)),
        decision::Prospect::Undeclared(stage, lack) => Prospect::Undeclared(name(stage), lack),
        decision::Prospect::Unseen(stage) => Prospect::Unseen(name(stage)),
    }
}

/// The number with two digits that count, rounded up: what it is about, without what moves with every request.
const fn two_digits(value: u64) -> u64 {
    let mut unit = 1;
    while value / unit >= 100 {
        unit *= 10;
    }
    value.div_ceil(unit) * unit
}

fn stage(
    at: StageIdx,
    report: &StageReport,
    index: &Index,
    state: &State,
    bottleneck: bool,
    foreign: impl Fn(VariantIdx) -> Option<Foreign>,
) -> StageView {
    let (start, end) = state
        .world()
        .stages
        .get(at.0 as usize)
        .map_or((0, 0), |stage| stage.variants);
    let pool = |variant: u32| index.variant(VariantIdx(variant)).map(|variant| variant.pool.clone());
    let planned = (start..end)
        .zip(&report.planned)
        .filter_map(|(variant, count)| Some((pool(variant)?, *count)));
    let not_used = (start..end)
        .zip(&report.not_used)
        .filter_map(|(variant, why)| Some((pool(variant)?, steady((*why)?))));
    let learned = (start..end).zip(&report.learned).filter_map(|(variant, known)| {
        let known = PoolLearned {
            requests_per_second: on_record(known.capacity),
            startup_seconds: on_record(known.startup),
        };
        (known != PoolLearned::default()).then_some((pool(variant)?, known))
    });
    StageView {
        learned: learned.collect(),
        calls: report.calls.and_then(on_record),
        planned: planned.collect(),
        short: report.unserved_millis > 0,
        bottleneck,
        hold: report.hold,
        reason: report.reason,
        signals: match (report.signals_fresh, report.signal_taken_ms) {
            (true, _) => Signals::Fresh,
            (false, Some(_)) => Signals::Stale,
            (false, None) => Signals::Unseen,
        },
        missing: missing(index.stage(at), report.silent),
        partial: report.signals_partial,
        silence: Vec::new(),
        not_used: not_used.collect(),
        foreign: (start..end).find_map(|variant| foreign(VariantIdx(variant))),
    }
}

/// Presets that should speak and do not, while others do: bit 0 stands for the stage's own.
fn missing(stage: Option<&StageRef>, silent: u16) -> Vec<&'static str> {
    let others = stage
        .into_iter()
        .flat_map(|stage| &stage.also)
        .map(|preset| preset.name());
    let all = std::iter::once("signal.preset").chain(others);
    all.enumerate()
        .filter(|(at, _)| silent.checked_shr(u32::try_from(*at).unwrap_or(u32::MAX)).unwrap_or(0) & 1 == 1)
        .map(|(_, name)| name)
        .collect()
}

/// Presets told of in one stage.
const SILENCES_MAX: usize = 2;

/// Of what was read, what is not fresh or not of every pod.
pub fn silence(signals: Vec<Signal>, now_ms: u64) -> Vec<Silence> {
    let incomplete = |signal: &Signal| signal.pods.is_some_and(|pods| pods.sampled < pods.expected);
    let silent = signals
        .into_iter()
        .filter(|signal| signal.state != Read::Fresh || incomplete(signal));
    let told = silent.map(|signal| {
        let gap = signal.gaps.into_iter().max_by_key(|gap| gap.pods).unwrap_or_default();
        Silence {
            preset: signal.preset,
            source: signal.source,
            pool: signal.pool,
            pods: signal.pods.map(|pods| (pods.sampled, pods.expected)),
            why: Some(gap.why).filter(|why| !why.is_empty()),
            named: gap.named,
            about: gap.pods.unwrap_or_default(),
            // Where somebody still answers, if with nothing new, the newest moves with every answer.
            newest: signal
                .newest_seconds
                .filter(|age| signal.state != Read::Fresh && *age > signal.fresh_seconds)
                .and_then(|age| moment(now_ms, age)),
        }
    });
    told.take(SILENCES_MAX).collect()
}

/// So many seconds ago.
fn moment(now_ms: u64, age_seconds: f64) -> Option<String> {
    let age_ms = Duration::try_from_secs_f64(age_seconds).ok()?.as_millis();
    let at_ms = now_ms.checked_sub(u64::try_from(age_ms).ok()?)?;
    let moment = Timestamp::from_second(i64::try_from(at_ms / 1_000).ok()?).ok()?;
    Some(moment.to_string())
}

/// Takes out the numbers that move on every tick.
const fn steady(why: NotUsed) -> NotUsed {
    match why {
        NotUsed::Dearer(_) => NotUsed::Dearer(0),
        NotUsed::DryUntil(_, reason) => NotUsed::DryUntil(0, reason),
        other => other,
    }
}

/// What one variant has now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Have {
    /// `spec.replicas`.
    pub desired: u32,
    /// Ready pods.
    pub ready: u32,
}

/// One pipeline as numbers, for metrics.
pub fn sample(
    pipeline: PipelineIdx,
    index: &Index,
    state: &State,
    now_ms: u64,
    have: impl Fn(VariantIdx) -> Have,
) -> PipelineSample {
    let world = state.world();
    let declared = world.pipelines.get(pipeline.0 as usize);
    let shared = declared.and_then(|declared| world.shared.get(declared.shared? as usize));
    let (mut cost, mut power) = (0_u64, Some(0_u64));
    let mut stages = Vec::new();
    for at in index.stages_of(pipeline) {
        let (Some(named), Some(entry)) = (index.stage(StageIdx(at)), world.stages.get(at as usize)) else {
            continue;
        };
        let report = state.report(StageIdx(at));
        let planned = report.map(|report| report.planned.as_slice()).unwrap_or_default();
        let variants = (entry.variants.0..entry.variants.1).filter_map(|at| {
            let (reference, variant) = (index.variant(VariantIdx(at))?, world.variants.get(at as usize)?);
            let now = have(VariantIdx(at));
            let here = variant.cost_micros.saturating_mul(u64::from(now.desired));
            cost = cost.saturating_add(here);
            if now.desired > 0 {
                let drawn = variant
                    .power_milliwatts
                    .map(|each| each.saturating_mul(u64::from(now.desired)));
                power = power.zip(drawn).map(|(sum, drawn)| sum.saturating_add(drawn));
            }
            let tier = world.pools.get(variant.pool.0 as usize).map(|pool| pool.tier);
            Some(VariantSample {
                pool: reference.pool.clone(),
                tier: if tier == Some(Tier::Accelerator) {
                    "Accelerator"
                } else {
                    "CPU"
                },
                capacity_millis: variant.capacity_millis.saturating_mul(u64::from(now.ready)),
                cost_per_hour_micros: here,
                planned_cost_per_hour_micros: planned
                    .get((at - entry.variants.0) as usize)
                    .map(|&count| variant.cost_micros.saturating_mul(u64::from(count))),
                power_milliwatts: variant
                    .power_milliwatts
                    .map(|each| each.saturating_mul(u64::from(now.desired))),
                replicas: now.desired,
                ready_replicas: now.ready,
                dry: state.is_dry(VariantIdx(at)),
            })
        });
        let variants = variants.collect();
        stages.push(StageSample {
            stage: Arc::clone(&named.name),
            demand_millis: report.and_then(|report| report.demand_millis),
            unserved_millis: report
                .filter(|report| report.demand_millis.is_some())
                .map(|report| report.unserved_millis),
            signal_age_ms: report
                .and_then(|report| report.signal_taken_ms)
                .map(|taken_ms| now_ms.saturating_sub(taken_ms)),
            signals_fresh: report.map(|report| report.signals_fresh),
            below_preferred_tier: report.map(|report| report.below_hint),
            reason: report.map(|report| reason_word(report.reason)),
            hold: report.and_then(|report| report.hold).map(hold_word),
            floor_cost_per_hour_micros: floor_cost(entry, world),
            variants,
        });
    }
    PipelineSample {
        cost_per_hour_micros: Some(cost),
        cost_per_thousand_micros: per_thousand(cost, arriving(pipeline, index, state)),
        budget_micros: declared.and_then(|declared| declared.budget_micros),
        power_max_milliwatts: declared.and_then(|declared| declared.power_max_milliwatts),
        namespace_budget_micros: shared.and_then(|shared| shared.budget_micros),
        namespace_power_max_milliwatts: shared.and_then(|shared| shared.power_max_milliwatts),
        power_milliwatts: power.filter(|_| !stages.is_empty()),
        stages,
    }
}

/// What a stage's least replicas cost where one costs the least, those that must be on reliable pools there.
pub(crate) fn floor_cost(stage: &Stage, world: &World) -> Option<u64> {
    let variants = world
        .variants
        .get(stage.variants.0 as usize..stage.variants.1 as usize)?;
    let cheapest = |fits: &dyn Fn(PoolIdx) -> bool| {
        let usable = variants.iter().filter(|variant| variant.max > 0 && fits(variant.pool));
        usable.map(|variant| variant.cost_micros).min()
    };
    let is_reliable = |pool: PoolIdx| world.pools.get(pool.0 as usize).is_some_and(|pool| pool.reliable);
    let reliable = stage.reliable_min.min(stage.min);
    let kept = match reliable {
        0 => 0,
        count => cheapest(&is_reliable)?.saturating_mul(u64::from(count)),
    };
    let rest = cheapest(&|_| true)?.saturating_mul(u64::from(stage.min - reliable));
    Some(kept.saturating_add(rest))
}

/// Requests that enter the pipeline, thousandths per second: the demand on the stages that nobody calls, without the headroom
/// of their targets. Absent unless all of them count requests per second.
fn arriving(pipeline: PipelineIdx, index: &Index, state: &State) -> Option<u64> {
    let entries = index.stages_of(pipeline).filter_map(|at| {
        let entry = state.world().stages.get(at as usize)?;
        entry.after.is_empty().then_some((StageIdx(at), entry))
    });
    let mut entries = entries.peekable();
    entries.peek()?;
    entries
        .map(|(at, entry)| {
            let demand = state.report(at)?.demand_millis.filter(|_| entry.rated)?;
            without_headroom(demand, entry.target_permille)
        })
        .try_fold(0_u64, |sum, demand| Some(sum.saturating_add(demand?)))
}

/// What arrives, of a demand that is planned for at a target utilization.
fn without_headroom(demand: u64, target_permille: u32) -> Option<u64> {
    u64::try_from(u128::from(demand) * u128::from(target_permille) / 1_000).ok()
}

/// Cost of a thousand requests, from the cost of an hour and the rate, thousandths per second.
fn per_thousand(cost_per_hour_micros: u64, rate_millis: Option<u64>) -> Option<u64> {
    let requests_per_hour_millis = u128::from(rate_millis?) * 3_600;
    let micros = (u128::from(cost_per_hour_micros) * 1_000_000).checked_div(requests_per_hour_millis)?;
    u64::try_from(micros).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_free_is_no_request() {
        assert_eq!(without_headroom(10_667, 750), Some(8_000));
        assert_eq!(without_headroom(u64::MAX, 1_000), Some(u64::MAX));
    }

    #[test]
    fn a_thousand_requests_cost_their_share_of_the_hour() {
        // 1.25 dollars an hour for 5,400 requests.
        assert_eq!(per_thousand(1_250_000, Some(1_500)), Some(231_481));
        assert_eq!(per_thousand(0, Some(1_500)), Some(0));
        assert_eq!(
            per_thousand(1_250_000, Some(0)),
            None,
            "nothing arrives: no price per request"
        );
        assert_eq!(per_thousand(1_250_000, None), None);
        assert_eq!(per_thousand(u64::MAX, Some(1)), None, "beyond what can be said");
    }

    #[test]
    fn the_least_replicas_cost_what_the_cheapest_pools_cost_that_they_may_be_on() {
        let mut world = crate::simulate::fixture::two_pools(8, 8).world;
        (world.variants[0].cost_micros, world.variants[1].cost_micros) = (300_000, 2_000_000);
        (world.pools[0].reliable, world.pools[1].reliable) = (false, true);
        let mut stage = world.stages[0].clone();
        (stage.variants, stage.min, stage.reliable_min) = ((0, 2), 3, 1);
        assert_eq!(floor_cost(&stage, &world), Some(2_600_000));
        stage.reliable_min = 0;
        assert_eq!(floor_cost(&stage, &world), Some(900_000));
        world.variants[0].max = 0;
        assert_eq!(
            floor_cost(&stage, &world),
            Some(6_000_000),
            "what a pool cannot take costs nothing there"
        );
        world.variants[1].max = 0;
        assert_eq!(floor_cost(&stage, &world), None);
    }
}
