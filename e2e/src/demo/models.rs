//! What the sample files declare, as numbers.

use std::collections::BTreeMap;
use std::path::Path;

use tiercel::api::compute_pool::Tier;
use tiercel::api::stage::{Kind, PoolSelector, Profile, Stage};
use tiercel::api::{ComputePool, TieredPipeline};

use super::Failure;
use crate::fleet::{Behaviour, Behaviours, Capacity, Work};

/// One replica of a stage on a pool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Replica {
    /// Requests per second at its target.
    pub per_s: f64,
    /// Requests it handles at once.
    pub slots: u32,
    /// CPU request, thousandths of a core.
    pub cpu_millis: u64,
    /// Seconds until it is Ready.
    pub startup_s: u32,
}

/// One stage.
#[derive(Clone, Debug, PartialEq)]
pub struct StageModel {
    /// Its name.
    pub name: String,
    /// Whether it runs a model.
    pub inference: bool,
    /// Whether its signal is read from the pods rather than from the metrics API.
    pub scraped: bool,
    /// Calls per request of the pipeline.
    pub visits: f64,
    /// Stages that call it, by position, and calls per call of theirs.
    pub after: Vec<(usize, f64)>,
    /// Bounds on the replicas.
    pub bounds: (u32, u32),
    /// Least replicas on pools that are not spot.
    pub reliable_min: u32,
    /// Utilization at which a replica counts as full, per cent.
    pub target_percent: u32,
    /// Seconds over which the highest need counts before replicas go.
    pub down_window_s: u32,
    /// Where it may run, by pool.
    pub replicas: BTreeMap<String, Replica>,
}

/// One pool.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolModel {
    /// Its name.
    pub name: String,
    /// CPU or accelerator.
    pub tier: Tier,
    /// USD per node and hour.
    pub price: f64,
}

/// The pipeline of a sample file.
pub fn pipeline(path: &Path) -> Result<TieredPipeline, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Ok(serde_saphyr::from_str(&text)?)
}

/// The pools of a sample file.
pub fn pools(path: &Path) -> Result<Vec<ComputePool>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Ok(serde_saphyr::from_multiple(&text)?)
}

/// The pools in the order of the file.
pub fn pool_models(pools: &[ComputePool]) -> Result<Vec<PoolModel>, Failure> {
    let model = |pool: &ComputePool| {
        let price: f64 = pool.spec.cost_per_node_hour.0.parse()?;
        let name = pool.metadata.name.clone().unwrap_or_default();
        Ok(PoolModel {
            name,
            tier: pool.spec.tier,
            price,
        })
    };
    pools.iter().map(model).collect()
}

/// The stages in the order of the pipeline.
pub fn stage_models(pipeline: &TieredPipeline, pools: &[ComputePool]) -> Result<Vec<StageModel>, Failure> {
    let mut models: Vec<StageModel> = Vec::with_capacity(pipeline.spec.stages.len());
    for stage in &pipeline.spec.stages {
        let mut after = Vec::with_capacity(stage.after.len());
        for caller in &stage.after {
            let calls: f64 = caller.calls_per_request.0.parse()?;
            let position = models.iter().position(|model| model.name == caller.stage);
            after.push((position.ok_or_else(|| format!("no stage {}", caller.stage))?, calls));
        }
        let visits = after
            .iter()
            .filter_map(|(from, calls)| Some(models.get(*from)?.visits * calls))
            .sum();
        let mut replicas = BTreeMap::new();
        for pool in pools {
            if let Some(replica) = replica(stage, pool)? {
                replicas.insert(pool.metadata.name.clone().unwrap_or_default(), replica);
            }
        }
        let bound = |value: i32| u32::try_from(value).unwrap_or(0);
        models.push(StageModel {
            name: stage.name.clone(),
            inference: stage.kind == Kind::Inference,
            scraped: stage.signal.preset != "cpu",
            visits: if after.is_empty() { 1.0 } else { visits },
            after,
            bounds: (bound(stage.replicas.min), bound(stage.replicas.max)),
            reliable_min: bound(stage.replicas.reliable_min),
            target_percent: bound(stage.signal.target_percent),
            down_window_s: bound(stage.scaling.scale_down.stabilization_window_seconds),
            replicas,
        });
    }
    Ok(models)
}

fn replica(stage: &Stage, pool: &ComputePool) -> Result<Option<Replica>, Failure> {
    if !stage.hint().allows(pool.spec.tier) {
        return Ok(None);
    }
    let profile = stage.profiles.iter().find(|profile| matches(profile, pool));
    if profile.is_none() && !stage.profiles.is_empty() {
        return Ok(None);
    }
    let capacity = profile
        .and_then(|profile| profile.capacity.as_ref())
        .or(stage.capacity.as_ref());
    let Some(per_s) = capacity.and_then(|capacity| capacity.requests_per_second.as_ref()) else {
        return Err(format!("stage {} declares no requestsPerSecond", stage.name).into());
    };
    let resources = profile
        .and_then(|profile| profile.container.as_ref()?.resources.as_ref())
        .unwrap_or(&stage.container.resources);
    let cpu = resources.requests.get("cpu");
    let cpu = cpu.map_or("0", |quantity| quantity.0.as_str());
    let cpu_millis = match cpu.strip_suffix('m') {
        Some(millis) => millis.parse()?,
        None => cpu.parse::<u64>()? * 1_000,
    };
    let slots = capacity.and_then(|capacity| capacity.concurrency).unwrap_or(2);
    let startup = profile
        .and_then(|profile| profile.startup_seconds)
        .unwrap_or(stage.startup_seconds);
    Ok(Some(Replica {
        per_s: per_s.0.parse()?,
        slots: u32::try_from(slots).unwrap_or(1),
        cpu_millis,
        startup_s: u32::try_from(startup).unwrap_or(0),
    }))
}

fn matches(profile: &Profile, pool: &ComputePool) -> bool {
    let Some(PoolSelector {
        tier,
        classes,
        architectures,
    }) = &profile.pools
    else {
        return true;
    };
    let class = pool.spec.class.as_ref().or(pool.metadata.name.as_ref());
    tier.is_none_or(|tier| tier == pool.spec.tier)
        && (classes.is_empty() || class.is_some_and(|class| classes.contains(class)))
        && (architectures.is_empty() || pool.spec.architecture.is_some_and(|it| architectures.contains(&it)))
}

/// The servers to play: every replica does what the sample says it does.
pub fn behaviours(stages: &[StageModel]) -> Behaviours {
    let mut behaviours = Behaviours::default();
    for stage in stages {
        for (pool, replica) in &stage.replicas {
            behaviours = behaviours.on(&stage.name, pool, behaviour(stage, replica));
        }
    }
    behaviours
}

fn behaviour(stage: &StageModel, replica: &Replica) -> Behaviour {
    // On CPUs all requests share the cores: a full replica is as many times slower as it has slots.
    let shared = |behaviour: Behaviour| Behaviour {
        capacity: Capacity {
            slowdown: f64::from(replica.slots),
            ..behaviour.capacity
        },
        ..behaviour
    };
    match (stage.inference, stage.scraped) {
        (true, _) => Behaviour::vllm(replica.per_s, replica.slots),
        (false, true) => Behaviour {
            work: Work::CONSTANT,
            full_cpu_percent: 95.0,
            ..shared(Behaviour::vllm(replica.per_s, replica.slots))
        },
        (false, false) => shared(Behaviour::http(replica.per_s, replica.slots)),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn samples() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/samples")
    }

    pub(in crate::demo) fn sample() -> TieredPipeline {
        pipeline(&samples().join("support-agent.yaml")).unwrap()
    }

    pub(in crate::demo) fn models() -> (Vec<StageModel>, Vec<PoolModel>) {
        let pools = pools(&samples().join("pools.yaml")).unwrap();
        (stage_models(&sample(), &pools).unwrap(), pool_models(&pools).unwrap())
    }

    #[test]
    fn the_sample_is_read_as_its_authors_mean_it() {
        let (stages, pools) = models();
        assert_eq!(pools.len(), 5);
        let visits: Vec<_> = stages.iter().map(|stage| (stage.name.as_str(), stage.visits)).collect();
        assert_eq!(visits[3], ("generate", 2.5));
        assert_eq!(visits[4], ("tools", 0.8));
        let generate = &stages[3];
        assert!((generate.replicas["l4-spot"].per_s - 3.3).abs() < 1e-9);
        assert_eq!(generate.replicas["graviton"].cpu_millis, 14_000);
        assert_eq!(generate.replicas.len(), 5, "generation runs everywhere");
        assert_eq!(
            stages[0].replicas.keys().collect::<Vec<_>>(),
            ["graviton", "x86"],
            "retrieval on CPUs only"
        );
    }

    #[test]
    fn a_replica_is_played_with_the_rate_it_declares() {
        let (stages, _) = models();
        for stage in &stages {
            for replica in stage.replicas.values() {
                let played = behaviour(stage, replica).capacity;
                assert_eq!(
                    (played.requests_per_s, played.slots),
                    (replica.per_s, replica.slots),
                    "{}",
                    stage.name
                );
            }
        }
    }
}
