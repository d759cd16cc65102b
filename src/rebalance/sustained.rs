//! What a stage needs for good, without the haste of working off a queue: what pools that are too small are divided by.
//!
//! Where there is room, a queue is served as soon as replicas can serve it: as many as wait are wanted at once. Where there
//! is not, that would give the most to whoever waited longest and leave the others waiting until theirs is longer, and what
//! had been given would stay through the window of shrinking. So among stages that compete a queue counts as what it takes to
//! work it off within [`DRAIN_MS`]; the rest of it gets what is left when all have what they need for good.

use super::average::Average;
use super::bug::{Bug, seeded};
use super::demand::{self, Level, Range, Rescale};
use super::world::{Reading, Stage, Variant};

/// A queue is worked off within this time where not everybody gets what they ask for.
pub(super) const DRAIN_MS: u64 = 120_000;

/// What of a stage's demand lasts.
#[derive(Clone, Debug)]
pub(super) struct Sustained {
    average: Average,
    level: Level,
}

/// What one pass over a stage found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// Demand of its own without the haste; absent if nobody reports.
    pub(super) own: Option<Range>,
    /// What its callers send, averaged.
    pub(super) called: Range,
    /// What they send now, and whether that stands out.
    pub(super) sent: (u64, bool),
    /// What one request more shows as.
    pub(super) one: u64,
    /// What the replicas asked for serve, and the largest of them.
    pub(super) supply: u64,
    /// See `supply`.
    pub(super) grain: u64,
    pub(super) startup_ms: u64,
}

impl Sustained {
    pub(super) fn new() -> Self {
        Self {
            average: Average::default(),
            level: Level::new(),
        }
    }

    /// Units or target changed.
    pub(super) fn forget(&mut self) {
        *self = Self::new();
    }

    /// Capacity is another now: what was measured in it is converted.
    pub(super) fn rescale(&mut self, ratio: Rescale) {
        self.average.rescale(ratio);
        self.level.rescale(ratio);
    }

    /// What lasts of `demand`.
    pub(super) fn of(&self, demand: u64) -> u64 {
        if seeded(Bug::QueuesCountInFull) {
            return demand;
        }
        self.level.held().map_or(demand, |held| held.min(demand))
    }

    /// Follows what is seen, as the demand itself is followed.
    pub(super) fn follow(&mut self, stage: &Stage, found: Found, now_ms: u64) {
        let Some(now) = found.own else {
            self.average.pause();
            self.level.silence();
            if found.called.low > 0 {
                self.level.rise(stage, found.called.low);
            }
            return;
        };
        let window_ms = demand::average_ms(stage, found.startup_ms);
        let average = self.average.follow(now_ms, window_ms, now);
        let (sent, stands_out) = found.sent;
        let mut outstanding = if stands_out { sent } else { 0 };
        if self.average.stands_out(now.low, found.one) {
            outstanding = outstanding.max(now.low);
        }
        let seen = average.max(found.called);
        self.level.follow(stage, seen, found.supply, found.grain, now_ms);
        let lasting_ms = demand::rise_ms(found.startup_ms);
        let newest = now.low.max(sent);
        self.level.stand_out(stage, outstanding, newest, lasting_ms, now_ms);
    }

    /// When what it says may change without anything new being seen.
    pub(super) fn wake_ms(&self) -> Option<u64> {
        let (cooling, rise) = (self.level.cooling_until_ms, self.level.rise_until_ms());
        cooling.into_iter().chain(rise).min()
    }
}

/// A reading whose queue counts as what it takes to work it off within [`DRAIN_MS`]. Only where requests are counted per
/// second and a replica's requests at once are declared is it known what that is.
pub(super) fn unhurried(stage: &Stage, variant: &Variant, reading: Reading) -> Reading {
    let (Some(waiting), Some(slots)) = (reading.waiting_millis, variant.concurrency.filter(|_| stage.rated)) else {
        return reading;
    };
    // Time of one request while all are served at the declared rate.
    let service_ms = u128::from(slots) * 1_000_000 / u128::from(demand::capacity(variant));
    let share = service_ms.min(u128::from(DRAIN_MS));
    let waiting = demand::cut((u128::from(waiting) * share).div_ceil(u128::from(DRAIN_MS)));
    Reading {
        waiting_millis: Some(waiting),
        ..reading
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::super::state::State;
    use super::super::step::step;
    use super::super::world::{Event, VariantIdx};
    use super::*;

    fn declared() -> (Stage, Variant) {
        let world = Fixture::parse("pool a 8\nstage s\n a cap 2 cost 1 has 1/1 at ?").world;
        (world.stages[0].clone(), world.variants[0].clone())
    }

    /// One replica that handles four requests, and 240 that wait.
    const fn full(rate_millis: Option<u64>) -> Reading {
        Reading {
            taken_ms: 0,
            sampled: 1,
            expected: 1,
            running_millis: Some(4_000),
            waiting_millis: Some(240_000),
            utilization_permille: None,
            rate_millis,
        }
    }

    #[test]
    fn a_queue_counts_as_what_works_it_off_within_two_minutes() {
        let (mut stage, mut variant) = declared();
        (stage.rated, stage.target_permille) = (true, 1_000);
        (variant.concurrency, variant.capacity_millis) = (Some(4), 2_000);
        let reading = full(Some(1_000));
        let hurried = demand::of_reading(&stage, &variant, &reading);
        assert_eq!(hurried.low, 122_000, "244 at four in two seconds");
        let unhurried = demand::of_reading(&stage, &variant, &unhurried(&stage, &variant, reading));
        assert_eq!(
            unhurried.low, 4_000,
            "four running are 2 a second, and 240 in 120 s are 2 more"
        );
    }

    #[test]
    fn without_a_declared_rate_nobody_knows_how_long_a_queue_takes() {
        let (mut stage, mut variant) = declared();
        let reading = full(None);
        (stage.rated, variant.concurrency) = (false, Some(4));
        assert_eq!(unhurried(&stage, &variant, reading), reading);
        (stage.rated, variant.concurrency) = (true, None);
        assert_eq!(unhurried(&stage, &variant, reading), reading);
    }

    /// A pool with eight places, and two stages that get two requests a second each, which take two replicas.
    fn competing(waiting: [u64; 2]) -> Vec<u32> {
        let text = "pipe p\npool a 8\nstage x max 40\n a cap 1 cost 1 has 2/2 at ?\npipe q\nstage y max 40\n a cap 1 cost 1 has 2/2 at ?";
        let mut fixture = Fixture::parse(text);
        for stage in &mut fixture.world.stages {
            (stage.rated, stage.target_permille) = (true, 1_000);
        }
        for variant in &mut fixture.world.variants {
            variant.concurrency = Some(4);
        }
        let mut state = State::new();
        for second in 0..5 {
            let now_ms = 1_000_000 + second * 1_000;
            let mut events = if second == 0 {
                fixture.events(now_ms)
            } else {
                Vec::new()
            };
            for (variant, waiting) in (0..).map(VariantIdx).zip(waiting) {
                let reading = Reading {
                    taken_ms: now_ms,
                    sampled: 2,
                    expected: 2,
                    running_millis: Some(8_000),
                    waiting_millis: Some(if second == 0 { 0 } else { waiting * 1_000 }),
                    utilization_permille: None,
                    rate_millis: Some(2_000),
                };
                events.push(Event::Reading { variant, reading });
            }
            step(&mut state, &events, now_ms);
        }
        state.plan.map(|plan| plan.counts).unwrap_or_default()
    }

    #[test]
    fn whoever_waits_longest_is_not_left_with_the_least_where_a_pool_is_short() {
        let counts = competing([400, 40]);
        assert_eq!(counts.iter().sum::<u32>(), 8, "nothing is left unused: {counts:?}");
        assert!(
            counts[0] >= 5,
            "for good it needs 2 a second and 400 in two minutes: {counts:?}"
        );
        assert!(counts[1] >= 2, "{counts:?}");
    }

    #[test]
    fn what_is_left_goes_to_a_queue() {
        assert_eq!(competing([400, 0]), [6, 2]);
    }
}
