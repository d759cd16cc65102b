//! A token bucket that learns from refusals: halves its rate when the server says "too many", recovers evenly. Pure.
//!
//! Until it has recovered it saves nothing up: writes that come all at once are what the server had no room for.

/// How many writes, and how many at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Writes per second, at least 1.
    pub per_second: u32,
    /// Writes at once, at least 1.
    pub burst: u32,
}

/// A token in its smallest unit: a rate in thousandths per second times milliseconds is in millionths.
const TOKEN: i64 = 1_000_000;
/// The rate never falls below this part of the configured one.
const RATE_MIN_DIVISOR: i64 = 32;
/// Refusals within so long count as one: they answer the same flood.
const REFUSAL_INTERVAL_MS: u64 = 1_000;
/// From the lowest rate back to the configured one.
const RECOVERY_MS: i64 = 20_000;
/// A server that asks for a longer pause is asked again earlier.
const PAUSE_MS_MAX: u64 = 10_000;
/// Longest stretch of time accounted for at once. Keeps the largest rate from overflowing.
const ELAPSED_MS_MAX: u64 = 1_000_000;

/// The bucket. Who asks first is to be served first: that is its caller's to see to.
#[derive(Clone, Debug)]
pub(super) struct TokenBucket {
    /// Thousandths of a token per second.
    full_rate: i64,
    capacity: i64,
    /// Millionths of a token.
    tokens: i64,
    /// Until when tokens have been handed out; ahead of the time during a pause.
    updated_ms: u64,
    refusal: Option<Refusal>,
}

#[derive(Clone, Copy, Debug)]
struct Refusal {
    at_ms: u64,
    /// Rate right after it.
    rate: i64,
}

impl TokenBucket {
    /// A full bucket.
    pub(super) fn new(rate: Rate) -> Self {
        let capacity = i64::from(rate.burst.max(1)) * TOKEN;
        let full_rate = i64::from(rate.per_second.max(1)) * 1_000;
        Self {
            full_rate,
            capacity,
            tokens: capacity,
            updated_ms: 0,
            refusal: None,
        }
    }

    /// Takes a token and returns zero, or takes none and returns in how many milliseconds to ask again. Nothing is promised
    /// for then: a refusal meanwhile holds for those that wait, too.
    pub(super) fn take(&mut self, now_ms: u64) -> u64 {
        self.advance(now_ms);
        let pause_ms = self.updated_ms.saturating_sub(now_ms);
        let lacks = u64::try_from(TOKEN - self.tokens).unwrap_or_default();
        if pause_ms == 0 && lacks == 0 {
            self.tokens -= TOKEN;
            return 0;
        }
        pause_ms.saturating_add(lacks.div_ceil(self.rate_millis(self.updated_ms).unsigned_abs()))
    }

    /// The server refused a call and perhaps asked for a pause. Empties the bucket and halves the rate, the latter once per
    /// second at most.
    pub(super) fn refused(&mut self, now_ms: u64, retry_after_ms: Option<u64>) {
        self.advance(now_ms);
        self.tokens = 0;
        let pause_ms = retry_after_ms.unwrap_or_default().min(PAUSE_MS_MAX);
        self.updated_ms = self.updated_ms.max(now_ms.saturating_add(pause_ms));
        if self
            .refusal
            .is_none_or(|refusal| now_ms.saturating_sub(refusal.at_ms) >= REFUSAL_INTERVAL_MS)
        {
            let rate = (self.rate_millis(now_ms) / 2).max(self.full_rate / RATE_MIN_DIVISOR);
            self.refusal = Some(Refusal { at_ms: now_ms, rate });
        }
    }

    /// Thousandths of a write per second: what the last refusal left, and more with every millisecond since.
    pub(super) fn rate_millis(&self, now_ms: u64) -> i64 {
        let Some(Refusal { at_ms, rate }) = self.refusal else {
            return self.full_rate;
        };
        let since_ms = now_ms.saturating_sub(at_ms).min(ELAPSED_MS_MAX).cast_signed();
        (rate + self.full_rate * since_ms / RECOVERY_MS).min(self.full_rate)
    }

    /// Lets time pass. Tokens come at the rate of the beginning: while it recovers that is the cautious side.
    fn advance(&mut self, now_ms: u64) {
        let elapsed_ms = now_ms.saturating_sub(self.updated_ms).min(ELAPSED_MS_MAX).cast_signed();
        if elapsed_ms > 0 {
            let saved = if self.rate_millis(now_ms) < self.full_rate {
                TOKEN
            } else {
                self.capacity
            };
            self.tokens = (self.tokens + self.rate_millis(self.updated_ms) * elapsed_ms).min(saved);
            self.updated_ms = now_ms;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        per_second: 10,
        burst: 20,
    };

    /// When writes go that all wait from `now_ms` on.
    fn sent(bucket: &mut TokenBucket, mut now_ms: u64, writes: usize) -> Vec<u64> {
        let turn = |_| loop {
            match bucket.take(now_ms) {
                0 => break now_ms,
                wait_ms => now_ms += wait_ms,
            }
        };
        (0..writes).map(turn).collect()
    }

    #[test]
    fn a_burst_passes_at_once_and_the_rest_at_the_rate() {
        let mut bucket = TokenBucket::new(RATE);
        let went = sent(&mut bucket, 0, 25);
        assert_eq!(went[..20], [0; 20]);
        assert_eq!(went[20..], [100, 200, 300, 400, 500]);
        assert_eq!(bucket.take(500), 100, "five are paid off, this is the next");
        let went = sent(&mut bucket, 60_000, 21);
        assert_eq!(went[..20], [60_000; 20]);
        assert_eq!(went[20], 60_100, "a full bucket holds twenty, no more");
    }

    #[test]
    fn no_more_writes_than_rate_and_burst_in_any_pattern_of_arrivals() {
        let mut bucket = TokenBucket::new(RATE);
        // A small generator; the seed is part of the pattern.
        let (mut seed, mut came_ms, mut went) = (7_u64, 0, Vec::new());
        for _ in 0..5_000 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            came_ms += (seed >> 33) % 130;
            let last_ms = went.last().copied().unwrap_or_default();
            went.extend(sent(&mut bucket, came_ms.max(last_ms), 1));
        }
        assert!(went.is_sorted(), "first come, first served");
        for (first, from_ms) in went.iter().enumerate() {
            let within = went[first..]
                .iter()
                .take_while(|at_ms| **at_ms < from_ms + 10_000)
                .count();
            assert!(within <= 121, "seed 7: {within} writes in 10 s from {from_ms} ms");
        }
    }

    #[test]
    fn a_refusal_halves_the_rate_and_time_brings_it_back() {
        let mut bucket = TokenBucket::new(RATE);
        bucket.refused(1_000, None);
        assert_eq!(bucket.rate_millis(1_000), 5_000);
        assert_eq!(sent(&mut bucket, 1_000, 2), [1_200, 1_397], "the bucket is empty");
        bucket.refused(1_500, None);
        assert_eq!(bucket.rate_millis(1_500), 5_250, "the same flood counts once");
        bucket.refused(2_000, None);
        assert_eq!(bucket.rate_millis(2_000), 2_750);
        assert_eq!(bucket.rate_millis(3_000), 3_250);
        assert_eq!(bucket.rate_millis(60_000), 10_000);
    }

    #[test]
    fn a_refusal_holds_for_those_that_wait_already() {
        let mut bucket = TokenBucket::new(RATE);
        sent(&mut bucket, 0, 20);
        assert_eq!(bucket.take(0), 100);
        bucket.refused(50, Some(2_000));
        assert_eq!(
            bucket.take(100),
            1_950 + 167,
            "the pause, and its turn at the rate after it"
        );
    }

    #[test]
    fn nothing_is_saved_up_until_the_rate_has_recovered() {
        let mut bucket = TokenBucket::new(RATE);
        bucket.refused(0, None);
        // Five seconds at five per second and more: once that was a full bucket.
        assert_eq!(sent(&mut bucket, 5_000, 3), [5_000, 5_134, 5_267]);
        assert_eq!(sent(&mut bucket, 60_000, 20), [60_000; 20], "as before");
    }

    #[test]
    fn the_rate_has_a_floor_and_never_leaves_a_caller_without_an_end() {
        let mut bucket = TokenBucket::new(Rate {
            per_second: 1,
            burst: 1,
        });
        for second in 0..100 {
            bucket.refused(second * 1_000, None);
        }
        let rate = bucket.rate_millis(99_000);
        assert!((31..=100).contains(&rate), "{rate}");
        assert!(bucket.take(99_000) <= 33_000);
        let mut odd = TokenBucket::new(Rate {
            per_second: 0,
            burst: 0,
        });
        assert_eq!(sent(&mut odd, 0, 2), [0, 1_000], "zero is taken for one");
    }

    #[test]
    fn a_pause_the_server_asks_for_is_kept_but_not_beyond_ten_seconds() {
        let mut bucket = TokenBucket::new(RATE);
        bucket.refused(0, Some(3_000));
        assert_eq!(
            sent(&mut bucket, 0, 2),
            [3_154, 3_307],
            "in turn after the pause, not all at once"
        );
        let mut bucket = TokenBucket::new(RATE);
        bucket.refused(0, Some(u64::MAX));
        assert_eq!(sent(&mut bucket, 0, 1), [10_100]);
    }

    #[test]
    fn a_clock_that_stands_still_or_leaps_breaks_nothing() {
        let mut bucket = TokenBucket::new(Rate {
            per_second: u32::MAX,
            burst: u32::MAX,
        });
        assert_eq!(bucket.take(u64::MAX), 0);
        bucket.refused(u64::MAX, Some(u64::MAX));
        assert!(bucket.take(5) >= u64::MAX - 5);
    }
}
