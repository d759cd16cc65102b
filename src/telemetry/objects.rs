//! Series that belong to an object: told as a whole, so that what is not told any more is gone from the next scrape.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter},
};

use super::{
    families::{
        Family, HOLD, Labels, MOVED, PIPELINE, PIPELINE_CONDITION, PLAN_REASON, POOL, POOL_CONDITION, RESOURCE, STAGE,
        VARIANT, counters, words,
    },
    samples::{PipelineSample, PoolSample, StageSample, VariantSample, Word},
};

/// Series over all objects.
pub(crate) const SERIES_MAX: usize = 50_000;
/// Conditions of one pipeline: one per type.
const CONDITIONS_MAX: usize = 9;

impl PipelineSample {
    fn series_count(&self) -> usize {
        let variant = |variant: &VariantSample| Family::count(VARIANT, variant) + 1;
        let stage = |stage: &StageSample| {
            Family::count(STAGE, stage)
                + usize::from(stage.reason.is_some())
                + usize::from(stage.hold.is_some())
                + stage.variants.iter().map(variant).sum::<usize>()
        };
        CONDITIONS_MAX + Family::count(PIPELINE, self) + self.stages.iter().map(stage).sum::<usize>()
    }

    /// What holds stages back now and did not in `before`.
    fn new_holds(&self, before: Option<&Self>) -> Vec<Word> {
        let held = |stage: &StageSample| {
            let before = before.and_then(|sample| sample.stages.iter().find(|old| old.stage == stage.stage));
            stage.hold.filter(|_| before.and_then(|old| old.hold) != stage.hold)
        };
        self.stages.iter().filter_map(held).collect()
    }
}

impl PoolSample {
    fn series_count(&self) -> usize {
        Family::count(POOL, self) + self.conditions.len() + RESOURCE.len() * self.resources.len()
    }
}

/// All samples. Locks are held for the time of a copy; a poisoned one is used on, metrics are not worth a second panic.
#[derive(Debug)]
pub(super) struct Objects {
    samples: Mutex<Samples>,
    series_max: usize,
}

/// Namespace and name.
type Key = (String, String);

/// A stage's and a pool's name.
type Variant = (Arc<str>, Arc<str>);

#[derive(Debug, Default)]
struct Samples {
    pipelines: BTreeMap<Key, PipelineSample>,
    /// Told by another controller than the sample; shown while there is a sample.
    conditions: BTreeMap<Key, Vec<(Word, bool)>>,
    /// Replicas moved since this process leads, by pipeline, then stage and pool.
    moved: BTreeMap<Key, BTreeMap<Variant, u64>>,
    pools: BTreeMap<String, PoolSample>,
    series_count: usize,
    series_dropped: u64,
}

impl Objects {
    pub(super) fn new(series_max: usize) -> Self {
        Self {
            samples: Mutex::default(),
            series_max,
        }
    }

    fn samples(&self) -> std::sync::MutexGuard<'_, Samples> {
        self.samples.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Replaces what is known of a pipeline, and says what holds its stages back since. Beyond the limit it is left out,
    /// old sample included, and counted.
    pub(super) fn set_pipeline(&self, namespace: &str, pipeline: &str, sample: PipelineSample) -> Vec<Word> {
        let key = (namespace.to_owned(), pipeline.to_owned());
        let mut samples = self.samples();
        let old = samples.pipelines.remove(&key);
        let held = sample.new_holds(old.as_ref());
        if samples.admit(
            old.map_or(0, |old| old.series_count()),
            sample.series_count(),
            self.series_max,
        ) {
            samples.pipelines.insert(key, sample);
        }
        held
    }

    pub(super) fn set_conditions(&self, namespace: &str, pipeline: &str, mut conditions: Vec<(Word, bool)>) {
        conditions.truncate(CONDITIONS_MAX);
        let key = (namespace.to_owned(), pipeline.to_owned());
        self.samples().conditions.insert(key, conditions);
    }

    pub(super) fn moved(&self, (namespace, pipeline): (&str, &str), stage: &Arc<str>, pool: &Arc<str>, count: u32) {
        let key = (namespace.to_owned(), pipeline.to_owned());
        let mut samples = self.samples();
        let of_pipeline = samples.moved.entry(key).or_default();
        *of_pipeline.entry((Arc::clone(stage), Arc::clone(pool))).or_default() += u64::from(count);
    }

    pub(super) fn set_pool(&self, pool: &str, sample: PoolSample) {
        let mut samples = self.samples();
        let old = samples.pools.remove(pool);
        if samples.admit(
            old.map_or(0, |old| old.series_count()),
            sample.series_count(),
            self.series_max,
        ) {
            samples.pools.insert(pool.to_owned(), sample);
        }
    }

    pub(super) fn forget_pipeline(&self, namespace: &str, pipeline: &str) {
        let mut samples = self.samples();
        let key = (namespace.to_owned(), pipeline.to_owned());
        let old = samples.pipelines.remove(&key);
        samples.series_count -= old.map_or(0, |old| old.series_count());
        samples.moved.remove(&key);
        // A pass that ends after its pipeline went tells once more: that goes with the next pipeline that does.
        let Samples {
            pipelines, conditions, ..
        } = &mut *samples;
        conditions.retain(|known, _| pipelines.contains_key(known));
    }

    pub(super) fn forget_pool(&self, pool: &str) {
        let mut samples = self.samples();
        let old = samples.pools.remove(pool);
        samples.series_count -= old.map_or(0, |old| old.series_count());
    }

    /// No other process shows what a former leader knew.
    pub(super) fn forget_all(&self) {
        let mut samples = self.samples();
        *samples = Samples {
            series_dropped: samples.series_dropped,
            ..Samples::default()
        };
    }
}

impl Samples {
    fn admit(&mut self, old_count: usize, new_count: usize, series_max: usize) -> bool {
        self.series_count -= old_count;
        let fits = self.series_count + new_count <= series_max;
        if fits {
            self.series_count += new_count;
        } else {
            self.series_dropped += u64::try_from(new_count).unwrap_or(u64::MAX);
        }
        fits
    }
}

impl Collector for Objects {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let samples = self.samples();
        samples.encode_pipelines(&mut encoder)?;
        samples.encode_stages(&mut encoder)?;
        samples.encode_pools(&mut encoder)?;
        let dropped = ConstCounter::new(samples.series_dropped);
        let help = "Series left out because all objects together have too many.";
        dropped.encode(encoder.encode_descriptor("telemetry_series_dropped", help, None, MetricType::Counter)?)
    }
}

impl Samples {
    fn pipelines(&self) -> impl Iterator<Item = (Labels<'_>, &PipelineSample)> {
        self.pipelines.iter().map(|(key, sample)| (labels(key), sample))
    }

    fn stages(&self) -> impl Iterator<Item = (Labels<'_>, &StageSample)> {
        self.pipelines.iter().flat_map(|(key, sample)| {
            sample.stages.iter().map(move |stage| {
                let mut labels = labels(key);
                labels.push(("stage", &*stage.stage));
                (labels, stage)
            })
        })
    }

    fn variants(&self) -> impl Iterator<Item = (Labels<'_>, &VariantSample)> {
        self.stages().flat_map(|(labels, stage)| {
            stage
                .variants
                .iter()
                .map(move |variant| (on_pool(labels.clone(), variant), variant))
        })
    }

    /// How often replicas of each stage on each pool have moved; zero where they have not.
    fn moves(&self) -> impl Iterator<Item = (Labels<'_>, u64)> {
        self.pipelines.iter().flat_map(|(key, sample)| {
            let moved = self.moved.get(key);
            sample.stages.iter().flat_map(move |stage| {
                stage.variants.iter().map(move |variant| {
                    let mut labels = labels(key);
                    labels.push(("stage", &*stage.stage));
                    let at = (Arc::clone(&stage.stage), Arc::clone(&variant.pool));
                    let count = moved.and_then(|moved| moved.get(&at)).copied();
                    (on_pool(labels, variant), count.unwrap_or_default())
                })
            })
        })
    }

    fn encode_pipelines(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for family in PIPELINE {
            family.encode(encoder, self.pipelines())?;
        }
        let conditions = self
            .conditions
            .iter()
            .filter(|(key, _)| self.pipelines.contains_key(*key));
        let conditions =
            conditions.flat_map(|(key, all)| all.iter().map(move |&(word, holds)| (labels(key), word, holds)));
        words(encoder, PIPELINE_CONDITION, "condition", conditions)
    }

    fn encode_stages(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for family in STAGE {
            family.encode(encoder, self.stages())?;
        }
        let reasons = self
            .stages()
            .filter_map(|(labels, stage)| Some((labels, stage.reason?, true)));
        words(encoder, PLAN_REASON, "reason", reasons)?;
        let holds = self
            .stages()
            .filter_map(|(labels, stage)| Some((labels, stage.hold?, true)));
        words(encoder, HOLD, "reason", holds)?;
        for family in VARIANT {
            family.encode(encoder, self.variants())?;
        }
        counters(encoder, MOVED.0, MOVED.1, self.moves())
    }

    fn encode_pools(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let pools = || {
            self.pools
                .iter()
                .map(|(pool, sample)| (vec![("pool", pool.as_str()), ("tier", sample.tier)], sample))
        };
        for family in RESOURCE {
            let resources = pools().flat_map(|(labels, sample)| {
                sample.resources.iter().map(move |resource| {
                    let mut labels = labels.clone();
                    labels.push(("resource", resource.resource.as_str()));
                    (labels, resource)
                })
            });
            family.encode(encoder, resources)?;
        }
        for family in POOL {
            family.encode(encoder, pools())?;
        }
        let conditions = pools().flat_map(|(labels, sample)| {
            let of_pool = move |&(word, holds): &(Word, bool)| (labels.clone(), word, holds);
            sample.conditions.iter().map(of_pool)
        });
        words(encoder, POOL_CONDITION, "condition", conditions)
    }
}

fn labels((namespace, pipeline): &Key) -> Labels<'_> {
    vec![("namespace", namespace.as_str()), ("pipeline", pipeline.as_str())]
}

fn on_pool<'a>(mut labels: Labels<'a>, variant: &'a VariantSample) -> Labels<'a> {
    labels.extend([("pool", &*variant.pool), ("tier", variant.tier)]);
    labels
}
