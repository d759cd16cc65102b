//! What the same demand costs on accelerators only: the planner itself, over the demand that was offered, in a world
//! without processors to fall back on.
//!
//! Definition. The accelerator pools of the run serve every stage. Generation keeps its variants there. Every other stage
//! takes whole nodes, as Kubernetes hands out devices: one replica fills a node and serves as often the stage's declared
//! rate as its CPU request fits into the node. The spot pool has the nodes of the run and is gone while it was gone in
//! the run; the pools that are not spot have as many nodes as are asked for. Bounds are the pipeline's, the reliable floor
//! included. New replicas serve at once. The last two favour this side.

use tiercel::api::compute_pool::Tier;
use tiercel::rebalance::world::{
    Edge, Event, Key, Mode, OnSignalLoss, Pipeline, PipelineIdx, Pool, PoolIdx, Reading, Resources, Stage, StageIdx,
    Traffic, Variant, VariantIdx, World,
};
use tiercel::rebalance::{State, step};

use super::SPOT_POOL;
use super::models::{PoolModel, StageModel};

/// The definition, for the report.
pub const DEFINITION: &str = "computed by the operator's own planner over the offered demand, on the accelerator pools of the run: generation as \
    declared, every other stage on whole nodes (one replica fills a node and serves the declared rate as often as its CPU request fits); spot as \
    many nodes and as long as in the run, the other pools as many as are asked for; the stages' own bounds; replicas serve at once";

const WHOLE: u64 = 1_000;
const ENDLESS: u64 = 1_000;

/// What was asked of the pipeline at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// Seconds since the start of the load.
    pub t_s: f64,
    /// Requests per second; `None` before the load.
    pub offered_per_s: Option<f64>,
    /// Whether the spot pool had capacity.
    pub spot: bool,
}

/// Nodes of each pool, and the vCPUs of one.
pub type Machines<'a> = &'a dyn Fn(&str) -> (u64, u32);

/// USD per hour at each moment; `None` where no demand was known yet. Moments must be in order.
pub fn cost_per_hour(
    stages: &[StageModel],
    pools: &[PoolModel],
    machines: Machines<'_>,
    moments: &[Moment],
) -> Vec<Option<f64>> {
    let mut state = State::new();
    let mut world = None;
    let mut counts: Vec<u32> = Vec::new();
    let first_s = moments.first().map_or(0.0, |moment| moment.t_s);
    let mut costs = Vec::with_capacity(moments.len());
    for moment in moments {
        let now_ms = millis(moment.t_s - first_s);
        let Some(offered) = moment.offered_per_s else {
            costs.push(None);
            continue;
        };
        let mut events = Vec::new();
        let wanted = accelerators_only(stages, pools, machines, moment.spot);
        counts.resize(wanted.variants.len(), 0);
        if world.as_ref() != Some(&wanted) {
            events.push(Event::World(wanted.clone()));
            world = Some(wanted.clone());
        }
        for (at, variant) in (0_u32..).zip(&wanted.variants) {
            let count = counts.get_mut(at as usize);
            let Some(count) = count else { continue };
            // Taken away with its nodes.
            *count = (*count).min(variant.max);
            events.push(Event::Replicas {
                variant: VariantIdx(at),
                desired: *count,
                ready: *count,
            });
        }
        events.extend(readings(stages, &wanted, &counts, offered, now_ms));
        // Steps follow one another until nothing is left to decide: a shift takes two.
        for _ in 0..8 {
            let decisions = step(&mut state, &events, now_ms);
            events.clear();
            if decisions.is_empty() {
                break;
            }
            for step in decisions.iter().flat_map(|decision| &decision.moves) {
                if let Some(count) = counts.get_mut(step.variant.0 as usize) {
                    *count = step.to;
                }
            }
            events.extend((0_u32..).zip(&counts).map(|(at, count)| Event::Replicas {
                variant: VariantIdx(at),
                desired: *count,
                ready: *count,
            }));
            events.extend(readings(stages, &wanted, &counts, offered, now_ms));
        }
        let micros: u64 = wanted
            .variants
            .iter()
            .zip(&counts)
            .map(|(variant, count)| variant.cost_micros * u64::from(*count))
            .sum();
        #[allow(clippy::cast_precision_loss)] // a few dollars
        costs.push(Some(micros as f64 / 1e6));
    }
    costs
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // not negative, far below 2^53
fn millis(value: f64) -> u64 {
    (value.max(0.0) * 1e3).round() as u64
}

/// The stage's rate, seen by its first replicas; the others report none.
fn readings(stages: &[StageModel], world: &World, counts: &[u32], offered: f64, now_ms: u64) -> Vec<Event> {
    let mut events = Vec::new();
    for (model, stage) in stages.iter().zip(&world.stages) {
        let mut rate = Some(millis(offered * model.visits));
        for at in stage.variants.0..stage.variants.1 {
            let count = counts.get(at as usize).copied().unwrap_or(0);
            if count == 0 {
                continue;
            }
            events.push(Event::Reading {
                variant: VariantIdx(at),
                reading: Reading {
                    taken_ms: now_ms,
                    sampled: count,
                    expected: count,
                    running_millis: None,
                    waiting_millis: None,
                    utilization_permille: None,
                    rate_millis: Some(rate.take().unwrap_or(0)),
                },
            });
        }
    }
    events
}

struct Place {
    name: String,
    price_micros: u64,
    nodes: u64,
    vcpus: u32,
    spot: bool,
}

fn accelerators_only(stages: &[StageModel], pools: &[PoolModel], machines: Machines<'_>, spot: bool) -> World {
    let place = |pool: &PoolModel| {
        let (nodes, vcpus) = machines(&pool.name);
        let nodes = match (pool.name == SPOT_POOL, spot) {
            (false, _) => ENDLESS,
            (true, true) => nodes,
            (true, false) => 0,
        };
        Place {
            name: pool.name.clone(),
            price_micros: millis(pool.price * 1e3),
            nodes,
            vcpus,
            spot: pool.name == SPOT_POOL,
        }
    };
    let accelerators = pools.iter().filter(|pool| pool.tier == Tier::Accelerator);
    let places: Vec<Place> = accelerators.map(place).collect();
    let mut world = World {
        pools: (1_u64..).zip(&places).map(|(key, place)| pool(key, place)).collect(),
        pipelines: vec![Pipeline {
            key: Key(1),
            priority: 500,
            budget_micros: None,
            power_max_milliwatts: None,
            shared: None,
            mode: Mode::Automatic,
            objective: None,
        }],
        ..World::default()
    };
    for (key, model) in (1_u64..).zip(stages) {
        let start = world.variants.len();
        for (at, place) in (0_u32..).zip(&places) {
            if let Some(per_s) = per_node(model, place) {
                world.variants.push(variant(key, model, (at, place), per_s));
            }
        }
        let range = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let variants = (range(start), range(world.variants.len()));
        world.stages.push(stage(key, model, variants));
    }
    world
}

/// What one node serves; `None` where the stage does not run.
fn per_node(model: &StageModel, place: &Place) -> Option<f64> {
    if model.inference {
        return model.replicas.get(&place.name).map(|replica| replica.per_s);
    }
    let replica = model.replicas.values().next()?;
    let cpu_millis = u64::from(place.vcpus) * 1_000 - 110;
    let fits = (cpu_millis / replica.cpu_millis.max(1)).max(1);
    #[allow(clippy::cast_precision_loss)] // a handful
    let fits = fits as f64;
    Some(replica.per_s * fits)
}

fn pool(key: u64, place: &Place) -> Pool {
    Pool {
        key: Key(key),
        tier: tiercel::rebalance::world::Tier::Accelerator,
        reliable: !place.spot,
        capacity: Resources {
            cpu_millis: 0,
            memory_kib: 0,
            device_millis: place.nodes * WHOLE,
        },
    }
}

fn variant(key: u64, model: &StageModel, (at, place): (u32, &Place), per_s: f64) -> Variant {
    Variant {
        key: Key(key * 100 + u64::from(at)),
        stage: StageIdx(u32::try_from(key - 1).unwrap_or(u32::MAX)),
        pool: PoolIdx(at),
        request: Resources {
            cpu_millis: 0,
            memory_kib: 0,
            device_millis: WHOLE,
        },
        cost_micros: place.price_micros,
        marginal_micros: place.price_micros,
        power_milliwatts: None,
        hint_permille: 1_000,
        capacity_millis: millis(per_s),
        concurrency: None,
        startup_ms: 0,
        max: model.bounds.1.min(u32::try_from(place.nodes).unwrap_or(u32::MAX)),
    }
}

fn stage(key: u64, model: &StageModel, variants: (u32, u32)) -> Stage {
    Stage {
        key: Key(key),
        pipeline: PipelineIdx(0),
        variants,
        min: model.bounds.0,
        max: model.bounds.1,
        reliable_min: model.reliable_min,
        target_permille: model.target_percent * 10,
        traffic: Traffic::Pull,
        rated: true,
        sees_waiting: true,
        after: model
            .after
            .iter()
            .map(|(from, calls)| Edge {
                from: StageIdx(u32::try_from(*from).unwrap_or(u32::MAX)),
                calls_millis: millis(*calls),
            })
            .collect(),
        tolerance_permille: 100,
        up_window_ms: 0,
        down_window_ms: u64::from(model.down_window_s) * 1_000,
        down_percent_per_minute: 100,
        moves_per_hour: 10_000,
        max_surge: 100,
        signal_loss_ms: 60_000,
        on_signal_loss: OnSignalLoss::Hold,
        reading_age_ms_max: 5_000,
        also: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::models::tests::models;

    fn costs(moments: &[(f64, Option<f64>, bool)]) -> Vec<Option<f64>> {
        let (stages, pools) = models();
        let moments: Vec<_> = moments
            .iter()
            .map(|&(t_s, offered_per_s, spot)| Moment {
                t_s,
                offered_per_s,
                spot,
            })
            .collect();
        let machines = |pool: &str| match pool {
            SPOT_POOL => (30, 8),
            "h100" => (1, 16),
            _ => (2, 32),
        };
        cost_per_hour(&stages, &pools, &machines, &moments)
    }

    #[test]
    fn steady_load_on_spot_costs_its_nodes() {
        let moments: Vec<_> = (0..20).map(|t| (f64::from(t), Some(6.0), true)).collect();
        let last = costs(&moments).last().copied().flatten().unwrap();
        // 15 calls/s at 75 %: one Inferentia of 1.6 for the reliable floor and 6 L4 of 3.3. CPU stages at 70 %: retrieve
        // 6/(4*3), guard 6/(6*7) … one node each.
        assert!((last - (11.0 * 0.2933 + 1.967_86)).abs() < 1e-6, "{last}");
    }

    #[test]
    fn without_spot_the_same_demand_costs_more_and_before_the_load_nothing_is_known() {
        let mut moments = vec![(0.0, None, true)];
        moments.extend((1..10).map(|t| (f64::from(t), Some(6.0), true)));
        moments.extend((10..40).map(|t| (f64::from(t), Some(6.0), false)));
        let costs = costs(&moments);
        assert_eq!(costs[0], None);
        assert!(
            costs[39].unwrap() > 2.0 * costs[9].unwrap(),
            "{:?} {:?}",
            costs[9],
            costs[39]
        );
    }
}
