//! Tiercel's side: the same call as in the operator, with a time budget.

use std::time::{Duration, Instant};

use planner::rebalance::solve::generate::Dice;
use planner::rebalance::solve::rows::Rows;
use planner::rebalance::solve::{Instance, Memory, Settings, Solution, resolve, searching};
use serde_json::{Value, json};

use crate::result::{median, spread};
use crate::verdict::Claim;

/// Samples of one way to call the solver.
#[derive(Clone, Debug, Default)]
pub(crate) struct Side {
    pub(crate) millis: Vec<f64>,
    pub(crate) gaps: Vec<f64>,
    pub(crate) claims: Vec<Claim>,
}

impl Side {
    fn add(&mut self, rows: &Rows, solution: &Solution, millis: f64) {
        let claim = Claim::new(rows, solution);
        self.millis.push(millis);
        self.gaps.push(claim.gap_percent());
        self.claims.push(claim);
    }

    /// The claim with the median cost.
    pub(crate) fn usual(&self) -> Option<Claim> {
        let mut claims: Vec<&Claim> = self.claims.iter().collect();
        claims.sort_by_key(|claim| claim.cost);
        claims.get(claims.len() / 2).copied().cloned()
    }

    /// "12.3 ms (11.9 to 14.0), gap 0.20 % (0.19 to 0.21)".
    pub(crate) fn said(&self) -> String {
        let range = |samples: &[f64], digits: usize| {
            let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
            let most = samples.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            format!("{:.digits$} ({least:.digits$} to {most:.digits$})", median(samples))
        };
        format!("{} ms, gap {} %", range(&self.millis, 2), range(&self.gaps, 3))
    }

    pub(crate) fn json(&self) -> Value {
        json!({ "ms": spread(&self.millis), "gap_percent": spread(&self.gaps) })
    }
}

/// How often, and how long at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) threads: usize,
    pub(crate) cold: Option<Duration>,
    pub(crate) warm: Duration,
}

/// One cold solve, and a warm one after 1 % of the demands changed by up to a fifth.
pub(crate) fn sample(rows: &Rows, call: &Call, round: u64, cold: &mut Side, warm: Option<&mut Side>) {
    let mut instance = Instance::new(rows);
    let mut memory = Memory::default();
    let settings = Settings {
        threads: call.threads,
        ..Settings::default()
    };
    let (solution, millis) = timed(&instance, &mut memory, &[], &settings, call.cold);
    cold.add(rows, &solution, millis);
    let Some(warm) = warm else { return };
    let mut changed = rows.clone();
    let mut dice = Dice::new(round);
    let stages = rows.stages.len();
    let mut touched = Vec::new();
    for _ in 0..stages.div_ceil(100) {
        let at = usize::try_from(dice.between(0, stages as u64 - 1)).unwrap_or(0);
        let demand = &mut changed.stages[at].demand_millis;
        *demand = *demand / 1_000 * dice.between(800, 1_200);
        instance.set_demand(at, *demand);
        touched.push(at);
    }
    let (solution, millis) = timed(&instance, &mut memory, &touched, &settings, Some(call.warm));
    warm.add(&changed, &solution, millis);
}

/// Without a last solve in `memory` this is the cold one.
fn timed(
    instance: &Instance,
    memory: &mut Memory,
    changed: &[usize],
    settings: &Settings,
    most: Option<Duration>,
) -> (Solution, f64) {
    let start = Instant::now();
    let is_cold = changed.is_empty();
    let most = most.map(|most| if is_cold { searching(instance.options(), most) } else { most });
    let mut go_on = || most.is_none_or(|most| start.elapsed() < most);
    let solution = resolve(instance, memory, changed, settings, &mut go_on);
    let millis = start.elapsed().as_secs_f64() * 1e3;
    (solution.clone(), millis)
}
