//! What the workloads report about themselves, read so that it can be trusted.
//!
//! ```text
//! scraper      -> bytes of a pod's metrics endpoint      (I/O; address, size and time checked)
//! exposition   -> samples of those bytes
//! presets      -> the few signals that count, in one unit each
//! metrics_api  -> the same signals from metrics.k8s.io   (I/O)
//! sources      -> what administrators say about the sources below
//! prometheus   -> numbers of pods and stages from Prometheus-compatible servers       (I/O in its client)
//! adapters     -> the same from custom.metrics.k8s.io and external.metrics.k8s.io      (I/O)
//! stage        -> numbers that are a stage's and no pod's
//! aggregate    -> pods of one variant to one reading for the rebalancing core
//! ```
//!
//! Missing is not zero: a number that is not there, not finite, out of range, too old or not unique is an absence with
//! its reason, and no type here has a default that could hide it. Time is an argument; only the files that do I/O wait.

pub mod adapters;
pub mod address;
pub mod aggregate;
pub mod exposition;
pub mod metrics_api;
pub mod presets;
pub mod prometheus;
pub mod scraper;
pub mod sources;
pub mod stage;

/// A finite double. Made by [`TryFrom`] only.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Finite(f64);

impl TryFrom<f64> for Finite {
    type Error = Why;

    fn try_from(number: f64) -> Result<Self, Why> {
        if number.is_finite() {
            Ok(Self(number))
        } else {
            Err(Why::NotFinite)
        }
    }
}

impl Finite {
    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }

    /// The number in thousandths, rounded to the nearest. `None` if negative or beyond what a double counts exactly.
    pub fn thousandths(self) -> Option<u64> {
        const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
        let thousandths = (self.0 * 1_000.0).round();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be in range"
        )]
        (0.0..=EXACT_MAX).contains(&thousandths).then_some(thousandths as u64)
    }
}

/// Why there is no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Why {
    /// Nothing to ask: the pod has no address yet, or was never asked.
    #[error("no target: the pod has no address yet or has not been asked yet")]
    NoTarget,
    /// It answered, and what was asked for is not in the answer.
    #[error("no such series: check that the server's metrics are switched on and that the preset is the right one")]
    NoSeries,
    /// No answer: connection refused or reset, or an error from the server.
    #[error("unreachable: check the port and path of the signal, and network policies")]
    Unreachable,
    /// The address may not be scraped, or the server wants a credential or a redirect.
    #[error("denied: the address is not allowed, or the endpoint redirects or wants a credential")]
    Denied,
    /// No full answer within the deadline.
    #[error("timed out: the endpoint does not answer within the deadline")]
    Timeout,
    /// The answer is beyond a limit.
    #[error("too large: the endpoint exposes more than 2 MiB, 20000 lines or 64 labels per series")]
    TooLarge,
    /// The answer, or the line that counts, cannot be read.
    #[error("malformed: the endpoint does not answer in the Prometheus text format")]
    Malformed,
    /// NaN or an infinity.
    #[error("not a finite number")]
    NotFinite,
    /// Negative, or beyond what the unit allows: usually the wrong unit.
    #[error("out of range: negative, or in another unit than the preset says")]
    OutOfRange,
    /// The same series twice.
    #[error("ambiguous: the same series occurs twice")]
    Ambiguous,
    /// The numbers stand still while the pod claims to work, or an old answer is being repeated.
    #[error("frozen: the numbers stand still while the pod claims to work")]
    Frozen,
    /// The source says that its answer is not all of it.
    #[error("partial: the source could not look at all of its data")]
    Partial,
}

/// A number with its two ages: local receipt, and the source's own time where the source gives one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// The number, in the unit of its role.
    pub value: Finite,
    /// When it was received, monotonic milliseconds.
    pub received_ms: u64,
    /// The source's time in milliseconds, on the source's clock: only compared with the same source's other times.
    pub source_ms: Option<i64>,
}

/// What is known of one number of one pod now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reading {
    /// Received and made recently enough.
    Fresh(Sample),
    /// Too old, or of unproven age: may hold a decision up, never shrink anything.
    Stale(Sample),
    /// Not there.
    Absent(Why),
}

/// What one pod said in one answer. Counts are requests; ratios are 0 to 1 unless the role says otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct PodSignals {
    /// Requests being handled.
    pub running: Result<Finite, Why>,
    /// Requests waiting in the pod.
    pub waiting: Result<Finite, Why>,
    /// Share of the key-value cache in use, 0 to 1.
    pub cache_use: Result<Finite, Why>,
    /// Share of the pod's capacity in use; beyond 1 where it is measured against a request that may be exceeded.
    pub utilization: Result<Finite, Why>,
    /// Requests finished since the server started: a counter.
    pub finished: Result<Finite, Why>,
    /// Requests per second, where the source counts them itself instead of showing a counter.
    pub rate: Result<Finite, Why>,
    /// How long finished requests took together: counters.
    pub served: Result<Served, Why>,
    /// The oldest source time among the numbers used, if the source gives times: milliseconds on its own clock.
    pub source_ms: Option<i64>,
    /// Changes whenever the answer does.
    pub fingerprint: u64,
}

impl PodSignals {
    /// What the role of throughput is about: requests per second if the source counts them, else the counter.
    pub fn throughput(&self) -> Result<Finite, Why> {
        match self.rate {
            Err(Why::NoSeries) => self.finished,
            told => told,
        }
    }
}

/// Requests finished since the server started, and the time that they took together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Served {
    /// Seconds, added up over the requests.
    pub seconds: Finite,
    /// How many requests.
    pub requests: Finite,
}

impl Served {
    /// Seconds that a request took on average between an earlier reading and this one. `None` where nothing was finished in
    /// between, and where a counter fell, as it does when the server starts again.
    pub fn mean_since(&self, earlier: &Self) -> Option<Finite> {
        let seconds = self.seconds.get() - earlier.seconds.get();
        let requests = self.requests.get() - earlier.requests.get();
        if seconds >= 0.0 && requests > 0.0 {
            Finite::try_from(seconds / requests).ok()
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_not_finite_is_no_number() {
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(Finite::try_from(number), Err(Why::NotFinite));
        }
        assert_eq!(Finite::try_from(-0.5).map(Finite::get), Ok(-0.5));
    }

    #[test]
    fn a_mean_needs_finished_requests_and_counters_that_did_not_fall() {
        let served = |seconds, requests| Served {
            seconds: Finite(seconds),
            requests: Finite(requests),
        };
        let mean = |now: Served| now.mean_since(&served(100.0, 40.0)).map(Finite::get);
        assert_eq!(mean(served(103.0, 46.0)), Some(0.5));
        assert_eq!(mean(served(100.0, 40.0)), None);
        assert_eq!(mean(served(1.0, 2.0)), None);
        assert_eq!(mean(served(99.0, 46.0)), None);
    }

    proptest! {
        #[test]
        fn thousandths_are_within_half_a_thousandth_or_refused(number in proptest::num::f64::ANY) {
            if let Ok(finite) = Finite::try_from(number) {
                match finite.thousandths() {
                    #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
                    Some(thousandths) => prop_assert!((thousandths as f64 - number * 1_000.0).abs() <= 0.5),
                    None => prop_assert!(!(0.0..=9.0e12).contains(&number)),
                }
            }
        }
    }
}
