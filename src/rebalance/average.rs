//! Demand averaged over a while, and what stands out of it: noise is not followed, a step is.
//!
//! An average lags behind a real change by half its window, so growth does not wait for it: a reading that stands out by more
//! than noise counts at once. What is noise is known in two ways. Requests that come independently of each other scatter around
//! a mean `m` of requests by `√m`; three times that is noise without any history. And a spike that was there before, and that
//! neither the average before it nor the one after it bore out, is noise from then on.

use std::collections::VecDeque;

use super::demand::{Range, Rescale, cut};

/// Parts of a window.
const BUCKETS: usize = 16;

/// Standard deviations that noise may be away from its mean.
const DEVIATIONS: u64 = 3;

/// The highest spike is remembered for one to two times so long.
const SPIKES_MS: u64 = 3_600_000;

/// A part of the window. A value counts from the one before it until itself.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    start_ms: u64,
    span_ms: u64,
    mean: Range,
    /// Highest value, low end.
    peak: u64,
    /// Average of the window when that came.
    before: u64,
}

impl Bucket {
    fn add(&mut self, span_ms: u64, seen: Range, average: u64) {
        let whole_ms = self.span_ms.saturating_add(span_ms);
        let mean = |old: u64, new: u64| {
            let sum = u128::from(old) * u128::from(self.span_ms) + u128::from(new) * u128::from(span_ms);
            cut(sum / u128::from(whole_ms.max(1)))
        };
        self.mean = Range {
            low: mean(self.mean.low, seen.low),
            high: mean(self.mean.high, seen.high),
        };
        self.span_ms = whole_ms;
        if seen.low > self.peak {
            (self.peak, self.before) = (seen.low, average);
        }
    }
}

/// A sliding average.
#[derive(Clone, Debug, Default)]
pub(super) struct Average {
    /// Oldest first, at most [`BUCKETS`]. Most stages stand still, and then there is one.
    buckets: VecDeque<Bucket>,
    taken_ms: Option<u64>,
    pub(super) mean: Option<Range>,
    /// A value that has not changed, and since when.
    still: Option<(Range, u64)>,
    /// The highest spike of this period and of the one before, above what surrounded it.
    spikes: (u64, u64),
    spikes_since_ms: u64,
}

impl Average {
    /// Earlier values say nothing any more.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// What the values are measured in has changed.
    pub(super) fn rescale(&mut self, ratio: Rescale) {
        for bucket in &mut self.buckets {
            bucket.mean = ratio.of_range(bucket.mean);
            bucket.peak = ratio.of(bucket.peak);
            bucket.before = ratio.of(bucket.before);
        }
        self.mean = self.mean.map(|mean| ratio.of_range(mean));
        self.still = self.still.map(|(value, since_ms)| (ratio.of_range(value), since_ms));
        self.spikes = (ratio.of(self.spikes.0), ratio.of(self.spikes.1));
    }

    /// The values come to an end; how noisy they were stays known.
    pub(super) fn pause(&mut self) {
        self.buckets.clear();
        (self.taken_ms, self.mean, self.still) = (None, None, None);
    }

    /// Adds what is seen now and returns the average of the last `window_ms`. Without a window it is what is seen.
    pub(super) fn follow(&mut self, now_ms: u64, window_ms: u64, seen: Range) -> Range {
        if window_ms == 0 {
            self.pause();
            return seen;
        }
        let span_ms = now_ms.saturating_sub(self.taken_ms.unwrap_or(now_ms)).min(window_ms);
        self.taken_ms = Some(now_ms);
        let since_ms = match self.still {
            Some((value, since_ms)) if value == seen => since_ms,
            _ => now_ms,
        };
        self.still = Some((seen, since_ms));
        self.turn(now_ms);
        if now_ms.saturating_sub(since_ms) > window_ms && self.mean == Some(seen) {
            self.settle(now_ms, window_ms, seen);
            return seen;
        }
        if span_ms > 0 {
            self.enter(now_ms, window_ms, span_ms, seen);
            self.leave(window_ms);
            self.mean = Some(self.sum());
        }
        *self.mean.get_or_insert(seen)
    }

    /// Whether `seen` stands out of the average by more than noise. `one` is what one request more shows as.
    pub(super) fn stands_out(&self, seen: u64, one: u64) -> bool {
        let Some(mean) = self.mean else { return false };
        let scatter = (u128::from(mean.low) * u128::from(one)).isqrt();
        let scatter = cut(scatter.saturating_mul(u128::from(DEVIATIONS)));
        let spike = self.spikes.0.max(self.spikes.1);
        // Records are broken by little.
        let noise = scatter.max(spike.saturating_add(spike / 4));
        seen > mean.low.saturating_add(noise)
    }

    /// All the window holds is one value.
    fn settle(&mut self, now_ms: u64, window_ms: u64, seen: Range) {
        self.buckets.clear();
        self.buckets.shrink_to(1);
        self.buckets.push_back(Bucket {
            start_ms: now_ms,
            span_ms: window_ms,
            mean: seen,
            peak: seen.low,
            before: seen.low,
        });
    }

    fn enter(&mut self, now_ms: u64, window_ms: u64, span_ms: u64, seen: Range) {
        let width_ms = (window_ms / BUCKETS as u64).max(1);
        let average = self.mean.unwrap_or(seen).low;
        let open = self
            .buckets
            .back()
            .is_some_and(|newest| newest.span_ms < width_ms && now_ms < newest.start_ms.saturating_add(width_ms));
        if !open {
            if self.buckets.len() == BUCKETS {
                self.drop_oldest();
            }
            self.buckets.push_back(Bucket {
                start_ms: now_ms.saturating_sub(span_ms),
                ..Bucket::default()
            });
        }
        if let Some(newest) = self.buckets.back_mut() {
            newest.add(span_ms, seen, average);
        }
    }

    /// What is older than the window leaves it.
    fn leave(&mut self, window_ms: u64) {
        let whole_ms = self
            .buckets
            .iter()
            .fold(0_u64, |sum, bucket| sum.saturating_add(bucket.span_ms));
        let mut excess_ms = whole_ms.saturating_sub(window_ms);
        while excess_ms > 0 {
            let Some(oldest) = self.buckets.front_mut() else {
                return;
            };
            if oldest.span_ms > excess_ms {
                oldest.span_ms -= excess_ms;
                return;
            }
            excess_ms -= oldest.span_ms;
            self.drop_oldest();
        }
    }

    /// A spike that neither what came before nor what came after bears out is noise.
    fn drop_oldest(&mut self) {
        let gone = self.buckets.pop_front().unwrap_or_default();
        let after = self.sum().low;
        self.spikes.0 = self.spikes.0.max(gone.peak.saturating_sub(gone.before.max(after)));
    }

    /// Forgets spikes of long ago.
    fn turn(&mut self, now_ms: u64) {
        if now_ms >= self.spikes_since_ms.saturating_add(SPIKES_MS) {
            self.spikes = (0, self.spikes.0);
            self.spikes_since_ms = now_ms;
        }
    }

    fn sum(&self) -> Range {
        let (mut low, mut high, mut span_ms) = (0_u128, 0_u128, 0_u128);
        for bucket in &self.buckets {
            low += u128::from(bucket.mean.low) * u128::from(bucket.span_ms);
            high += u128::from(bucket.mean.high) * u128::from(bucket.span_ms);
            span_ms += u128::from(bucket.span_ms);
        }
        Range {
            low: cut(low / span_ms.max(1)),
            high: cut(high / span_ms.max(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW_MS: u64 = 64_000;

    fn exact(value: u64) -> Range {
        Range {
            low: value,
            high: value,
        }
    }

    /// Follows one value per second and returns the last average.
    fn feed(average: &mut Average, now_ms: &mut u64, seconds: u64, value: impl Fn(u64) -> u64) -> u64 {
        let mut last = 0;
        for second in 0..seconds {
            *now_ms += 1_000;
            last = average.follow(*now_ms, WINDOW_MS, exact(value(second))).low;
        }
        last
    }

    #[test]
    fn the_average_is_that_of_the_window_and_of_nothing_older() {
        let (mut average, mut now_ms) = (Average::default(), 5_000);
        assert_eq!(feed(&mut average, &mut now_ms, 200, |_| 10_000), 10_000);
        let half = feed(&mut average, &mut now_ms, 32, |_| 20_000);
        assert!((14_990..=15_010).contains(&half), "{half}");
        let whole = feed(&mut average, &mut now_ms, 32, |_| 20_000);
        assert!((19_990..=20_000).contains(&whole), "{whole}");
        assert_eq!(feed(&mut average, &mut now_ms, 70, |_| 20_000), 20_000);
    }

    #[test]
    fn how_often_it_is_asked_does_not_change_it() {
        let (mut often, mut seldom) = (Average::default(), Average::default());
        for second in 1..400_u64 {
            let value = exact(1_000 * (second % 13));
            let last = seldom.follow(second * 1_000, WINDOW_MS, value);
            for part in 1..4 {
                often.follow(second * 1_000 - 1_000 + part * 250, WINDOW_MS, value);
            }
            let asked = often.follow(second * 1_000, WINDOW_MS, value);
            assert!(
                asked.low.abs_diff(last.low) < 500,
                "second {second}: {asked:?} {last:?}"
            );
        }
    }

    #[test]
    fn without_a_window_there_is_no_average() {
        let mut average = Average::default();
        for value in [5, 900, 2] {
            assert_eq!(average.follow(value, 0, exact(value)), exact(value));
        }
        assert!(!average.stands_out(1_000_000, 1));
    }

    #[test]
    fn a_step_stands_out_where_readings_stand_still_and_scatter_does_not() {
        let (mut average, mut now_ms) = (Average::default(), 0);
        feed(&mut average, &mut now_ms, 90, |_| 40_000);
        // Forty requests at a time scatter by six: nineteen more are a step, eighteen are not.
        assert!(average.stands_out(59_000, 1_000));
        assert!(!average.stands_out(58_000, 1_000));
        // What shows a tenth of a request each scatters less.
        assert!(average.stands_out(47_000, 100));
    }

    #[test]
    fn a_spike_that_did_not_last_is_noise_and_a_step_that_did_is_not() {
        let (mut spiky, mut now_ms) = (Average::default(), 0);
        feed(&mut spiky, &mut now_ms, 90, |_| 10_000);
        assert!(spiky.stands_out(30_000, 100));
        feed(&mut spiky, &mut now_ms, 3, |_| 30_000);
        feed(&mut spiky, &mut now_ms, 90, |_| 10_000);
        assert!(!spiky.stands_out(30_000, 100), "{:?}", spiky.spikes);
        assert!(spiky.stands_out(36_000, 100));

        let (mut stepped, mut now_ms) = (Average::default(), 0);
        feed(&mut stepped, &mut now_ms, 90, |_| 10_000);
        feed(&mut stepped, &mut now_ms, 90, |_| 30_000);
        feed(&mut stepped, &mut now_ms, 90, |_| 10_000);
        assert!(stepped.stands_out(20_000, 100), "{:?}", stepped.spikes);
    }

    #[test]
    fn a_spike_is_forgotten_after_two_periods() {
        let (mut average, mut now_ms) = (Average::default(), 0);
        feed(&mut average, &mut now_ms, 90, |_| 10_000);
        feed(&mut average, &mut now_ms, 3, |_| 30_000);
        feed(&mut average, &mut now_ms, 3_000, |_| 10_000);
        assert!(!average.stands_out(25_000, 100));
        feed(&mut average, &mut now_ms, 7_300, |_| 10_000);
        assert!(average.stands_out(25_000, 100));
    }

    #[test]
    fn values_at_the_edge_of_the_range_do_not_overflow() {
        let mut average = Average::default();
        for (now_ms, value) in [
            (0, u64::MAX),
            (u64::MAX / 2, 0),
            (u64::MAX - 1, u64::MAX),
            (u64::MAX, 1),
        ] {
            average.follow(now_ms, u64::MAX, exact(value));
            average.stands_out(u64::MAX, u64::MAX);
        }
    }
}
