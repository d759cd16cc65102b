//! Pure: what the core learned, as the status keeps it over a restart.

use super::world::Index;
use crate::api::decimal::{Decimal, thousandths};
use crate::api::tiered_pipeline::{Learned as OnRecord, TieredPipelineStatus};
use crate::rebalance::world::{Event, Learned, PipelineIdx, StageIdx, Subject, VariantIdx};

/// Most observations that the status tells of. More would change nothing after a restart, and as they come every fifteen
/// seconds while a stage serves, a status would still be written for their number hours after its values are known.
const RECORDED_MAX: u32 = 16;

/// What the status says of something learned; nothing if nothing was. The status is not written for every observation:
/// their number is rounded down to a power of two, and is [`RECORDED_MAX`] at most.
pub(super) fn on_record(learned: Learned) -> Option<OnRecord> {
    let samples = learned.samples.min(RECORDED_MAX);
    let samples = i32::try_from(1_u32 << samples.checked_ilog2()?).unwrap_or(i32::MAX);
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

/// What statuses say was learned, for the core; `status` is asked for each pipeline that is to be looked at. What the core no
/// longer knows, or nobody can read, is left out.
pub(super) fn recalled<'s>(
    index: &Index,
    status: impl Fn(PipelineIdx) -> Option<&'s TieredPipelineStatus>,
) -> Vec<Event> {
    let of_stage = |at: StageIdx| {
        let stage = index.stage(at)?;
        status(stage.pipeline)?
            .stages
            .iter()
            .find(|known| *known.name == *stage.name)
    };
    let mut events = Vec::new();
    let mut tell = |subject, record: Option<&OnRecord>| {
        events.extend(record.and_then(read).map(|learned| Event::Learned { subject, learned }));
    };
    for (at, _) in (0_u32..).map(StageIdx).zip(&index.stages) {
        tell(
            Subject::Calls(at),
            of_stage(at).and_then(|known| known.calls_per_request.as_ref()),
        );
    }
    for (at, variant) in (0_u32..).map(VariantIdx).zip(&index.variants) {
        let known =
            of_stage(variant.stage).and_then(|stage| stage.pools.iter().find(|pool| *pool.name == *variant.pool));
        if let Some(pool) = known {
            tell(Subject::Capacity(at), pool.requests_per_second.as_ref());
            tell(Subject::Startup(at), pool.startup_seconds.as_ref());
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use super::super::super::pipeline::validated::PipelineId;
    use super::super::world::{StageRef, VariantRef};
    use super::*;
    use crate::api::tiered_pipeline::{StagePoolStatus, StageStatus};
    use crate::rebalance::world::Resources;

    #[test]
    fn what_is_on_record_reads_as_what_was_learned_but_for_the_number_of_observations() {
        let learned = |samples| Learned {
            declared: 10_000,
            value: 9_437,
            samples,
        };
        assert_eq!(on_record(learned(0)), None, "nothing learned");
        let record = on_record(learned(11)).unwrap();
        assert_eq!(
            (record.declared.as_str(), record.value.as_str(), record.samples),
            ("10", "9.437", 8)
        );
        assert_eq!(read(&record), Some(learned(8)));
        let broken = OnRecord {
            value: "fast".to_owned(),
            ..record
        };
        assert_eq!(read(&broken), None);
    }

    #[test]
    fn a_stage_that_goes_on_serving_is_not_written_for_the_number_of_its_observations() {
        let after = |samples| {
            on_record(Learned {
                declared: 10_000,
                value: 9_437,
                samples,
            })
        };
        let told: std::collections::BTreeSet<_> = (1..=1_000_000)
            .filter_map(|samples| after(samples).map(|record| record.samples))
            .collect();
        assert_eq!(told.into_iter().collect::<Vec<_>>(), [1, 2, 4, 8, 16]);
        assert_eq!(after(16), after(u32::MAX), "four minutes, and ever after");
    }

    #[test]
    fn a_status_tells_the_core_what_was_learned_of_the_pipelines_that_are_looked_at() {
        let id = |name: &str| PipelineId {
            namespace: "rag".to_owned(),
            name: name.to_owned(),
            uid: name.to_owned(),
        };
        let stage = |pipeline| StageRef {
            pipeline: PipelineIdx(pipeline),
            name: "serve".into(),
            also: Vec::new(),
        };
        let variant = |stage, pool: &str| VariantRef {
            stage: StageIdx(stage),
            pool: pool.into(),
            child: "".into(),
            variant_id: "".into(),
            request: Resources::default(),
            capacity_millis: 10_000,
            preset: None,
            provision_ms: 0,
            claimed: true,
        };
        let index = Index {
            pipelines: vec![id("known"), id("new")],
            stages: vec![stage(0), stage(1)],
            variants: vec![variant(0, "arm"), variant(1, "x86"), variant(1, "arm")],
            ..Index::default()
        };
        let learned = Learned {
            declared: 10_000,
            value: 9_437,
            samples: 16,
        };
        let status = TieredPipelineStatus {
            stages: vec![StageStatus {
                name: "serve".into(),
                calls_per_request: on_record(learned),
                pools: vec![StagePoolStatus {
                    name: "arm".to_owned(),
                    requests_per_second: on_record(learned),
                    startup_seconds: on_record(learned),
                    ..StagePoolStatus::default()
                }],
                ..StageStatus::default()
            }],
            ..TieredPipelineStatus::default()
        };
        let told = recalled(&index, |pipeline| (pipeline == PipelineIdx(1)).then_some(&status));
        let about = [
            Subject::Calls(StageIdx(1)),
            Subject::Capacity(VariantIdx(2)),
            Subject::Startup(VariantIdx(2)),
        ];
        assert_eq!(told, about.map(|subject| Event::Learned { subject, learned }));
    }
}
