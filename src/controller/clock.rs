//! The one place of the controller that reads a clock. Everything else is handed `now_ms`.

use std::time::Duration;

use tokio::time::Instant;

/// Monotonic milliseconds since the clock was made, once per process. Clones count from the same moment.
///
/// Built on tokio's clock, so that a test that pauses time pauses this one too.
#[derive(Clone, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// Starts counting at zero.
    #[allow(
        clippy::disallowed_methods,
        reason = "the controller's only reading of the monotonic clock"
    )]
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// A clock that has run for `age` already.
    #[cfg(test)]
    pub(crate) fn started_ago(age: Duration) -> Self {
        let mut clock = Self::start();
        clock.origin -= age;
        clock
    }

    /// Milliseconds since [`Clock::start`]. Never goes back.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Now, for measuring how long something took.
    pub fn now(&self) -> Instant {
        self.origin + self.origin.elapsed()
    }

    /// The moment `at_ms` on this clock, for tokio's timers. A moment beyond a century is a century away.
    pub fn instant(&self, at_ms: u64) -> Instant {
        const CENTURY_MS: u64 = 100 * 365 * 24 * 60 * 60 * 1000;
        self.origin + Duration::from_millis(at_ms.min(CENTURY_MS))
    }

    /// Wall time, for what people read. It jumps, so nothing is decided by it.
    #[allow(clippy::disallowed_methods, reason = "for display and records only")]
    pub fn wall(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn paused_time_moves_the_clock_by_exactly_what_was_slept() {
        let clock = Clock::start();
        let copy = clock.clone();
        assert_eq!(clock.now_ms(), 0);
        tokio::time::sleep(Duration::from_millis(1_234)).await;
        assert_eq!((clock.now_ms(), copy.now_ms()), (1_234, 1_234));
        tokio::time::sleep_until(clock.instant(2_000)).await;
        assert_eq!(clock.now_ms(), 2_000);
    }

    #[tokio::test(start_paused = true)]
    async fn an_absurd_moment_does_not_overflow() {
        let clock = Clock::start();
        assert!(clock.instant(u64::MAX) > clock.instant(1));
    }
}
