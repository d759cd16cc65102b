#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "small numbers by construction"
)]

use proptest::prelude::*;

use super::*;
use crate::rebalance::fixture::cases;
use crate::rebalance::sim::Random;

const STRIDE: Stride = Stride {
    up_permille: 1_500,
    down_permille: 500,
};

fn feed(estimate: &mut Estimate, samples: u32, sample: u64) -> u32 {
    (0..samples).map(|_| u32::from(estimate.add(sample, STRIDE))).sum()
}

#[test]
fn what_is_declared_is_in_force_until_enough_samples_say_otherwise() {
    let mut estimate = Estimate::new(10_000);
    assert_eq!(feed(&mut estimate, 5, 30_000), 0, "five prove nothing");
    assert_eq!(estimate.value(), 10_000);
    assert!(estimate.add(30_000, STRIDE));
    assert_eq!(estimate.value(), 15_000, "half more at once");
    assert_eq!(feed(&mut estimate, 5, 30_000), 0, "samples start anew");
    assert!(estimate.add(30_000, STRIDE));
    assert_eq!(estimate.value(), 22_500);
    feed(&mut estimate, 6, 30_000);
    assert!(estimate.value().abs_diff(30_000) < 1_000, "{}", estimate.value());
    assert_eq!(estimate.samples(), 18);
}

#[test]
fn a_difference_of_less_than_a_tenth_is_no_news() {
    for sample in [9_200, 10_900] {
        let mut estimate = Estimate::new(10_000);
        assert_eq!(feed(&mut estimate, 1_000, sample), 0, "{sample}");
        assert_eq!(estimate.value(), 10_000, "{sample}");
    }
}

#[test]
fn what_was_learned_fades_when_it_is_no_longer_so() {
    let mut estimate = Estimate::new(10_000);
    feed(&mut estimate, 500, 10_000);
    let mut needed = 0;
    while estimate.value() == 10_000 {
        estimate.add(5_000, STRIDE);
        needed += 1;
    }
    assert!((20..=60).contains(&needed), "{needed} samples");
}

#[test]
fn one_wild_sample_moves_nothing() {
    let mut estimate = Estimate::new(10_000);
    for round in 0..200 {
        assert_eq!(feed(&mut estimate, 5, 10_100), 0, "round {round}");
        assert!(
            !estimate.add(if round % 2 == 0 { u64::MAX } else { 0 }, STRIDE),
            "round {round}"
        );
    }
    assert_eq!(estimate.value(), 10_000);
}

#[test]
fn what_is_in_force_is_restored_exactly_and_stays() {
    let mut estimate = Estimate::new(10_000);
    feed(&mut estimate, 40, 4_321);
    let learned = estimate.learned();
    assert!(learned.value.abs_diff(4_321) < 200, "{learned:?}");
    let mut restored = Estimate::restored(10_000, &learned).unwrap();
    assert_eq!(restored.learned(), learned);
    assert_eq!(feed(&mut restored, 100, 4_321), 0);
    assert_eq!(Estimate::restored(20_000, &learned), None, "declared anew");
}

proptest! {
    #![proptest_config(cases(10_000))]

    #[test]
    fn whatever_is_sampled_stays_within_an_eighth_and_eight_times(
        declared in prop_oneof![0..100_u64, 1_000..100_000_u64, any::<u64>()],
        samples in prop::collection::vec(prop_oneof![any::<u64>(), 0..100_000_u64, Just(0), Just(u64::MAX)], 1..120),
        restored in any::<u64>(),
    ) {
        let declared = declared.max(1);
        let bounds = (declared / SPAN).max(1)..=declared.saturating_mul(SPAN);
        let mut estimate = Estimate::new(declared);
        for sample in samples {
            estimate.add(sample, STRIDE);
            prop_assert!(bounds.contains(&estimate.value()), "{} of {declared}", estimate.value());
        }
        let learned = Learned { declared, value: restored, samples: 7 };
        let again = Estimate::restored(declared, &learned).unwrap();
        prop_assert!(bounds.contains(&again.value()));
        prop_assert_eq!(Estimate::restored(declared, &again.learned()).unwrap().learned(), again.learned());
    }

    #[test]
    fn one_lie_in_four_moves_it_no_further_than_scatter_does(seed in any::<u64>()) {
        let mut random = Random::new(seed);
        let declared = random.within(1_000, 50_000);
        let truth = declared * random.within(30, 300) / 100;
        let mut estimate = Estimate::new(declared);
        let one_sided = random.chance(50);
        for _ in 0..60 {
            let lies = random.within(0, 3);
            for at in 0..4 {
                let honest = truth * random.within(92, 108) / 100;
                let lie = if one_sided || random.chance(50) { truth * 50 } else { 1 };
                estimate.add(if at == lies { lie } else { honest }, STRIDE);
            }
        }
        let off = estimate.value().abs_diff(truth) * 100 / truth;
        prop_assert!(off <= 30, "{} instead of {truth}, {off} % off", estimate.value());
    }

    /// Where capacity depends on how full replicas are (throughput ~ u^(1-α)), what is learned changes what runs, and
    /// that what is learned next. Beyond α = 1/2 the plain iteration does not converge.
    #[test]
    fn an_estimate_that_follows_its_own_effect_comes_to_rest(seed in any::<u64>()) {
        let mut random = Random::new(seed);
        let alpha = random.within(0, 90) as f64 / 100.0;
        let load = random.within(1, 60) as f64;
        let noise = random.within(0, 8);
        let mut estimate = Estimate::new(1_000);
        let (mut last, mut changes) = (0, 0);
        for sample in 0..6_000 {
            let planned = (load / (0.7 * estimate.value() as f64 / 1e3)).ceil().max(1.0);
            let busy = (load / planned).powf(1.0 / (1.0 - alpha)).clamp(0.01, 0.96);
            let shown = busy.powf(-alpha) * 1e3 * random.within(100 - noise, 100 + noise) as f64 / 100.0;
            if busy >= 0.15 && estimate.add(shown as u64, STRIDE) {
                (last, changes) = (sample, changes + 1);
            }
        }
        // An hour is 240 samples; after a reversal the next waits longer.
        prop_assert!(changes <= 60, "α {alpha} load {load}: {changes} changes, the last at {last}");
    }
}
