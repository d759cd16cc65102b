//! Series that belong to an object: told as a whole, so that what is not told any more is gone from the next scrape.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter},
    registry::Unit,
};

/// Series over all objects. 100 pipelines of 6 stages on 5 pools make 15,200.
pub(super) const SERIES_MAX: usize = 50_000;

/// State of a pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PipelineSample {
    /// Millionths of a dollar; absent while a price is unknown.
    pub cost_per_hour_micros: Option<u64>,
    /// Its stages.
    pub stages: Vec<StageSample>,
}

/// State of a stage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageSample {
    /// Name within the pipeline.
    pub stage: String,
    /// Thousandths of the stage's unit; absent while no signal has been seen.
    pub demand_millis: Option<u64>,
    /// Age of the newest reading, milliseconds; absent if there is none.
    pub signal_age_ms: Option<u64>,
    /// The stage on each of its pools.
    pub variants: Vec<VariantSample>,
}

/// State of a stage on a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VariantSample {
    /// Name of the pool.
    pub pool: Arc<str>,
    /// `CPU` or `Accelerator`.
    pub tier: &'static str,
    /// Of Ready replicas, thousandths of the stage's unit.
    pub capacity_millis: u64,
    /// Asked for.
    pub replicas: u32,
    /// Ready to serve.
    pub ready_replicas: u32,
    /// The pool does not deliver replicas to this stage at the moment.
    pub dry: bool,
}

impl PipelineSample {
    fn series_count(&self) -> usize {
        let stage = |stage: &StageSample| {
            usize::from(stage.demand_millis.is_some())
                + usize::from(stage.signal_age_ms.is_some())
                + 4 * stage.variants.len()
        };
        usize::from(self.cost_per_hour_micros.is_some()) + self.stages.iter().map(stage).sum::<usize>()
    }
}

/// State of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolSample {
    /// `CPU` or `Accelerator`.
    pub tier: &'static str,
    /// Of a node, millionths of a dollar; absent if unknown.
    pub price_per_hour_micros: Option<u64>,
    /// By resource: `cpu`, `memory`, `nvidia.com/gpu`.
    pub resources: Vec<ResourceSample>,
}

/// One resource of a pool, thousandths of its base unit (cores, bytes, devices).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceSample {
    /// Name of the resource.
    pub resource: String,
    /// What pods of the pipelines may use.
    pub capacity_millis: u64,
    /// What they have asked for.
    pub used_millis: u64,
}

impl PoolSample {
    fn series_count(&self) -> usize {
        usize::from(self.price_per_hour_micros.is_some()) + 2 * self.resources.len()
    }
}

/// All samples. Locks are held for the time of a copy; a poisoned one is used on, metrics are not worth a second panic.
#[derive(Debug)]
pub(super) struct Objects {
    samples: Mutex<Samples>,
    series_max: usize,
}

#[derive(Debug, Default)]
struct Samples {
    pipelines: BTreeMap<(String, String), PipelineSample>,
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

    /// Replaces what is known of a pipeline. Beyond the limit it is left out, old sample included, and counted.
    pub(super) fn set_pipeline(&self, namespace: &str, pipeline: &str, sample: PipelineSample) {
        let key = (namespace.to_owned(), pipeline.to_owned());
        let mut samples = self.samples();
        let old = samples.pipelines.remove(&key);
        if samples.admit(
            old.map_or(0, |old| old.series_count()),
            sample.series_count(),
            self.series_max,
        ) {
            samples.pipelines.insert(key, sample);
        }
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
        let old = samples.pipelines.remove(&(namespace.to_owned(), pipeline.to_owned()));
        samples.series_count -= old.map_or(0, |old| old.series_count());
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

/// Thousandths as a number. Only readers of metrics see the rounding.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float by its format")]
fn thousandths(value: u64) -> f64 {
    value as f64 / 1e3
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float by its format")]
fn millionths(value: u64) -> f64 {
    value as f64 / 1e6
}

type Labels<'a> = Vec<(&'static str, &'a str)>;

/// One gauge family. Nothing is written for a family without series.
fn gauges<'a, V: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    series: impl Iterator<Item = (Labels<'a>, V)>,
) -> fmt::Result {
    let mut series = series.peekable();
    if series.peek().is_none() {
        return Ok(());
    }
    let mut family = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
    for (labels, value) in series {
        family.encode_family(&labels)?.encode_gauge(&value)?;
    }
    Ok(())
}

impl Collector for Objects {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let samples = self.samples();
        samples.encode_stages(&mut encoder)?;
        samples.encode_variants(&mut encoder)?;
        samples.encode_pools(&mut encoder)?;
        let dropped = ConstCounter::new(samples.series_dropped);
        let help = "Series left out because all objects together have too many.";
        dropped.encode(encoder.encode_descriptor("telemetry_series_dropped", help, None, MetricType::Counter)?)
    }
}

impl Samples {
    fn stages(&self) -> impl Iterator<Item = (Labels<'_>, &StageSample)> {
        self.pipelines.iter().flat_map(|((namespace, pipeline), sample)| {
            let labels = |stage| {
                vec![
                    ("namespace", namespace.as_str()),
                    ("pipeline", pipeline.as_str()),
                    ("stage", stage),
                ]
            };
            sample
                .stages
                .iter()
                .map(move |stage| (labels(stage.stage.as_str()), stage))
        })
    }

    fn variants(&self) -> impl Iterator<Item = (Labels<'_>, &VariantSample)> {
        self.stages().flat_map(|(labels, stage)| {
            stage.variants.iter().map(move |variant| {
                let mut labels = labels.clone();
                labels.extend([("pool", &*variant.pool), ("tier", variant.tier)]);
                (labels, variant)
            })
        })
    }

    fn encode_stages(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let cost = self.pipelines.iter().filter_map(|((namespace, pipeline), sample)| {
            let labels = vec![("namespace", namespace.as_str()), ("pipeline", pipeline.as_str())];
            Some((labels, millionths(sample.cost_per_hour_micros?)))
        });
        let help = "What the replicas of a pipeline cost per hour.";
        gauges(encoder, "pipeline_cost_dollars_per_hour", help, None, cost)?;
        let demand = self
            .stages()
            .filter_map(|(labels, stage)| Some((labels, thousandths(stage.demand_millis?))));
        gauges(
            encoder,
            "stage_demand",
            "Demand on a stage in the unit of its signal.",
            None,
            demand,
        )?;
        let age = self
            .stages()
            .filter_map(|(labels, stage)| Some((labels, thousandths(stage.signal_age_ms?))));
        gauges(
            encoder,
            "signal_age",
            "Age of a stage's newest reading.",
            Some(&Unit::Seconds),
            age,
        )
    }

    fn encode_variants(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let capacity = self
            .variants()
            .map(|(labels, variant)| (labels, thousandths(variant.capacity_millis)));
        let help = "What Ready replicas of a stage on a pool can serve, in the unit of the stage's signal.";
        gauges(encoder, "stage_capacity", help, None, capacity)?;
        let replicas = self.variants().map(|(labels, variant)| (labels, variant.replicas));
        gauges(
            encoder,
            "stage_replicas",
            "Replicas asked for, by stage and pool.",
            None,
            replicas,
        )?;
        let ready = self
            .variants()
            .map(|(labels, variant)| (labels, variant.ready_replicas));
        gauges(
            encoder,
            "stage_ready_replicas",
            "Ready replicas, by stage and pool.",
            None,
            ready,
        )?;
        let dry = self
            .variants()
            .map(|(labels, variant)| (labels, u32::from(variant.dry)));
        gauges(
            encoder,
            "stage_dry",
            "1 where a pool does not deliver replicas to a stage.",
            None,
            dry,
        )
    }

    fn encode_pools(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let resources = || {
            self.pools.iter().flat_map(|(pool, sample)| {
                let labels = |resource| vec![("pool", pool.as_str()), ("tier", sample.tier), ("resource", resource)];
                sample
                    .resources
                    .iter()
                    .map(move |resource| (labels(resource.resource.as_str()), resource))
            })
        };
        let capacity = resources().map(|(labels, resource)| (labels, thousandths(resource.capacity_millis)));
        let help = "What pods of pipelines may use of a pool, in base units of the resource.";
        gauges(encoder, "pool_capacity", help, None, capacity)?;
        let used = resources().map(|(labels, resource)| (labels, thousandths(resource.used_millis)));
        gauges(
            encoder,
            "pool_used",
            "What pods of pipelines ask for on a pool.",
            None,
            used,
        )?;
        let price = self.pools.iter().filter_map(|(pool, sample)| {
            let labels = vec![("pool", pool.as_str()), ("tier", sample.tier)];
            Some((labels, millionths(sample.price_per_hour_micros?)))
        });
        gauges(
            encoder,
            "pool_price_dollars_per_hour",
            "Price of a node of a pool.",
            None,
            price,
        )
    }
}
