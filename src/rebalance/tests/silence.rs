//! Replicas that say nothing beside others that do.

use super::super::step;
use super::super::world::{Event, Reading, StageIdx, VariantIdx};
use super::{Run, busy};

/// Another second, with so many of ten pods in the reading. Whether that is told.
fn told(run: &mut Run, sampled: u32) -> bool {
    run.now_ms += 1_000;
    let reading = Reading {
        sampled,
        expected: 10,
        ..busy(run.now_ms, sampled, 800)
    };
    let variant = VariantIdx(0);
    step(&mut run.state, &[Event::Reading { variant, reading }], run.now_ms);
    let report = run.state.report(StageIdx(0)).unwrap();
    assert!(report.signals_fresh);
    report.signals_partial
}

#[test]
fn pods_that_are_silent_beside_others_are_told_once_that_counts_as_loss_unless_the_tolerance_covers_them() {
    let mut run = Run::of("pool gpu 12\nstage s loss 60000 tolerance 100\n gpu has 10/10 at 800");
    assert!((0..90).all(|_| !told(&mut run, 9)), "one of ten is a tenth");
    assert!((0..60).all(|_| !told(&mut run, 8)), "not for long enough");
    assert!(told(&mut run, 8));
    assert!(!told(&mut run, 10), "all speak");
    assert!((0..60).all(|_| !told(&mut run, 8)), "the time begins again");
    assert!(told(&mut run, 8));
}

#[test]
fn a_pool_whose_pods_are_silent_is_told_while_another_speaks() {
    let mut run = Run::of("pool gpu 4\npool arm 4\nstage s loss 60000\n gpu has 2/2 at 800\n arm has 2/2 at ?");
    run.after(59_000, &[]);
    assert!(!run.state.report(StageIdx(0)).unwrap().signals_partial);
    run.after(1_000, &[]);
    let report = run.state.report(StageIdx(0)).unwrap();
    assert!(report.signals_fresh && report.signals_partial);
}
