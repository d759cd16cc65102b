//! Stages without replicas: who may sleep, and who wakes them.

use super::super::world::{Event, Reading, VariantIdx};
use super::{NOW_MS, Run, busy};

/// Four in a chain, the last three asleep. `words` are the stages' own, from the second on.
fn chain(words: [&str; 3]) -> Run {
    let [b, c, d] = words;
    Run::of(&format!(
        "pool a 8\npool b 8\npool c 8\npool d 8\nstage first rated\n a cap 10 has 1/1 at 0\nstage second {b} after first 1\n b cap 10\n\
         stage third {c} after second 1\n c cap 10\nstage fourth {d} after third 1\n d cap 10"
    ))
}

const SLEEPS: &str = "min 0 waiting";
const RATED: &str = "min 0 waiting rated";

/// What an idle server says of itself.
fn idle(variant: u32, now_ms: u64) -> Event {
    let reading = Reading {
        running_millis: Some(0),
        waiting_millis: Some(0),
        ..busy(now_ms, 1, 0)
    };
    Event::Reading {
        variant: VariantIdx(variant),
        reading,
    }
}

#[test]
fn work_at_the_first_stage_wakes_the_whole_chain_at_once_whatever_its_units() {
    for words in [[RATED; 3], [SLEEPS; 3], [RATED, SLEEPS, RATED], [SLEEPS, RATED, SLEEPS]] {
        let mut run = chain(words);
        run.decides("-");
        run.after(1_000, &[]).decides("-");
        let busy = run.sees(0, 1, 1, Some(500));
        run.after(1_000, &[busy])
            .decides("second/b 0->1, third/c 0->1, fourth/d 0->1");
    }
}

#[test]
fn nobody_sleeps_while_a_caller_works_or_nobody_knows_whether_it_does() {
    let world = "pool a 8\npool b 8\nstage first\n a cap 10 has 1/1 at ?\nstage second min 0 waiting after first 1\n b cap 10 has 1/1 at ?";
    let works = Event::Reading {
        variant: VariantIdx(0),
        reading: busy(NOW_MS, 1, 300),
    };
    for (caller, expected) in [("works", "-"), ("silent", "-"), ("idle", "second/b 1->0")] {
        let mut run = Run::of(world);
        for sample in 1..=4 {
            let now_ms = NOW_MS + sample * 1_000;
            let mut events = vec![idle(1, now_ms)];
            match (caller, &works) {
                ("works", Event::Reading { variant, reading }) => events.push(Event::Reading {
                    variant: *variant,
                    reading: Reading {
                        taken_ms: now_ms,
                        ..*reading
                    },
                }),
                ("idle", _) => events.push(idle(0, now_ms)),
                _ => {}
            }
            run.after(1_000, &events);
            if !run.decided.is_empty() {
                break;
            }
        }
        assert_eq!(run.fixture.render(&run.decided), expected, "its caller is {caller}");
    }
}
