//! How long replicas take to get Ready: learned per variant, from what is declared.
//!
//! A start is the time from a pod's creation to its first readiness, as its own timestamps tell it. A small histogram over the
//! ratio of that to what is declared, in steps of √2 between an eighth and eight times: what is declared counts as two
//! observations, and old ones fade. Its median is what is expected. Times of whole seconds are good enough for that: a
//! difference of two is off by less than one, and not to one side.
//!
//! Pods outlive the process that counted them. Those that are found Ready take the place of as many that are only on record, so
//! that none counts twice.
//!
//! A start is overdue after three times what is expected, or twice what nine in ten take. That is the trouble of one pool
//! only as long as starts are not late everywhere: where most pools that start anything are slow at once, it is the server
//! (an API server or a registry under load, hundreds of pipelines applied together), and moving replicas would add to it. So
//! patience is stretched by how late the pools are in the middle, up to [`PACE_PERMILLE_MAX`].

use super::world::{Learned, Variant, World};

/// Upper ends of the histogram's bins, thousandths of the declared time.
const RATIOS: [u64; 13] = [
    125, 177, 250, 354, 500, 707, 1_000, 1_414, 2_000, 2_828, 4_000, 5_657, 8_000,
];

/// The bin of what is declared.
const DECLARED: usize = 6;

/// What the declared time weighs.
const PRIOR_WEIGHT: u16 = 2 * WEIGHT;

/// What an observation weighs. A total above `WEIGHT_MAX` is halved.
const WEIGHT: u16 = 16;

/// See [`WEIGHT`]: about thirty observations are remembered.
const WEIGHT_MAX: u16 = 32 * WEIGHT;

/// A replica is taken for not coming after this many times its expected start-up time.
const STARTUPS_MAX: u64 = 3;

/// Start-up times below this are not believed: a container runtime alone takes seconds.
const STARTUP_MS_MIN: u64 = 5_000;

/// Most that patience is stretched where starts are late everywhere.
pub(super) const PACE_PERMILLE_MAX: u64 = 8_000;

/// For how long a start says how fast its pool is.
const RECENT_MS: u64 = 120_000;

/// Start-up times of one variant.
#[derive(Clone, Debug)]
pub(super) struct Startup {
    /// The time that ratios are of; another one starts anew.
    declared_ms: u64,
    weights: [u16; RATIOS.len()],
    /// Starts observed.
    seen: u32,
    /// Of these, the ones that are known from the record alone, and the bin where they are counted.
    recalled: (u32, usize),
    /// What is declared is among the weights. A record has it in its value.
    declared_counts: bool,
    /// How late the last start was that the core itself saw, thousandths of what was expected then, and when.
    last: Option<(u64, u64)>,
}

impl Startup {
    /// Nothing has been started yet.
    pub(super) const NONE: Self = Self {
        declared_ms: 0,
        weights: [0; RATIOS.len()],
        seen: 0,
        recalled: (0, 0),
        declared_counts: false,
        last: None,
    };

    /// A replica that was asked for got Ready after `took_ms`: how fast its pool is these minutes.
    pub(super) fn noted(&mut self, declared_ms: u64, took_ms: u64, now_ms: u64) {
        let expected_ms = self.expected_ms(declared_ms);
        self.last = Some((permille(took_ms, expected_ms), now_ms));
    }

    /// A pod took so long from its creation to its first readiness. `found`: it was Ready before anybody looked, so it may be
    /// one of those on record.
    pub(super) fn observe(&mut self, declared_ms: u64, took_ms: u64, found: bool) {
        let declared_ms = declared_ms.max(1);
        let ratio = permille(took_ms, declared_ms);
        // Nobody saw when it got Ready first. So long after its creation it has rather lost its readiness and won it back.
        if found && RATIOS.last().is_some_and(|&most| ratio > most) {
            return;
        }
        if self.declared_ms != declared_ms {
            *self = Self {
                declared_ms,
                last: self.last,
                ..Self::NONE
            };
            self.count_declared();
        }
        let (recalled, known) = self.recalled;
        if found && recalled > 0 {
            self.recalled.0 = recalled - 1;
            if let Some(weight) = self.weights.get_mut(known) {
                *weight = weight.saturating_sub(WEIGHT);
            }
            self.count_declared();
        } else {
            self.seen = self.seen.saturating_add(1);
        }
        if let Some(weight) = self.weights.get_mut(bin(ratio)) {
            *weight += WEIGHT;
        }
        if self.weights.iter().sum::<u16>() > WEIGHT_MAX {
            self.weights.iter_mut().for_each(|weight| *weight /= 2);
        }
    }

    fn count_declared(&mut self) {
        if !std::mem::replace(&mut self.declared_counts, true)
            && let Some(declared) = self.weights.get_mut(DECLARED)
        {
            *declared += PRIOR_WEIGHT;
        }
    }

    /// What is expected, and how many starts that rests on.
    pub(super) fn learned(&self, declared_ms: u64) -> Learned {
        let known = self.declared_ms == declared_ms.max(1);
        Learned {
            declared: declared_ms,
            value: self.expected_ms(declared_ms),
            samples: if known { self.seen } else { 0 },
        }
    }

    /// Takes back what was learned before a restart, if the same is declared and nothing has been seen yet. What the
    /// slowest took is not in it.
    pub(super) fn recall(&mut self, declared_ms: u64, learned: &Learned) {
        if self.seen > 0 || learned.samples == 0 || learned.declared != declared_ms {
            return;
        }
        *self = Self {
            declared_ms: declared_ms.max(1),
            seen: learned.samples,
            last: self.last,
            ..Self::NONE
        };
        let weight = u16::try_from(learned.samples)
            .unwrap_or(u16::MAX)
            .saturating_mul(WEIGHT);
        let bin = bin(permille(learned.value, declared_ms.max(1)));
        self.recalled = (learned.samples, bin);
        if let Some(slot) = self.weights.get_mut(bin) {
            *slot = weight.clamp(PRIOR_WEIGHT, WEIGHT_MAX);
        }
    }

    /// Expected time from the creation of a pod to its first readiness, milliseconds.
    pub(super) fn expected_ms(&self, declared_ms: u64) -> u64 {
        self.quantile_ms(declared_ms, 500)
    }

    /// What nine in ten take at most, milliseconds.
    pub(super) fn slow_ms(&self, declared_ms: u64) -> u64 {
        self.quantile_ms(declared_ms, 900)
    }

    /// After so long a replica is taken for not coming, where starts are late by `pace_permille` everywhere.
    pub(super) fn patience_ms(&self, declared_ms: u64, pace_permille: u64) -> u64 {
        let usual_ms = self.expected_ms(declared_ms).max(STARTUP_MS_MIN);
        let slow_ms = self.slow_ms(declared_ms).max(STARTUP_MS_MIN);
        let patience_ms = usual_ms.saturating_mul(STARTUPS_MAX).max(slow_ms.saturating_mul(2));
        patience_ms.saturating_mul(pace_permille.clamp(1_000, PACE_PERMILLE_MAX)) / 1_000
    }

    /// How late the last start was, if it was lately: thousandths of what was expected.
    fn recent(&self, now_ms: u64) -> Option<u64> {
        let (ratio, at_ms) = self.last?;
        (now_ms < at_ms.saturating_add(RECENT_MS)).then_some(ratio)
    }

    fn total(&self) -> u32 {
        self.weights.iter().map(|&weight| u32::from(weight)).sum()
    }

    fn quantile_ms(&self, declared_ms: u64, permille: u32) -> u64 {
        if self.declared_ms != declared_ms.max(1) {
            return declared_ms;
        }
        let total = self.total();
        let mut below = 0;
        for (&weight, &ratio) in self.weights.iter().zip(&RATIOS) {
            below += u32::from(weight);
            if below * 1_000 >= total * permille {
                return declared_ms.saturating_mul(ratio) / 1_000;
            }
        }
        declared_ms
    }
}

impl Default for Startup {
    fn default() -> Self {
        Self::NONE
    }
}

/// Where a ratio is counted, thousandths of the declared time.
fn bin(ratio: u64) -> usize {
    let found = RATIOS.iter().position(|&most| ratio <= most);
    found.unwrap_or(RATIOS.len() - 1)
}

fn permille(part_ms: u64, whole_ms: u64) -> u64 {
    part_ms.saturating_mul(1_000) / whole_ms.max(1)
}

/// How late starts are everywhere, thousandths of what is expected, at least 1,000: the lower median over the pools that
/// start anything. A pool is as late as its latest start of the last two minutes, else as the oldest that is pending; one
/// pool alone says nothing about the others. `late` gives the oldest pending start of a variant that is not dry,
/// milliseconds.
pub(super) fn pace<'a>(
    world: &World,
    variants: impl Iterator<Item = (&'a Variant, &'a Startup, Option<u64>)>,
    now_ms: u64,
) -> u64 {
    let mut pools: Vec<(Option<u64>, Option<u64>)> = vec![(None, None); world.pools.len()];
    for (variant, startup, late) in variants {
        if let Some((started, pending)) = pools.get_mut(variant.pool.0 as usize) {
            *started = (*started).max(startup.recent(now_ms));
            let expected_ms = startup.expected_ms(variant.startup_ms).max(STARTUP_MS_MIN);
            *pending = (*pending).max(late.map(|late_ms| permille(late_ms, expected_ms)));
        }
    }
    let mut ratios: Vec<u64> = pools
        .iter()
        .filter_map(|&(started, pending)| started.or(pending))
        .collect();
    ratios.sort_unstable();
    let middle = ratios.len().checked_sub(1).map_or(0, |last| last / 2);
    match ratios.get(middle).filter(|_| ratios.len() > 1) {
        Some(&ratio) => ratio.clamp(1_000, PACE_PERMILLE_MAX),
        None => 1_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rebalance::fixture::Fixture;

    #[test]
    fn without_an_observation_what_is_declared_is_expected() {
        let startup = Startup::default();
        assert_eq!(startup.expected_ms(20_000), 20_000);
        assert_eq!(startup.patience_ms(20_000, 1_000), 60_000);
        assert_eq!(startup.patience_ms(1, 1_000), 15_000);
        assert_eq!(startup.patience_ms(u64::MAX, u64::MAX), u64::MAX / 1_000);
    }

    #[test]
    fn what_is_observed_takes_over_and_stays_within_an_eighth_and_eight_times() {
        for (took_ms, expected_ms) in [(40_000, 40_000), (1, 2_500), (3_000_000, 160_000), (21_000, 28_280)] {
            let mut startup = Startup::default();
            for _ in 0..100 {
                startup.observe(20_000, took_ms, false);
            }
            assert_eq!(startup.expected_ms(20_000), expected_ms, "{took_ms} ms");
        }
        let mut startup = Startup::default();
        startup.observe(20_000, 80_000, false);
        assert_eq!(startup.expected_ms(20_000), 20_000, "one is no proof");
        startup.observe(20_000, 80_000, false);
        startup.observe(20_000, 80_000, false);
        assert_eq!(startup.expected_ms(20_000), 80_000);
        assert_eq!(startup.expected_ms(10_000), 10_000, "declared anew");
    }

    #[test]
    fn what_was_learned_comes_back_after_a_restart_while_the_same_is_declared() {
        for took_ms in [1, 9_000, 21_000, 40_000, 3_000_000] {
            let mut startup = Startup::default();
            for _ in 0..20 {
                startup.observe(20_000, took_ms, false);
            }
            let learned = startup.learned(20_000);
            assert_eq!(learned.samples, 20, "{took_ms} ms");
            let mut again = Startup::default();
            again.recall(20_000, &learned);
            assert_eq!(again.learned(20_000), learned, "{took_ms} ms");
            let mut edited = Startup::default();
            edited.recall(30_000, &learned);
            assert_eq!(edited.expected_ms(30_000), 30_000, "{took_ms} ms");
            // What has been seen since counts, not what was known.
            let mut late = Startup::default();
            late.observe(20_000, 20_000, false);
            late.recall(20_000, &learned);
            assert_eq!(late.learned(20_000).samples, 1, "{took_ms} ms");
        }
        let nothing = Startup::default().learned(20_000);
        assert_eq!((nothing.value, nothing.samples), (20_000, 0));
    }

    #[test]
    fn pods_that_are_found_ready_take_the_place_of_as_many_on_record_and_none_counts_twice() {
        let mut before = Startup::default();
        (0..16).for_each(|_| before.observe(20_000, 40_000, false));
        let record = before.learned(20_000);
        let mut again = Startup::default();
        again.recall(20_000, &record);
        (0..12).for_each(|_| again.observe(20_000, 40_000, true));
        assert_eq!(again.learned(20_000), record, "twelve of the sixteen are still there");
        // Those that nobody has seen before are new: first what the record leaves open, then more than it knew.
        again.observe(20_000, 40_000, false);
        assert_eq!(again.learned(20_000).samples, 17);
        (0..5).for_each(|_| again.observe(20_000, 40_000, true));
        assert_eq!(again.learned(20_000).samples, 18);
        // What pods say counts, not what was known of others that are gone.
        let mut other = Startup::default();
        other.recall(20_000, &record);
        (0..16).for_each(|_| other.observe(20_000, 10_000, true));
        assert_eq!(other.expected_ms(20_000), 10_000);
        assert_eq!(other.learned(20_000).samples, 16);
    }

    #[test]
    fn the_same_pods_teach_the_same_once_more() {
        for took in [[500, 500, 1_000], [1_000, 1_000, 8_000], [3_000, 3_000, 3_000]] {
            let mut before = Startup::default();
            for took_ms in took {
                before.observe(1_000, took_ms, false);
            }
            // A status rounds the number down.
            let record = Learned {
                samples: 2,
                ..before.learned(1_000)
            };
            let mut again = Startup::default();
            again.recall(1_000, &record);
            for took_ms in took {
                again.observe(1_000, took_ms, true);
            }
            assert_eq!(again.learned(1_000), before.learned(1_000), "{took:?}");
        }
    }

    #[test]
    fn without_a_record_the_pods_alone_tell() {
        let mut startup = Startup::default();
        (0..5).for_each(|_| startup.observe(20_000, 40_000, true));
        assert_eq!(
            (startup.expected_ms(20_000), startup.learned(20_000).samples),
            (40_000, 5)
        );
    }

    #[test]
    fn a_pod_that_is_found_ready_too_late_to_have_started_so_long_teaches_nothing() {
        let mut startup = Startup::default();
        (0..9).for_each(|_| startup.observe(20_000, 170_000, true));
        assert_eq!(startup.learned(20_000).samples, 0);
        // Seen with one's own eyes it is slow.
        (0..9).for_each(|_| startup.observe(20_000, 3_600_000, false));
        assert_eq!(startup.expected_ms(20_000), 160_000);
    }

    #[test]
    fn a_long_tail_is_waited_for() {
        let mut startup = Startup::default();
        for number in 0..30 {
            startup.observe(20_000, if number % 4 == 0 { 79_000 } else { 19_000 }, false);
        }
        assert_eq!(startup.expected_ms(20_000), 20_000);
        assert_eq!(startup.patience_ms(20_000, 1_000), 160_000);
    }

    #[test]
    fn starts_that_are_late_on_most_pools_are_no_pools_trouble() {
        let world = Fixture::parse(
            "pool a 9 cpu\npool b 9 cpu\npool c 9 cpu
             stage s
               a cap 1 startup 10000 has 0/0
               b cap 1 startup 10000 has 0/0
               c cap 1 startup 10000 has 0/0",
        )
        .world;
        let none = Startup::default();
        let pace_of = |late: [Option<u64>; 3], started: [&Startup; 3]| {
            let all = world.variants.iter().zip(started).zip(late);
            pace(
                &world,
                all.map(|((variant, startup), late)| (variant, startup, late)),
                1_000,
            )
        };
        let nothing = [&none, &none, &none];
        assert_eq!(pace_of([Some(90_000), None, None], nothing), 1_000, "one alone");
        assert_eq!(pace_of([Some(40_000), Some(90_000), None], nothing), 4_000);
        assert_eq!(pace_of([Some(40_000), Some(90_000), Some(990_000)], nothing), 8_000);
        // A start in time, a moment ago, proves the server.
        let mut quick = Startup::default();
        quick.noted(10_000, 9_000, 900);
        assert_eq!(pace_of([Some(40_000), None, None], [&none, &quick, &none]), 1_000);
        assert_eq!(
            pace_of([Some(40_000), Some(50_000), None], [&none, &quick, &none]),
            1_000
        );
    }
}
