//! What is simulated: the core's world, and beside it what the world does not say about servers and requests.

use crate::rebalance::world::{Resources, Variant, World};

/// A world with everything that a simulation needs.
#[derive(Clone, Debug, Default)]
pub struct Scenario {
    /// As the operator would hand it to the core.
    pub world: World,
    /// By pool of the world.
    pub pools: Vec<String>,
    /// By pipeline of the world.
    pub pipelines: Vec<PipelineFacts>,
    /// By stage of the world.
    pub stages: Vec<StageFacts>,
    /// By variant of the world.
    pub variants: Vec<Server>,
    /// What the reader should know about how it came about: assumptions, refusals.
    pub notes: Vec<String>,
}

/// A pipeline, beyond what the world says.
#[derive(Clone, Debug, PartialEq)]
pub struct PipelineFacts {
    /// Its name.
    pub name: String,
    /// End-to-end latency that a request of mean work must keep, milliseconds; absent if none is declared.
    pub objective_ms: Option<u64>,
}

/// A stage, beyond what the world says.
#[derive(Clone, Debug, PartialEq)]
pub struct StageFacts {
    /// Its name.
    pub name: String,
    /// The work of a call follows the size of its request (model servers that generate); otherwise every call is one unit.
    pub sized: bool,
    /// How long a leaving replica may finish what it runs, milliseconds.
    pub drain_ms: u64,
}

/// What a replica of a variant is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Server {
    /// Calls that run at once. At least 1.
    pub slots: u32,
    /// How much longer a call takes when all slots are busy than alone: 1 for independent slots, `slots` for one shared
    /// processor, in between for batching.
    pub slowdown: f64,
    /// What its metrics show.
    pub signal: Signal,
}

/// Where a variant's metrics come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// `metrics.k8s.io`: CPU over request, one value per 15 s.
    Cpu,
    /// The model server: calls running and waiting, and the rate, at every scrape.
    Server,
}

impl Server {
    /// Seconds that a unit of work takes while `running` calls share a replica that serves `per_second` at most.
    pub fn seconds_per_unit(&self, per_second: f64, running: u32) -> f64 {
        let slots = f64::from(self.slots);
        let full = slots / per_second.max(1e-9);
        if self.slots <= 1 {
            return full;
        }
        let slowdown = self.slowdown.clamp(1.0, slots);
        let share = (f64::from(running.clamp(1, self.slots)) - 1.0) / (slots - 1.0);
        full * (1.0 + (slowdown - 1.0) * share) / slowdown
    }

    /// Units per second that `running` calls draw.
    pub fn throughput(&self, per_second: f64, running: u32) -> f64 {
        if running == 0 {
            return 0.0;
        }
        f64::from(running.min(self.slots)) / self.seconds_per_unit(per_second, running)
    }
}

impl Scenario {
    /// The stages of a pipeline, as a range of indices.
    pub fn stages_of(&self, pipeline: usize) -> std::ops::Range<usize> {
        let is = |stage: &crate::rebalance::world::Stage| stage.pipeline.0 as usize == pipeline;
        let start = self.world.stages.iter().position(is).unwrap_or(0);
        let count = self.world.stages.iter().filter(|stage| is(stage)).count();
        start..start + count
    }

    /// The variants of a stage, as a range of indices.
    pub fn variants_of(&self, stage: usize) -> std::ops::Range<usize> {
        let (start, end) = self.world.stages[stage].variants;
        start as usize..end as usize
    }

    /// Calls per second that one replica of a variant serves at most. A replica whose capacity nobody declared serves one
    /// call per second and slot.
    pub fn per_second(&self, variant: usize) -> f64 {
        let declared = &self.world.variants[variant];
        let stage = &self.world.stages[declared.stage.0 as usize];
        if stage.rated {
            declared.capacity_millis as f64 / 1e3
        } else {
            f64::from(self.variants[variant].slots)
        }
    }

    /// Mean calls of each stage per request of its pipeline.
    pub fn visits(&self) -> Vec<f64> {
        let mut visits: Vec<f64> = Vec::with_capacity(self.world.stages.len());
        for stage in &self.world.stages {
            let from =
                |edge: &crate::rebalance::world::Edge| visits[edge.from.0 as usize] * edge.calls_millis as f64 / 1e3;
            visits.push(if stage.after.is_empty() {
                1.0
            } else {
                stage.after.iter().map(from).sum()
            });
        }
        visits
    }

    /// Latency that a request of mean work must keep, milliseconds: as declared, else two seconds beyond what it takes
    /// where nothing waits and all replicas are full.
    pub fn objective_ms(&self, pipeline: usize) -> f64 {
        if let Some(declared) = self.pipelines[pipeline].objective_ms {
            return declared as f64;
        }
        2_000.0 + self.full_latency_ms(pipeline)
    }

    /// Latency of a mean request without waiting, on full replicas of the pools that come first, milliseconds.
    pub fn full_latency_ms(&self, pipeline: usize) -> f64 {
        let range = self.stages_of(pipeline);
        let first = range.start;
        let mut done: Vec<f64> = Vec::with_capacity(range.len());
        for stage in range {
            let ladder = self.ladder(stage);
            let own = ladder.first().map_or(0.0, |&variant| {
                let server = &self.variants[variant];
                server.seconds_per_unit(self.per_second(variant), server.slots) * 1e3
            });
            let after = &self.world.stages[stage].after;
            let start = after
                .iter()
                .map(|edge| done[edge.from.0 as usize - first])
                .fold(0.0, f64::max);
            done.push(start + own);
        }
        done.into_iter().fold(0.0, f64::max)
    }

    /// Seconds that a call takes on the stage's first pool: alone, and on a full replica.
    pub fn service_s(&self, stage: usize) -> (f64, f64) {
        self.ladder(stage).first().map_or((0.0, 0.0), |&variant| {
            let (server, rate) = (&self.variants[variant], self.per_second(variant));
            (
                server.seconds_per_unit(rate, 1),
                server.seconds_per_unit(rate, server.slots),
            )
        })
    }

    /// Variants of a stage that may be used, best first: preferred tier, then price per unit of capacity. The ladder that
    /// an operator of a scaler which knows no pools would write down.
    pub fn ladder(&self, stage: usize) -> Vec<usize> {
        let mut order: Vec<usize> = self
            .variants_of(stage)
            .filter(|&at| self.world.variants[at].max > 0)
            .collect();
        let price = |at: usize| {
            let variant = &self.world.variants[at];
            f64::from(variant.hint_permille) * variant.marginal_micros as f64 / self.per_second(at)
        };
        order.sort_by(|&a, &b| price(a).total_cmp(&price(b)).then(a.cmp(&b)));
        order
    }

    /// Replicas that a variant must have so that its stage keeps `reliable_min`: all of them where one costs the least on a
    /// reliable pool, tier hints priced in. The core may spread them otherwise; for a policy that does not know the rule it
    /// is the floor that an operator would set.
    pub fn floor(&self, variant: usize) -> u32 {
        let stage = self.world.variants[variant].stage.0 as usize;
        let least = self.world.stages[stage].reliable_min;
        if least == 0 {
            return 0;
        }
        let price = |at: usize| {
            let variant = &self.world.variants[at];
            (
                u128::from(variant.hint_permille) * u128::from(variant.marginal_micros),
                at,
            )
        };
        let reliable = |at: &usize| self.world.pools[self.world.variants[*at].pool.0 as usize].reliable;
        let cheapest = self
            .ladder(stage)
            .into_iter()
            .filter(reliable)
            .min_by_key(|&at| price(at));
        if cheapest == Some(variant) { least } else { 0 }
    }

    /// Whether a bundle of resources holds another.
    pub fn holds(room: Resources, request: Resources) -> bool {
        room.cpu_millis >= request.cpu_millis
            && room.memory_kib >= request.memory_kib
            && room.device_millis >= request.device_millis
    }

    /// What is left of every pool when so many replicas of every variant hold what they request. Never negative.
    pub fn room(&self, held: impl Fn(usize) -> u32) -> Vec<Resources> {
        let mut room: Vec<Resources> = self.world.pools.iter().map(|pool| pool.capacity).collect();
        for (at, variant) in self.world.variants.iter().enumerate() {
            take(&mut room[variant.pool.0 as usize], variant, held(at));
        }
        room
    }

    /// Name of a variant: `stage@pool`.
    pub fn label(&self, variant: usize) -> String {
        let declared = &self.world.variants[variant];
        let stage = &self.stages[declared.stage.0 as usize].name;
        format!("{stage}@{}", self.pools[declared.pool.0 as usize])
    }
}

/// Takes what `count` replicas request.
pub fn take(room: &mut Resources, variant: &Variant, count: u32) {
    let count = u64::from(count);
    room.cpu_millis = room.cpu_millis.saturating_sub(variant.request.cpu_millis * count);
    room.memory_kib = room.memory_kib.saturating_sub(variant.request.memory_kib * count);
    room.device_millis = room.device_millis.saturating_sub(variant.request.device_millis * count);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_slots_serve_the_declared_rate_and_a_lone_call_is_faster_by_the_slowdown() {
        let server = Server {
            slots: 16,
            slowdown: 4.0,
            signal: Signal::Server,
        };
        assert!((server.throughput(3.3, 16) - 3.3).abs() < 1e-9);
        let ratio = server.seconds_per_unit(3.3, 16) / server.seconds_per_unit(3.3, 1);
        assert!((ratio - 4.0).abs() < 1e-9);
        let shared = Server {
            slowdown: 16.0,
            ..server
        };
        assert!(
            (shared.throughput(3.3, 1) - 3.3).abs() < 1e-9,
            "one call has the processor for itself"
        );
    }
}
