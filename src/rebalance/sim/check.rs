//! What is asked of every single write, with arithmetic of its own: nothing here is taken from the core but where it
//! says that a stage is led, and what demand it answers.

use super::Sim;
use crate::rebalance::decision::{Decision, Move, Reason};
use crate::rebalance::world::{Resources, StageIdx, Traffic};

/// What a stage has at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    desired: u32,
    ready: u32,
    reliable_desired: u32,
    reliable_ready: u32,
    /// What Ready replicas serve, thousandths.
    serves: u64,
}

/// What the step found before it decided.
#[derive(Clone, Debug, Default)]
pub(super) struct Before {
    /// By pipeline: it costs more than it may, or may do so once writes on their way arrive.
    pub(super) over_budget: Vec<bool>,
    /// By variant: replicas asked for, as the core believes.
    pub(super) believed: Vec<u32>,
}

/// How a write reached the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// While the observation holds that it was decided on.
    AtOnce,
    /// Some seconds later: pods may have got Ready or gone since.
    Late,
}

fn serves(traffic: Traffic, sites: &[(u32, u64)]) -> u64 {
    let used: Vec<(u32, u64)> = sites.iter().copied().filter(|&(count, _)| count > 0).collect();
    let count: u64 = used.iter().map(|&(count, _)| u64::from(count)).sum();
    let slowest = used.iter().map(|&(_, each)| each).min().unwrap_or(0);
    match traffic {
        Traffic::Uniform => count * slowest,
        Traffic::Weighted | Traffic::Pull => used.iter().map(|&(count, each)| u64::from(count) * each).sum(),
    }
}

fn parts(resources: Resources) -> [u64; 3] {
    [resources.cpu_millis, resources.memory_kib, resources.device_millis]
}

impl Sim {
    /// What the core takes a replica to serve: as declared, or as learned.
    fn in_force(&self, variant: usize) -> u64 {
        let known = self.state.world().variants.get(variant);
        known.map_or(self.world.variants[variant].capacity_millis, |variant| {
            variant.capacity_millis
        })
    }

    /// Whether a stage has less than its load needs although a pool has room for a replica that would help. What has been
    /// asked for counts as if it served. False where a ceiling on cost or power may be why, and without a replica: nobody tells of
    /// its load then.
    pub(in crate::rebalance) fn starves(&self, stage: usize) -> bool {
        let declared = &self.world.stages[stage];
        let pipeline = &self.world.pipelines[declared.pipeline.0 as usize];
        let ceilings =
            pipeline.budget_micros.is_some() || pipeline.power_max_milliwatts.is_some() || pipeline.shared.is_some();
        let range = self.stage_range(stage);
        let asked: u32 = self.desired[range.clone()].iter().sum();
        if ceilings || asked == 0 || asked >= declared.max {
            return false;
        }
        let with = |more: Option<usize>| {
            let sites = range
                .clone()
                .map(|at| (self.desired[at] + u32::from(more == Some(at)), self.in_force(at)));
            serves(declared.traffic, &sites.collect::<Vec<_>>())
        };
        let now = with(None);
        now < self.load[stage] && range.clone().any(|at| with(Some(at)) > now && self.has_room(at))
    }

    fn tally(&self, stage: usize) -> Tally {
        let mut tally = Tally::default();
        let mut sites = Vec::new();
        for at in self.stage_range(stage) {
            let (variant, ready) = (&self.world.variants[at], self.ready(at));
            tally.desired += self.desired[at];
            tally.ready += ready;
            if self.world.pools[variant.pool.0 as usize].reliable {
                tally.reliable_desired += self.desired[at];
                tally.reliable_ready += ready;
            }
            sites.push((ready, self.in_force(at)));
        }
        tally.serves = serves(self.world.stages[stage].traffic, &sites);
        tally
    }

    /// Whether a stage has fewer Ready replicas than its true load needs at the target.
    pub(in crate::rebalance) fn is_short(&self) -> bool {
        let mut stages = self.load.iter().zip(&self.world.stages).enumerate();
        stages.any(|(at, (load, stage))| self.tally(at).serves * u64::from(stage.target_permille) < load * 1_000)
    }

    /// Writes one move and checks what it does.
    pub(super) fn write(&mut self, decision: &Decision, one: &Move, delivery: Delivery) {
        let at = one.variant.0 as usize;
        let stage = decision.stage.0 as usize;
        let before = self.tally(stage);
        if delivery == Delivery::AtOnce && one.from != self.desired[at] {
            self.fault(decision, &format!("{one:?} does not start from {}", self.desired[at]));
        }
        self.scale(at, one.to);
        let after = self.tally(stage);
        self.check_floors(decision, before, after, delivery);
        self.check_ceiling(decision, before, after);
        if one.to > one.from {
            self.check_room(decision, at);
            self.check_budget(decision, at);
        }
        if delivery == Delivery::AtOnce {
            self.check_pace(decision, before, after);
            // Under uniform traffic several slow pools are left together; in between, the pace is still theirs.
            if self.world.stages[stage].traffic != Traffic::Uniform || decision.moves.len() == 1 {
                self.check_make_before_break(decision, before, after);
            }
        }
    }

    fn check_floors(&mut self, decision: &Decision, before: Tally, after: Tally, delivery: Delivery) {
        let stage = &self.world.stages[decision.stage.0 as usize];
        // Zero only where idle is proven, which these clusters never do.
        let floor = stage
            .min
            .min(stage.max)
            .max(u32::from(before.desired > 0 && stage.max > 0));
        let reliable = stage.reliable_min.min(stage.max);
        let kept = |name: &str, before: u32, after: u32, floor: u32| {
            (after < floor.min(before)).then(|| format!("{name}: {before} -> {after}, at least {floor}"))
        };
        let mut broken = vec![
            kept("floor of desired", before.desired, after.desired, floor),
            kept(
                "reliable floor of desired",
                before.reliable_desired,
                after.reliable_desired,
                reliable,
            ),
        ];
        if delivery == Delivery::AtOnce {
            broken.push(kept("floor of ready", before.ready, after.ready, floor));
            broken.push(kept(
                "reliable floor of ready",
                before.reliable_ready,
                after.reliable_ready,
                reliable,
            ));
        }
        for what in broken.into_iter().flatten() {
            self.fault(decision, &what);
        }
    }

    fn check_ceiling(&mut self, decision: &Decision, before: Tally, after: Tally) {
        let declared = &self.world.stages[decision.stage.0 as usize];
        let Some(report) = self.state.report(decision.stage) else {
            return;
        };
        let range = self.stage_range(decision.stage.0 as usize);
        let moving: u32 = range
            .zip(&report.planned)
            .map(|(at, &planned)| self.desired[at].saturating_sub(planned))
            .sum();
        let most = declared.max + declared.max_surge.max(1).min(moving);
        if after.desired > before.desired && after.desired > most {
            let what = format!("ceiling: {before:?} -> {after:?}, {moving} on their way out");
            self.fault(decision, &what);
        }
    }

    /// Old and new side by side, those that are going included.
    fn check_room(&mut self, decision: &Decision, at: usize) {
        let pool = self.world.variants[at].pool;
        let mut used = [0_u64; 3];
        for (other, variant) in self.world.variants.iter().enumerate() {
            if variant.pool == pool {
                for (sum, each) in used.iter_mut().zip(parts(variant.request)) {
                    *sum += each * u64::from(self.held(other));
                }
            }
        }
        let asks = parts(self.world.variants[at].request);
        let has = parts(self.world.pools[pool.0 as usize].capacity);
        for resource in 0..3 {
            if asks[resource] > 0 && used[resource] > has[resource] {
                let what = format!(
                    "pool {pool:?} resource {resource}: {} of {}",
                    used[resource], has[resource]
                );
                self.fault(decision, &what);
            }
        }
    }

    /// What the pipeline's replicas cost that are asked for, and what they draw as far as that is known.
    pub(super) fn taken(&self, pipeline: usize, counts: &[u32]) -> (u64, u64) {
        let mine = self
            .world
            .variants
            .iter()
            .zip(counts)
            .filter(|(variant, _)| self.world.stages[variant.stage.0 as usize].pipeline.0 as usize == pipeline);
        mine.fold((0, 0), |(cost, power), (variant, &count)| {
            let draws = variant.power_milliwatts.unwrap_or(0);
            (
                cost + variant.cost_micros * u64::from(count),
                power + draws * u64::from(count),
            )
        })
    }

    /// The same of all pipelines that share ceilings.
    pub(super) fn taken_together(&self, shared: u32, counts: &[u32]) -> (u64, u64) {
        let pipelines = self.world.pipelines.iter().enumerate();
        let mine = pipelines.filter(|(_, pipeline)| pipeline.shared == Some(shared));
        mine.map(|(at, _)| self.taken(at, counts))
            .fold((0, 0), |(cost, power), (more, draws)| (cost + more, power + draws))
    }

    fn check_budget(&mut self, decision: &Decision, grown: usize) {
        let pipeline = self.world.stages[decision.stage.0 as usize].pipeline.0 as usize;
        let (cost, power) = self.taken(pipeline, &self.desired);
        let declared = &self.world.pipelines[pipeline];
        let exceeded = |most: Option<u64>, is: u64| most.is_some_and(|most| is > most);
        // What takes nothing of a ceiling may grow beside whatever else exceeds it.
        let draws = self.world.variants[grown].power_milliwatts;
        let unknown = declared.power_max_milliwatts.is_some() && draws.is_none();
        let (dear, hot) = (
            exceeded(declared.budget_micros, cost),
            exceeded(declared.power_max_milliwatts, power) && draws != Some(0) || unknown,
        );
        let shared = declared.shared.map(|at| self.world.shared[at as usize]);
        let together = declared
            .shared
            .map_or((0, 0), |at| self.taken_together(at, &self.desired));
        let over = shared.is_some_and(|most| {
            let unknown = most.power_max_milliwatts.is_some() && draws.is_none();
            exceeded(most.budget_micros, together.0)
                || exceeded(most.power_max_milliwatts, together.1) && draws != Some(0)
                || unknown
        });
        if over {
            self.fault(decision, &format!("shared budget: {together:?} of {shared:?}"));
        }
        if dear || hot {
            self.fault(decision, &format!("budget: {cost} micros, {power} milliwatts"));
        }
    }

    /// Ready replicas go only as far as the rest serves what the core itself says is asked for.
    fn check_make_before_break(&mut self, decision: &Decision, before: Tally, after: Tally) {
        let at = decision.stage.0 as usize;
        let stage = &self.world.stages[at];
        let Some(report) = self.state.report(decision.stage) else {
            return;
        };
        let planned: Vec<(u32, u64)> = self
            .stage_range(at)
            .zip(&report.planned)
            .map(|(at, &planned)| (planned, self.in_force(at)))
            .collect();
        let required = decision
            .demand_millis
            .min(serves(stage.traffic, &planned))
            .min(before.serves);
        let excused = self.before.over_budget[stage.pipeline.0 as usize]
            || before.ready > stage.max
            || decision.reason == Reason::GivesWay && self.somebody_gains();
        if after.ready < before.ready && after.serves < required && !excused {
            let what = format!(
                "break before make: {before:?} -> {after:?}, required {required} {:?} planned {planned:?} ready {:?}",
                stage.traffic,
                self.stage_range(at).map(|at| self.ready(at)).collect::<Vec<_>>()
            );
            self.fault(decision, &what);
        }
    }

    /// Whether the plan serves more of some stage's demand than its Ready replicas do.
    fn somebody_gains(&self) -> bool {
        (0..).zip(&self.world.stages).any(|(at, stage)| {
            let (Some(report), range) = (self.state.report(StageIdx(at)), self.stage_range(at as usize)) else {
                return false;
            };
            let planned: Vec<(u32, u64)> = range
                .zip(&report.planned)
                .map(|(at, &planned)| (planned, self.in_force(at)))
                .collect();
            let most = report.demand_millis.unwrap_or(0);
            serves(stage.traffic, &planned).min(most) > self.tally(at as usize).serves
        })
    }

    /// The share of its replicas that a stage may lose within a minute.
    fn check_pace(&mut self, decision: &Decision, before: Tally, after: Tally) {
        if after.ready >= before.ready {
            return;
        }
        let at = decision.stage.0 as usize;
        let now_ms = self.now_ms;
        self.removed[at].push((now_ms, before.ready - after.ready));
        self.removed[at].retain(|&(at_ms, _)| at_ms + 60_000 > now_ms);
        let removed = |from: bool| -> u64 {
            let all = self.removed[at].iter().filter(|&&(at_ms, _)| from || at_ms < now_ms);
            all.map(|&(_, count)| u64::from(count)).sum()
        };
        let earlier = removed(false);
        let base: u64 = self.stage_range(at).map(|at| u64::from(self.before.believed[at])).sum();
        let share = (base + earlier) * u64::from(self.world.stages[at].down_percent_per_minute) / 100;
        // Under uniform traffic a slow pool is left in one step or not at all; then it is all that goes within a minute.
        let whole = self.world.stages[at].traffic == Traffic::Uniform && earlier == 0;
        if removed(true) > share.max(1) && !whole {
            let what = format!("{} of {base} gone within a minute, {share} may", removed(true));
            self.fault(decision, &what);
        }
    }

    fn fault(&mut self, decision: &Decision, what: &str) {
        self.violations.push(format!(
            "{what} at {} in {decision:?} with {:?}",
            self.now_ms, self.desired
        ));
    }
}
