//! The document that answers why a pipeline is where it is: made when somebody asks, from what the loop has at hand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::runtime::reflector::ObjectRef;

use super::super::pipeline::dereference::dereference;
use super::super::pipeline::validate::validate;
use super::super::pipeline::validated::{PipelineId, StagePool, ValidatedStage};
use super::super::pipeline::verdict::hold_text;
use super::targets::stage_key;
use super::view::{driver_word, floor_cost, reason_word};
use super::{Rebalancer, world};
use crate::api::decimal::money;
use crate::api::labels::{MAX_COST_PER_HOUR, MAX_POWER_WATTS};
use crate::explain::ask::Question;
use crate::explain::{
    Alone, Bounds, Calls, Ceiling, CeilingOn, Document, Dry, Excluded, Gap, Hold, Learned, Need, Pods, Pool, Replica,
    Signal, Stage, State, Unit, VERSION, Value, of_millionths, of_thousandths,
};
use crate::rebalance::decision::{Driver, HoldReason, NotUsed, StageReport};
use crate::rebalance::explain::{StageAccount, VariantAccount, range};
use crate::rebalance::propose::{CeilingPrice, Keeper, On};
use crate::rebalance::world::{DryReason, Learned as Known, PipelineIdx, StageIdx, VariantIdx};
use crate::signals::aggregate::{self, Observations};
use crate::signals::presets::{Combine, Preset, Role, Source};
use crate::signals::prometheus::template::Per;
use crate::signals::stage::{StageAnswers, StageKey};
use crate::signals::{Finite, Reading, Why};

/// Pools told of that a stage may not use: with its own, so many bound a document.
const EXCLUDED_MAX: usize = 64;
/// Pods told by name of those that one reason is about.
const NAMED_MAX: usize = 2;

impl Rebalancer {
    /// Answers one question. Whoever asked may have given up.
    pub(super) fn explain(&self, question: Question) {
        let asked = |id: &PipelineId| id.namespace == question.namespace && id.name == question.name;
        let found = (0_u32..).zip(&self.index.pipelines).find(|(_, id)| asked(id));
        let document = found.map(|(at, id)| {
            let decisions = self.decisions.get(&id.uid);
            Document {
                version: VERSION,
                namespace: question.namespace.clone(),
                pipeline: question.name.clone(),
                time: self.ctx.clock.wall().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
                gap_percent: self.state.certificate().0.map(|ppm| of_millionths(ppm) * 100.0),
                ceilings: self.ceilings(PipelineIdx(at)),
                stages: self.explained(PipelineIdx(at), &self.declared(id)),
                decisions: decisions.into_iter().flatten().map(|one| (**one).clone()).collect(),
            }
        });
        let _ = question.answer.send(document);
    }

    /// Ceilings that bind a pipeline: its own, and those of its namespace.
    fn ceilings(&self, at: PipelineIdx) -> Vec<Ceiling> {
        let pipeline = self.state.world().pipelines.get(at.0 as usize);
        let shared = pipeline.and_then(|pipeline| pipeline.shared);
        let prices = self.state.ceiling_prices().iter();
        prices.filter_map(|price| ceiling(price, at, shared)).collect()
    }

    /// What a pipeline's stages mean in the cluster as it is now.
    fn declared(&self, id: &PipelineId) -> Vec<ValidatedStage> {
        let object = ObjectRef::new(&id.name).within(&id.namespace);
        let Some(object) = self.ctx.stores.pipelines.get(&object) else {
            return Vec::new();
        };
        let Ok(pipeline) = &object.0 else { return Vec::new() };
        let look = Arc::clone(&self.ctx.look.borrow());
        let found = dereference(&self.ctx.stores, &look, self.ctx.allow_secrets, pipeline);
        validate(pipeline, &found).stages
    }

    fn explained(&self, pipeline: PipelineIdx, declared: &[ValidatedStage]) -> Vec<Stage> {
        let now_ms = self.ctx.clock.now_ms();
        let stages = (0_u32..).map(StageIdx).zip(&self.index.stages);
        let of_pipeline = stages.filter(|(_, stage)| stage.pipeline == pipeline);
        let each = of_pipeline.filter_map(|(at, named)| {
            let (account, report) = (self.state.account(at, now_ms)?, self.state.report(at)?);
            let caller = |stage| self.index.stage(stage).map(|stage| stage.name.to_string());
            let declared = declared.iter().find(|stage| *stage.name == *named.name);
            Some(Stage {
                name: named.name.to_string(),
                signals: self.read(at, now_ms),
                minimum_cost_per_hour: self.floor_cost(at).map(of_millionths),
                pools: self.pools(at, (&account, report), declared, now_ms),
                excluded: declared.map(excluded).unwrap_or_default(),
                ..stage(&account, report, named, caller, now_ms)
            })
        });
        each.collect()
    }

    /// The same as the metric `stage_floor_cost_dollars_per_hour`.
    fn floor_cost(&self, at: StageIdx) -> Option<u64> {
        let world = self.state.world();
        floor_cost(world.stages.get(at.0 as usize)?, world)
    }

    /// The variants of a stage, in the core's order.
    fn variants(&self, stage: StageIdx) -> impl Iterator<Item = (VariantIdx, &world::VariantRef)> {
        let declared = self.state.world().stages.get(stage.0 as usize);
        let (start, end) = declared.map_or((0, 0), |stage| stage.variants);
        (start..end).filter_map(|at| Some((VariantIdx(at), self.index.variant(VariantIdx(at))?)))
    }

    /// What was read of a stage, and why what was not.
    pub(super) fn read(&self, at: StageIdx, now_ms: u64) -> Vec<Signal> {
        let mut signals = Vec::new();
        let beside = self.index.stage(at).map_or(&[][..], |stage| &stage.also);
        let read = self.variants(at).flat_map(|(_, variant)| {
            let presets = variant.preset.into_iter().chain(beside.iter().copied());
            presets.map(move |preset| (variant, preset))
        });
        let none = Observations::default();
        for (variant, preset) in read {
            if preset.is_of_stages() {
                let known = |signal: &Signal| signal.pool.is_none() && signal.preset == preset.name();
                if let Some(key) = stage_key(&self.index, at).filter(|_| !signals.iter().any(known)) {
                    signals.push(of_stage(self.signals.stages(), &key, preset, now_ms));
                }
                continue;
            }
            let ready = self.pods.of(&variant.variant_id).filter(|pod| pod.ready);
            let (ready, called): (Vec<_>, Vec<_>) =
                ready.map(|pod| (Arc::clone(&pod.uid), pod.name.1.as_str())).unzip();
            // A pool on which nothing runs, and nothing is asked to, has nothing to be silent about.
            if !ready.is_empty() || self.pods.of(&variant.variant_id).next().is_some() {
                let answers = self.signals.observations(preset).unwrap_or(&none);
                let signal = of_pods(answers, (&ready, &called), preset, now_ms);
                signals.push(Signal {
                    pool: Some(variant.pool.to_string()),
                    ..signal
                });
            }
        }
        signals
    }

    fn pools(
        &self,
        at: StageIdx,
        (account, report): (&StageAccount, &StageReport),
        declared: Option<&ValidatedStage>,
        now_ms: u64,
    ) -> Vec<Pool> {
        let named = |pool: &str| declared.and_then(|stage| stage.pools.iter().find(|known| known.pool == pool));
        let why_left = |pool: &str| {
            let excluded = declared.and_then(|stage| stage.excluded.iter().find(|(known, _)| known == pool));
            excluded.map(|(_, why)| why.to_string())
        };
        let planned = report.planned.iter().copied().map(Some).chain(std::iter::repeat(None));
        let not_used = report.not_used.iter().copied().chain(std::iter::repeat(None));
        let parts = self.variants(at).zip(&account.variants).zip(planned).zip(not_used);
        let at_floor = at_floor(account, report);
        let each = parts.map(|((((_, of), known), wanted), not_used)| {
            let why = |not_used| match (not_used, at_floor) {
                (NotUsed::Excluded, _) => why_left(&of.pool).map(|why| format!("must be left: {why}")),
                (NotUsed::Dearer(_), Some(micros)) if !below_hint(known) => Some(dearer_each(known, micros)),
                _ => None,
            };
            let word = self.words.get(&of.variant_id).map(|word| &**word);
            Pool {
                name: of.pool.to_string(),
                wanted,
                not_more: not_used.map(|not_used| {
                    why(not_used).unwrap_or_else(|| not_more(not_used, known, word, account.rated, now_ms))
                }),
                ..pool(known, named(&of.pool), word, account, now_ms)
            }
        });
        each.collect()
    }
}

/// A ceiling's price, if it is one that the pipeline keeps.
fn ceiling(price: &CeilingPrice, pipeline: PipelineIdx, shared: Option<u32>) -> Option<Ceiling> {
    let fields = match price.of {
        Keeper::Pipeline(at) if at == pipeline => ["budget.maxCostPerHour", "budget.maxPowerWatts"],
        Keeper::Shared(at) if shared == Some(at) => [MAX_COST_PER_HOUR, MAX_POWER_WATTS],
        _ => return None,
    };
    let [on_cost, on_power] = fields;
    let (set_by, on) = match price.on {
        On::Cost => (on_cost, CeilingOn::Cost),
        On::Power => (on_power, CeilingOn::Power),
    };
    Some(Ceiling {
        set_by: set_by.to_owned(),
        on,
        saves_per_hour: of_millionths(price.micros),
    })
}

/// What the core says of a stage, but for its name, pools and signals.
fn stage(
    account: &StageAccount,
    report: &StageReport,
    of: &world::StageRef,
    caller: impl Fn(StageIdx) -> Option<String>,
    now_ms: u64,
) -> Stage {
    let mut needs: Vec<Need> = account
        .needs
        .iter()
        .map(|need| named(need.driver, of, of_thousandths(need.asks)))
        .collect();
    if account.floor > 0 {
        needs.push(named(Driver::Floor, of, f64::from(account.floor)));
    }
    let calls = account.calls.iter().map(|calls| Calls {
        from: caller(calls.from),
        calls_per_request: learned(calls.learned),
    });
    Stage {
        unit: if account.rated {
            Unit::RequestsPerSecond
        } else {
            Unit::Replicas
        },
        target_percent: Some(f64::from(account.target_permille) / 10.0),
        replicas: Some(Bounds {
            min: account.bounds.0,
            max: account.bounds.1,
        }),
        trusted: report.signals_fresh,
        needs,
        decided: account.decided.map(|driver| driver_word(driver, Some(of)).to_owned()),
        demand: account.demand_millis.map(of_thousandths),
        ready_capacity: Some(of_thousandths(report.ready_capacity_millis)),
        saturated: account.saturated,
        calls: calls.collect(),
        reason: Some(reason_word(report.reason).to_owned()),
        hold: report.hold.map(|hold| held(hold, account.held_until_ms, now_ms)),
        cost_per_hour: account.planned_micros.map(of_millionths),
        ..Stage::default()
    }
}

fn named(driver: Driver, of: &world::StageRef, asks: f64) -> Need {
    Need {
        need: driver_word(driver, Some(of)).to_owned(),
        asks,
    }
}

/// The word for what holds a change.
pub(super) const fn hold_word(hold: HoldReason) -> &'static str {
    match hold {
        HoldReason::MetricsStale => "MetricsStale",
        HoldReason::Paused => "Paused",
        HoldReason::Advisory => "Advisory",
        HoldReason::BudgetExhausted => "BudgetExhausted",
        HoldReason::NoCapacity => "NoCapacity",
        HoldReason::CoolingDown => "CoolingDown",
        HoldReason::MovesExhausted => "MovesExhausted",
        HoldReason::WithinTolerance => "WithinTolerance",
        HoldReason::AwaitingReady => "AwaitingReady",
        HoldReason::AtFloor => "AtFloor",
        HoldReason::PlanRejected => crate::telemetry::PLAN_REJECTED,
    }
}

fn held(hold: HoldReason, until_ms: Option<u64>, now_ms: u64) -> Hold {
    Hold {
        reason: hold_word(hold).to_owned(),
        message: hold_text(Some(hold)).to_owned(),
        seconds: until_ms.map(|until_ms| of_thousandths(until_ms.saturating_sub(now_ms))),
    }
}

/// What the dearest planned replica costs, if floors decide: they count replicas, whatever those serve.
fn at_floor(account: &StageAccount, report: &StageReport) -> Option<u64> {
    let total: u32 = report.planned.iter().sum();
    let used = report
        .planned
        .iter()
        .zip(&account.variants)
        .filter(|(planned, _)| **planned > 0);
    let dearest = used.map(|(_, known)| known.cost_micros).max();
    dearest.filter(|_| total <= account.floor)
}

fn dearer_each(known: &VariantAccount, micros: u64) -> String {
    match known.cost_micros.saturating_sub(micros) {
        0 => "no cheaper per replica, and the floor asks for no more".to_owned(),
        more => format!("dearer by {} per hour and replica", money(more)),
    }
}

fn pool(
    known: &VariantAccount,
    declared: Option<&StagePool>,
    word: Option<&str>,
    account: &StageAccount,
    now_ms: u64,
) -> Pool {
    let not_alone = (!known.reliable && account.reliable_floor > 0).then(|| {
        let count = account.reliable_floor;
        format!("`reliableMin` wants {count} on pools whose nodes are not taken away")
    });
    let milliwatts = declared.and_then(|pool| pool.cost?.power_milliwatts);
    Pool {
        replicas: known.replicas.0,
        ready: known.replicas.1,
        requests_per_second: account.rated.then(|| learned(known.capacity)),
        startup_seconds: Some(learned(known.startup)),
        startup_slow_seconds: (known.startup.samples > 0).then(|| of_thousandths(known.startup_slow_ms)),
        replica: Some(Replica {
            cost_per_hour: of_millionths(known.cost_micros),
            watts: milliwatts.map(of_thousandths),
        }),
        below_hint: below_hint(known),
        dry: known.dry.map(|(until_ms, reason)| Dry {
            why: dry_text(reason, word),
            seconds: of_thousandths(until_ms.saturating_sub(now_ms)),
        }),
        room: Some(known.room),
        alone: not_alone.is_none().then(|| Alone {
            replicas: known.alone,
            cost_per_hour: of_millionths(known.cost_micros.saturating_mul(u64::from(known.alone))),
        }),
        not_alone,
        ..Pool::default()
    }
}

const fn below_hint(known: &VariantAccount) -> bool {
    known.hint_permille > 1_000
}

/// Pools that a stage may not use, and has nothing on; some, where there are many.
fn excluded(stage: &ValidatedStage) -> Vec<Excluded> {
    let is_left = |pool: &str| stage.pools.iter().any(|known| known.pool == pool);
    let excluded = stage.excluded.iter().filter(|(pool, _)| !is_left(pool));
    let each = excluded.take(EXCLUDED_MAX).map(|(pool, why)| Excluded {
        pool: pool.clone(),
        why: why.to_string(),
    });
    each.collect()
}

fn learned(known: Known) -> Learned {
    let (least, most) = range(known.declared);
    Learned {
        value: of_thousandths(known.value),
        declared: of_thousandths(known.declared),
        samples: known.samples,
        range: [of_thousandths(least), of_thousandths(most)],
    }
}

/// `word` is the kubelet's for pods that do not start.
fn dry_text(reason: DryReason, word: Option<&str>) -> String {
    match (reason, word) {
        (DryReason::Unschedulable, _) => "could not place pods lately".to_owned(),
        (DryReason::CannotStart, Some(word)) => format!("pods could not start lately ({word})"),
        (DryReason::CannotStart, None) => "pods could not start lately".to_owned(),
        (DryReason::Reclaimed, _) => "nodes are being taken away".to_owned(),
    }
}

/// Why a pool is not used more, with the numbers of now.
fn not_more(why: NotUsed, known: &VariantAccount, word: Option<&str>, rated: bool, now_ms: u64) -> String {
    match why {
        // In the plan its price is many times what it is.
        NotUsed::Dearer(_) if below_hint(known) => "the tier hint prefers other pools, and they have room".to_owned(),
        NotUsed::Dearer(0) => "one replica would cost more than what it could take over".to_owned(),
        NotUsed::Dearer(micros) => {
            let unit = if rated { "request/s" } else { "replica's work" };
            format!("dearer by {} per hour and {unit}", money(micros))
        }
        NotUsed::Full => "no room for one more replica".to_owned(),
        NotUsed::DryUntil(until_ms, reason) => {
            let what = dry_text(reason, word);
            match until_ms.saturating_sub(now_ms) / 1_000 {
                0 => format!("{what}; is being tried again"),
                seconds => format!("{what}; tried again in {seconds} s"),
            }
        }
        NotUsed::OverBudget => "one more replica would exceed the budget".to_owned(),
        NotUsed::OverPower => "one more replica would exceed the ceiling on power".to_owned(),
        NotUsed::OverShared => {
            "one more replica would exceed what the namespace's pipelines may take together".to_owned()
        }
        NotUsed::AtBounds => "the stage's bounds are reached".to_owned(),
        NotUsed::Excluded => "takes no replicas of this stage".to_owned(),
    }
}

/// Who is asked.
const fn asked(source: &Source) -> &'static str {
    match source {
        Source::Scrape { .. } => "pods",
        Source::ResourceMetrics => "metrics.k8s.io",
        Source::Prometheus(Per::Pod | Per::Stage) => "Prometheus",
        Source::CustomMetrics => "custom.metrics.k8s.io",
        Source::ExternalMetrics => "external.metrics.k8s.io",
    }
}

/// What is said without a look at any answer.
fn outline(preset: &Preset) -> Signal {
    Signal {
        preset: preset.name().to_owned(),
        source: asked(preset.source()).to_owned(),
        fresh_seconds: of_thousandths(preset.answer_freshness_ms()),
        ..Signal::default()
    }
}

/// A number of a role, with its unit.
fn value(role: Role, number: f64) -> Value {
    Value {
        role: role.as_str().to_owned(),
        value: number,
        unit: match role {
            Role::Queued | Role::Running => "requests",
            Role::Throughput => "requests/s",
            Role::CacheUse | Role::Utilization => "share",
            Role::Latency => "seconds",
        }
        .to_owned(),
    }
}

/// What the Ready pods of one variant said.
fn of_pods(
    answers: &Observations,
    (ready, called): (&[Arc<str>], &[&str]),
    preset: &'static Preset,
    now_ms: u64,
) -> Signal {
    let seen = answers.aggregate(preset, ready, now_ms);
    // That a page should have moved may be known of the pod's mates alone.
    let is_frozen = |uid: &Arc<str>| {
        seen.gaps
            .contains(&(Arc::clone(uid), aggregate::Gap::Absent(Why::Frozen)))
    };
    let mut values = Vec::new();
    let mut received_ms: Vec<u64> = Vec::new();
    let mut stale = false;
    for role in Role::ALL {
        let Some(combined) = preset.across_pods(role) else {
            continue;
        };
        let mut numbers: Vec<Finite> = Vec::new();
        for uid in ready.iter().filter(|uid| !is_frozen(uid)) {
            match answers.reading(preset, uid, role, now_ms) {
                Reading::Fresh(sample) => {
                    received_ms.push(sample.received_ms);
                    numbers.push(sample.value);
                }
                Reading::Stale(sample) => {
                    stale = true;
                    received_ms.push(sample.received_ms);
                    numbers.push(sample.value);
                }
                Reading::Absent(_) => {}
            }
        }
        let number = if role == Role::Throughput {
            // A counter says nothing by itself.
            seen.reading.and_then(|reading| reading.rate_millis).map(of_thousandths)
        } else {
            combine(&numbers, combined)
        };
        values.extend(number.map(|number| value(role, number)));
    }
    let mut whys: BTreeMap<String, (u32, Vec<String>)> = BTreeMap::new();
    for (uid, gap) in &seen.gaps {
        let why = match gap {
            aggregate::Gap::Stale => "stale: no new answer in time, or one of unproven age".to_owned(),
            aggregate::Gap::Absent(why) => told(*why, preset),
        };
        let (pods, named) = whys.entry(why).or_default();
        *pods += 1;
        let name = ready.iter().zip(called).find(|(known, _)| *known == uid);
        named.extend(
            name.filter(|_| named.len() < NAMED_MAX)
                .map(|(_, name)| (*name).to_owned()),
        );
    }
    if ready.is_empty() {
        whys.insert("no pod is Ready".to_owned(), (0, Vec::new()));
    }
    let gap = |(why, (pods, named)): (String, (u32, Vec<String>))| Gap {
        why,
        pods: (pods > 0).then_some(pods),
        named,
    };
    let age = |at_ms: Option<u64>| at_ms.map(|at_ms| of_thousandths(now_ms.saturating_sub(at_ms)));
    let expected = u32::try_from(ready.len()).unwrap_or(u32::MAX);
    Signal {
        state: match &seen.reading {
            Some(_) => State::Fresh,
            None if stale => State::Stale,
            None => State::Absent,
        },
        pods: Some(Pods {
            sampled: seen.reading.map_or(0, |reading| reading.sampled),
            expected,
        }),
        newest_seconds: age(received_ms.iter().max().copied()),
        oldest_seconds: age(received_ms.iter().min().copied()),
        values,
        gaps: whys.into_iter().map(gap).collect(),
        ..outline(preset)
    }
}

/// What a source said of a stage as a whole.
fn of_stage(answers: &StageAnswers, key: &StageKey, preset: &'static Preset, now_ms: u64) -> Signal {
    let mut values = Vec::new();
    let mut whys: BTreeSet<String> = BTreeSet::new();
    let (mut old, mut absent) = (false, false);
    let required: Vec<Role> = preset.required().collect();
    for role in Role::ALL {
        if preset.freshness_ms(role).is_none() {
            continue;
        }
        match answers.reading(key, preset, role, now_ms) {
            Reading::Fresh(sample) => values.push(value(role, sample.value.get())),
            Reading::Stale(sample) => {
                old |= required.contains(&role);
                values.push(value(role, sample.value.get()));
            }
            Reading::Absent(why) if required.contains(&role) => {
                absent = true;
                whys.insert(told(why, preset));
            }
            Reading::Absent(_) => {}
        }
    }
    let state = match (absent || values.is_empty(), old) {
        (true, _) => State::Absent,
        (_, true) => State::Stale,
        _ => State::Fresh,
    };
    if state != State::Fresh {
        whys.extend(answers.failure(key, preset).map(|why| told(why, preset)));
    }
    if state == State::Stale && whys.is_empty() {
        whys.insert("stale: no new answer in time, or one of unproven age".to_owned());
    }
    let taken_ms = answers.taken_ms(key, preset);
    let age = taken_ms.map(|taken_ms| of_thousandths(now_ms.saturating_sub(taken_ms)));
    Signal {
        state,
        newest_seconds: age,
        oldest_seconds: age,
        values,
        gaps: whys.into_iter().map(|why| Gap { why, ..Gap::default() }).collect(),
        ..outline(preset)
    }
}

/// Why, with what to switch on where that may be missing.
fn told(why: Why, preset: &Preset) -> String {
    match why {
        Why::NoSeries if !preset.enable_hint().is_empty() => format!("no such series: {}", preset.enable_hint()),
        why => why.to_string(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number of pods")]
fn combine(numbers: &[Finite], how: Combine) -> Option<f64> {
    let sum = || numbers.iter().map(|number| number.get()).sum::<f64>();
    if numbers.is_empty() {
        return None;
    }
    Some(match how {
        Combine::Sum => sum(),
        Combine::Avg => sum() / numbers.len() as f64,
        Combine::Max => numbers.iter().map(|number| number.get()).fold(f64::MIN, f64::max),
    })
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
