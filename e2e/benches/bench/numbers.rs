//! Samples to medians, tails and tables.

use serde::Serialize;

/// What is said about a set of samples, in the samples' unit.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Summary {
    /// Samples.
    pub(crate) n: usize,
    /// Least.
    pub(crate) min: f64,
    /// Median.
    pub(crate) p50: f64,
    /// 90th percentile.
    pub(crate) p90: f64,
    /// 99th percentile; the largest for fewer than 100 samples.
    pub(crate) p99: f64,
    /// Most.
    pub(crate) max: f64,
}

/// Nearest-rank percentiles.
pub(crate) fn summary(samples: &[f64]) -> Summary {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = |percent: usize| {
        let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(at).copied().unwrap_or_default()
    };
    Summary {
        n: sorted.len(),
        min: sorted.first().copied().unwrap_or_default(),
        p50: rank(50),
        p90: rank(90),
        p99: rank(99),
        max: sorted.last().copied().unwrap_or_default(),
    }
}

/// Prints one row of a table of summaries.
pub(crate) fn print(what: &str, unit: &str, of: Summary) {
    println!(
        "{what:<58} {:>5} p50 {:>9.2} p90 {:>9.2} p99 {:>9.2} max {:>9.2} {unit}",
        of.n, of.p50, of.p90, of.p99, of.max
    );
}

/// `above / below`, nothing where there is no such number.
pub(crate) fn ratio(above: f64, below: f64) -> Option<f64> {
    (below > 0.0).then(|| above / below)
}

/// A small generator for draws that have to be the same in every run (the finalizer of `SplitMix64`).
#[derive(Clone, Debug)]
pub(crate) struct Draws(pub(crate) u64);

impl Draws {
    /// A number below `end`, which must not be 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end.max(1)
    }
}
