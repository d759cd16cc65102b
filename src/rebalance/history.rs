//! What the core remembers, all of it bounded: demand windows, times of past moves, pending replicas, dry pools.

use super::bug::{Bug, seeded};
use super::world::DryReason;

/// Buckets a window is divided into. An extreme is remembered for at most one part in `BUCKETS` longer than asked for.
const BUCKETS: u8 = 32;

/// Which extreme a [`Window`] keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extreme {
    Lowest,
    Highest,
}

/// The extreme of a value over the last while, in at most `BUCKETS + 2` entries. A bucket that a newer one outdoes can be the
/// extreme no more and is forgotten: of a value that stands still one is left.
#[derive(Clone, Debug)]
pub(super) struct Window {
    extreme: Extreme,
    /// Start of the bucket and its extreme, oldest first.
    buckets: Vec<(u64, u64)>,
}

impl Window {
    pub(super) fn new(extreme: Extreme) -> Self {
        Self {
            extreme,
            buckets: Vec::new(),
        }
    }

    pub(super) fn clear(&mut self) {
        self.buckets.clear();
    }

    /// Multiplies all it remembers.
    pub(super) fn scale(&mut self, of: impl Fn(u64) -> u64) {
        self.buckets.iter_mut().for_each(|(_, value)| *value = of(*value));
    }

    fn pick(&self, left: u64, right: u64) -> u64 {
        match self.extreme {
            Extreme::Lowest => left.min(right),
            Extreme::Highest => left.max(right),
        }
    }

    /// Adds a value and returns the extreme over the last `window_ms`, this value included.
    pub(super) fn push(&mut self, now_ms: u64, window_ms: u64, value: u64) -> u64 {
        if window_ms == 0 {
            self.buckets.clear();
            return value;
        }
        let width = (window_ms / u64::from(BUCKETS)).max(1);
        let start = now_ms - now_ms % width;
        // A bucket leaves once its last millisecond is out of the window.
        self.buckets
            .retain(|&(begin, _)| begin.saturating_add(width).saturating_add(window_ms) > now_ms);
        let merged = match self.buckets.last() {
            Some(&(begin, old)) if begin >= start => Some(self.pick(old, value)),
            _ => None,
        };
        match (merged, self.buckets.last_mut()) {
            (Some(merged), Some(last)) => last.1 = merged,
            _ => self.buckets.push((start, value)),
        }
        while let [.., (_, older), (_, newest)] = *self.buckets.as_slice()
            && self.pick(older, newest) == newest
        {
            self.buckets.remove(self.buckets.len() - 2);
        }
        // Bounded even if the window is edited while it is in use.
        let surplus = self.buckets.len().saturating_sub(usize::from(BUCKETS) + 2);
        self.buckets.drain(..surplus);
        self.buckets
            .iter()
            .fold(value, |extreme, &(_, other)| self.pick(extreme, other))
    }
}

/// Most times an [`Allowance`] remembers; a larger allowance counts as this one.
const TIMES_MAX: usize = 256;

/// Amounts spent over a sliding period.
#[derive(Clone, Debug, Default)]
pub(super) struct Allowance {
    /// When, and how much, oldest first.
    spent: Vec<(u64, u32)>,
}

impl Allowance {
    pub(super) fn spend(&mut self, now_ms: u64, amount: u32) {
        if self.spent.len() >= TIMES_MAX {
            self.spent.remove(0);
        }
        self.spent.push((now_ms, amount));
    }

    /// What was spent over the last `period_ms`. Forgets what is older.
    pub(super) fn spent(&mut self, now_ms: u64, period_ms: u64) -> u64 {
        self.spent
            .retain(|&(at_ms, _)| at_ms.saturating_add(period_ms) > now_ms);
        self.spent.iter().map(|&(_, amount)| u64::from(amount)).sum()
    }

    /// When the oldest of it leaves the period.
    pub(super) fn frees_ms(&self, period_ms: u64) -> Option<u64> {
        self.spent.first().map(|&(at_ms, _)| at_ms.saturating_add(period_ms))
    }
}

/// Batches of pending replicas that are told apart by age; more are merged into the youngest.
const BATCHES_MAX: usize = 8;

/// Replicas that are not Ready since the same time.
#[derive(Clone, Copy, Debug)]
struct Batch {
    since_ms: u64,
    count: u32,
    /// They were asked for then: not found so, and not Ready before.
    started: bool,
}

/// Replicas that were asked for and are not Ready, by age.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    /// Oldest first.
    batches: Vec<Batch>,
}

/// Why the number of pending replicas may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// More or the same are asked for, and as many as before or more are Ready.
    Asked,
    /// Fewer are asked for.
    Withdrawn,
    /// First look, or fewer are Ready: nobody knows since when.
    Found,
}

impl Pending {
    /// Follows the observed number: new ones are young, the oldest get Ready first, the youngest are withdrawn first. Returns
    /// how long the first that got Ready took, milliseconds, if that is known.
    pub(super) fn observe(&mut self, now_ms: u64, pending: u32, change: Change) -> Option<u64> {
        let total = self.total();
        if pending > total {
            let more = pending - total;
            let full = self.batches.len() >= BATCHES_MAX;
            let started = change == Change::Asked;
            match self.batches.last_mut() {
                Some(last) if full || last.since_ms == now_ms => {
                    last.since_ms = now_ms;
                    last.count = last.count.saturating_add(more);
                    last.started &= started;
                }
                _ => self.batches.push(Batch {
                    since_ms: now_ms,
                    count: more,
                    started,
                }),
            }
            return None;
        }
        let mut took_ms = None;
        let mut fewer = total - pending;
        while fewer > 0 {
            let at = if change == Change::Withdrawn {
                self.batches.len().saturating_sub(1)
            } else {
                0
            };
            let Some(batch) = self.batches.get_mut(at) else { break };
            if change == Change::Asked && batch.started && took_ms.is_none() {
                took_ms = now_ms.checked_sub(batch.since_ms);
            }
            let taken = batch.count.min(fewer);
            batch.count -= taken;
            fewer -= taken;
            if batch.count == 0 {
                self.batches.remove(at);
            }
        }
        took_ms
    }

    pub(super) fn total(&self) -> u32 {
        self.batches
            .iter()
            .fold(0, |sum: u32, batch| sum.saturating_add(batch.count))
    }

    /// How long the oldest have been pending, milliseconds.
    pub(super) fn oldest_ms(&self, now_ms: u64) -> Option<u64> {
        let oldest = self.batches.iter().map(|batch| batch.since_ms).min()?;
        now_ms.checked_sub(oldest)
    }

    /// Those that have been pending for `patience_ms` and are taken for not coming.
    pub(super) fn overdue(&self, now_ms: u64, patience_ms: u64) -> u32 {
        let late = self
            .batches
            .iter()
            .filter(|batch| batch.since_ms.saturating_add(patience_ms) <= now_ms);
        late.fold(0, |sum: u32, batch| sum.saturating_add(batch.count))
    }

    /// When the next batch becomes overdue.
    pub(super) fn overdue_ms(&self, now_ms: u64, patience_ms: u64) -> Option<u64> {
        let due = self
            .batches
            .iter()
            .map(|batch| batch.since_ms.saturating_add(patience_ms));
        due.filter(|&due_ms| due_ms > now_ms).min()
    }
}

/// First pause after a variant was found dry.
const DRY_MS_FIRST: u64 = 30_000;

/// Longest pause.
const DRY_MS_LAST: u64 = 15 * 60_000;

/// Memory of a variant that could not place or start pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dry {
    pub(super) reason: DryReason,
    /// Until then nothing is added; afterwards one probe.
    pub(super) until_ms: u64,
    /// The pause that led to `until_ms`.
    pause_ms: u64,
    /// Ready replicas when it was found dry: one more and it has recovered.
    pub(super) ready: u32,
    /// Since when a probe may go.
    pub(super) probe_since_ms: Option<u64>,
}

impl Dry {
    /// What is remembered after one more report. Reports during a pause say nothing new.
    pub(super) fn again(before: Option<Self>, now_ms: u64, reason: DryReason, ready: u32) -> Self {
        let pause_ms = match before {
            Some(dry) if now_ms < dry.until_ms => {
                return Self {
                    reason,
                    ready: dry.ready.min(ready),
                    probe_since_ms: None,
                    ..dry
                };
            }
            Some(dry) if !seeded(Bug::DryPauseStays) => dry.pause_ms.saturating_mul(2).min(DRY_MS_LAST),
            _ => DRY_MS_FIRST,
        };
        Self {
            reason,
            until_ms: now_ms.saturating_add(pause_ms),
            pause_ms,
            ready,
            probe_since_ms: None,
        }
    }

    /// A pool that was lost is there again: no pause, but a probe first.
    pub(super) fn returning(now_ms: u64) -> Self {
        Self {
            reason: DryReason::Reclaimed,
            until_ms: now_ms,
            pause_ms: DRY_MS_FIRST,
            ready: 0,
            probe_since_ms: None,
        }
    }

    /// The pause is over; one replica may go first.
    pub(super) fn probing(&self, now_ms: u64) -> bool {
        now_ms >= self.until_ms && !seeded(Bug::DryForever)
    }

    /// Forgotten: nobody needed a probe for as long as the longest pause.
    pub(super) fn faded(&self, now_ms: u64) -> bool {
        now_ms >= self.until_ms.saturating_add(DRY_MS_LAST)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sim::Random;
    use super::*;

    const WINDOW_MS: u64 = 64_000;

    #[test]
    fn a_window_knows_its_extreme_and_forgets_what_can_be_it_no_more() {
        let width_ms = WINDOW_MS / u64::from(BUCKETS);
        for extreme in [Extreme::Lowest, Extreme::Highest] {
            let (mut window, mut random, mut all) = (Window::new(extreme), Random::new(7), Vec::new());
            for second in 0..2_000 {
                let (now_ms, value) = (second * 1_000, random.within(1, 50));
                all.push((now_ms - now_ms % width_ms, value));
                let inside = all.iter().filter(|(start, _)| start + width_ms + WINDOW_MS > now_ms);
                let inside = inside.map(|&(_, value)| value);
                let expected = match extreme {
                    Extreme::Lowest => inside.min(),
                    Extreme::Highest => inside.max(),
                };
                assert_eq!(Some(window.push(now_ms, WINDOW_MS, value)), expected);
            }
            for second in 2_000..2_100 {
                window.push(second * 1_000, WINDOW_MS, 10);
            }
            assert_eq!(window.buckets.len(), 1, "it stands still");
        }
    }
}
