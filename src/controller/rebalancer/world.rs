//! Pure: validated pipelines and observed pools become the core's world, and an index back from its numbers to names.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use super::super::capacity::PoolObservation;
use super::super::pipeline::validated::{Permission, PipelineId, StagePool, ValidatedPipeline, ValidatedStage};
use crate::api::compute_pool::Tier;
use crate::api::names;
use crate::api::stage;
use crate::api::tiered_pipeline::Mode;
use crate::rebalance::burst::Keep;
use crate::rebalance::world::{
    self, Also, Ceilings, Edge, Key, OnSignalLoss, Pipeline, PipelineIdx, Pool, PoolIdx, Resources, Stage, StageIdx,
    Traffic, Variant, VariantIdx, World,
};
use crate::signals::presets::Preset;

/// Price factor of a tier that the hint would rather not have: large enough that no price difference between pools
/// outweighs the hint, so that the other tier is used only while the preferred one is short, dry or over budget.
const BELOW_HINT_PERMILLE: u32 = 100_000;
const PREFERRED_PERMILLE: u32 = 1_000;

/// What a number of the core stands for.
#[derive(Debug, Default)]
pub struct Index {
    /// Names by [`PoolIdx`]; of pools that exist.
    pub pools: Vec<String>,
    /// Where room is kept for bursts.
    pub keeps: Vec<Keep>,
    /// By [`PipelineIdx`].
    pub pipelines: Vec<PipelineId>,
    /// Namespaces by their place among the world's shared ceilings.
    pub shared: Vec<String>,
    /// By [`StageIdx`].
    pub stages: Vec<StageRef>,
    /// By [`VariantIdx`].
    pub variants: Vec<VariantRef>,
    /// By namespace, and name of the Deployment.
    pub(super) children: HashMap<Box<str>, HashMap<Arc<str>, VariantIdx>>,
    /// By the label that a variant's pods carry.
    pub variant_ids: HashMap<Arc<str>, VariantIdx>,
}

/// A stage by name.
#[derive(Debug)]
pub struct StageRef {
    /// Its pipeline.
    pub pipeline: PipelineIdx,
    /// Its name.
    pub name: Arc<str>,
    /// What it is read by beside its own preset, in the order of [`Stage::also`](world::Stage::also).
    pub also: Vec<&'static Preset>,
}

/// A variant by name.
#[derive(Debug)]
pub struct VariantRef {
    /// Its stage.
    pub stage: StageIdx,
    /// Its pool's name.
    pub pool: Arc<str>,
    /// Name of its Deployment.
    pub child: Arc<str>,
    /// The label its pods carry.
    pub variant_id: Arc<str>,
    /// What one replica requests: utilization is measured against it.
    pub request: Resources,
    /// What one replica serves, as declared.
    pub capacity_millis: u64,
    /// How its pods are read; absent if nobody knows the preset's name.
    pub preset: Option<&'static Preset>,
    /// How long pods may stay unschedulable before that says anything: the time a new node takes.
    pub provision_ms: u64,
    /// The rebalancer has claimed the Deployment's replicas, as `managedFields` showed.
    pub claimed: bool,
}

impl Index {
    /// The variant at an index of the core.
    pub fn variant(&self, index: VariantIdx) -> Option<&VariantRef> {
        self.variants.get(index.0 as usize)
    }

    /// The stage at an index of the core.
    pub fn stage(&self, index: StageIdx) -> Option<&StageRef> {
        self.stages.get(index.0 as usize)
    }

    /// The variant whose Deployment this is.
    pub fn child(&self, namespace: &str, name: &str) -> Option<VariantIdx> {
        self.children.get(namespace)?.get(name).copied()
    }

    /// The stages of a pipeline.
    pub fn stages_of(&self, pipeline: PipelineIdx) -> Range<u32> {
        let before = |end: u32| count(self.stages.partition_point(|stage| stage.pipeline.0 < end));
        before(pipeline.0)..before(pipeline.0.saturating_add(1))
    }

    /// Prices of a core, a GiB and a device by the pool's name.
    pub fn by_pool(&self, prices: &[(PoolIdx, u8, u64)]) -> BTreeMap<String, [u64; 3]> {
        let mut named: BTreeMap<String, [u64; 3]> = BTreeMap::new();
        for &(pool, resource, micros) in prices {
            let Some(name) = self.pools.get(pool.0 as usize) else {
                continue;
            };
            if let Some(slot) = named.entry(name.clone()).or_default().get_mut(usize::from(resource)) {
                *slot = micros;
            }
        }
        named
    }

    /// The pipeline at an index of the core.
    pub fn pipeline(&self, index: PipelineIdx) -> Option<&PipelineId> {
        self.pipelines.get(index.0 as usize)
    }
}

/// The world of all pipelines. Their order, and the pools', is kept: it breaks ties that names must not break.
pub fn world(pipelines: &[ValidatedPipeline], observed: &[PoolObservation]) -> (World, Index) {
    let mut builder = Builder::new(observed);
    for pipeline in pipelines {
        builder.add(pipeline, |_| false);
    }
    builder.done()
}

/// A world that pipelines are added to one by one: a validated pipeline is large, and there may be many.
pub struct Builder<'a> {
    world: World,
    index: Index,
    pools: BTreeMap<Arc<str>, (PoolIdx, Option<&'a PoolObservation>)>,
}

impl<'a> Builder<'a> {
    /// A world of these pools.
    pub fn new(observed: &'a [PoolObservation]) -> Self {
        let mut builder = Self {
            world: World::default(),
            index: Index::default(),
            pools: BTreeMap::new(),
        };
        for observation in observed {
            let at = PoolIdx(count(builder.world.pools.len()));
            builder
                .pools
                .insert(observation.name.as_str().into(), (at, Some(observation)));
            builder.index.pools.push(observation.name.clone());
            builder.index.keeps.extend(keep(at, observation));
            builder.world.pools.push(pool(observation));
        }
        builder
    }

    /// Place of the ceilings that a pipeline shares with its namespace, if there are any.
    fn shared(&mut self, pipeline: &ValidatedPipeline) -> Option<u32> {
        let ceilings = pipeline.together.limits;
        if ceilings == Ceilings::default() {
            return None;
        }
        let namespace = &pipeline.id.namespace;
        let known = self.index.shared.iter().position(|other| other == namespace);
        Some(count(known.unwrap_or_else(|| {
            self.index.shared.push(namespace.clone());
            self.world.shared.push(ceilings);
            self.world.shared.len() - 1
        })))
    }

    /// Adds a pipeline behind those that are there. `coming`: whether a Deployment that is not there, by its name, is about to
    /// be. Plans count on it: replicas that are placed first take room there, and nobody is moved off a pool for them.
    pub fn add(&mut self, pipeline: &ValidatedPipeline, coming: impl Fn(&str) -> bool) {
        let id = PipelineIdx(count(self.world.pipelines.len()));
        let shared = self.shared(pipeline);
        self.world.pipelines.push(Pipeline {
            key: Key(names::key(&[&pipeline.id.uid])),
            priority: pipeline.priority,
            budget_micros: pipeline.budget_micros,
            power_max_milliwatts: pipeline.power_max_milliwatts,
            shared,
            mode: mode(pipeline.mode),
            // Without a stage that was refused nothing can be said about the whole.
            objective: pipeline.objective.filter(|_| pipeline.refusals.is_empty()),
        });
        self.index.pipelines.push(pipeline.id.clone());
        let first = count(self.world.stages.len());
        for valid in &pipeline.stages {
            let at = StageIdx(count(self.world.stages.len()));
            let start = count(self.world.variants.len());
            for stage_pool in &valid.pools {
                let usable = stage_pool.live.is_some() || coming(&stage_pool.child);
                self.add_variant(pipeline, valid, (stage_pool, usable), at);
            }
            let variants = (start, count(self.world.variants.len()));
            self.world.stages.push(stage(pipeline, valid, id, first, variants));
            self.index.stages.push(StageRef {
                pipeline: id,
                name: valid.name.as_str().into(),
                also: valid.signal.also.iter().map(|(preset, _)| *preset).collect(),
            });
        }
    }

    fn add_variant(
        &mut self,
        pipeline: &ValidatedPipeline,
        valid: &ValidatedStage,
        (stage_pool, usable): (&StagePool, bool),
        stage: StageIdx,
    ) {
        let (name, pool, observation) = self.pool(&stage_pool.pool);
        let at = VariantIdx(count(self.world.variants.len()));
        if let Some(keep) = self.index.keeps.iter_mut().find(|keep| keep.pool == pool) {
            let provision_ms = observation.map_or(0, |observation| observation.provision_ms);
            let startup_ms = u64::from(stage_pool.startup_seconds) * 1_000;
            keep.within_ms = keep.within_ms.max(provision_ms + startup_ms);
        }
        let variant = variant(pipeline, valid, (stage_pool, usable), stage, (pool, observation));
        self.world.variants.push(variant);
        let reference = reference(pipeline, valid, stage_pool, stage, (name, observation));
        let namespace = pipeline.id.namespace.as_str();
        if !self.index.children.contains_key(namespace) {
            self.index.children.insert(namespace.into(), HashMap::new());
        }
        if let Some(children) = self.index.children.get_mut(namespace) {
            children.insert(Arc::clone(&reference.child), at);
        }
        self.index.variant_ids.insert(Arc::clone(&reference.variant_id), at);
        self.index.variants.push(reference);
    }

    fn pool(&mut self, name: &str) -> (Arc<str>, PoolIdx, Option<&'a PoolObservation>) {
        if let Some((name, &(at, observation))) = self.pools.get_key_value(name) {
            return (Arc::clone(name), at, observation);
        }
        // Replicas may still run on a pool that is gone; it has no room for more.
        let at = PoolIdx(count(self.world.pools.len()));
        self.world.pools.push(Pool {
            key: Key(names::key(&["gone", name])),
            tier: world::Tier::Cpu,
            reliable: false,
            capacity: Resources::default(),
        });
        let name: Arc<str> = name.into();
        self.pools.insert(Arc::clone(&name), (at, None));
        (name, at, None)
    }

    /// The world, and what its numbers stand for.
    pub fn done(mut self) -> (World, Index) {
        self.index.variant_ids.shrink_to_fit();
        self.index.children.values_mut().for_each(HashMap::shrink_to_fit);
        self.index.variants.shrink_to_fit();
        self.world.variants.shrink_to_fit();
        (self.world, self.index)
    }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn mode(permission: Permission) -> world::Mode {
    match permission {
        Permission::Mode(Mode::Automatic) => world::Mode::Automatic,
        Permission::Mode(Mode::Advisory) => world::Mode::Advisory,
        Permission::Mode(Mode::Paused) => world::Mode::Paused,
        Permission::NoScaleIn => world::Mode::NoScaleIn,
        Permission::NoScaleOut => world::Mode::NoScaleOut,
    }
}

fn pool(observation: &PoolObservation) -> Pool {
    Pool {
        key: Key(names::key(&[&observation.uid])),
        tier: match observation.tier {
            Tier::Cpu => world::Tier::Cpu,
            Tier::Accelerator => world::Tier::Accelerator,
        },
        reliable: observation.reliable,
        capacity: observation.capacity(),
    }
}

fn stage(
    pipeline: &ValidatedPipeline,
    valid: &ValidatedStage,
    id: PipelineIdx,
    first: u32,
    variants: (u32, u32),
) -> Stage {
    let presets: Vec<&Preset> = valid
        .pools
        .iter()
        .filter_map(|pool| Preset::named(&pool.preset))
        .collect();
    let seconds = |seconds: u32| u64::from(seconds) * 1_000;
    let edge = |&(caller, calls_millis): &(usize, u64)| Edge {
        from: StageIdx(first + count(caller)),
        calls_millis,
    };
    Stage {
        key: Key(names::key(&[&pipeline.id.uid, &valid.name])),
        pipeline: id,
        variants,
        min: valid.min,
        max: valid.max,
        reliable_min: valid.reliable_min,
        target_permille: valid.signal.target_percent * 10,
        traffic: match valid.traffic {
            // No route with weights is written yet: until then the Service spreads evenly, and a plan that counted on
            // weights would drown the slow replicas.
            stage::Traffic::Uniform | stage::Traffic::Weighted => Traffic::Uniform,
            stage::Traffic::Pull => Traffic::Pull,
        },
        rated: valid.pools.iter().any(|pool| pool.rated),
        sees_waiting: !presets.is_empty()
            && (presets.iter().all(|preset| preset.sees_waiting())
                || valid.signal.also.iter().any(|(preset, _)| preset.sees_waiting())),
        after: valid.after.iter().map(edge).collect(),
        tolerance_permille: valid.pace.tolerance_percent * 10,
        up_window_ms: seconds(valid.pace.up_window_seconds),
        down_window_ms: seconds(valid.pace.down_window_seconds),
        down_percent_per_minute: valid.pace.down_percent_per_minute,
        moves_per_hour: valid.pace.moves_per_hour,
        max_surge: valid.pace.max_surge,
        signal_loss_ms: seconds(valid.signal.loss_seconds),
        on_signal_loss: match valid.signal.on_loss {
            stage::OnSignalLoss::Hold => OnSignalLoss::Hold,
            stage::OnSignalLoss::CurrentIfHigher => OnSignalLoss::CurrentIfHigher,
            stage::OnSignalLoss::Static => OnSignalLoss::Static(valid.signal.static_replicas),
        },
        reading_age_ms_max: presets
            .iter()
            .map(|preset| preset.answer_freshness_ms())
            .max()
            .unwrap_or_default(),
        also: valid.signal.also.iter().map(also).collect(),
    }
}

fn also(&(preset, target_percent): &(&'static Preset, u32)) -> Also {
    Also {
        target_permille: target_percent * 10,
        reading_age_ms_max: preset.answer_freshness_ms(),
        sees_waiting: preset.sees_waiting() && preset.is_of_stages(),
    }
}

fn keep(pool: PoolIdx, observation: &PoolObservation) -> Option<Keep> {
    (observation.warm_nodes > 0).then_some(Keep {
        pool,
        node: observation.elastic_room,
        nodes: observation.warm_nodes,
        within_ms: observation.provision_ms,
    })
}

fn variant(
    pipeline: &ValidatedPipeline,
    valid: &ValidatedStage,
    (stage_pool, usable): (&StagePool, bool),
    stage: StageIdx,
    (pool, observation): (PoolIdx, Option<&PoolObservation>),
) -> Variant {
    let cost = stage_pool.cost;
    // A replica that needs a new node starts when that has come.
    let provision_ms = observation
        .filter(|pool| pool.elastic_nodes > 0 && pool.replicas_that_fit_now(stage_pool.request) == 0)
        .map_or(0, |pool| pool.provision_ms);
    let preferred = stage_pool.fit.as_ref().is_some_and(|fit| fit.preferred);
    let reported = cost.map_or(0, |cost| cost.cost_micros);
    let marginal = cost.map_or(0, |cost| cost.marginal_micros);
    Variant {
        key: Key(names::key(&[&pipeline.id.uid, &valid.name, &stage_pool.pool])),
        stage,
        pool,
        request: stage_pool.request,
        cost_micros: reported,
        // A factor on nothing is nothing: below the hint even paid-for nodes have their price.
        marginal_micros: if preferred { marginal } else { marginal.max(reported) },
        power_milliwatts: cost.and_then(|cost| cost.power_milliwatts),
        hint_permille: if preferred {
            PREFERRED_PERMILLE
        } else {
            BELOW_HINT_PERMILLE
        },
        capacity_millis: stage_pool.capacity_millis,
        concurrency: stage_pool.concurrency,
        startup_ms: u64::from(stage_pool.startup_seconds) * 1_000 + provision_ms,
        // Without a fit, a price or a Deployment nothing new goes there.
        max: if usable && stage_pool.fit.is_some() && cost.is_some() {
            stage_pool.room.min(valid.max)
        } else {
            0
        },
    }
}

fn reference(
    pipeline: &ValidatedPipeline,
    valid: &ValidatedStage,
    stage_pool: &StagePool,
    stage: StageIdx,
    (pool, observation): (Arc<str>, Option<&PoolObservation>),
) -> VariantRef {
    let elastic = observation.filter(|observation| observation.elastic_nodes > 0);
    VariantRef {
        stage,
        pool,
        child: stage_pool.child.as_str().into(),
        variant_id: names::variant_id(&pipeline.id.uid, &valid.name, &stage_pool.pool).into(),
        request: stage_pool.request,
        capacity_millis: stage_pool.capacity_millis,
        preset: Preset::named(&stage_pool.preset),
        provision_ms: elastic.map_or(0, |observation| observation.provision_ms),
        claimed: stage_pool.claim == super::super::pipeline::validated::Claim::Released,
    }
}
