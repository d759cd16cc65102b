//! Pure: what a pipeline's status says, as a document. Readings, ages and needs move on every tick and are not in it.

use crate::api::TieredPipeline;
use crate::api::decimal::Decimal;
use crate::api::tiered_pipeline::{Learned as OnRecord, StagePoolStatus, StageStatus};
use crate::explain::{Calls, Document, Learned, Pool, Stage, Unit, VERSION, of_thousandths};
use crate::rebalance::explain::range;

/// One stage for each that the spec has, in its order.
pub(super) fn document(namespace: &str, name: &str, pipeline: &TieredPipeline) -> Document {
    let status = pipeline.status.as_ref();
    let of = |name: &str| status.and_then(|status| status.stages.iter().find(|stage| stage.name == name));
    let none = StageStatus::default();
    let stages = pipeline.spec.stages.iter().map(|declared| Stage {
        name: declared.name.clone(),
        ..stage(of(&declared.name).unwrap_or(&none))
    });
    Document {
        version: VERSION,
        namespace: namespace.to_owned(),
        pipeline: name.to_owned(),
        time: String::new(),
        gap_percent: None,
        ceilings: Vec::new(),
        stages: stages.collect(),
        decisions: status.map(|status| status.decisions.clone()).unwrap_or_default(),
    }
}

fn stage(known: &StageStatus) -> Stage {
    let rated = known.pools.iter().any(|pool| pool.requests_per_second.is_some());
    let calls = known.calls_per_request.as_ref().and_then(learned).map(|learned| Calls {
        from: None,
        calls_per_request: learned,
    });
    Stage {
        unit: if rated { Unit::RequestsPerSecond } else { Unit::Replicas },
        pools: known.pools.iter().map(pool).collect(),
        calls: calls.into_iter().collect(),
        message: known.message.clone(),
        ..Stage::default()
    }
}

fn pool(known: &StagePoolStatus) -> Pool {
    Pool {
        name: known.name.clone(),
        replicas: u32::try_from(known.replicas).unwrap_or_default(),
        ready: u32::try_from(known.ready).unwrap_or_default(),
        requests_per_second: known.requests_per_second.as_ref().and_then(learned),
        startup_seconds: known.startup_seconds.as_ref().and_then(learned),
        ..Pool::default()
    }
}

fn learned(record: &OnRecord) -> Option<Learned> {
    let millis = |text: &str| Decimal(text.to_owned()).millis().ok();
    let declared = millis(&record.declared)?;
    let (least, most) = range(declared);
    Some(Learned {
        value: of_thousandths(millis(&record.value)?),
        declared: of_thousandths(declared),
        samples: u32::try_from(record.samples).ok()?,
        range: [of_thousandths(least), of_thousandths(most)],
    })
}
