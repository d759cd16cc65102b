//! The same problem as a mixed-integer program, exactly.
//!
//! ```text
//! min  Σ price·n + Σ moves + Σ penalty·u + Σ SHORT·short
//! s.t. Σ capacity·n + u ≥ demand              of a stage whose capacities add
//!      Σ v·x_v + u_v ≥ demand·y_v, Σ y_v = 1,
//!      Σ x_v ≤ most_v·y_v,  n = Σ_v x_v       of a stage under uniform traffic: one pace v, and only what is as fast
//!      n + short ≥ floors, Σ n ≤ max          of every stage
//!      Σ request·n ≤ room, Σ cost·n ≤ ceiling of every pool and group
//! ```
//!
//! The pace is chosen once per stage: counting a faster option at pace v never serves more than the truth, so the best
//! choice is exact. `demand·y_v` rather than one big constant makes the relaxation of that choice as tight as it can be.
//! Upper bounds of counts leave out only what removing a replica could never make dearer.
//!
//! Units are dollars per hour, cores, GiB, devices and requests per second, so that coefficients stay near one.

use highs::{Col, RowProblem};
use planner::rebalance::solve::Traffic;
use planner::rebalance::solve::rows::{Rows, StageRow};

use crate::exact;

/// The rows' prices (thousand-millionths of a dollar) per dollar.
pub(crate) const DOLLAR: f64 = 1e9;
const UNITS: [f64; 3] = [1e3, 1_048_576.0, 1e3];

/// Why an instance has no model here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModelError {
    /// A feature of rows that the benchmark's instances do not use.
    #[error("stage {0} has {1}, which the model does not have: leave it out of the benchmark's instances")]
    Unsupported(usize, &'static str),
}

/// A problem for HiGHS and how to read its answer.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) problem: RowProblem,
    /// Columns that add up to the count of each option.
    terms: Vec<Vec<Col>>,
}

/// Columns of one pace: (option of the stage, column).
type Pace = Vec<(usize, Col)>;

impl Model {
    /// Replicas by option, as HiGHS left them.
    pub(crate) fn counts(&self, columns: &[f64]) -> Vec<f64> {
        let value = |col: &Col| columns.get(col.index()).copied().unwrap_or(0.0);
        self.terms.iter().map(|terms| terms.iter().map(value).sum()).collect()
    }
}

/// Builds the program; without `integer`, its linear relaxation.
pub(crate) fn model(rows: &Rows, integer: bool) -> Result<Model, ModelError> {
    let mut model = Model {
        problem: RowProblem::new(),
        terms: Vec::new(),
    };
    let mut constant = 0.0;
    let short_price = dollars(exact::short_price(rows));
    for (number, stage) in rows.stages.iter().enumerate() {
        supported(number, stage)?;
        let first = model.terms.len();
        if stage.traffic == Traffic::Uniform {
            add_uniform(&mut model, rows, stage, integer, &mut constant);
        } else {
            add_pull(&mut model, rows, stage, integer, &mut constant);
        }
        add_floors(&mut model, rows, stage, first, short_price);
    }
    // What no choice changes, so that objectives are costs.
    model.problem.add_column(constant, 1.0..=1.0);
    add_rooms(&mut model, rows);
    Ok(model)
}

fn supported(number: usize, stage: &StageRow) -> Result<(), ModelError> {
    let missing = if stage.pipeline.is_some() {
        "a pipeline"
    } else if stage.options.iter().any(|option| !option.further.is_empty()) {
        "diminishing returns"
    } else if stage.options.iter().any(|option| option.lower > 0) {
        "replicas that stay"
    } else {
        return Ok(());
    };
    Err(ModelError::Unsupported(number, missing))
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn dollars(price: i128) -> f64 {
    price as f64 / DOLLAR
}

fn per(value: u64, unit: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let value = value as f64;
    value / unit
}

/// Most replicas at `pace` that a plan needs: beyond them one can go, whichever it is.
fn most(stage: &StageRow, pace: u64) -> u64 {
    let cover = if pace == 0 {
        0
    } else {
        stage.demand_millis.div_ceil(pace)
    };
    (cover + u64::from(stage.min) + u64::from(stage.reliable_min)).min(u64::from(stage.max))
}

/// [`most`] of an option, and what its pool has room for.
fn upper(rows: &Rows, stage: &StageRow, option: usize, pace: u64) -> u64 {
    let option = &stage.options[option];
    let pool = &rows.pools[option.pool as usize];
    let request = option.request;
    let fits = [
        (pool.cpu_millis, request.cpu_millis),
        (pool.memory_kib, request.memory_kib),
        (pool.device_millis, request.device_millis),
    ]
    .into_iter()
    .filter_map(|(room, each)| u64::try_from(room.max(0)).ok()?.checked_div(each))
    .min();
    most(stage, pace)
        .min(u64::from(option.upper))
        .min(fits.unwrap_or(u64::MAX))
}

/// Prices of a replica that runs already and of a new one.
fn prices(stage: &StageRow, option: usize) -> (f64, f64) {
    let option = &stage.options[option];
    let (price, up) = (i128::from(option.price), i128::from(option.move_up));
    let down = i128::from(option.move_down.min(option.price));
    (dollars(price - down), dollars(price + up))
}

fn moves(stage: &StageRow, option: usize) -> bool {
    stage.options[option].current > 0
}

/// Columns of replicas that run already and of new ones.
fn add_count(problem: &mut RowProblem, stage: &StageRow, option: usize, upper: u64, integer: bool) -> Vec<Col> {
    let (kept, new) = prices(stage, option);
    let current = u64::from(stage.options[option].current).min(upper);
    let mut terms = Vec::new();
    if current > 0 {
        terms.push(problem.add_column_with_integrality(kept, 0.0..=per(current, 1.0), integer));
    }
    terms.push(problem.add_column_with_integrality(new, 0.0..=per(upper, 1.0), integer));
    if current > 0 && upper == u64::from(stage.options[option].upper) {
        problem.add_row(0.0..=per(upper, 1.0), terms.iter().map(|&col| (col, 1.0)));
    }
    terms
}

fn constant_of(stage: &StageRow, option: usize) -> f64 {
    let option = &stage.options[option];
    dollars(i128::from(option.move_down.min(option.price)) * i128::from(option.current))
}

fn unserved_price(stage: &StageRow) -> f64 {
    dollars(i128::from(stage.penalty) * 1_000)
}

fn add_pull(model: &mut Model, rows: &Rows, stage: &StageRow, integer: bool, constant: &mut f64) {
    let demand = per(stage.demand_millis, 1e3);
    let open = model.problem.add_column(unserved_price(stage), 0.0..=demand);
    let mut cover = vec![(open, 1.0)];
    for (at, option) in stage.options.iter().enumerate() {
        let upper = upper(rows, stage, at, option.capacity_millis);
        let terms = add_count(&mut model.problem, stage, at, upper, integer);
        let capacity = per(option.capacity_millis, 1e3);
        cover.extend(terms.iter().map(|&col| (col, capacity)));
        *constant += constant_of(stage, at);
        model.terms.push(terms);
    }
    model.problem.add_row(demand.., &cover);
}

fn add_uniform(model: &mut Model, rows: &Rows, stage: &StageRow, integer: bool, constant: &mut f64) {
    let demand = per(stage.demand_millis, 1e3);
    let mut speeds: Vec<u64> = stage.options.iter().map(|option| option.capacity_millis).collect();
    speeds.sort_unstable();
    speeds.dedup();
    let mut chosen: Vec<Col> = Vec::new();
    let mut at_pace: Vec<Pace> = Vec::new();
    for &pace in &speeds {
        let problem = &mut model.problem;
        let is = problem.add_column_with_integrality(0.0, 0.0..=1.0, integer);
        let open = problem.add_column(unserved_price(stage), 0.0..=demand);
        let mut here = Pace::new();
        for (at, option) in stage.options.iter().enumerate() {
            if option.capacity_millis >= pace {
                let upper = per(upper(rows, stage, at, pace), 1.0);
                // With moves the price is on what the paces add up to.
                let price = if moves(stage, at) { 0.0 } else { prices(stage, at).1 };
                here.push((at, problem.add_column_with_integrality(price, 0.0..=upper, integer)));
            }
        }
        let mut cover = vec![(open, 1.0), (is, -demand)];
        cover.extend(here.iter().map(|&(_, col)| (col, per(pace, 1e3))));
        problem.add_row(0.0.., &cover);
        let mut only = vec![(is, -per(most(stage, pace), 1.0))];
        only.extend(here.iter().map(|&(_, col)| (col, 1.0)));
        problem.add_row(..=0.0, &only);
        chosen.push(is);
        at_pace.push(here);
    }
    model.problem.add_row(1.0..=1.0, chosen.iter().map(|&col| (col, 1.0)));
    for at in 0..stage.options.len() {
        let of_option = |&(option, col): &(usize, Col)| (option == at).then_some(col);
        let terms: Vec<Col> = at_pace.iter().flatten().filter_map(of_option).collect();
        *constant += constant_of(stage, at);
        if moves(stage, at) {
            let slowest = speeds.first().copied().unwrap_or(0);
            let upper = upper(rows, stage, at, slowest);
            let priced = add_count(&mut model.problem, stage, at, upper, false);
            let mut same: Vec<(Col, f64)> = priced.iter().map(|&col| (col, 1.0)).collect();
            same.extend(terms.iter().map(|&col| (col, -1.0)));
            model.problem.add_row(0.0..=0.0, &same);
        }
        model.terms.push(terms);
    }
}

fn add_floors(model: &mut Model, rows: &Rows, stage: &StageRow, first: usize, short_price: f64) {
    let (min, reliable_min) = (stage.min.min(stage.max), stage.reliable_min.min(stage.max));
    let terms: Vec<Vec<Col>> = model.terms[first..].to_vec();
    let all = || terms.iter().flatten().map(|&col| (col, 1.0));
    if min > 0 || reliable_min > 0 {
        let short = model
            .problem
            .add_column(short_price, 0.0..=f64::from(min.max(reliable_min)));
        model
            .problem
            .add_row(f64::from(min).., all().chain([(short, 1.0)]).collect::<Vec<_>>());
        let reliable = stage
            .options
            .iter()
            .zip(&terms)
            .filter(|(option, _)| rows.pools[option.pool as usize].reliable)
            .flat_map(|(_, terms)| terms.iter().map(|&col| (col, 1.0)));
        if reliable_min > 0 {
            let row: Vec<(Col, f64)> = reliable.chain([(short, 1.0)]).collect();
            model.problem.add_row(f64::from(reliable_min).., row);
        }
    }
    let fastest_need: u64 = (0..stage.options.len()).map(|at| upper(rows, stage, at, 1)).sum();
    if fastest_need > u64::from(stage.max) {
        model
            .problem
            .add_row(..=f64::from(stage.max), all().collect::<Vec<_>>());
    }
}

fn add_rooms(model: &mut Model, rows: &Rows) {
    let mut pools = vec![[const { Vec::<(Col, f64)>::new() }; 3]; rows.pools.len()];
    let mut groups = vec![[const { Vec::<(Col, f64)>::new() }; 2]; rows.groups.len()];
    let flat = rows
        .stages
        .iter()
        .flat_map(|stage| stage.options.iter().map(move |option| (stage, option)));
    for ((stage, option), terms) in flat.zip(&model.terms) {
        let request = option.request;
        let each = [request.cpu_millis, request.memory_kib, request.device_millis];
        for &col in terms {
            for (at, row) in pools[option.pool as usize].iter_mut().enumerate() {
                if each[at] > 0 {
                    row.push((col, per(each[at], UNITS[at])));
                }
            }
            for &group in &stage.groups {
                groups[group as usize][0].push((col, per(option.cost_micros, 1e6)));
                groups[group as usize][1].push((col, per(option.power_milliwatts, 1e3)));
            }
        }
    }
    for (pool, row) in rows.pools.iter().zip(pools) {
        let rooms = [pool.cpu_millis, pool.memory_kib, pool.device_millis];
        for (at, row) in row.into_iter().enumerate() {
            let room = per(u64::try_from(rooms[at]).unwrap_or(0), UNITS[at]);
            model.problem.add_row(..=room, &row);
        }
    }
    for (group, [money, power]) in rows.groups.iter().zip(groups) {
        if let Some(most) = group.money_max_micros {
            model.problem.add_row(..=per(most, 1e6), &money);
        }
        if let Some(most) = group.power_max_milliwatts {
            model.problem.add_row(..=per(most, 1e3), &power);
        }
    }
}
