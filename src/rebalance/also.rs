//! Signals beside a stage's own. Each shows a need of its own, in the same unit, and the largest counts. While one of them
//! is silent nobody knows what it would show: growth follows the others, and nothing shrinks.

use super::bug::{Bug, seeded};
use super::demand::{self, Range};
use super::sustained::unhurried;
use super::variant_memory::VariantMemory;
use super::world::{Also, Reading, Stage, Variant};

/// Utilization below which a server's own noise may lie where everything that counts requests says that there are none,
/// thousandths.
const NOISE_PERMILLE: u32 = 100;

/// What the signals beside a stage's own show together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// The largest need; absent if none of them speaks.
    pub(super) need: Option<Range>,
    /// The same without the haste of working off queues.
    pub(super) lasting: Range,
    /// Which of them shows it.
    pub(super) largest: u8,
    /// Bit `n` for each that should speak and does not.
    pub(super) silent: u8,
    /// None of them says that something runs or waits.
    pub(super) idle: bool,
    /// When the newest reading was taken.
    pub(super) taken_ms: Option<u64>,
    /// When the first reading gets too old.
    pub(super) stale_ms: Option<u64>,
}

/// Keeps `reading` of one signal unless it is older than what is known.
pub(super) fn read(known: &mut Vec<Option<Reading>>, signal: usize, reading: Reading, now_ms: u64) {
    if signal >= usize::try_from(u8::BITS).unwrap_or(8) || !demand::speaks(&reading) {
        return;
    }
    if known.len() <= signal {
        known.resize(signal + 1, None);
    }
    let Some(slot) = known.get_mut(signal) else { return };
    let taken_ms = reading.taken_ms.min(now_ms);
    if slot.is_none_or(|before| before.taken_ms <= taken_ms) {
        *slot = Some(Reading { taken_ms, ..reading });
    }
}

/// What `stage.also` shows; nothing if there is none. `idle`: the stage's own signal says that nothing runs or waits.
pub(super) fn hear(
    stage: &Stage,
    declared: &[Variant],
    variants: &[VariantMemory],
    idle: bool,
    now_ms: u64,
) -> Option<Heard> {
    if stage.also.is_empty() {
        return None;
    }
    let mut all = Heard {
        idle: true,
        ..Heard::default()
    };
    for (at, also) in (0_u8..).zip(&stage.also) {
        let one = of_one(stage, also, usize::from(at), (declared, variants), idle, now_ms);
        match (one.need, all.need) {
            (Some(need), before) => {
                if before.is_none_or(|before| need.low > before.low) {
                    all.largest = at;
                }
                all.need = Some(before.map_or(need, |before| before.max(need)));
            }
            (None, _) if one.silent != 0 => all.silent |= 1_u8.checked_shl(u32::from(at)).unwrap_or(0),
            (None, _) => {}
        }
        all.lasting = all.lasting.max(one.lasting);
        all.idle &= one.idle;
        all.taken_ms = all.taken_ms.max(one.taken_ms);
        all.stale_ms = all.stale_ms.into_iter().chain(one.stale_ms).min();
    }
    Some(all)
}

/// What one signal of `stage.also` asks for, if it says so now.
pub(super) fn asks(stage: &Stage, at: usize, all: (&[Variant], &[VariantMemory]), now_ms: u64) -> Option<u64> {
    let one = of_one(stage, stage.also.get(at)?, at, all, false, now_ms);
    one.need.map(|need| need.low)
}

/// What cannot be excluded while a signal is silent: everything that is Ready is needed.
pub(super) fn of_ignorance(stage: &Stage, declared: &[Variant], variants: &[VariantMemory]) -> Range {
    if seeded(Bug::SilentAlsoIsIdle) {
        return Range::default();
    }
    let full = declared.iter().zip(variants);
    full.fold(Range::default(), |sum, (variant, seen)| {
        sum.plus(demand::of_silence(stage, variant, seen.ready()))
    })
}

fn of_one(
    stage: &Stage,
    also: &Also,
    at: usize,
    (declared, variants): (&[Variant], &[VariantMemory]),
    idle: bool,
    now_ms: u64,
) -> Heard {
    // The same stage as this signal measures it.
    let stage = &Stage {
        target_permille: also.target_permille,
        reading_age_ms_max: also.reading_age_ms_max,
        after: Vec::new(),
        also: Vec::new(),
        ..stage.clone()
    };
    let stale_ms = |reading: &Reading| {
        reading
            .taken_ms
            .saturating_add(also.reading_age_ms_max)
            .saturating_add(1)
    };
    let fresh = |seen: &VariantMemory| {
        let reading = seen.also.get(at).copied().flatten()?;
        (now_ms < stale_ms(&reading)).then_some(reading)
    };
    let newest_ms = variants.iter().filter_map(fresh).map(|reading| reading.taken_ms).max();
    let mut heard = Heard {
        idle: true,
        taken_ms: newest_ms,
        ..Heard::default()
    };
    let mut silent = Range::default();
    for (variant, seen) in declared.iter().zip(variants) {
        let ready = seen.ready();
        match fresh(seen) {
            // Whoever left took the load along to the others.
            Some(reading) if ready == 0 && Some(reading.taken_ms) < newest_ms => {}
            Some(reading) => {
                heard.stale_ms = heard.stale_ms.into_iter().chain([stale_ms(&reading)]).min();
                let zero = |number: Option<u64>| number.is_none_or(|number| number == 0);
                heard.idle &= zero(reading.running_millis) && zero(reading.waiting_millis);
                if idle && is_noise(&reading) {
                    heard.need.get_or_insert_default();
                    continue;
                }
                let load = demand::of_reading(stage, variant, &reading);
                if ready > 0 || reading.sampled > 0 || load.low > 0 || also.sees_waiting {
                    heard.need = Some(heard.need.map_or(load, |sum| sum.plus(load)));
                    let unhurried = unhurried(stage, variant, reading);
                    heard.lasting = heard.lasting.plus(demand::of_reading(stage, variant, &unhurried));
                }
            }
            None if ready > 0 => {
                silent = silent.plus(demand::of_silence(stage, variant, ready));
                heard.idle = false;
                heard.silent = 1;
            }
            None => {}
        }
    }
    if also.sees_waiting && heard.need.is_none() {
        heard.idle = false;
        heard.silent = 1;
    }
    heard.need = heard.need.map(|seen| seen.plus(silent));
    heard.lasting = heard.lasting.plus(silent);
    heard
}

/// It counts no requests, and what is used is little.
fn is_noise(reading: &Reading) -> bool {
    let counts = reading
        .running_millis
        .or(reading.waiting_millis)
        .or(reading.rate_millis);
    counts.is_none() && reading.utilization_permille.is_none_or(|used| used < NOISE_PERMILLE)
}

#[cfg(test)]
mod tests {
    use super::super::decision::Driver;
    use super::super::fixture::Fixture;
    use super::super::state::State;
    use super::super::step::step;
    use super::super::world::{Event, StageIdx, VariantIdx};
    use super::*;

    const START_MS: u64 = 1_000_000;

    fn reading(used: Option<u32>, waiting: Option<u64>, replicas: u32, now_ms: u64) -> Reading {
        Reading {
            taken_ms: now_ms,
            sampled: replicas,
            expected: replicas,
            running_millis: waiting.map(|_| 0),
            waiting_millis: waiting.map(|count| count * 1_000),
            utilization_permille: used,
            rate_millis: None,
        }
    }

    /// A stage of two replicas with a place for ten, whose own signal is utilization at a target of 75 %, with another of
    /// 50 % beside it. Steps once a second through what is given and returns what is planned and who decided.
    struct Run {
        state: State,
        now_ms: u64,
        replicas: u32,
    }

    impl Run {
        fn new(words: &str, also: Also) -> Self {
            let text = format!("pool a 10\nstage s max 10 {words}\n a cap 1 cost 1 has 2/2 at ?");
            let mut fixture = Fixture::parse(&text);
            for stage in &mut fixture.world.stages {
                (stage.target_permille, stage.also) = (750, vec![also]);
            }
            for variant in &mut fixture.world.variants {
                variant.concurrency = Some(1);
            }
            let mut state = State::new();
            step(&mut state, &fixture.events(START_MS), START_MS);
            Self {
                state,
                now_ms: START_MS,
                replicas: 2,
            }
        }

        /// `own` and `other` as thousandths in use, or as requests that wait for `Err`.
        fn seconds(&mut self, seconds: u64, own: Option<Result<u32, u64>>, other: Option<Result<u32, u64>>) -> u32 {
            for _ in 0..seconds {
                self.now_ms += 1_000;
                let (variant, now_ms, replicas) = (VariantIdx(0), self.now_ms, self.replicas);
                let of = |seen: Result<u32, u64>| reading(seen.ok(), seen.err(), replicas, now_ms);
                let own = own.map(|seen| Event::Reading {
                    variant,
                    reading: of(seen),
                });
                let other = other.map(|seen| Event::Also {
                    variant,
                    signal: 0,
                    reading: of(seen),
                });
                let events: Vec<Event> = own.into_iter().chain(other).collect();
                for decision in step(&mut self.state, &events, now_ms) {
                    for moved in decision.moves {
                        self.replicas = moved.to;
                    }
                }
                let seen = Event::Replicas {
                    variant,
                    desired: self.replicas,
                    ready: self.replicas,
                };
                step(&mut self.state, &[seen], self.now_ms);
            }
            self.replicas
        }

        fn driver(&self) -> Option<Driver> {
            self.state.report(StageIdx(0)).and_then(|report| report.driver)
        }
    }

    const HALF: Also = Also {
        target_permille: 500,
        reading_age_ms_max: 5_000,
        sees_waiting: false,
    };

    #[test]
    fn the_larger_need_wins_and_is_named() {
        let mut run = Run::new("min 1", HALF);
        assert_eq!(
            run.seconds(1, Some(Ok(700)), Some(Ok(900))),
            4,
            "1.8 replicas busy at a target of a half"
        );
        assert_eq!(run.driver(), Some(Driver::Also(0)));
        let mut run = Run::new("min 1", HALF);
        assert_eq!(run.seconds(1, Some(Ok(950)), Some(Ok(300))), 3, "1.9 at three quarters");
        assert_eq!(run.driver(), Some(Driver::Utilization));
    }

    #[test]
    fn while_one_signal_is_silent_the_other_grows_the_stage_and_nothing_shrinks_it() {
        let calm = Some(Ok(100));
        let mut run = Run::new("min 1", HALF);
        assert_eq!(run.seconds(900, calm, None), 2, "the other was never heard");
        assert_eq!(run.state.report(StageIdx(0)).unwrap().silent, 0b10);
        assert_eq!(run.seconds(1, Some(Ok(950)), None), 3, "growth needs one");
        assert_eq!(run.seconds(900, None, calm), 3, "its own is silent now");
        assert_eq!(run.state.report(StageIdx(0)).unwrap().silent, 0b01);
        assert_eq!(run.seconds(900, calm, calm), 1, "both are heard");
        assert_eq!(run.state.report(StageIdx(0)).unwrap().silent, 0);
    }

    #[test]
    fn work_that_only_another_signal_sees_wakes_a_stage_and_its_absence_lets_it_sleep() {
        let queue = Also {
            sees_waiting: true,
            ..HALF
        };
        let idle = Some(Err(0));
        let mut run = Run::new("min 0 waiting", queue);
        assert_eq!(run.seconds(900, idle, None), 2, "nobody says that nothing waits");
        assert_eq!(run.seconds(900, idle, idle), 0);
        assert_eq!(
            run.seconds(1, None, Some(Err(1))),
            2,
            "one request at a target of a half"
        );
    }

    #[test]
    fn the_noise_of_an_idle_server_keeps_nothing_awake_and_real_use_does() {
        let idle = Some(Err(0));
        let mut run = Run::new("min 0 waiting", HALF);
        assert_eq!(run.seconds(900, idle, Some(Ok(30))), 0, "three per cent");
        let mut run = Run::new("min 0 waiting", HALF);
        assert_eq!(
            run.seconds(900, idle, Some(Ok(300))),
            2,
            "0.6 of a replica at a half, and it contradicts"
        );
    }

    #[test]
    fn an_edit_that_changes_the_signals_forgets_what_the_old_ones_said() {
        let mut run = Run::new("min 1", HALF);
        assert_eq!(run.seconds(1, Some(Ok(100)), Some(Ok(900))), 4);
        let mut world = run.state.world().clone();
        world.stages[0].also = vec![Also {
            target_permille: 900,
            ..HALF
        }];
        step(&mut run.state, &[Event::World(world)], run.now_ms);
        assert_eq!(run.state.report(StageIdx(0)).unwrap().silent, 0b10);
    }
}
