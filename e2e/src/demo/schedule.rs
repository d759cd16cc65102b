//! How long everything lasts. Load, start-up times and windows are sped up by one factor, so that an hour's story keeps
//! its proportions.

use std::time::Duration;

use tiercel::api::TieredPipeline;

use crate::load::{Recording, Trace, TraceError};

/// Requests per second of the demo for each one of the recording, beyond the speed-up: 2 cores serve every call over HTTP.
const REQUESTS_PER_S_MEAN: f64 = 6.6;
/// Where in the recording the spot pool dries up, and where its capacity returns: around the busiest quarter of an hour.
const DRY: f64 = 0.42;
const BACK: f64 = 0.60;
/// Seed of everything drawn at random.
pub const SEED: u64 = 20_231_116;

/// Times of one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Seconds of the recording per second of the demo.
    pub speed: f64,
    /// Length of the load.
    pub load: Duration,
    /// From the start of the load to the pool's last free node.
    pub dry: Duration,
    /// From the start of the load to the return of the capacity.
    pub back: Duration,
    /// Notice before the first replica is taken.
    pub notice: Duration,
    /// Pause between two replicas that are taken.
    pub between: Duration,
}

impl Schedule {
    /// The recorded hour in about five minutes, or in two.
    pub fn new(fast: bool) -> Self {
        let (speed, notice, between) = if fast {
            (28.0, 5_000, 800)
        } else {
            (12.0, 10_000, 1_500)
        };
        let load = Duration::from_secs_f64(3_500.0 / speed);
        Self {
            speed,
            load,
            dry: load.mul_f64(DRY),
            back: load.mul_f64(BACK),
            notice: Duration::from_millis(notice),
            between: Duration::from_millis(between),
        }
    }

    /// The recorded arrivals, sped up and thinned to what this machine can serve.
    pub fn trace(&self) -> Result<Trace, TraceError> {
        let trace = Trace::recorded(Recording::AzureConversation)?;
        #[allow(clippy::cast_precision_loss)] // 19,366 arrivals
        let mean = trace.arrivals().len() as f64 / trace.span().as_secs_f64().max(1.0);
        let thinned = trace.amplify(REQUESTS_PER_S_MEAN / (mean * self.speed), SEED);
        Ok(thinned.compress(self.speed).slice(Duration::ZERO, self.load))
    }

    /// The pipeline with every duration divided by the speed, as the load is; at least what the API allows.
    #[must_use]
    pub fn sped_up(&self, mut pipeline: TieredPipeline) -> TieredPipeline {
        let shorter = |seconds: i32, least: i32| {
            #[allow(clippy::cast_possible_truncation)] // a part of an i32
            let scaled = (f64::from(seconds) / self.speed).ceil() as i32;
            scaled.max(least).min(seconds)
        };
        for stage in &mut pipeline.spec.stages {
            stage.startup_seconds = shorter(stage.startup_seconds, 1);
            for profile in &mut stage.profiles {
                profile.startup_seconds = profile.startup_seconds.map(|seconds| shorter(seconds, 1));
            }
            stage.signal.loss_seconds = shorter(stage.signal.loss_seconds, 5);
            let (up, down) = (&mut stage.scaling.scale_up, &mut stage.scaling.scale_down);
            up.stabilization_window_seconds = shorter(up.stabilization_window_seconds, 0);
            down.stabilization_window_seconds = shorter(down.stabilization_window_seconds, 1);
            stage.disruption.drain_seconds = shorter(stage.disruption.drain_seconds, 1);
            #[allow(clippy::cast_possible_truncation)] // cut to 10,000
            let moves = (f64::from(stage.disruption.max_moves_per_hour) * self.speed).min(10_000.0) as i32;
            stage.disruption.max_moves_per_hour = moves;
        }
        pipeline
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::models::tests::sample;

    #[test]
    fn both_lengths_send_the_same_rate_and_fit_their_time() {
        for (fast, seconds) in [(false, 292.0), (true, 125.0)] {
            let schedule = Schedule::new(fast);
            let trace = schedule.trace().unwrap();
            let rate = f64::from(u32::try_from(trace.arrivals().len()).unwrap()) / schedule.load.as_secs_f64();
            assert!((5.5..=7.5).contains(&rate), "{rate} requests/s");
            assert!((schedule.load.as_secs_f64() - seconds).abs() < 1.0);
            assert!(schedule.dry < schedule.back && schedule.back < schedule.load);
        }
    }

    #[test]
    fn durations_shrink_with_the_load_and_stay_legal() {
        let schedule = Schedule::new(false);
        let before = sample();
        let after = schedule.sped_up(before.clone());
        let (generate, was) = (&after.spec.stages[3], &before.spec.stages[3]);
        assert_eq!(was.profiles[0].startup_seconds, Some(82));
        assert_eq!(generate.profiles[0].startup_seconds, Some(7));
        assert_eq!(generate.scaling.scale_down.stabilization_window_seconds, 10);
        assert_eq!(generate.signal.loss_seconds, 15);
        assert_eq!(generate.disruption.max_moves_per_hour, 720);
        assert_eq!(generate.replicas, was.replicas, "bounds are no durations");
    }
}
