//! Pure: what the core learned, as the status keeps it over a restart.

use super::world::Index;
use crate::api::decimal::{Decimal, thousandths};
use crate::api::tiered_pipeline::{Learned as OnRecord, TieredPipelineStatus};
use crate::rebalance::world::{Event, Learned, PipelineIdx, StageIdx, Subject, VariantIdx};

/// What the status says of something learned; nothing if nothing was. The status is not written for every observation:
/// their number is rounded down to a power of two.
pub(super) fn on_record(learned: Learned) -> Option<OnRecord> {
    let samples = i32::try_from(learned.samples.checked_ilog2().map(|log| 1_u32 << log)?).unwrap_or(i32::MAX);
    Some(OnRecord {
        declared: thousandths(learned.declared),
        value: thousandths(learned.value),
        samples,
    })
}

fn read(record: &OnRecord) -> Option<Learned> {
    Some(Learned {
        declared: Decimal(record.declared.clone()).millis().ok()?,
        value: Decimal(record.value.clone()).millis().ok()?,
        samples: u32::try_from(record.samples).ok()?,
    })
}

/// What a pipeline's status says was learned, for the core. What it no longer knows, or cannot read, is left out.
pub(super) fn recalled(pipeline: PipelineIdx, index: &Index, status: &TieredPipelineStatus) -> Vec<Event> {
    let mut events = Vec::new();
    let mut tell = |subject, record: Option<&OnRecord>| {
        events.extend(record.and_then(read).map(|learned| Event::Learned { subject, learned }));
    };
    for (at, stage) in (0_u32..).map(StageIdx).zip(&index.stages) {
        let of_stage = status.stages.iter().find(|known| known.name == stage.name);
        let Some(known) = of_stage.filter(|_| stage.pipeline == pipeline) else {
            continue;
        };
        tell(Subject::Calls(at), known.calls_per_request.as_ref());
        for (variant, reference) in (0_u32..).map(VariantIdx).zip(&index.variants) {
            let of_pool = known.pools.iter().find(|pool| pool.name == reference.pool);
            if let Some(pool) = of_pool.filter(|_| reference.stage == at) {
                tell(Subject::Capacity(variant), pool.requests_per_second.as_ref());
                tell(Subject::Startup(variant), pool.startup_seconds.as_ref());
            }
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_record_reads_as_what_was_learned_but_for_the_number_of_observations() {
        let learned = |samples| Learned {
            declared: 10_000,
            value: 9_437,
            samples,
        };
        assert_eq!(on_record(learned(0)), None, "nothing learned");
        let record = on_record(learned(41)).unwrap();
        assert_eq!(
            (record.declared.as_str(), record.value.as_str(), record.samples),
            ("10", "9.437", 32)
        );
        assert_eq!(read(&record), Some(learned(32)));
        let broken = OnRecord {
            value: "fast".to_owned(),
            ..record
        };
        assert_eq!(read(&broken), None);
    }
}
