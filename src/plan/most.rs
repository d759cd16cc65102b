//! The most that pipelines can serve from end to end, where replicas are then, and what keeps each from more.
//!
//! A pipeline serves what its worst stage serves, so all of its stages are put under one load, in the shares in which requests
//! reach them, and the core decides where replicas go. `full` is the load at which the first stage would be at its end if all
//! pools were its own. Where pools or budgets do not give that much, the largest share of it is looked for that every stage
//! serves; then the core is asked again under that load, so that no stage holds what its pipeline cannot use.
//!
//! A stage that declares no `requestsPerSecond` has no such share. It is taken to come to its most together with its pipeline.

use std::cmp::Reverse;

use super::rest::{Load, Rest, rest};
use super::supply::{LOAD_MAX, end, is_full, room, serves};
use crate::rebalance::world::{Mode, Stage, StageIdx, Variant, World};

/// All of `full`.
const WHOLE: u64 = 1_000_000;
/// Halvings of the range between a share that is served and one that is not.
const HALVINGS: usize = 10;
/// Pipelines for which that is done; the others are told by what the core makes of their whole load.
const SOUGHT_MAX: usize = 20;
/// Pods start between two looks.
const STARTUP_MS: u64 = 5_000;

/// What keeps a pipeline from serving more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// The budget in money.
    Budget,
    /// The ceiling on power.
    Power,
    /// Either.
    BudgetAndPower,
    /// What the pipelines of its namespace may take together.
    Namespace,
    /// This stage: its bounds, or its pools.
    Narrowest(StageIdx),
    /// Nothing is written for it, or it has no stage.
    Still,
}

/// Pipelines at their most.
#[derive(Clone, Debug)]
pub(super) struct Most {
    pub(super) rest: Rest,
    /// By pipeline that is planned.
    pub(super) limits: Vec<Limit>,
    /// Stages that would not serve more if all pools were their own, by stage.
    pub(super) ended: Vec<bool>,
    /// Requests per second that each of them serves at the first stage of all, thousandths; absent where no stage says.
    pub(super) requests: Vec<Option<u64>>,
}

/// Lets the first `planned` pipelines of `world` serve as much as they can, from `start` (replicas by variant). The others
/// stay as they are.
pub(super) fn most(world: &World, planned: usize, start: &[u32]) -> Most {
    let search = Search::new(world, planned, start);
    let mut found = search.run(&search.world, vec![WHOLE; planned]);
    // The same with less, if that serves as much.
    let leaner = search.run(&search.world, found.served.clone());
    if leaner.keeps(&found) {
        found = leaner;
    }
    let mut refused = vec![WHOLE; planned];
    let mut short: Vec<usize> = (0..planned)
        .filter(|&at| search.grows(at) && found.share(at) < WHOLE)
        .collect();
    short.sort_by_key(|&at| Reverse(world.pipelines.get(at).map(|pipeline| pipeline.priority)));
    for &at in short.iter().take(SOUGHT_MAX) {
        let (mut served, mut not) = (found.share(at), WHOLE);
        for _ in 0..HALVINGS {
            let middle = u64::midpoint(served, not);
            if middle == served {
                break;
            }
            let tried = search.run(&search.world, found.with(at, middle));
            if tried.share(at) >= middle && tried.spares(&found, at) {
                found = tried;
                served = found.share(at).clamp(middle, not - 1);
            } else {
                not = middle;
            }
        }
        if let Some(slot) = refused.get_mut(at) {
            *slot = not;
        }
    }
    let limits = (0..planned).map(|at| search.limit(at, &found, refused.get(at).copied().unwrap_or(WHOLE)));
    Most {
        limits: limits.collect(),
        ended: (0..world.stages.len())
            .map(|at| search.ended(at, &found.rest))
            .collect(),
        requests: (0..planned).map(|at| search.requests(at, &found)).collect(),
        rest: found.rest,
    }
}

/// One answer of the core.
#[derive(Clone, Debug)]
struct Run {
    rest: Rest,
    /// Share of `full` that each pipeline was put under.
    asked: Vec<u64>,
    /// Share that its worst stage serves.
    served: Vec<u64>,
}

impl Run {
    fn share(&self, pipeline: usize) -> u64 {
        self.served.get(pipeline).copied().unwrap_or(0)
    }

    /// No pipeline serves less than it does in `other`.
    fn keeps(&self, other: &Self) -> bool {
        self.served
            .iter()
            .zip(&other.served)
            .all(|(mine, theirs)| mine >= theirs)
    }

    /// No pipeline but this one serves less than it does in `other`, as far as it is asked.
    fn spares(&self, other: &Self, pipeline: usize) -> bool {
        let all = self.served.iter().zip(&other.served).zip(&other.asked);
        all.enumerate()
            .all(|(at, ((mine, theirs), asked))| at == pipeline || mine >= theirs.min(asked))
    }

    /// Its loads, with another for one pipeline.
    fn with(&self, pipeline: usize, share: u64) -> Vec<u64> {
        let mut asked = self.asked.clone();
        if let Some(slot) = asked.get_mut(pipeline) {
            *slot = share;
        }
        asked
    }
}

/// The load of a pipeline at which the first of its stages is at its end.
#[derive(Clone, Copy, Debug)]
struct Full {
    /// Requests per second at stages that nobody calls, thousandths; absent where no stage declares what it serves.
    requests: Option<u64>,
}

struct Search<'a> {
    /// Every planned stage is read by the load that it is put under.
    world: World,
    /// As it is.
    original: &'a World,
    start: &'a [u32],
    /// By pipeline that is planned.
    full: Vec<Full>,
    /// The most that each stage could serve if all pools were its own, thousandths of its unit per second.
    ends: Vec<u64>,
}

impl<'a> Search<'a> {
    fn new(original: &'a World, planned: usize, start: &'a [u32]) -> Self {
        let ends = (0..original.stages.len()).map(|at| end(original, at));
        let mut search = Self {
            world: original.clone(),
            original,
            start,
            full: Vec::new(),
            ends: ends.collect(),
        };
        search.full = (0..planned).map(|at| search.full_of(at)).collect();
        for (at, pipeline) in search.world.pipelines.iter_mut().enumerate().take(planned) {
            let mut stages = original.stages.iter().filter(|stage| stage.pipeline.0 as usize == at);
            // Without a rate there is no model of latency.
            pipeline.objective = pipeline.objective.filter(|_| stages.all(|stage| stage.rated));
        }
        let ours = |stage: &&mut Stage| (stage.pipeline.0 as usize) < planned;
        for stage in search.world.stages.iter_mut().filter(ours) {
            // Nothing moves in such a load: it is followed at once, and to the last replica.
            stage.tolerance_permille = 0;
            stage.up_window_ms = 0;
            stage.also.clear();
            let rated = |from: StageIdx| original.stages.get(from.0 as usize).is_some_and(|stage| stage.rated);
            stage.after.retain(|edge| stage.rated && rated(edge.from));
            stage.rated = true;
            let (first, end) = stage.variants;
            for variant in search.world.variants.iter_mut().take(end as usize).skip(first as usize) {
                variant.startup_ms = variant.startup_ms.min(STARTUP_MS);
            }
        }
        search
    }

    /// Stages of a pipeline, with their index.
    fn stages(&self, pipeline: usize) -> impl Iterator<Item = (usize, &'a Stage)> {
        let all = self.original.stages.iter().enumerate();
        all.filter(move |(_, stage)| stage.pipeline.0 as usize == pipeline)
    }

    /// Whether growth is written for it.
    fn grows(&self, pipeline: usize) -> bool {
        let mode = self.original.pipelines.get(pipeline).map(|pipeline| pipeline.mode);
        matches!(mode, Some(Mode::Automatic | Mode::NoScaleIn)) && self.stages(pipeline).next().is_some()
    }

    /// Requests that reach each stage of a pipeline when so many reach those that nobody calls, rounded as the core rounds.
    fn reach(&self, pipeline: usize, requests: u64) -> Vec<(usize, u64)> {
        let mut reached: Vec<(usize, u64)> = Vec::new();
        for (at, stage) in self.stages(pipeline) {
            let calls = stage.after.iter().map(|edge| {
                let from = reached.iter().find(|(index, _)| *index == edge.from.0 as usize);
                let from = u128::from(from.map_or(0, |(_, requests)| *requests));
                (from * u128::from(edge.calls_millis)).div_ceil(1_000)
            });
            let sum: u128 = calls.sum();
            let here = if stage.after.is_empty() {
                u128::from(requests)
            } else {
                sum
            };
            reached.push((at, u64::try_from(here).unwrap_or(LOAD_MAX).min(LOAD_MAX)));
        }
        reached
    }

    fn full_of(&self, pipeline: usize) -> Full {
        if !self.stages(pipeline).any(|(_, stage)| stage.rated) {
            return Full { requests: None };
        }
        let ends = |requests: u64| {
            let reached = self.reach(pipeline, requests);
            reached.into_iter().all(|(at, load)| {
                let rated = self.original.stages.get(at).is_some_and(|stage| stage.rated);
                !rated || load <= self.ends.get(at).copied().unwrap_or(0)
            })
        };
        let (mut served, mut not) = (0, LOAD_MAX);
        while served + 1 < not {
            let middle = u64::midpoint(served, not);
            if ends(middle) { served = middle } else { not = middle }
        }
        Full { requests: Some(served) }
    }

    /// Load of each stage of a pipeline at a share of its full one, thousandths of the stage's unit per second.
    fn loads(&self, pipeline: usize, share: u64) -> Vec<(usize, u64)> {
        let part = |whole: u64| {
            let part = (u128::from(whole) * u128::from(share)).div_ceil(u128::from(WHOLE));
            u64::try_from(part).unwrap_or(LOAD_MAX)
        };
        let full = self.full.get(pipeline).and_then(|full| full.requests);
        let mut loads = self.reach(pipeline, part(full.unwrap_or(0)));
        for (at, load) in &mut loads {
            if self.original.stages.get(*at).is_some_and(|stage| !stage.rated) {
                *load = part(self.ends.get(*at).copied().unwrap_or(0));
            }
        }
        loads
    }

    /// What the core makes of these shares. `world` is the search's own, or one with other ceilings.
    fn run(&self, world: &World, asked: Vec<u64>) -> Run {
        let mut loads = vec![Load::Steady; world.stages.len()];
        for (pipeline, share) in asked.iter().enumerate() {
            for (at, load) in self.loads(pipeline, *share) {
                if let Some(slot) = loads.get_mut(at) {
                    *slot = Load::Rate(load);
                }
            }
        }
        let load = |stage: StageIdx| loads.get(stage.0 as usize).copied().unwrap_or(Load::Steady);
        let rest = rest(world, self.start, load);
        let served = (0..asked.len()).map(|at| {
            let shares = self.shares(at, &rest);
            shares.into_iter().map(|(_, share)| share).min().unwrap_or(WHOLE)
        });
        Run {
            served: served.collect(),
            rest,
            asked,
        }
    }

    /// Share of the full load that each stage of a pipeline serves.
    fn shares(&self, pipeline: usize, rest: &Rest) -> Vec<(usize, u64)> {
        let full = self.loads(pipeline, WHOLE);
        let shares = full.into_iter().filter(|(_, full)| *full > 0).filter_map(|(at, full)| {
            let stage = self.original.stages.get(at)?;
            let serves = self.served(stage, rest);
            let share = u128::from(serves) * u128::from(WHOLE) / u128::from(full);
            Some((at, u64::try_from(share).unwrap_or(WHOLE).min(WHOLE)))
        });
        shares.collect()
    }

    /// What a stage's replicas serve, thousandths of its unit per second.
    fn served(&self, stage: &Stage, rest: &Rest) -> u64 {
        let replicas = self.sites(stage, &rest.placed);
        serves(stage, replicas.map(|(one, count)| (count, one.capacity_millis)))
    }

    /// The variants of a stage with their replicas.
    fn sites<'b>(&'b self, stage: &Stage, counts: &'b [u32]) -> impl Iterator<Item = (&'b Variant, u32)> {
        let (first, end) = (stage.variants.0 as usize, stage.variants.1 as usize);
        let all = self.original.variants.iter().zip(counts.iter().copied());
        all.take(end).skip(first)
    }

    /// What keeps a pipeline from more than it serves, given a share that it does not serve.
    fn limit(&self, pipeline: usize, found: &Run, refused: u64) -> Limit {
        if !self.grows(pipeline) {
            return Limit::Still;
        }
        let lifts = [
            (true, false, Limit::Budget),
            (false, true, Limit::Power),
            (true, true, Limit::BudgetAndPower),
        ];
        let limited = self.original.pipelines.get(pipeline);
        let [money, power] = limited.map_or([false; 2], |limited| {
            [limited.budget_micros.is_some(), limited.power_max_milliwatts.is_some()]
        });
        let short = found.share(pipeline) < WHOLE;
        if short && limited.is_some_and(|limited| limited.shared.is_some()) {
            let mut world = self.world.clone();
            if let Some(lifted) = world.pipelines.get_mut(pipeline) {
                lifted.shared = None;
            }
            let tried = self.run(&world, found.with(pipeline, refused));
            if tried.share(pipeline) >= refused && tried.spares(found, pipeline) {
                return Limit::Namespace;
            }
        }
        for (lift_money, lift_power, limit) in lifts {
            if !short || (lift_money && !money) || (lift_power && !power) {
                continue;
            }
            let mut world = self.world.clone();
            if let Some(lifted) = world.pipelines.get_mut(pipeline) {
                lifted.budget_micros = lifted.budget_micros.filter(|_| !lift_money);
                lifted.power_max_milliwatts = lifted.power_max_milliwatts.filter(|_| !lift_power);
            }
            let tried = self.run(&world, found.with(pipeline, refused));
            if tried.share(pipeline) >= refused && tried.spares(found, pipeline) {
                return limit;
            }
        }
        let full = self.loads(pipeline, WHOLE);
        let shares = self.shares(pipeline, &found.rest);
        // What a stage serves, then what it could at the very end, of what the pipeline would have it serve.
        let reach = |at: usize| {
            let of = |list: &[(usize, u64)]| list.iter().find(|(index, _)| *index == at).map(|(_, value)| *value);
            let end = self.ends.get(at).copied().unwrap_or(0);
            let end = u128::from(end) * u128::from(WHOLE) / u128::from(of(&full).unwrap_or(0).max(1));
            (of(&shares).unwrap_or(WHOLE), end)
        };
        let all = || self.stages(pipeline).map(|(at, _)| at);
        let stuck = all()
            .filter(|&at| self.stuck(at, &found.rest))
            .min_by_key(|&at| reach(at));
        let index = stuck.or_else(|| all().min_by_key(|&at| reach(at)));
        let index = index.and_then(|at| u32::try_from(at).ok());
        index.map_or(Limit::Still, |at| Limit::Narrowest(StageIdx(at)))
    }

    /// Whether a stage serves all that it ever could.
    fn ended(&self, at: usize, rest: &Rest) -> bool {
        let stage = self.original.stages.get(at);
        stage.is_some_and(|stage| self.served(stage, rest) >= self.ends.get(at).copied().unwrap_or(0))
    }

    /// Whether a stage has no place for one replica more.
    fn stuck(&self, at: usize, rest: &Rest) -> bool {
        let Some(stage) = self.original.stages.get(at) else {
            return false;
        };
        let total: u32 = self.sites(stage, &rest.placed).map(|(_, count)| count).sum();
        let room = room(self.original, &rest.placed);
        total >= stage.max
            || self
                .sites(stage, &rest.placed)
                .all(|(one, count)| is_full(one, count, &room))
    }

    /// Requests per second that a pipeline serves.
    fn requests(&self, pipeline: usize, found: &Run) -> Option<u64> {
        let full = self.full.get(pipeline)?.requests?;
        let share = found.share(pipeline);
        u64::try_from(u128::from(full) * u128::from(share) / u128::from(WHOLE)).ok()
    }
}
