//! How good the operator's plans were and how long it planned, as its own `/metrics` tells: only it knows the bound.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use crate::report::{Gap, Reaction};

const EVERY: Duration = Duration::from_secs(1);
const PAGE_BYTES_MAX: usize = 4 << 20;

/// How `gap_percent` is measured.
pub const GAP: &str = "tiercel_plan_gap_ratio of the operator, once a second during the load: what the plan in force costs beyond the solver's \
                       proven bound, with unserved demand at its price; seconds in which nobody knew it are left out";
/// How `plan_ms` is measured.
pub const PLAN: &str = "tiercel_decision_duration_seconds of the operator during the load: one step of the core, plan, moves and verification \
                        included; read off the buckets";
/// How `solve_ms` is measured.
pub const SOLVE: &str = "tiercel_plan_solve_duration_seconds of the operator during the load: one search of the solver, beside the decisions, \
                         only where a pool or a budget is short; read off the buckets";

/// Buckets of a histogram: upper end in seconds, observations up to there.
type Buckets = Vec<(f64, f64)>;

#[derive(Debug, Default)]
struct Seen {
    gaps: Vec<f64>,
    /// Of steps and of searches, on the first page and on the last.
    first: Option<(Buckets, Buckets)>,
    last: Option<(Buckets, Buckets)>,
}

/// Reads the operator's metrics until it is dropped.
pub struct Planning {
    seen: Arc<Mutex<Seen>>,
    _task: tokio::task::JoinSet<()>,
}

impl Planning {
    /// Starts reading from `port` on 127.0.0.1.
    pub fn watch(port: u16) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut task = tokio::task::JoinSet::new();
        let kept = Arc::clone(&seen);
        task.spawn(async move {
            let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
            let mut ticks = tokio::time::interval(EVERY);
            loop {
                ticks.tick().await;
                let Ok(uri) = format!("http://127.0.0.1:{port}/metrics").parse() else {
                    return;
                };
                // An operator that is being restarted does not answer: that second is left out.
                let Ok(answer) = client.get(uri).await else { continue };
                let body = Limited::new(answer.into_body(), PAGE_BYTES_MAX);
                let Ok(page) = body.collect().await else { continue };
                let page = String::from_utf8_lossy(&page.to_bytes()).into_owned();
                kept.lock().unwrap_or_else(PoisonError::into_inner).read(&page);
            }
        });
        Self { seen, _task: task }
    }

    /// Gap in per cent, steps and searches in ms. What was never seen is absent.
    pub fn told(&self) -> (Gap, Reaction, Reaction) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gaps = seen.gaps.clone();
        gaps.sort_by(f64::total_cmp);
        let gap = Gap {
            p50: gaps.get(gaps.len().div_ceil(2).saturating_sub(1)).copied(),
            max: gaps.last().copied(),
        };
        let spread = |which: fn(&(Buckets, Buckets)) -> &Buckets| {
            let (Some(first), Some(last)) = (&seen.first, &seen.last) else {
                return Reaction::default();
            };
            let grown = grown(which(first), which(last));
            Reaction {
                p50: quantile(&grown, 0.5).map(|s| s * 1e3),
                p99: quantile(&grown, 0.99).map(|s| s * 1e3),
            }
        };
        (gap, spread(|both| &both.0), spread(|both| &both.1))
    }
}

impl Seen {
    fn read(&mut self, page: &str) {
        let value = |line: &str| line.rsplit_once(' ').and_then(|(_, value)| value.parse::<f64>().ok());
        let gap = page.lines().find(|line| line.starts_with("tiercel_plan_gap_ratio "));
        self.gaps
            .extend(gap.and_then(value).filter(|gap| gap.is_finite()).map(|gap| gap * 1e2));
        let buckets = |name: &str| -> Buckets {
            let prefix = format!("{name}_bucket{{le=\"");
            let lines = page.lines().filter_map(|line| {
                let (end, _) = line.strip_prefix(&prefix)?.split_once('"')?;
                Some((end.parse().ok()?, value(line)?))
            });
            lines.collect()
        };
        let now = (
            buckets("tiercel_decision_duration_seconds"),
            buckets("tiercel_plan_solve_duration_seconds"),
        );
        self.first.get_or_insert_with(|| now.clone());
        self.last = Some(now);
    }
}

fn grown(first: &Buckets, last: &Buckets) -> Buckets {
    let before = |end: f64| {
        let found = first.iter().find(|(other, _)| other.total_cmp(&end).is_eq());
        found.map_or(0.0, |&(_, count)| count)
    };
    last.iter().map(|&(end, count)| (end, count - before(end))).collect()
}

/// The time below which a share of the observations lie, linear inside a bucket; none without any, or beyond all buckets.
fn quantile(buckets: &Buckets, share: f64) -> Option<f64> {
    let total = buckets.last().map(|&(_, count)| count).filter(|&count| count > 0.0)?;
    let (mut low, mut before) = (0.0, 0.0);
    for &(end, count) in buckets {
        if count >= share * total {
            let inside = (share * total - before) / (count - before).max(f64::MIN_POSITIVE);
            return end.is_finite().then_some(low + (end - low) * inside);
        }
        (low, before) = (end, count);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_read_off_what_came_since_the_first_page() {
        let page = |gap: &str, counts: [u32; 4]| {
            let ends = ["0.001", "0.01", "0.1", "+Inf"];
            let lines = ends.iter().zip(counts);
            let lines =
                lines.map(|(end, count)| format!("tiercel_decision_duration_seconds_bucket{{le=\"{end}\"}} {count}\n"));
            format!("tiercel_plan_gap_ratio {gap}\n{}", lines.collect::<String>())
        };
        let mut seen = Seen::default();
        seen.read(&page("NaN", [5, 5, 5, 5]));
        seen.read(&page("0.02", [5, 5, 5, 5]));
        seen.read(&page("0", [55, 105, 105, 105]));
        assert_eq!(seen.gaps, [2.0, 0.0], "what nobody knows is not zero");
        let planning = Planning {
            seen: Arc::new(Mutex::new(seen)),
            _task: tokio::task::JoinSet::new(),
        };
        let (gap, steps, searches) = planning.told();
        assert_eq!((gap.p50, gap.max), (Some(0.0), Some(2.0)));
        assert_eq!((steps.p50, searches.p50), (Some(1.0), None));
        assert!((steps.p99.unwrap() - 9.82).abs() < 1e-9, "{steps:?}");
    }
}
