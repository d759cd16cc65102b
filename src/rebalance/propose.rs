//! Plans made aside: where pools or budgets are short, the joint problem goes to the certified solver, and what it finds
//! comes back as an event.
//!
//! [`step`](super::step) never waits for it. It answers every event at once with the greedy plan of `scarcity`; whoever
//! calls it asks [`State::question`] afterwards, has [`propose`] answer it on a thread of its own and within a slice of
//! time, and hands the answer in as [`Event::Proposal`](super::world::Event::Proposal). A proposal is one more candidate:
//! it is fitted to what is true when it arrives, and the plan in force stays unless the proposal is better by the measure
//! that holds for all plans, in which what runs is priced lower than what would have to move. So a stale or cut off answer
//! costs nothing, and a log that holds the proposals replays without the solver.
//!
//! # What the solver is asked
//!
//! Prices are the plan's own. What is missing is worth more than any price: a hundredth of a stage's demand as much as the
//! dearest replica of all, in the lowest class of priority; the classes above share twelve powers of two, which is as far as
//! whole numbers reach. Pipelines are planned end to end: what one stage cannot pass on, the others need not hold.

use std::time::Duration;

use super::demand::capacity;
use super::ledger::Ledger;
use super::moves::serve;
use super::oracle::Item;
use super::plan::{Ask, Bound, Plan, price, variants_of};
use super::solve::rows::{GroupRow, OptionRow, PoolRow, Rows, StageRow};
use super::solve::{
    Instance, Memory, Priced, Settings, Solution, Traffic, gap_ppm, price_rooms, searching, solve, worth,
};
use super::spend::Spend;
use super::state::State;
use super::world::{PipelineIdx, PoolIdx, Variant, VariantIdx, World};

/// Bits of the price of the dearest replica.
const PRICE_BITS: u32 = 24;
/// Bits by which the worth of the highest class of priority may exceed that of the lowest.
const CLASS_BITS: u32 = 12;
/// What a stage's whole demand is worth in the lowest class, in prices of the dearest replica.
const DEMAND_WORTH: u64 = 100;

/// Evaluations of the bound while prices are polished that are shown: where a plan only needs good ones, people read these.
const PRICE_POLISH: u32 = 100;

/// Room of what is counted in millicores, KiB and thousandths of a device, per core, GiB and device.
const PER_WHOLE: [u128; 3] = [1_000, 1 << 20, 1_000];

/// A joint problem, taken out of a state. Self-contained: it may be answered on any thread, or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// World for which it holds; answers to older worlds are not taken.
    world: u64,
    rows: Rows,
    /// Variant of every option.
    variants: Vec<VariantIdx>,
    /// The plan in force, by option.
    in_force: Vec<u32>,
    /// A price of the rows times two to this is one of the plan.
    shift: u32,
    /// Groups of the rows that are pipelines' own; shared ones follow.
    pipelines: u32,
}

impl Question {
    /// Stages that are planned together.
    pub fn stages(&self) -> usize {
        self.rows.stages.len()
    }

    /// The part of a time slice in which [`propose`] may be told to go on.
    pub fn searching(&self, slice: Duration) -> Duration {
        searching(self.variants.len(), slice)
    }
}

/// An answer, as an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proposal {
    /// World for which it was made.
    pub world: u64,
    /// Replicas that are proposed. What is not named stands apart.
    pub counts: Vec<(VariantIdx, u32)>,
    /// How good that is, and what was in force.
    pub certificate: Certificate,
}

/// How far plans are from the best there can be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// Cost of the proposal beyond the bound, millionths of the bound, rounded up; absent where the bound is zero.
    pub gap_ppm: Option<u64>,
    /// The same of the plan that was in force when the question was asked.
    pub gap_in_force_ppm: Option<u64>,
    /// What one more of a pool's resources would save: the pool, which (0 a core, 1 a GiB, 2 a device), and millionths of
    /// a dollar per hour. Only of what is short, and only where all demand is served: what is missing has no price in money.
    pub prices: Vec<(PoolIdx, u8, u64)>,
    /// The same of ceilings: what one more dollar per hour, or one more watt, would save.
    pub ceilings: Vec<CeilingPrice>,
}

/// What a ceiling that binds costs. Weighed as the plan weighs it, by tier hints and by what moves cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CeilingPrice {
    /// Who keeps it.
    pub of: Keeper,
    /// What it is on.
    pub on: On,
    /// Millionths of a dollar per hour that one more would save.
    pub micros: u64,
}

/// Who keeps a ceiling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// One pipeline.
    Pipeline(PipelineIdx),
    /// Those that share a place in [`World::shared`].
    Shared(u32),
}

/// What a ceiling is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Dollars per hour.
    Cost,
    /// Watts.
    Power,
}

/// What a question was made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    world: u64,
    asks: Vec<Ask>,
    bounds: Vec<Bound>,
    from: Vec<u32>,
    counts: Vec<u32>,
}

/// Answers a question. `go_on` is asked at short intervals; after a no, the best there is comes back soon.
pub fn propose(
    question: &Question,
    memory: &mut Memory,
    settings: &Settings,
    go_on: &mut dyn FnMut() -> bool,
) -> Proposal {
    let instance = Instance::new(&question.rows);
    let solution = solve(&instance, memory, settings, go_on);
    let in_force = worth(&instance, &question.in_force);
    let starved = starved(&question.rows, &solution);
    let mut prices = prices(question, &solution.prices, &starved);
    let mut ceilings = ceiling_prices(question, &solution.prices, &starved);
    if !prices.is_empty() || !ceilings.is_empty() {
        let more = with_more_room(question, memory, settings, go_on);
        prices = self::prices(question, &more, &starved);
        ceilings = ceiling_prices(question, &more, &starved);
    }
    let pairs = question.variants.iter().copied().zip(solution.counts.iter().copied());
    Proposal {
        world: question.world,
        counts: pairs.collect(),
        certificate: Certificate {
            gap_ppm: solution.gap_ppm,
            gap_in_force_ppm: gap_ppm(in_force, solution.bound),
            prices,
            ceilings,
        },
    }
}

/// What one more of a resource would save. Of pools only whose stages, and all that compete with them, are served: what
/// is missing has a penalty, which is no price that anybody pays.
fn prices(question: &Question, found: &[(Priced, u64)], starved: &[bool]) -> Vec<(PoolIdx, u8, u64)> {
    let priced = found.iter().filter_map(|&(what, price)| {
        let Priced::Pool { pool, resource } = what else {
            return None;
        };
        if starved.get(pool as usize).copied().unwrap_or(true) {
            return None;
        }
        let micros = in_micros(question, price, *PER_WHOLE.get(resource)?)?;
        Some((PoolIdx(pool), u8::try_from(resource).ok()?, micros))
    });
    priced.collect()
}

/// The same of ceilings.
fn ceiling_prices(question: &Question, found: &[(Priced, u64)], starved: &[bool]) -> Vec<CeilingPrice> {
    let priced = found.iter().filter_map(|&(what, price)| {
        let (group, on, whole) = match what {
            Priced::Money { group } => (group, On::Cost, 1_000_000),
            Priced::Power { group } => (group, On::Power, 1_000),
            Priced::Pool { .. } => return None,
        };
        let node = question.rows.pools.len() + group as usize;
        if starved.get(node).copied().unwrap_or(true) {
            return None;
        }
        let micros = in_micros(question, price, whole)?;
        let of = match group.checked_sub(question.pipelines) {
            None => Keeper::Pipeline(PipelineIdx(group)),
            Some(at) => Keeper::Shared(at),
        };
        (micros > 0).then_some(CeilingPrice { of, on, micros })
    });
    priced.collect()
}

/// From 2^-24 of a shifted price per unit to what so many units cost; a price is micros × 1000 × 16.
fn in_micros(question: &Question, price: u64, units: u128) -> Option<u64> {
    let whole = (u128::from(price) << question.shift).checked_mul(units)?;
    u64::try_from((whole >> 24) / 16_000).ok()
}

/// The prices alone, where every pool has room for half a replica more, and every ceiling. What is just full has any price between what one more
/// saves and what one less would cost; with room for a little more only the first is left, and what is short stays short.
fn with_more_room(
    question: &Question,
    memory: &mut Memory,
    settings: &Settings,
    go_on: &mut dyn FnMut() -> bool,
) -> Vec<(Priced, u64)> {
    let mut rows = question.rows.clone();
    let options = question.rows.stages.iter().flat_map(|stage| &stage.options);
    let usable: Vec<&OptionRow> = options.filter(|option| option.upper > 0).collect();
    for (pool, at) in rows.pools.iter_mut().zip(0..) {
        let half = |of: fn(&OptionRow) -> u64| {
            let here = usable.iter().filter(|option| option.pool == at);
            let least = here.map(|option| of(option)).filter(|&each| each > 0).min();
            i64::try_from(least.unwrap_or(0) / 2).unwrap_or(i64::MAX)
        };
        pool.cpu_millis = pool.cpu_millis.saturating_add(half(|option| option.request.cpu_millis));
        pool.memory_kib = pool.memory_kib.saturating_add(half(|option| option.request.memory_kib));
        pool.device_millis = pool
            .device_millis
            .saturating_add(half(|option| option.request.device_millis));
    }
    for (group, at) in rows.groups.iter_mut().zip(0..) {
        let half = |of: fn(&OptionRow) -> u64| {
            let here = question.rows.stages.iter().filter(|stage| stage.groups.contains(&at));
            let options = here.flat_map(|stage| &stage.options).filter(|option| option.upper > 0);
            options.map(of).filter(|&each| each > 0).min().unwrap_or(0) / 2
        };
        let more = |most: Option<u64>, half: u64| most.map(|most| most.saturating_add(half));
        group.money_max_micros = more(group.money_max_micros, half(|option| option.cost_micros));
        group.power_max_milliwatts = more(group.power_max_milliwatts, half(|option| option.power_milliwatts));
    }
    let polished = Settings {
        polish: settings.polish.or(Some(PRICE_POLISH)),
        ..*settings
    };
    price_rooms(&Instance::new(&rows), memory, &polished, go_on)
}

/// By pool, then by ceiling: whether a stage is short of something that competes for it, be it by way of other stages, of
/// other pools or of other ceilings.
fn starved(rows: &Rows, solution: &Solution) -> Vec<bool> {
    let places = rows.pools.len();
    // A forest over pools and ceilings: what a stage has to do with is one tree.
    let mut above: Vec<usize> = (0..places + rows.groups.len()).collect();
    let root = |above: &[usize], mut at: usize| {
        while let Some(&next) = above.get(at).filter(|&&next| next != at) {
            at = next;
        }
        at
    };
    let touched = |stage: &StageRow| -> Vec<usize> {
        let usable = stage.options.iter().filter(|option| option.upper > 0);
        let pools = usable.map(|option| option.pool as usize);
        pools
            .chain(stage.groups.iter().map(|&group| places + group as usize))
            .collect()
    };
    for stage in &rows.stages {
        let all = touched(stage);
        for pair in all.windows(2) {
            let [one, other] = [0, 1].map(|at| pair.get(at).map_or(0, |&at| root(&above, at)));
            if let Some(slot) = above.get_mut(one.max(other)) {
                *slot = one.min(other);
            }
        }
    }
    let mut starved = vec![false; above.len()];
    let lacks = solution.unserved.iter().zip(&solution.short);
    for (stage, _) in rows
        .stages
        .iter()
        .zip(lacks)
        .filter(|(_, (open, short))| **open > 0 || **short > 0)
    {
        let at = touched(stage).first().map(|&at| root(&above, at));
        if let Some(slot) = at.and_then(|at| starved.get_mut(at)) {
            *slot = true;
        }
    }
    let of = |at| starved.get(root(&above, at)).copied().unwrap_or(false);
    (0..above.len()).map(of).collect()
}

impl State {
    /// The joint problem as it is after the last step, if something is short and it was not asked before: a plan that
    /// might be better is worth looking for. See [`propose`].
    pub fn question(&mut self) -> Option<Question> {
        let plan = self.plan.as_ref().filter(|plan| plan.crowded && self.changed)?;
        let asked = Asked {
            world: self.worlds,
            asks: self.planned_asks.clone(),
            bounds: self.variants.iter().map(|memory| memory.bound).collect(),
            from: self.planned_from.clone(),
            counts: plan.lasting.clone(),
        };
        if self.asked.as_ref() == Some(&asked) {
            return None;
        }
        let question = ask(self, plan, &asked);
        self.asked = Some(asked);
        Some(question)
    }

    /// How far the plan in force is from the best there can be, millionths of the best, and what more room would save.
    /// Zero where everybody has the cheapest there is; absent while nobody has looked.
    pub fn certificate(&self) -> (Option<u64>, &[(PoolIdx, u8, u64)]) {
        match &self.plan {
            Some(plan) if !plan.crowded => (Some(0), &[]),
            Some(_) => (self.gap_ppm, &self.prices),
            None => (None, &[]),
        }
    }

    /// What more of the ceilings that bind would save, on the same terms.
    pub fn ceiling_prices(&self) -> &[CeilingPrice] {
        match &self.plan {
            Some(plan) if plan.crowded => &self.ceilings,
            _ => &[],
        }
    }

    pub(super) fn take_proposal(&mut self, proposal: &Proposal) {
        if proposal.world != self.worlds {
            return;
        }
        let mut counts = self.plan.as_ref().map_or_else(Vec::new, |plan| plan.lasting.clone());
        for &(variant, count) in &proposal.counts {
            if let Some(slot) = counts.get_mut(variant.0 as usize) {
                *slot = count;
            }
        }
        self.prices.clone_from(&proposal.certificate.prices);
        self.ceilings.clone_from(&proposal.certificate.ceilings);
        self.proposal = Some((counts, proposal.certificate.gap_ppm));
        self.gap_ppm = proposal.certificate.gap_in_force_ppm;
    }
}

fn ask(state: &State, plan: &Plan, asked: &Asked) -> Question {
    let world = &state.world;
    let mut room = Ledger::new(world);
    let aside = |stage: usize| asked.asks.get(stage).is_some_and(|ask| ask.aside);
    let (mut dearest, mut classes) = (1_u128, Vec::new());
    for (at, stage) in world.stages.iter().enumerate() {
        for variant in variants_of(world, at) {
            let Some(declared) = world.variants.get(variant) else {
                continue;
            };
            dearest = dearest.max(price(declared).max(1));
            if aside(at) {
                let runs = asked.from.get(variant).copied().unwrap_or(0);
                room.take(stage.pipeline.0 as usize, declared, runs);
            }
        }
        if !aside(at) {
            classes.push(world.priority(at));
        }
    }
    classes.sort_unstable();
    classes.dedup();
    let shift = (u128::BITS - dearest.leading_zeros()).saturating_sub(PRICE_BITS);
    let mut question = Question {
        world: asked.world,
        shift,
        pipelines: u32::try_from(world.pipelines.len()).unwrap_or(u32::MAX),
        ..Question::default()
    };
    let cut = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    question.rows.pools = (world.pools.iter().zip(&room.pools))
        .map(|(pool, room)| PoolRow {
            reliable: pool.reliable,
            cpu_millis: cut(room.cpu_millis),
            memory_kib: cut(room.memory_kib),
            device_millis: cut(room.device_millis),
        })
        .collect();
    question.rows.groups = ceilings(world, &room);
    let worth = u64::try_from(dearest >> shift).unwrap_or(1 << PRICE_BITS).max(1) * DEMAND_WORTH;
    for (at, stage) in world.stages.iter().enumerate().filter(|&(at, _)| !aside(at)) {
        let mut need = asked.asks.get(at).map(Ask::competing).unwrap_or_default();
        let guessed = asked.asks.get(at).is_some_and(|ask| ask.guessed);
        if guessed {
            // Nobody gives up anything for a guess: it keeps what it has.
            let range = variants_of(world, at);
            let declared = world.variants.get(range.clone()).unwrap_or_default().iter();
            let counts = plan.lasting.get(range).unwrap_or_default().iter().copied();
            need.demand = need.demand.min(serve(need.uniform, counts.zip(declared.map(capacity))));
        }
        let class = classes.partition_point(|&other| other < world.priority(at));
        let above =
            u32::try_from(class).unwrap_or(0) * CLASS_BITS / u32::try_from(classes.len()).map_or(1, |n| n.max(2) - 1);
        let mut row = StageRow {
            demand_millis: need.demand,
            min: need.floor,
            max: need.ceiling,
            reliable_min: need.reliable_floor,
            traffic: if need.uniform { Traffic::Uniform } else { Traffic::Pull },
            penalty: ((worth << above) / need.demand.max(1)).max(1),
            priority: world.priority(at),
            pipeline: Some(stage.pipeline.0),
            groups: groups(world, stage.pipeline.0),
            options: Vec::new(),
        };
        for variant in variants_of(world, at) {
            let Some(declared) = world.variants.get(variant) else {
                continue;
            };
            let bound = asked.bounds.get(variant).copied().unwrap_or_default();
            let count = |counts: &[u32]| counts.get(variant).copied().unwrap_or(0);
            let upper = bound.upper.min(declared.max);
            let (kept, new) = kept_and_new(declared, shift);
            row.options.push(OptionRow {
                pool: declared.pool.0,
                request: declared.request,
                price: u64::try_from(kept).unwrap_or(u64::MAX),
                move_up: u64::try_from(new - kept).unwrap_or(u64::MAX),
                cost_micros: declared.cost_micros,
                power_milliwatts: declared.power_milliwatts.unwrap_or(unknown_power(world, at)),
                // No replica serves more than there is to serve.
                capacity_millis: capacity(declared).min(need.demand.max(1)),
                current: count(&asked.from).max(count(&plan.counts)),
                lower: bound.lower.min(upper),
                upper,
                ..OptionRow::default()
            });
            question
                .variants
                .push(VariantIdx(u32::try_from(variant).unwrap_or(u32::MAX)));
            question.in_force.push(count(&plan.lasting));
        }
        if guessed || row.options.iter().all(|option| option.upper == 0) {
            // It tells nothing about what the others need.
            row.pipeline = None;
        }
        question.rows.stages.push(row);
    }
    question
}

/// What a replica counts that is there, and one that is new; the new one more in any case.
fn kept_and_new(variant: &Variant, shift: u32) -> (u128, u128) {
    let (kept, new) = Item::prices(price(variant));
    let (kept, new) = (kept >> shift, new >> shift);
    (kept.min(new.saturating_sub(1)), new)
}

/// What a replica draws of which nobody knows it: under a ceiling more than fits, else nothing that would matter.
fn unknown_power(world: &World, stage: usize) -> u64 {
    let pipeline = world
        .stages
        .get(stage)
        .map_or(usize::MAX, |stage| stage.pipeline.0 as usize);
    match Spend::ceilings(world, pipeline).milliwatts {
        u64::MAX => 0,
        _ => u64::MAX,
    }
}

/// The ceilings of pipelines, and behind them what is left of those that are shared: advisory stages have taken theirs.
fn ceilings(world: &World, room: &Ledger) -> Vec<GroupRow> {
    let own = world.pipelines.iter().map(|pipeline| GroupRow {
        money_max_micros: pipeline.budget_micros,
        power_max_milliwatts: pipeline.power_max_milliwatts,
    });
    let limit = |left: u64| (left != u64::MAX).then_some(left);
    let shared = room.shared.iter().map(|left| GroupRow {
        money_max_micros: limit(left.micros),
        power_max_milliwatts: limit(left.milliwatts),
    });
    own.chain(shared).collect()
}

/// Rows of the ceilings that a pipeline keeps: its own, and what it shares.
fn groups(world: &World, pipeline: u32) -> Vec<u32> {
    let shared = world.pipelines.get(pipeline as usize).and_then(|found| found.shared);
    let first = u32::try_from(world.pipelines.len()).unwrap_or(u32::MAX);
    std::iter::once(pipeline).chain(shared.map(|at| first + at)).collect()
}

#[cfg(test)]
mod tests;
