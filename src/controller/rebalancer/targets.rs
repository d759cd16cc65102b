//! Who is asked for signals, and what their answers say about each variant.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tokio::sync::watch;

use super::pods::Pods;
use super::share::{self, Part};
use super::usage;
use super::world::Index;
use crate::rebalance::world::{Event, StageIdx, VariantIdx};
use crate::signals::Why;
use crate::signals::aggregate::Observations;
use crate::signals::presets::{Preset, Source};
use crate::signals::scraper::{Scraped, Scraper, Target};
use crate::signals::stage::{StageAnswer, StageAnswers, StageKey};

/// The scraper, the answers so far, and what of them the core has not been told.
#[derive(Debug)]
pub(super) struct Signals {
    scraper: Scraper,
    observations: Observations,
    /// Variant of each pod that is asked.
    variants: HashMap<Arc<str>, VariantIdx>,
    targets_stale: bool,
    changed: BTreeSet<VariantIdx>,
    everything_changed: bool,
    newest_ms: BTreeMap<StageIdx, u64>,
    usage: watch::Sender<Arc<usage::Targets>>,
    stages: StageAnswers,
    /// Variants that share what is said of a stage, by preset.
    sharing: BTreeMap<(StageKey, &'static str), Vec<VariantIdx>>,
}

impl Signals {
    pub(super) fn new(scraper: Scraper, usage: watch::Sender<Arc<usage::Targets>>) -> Self {
        Self {
            scraper,
            usage,
            observations: Observations::default(),
            variants: HashMap::new(),
            targets_stale: true,
            changed: BTreeSet::new(),
            everything_changed: true,
            newest_ms: BTreeMap::new(),
            stages: StageAnswers::default(),
            sharing: BTreeMap::new(),
        }
    }

    /// Pods came, went or got Ready.
    pub(super) const fn targets_changed(&mut self) {
        self.targets_stale = true;
    }

    /// The core forgot its indexes: tell it every reading again.
    pub(super) fn all_changed(&mut self) {
        self.everything_changed = true;
        self.newest_ms.clear();
    }

    /// Takes an answer.
    pub(super) fn record(&mut self, answer: Scraped) {
        if let Some(&variant) = self.variants.get(&answer.uid) {
            self.observations
                .record(&answer.uid, answer.received_ms, answer.outcome);
            self.changed.insert(variant);
        }
    }

    /// Takes an answer about a stage as a whole.
    pub(super) fn record_stage(&mut self, answer: StageAnswer) {
        let key = (answer.stage.clone(), answer.preset.name());
        self.changed
            .extend(self.sharing.get(&key).into_iter().flatten().take(1));
        self.stages.record(answer);
    }

    /// What pods answered, for people.
    pub(super) const fn observations(&self) -> &Observations {
        &self.observations
    }

    /// What was answered about stages as a whole, for people.
    pub(super) const fn stages(&self) -> &StageAnswers {
        &self.stages
    }

    /// When the newest answer of a stage was received.
    pub(super) fn newest_ms(&self, stage: StageIdx) -> Option<u64> {
        self.newest_ms.get(&stage).copied()
    }

    /// Readings of the variants that answered since the last call.
    pub(super) fn collect(&mut self, index: &Index, pods: &Pods, now_ms: u64, events: &mut Vec<Event>) {
        if std::mem::take(&mut self.targets_stale) {
            self.retarget(index, pods);
        }
        let everything = std::mem::take(&mut self.everything_changed);
        let mut changed = std::mem::take(&mut self.changed);
        if everything {
            changed.extend((0_u32..).zip(&index.variants).map(|(at, _)| VariantIdx(at)));
        }
        for at in changed {
            let Some(variant) = index.variant(at) else { continue };
            let Some(preset) = variant.preset else { continue };
            if preset.is_of_stages() {
                self.collect_shared(index, pods, (variant.stage, preset), now_ms, events);
                continue;
            }
            let ready: Vec<Arc<str>> = pods
                .of(&variant.variant_id)
                .filter(|pod| pod.ready)
                .map(|pod| Arc::clone(&pod.uid))
                .collect();
            if let Some(reading) = self.observations.aggregate(preset, &ready, now_ms).reading {
                let newest = self.newest_ms.entry(variant.stage).or_default();
                *newest = reading.taken_ms.max(*newest);
                events.push(Event::Reading { variant: at, reading });
            }
        }
    }

    /// Readings of all variants that share what a source says of their stage.
    fn collect_shared(
        &mut self,
        index: &Index,
        pods: &Pods,
        (at, preset): (StageIdx, &'static Preset),
        now_ms: u64,
        events: &mut Vec<Event>,
    ) {
        let Some(stage) = stage_key(index, at) else { return };
        let key = (stage, preset.name());
        let sharing = self.sharing.get(&key).map(Vec::as_slice).unwrap_or_default();
        let part = |&at: &VariantIdx| {
            let variant = index.variant(at)?;
            Some(Part {
                ready: pods.ready(&variant.variant_id),
                capacity_millis: variant.capacity_millis,
            })
        };
        let parts: Vec<Part> = sharing.iter().filter_map(part).collect();
        let Some(readings) = share::readings(&self.stages, &key.0, preset, &parts, now_ms) else {
            return;
        };
        for (&variant, reading) in sharing.iter().zip(readings) {
            let newest = self.newest_ms.entry(at).or_default();
            *newest = reading.taken_ms.max(*newest);
            events.push(Event::Reading { variant, reading });
        }
    }

    /// Scrapes exactly the Ready pods of stages whose preset is read from pods.
    fn retarget(&mut self, index: &Index, pods: &Pods) {
        self.variants.clear();
        self.sharing.clear();
        let mut targets = Vec::new();
        let mut asked = usage::Targets::new();
        for (at, variant) in (0_u32..).zip(&index.variants) {
            let Some(preset) = variant.preset else { continue };
            let ready = || pods.of(&variant.variant_id).filter(|pod| pod.ready);
            for pod in ready() {
                self.variants.insert(Arc::clone(&pod.uid), VariantIdx(at));
            }
            if !matches!(preset.source(), Source::Scrape { .. }) {
                // Also without a pod: somebody else may see the work that waits for one.
                let Some(stage) = stage_key(index, variant.stage) else {
                    continue;
                };
                if preset.is_of_stages() {
                    let sharing = self.sharing.entry((stage.clone(), preset.name())).or_default();
                    sharing.push(VariantIdx(at));
                }
                asked.push(usage::Target {
                    preset,
                    stage,
                    request_millis: variant.request.cpu_millis,
                    pods: ready().map(|pod| (pod.name.1.clone(), Arc::clone(&pod.uid))).collect(),
                });
                continue;
            }
            for pod in ready() {
                let Some(ip) = pod.ip else { continue };
                match Target::new(Arc::clone(&pod.uid), ip, pod.port, None, preset) {
                    Ok(target) => targets.push(target),
                    Err(error) => tracing::debug!(pod = pod.name.1, %error, "not scraped"),
                }
            }
        }
        self.scraper.set_targets(targets);
        let stages: BTreeSet<&StageKey> = asked.iter().map(|target| &target.stage).collect();
        self.stages.retain(|stage| stages.contains(stage));
        self.usage.send_if_modified(|known| {
            let differs = **known != asked;
            if differs {
                *known = Arc::new(asked);
            }
            differs
        });
        let known = &self.variants;
        self.observations.retain(|uid| known.contains_key(uid));
    }
}

/// A stage by the names that last.
pub(super) fn stage_key(index: &Index, stage: StageIdx) -> Option<StageKey> {
    let stage = index.stage(stage)?;
    let pipeline = index.pipeline(stage.pipeline)?;
    Some(StageKey {
        namespace: pipeline.namespace.as_str().into(),
        pipeline: pipeline.name.as_str().into(),
        stage: stage.name.as_str().into(),
    })
}

/// The word for why a number is absent, as metrics say it.
pub(super) const fn word(why: Why) -> &'static str {
    match why {
        Why::NoTarget => "no_target",
        Why::NoSeries => "no_series",
        Why::Unreachable => "unreachable",
        Why::Denied => "denied",
        Why::Timeout => "timeout",
        Why::TooLarge => "too_large",
        Why::Malformed => "malformed",
        Why::NotFinite => "not_finite",
        Why::OutOfRange => "out_of_range",
        Why::Ambiguous => "ambiguous",
        Why::Frozen => "frozen",
        Why::Partial => "partial",
    }
}
