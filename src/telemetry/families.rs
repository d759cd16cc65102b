//! Families of series that belong to an object: one table per kind of object, and how they are written.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue},
    metrics::MetricType,
    registry::Unit,
};

use super::samples::{PipelineSample, PoolSample, ResourceSample, StageSample, VariantSample};

pub(super) type Labels<'a> = Vec<(&'static str, &'a str)>;

/// A value as it is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Amount {
    Whole(u64),
    Real(f64),
}

impl EncodeGaugeValue for Amount {
    fn encode(&self, encoder: &mut prometheus_client::encoding::GaugeValueEncoder<'_>) -> fmt::Result {
        match self {
            Self::Whole(value) => EncodeGaugeValue::encode(value, encoder),
            Self::Real(value) => EncodeGaugeValue::encode(value, encoder),
        }
    }
}

impl EncodeCounterValue for Amount {
    fn encode(&self, encoder: &mut prometheus_client::encoding::CounterValueEncoder<'_>) -> fmt::Result {
        match self {
            Self::Whole(value) => EncodeCounterValue::encode(value, encoder),
            Self::Real(value) => EncodeCounterValue::encode(value, encoder),
        }
    }
}

/// One family: its name without prefix, and how its value is read from a sample.
pub(super) struct Family<S> {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    read: fn(&S) -> Option<Amount>,
}

impl<S> Family<S> {
    const fn new(name: &'static str, help: &'static str, read: fn(&S) -> Option<Amount>) -> Self {
        Self {
            name,
            help,
            unit: None,
            read,
        }
    }

    const fn seconds(name: &'static str, help: &'static str, read: fn(&S) -> Option<Amount>) -> Self {
        Self {
            name,
            help,
            unit: Some(Unit::Seconds),
            read,
        }
    }

    /// Series of all samples. Nothing is written for a family without series.
    pub(super) fn encode<'a>(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        samples: impl Iterator<Item = (Labels<'a>, &'a S)>,
    ) -> fmt::Result
    where
        S: 'a,
    {
        let series = samples.filter_map(|(labels, sample)| Some((labels, (self.read)(sample)?)));
        gauges(encoder, self.name, self.help, self.unit.as_ref(), series)
    }

    /// How many of a table's families have a value in this sample.
    pub(super) fn count(table: &[Self], sample: &S) -> usize {
        table.iter().filter(|family| (family.read)(sample).is_some()).count()
    }
}

/// One gauge family. Nothing is written for a family without series.
pub(super) fn gauges<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    series: impl Iterator<Item = (Labels<'a>, Amount)>,
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

/// One counter family. Nothing is written for a family without series.
pub(super) fn counters<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: impl Iterator<Item = (Labels<'a>, u64)>,
) -> fmt::Result {
    let mut series = series.peekable();
    if series.peek().is_none() {
        return Ok(());
    }
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in series {
        let mut one = family.encode_family(&labels)?;
        one.encode_counter::<Labels<'_>, _, u64>(&Amount::Whole(value), None)?;
    }
    Ok(())
}

/// Thousandths as a number. Only readers of metrics see the rounding.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float by its format")]
fn thousandths(value: u64) -> Amount {
    Amount::Real(value as f64 / 1e3)
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float by its format")]
fn millionths(value: u64) -> Amount {
    Amount::Real(value as f64 / 1e6)
}

fn flag(value: bool) -> Amount {
    Amount::Whole(value.into())
}

pub(super) const PIPELINE: &[Family<PipelineSample>] = &[
    Family::new(
        "pipeline_cost_dollars_per_hour",
        "What the replicas of a pipeline cost per hour.",
        |pipeline| pipeline.cost_per_hour_micros.map(millionths),
    ),
    Family::new(
        "pipeline_cost_dollars_per_thousand_requests",
        "What a thousand requests cost at the present price and rate; absent while no requests per second are known.",
        |pipeline| pipeline.cost_per_thousand_micros.map(millionths),
    ),
    Family::new(
        "pipeline_budget_dollars_per_hour",
        "The declared ceiling on the cost of a pipeline.",
        |pipeline| pipeline.budget_micros.map(millionths),
    ),
    Family::new(
        "pipeline_power_watts",
        "What the replicas of a pipeline draw; absent unless every pool in use declares its power.",
        |pipeline| pipeline.power_milliwatts.map(thousandths),
    ),
    Family::new(
        "pipeline_power_limit_watts",
        "The declared ceiling on what a pipeline draws.",
        |pipeline| pipeline.power_max_milliwatts.map(thousandths),
    ),
    Family::new(
        "pipeline_namespace_budget_dollars_per_hour",
        "The ceiling on the cost of all pipelines of the namespace together, on each of them.",
        |pipeline| pipeline.namespace_budget_micros.map(millionths),
    ),
    Family::new(
        "pipeline_namespace_power_limit_watts",
        "The ceiling on what all pipelines of the namespace draw together, on each of them.",
        |pipeline| pipeline.namespace_power_max_milliwatts.map(thousandths),
    ),
];

pub(super) const STAGE: &[Family<StageSample>] = &[
    Family::new(
        "stage_demand",
        "Demand on a stage in the unit of its signal.",
        |stage| stage.demand_millis.map(thousandths),
    ),
    Family::new(
        "stage_unserved_demand",
        "Part of a stage's demand that no replica is planned for: pools, bounds or budget leave no more.",
        |stage| stage.unserved_millis.map(thousandths),
    ),
    Family::new(
        "stage_below_preferred_tier",
        "1 while some of a stage's replicas are planned below the tier that its hint prefers.",
        |stage| stage.below_preferred_tier.map(flag),
    ),
    Family::new(
        "stage_floor_cost_dollars_per_hour",
        "What a stage's least replicas cost per hour on the cheapest pools that they may be on.",
        |stage| stage.floor_cost_per_hour_micros.map(millionths),
    ),
    Family::new(
        "signal_fresh",
        "1 while a stage's signals are fresh enough to shrink on.",
        |stage| stage.signals_fresh.map(flag),
    ),
    Family::seconds("signal_age", "Age of a stage's newest reading.", |stage| {
        stage.signal_age_ms.map(thousandths)
    }),
];

pub(super) const VARIANT: &[Family<VariantSample>] = &[
    Family::new(
        "stage_capacity",
        "What Ready replicas of a stage on a pool can serve, in the unit of the stage's signal.",
        |variant| Some(thousandths(variant.capacity_millis)),
    ),
    Family::new("stage_replicas", "Replicas asked for, by stage and pool.", |variant| {
        Some(Amount::Whole(variant.replicas.into()))
    }),
    Family::new(
        "stage_ready_replicas",
        "Ready replicas, by stage and pool.",
        |variant| Some(Amount::Whole(variant.ready_replicas.into())),
    ),
    Family::new(
        "stage_dry",
        "1 where a pool does not deliver replicas to a stage.",
        |variant| Some(flag(variant.dry)),
    ),
    Family::new(
        "stage_cost_dollars_per_hour",
        "What the replicas of a stage on a pool cost per hour.",
        |variant| Some(millionths(variant.cost_per_hour_micros)),
    ),
    Family::new(
        "stage_planned_cost_dollars_per_hour",
        "What the replicas that are planned of a stage on a pool cost per hour; absent while there is no plan.",
        |variant| variant.planned_cost_per_hour_micros.map(millionths),
    ),
    Family::new(
        "stage_power_watts",
        "What the replicas of a stage on a pool draw; absent unless the pool declares its power.",
        |variant| variant.power_milliwatts.map(thousandths),
    ),
];

pub(super) const RESOURCE: &[Family<ResourceSample>] = &[
    Family::new(
        "pool_capacity",
        "What pods of pipelines may use of a pool, in base units of the resource.",
        |resource| Some(thousandths(resource.capacity_millis)),
    ),
    Family::new("pool_used", "What pods of pipelines ask for on a pool.", |resource| {
        Some(thousandths(resource.used_millis))
    }),
];

pub(super) const POOL: &[Family<PoolSample>] = &[
    Family::new("pool_price_dollars_per_hour", "Price of a node of a pool.", |pool| {
        pool.price_per_hour_micros.map(millionths)
    }),
    Family::new(
        "pool_shadow_price_dollars_per_hour",
        "What one more node of a pool would save per hour; absent while the pool is not short.",
        |pool| pool.shadow_price_per_hour_micros.map(millionths),
    ),
    Family::new("pool_nodes", "Nodes that a pool selects.", |pool| {
        Some(Amount::Whole(pool.nodes.into()))
    }),
    Family::new("pool_usable_nodes", "Nodes of a pool that can take replicas.", |pool| {
        Some(Amount::Whole(pool.usable_nodes.into()))
    }),
    Family::new(
        "pool_placeholders",
        "Placeholder pods that a pool's warm buffer wants; absent while no room is kept.",
        |pool| pool.placeholders.map(|(wanted, _)| Amount::Whole(wanted.into())),
    ),
    Family::new(
        "pool_placeholders_held",
        "Of these, the ones that hold room on a node; absent likewise.",
        |pool| pool.placeholders.map(|(_, held)| Amount::Whole(held.into())),
    ),
];

/// Words that hold now: a series of value 1 for the one that does, none for the others.
pub(super) const PLAN_REASON: (&str, &str) = (
    "stage_plan_reason",
    "1 for the constraint that shapes a stage's plan now.",
);
pub(super) const HOLD: (&str, &str) = (
    "stage_hold",
    "1 for what holds a wanted change of a stage back now; no series while nothing does.",
);
pub(super) const PIPELINE_CONDITION: (&str, &str) = (
    "pipeline_condition",
    "Conditions of a pipeline: 1 for True, 0 for False, no series for Unknown.",
);
pub(super) const POOL_CONDITION: (&str, &str) = (
    "pool_condition",
    "Conditions of a pool: 1 for True, 0 for False, no series for Unknown.",
);
pub(super) const MOVED: (&str, &str) = (
    "stage_moved_replicas",
    "Replicas that acknowledged writes added to or took from a stage on a pool, both directions summed.",
);

/// One series per word.
pub(super) fn words<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    label: &'static str,
    series: impl Iterator<Item = (Labels<'a>, &'static str, bool)>,
) -> fmt::Result {
    let series = series.map(|(mut labels, word, holds)| {
        labels.push((label, word));
        (labels, flag(holds))
    });
    gauges(encoder, name, help, None, series)
}
