//! What the core holds of a pool that a stage may use and does not.

use super::super::fixture::Fixture;
use super::super::state::State;
use super::super::step::step;

const STAGES: usize = 64;
/// Bytes per stage and pool without replicas, what is declared of it included.
const BYTES_MAX: i64 = 400;

/// What the core holds of stages at rest with a replica each on the first of so many pools.
fn held(pools: usize) -> i64 {
    let declared = (0..pools).map(|pool| format!("pool p{pool} 1000\n"));
    let stages = (0..STAGES).map(|stage| {
        let idle = (1..pools).map(|pool| format!(" p{pool} cap 4 cost 9 has 0/0 at ?\n"));
        let idle: String = idle.collect();
        format!("pipe p\nstage s{stage} max 9\n p0 cap 4 cost 1 has 1/1 at 500\n{idle}")
    });
    let text: String = declared.chain(stages).collect();
    let fixture = Fixture::parse(&text);
    let mut state = State::new();
    let counted = allocation_counter::measure(|| {
        let mut events = fixture.events(1_000);
        for second in 1..=900 {
            let decisions = step(&mut state, &events, second * 1_000);
            assert!(decisions.is_empty(), "{decisions:?}");
            events = fixture.readings((second + 1) * 1_000);
        }
    });
    counted.bytes_current
}

#[test]
fn a_pool_that_a_stage_does_not_run_on_costs_a_few_hundred_bytes() {
    let (few, many) = (held(2), held(10));
    let each = (many - few) / i64::try_from(8 * STAGES).unwrap();
    assert!((1..=BYTES_MAX).contains(&each), "{each} bytes");
}
