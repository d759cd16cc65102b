//! Who is asked for signals, and what their answers say about each variant.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::watch;

use super::pods::{Pod, Pods};
use super::share::{self, Part};
use super::usage;
use super::world::{Index, VariantRef};
use crate::rebalance::world::{Event, Reading, StageIdx, VariantIdx};
use crate::signals::Why;
use crate::signals::aggregate::Observations;
use crate::signals::presets::{Preset, Source};
use crate::signals::scraper::{Scraped, Scraper, Target};
use crate::signals::stage::{StageAnswer, StageAnswers, StageKey};

/// The scraper, the answers so far, and what of them the core has not been told.
#[derive(Debug)]
pub(super) struct Signals {
    scraper: Scraper,
    /// By the name of the preset that the pods were read by.
    observations: BTreeMap<&'static str, Observations>,
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
            observations: BTreeMap::new(),
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

    /// These are the nodes' addresses: no pod has them, whatever it reports.
    pub(super) fn refuse_hosts(&self, addresses: impl IntoIterator<Item = IpAddr>) {
        self.scraper.refuse_hosts(addresses);
    }

    /// Takes an answer.
    pub(super) fn record(&mut self, answer: Scraped) {
        if let Some(&variant) = self.variants.get(&answer.uid) {
            let known = self.observations.entry(answer.preset.name()).or_default();
            known.record(&answer.uid, answer.received_ms, answer.outcome);
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

    /// What pods answered that are read by a preset, for people.
    pub(super) fn observations(&self, preset: &Preset) -> Option<&Observations> {
        self.observations.get(preset.name())
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
            let own = variant.preset.map(|preset| (preset, None));
            let others = index.stage(variant.stage).map(|stage| stage.also.as_slice());
            let others = (0_u8..)
                .zip(others.unwrap_or_default())
                .map(|(signal, preset)| (*preset, Some(signal)));
            for (preset, signal) in own.into_iter().chain(others) {
                if preset.is_of_stages() {
                    self.collect_shared(index, pods, (variant.stage, preset, signal), now_ms, events);
                } else {
                    self.collect_pods(variant, pods, (at, preset, signal), now_ms, events);
                }
            }
        }
    }

    /// What the Ready pods of a variant say.
    fn collect_pods(
        &mut self,
        variant: &VariantRef,
        pods: &Pods,
        (at, preset, signal): (VariantIdx, &'static Preset, Option<u8>),
        now_ms: u64,
        events: &mut Vec<Event>,
    ) {
        let Some(known) = self.observations.get(preset.name()) else {
            return;
        };
        let ready: Vec<Arc<str>> = pods
            .of(&variant.variant_id)
            .filter(|pod| pod.ready)
            .map(|pod| Arc::clone(&pod.uid))
            .collect();
        if let Some(reading) = known.aggregate(preset, &ready, now_ms).reading {
            self.tell(variant.stage, at, signal, reading, events);
        }
    }

    fn tell(
        &mut self,
        stage: StageIdx,
        variant: VariantIdx,
        signal: Option<u8>,
        reading: Reading,
        events: &mut Vec<Event>,
    ) {
        let newest = self.newest_ms.entry(stage).or_default();
        *newest = reading.taken_ms.max(*newest);
        events.push(match signal {
            None => Event::Reading { variant, reading },
            Some(signal) => Event::Also {
                variant,
                signal,
                reading,
            },
        });
    }

    /// Readings of all variants that share what a source says of their stage.
    fn collect_shared(
        &mut self,
        index: &Index,
        pods: &Pods,
        (at, preset, signal): (StageIdx, &'static Preset, Option<u8>),
        now_ms: u64,
        events: &mut Vec<Event>,
    ) {
        let Some(stage) = stage_key(index, at) else { return };
        let key = (stage, preset.name());
        let sharing = self.sharing.get(&key).cloned().unwrap_or_default();
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
            self.tell(at, variant, signal, reading, events);
        }
    }

    /// Scrapes exactly the Ready pods of stages whose preset is read from pods.
    fn retarget(&mut self, index: &Index, pods: &Pods) {
        self.variants.clear();
        self.sharing.clear();
        let mut targets = Vec::new();
        let mut asked = usage::Targets::new();
        for (at, variant) in (0_u32..).zip(&index.variants) {
            let ready = || pods.of(&variant.variant_id).filter(|pod| pod.ready);
            for pod in ready() {
                self.variants.insert(Arc::clone(&pod.uid), VariantIdx(at));
            }
            let others = index.stage(variant.stage).map(|stage| stage.also.as_slice());
            let presets = variant
                .preset
                .into_iter()
                .chain(others.unwrap_or_default().iter().copied());
            for preset in presets {
                if matches!(preset.source(), Source::Scrape { .. }) {
                    targets.extend(ready().filter_map(|pod| scrape(pod, preset)));
                    continue;
                }
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
        self.observations
            .values_mut()
            .for_each(|pods| pods.retain(|uid| known.contains_key(uid)));
    }
}

fn scrape(pod: &Pod, preset: &'static Preset) -> Option<Target> {
    let target = Target::new(
        Arc::clone(&pod.uid),
        pod.name.0.as_str().into(),
        pod.ip?,
        pod.port,
        None,
        preset,
    );
    target
        .inspect_err(|error| tracing::debug!(pod = pod.name.1, %error, "not scraped"))
        .ok()
}

/// A stage by the names that last.
pub(super) fn stage_key(index: &Index, stage: StageIdx) -> Option<StageKey> {
    let stage = index.stage(stage)?;
    let pipeline = index.pipeline(stage.pipeline)?;
    Some(StageKey {
        namespace: pipeline.namespace.as_str().into(),
        pipeline: pipeline.name.as_str().into(),
        stage: Arc::clone(&stage.name),
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
