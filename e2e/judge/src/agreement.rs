//! Many small instances that HiGHS can close, with every feature of the model in use.

use std::time::{Duration, Instant};

use planner::rebalance::solve::generate::{Dice, Fleet, fleet};
use planner::rebalance::solve::rows::{GroupRow, Rows};
use planner::rebalance::solve::{Instance, Memory, Settings, solve};
use serde_json::{Value, json};

use crate::Failure;
use crate::exact;
use crate::mip;
use crate::verdict::{Claim, can_object};

/// Instances, and what HiGHS may spend on each and on all.
const INSTANCES: u64 = 150;
const EACH: Duration = Duration::from_secs(3);
const ALL: Duration = Duration::from_mins(1);

/// Instance number `seed`: 2 to 10 stages on 2 to 8 pools; scarce or not, with and without moves and ceilings.
pub(crate) fn small(seed: u64) -> Rows {
    let mut dice = Dice::new(seed ^ 0xb3);
    let mut rows = fleet(&Fleet {
        stages: usize::try_from(dice.between(2, 10)).unwrap_or(2),
        pools: usize::try_from(dice.between(2, 8)).unwrap_or(2),
        scarce: dice.chance(60),
        running: dice.chance(40),
        seed,
    });
    if dice.chance(40) {
        add_ceilings(&mut rows, &mut dice);
    }
    exact::cut_penalties(&mut rows);
    rows
}

/// Two groups of stages, which may spend 70 to 110 % of what they would: money for one, power for the other.
fn add_ceilings(rows: &mut Rows, dice: &mut Dice) {
    let free = solve(
        &Instance::new(rows),
        &mut Memory::default(),
        &Settings::default(),
        &mut || true,
    );
    let mut spent = [[0_u64; 2]; 2];
    let mut counts = free.counts.iter();
    for (at, stage) in rows.stages.iter_mut().enumerate() {
        stage.groups = vec![u32::from(at % 2 == 1)];
        for (option, &count) in stage.options.iter().zip(&mut counts) {
            spent[at % 2][0] += option.cost_micros * u64::from(count);
            spent[at % 2][1] += option.power_milliwatts * u64::from(count);
        }
    }
    let mut share = |spent: u64| spent / 100 * dice.between(70, 110);
    rows.groups = vec![
        GroupRow {
            money_max_micros: Some(share(spent[0][0])),
            power_max_milliwatts: None,
        },
        GroupRow {
            money_max_micros: None,
            power_max_milliwatts: Some(share(spent[1][1])),
        },
    ];
}

/// Solves all of them on both sides. Disagreements are added to `against`.
pub(crate) fn run(against: &mut Vec<String>) -> Result<Value, Failure> {
    let start = Instant::now();
    let (mut judged, mut closed, mut best, mut proven, mut worst) = (0, 0, 0, 0, 0.0_f64);
    let (mut above, mut seeds_above, mut inexact) = (Vec::new(), Vec::new(), 0);
    for seed in 1..=INSTANCES {
        if start.elapsed() > ALL {
            break;
        }
        let rows = small(seed);
        let solution = solve(
            &Instance::new(&rows),
            &mut Memory::default(),
            &Settings {
                gap_ppm: 0,
                ..Settings::default()
            },
            &mut || true,
        );
        let claim = Claim::new(&rows, &solution);
        let mip = mip::run(&rows, EACH, 0.0)?;
        if seed == 1 {
            can_object(&claim, &mip)?;
        }
        let objections = claim.objections(&mip);
        against.extend(objections.iter().map(|objection| {
            format!(
                "agreement seed {seed} ({} stages, {} pools): {objection}",
                rows.stages.len(),
                rows.pools.len()
            )
        }));
        judged += 1;
        inexact += u32::from(mip.cost.is_none());
        if let Some(cost) = mip.cost.filter(|_| mip.closed) {
            closed += 1;
            best += u32::from(claim.cost <= cost);
            proven += u32::from(claim.bound == claim.cost);
            let percent = 100.0 * (mip::dollars(claim.cost) / mip::dollars(cost) - 1.0);
            worst = worst.max(percent);
            if percent > 0.0 {
                above.push(percent);
                seeds_above.push(seed);
            }
        }
    }
    above.sort_by(f64::total_cmp);
    let median = above.get(above.len() / 2).copied().unwrap_or(0.0);
    println!(
        "{judged} small instances, {closed} closed by HiGHS: {best} plans of tiercel as cheap, {proven} proven by itself; the others {median:.3} % above (median), {worst:.3} % at most, seeds {seeds_above:?}"
    );
    Ok(json!({
        "instances": judged, "seeds": [1, INSTANCES], "closed_by_highs": closed, "highs_without_exact_plan": inexact,
        "plans_as_cheap_as_the_optimum": best, "proven_optimal_by_tiercel": proven,
        "seeds_above_the_optimum": seeds_above,
        "others_above_the_optimum_percent": { "median": median, "max": worst },
    }))
}
