//! Far more stages than one pool has room for: a plan with a reason for whoever gets nothing, and an end.

use super::super::decision::NotUsed;
use super::super::world::StageIdx;
use super::{Run, step};

const STAGES: usize = 10_000;
const SLOTS: u32 = 5_000;

/// Ten thousand stages that must have a replica each and have none, so many to a pipeline.
fn crowd(per_pipeline: usize) -> Run {
    let stages = (0..STAGES).map(|stage| {
        let pipeline = if stage % per_pipeline == 0 { "pipe p\n" } else { "" };
        format!("{pipeline}stage s{stage} min 1 max 4\n one has 0/0\n")
    });
    let text: String = std::iter::once(format!("pool one {SLOTS}\n")).chain(stages).collect();
    Run::of(&text)
}

#[test]
fn ten_thousand_stages_on_one_pool_fill_it_and_the_rest_are_told_why_not() {
    for per_pipeline in [1, 32, STAGES] {
        let mut run = crowd(per_pipeline);
        let mut asked = 0;
        // Decisions may come over several steps; without news there is an end of them.
        for _ in 0..4 {
            asked += run.decided.iter().map(|decision| decision.moves.len()).sum::<usize>();
            run.now_ms += 1_000;
            run.decided = step(&mut run.state, &[], run.now_ms);
        }
        assert!(
            run.decided.is_empty(),
            "{per_pipeline} a pipeline: {} more",
            run.decided.len()
        );
        assert_eq!(asked, SLOTS as usize, "{per_pipeline} a pipeline");
        let full = (0..STAGES).filter(|&at| {
            let report = run.state.report(StageIdx(u32::try_from(at).unwrap())).unwrap();
            report.planned == [0] && report.not_used == [Some(NotUsed::Full)]
        });
        assert_eq!(full.count(), STAGES - SLOTS as usize, "{per_pipeline} a pipeline");
    }
}

#[test]
fn room_that_is_too_small_for_a_floor_goes_to_others_as_long_as_nobody_who_stands_on_the_rest_may_be_moved() {
    let run = Run::of(
        "pool gpu 4
         pipe low priority 100\nstage a min 1\n gpu slots 2 has 1/1 at 750
         pipe high priority 900\nstage b min 1\n gpu slots 2 has 0/0 at ?\nstage c\n gpu has 1/1 at 1600",
    );
    assert_eq!(run.fixture.render(&run.decided), "c/gpu 1->2");
    let report = run.state.report(StageIdx(1)).unwrap();
    assert_eq!(
        (&report.planned[..], &report.not_used[..]),
        (&[0][..], &[Some(NotUsed::Full)][..])
    );
}
