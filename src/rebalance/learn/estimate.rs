//! A robust estimate of one positive number around what is declared, and when it replaces the value in force.
//!
//! A histogram over the ratio of sample to declared value, in steps of a sixteenth of an octave between an eighth and eight
//! times. Its median is the estimate: one wild sample moves it by no more than any other. What is in force counts as
//! [`PRIOR`] samples, so that few prove nothing, and old samples fade by half each time that [`MEMORY`] are exceeded.
//!
//! **What is in force stands still.** Another value replaces it only after [`FRESH_MIN`] samples under the one in force, if
//! it differs by more than a tenth, and goes at most a [`Stride`] at a time. Then the samples start anew: what follows from
//! the value (how many replicas there are, how busy they are) is not what it was, and where capacity depends on load the
//! next samples say so. A change that takes back the one before doubles the tenth for the next one; an hour's worth of
//! samples without such a change halves it again. The range is bounded, so between two reversals there are finitely many
//! changes, and reversals get rarer without end while their cause lasts: an estimate that follows its own effect comes to
//! rest.

use super::super::bug::{Bug, seeded};
use super::super::world::Learned;

const BINS: usize = 97;

/// Ends of the bins, millionths of what is declared; what is declared is the middle of the 49th.
const EDGES: [u64; BINS + 1] = [
    122_322, 127_737, 133_393, 139_298, 145_466, 151_906, 158_631, 165_655, 172_989, 180_648, 188_646, 196_998,
    205_719, 214_827, 224_339, 234_271, 244_643, 255_474, 266_785, 278_597, 290_931, 303_812, 317_263, 331_309,
    345_977, 361_295, 377_291, 393_995, 411_439, 429_655, 448_677, 468_542, 489_286, 510_949, 533_570, 557_193,
    581_862, 607_624, 634_525, 662_618, 691_955, 722_590, 754_582, 787_990, 822_878, 859_310, 897_355, 937_084,
    978_572, 1_021_897, 1_067_140, 1_114_387, 1_163_725, 1_215_247, 1_269_051, 1_325_237, 1_383_910, 1_445_181,
    1_509_164, 1_575_981, 1_645_755, 1_718_619, 1_794_709, 1_874_168, 1_957_144, 2_043_794, 2_134_281, 2_228_773,
    2_327_450, 2_430_495, 2_538_102, 2_650_473, 2_767_820, 2_890_362, 3_018_329, 3_151_962, 3_291_511, 3_437_239,
    3_589_418, 3_748_335, 3_914_288, 4_087_589, 4_268_562, 4_457_547, 4_654_899, 4_860_989, 5_076_204, 5_300_947,
    5_535_640, 5_780_723, 6_036_658, 6_303_923, 6_583_022, 6_874_477, 7_178_836, 7_496_671, 7_828_576, 8_175_177,
];

/// Most that what is learned may be away from what is declared, either way.
pub(in crate::rebalance) const SPAN: u64 = 8;

/// What a sample weighs.
const WEIGHT: u8 = 4;

/// Samples that the value in force counts for.
const PRIOR: u8 = 3;

/// About so many samples are remembered.
const MEMORY: u8 = 60;

/// Samples under one value before another replaces it.
const FRESH_MIN: u32 = 6;

/// A difference that is worth another value, thousandths.
const DIFFERENCE_PERMILLE: u64 = 100;

/// Most times that difference.
const PATIENCE_MAX: u64 = 64;

/// Samples without a reversal after which patience is halved.
const CALM: u32 = 240;

/// Samples that a restored value counts for at most.
const RESTORED_MAX: u32 = 20;

/// How far a value goes at once, thousandths of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rebalance) struct Stride {
    pub(in crate::rebalance) up_permille: u64,
    pub(in crate::rebalance) down_permille: u64,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::rebalance) struct Estimate {
    declared: u64,
    value: u64,
    weights: [u8; BINS],
    /// All samples so far.
    samples: u32,
    /// Those under the value in force.
    fresh: u32,
    patience: u64,
    calm: u32,
    /// Which way the value went last.
    rose: Option<bool>,
}

impl Estimate {
    /// Nothing learned yet: in force is what is declared, at least 1.
    pub(in crate::rebalance) fn new(declared: u64) -> Self {
        let declared = declared.max(1);
        let mut estimate = Self {
            declared,
            value: declared,
            weights: [0; BINS],
            samples: 0,
            fresh: 0,
            patience: 1,
            calm: 0,
            rose: None,
        };
        estimate.settle(u32::from(PRIOR));
        estimate
    }

    /// What was learned before a restart. Nothing of it counts if something else is declared now.
    pub(in crate::rebalance) fn restored(declared: u64, learned: &Learned) -> Option<Self> {
        if learned.declared != declared.max(1) || learned.samples == 0 || seeded(Bug::LearnedForgotten) {
            return None;
        }
        let mut estimate = Self::new(declared);
        estimate.value = estimate.within(learned.value);
        estimate.samples = learned.samples;
        estimate.settle(learned.samples.clamp(u32::from(PRIOR), RESTORED_MAX));
        Some(estimate)
    }

    pub(in crate::rebalance) const fn declared(&self) -> u64 {
        self.declared
    }

    pub(in crate::rebalance) const fn value(&self) -> u64 {
        self.value
    }

    pub(in crate::rebalance) const fn samples(&self) -> u32 {
        self.samples
    }

    pub(in crate::rebalance) const fn learned(&self) -> Learned {
        Learned {
            declared: self.declared,
            value: self.value,
            samples: self.samples,
        }
    }

    /// Takes a sample. True if another value is in force from now on.
    pub(in crate::rebalance) fn add(&mut self, sample: u64, stride: Stride) -> bool {
        let bin = self.bin(sample);
        if let Some(weight) = self.weights.get_mut(bin) {
            *weight = weight.saturating_add(WEIGHT);
        }
        if self.total() > u32::from(MEMORY) * u32::from(WEIGHT) {
            self.weights.iter_mut().for_each(|weight| *weight /= 2);
        }
        self.samples = self.samples.saturating_add(1);
        self.fresh = self.fresh.saturating_add(1);
        self.calm = self.calm.saturating_add(1);
        if self.calm >= CALM {
            (self.calm, self.patience) = (0, (self.patience / 2).max(1));
        }
        let least = if seeded(Bug::OneSampleTeaches) { 1 } else { FRESH_MIN };
        let found = if seeded(Bug::OneSampleTeaches) {
            self.within(sample)
        } else {
            self.median()
        };
        if self.fresh < least || !self.differs(found) {
            return false;
        }
        self.take_up(found, stride);
        true
    }

    fn take_up(&mut self, found: u64, stride: Stride) {
        let scaled = |permille: u64| cut(u128::from(self.value) * u128::from(permille) / 1_000);
        let rises = found > self.value;
        let next = if rises {
            found.min(scaled(stride.up_permille).max(self.value.saturating_add(1)))
        } else {
            found.max(scaled(stride.down_permille))
        };
        if self.rose.is_some_and(|rose| rose != rises) {
            (self.calm, self.patience) = (0, (self.patience * 2).min(PATIENCE_MAX));
        }
        (self.rose, self.value, self.fresh) = (Some(rises), self.within(next), 0);
        self.settle(u32::from(PRIOR));
    }

    /// Whether a value is so far from the one in force that it should replace it.
    fn differs(&self, found: u64) -> bool {
        let wide = u128::from(1_000 + DIFFERENCE_PERMILLE * self.patience);
        let (found, value) = (u128::from(found), u128::from(self.value));
        found * 1_000 > value * wide || found * wide < value * 1_000
    }

    /// Forgets all samples; the value in force counts as so many.
    fn settle(&mut self, samples: u32) {
        self.weights = [0; BINS];
        let weight = samples.min(u32::from(MEMORY)) * u32::from(WEIGHT);
        let bin = self.bin(self.value);
        if let Some(slot) = self.weights.get_mut(bin) {
            *slot = u8::try_from(weight).unwrap_or(u8::MAX);
        }
    }

    fn total(&self) -> u32 {
        self.weights.iter().map(|&weight| u32::from(weight)).sum()
    }

    fn bin(&self, sample: u64) -> usize {
        let ppm = u128::from(sample) * 1_000_000 / u128::from(self.declared);
        let above = EDGES.partition_point(|&edge| u128::from(edge) <= ppm);
        above.saturating_sub(1).min(BINS - 1)
    }

    fn within(&self, value: u64) -> u64 {
        if seeded(Bug::LearnedUnbounded) {
            return value.max(1);
        }
        let least = (self.declared / SPAN).max(1);
        value.clamp(least, self.declared.saturating_mul(SPAN))
    }

    /// The median of the samples, between the ends of its bin in proportion.
    fn median(&self) -> u64 {
        let total = u64::from(self.total());
        let mut below = 0_u64;
        for (&weight, ends) in self.weights.iter().zip(EDGES.windows(2)) {
            let weight = u64::from(weight);
            if let [low, high] = *ends
                && weight > 0
                && 2 * (below + weight) >= total
            {
                let ppm = low + (high - low) * total.saturating_sub(2 * below) / (2 * weight);
                return self.within(cut(u128::from(self.declared) * u128::from(ppm) / 1_000_000));
            }
            below += weight;
        }
        self.value
    }
}

fn cut(wide: u128) -> u64 {
    u64::try_from(wide).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
