//! What is written down at the end of each second: metrics for the policies, cost and frames for the outcome.

use super::Run;
use crate::simulate::cluster::Seen;
use crate::simulate::metrics::{CPU_PERIOD_MS, Cpu, Second};
use crate::simulate::outcome::{FRAME_S, Frame};

impl Run<'_> {
    /// Counts a second of every replica that holds resources.
    pub(super) fn account(&mut self, now_ms: u64) {
        for (seen, variant) in self.cluster.seen.iter().zip(&self.scenario.world.variants) {
            self.replica_seconds += f64::from(seen.placed());
            self.cost_micro_seconds += f64::from(seen.placed()) * variant.cost_micros as f64;
        }
        if (now_ms / 1_000).is_multiple_of(FRAME_S) {
            let next = Frame {
                at_s: 0,
                requests: 0,
                late: 0,
                placed: Vec::new(),
            };
            let mut frame = std::mem::replace(&mut self.frame, next);
            frame.at_s = now_ms / 1_000;
            frame.placed = self.cluster.seen.iter().map(Seen::placed).collect();
            self.outcome.frames.push(frame);
        }
    }

    /// Counts what went to other pools since the last time.
    pub(super) fn count_shifts(&mut self) {
        for stage in 0..self.scenario.stages.len() {
            let (mut gained, mut lost) = (0, 0);
            for at in self.scenario.variants_of(stage) {
                let (now, before) = (self.cluster.seen[at].desired, self.shift_base[at]);
                gained += now.saturating_sub(before);
                lost += before.saturating_sub(now);
                self.shift_base[at] = now;
            }
            self.outcome.shifts += u64::from(gained.min(lost));
        }
    }

    /// Takes the metrics of the second that ends.
    pub(super) fn measure(&mut self, now_ms: u64) {
        for stage in 0..self.scenario.stages.len() {
            self.touch_lobby(stage);
            let range = self.scenario.variants_of(stage);
            let slots = |run: &Self, at: usize| {
                f64::from(run.cluster.seen[at].ready) * f64::from(run.scenario.variants[at].slots)
            };
            let total: f64 = range.clone().map(|at| slots(self, at)).sum();
            let begun: u64 = range.clone().map(|at| self.sums[at].begun).sum();
            let pulls = self.pulls(stage);
            for at in range {
                self.touch(at);
                // The common queue is seen at the servers that pull from it: what waits by their share of the slots, what
                // comes by what they took.
                let share = if pulls && total > 0.0 {
                    slots(self, at) / total
                } else {
                    0.0
                };
                let (sums, lobby) = (&mut self.sums[at], &self.lobbies[stage]);
                let arrivals = if pulls && begun > 0 {
                    lobby.arrivals as f64 * sums.begun as f64 / begun as f64
                } else if pulls {
                    lobby.arrivals as f64 * share
                } else {
                    sums.arrivals as f64
                };
                let second = Second {
                    ready: self.cluster.seen[at].ready,
                    running: sums.running_s,
                    waiting: sums.waiting_s + lobby.waited_s * share,
                    running_now: f64::from(sums.running),
                    waiting_now: f64::from(sums.waiting) + lobby.queue.len() as f64 * share,
                    arrivals,
                };
                (sums.running_s, sums.waiting_s, sums.arrivals, sums.begun) = (0.0, 0.0, 0, 0);
                self.metrics.push(at, second);
            }
            self.lobbies[stage].arrivals = 0;
            self.lobbies[stage].waited_s = 0.0;
        }
        if now_ms.is_multiple_of(CPU_PERIOD_MS) {
            for variant in 0..self.scenario.variants.len() {
                self.measure_cpu(variant, now_ms);
            }
        }
    }

    fn measure_cpu(&mut self, variant: usize, now_ms: u64) {
        let ready: Vec<usize> = self.cluster.ready(variant).collect();
        let (mut sampled, mut used_s) = (0, 0.0);
        for at in ready {
            self.advance(at);
            let state = &mut self.cluster.replicas[at];
            if now_ms == CPU_PERIOD_MS || state.ready_ms + CPU_PERIOD_MS <= now_ms {
                sampled += 1;
                used_s += state.busy_s - state.busy_mark_s;
            }
            state.busy_mark_s = state.busy_s;
            self.plan(at);
        }
        let window_s = CPU_PERIOD_MS as f64 / 1e3;
        let cpu = (sampled > 0).then(|| Cpu {
            taken_ms: now_ms,
            sampled,
            utilization: used_s / window_s / f64::from(sampled),
        });
        self.metrics.set_cpu(variant, cpu);
    }
}
