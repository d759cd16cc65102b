//! Synthetic load: a rate over time, turned into arrivals.

use std::time::Duration;

use super::rng::Rng;
use super::trace::{Arrival, Trace};

/// How arrivals lie around the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spacing {
    /// Evenly: as if by a clock.
    Regular,
    /// A Poisson process drawn from this seed.
    Poisson(u64),
}

/// Requests per second over time: straight lines between points. Two points at one time make a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Rate {
    points: Vec<(Duration, f64)>,
}

impl Rate {
    /// The same rate for `length`.
    pub fn constant(per_s: f64, length: Duration) -> Self {
        Self::points([(Duration::ZERO, per_s), (length, per_s)])
    }

    /// `before` until `at`, then `after`, for `length` in all.
    pub fn step(before: f64, after: f64, at: Duration, length: Duration) -> Self {
        Self::points([(Duration::ZERO, before), (at, before), (at, after), (length, after)])
    }

    /// A straight line from `from` to `to`.
    pub fn ramp(from: f64, to: f64, length: Duration) -> Self {
        Self::points([(Duration::ZERO, from), (length, to)])
    }

    /// Straight lines between these points of time and requests per second; points that go back in time are left out.
    pub fn points(points: impl IntoIterator<Item = (Duration, f64)>) -> Self {
        let mut kept: Vec<(Duration, f64)> = Vec::new();
        for (at, per_s) in points {
            if kept.last().is_none_or(|(last, _)| *last <= at) {
                kept.push((at, per_s.max(0.0)));
            }
        }
        Self { points: kept }
    }

    /// Arrivals of this rate, every request of the same size.
    pub fn trace(&self, spacing: Spacing, input_tokens: u32, output_tokens: u32) -> Trace {
        let mut rng = match spacing {
            Spacing::Regular => None,
            Spacing::Poisson(seed) => Some(Rng::new(seed)),
        };
        let mut gap = || rng.as_mut().map_or(1.0, |rng| rng.next_exponential(1.0));
        let mut arrivals = Vec::new();
        // The n-th request comes when the area under the rate reaches the sum of n gaps.
        let mut due = gap();
        let mut area = 0.0;
        for (&(start, from), &(end, to)) in self.points.iter().zip(self.points.iter().skip(1)) {
            let length = end.saturating_sub(start).as_secs_f64();
            let whole = length * f64::midpoint(from, to);
            while due <= area + whole && length > 0.0 {
                let at = time_of(due - area, from, (to - from) / length).min(length);
                arrivals.push(Arrival {
                    at: start + Duration::from_secs_f64(at),
                    input_tokens,
                    output_tokens,
                });
                due += gap();
            }
            area += whole;
        }
        Trace::new("synthetic", arrivals)
    }
}

/// Time at which `from * t + slope * t² / 2` reaches `area`.
fn time_of(area: f64, from: f64, slope: f64) -> f64 {
    let root = (from * from + 2.0 * slope * area).max(0.0).sqrt();
    // The form that does not cancel for small slopes.
    if from + root > 0.0 {
        2.0 * area / (from + root)
    } else {
        0.0
    }
}
