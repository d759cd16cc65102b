//! Runs of HiGHS: one thread, its own presolve and heuristics, a time limit.

use std::time::{Duration, Instant};

use highs::{HighsModelStatus, Sense};
use planner::rebalance::solve::rows::Rows;

use crate::Failure;
use crate::exact;
use crate::model::{DOLLAR, model};

/// What HiGHS made of an instance.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mip {
    /// Its incumbent, rounded to whole replicas.
    pub(crate) counts: Option<Vec<u32>>,
    /// Exact cost of that, from the rows; none where its tolerances let it break a room.
    pub(crate) cost: Option<i128>,
    /// Objective as HiGHS reports it, dollars per hour.
    pub(crate) objective: f64,
    /// Its lower bound, dollars per hour.
    pub(crate) bound: f64,
    /// Proven optimal, to the relative gap asked for.
    pub(crate) closed: bool,
    pub(crate) seconds: f64,
    pub(crate) progress: Vec<Progress>,
}

/// One line of the log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Progress {
    pub(crate) seconds: f64,
    pub(crate) bound: f64,
    pub(crate) incumbent: f64,
}

impl Mip {
    /// `incumbent` above `bound`, in parts of `bound`.
    pub(crate) fn gap(&self) -> f64 {
        (self.objective - self.bound) / self.bound
    }

    /// When its incumbent was first as good as `cost` (dollars), by its log, which counts in tenths of a second.
    pub(crate) fn reached(&self, cost: f64) -> Option<f64> {
        let good = |value: f64| value <= cost * (1.0 + 1e-9);
        let logged = self.progress.iter().find(|line| good(line.incumbent));
        let last = good(self.objective).then_some(self.seconds);
        logged.map(|line| line.seconds).or(last)
    }

    /// When its own gap was first as small as `gap`.
    pub(crate) fn certified(&self, gap: f64) -> Option<f64> {
        let good = |bound: f64, incumbent: f64| incumbent - bound <= gap * bound;
        let logged = self.progress.iter().find(|line| good(line.bound, line.incumbent));
        let last = good(self.bound, self.objective).then_some(self.seconds);
        logged.map(|line| line.seconds).or(last)
    }
}

/// Reads the progress table of a log. Lines that are not of it are passed over.
pub(crate) fn progress(log: &str) -> Vec<Progress> {
    log.lines().filter_map(line).collect()
}

fn line(text: &str) -> Option<Progress> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let seconds = words.last()?.strip_suffix('s')?.parse().ok()?;
    let share = words.iter().position(|word| word.ends_with('%'))?;
    Some(Progress {
        seconds,
        bound: words.get(share + 1)?.parse().ok()?,
        incumbent: words.get(share + 2)?.parse().ok()?,
    })
}

/// Solves `rows` for at most `limit`, until the relative gap is `gap`.
pub(crate) fn run(rows: &Rows, limit: Duration, gap: f64) -> Result<Mip, Failure> {
    let mut model = model(rows, true)?;
    let log = tempfile::NamedTempFile::new()?;
    let mut highs = std::mem::take(&mut model.problem)
        .try_optimise(Sense::Minimise)
        .map_err(refused)?;
    highs.try_set_option("log_file", log.path().to_string_lossy().as_ref())?;
    highs.try_set_option("output_flag", true)?;
    highs.try_set_option("log_to_console", false)?;
    highs.try_set_option("threads", 1)?;
    highs.try_set_option("parallel", "off")?;
    highs.try_set_option("time_limit", limit.as_secs_f64())?;
    highs.try_set_option("mip_rel_gap", gap)?;
    highs.try_set_option("mip_abs_gap", 1e-9)?;
    let start = Instant::now();
    let solved = highs.try_solve().map_err(refused)?;
    let seconds = start.elapsed().as_secs_f64();
    let objective = solved.objective_value();
    let mut mip = Mip {
        objective: f64::INFINITY,
        bound: solved.double_info_value(c"mip_dual_bound").map_err(refused)?,
        closed: solved.status() == HighsModelStatus::Optimal,
        seconds,
        progress: progress(&std::fs::read_to_string(log.path())?),
        ..Mip::default()
    };
    if solved.primal_solution_status() == highs::HighsSolutionStatus::Feasible {
        let counts = whole(&model.counts(solved.get_solution().columns()));
        mip.objective = objective;
        mip.cost = exact::cost(rows, &counts).ok();
        mip.counts = Some(counts);
    }
    Ok(mip)
}

fn refused(status: highs::HighsStatus) -> Failure {
    format!("HiGHS refuses the model: {status:?}").into()
}

/// The linear relaxation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Relaxed {
    /// Replicas by option.
    pub(crate) counts: Vec<f64>,
    /// Dollars per hour.
    pub(crate) objective: f64,
    pub(crate) solved: bool,
    pub(crate) seconds: f64,
}

/// Solves the linear relaxation of `rows` for at most `limit`.
pub(crate) fn relax(rows: &Rows, limit: Duration) -> Result<Relaxed, Failure> {
    let mut model = model(rows, false)?;
    let mut highs = std::mem::take(&mut model.problem)
        .try_optimise(Sense::Minimise)
        .map_err(refused)?;
    highs.try_set_option("threads", 1)?;
    highs.try_set_option("parallel", "off")?;
    highs.try_set_option("time_limit", limit.as_secs_f64())?;
    let start = Instant::now();
    let solved = highs.try_solve().map_err(refused)?;
    let seconds = start.elapsed().as_secs_f64();
    let solution = solved.get_solution();
    let columns = solution.columns();
    Ok(Relaxed {
        counts: model.counts(columns),
        objective: solved.objective_value(),
        solved: solved.status() == HighsModelStatus::Optimal,
        seconds,
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are small and not negative"
)]
fn whole(counts: &[f64]) -> Vec<u32> {
    counts.iter().map(|count| count.round().max(0.0) as u32).collect()
}

/// A cost of the rows in dollars.
#[expect(clippy::cast_precision_loss, reason = "for tables and for HiGHS, which has floats")]
pub(crate) fn dollars(cost: i128) -> f64 {
    cost as f64 / DOLLAR
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_progress_table_is_read_and_nothing_else() {
        let log = "\
Running HiGHS 1.15.0\n
        Nodes      |    B&B Tree     |            Objective Bounds              |  Dynamic Constraints |       Work      \n
 J       0       0         0   0.00%   -inf            1200.5          Large        0      0      0         0     0.0s\n
         0       0         0   0.00%   990.25          1200.5            17.5%        0      0      0       700     0.2s\n
 T     120      30        40   1.56%   995             1000              0.50%    300     40    500     90000     7.4s\n
  Timing            7.40\n";
        let lines = progress(log);
        let read: Vec<(f64, f64, f64)> = lines
            .iter()
            .map(|line| (line.seconds, line.bound, line.incumbent))
            .collect();
        assert_eq!(
            read,
            [
                (0.0, f64::NEG_INFINITY, 1200.5),
                (0.2, 990.25, 1200.5),
                (7.4, 995.0, 1000.0)
            ]
        );
        let mip = Mip {
            progress: lines,
            objective: 1000.0,
            bound: 995.0,
            seconds: 8.0,
            ..Mip::default()
        };
        assert_eq!(mip.reached(1200.5), Some(0.0));
        assert_eq!(mip.reached(1100.0), Some(7.4));
        assert_eq!(mip.reached(999.0), None);
        assert_eq!(mip.certified(0.01), Some(7.4));
        assert_eq!(mip.certified(0.001), None);
    }
}
