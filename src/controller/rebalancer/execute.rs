//! What follows from decisions: claims and writes sent off, their outcomes taken in.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinError;
use tracing::Instrument as _;

use super::super::report::DECISIONS_MAX;
use super::super::spans;
use super::order::{self, Order};
use super::turns::Value;
use super::writes::{self, Outcome, Write};
use super::{Rebalancer, view};
use crate::rebalance::decision::{Decision, Move, Trigger};
use crate::rebalance::world::{Mode, VariantIdx};

/// Claims under way at once. They share the budget of writes with decisions: so few are never long in front of one.
const CLAIMS_MAX: usize = 8;
/// A claim that failed is tried again after so long.
const CLAIM_AGAIN_MS: u64 = 500;

impl Rebalancer {
    /// Claims `spec.replicas` of Deployments that the reconciler has created, with the value that is there. Says whether
    /// any is still to be claimed.
    pub(super) fn claim(&mut self, now_ms: u64) -> bool {
        let mut open = false;
        let under_way = self.children.iter().flatten().filter(|child| child.claiming).count();
        let free = CLAIMS_MAX.saturating_sub(under_way);
        let mut unclaimed = Vec::new();
        for (at, variant) in (0_u32..).zip(&self.index.variants) {
            let pipeline = self.index.stage(variant.stage).map(|stage| stage.pipeline.0 as usize);
            let mode = pipeline
                .and_then(|at| self.state.world().pipelines.get(at))
                .map(|pipeline| pipeline.mode);
            if !matches!(mode, Some(Mode::Automatic | Mode::NoScaleIn | Mode::NoScaleOut)) {
                continue;
            }
            let at = VariantIdx(at);
            let Some(child) = self.child(at) else { continue };
            if child.claimed || child.foreign.is_some() {
                continue;
            }
            open = true;
            if !child.in_flight && !child.claiming && now_ms >= child.claim_after_ms && unclaimed.len() < free {
                unclaimed.push((at, child.desired));
            }
        }
        for (at, replicas) in unclaimed {
            let Some(key) = self.key(at) else { continue };
            let Some(child) = self.child_mut(at) else { continue };
            child.claiming = true;
            child.claim_after_ms = now_ms + CLAIM_AGAIN_MS;
            let write = Write {
                child: key,
                from: replicas,
                to: replicas,
                resource_version: child.resource_version.clone(),
                sampled_ms: None,
            };
            let client = self.ctx.client.clone();
            self.writes.spawn(async move {
                let outcome = writes::claim(&client, &write).await;
                (write, outcome)
            });
        }
        open
    }

    /// Records a decision and sends its writes off.
    pub(super) fn act(&mut self, decision: &Decision) {
        let Some(stage) = self.index.stage(decision.stage) else {
            return;
        };
        let (stage_name, pipeline) = (stage.name.clone(), stage.pipeline);
        let Some(id) = self.index.pipeline(pipeline).cloned() else {
            return;
        };
        let sampled_ms = matches!(decision.trigger, Trigger::DemandRose | Trigger::DemandFell)
            .then(|| self.signals.newest_ms(decision.stage))
            .flatten();
        let mut sent = Vec::new();
        if !decision.advisory {
            let can = |step: &Move| {
                let child = self.child(step.variant);
                child.is_some_and(|child| !child.in_flight && child.foreign.is_none())
            };
            for step in order::sendable(&decision.moves, can) {
                let Some(key) = self.key(step.variant) else { continue };
                let child = self.child_mut(step.variant);
                let Some(child) = child.filter(|child| child.desired != step.to) else {
                    continue;
                };
                let write = Write {
                    child: key,
                    from: child.desired,
                    to: step.to,
                    resource_version: child.resource_version.clone(),
                    sampled_ms,
                };
                child.in_flight = true;
                sent.push(write);
            }
            if sent.is_empty() {
                return;
            }
        }
        let report = self.state.report(decision.stage);
        let taken_ms = report.and_then(|report| report.signal_taken_ms);
        let signal_age_ms = taken_ms.map(|taken_ms| decision.at_ms.saturating_sub(taken_ms));
        let driver = report.and_then(|report| report.driver);
        let summary = view::summarize(decision, driver, &self.index, self.ctx.epoch, self.ctx.clock.wall());
        tracing::info!(
            namespace = id.namespace,
            pipeline = id.name,
            stage = &*stage_name,
            decision = summary.id,
            trigger = summary.trigger,
            reason = summary.reason,
            cost_before = summary.cost_before,
            cost_after = summary.cost_after,
            "{}",
            summary.summary
        );
        self.ctx
            .metrics
            .decided(view::trigger_word(decision.trigger), view::reason_word(decision.reason));
        if let Some(log) = &mut self.ctx.log {
            log.tell(&id.namespace, &id.name, decision.demand_millis, &summary);
        }
        let inputs = spans::Inputs {
            pipeline: (&id.namespace, &id.name),
            stage: &stage_name,
            demand_millis: decision.demand_millis,
            signal_age_ms,
            step_us: self.step_took.as_micros(),
        };
        let span = spans::decision(&inputs, &summary, decision.advisory);
        let recent = self.decisions.entry(id.uid).or_default();
        recent.push_front(Arc::new(summary));
        recent.truncate(DECISIONS_MAX);
        let order = Order::default();
        let priority = self.state.world().pipelines.get(pipeline.0 as usize);
        let priority = priority.map_or(0, |pipeline| pipeline.priority);
        for write in sent {
            let (client, place, turns) = (self.ctx.client.clone(), order.place(&write), self.turns.clone());
            let (metrics, clock) = (self.ctx.metrics.clone(), self.ctx.clock.clone());
            let value = Value::new(priority, write.from, write.to);
            let traced = spans::write(&span, &write);
            let written = async move {
                let in_turn = || async {
                    let _turn = turns.take(value).await;
                    let started = clock.now();
                    let outcome = writes::scale(&client, &write).await;
                    metrics.scale_write_took(started.elapsed());
                    outcome
                };
                let outcome = place.take(in_turn).await;
                outcome.trace();
                (write, outcome)
            };
            self.writes.spawn(written.instrument(traced));
        }
    }

    /// Counts what an acknowledged write changed.
    fn moved(&self, at: VariantIdx, change: (u32, u32)) {
        let found = self.index.variant(at).and_then(|variant| {
            let stage = self.index.stage(variant.stage)?;
            Some((variant, stage, self.index.pipeline(stage.pipeline)?))
        });
        if let Some((variant, stage, id)) = found {
            let pipeline = (id.namespace.as_str(), id.name.as_str());
            self.ctx.metrics.scaled(pipeline, &stage.name, &variant.pool, change);
        }
    }

    /// The outcome of a write.
    pub(super) fn written(&mut self, done: Result<(Write, Outcome), JoinError>) {
        let Ok((write, outcome)) = done else {
            // A panic inside a write leaves its child unknown: look at everything again.
            self.children.clear();
            self.world_stale = true;
            return;
        };
        let variant = self.index.child(&write.child.0, &write.child.1);
        let slot = variant.and_then(|at| self.children.get_mut(at.0 as usize));
        let (Some(variant), Some(child)) = (variant, slot.and_then(Option::as_mut)) else {
            return;
        };
        let now_ms = self.ctx.clock.now_ms();
        match outcome {
            Outcome::Written(version) if write.is_claim() => {
                child.claim(version);
                self.ctx.metrics.scale_write("claimed");
            }
            Outcome::Moved(replicas, version) if write.is_claim() => {
                child.outrun(replicas, version);
                self.ctx.metrics.scale_write("moved");
            }
            Outcome::Failed(message) if write.is_claim() => {
                child.claiming = false;
                self.ctx.metrics.scale_write("failed");
                tracing::warn!(
                    namespace = write.child.0,
                    deployment = write.child.1,
                    message,
                    "replicas were not claimed, trying again"
                );
            }
            Outcome::Written(version) => {
                child.acknowledge(write.to, version);
                self.ctx.metrics.scale_write("written");
                self.moved(variant, (write.from, write.to));
                if let Some(sampled_ms) = write.sampled_ms {
                    self.ctx
                        .metrics
                        .reacted(Duration::from_millis(now_ms.saturating_sub(sampled_ms)));
                }
            }
            Outcome::Moved(replicas, version) => {
                child.in_flight = false;
                child.desired = replicas;
                child.resource_version = version;
                self.ctx.metrics.scale_write("moved");
            }
            Outcome::Gone => {
                (child.in_flight, child.claiming) = (false, false);
                self.world_stale = true;
                self.ctx.metrics.scale_write("gone");
            }
            Outcome::Failed(message) => {
                // The core takes it for under way until its grace is over: no refusal is answered with a storm of tries.
                child.in_flight = false;
                self.ctx.metrics.scale_write("failed");
                tracing::warn!(
                    namespace = write.child.0,
                    deployment = write.child.1,
                    message,
                    "replicas were not written"
                );
            }
        }
        self.observe(variant);
    }
}
