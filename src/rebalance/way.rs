//! Stages that wait for each other's room, each in the place that another is planned for, wait for ever: no order of
//! growing first exists. One of them then gives way: it gives up replicas before their replacement is Ready, and others
//! grow in their place. It is the one that loses least, by priority and then by the share of its demand, and only if what the
//! plan serves more within the hour is more than what is lost while replicas start. For a price alone nobody goes short:
//! such a shift is given up (`State::pinned`).

use super::bug::{Bug, seeded};
use super::demand::capacity;
use super::moves::serve;
use super::plan::{Plan, variants_of, writes};
use super::scarcity::{Traits, traits};
use super::state::State;
use super::step::{HOUR_MS, mode};
use super::world::{Mode, Resources, Variant};

/// Requests are missed while the first of a cycle starts, and while who gave way starts elsewhere.
const STARTS: u128 = 2;

/// Who gives up what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) stage: usize,
    /// Among the stage's variants.
    pub(super) site: usize,
    pub(super) count: u32,
}

/// A stage whose next write finds no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waits {
    pub(super) stage: usize,
    /// Ready replicas that may still go within this minute.
    pub(super) shrinks: u64,
    /// Shifts that it has left within this hour.
    pub(super) shifts: u64,
}

/// What giving way costs: smaller gives way first.
type Loss = (u16, u128, u64, Traits, usize, usize);

/// The way out, if one is worth it, for those that wait while nothing is on its way.
pub(super) fn way(state: &State, plan: &Plan, waiting: &[Waits]) -> Option<Way> {
    let knot = Knot::new(state, plan, waiting);
    let mut least: Option<(Loss, Way)> = None;
    for waits in waiting {
        for site in 0..variants_of(&state.world, waits.stage).len() {
            let Some((loss, way)) = knot.offer(waits, site) else {
                continue;
            };
            let better = |least: &Loss| (loss < *least) != seeded(Bug::MostGivesWay);
            if least.as_ref().is_none_or(|(least, _)| better(least)) {
                least = Some((loss, way));
            }
        }
    }
    let ((priority, lost, ..), way) = least?;
    let hour = u128::from(HOUR_MS);
    let worth = knot.gain(priority) * hour > lost * STARTS * u128::from(knot.startup_ms());
    (worth || seeded(Bug::PriceGivesWay)).then_some(way)
}

struct Knot<'a> {
    state: &'a State,
    plan: &'a Plan,
    waiting: &'a [Waits],
    /// What is held of every pool.
    held: Vec<[u128; 3]>,
}

impl<'a> Knot<'a> {
    fn new(state: &'a State, plan: &'a Plan, waiting: &'a [Waits]) -> Self {
        let mut held = vec![[0; 3]; state.world.pools.len()];
        for (variant, memory) in state.world.variants.iter().zip(&state.variants) {
            if let Some(pool) = held.get_mut(variant.pool.0 as usize) {
                for (sum, each) in pool.iter_mut().zip(parts(variant.request)) {
                    *sum += each * u128::from(memory.held());
                }
            }
        }
        Self {
            state,
            plan,
            waiting,
            held,
        }
    }

    /// What so many replicas of a stage serve of its demand.
    fn serves(&self, stage: usize, counts: impl Fn(usize) -> u32) -> u64 {
        let (world, range) = (&self.state.world, variants_of(&self.state.world, stage));
        let need = self
            .state
            .stages
            .get(stage)
            .map(|memory| memory.ask.need)
            .unwrap_or_default();
        let sites = range.map(|at| (counts(at), world.variants.get(at).map_or(0, capacity)));
        serve(need.uniform, sites).min(need.demand)
    }

    fn ready(&self, at: usize) -> u32 {
        self.state
            .variants
            .get(at)
            .map_or(0, super::variant_memory::VariantMemory::ready)
    }

    fn planned(&self, at: usize) -> u32 {
        self.plan.counts.get(at).copied().unwrap_or(0)
    }

    /// A part of a stage's demand, millionths.
    fn share(&self, stage: usize, part: u64) -> u128 {
        let demand = self.state.stages.get(stage).map_or(0, |memory| memory.ask.need.demand);
        u128::from(part) * 1_000_000 / u128::from(demand.max(1))
    }

    /// What a stage gives up on one pool so that somebody else fits in, and what that costs it. None where it may not, or
    /// where nobody would fit.
    fn offer(&self, waits: &Waits, site: usize) -> Option<(Loss, Way)> {
        let (world, stage) = (&self.state.world, waits.stage);
        let (declared, memory) = (world.stages.get(stage)?, self.state.stages.get(stage)?);
        let range = variants_of(world, stage);
        let at = range.start + site;
        let variant = world.variants.get(at)?;
        let mode = mode(world.pipelines.get(declared.pipeline.0 as usize));
        if !writes(mode) || mode == Mode::NoScaleIn || memory.senses.blind || !memory.senses.observed {
            return None;
        }
        let surplus = self.ready(at).saturating_sub(self.planned(at));
        let total = |counts: &mut dyn Iterator<Item = u32>| counts.fold(0_u32, u32::saturating_add);
        let all = total(&mut range.clone().map(|at| self.ready(at)));
        let is_reliable = |at: usize| {
            let pool = world
                .variants
                .get(at)
                .map_or(usize::MAX, |variant| variant.pool.0 as usize);
            world.pools.get(pool).is_some_and(|pool| pool.reliable)
        };
        let reliable = total(&mut range.clone().filter(|&at| is_reliable(at)).map(|at| self.ready(at)));
        let mut most = surplus.min(all.saturating_sub(memory.ask.need.floor.min(declared.max)));
        if is_reliable(at) {
            most = most.min(reliable.saturating_sub(memory.ask.need.reliable_floor));
        }
        // Who begins can go on: each of its replicas may have to give way in turn.
        let moved: u64 = range
            .clone()
            .map(|at| u64::from(self.ready(at).saturating_sub(self.planned(at))))
            .sum();
        let most = most.min(u32::try_from(waits.shrinks).unwrap_or(u32::MAX));
        if most == 0 || waits.shifts < moved {
            return None;
        }
        let count = self.makes_room(stage, variant).filter(|&count| count <= most)?;
        let before = self.serves(stage, |at| self.ready(at));
        let after = self.serves(stage, |other| self.ready(other) - if other == at { count } else { 0 });
        let missed = before.saturating_sub(after);
        let traits = traits(world, stage, &memory.ask.need);
        let loss = (
            self.state.world.priority(stage),
            self.share(stage, missed),
            missed,
            traits,
            stage,
            site,
        );
        Some((loss, Way { stage, site, count }))
    }

    /// How many replicas of a variant must go, at least one, until a replica fits in that another stage waits for.
    fn makes_room(&self, stage: usize, variant: &Variant) -> Option<u32> {
        let world = &self.state.world;
        let held = self.held.get(variant.pool.0 as usize)?;
        let has = parts(world.pools.get(variant.pool.0 as usize)?.capacity);
        let others = self.waiting.iter().filter(|other| other.stage != stage);
        let wanted = others.flat_map(|other| variants_of(world, other.stage));
        let wanted = wanted.filter(|&at| self.planned(at) > self.ready(at));
        let wanted = wanted.filter_map(|at| world.variants.get(at).filter(|one| one.pool == variant.pool));
        let goes = wanted.filter_map(|one| {
            let mut most = 1;
            let asks = parts(one.request).into_iter().zip(parts(variant.request));
            for (((asks, gives), held), has) in asks.zip(held).zip(has) {
                let lacks = (held + asks).saturating_sub(has);
                if asks > 0 && lacks > 0 {
                    most = most.max(if gives > 0 { lacks.div_ceil(gives) } else { u128::MAX });
                }
            }
            u32::try_from(most).ok()
        });
        goes.min()
    }

    /// How much more of its demand is served once the plan is reached, over all stages of this priority or higher, in
    /// millionths of each one's demand; nothing where it is less.
    fn gain(&self, priority: u16) -> u128 {
        let stages = (0..self.state.world.stages.len()).filter(|&stage| self.state.world.priority(stage) >= priority);
        let (more, less) = stages.fold((0, 0), |(more, less), stage| {
            let now = self.serves(stage, |at| self.ready(at));
            let then = self.serves(stage, |at| self.planned(at));
            (
                more + self.share(stage, then.saturating_sub(now)),
                less + self.share(stage, now.saturating_sub(then)),
            )
        });
        more.saturating_sub(less)
    }

    /// The longest that a replica takes to start which somebody waits for.
    fn startup_ms(&self) -> u64 {
        let ranges = self
            .waiting
            .iter()
            .flat_map(|waits| variants_of(&self.state.world, waits.stage));
        let grows = ranges.filter(|&at| self.planned(at) > self.ready(at));
        let starts = grows.filter_map(|at| {
            let declared = self.state.world.variants.get(at)?.startup_ms;
            Some(self.state.variants.get(at)?.startup_learned(declared).value)
        });
        starts.max().unwrap_or(0)
    }
}

fn parts(resources: Resources) -> [u128; 3] {
    [resources.cpu_millis, resources.memory_kib, resources.device_millis].map(u128::from)
}
