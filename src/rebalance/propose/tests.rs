//! What proposals change, and what they must not.

use super::*;
use crate::rebalance::fixture::Fixture;
use crate::rebalance::sim::Random;
use crate::rebalance::step;
use crate::rebalance::world::Event;

const NOW_MS: u64 = 1_000_000;

fn answer(question: &Question) -> Proposal {
    propose(question, &mut Memory::default(), &Settings::default(), &mut || true)
}

/// A state in which something has changed since the start: the readings of `text`, twice.
fn seen(text: &str) -> (Fixture, State) {
    let fixture = Fixture::parse(text);
    let mut state = State::new();
    step(&mut state, &fixture.events(NOW_MS), NOW_MS);
    state.changed = true;
    step(&mut state, &fixture.readings(NOW_MS + 1_000), NOW_MS + 1_000);
    (fixture, state)
}

fn planned(state: &State) -> Vec<u32> {
    state.plan.as_ref().unwrap().counts.clone()
}

#[test]
fn nothing_is_asked_where_everybody_has_the_cheapest_there_is() {
    let (_, mut state) = seen("pool a 8\nstage s\n a cap 4 cost 1 has 1/1 at 900");
    assert_eq!(state.question(), None);
    assert_eq!(state.certificate(), (Some(0), &[][..]));
}

/// Two stages, one cheap pool with room for four; whoever is left out pays ten for a replica elsewhere.
const SHORT: &str = "pool cheap 4\npool dear 20
    stage x\n cheap cap 1 cost 1 has 2/2 at 900\n dear cap 1 cost 10 has 1/1 at 900
    stage y\n cheap cap 1 cost 1 has 2/2 at 900\n dear cap 1 cost 10 has 1/1 at 900";

#[test]
fn what_is_short_is_asked_about_once_until_something_changes() {
    let (fixture, mut state) = seen(SHORT);
    let question = state.question().unwrap();
    assert_eq!(state.question(), None, "asked already");
    assert_eq!(state.certificate().0, None, "nobody has looked yet");
    let proposal = answer(&question);
    assert_eq!(
        proposal.certificate.gap_ppm,
        Some(0),
        "two stages are searched to the end"
    );
    let at_ms = NOW_MS + 2_000;
    let mut events = fixture.readings(at_ms);
    events.push(Event::Proposal(Box::new(proposal)));
    step(&mut state, &events, at_ms);
    assert_eq!(state.question(), None, "nothing is different");
    let (gap_ppm, prices) = state.certificate();
    assert!(gap_ppm.is_some_and(|gap| gap < 100_000), "{gap_ppm:?}");
    // One more slot of the cheap pool saves what a dear replica costs beyond a cheap one: nine dollars, but for the
    // twentieth by which what runs counts less.
    let slot: u64 = prices
        .iter()
        .filter(|(pool, ..)| pool.0 == 0)
        .map(|&(.., micros)| micros)
        .sum();
    assert!((8_000_000..=10_000_000).contains(&slot), "{prices:?}");
}

#[test]
fn pools_that_are_just_full_have_the_price_of_the_alternative() {
    // All that is wanted fits, and nothing more: leaving it open would be worth thousands, one more slot is not.
    for dear in 2..=4 {
        let (_, mut state) = seen(&SHORT.replace("dear 20", &format!("dear {dear}")));
        let proposal = answer(&state.question().unwrap());
        let of = |which: u32| -> u64 {
            let prices = proposal.certificate.prices.iter();
            prices
                .filter(|(pool, ..)| pool.0 == which)
                .map(|&(.., micros)| micros)
                .sum()
        };
        assert!((8_000_000..=10_000_000).contains(&of(0)), "{dear}: {proposal:?}");
        assert!(
            of(1) < 100_000,
            "more room in the dear one saves nothing, {dear}: {proposal:?}"
        );
    }
}

/// Two stages need three replicas each: hot and cheap, or cool and dear. The ceiling leaves room for four hot ones.
const HOT: &str = "pool hot 40\npool cool 40\npipe green watts 430
    stage x\n hot cap 1 cost 1 watts 100 has 2/2 at 900\n cool cap 1 cost 10 watts 10 has 1/1 at 900
    stage y\n hot cap 1 cost 1 watts 100 has 2/2 at 900\n cool cap 1 cost 10 watts 10 has 1/1 at 900";

#[test]
fn a_ceiling_that_binds_has_the_price_of_the_alternative() {
    let ceilings = |text: &str| {
        let (fixture, mut state) = seen(text);
        let Some(question) = state.question() else {
            return Vec::new();
        };
        let proposal = answer(&question);
        assert_eq!(proposal.certificate.prices, [], "pools have room");
        let mut events = fixture.readings(NOW_MS + 2_000);
        events.push(Event::Proposal(Box::new(proposal)));
        step(&mut state, &events, NOW_MS + 2_000);
        state.ceiling_prices().to_vec()
    };
    // 90 W more would save 9 dollars, but for the twentieth by which what runs counts less.
    let near = |found: &[CeilingPrice], of| match *found {
        [price] => price.of == of && price.on == On::Power && (85_000..=115_000).contains(&price.micros),
        _ => false,
    };
    let own = ceilings(HOT);
    assert!(near(&own, Keeper::Pipeline(PipelineIdx(0))), "{own:?}");
    let shared = ceilings(&HOT.replace("pipe green watts 430", "shared watts 430\npipe green shares 0"));
    assert!(near(&shared, Keeper::Shared(0)), "{shared:?}");
    assert_eq!(ceilings(&HOT.replace("watts 430", "watts 900")), [], "it does not bind");
    // What is missing has no price that anybody pays.
    let starved = ceilings(&HOT.replace("watts 430", "watts 45"));
    assert_eq!(starved, []);
}

#[test]
fn who_starves_elsewhere_takes_no_price_away() {
    let slot = |text: &str| {
        let (_, mut state) = seen(text);
        let prices = answer(&state.question().unwrap()).certificate.prices;
        prices.iter().any(|(pool, ..)| pool.0 == 0)
    };
    let starved =
        |pool: &str| format!("{SHORT}\npool alone 1\npipe other\nstage z\n {pool} cap 1 cost 1 has 1/1 at 1600");
    assert!(slot(SHORT));
    assert!(slot(&starved("alone")), "another pool, another pipeline");
    // Whoever starves for the same pool, or for what its stages could use instead, leaves nothing that could be saved.
    let beside = format!("{SHORT}\npipe other\nstage z max 40\n dear cap 1 cost 1 has 20/20 at 1600");
    assert!(!slot(&beside), "the other pool of the same stages");
}

#[test]
fn an_answer_to_an_older_world_is_not_taken() {
    let (fixture, mut state) = seen(SHORT);
    let question = state.question().unwrap();
    let mut world = fixture.world.clone();
    world.pools[0].capacity.cpu_millis += 1;
    step(&mut state, &[Event::World(world)], NOW_MS + 1_500);
    let before = planned(&state);
    let mut proposal = answer(&question);
    proposal.counts.iter_mut().for_each(|(_, count)| *count = 3);
    step(&mut state, &[Event::Proposal(Box::new(proposal))], NOW_MS + 1_600);
    assert_eq!((planned(&state), state.certificate().0), (before, None));
}

#[test]
fn no_proposal_makes_a_plan_worse_or_breaks_it() {
    let (_, state) = seen(SHORT);
    let good = planned(&state);
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let mut state = state.clone();
        let mut any = |_| u32::try_from(random.within(0, 9)).unwrap();
        let counts = (0..6).map(|at| (VariantIdx(at), any(at))).collect();
        let proposal = Proposal {
            world: state.worlds,
            counts,
            certificate: Certificate::default(),
        };
        step(
            &mut state,
            &[Event::Proposal(Box::new(proposal.clone()))],
            NOW_MS + 1_500,
        );
        let dear = |counts: &[u32]| counts[1] + counts[3];
        let plan = planned(&state);
        assert!(
            plan[0] + plan[2] <= 4 && dear(&plan) <= dear(&good),
            "seed {seed}: {proposal:?} led to {plan:?}"
        );
    }
}

/// Forty stages that would all like the same few pools, as text.
fn crowd(seed: u64) -> String {
    use std::fmt::Write as _;

    let mut random = Random::new(seed);
    let mut text = String::from("pool a 60\npool b 60\npool c 40\npool d 4000\n");
    for stage in 0..40 {
        let runs = random.within(2, 6);
        let _ = writeln!(text, "stage s{stage}");
        for (pool, slots) in [("a", 2), ("b", 3), ("c", 1), ("d", 1)] {
            let (capacity, dearer) = (random.within(1, 9), if pool == "d" { 20 } else { 0 });
            let cost = capacity * random.within(1, 3) + dearer;
            let has = if pool == "d" {
                format!("has {runs}/{runs} at 900")
            } else {
                String::new()
            };
            let _ = writeln!(
                text,
                " {pool} cap {capacity} cost {cost} slots {} {has}",
                random.within(1, slots)
            );
        }
    }
    text
}

#[test]
fn proposals_make_crowded_plans_cheaper_and_prove_how_good_they_are() {
    let (mut saved, mut worst) = (Vec::new(), 0);
    for seed in 1..=12 {
        let (fixture, mut state) = seen(&crowd(seed));
        let cost = |state: &State| -> u64 {
            let declared = fixture.world.variants.iter().zip(planned(state));
            declared
                .map(|(variant, count)| variant.cost_micros * u64::from(count))
                .sum()
        };
        let unserved = |state: &State| -> u64 { state.reports.iter().map(|report| report.unserved_millis).sum() };
        let before = (unserved(&state), cost(&state));
        let question = state.question().unwrap();
        let proposal = answer(&question);
        let certificate = proposal.certificate.clone();
        let mut events = fixture.readings(NOW_MS + 2_000);
        events.push(Event::Proposal(Box::new(proposal)));
        step(&mut state, &events, NOW_MS + 2_000);
        let after = (unserved(&state), cost(&state));
        assert!(after.0 <= before.0, "seed {seed}: {before:?} {after:?}");
        let gaps = (certificate.gap_ppm.unwrap(), certificate.gap_in_force_ppm.unwrap());
        assert!(gaps.0 <= gaps.1, "seed {seed}: {gaps:?}");
        worst = worst.max(gaps.0);
        saved.push((before.1 - after.1.min(before.1)) * 1_000 / before.1);
    }
    println!("saved {saved:?} thousandths; proven within {worst} millionths");
    assert!(worst <= 20_000 && saved.iter().sum::<u64>() > 12, "{saved:?} {worst}");
}

#[test]
fn under_scarcity_no_stage_holds_what_its_pipeline_cannot_use() {
    // What `x` cannot pass on, `y` need not serve: the room goes to the other pipeline.
    let text = "pool gpu 2\npool cpu 6
        pipe one
        stage x\n gpu cap 1 has 2/2 at 900 concurrency 1
        stage y\n cpu cap 1 has 4/4 at 900
        pipe two
        stage z\n cpu cap 1 has 2/2 at 900";
    let fixture = Fixture::parse(text);
    let mut state = State::new();
    step(&mut state, &fixture.events(NOW_MS), NOW_MS);
    state.changed = true;
    let waits = |variant: u32, ready: u32, demand: u64| Event::Reading {
        variant: VariantIdx(variant),
        reading: crate::rebalance::world::Reading {
            utilization_permille: None,
            running_millis: Some(demand * 1_000),
            waiting_millis: Some(0),
            ..crate::rebalance::fixture::busy(NOW_MS + 1_000, ready, 0)
        },
    };
    let mut events = vec![waits(0, 2, 4)];
    let mut world = fixture.world.clone();
    world
        .variants
        .iter_mut()
        .for_each(|variant| variant.concurrency = Some(1));
    events.insert(0, Event::World(world));
    events.extend([waits(1, 4, 4), waits(2, 2, 4)]);
    step(&mut state, &events, NOW_MS + 1_000);
    // Two of four requests get through `x`: two replicas of `y` serve them, and `z` gets all it asks for.
    assert_eq!(planned(&state), [2, 2, 4], "{:?}", state.plan);
    let question = state.question().unwrap();
    let counts: Vec<u32> = answer(&question).counts.iter().map(|&(_, count)| count).collect();
    assert_eq!(counts, [2, 2, 4], "and so the solver says");
}
