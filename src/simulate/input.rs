//! From the objects that people apply to a [`Scenario`], by the same code that the operator runs: `observe`, `validate`,
//! `world`. What a cluster would add is made up: nodes, and a Deployment for every stage and pool.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kube::ResourceExt as _;

use super::ground::{self, InvalidNodes, Nodes, standing};
use super::scenario::{PipelineFacts, Scenario, Server, Signal, StageFacts};
use crate::api::stage::Kind;
use crate::api::{ComputePool, TieredPipeline};
use crate::controller::capacity::{self, PoolObservation};
use crate::controller::pipeline::dereference::{Found, pool_facts};
use crate::controller::pipeline::validated::{ValidatedPipeline, ValidatedStage};
use crate::controller::rebalancer::world;
use crate::files::{self, Unreadable};
use crate::lint::{self, Schemas};
use crate::plan::manifest::{Manifests, Problem};
use crate::signals::presets::{Preset, Source};

/// The pipeline that is simulated when no file holds one.
const SAMPLE_PIPELINE: &str = include_str!("../../config/samples/support-agent.yaml");
/// The pools that are used when no file holds one.
const SAMPLE_POOLS: &str = include_str!("../../config/samples/pools.yaml");

/// Why the objects cannot be simulated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error(transparent)]
    Read(#[from] Unreadable),
    /// A document is not YAML, or the API server would refuse it.
    #[error("{first}{}", more(*.others))]
    Manifest {
        /// What is wrong, and where.
        first: Box<Problem>,
        /// How much else is.
        others: usize,
    },
    /// Files are named, and nothing of them can be simulated.
    #[error("{0}: neither a TieredPipeline nor a ComputePool: name files that hold one, or none for the samples")]
    Nothing(String),
    /// The definitions cannot be derived: a defect.
    #[error(transparent)]
    Derive(#[from] lint::Error),
    /// `--nodes` is not of its form.
    #[error(transparent)]
    Nodes(#[from] InvalidNodes),
    /// `--nodes` names a pool that is not there.
    #[error("`--nodes` names pool '{0}', which no file declares")]
    UnknownPool(String),
    /// A stage has nowhere to run.
    #[error("stage '{stage}' of pipeline '{pipeline}' can run on none of the pools: {why}")]
    Homeless {
        /// The stage.
        stage: String,
        /// Its pipeline.
        pipeline: String,
        /// Reasons by pool.
        why: String,
    },
    /// A pipeline was refused.
    #[error("pipeline '{pipeline}' is refused: {why}")]
    Refused {
        /// The pipeline.
        pipeline: String,
        /// What validation says.
        why: String,
    },
}

impl Error {
    /// 2 for files and arguments, 1 for pipelines that are understood and cannot run.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Read(_) | Self::Manifest { .. } | Self::Nothing(_) | Self::Nodes(_) | Self::UnknownPool(_) => 2,
            Self::Derive(_) | Self::Homeless { .. } | Self::Refused { .. } => 1,
        }
    }
}

fn more(others: usize) -> String {
    match others {
        0 => String::new(),
        1 => "; another problem: `tiercel plan -f` names both".to_owned(),
        others => format!("; {others} more problems: `tiercel plan -f` names all"),
    }
}

/// The objects of some files.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// Pipelines, in the order of the files.
    pub pipelines: Vec<TieredPipeline>,
    /// Pools, in the order of the files.
    pub pools: Vec<ComputePool>,
}

impl Objects {
    /// Reads files, and the YAML files of folders, as `tiercel plan` does. Other kinds are left out.
    ///
    /// # Errors
    /// When a file cannot be read, the API server would refuse an object of ours, or files are named that hold none.
    pub fn read(paths: &[PathBuf]) -> Result<Self, Error> {
        let mut texts = Vec::new();
        for path in paths {
            for file in manifests(path)? {
                texts.push((files::shown(&file), files::text(&file)?));
            }
        }
        let objects = Self::of(texts.iter().map(|(file, text)| (file.as_str(), text.as_str())))?;
        if !paths.is_empty() && objects.pipelines.is_empty() && objects.pools.is_empty() {
            let named: Vec<String> = paths.iter().map(|path| files::shown(path)).collect();
            return Err(Error::Nothing(named.join(", ")));
        }
        Ok(objects)
    }

    /// The objects of texts, each with what to call it.
    fn of<'a>(texts: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, Error> {
        let schemas = Schemas::installed()?;
        let mut found = Manifests::default();
        for (file, text) in texts {
            found.add(&schemas, file, text, "default");
        }
        let others = found.problems.len().saturating_sub(1);
        if let Some(first) = found.problems.into_iter().next() {
            let first = Box::new(first);
            return Err(Error::Manifest { first, others });
        }
        Ok(Self {
            pipelines: found.pipelines.into_iter().map(|found| found.object).collect(),
            pools: found.pools.into_iter().map(|found| found.object).collect(),
        })
    }

    /// Fills in the samples where no pipeline or no pool was given.
    ///
    /// # Errors
    /// Never with the samples as they are.
    pub fn or_samples(mut self, notes: &mut Vec<String>) -> Result<Self, Error> {
        if self.pools.is_empty() {
            notes.push("no ComputePool was given: the pools of config/samples/pools.yaml are used".to_owned());
            self.pools = Self::of([("config/samples/pools.yaml", SAMPLE_POOLS)].into_iter())?.pools;
        }
        if self.pipelines.is_empty() {
            notes.push("no TieredPipeline was given: config/samples/support-agent.yaml is used".to_owned());
            self.pipelines = Self::of([("config/samples/support-agent.yaml", SAMPLE_PIPELINE)].into_iter())?.pipelines;
        }
        Ok(self)
    }
}

/// The files that a path means: itself, or the manifests of a folder.
fn manifests(path: &Path) -> Result<Vec<PathBuf>, Unreadable> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let failed = |error| Unreadable::because(path, &error);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?.path();
        if entry
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml")
        {
            found.push(entry);
        }
    }
    found.sort();
    Ok(found)
}

/// The scenario of these objects, with `given` nodes. Every pool admits every pipeline.
///
/// # Errors
/// When a pipeline is refused or a stage has nowhere to run.
pub fn scenario(objects: Objects, given: &[Nodes]) -> Result<Scenario, Error> {
    let mut remarks = Vec::new();
    let mut objects = objects.or_samples(&mut remarks)?;
    if let Some(unknown) = given
        .iter()
        .find(|nodes| objects.pools.iter().all(|pool| pool.name_any() != nodes.pool))
    {
        return Err(Error::UnknownPool(unknown.pool.clone()));
    }
    for pool in &mut objects.pools {
        pool.metadata.uid = Some(format!("pool-{}", pool.name_any()));
    }
    for pipeline in &mut objects.pipelines {
        pipeline.metadata.uid = Some(format!("pipeline-{}", pipeline.name_any()));
        pipeline.metadata.namespace.get_or_insert_with(|| "default".to_owned());
    }
    let pools: Vec<Arc<ComputePool>> = objects.pools.iter().cloned().map(Arc::new).collect();
    let (nodes, assumptions) = ground::nodes(&objects.pipelines, &objects.pools, given);
    remarks.extend(assumptions.iter().map(ToString::to_string));
    let observed = capacity::observe(&pools, &nodes, &[]);
    let mut valid = Vec::with_capacity(objects.pipelines.len());
    for pipeline in &objects.pipelines {
        valid.push(validated(pipeline, &pools, &observed)?);
    }
    let (world, index) = world::world(&valid, &observed);
    let names = index.stages.iter();
    let stages: Vec<&ValidatedStage> = valid.iter().flat_map(|pipeline| &pipeline.stages).collect();
    let facts = names.zip(&stages).map(|(reference, stage)| StageFacts {
        name: reference.name.to_string(),
        sized: stage.kind == Kind::Inference,
        drain_ms: u64::from(stage.pace.drain_seconds) * 1_000,
    });
    let facts: Vec<StageFacts> = facts.collect();
    let servers = index.variants.iter().zip(&world.variants).map(|(reference, variant)| {
        let slots = variant.concurrency.unwrap_or(1).max(1);
        let scraped = reference
            .preset
            .is_some_and(|preset: &Preset| *preset.source() != Source::ResourceMetrics);
        let sized = facts.get(variant.stage.0 as usize).is_some_and(|facts| facts.sized);
        Server {
            slots,
            // A full batch of a model server is four times as slow per call as a call alone; elsewhere calls share the
            // processor.
            slowdown: if sized {
                f64::from(slots).min(4.0)
            } else {
                f64::from(slots)
            },
            signal: if scraped { Signal::Server } else { Signal::Cpu },
        }
    });
    let servers: Vec<Server> = servers.collect();
    let pipelines = objects.pipelines.iter().map(|pipeline| PipelineFacts {
        name: pipeline.name_any(),
        objective_ms: (pipeline.spec.objective.as_ref())
            .and_then(|objective| u64::try_from(objective.latency_milliseconds).ok()),
    });
    let mut pool_names: Vec<String> = observed.iter().map(|pool| pool.name.clone()).collect();
    pool_names.resize(world.pools.len(), "gone".to_owned());
    let mut scenario = Scenario {
        pipelines: pipelines.collect(),
        pools: pool_names,
        stages: facts,
        variants: servers,
        world,
        notes: remarks,
    };
    for at in 0..scenario.pipelines.len() {
        let (objective, full) = (scenario.objective_ms(at), scenario.full_latency_ms(at));
        if objective < full {
            let note = format!(
                "pipeline '{}': the objective of {objective:.0} ms is below the {full:.0} ms that a mean request takes on full replicas: requests are late however many run",
                scenario.pipelines[at].name
            );
            scenario.notes.push(note);
        }
    }
    Ok(scenario)
}

fn validated(
    pipeline: &TieredPipeline,
    pools: &[Arc<ComputePool>],
    observed: &[PoolObservation],
) -> Result<ValidatedPipeline, Error> {
    let mut found = Found {
        pools: pool_facts(pools, observed, &BTreeMap::new()),
        allow_secrets: true,
        ..Found::default()
    };
    for facts in &mut found.pools {
        facts.admits = true;
    }
    let valid = standing(pipeline, &mut found);
    if !valid.refusals.is_empty() {
        let why: Vec<String> = valid.refusals.iter().map(ToString::to_string).collect();
        return Err(Error::Refused {
            pipeline: pipeline.name_any(),
            why: why.join("; "),
        });
    }
    for stage in &valid.stages {
        if stage.pools.iter().all(|pool| pool.room == 0 || pool.cost.is_none()) {
            let small = stage
                .pools
                .iter()
                .map(|pool| format!("{}: no node is large enough", pool.pool));
            let excluded = stage.excluded.iter().map(|(pool, why)| format!("{pool}: {why}"));
            let why: Vec<String> = small.chain(excluded).collect();
            return Err(Error::Homeless {
                stage: stage.name.clone(),
                pipeline: pipeline.name_any(),
                why: why.join("; "),
            });
        }
    }
    Ok(valid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::demand::initial;
    use crate::simulate::engine::{Options, run};
    use crate::simulate::load::{Change, Load};
    use crate::simulate::policy::{KINDS, Spec};

    fn samples() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("config/samples")
    }

    #[test]
    fn the_sample_becomes_the_world_that_the_operator_would_plan() {
        let folder = samples();
        let objects = Objects::read(&[folder.join("support-agent.yaml"), folder.join("pools.yaml")]).unwrap();
        let given = ["graviton=4:16,64Gi", "l4-spot=3:8,32Gi,1"].map(|text| text.parse().unwrap());
        let scenario = scenario(objects, &given).unwrap();
        assert_eq!(scenario.stages.len(), 6);
        let generate = scenario
            .stages
            .iter()
            .position(|stage| stage.name == "generate")
            .unwrap();
        let ladder = scenario.ladder(generate);
        let names: Vec<String> = ladder.iter().map(|&at| scenario.label(at)).collect();
        assert_eq!(
            names,
            [
                "generate@l4-spot",
                "generate@h100",
                "generate@inferentia",
                "generate@graviton",
                "generate@x86"
            ],
            "preferred tier first, then price per request"
        );
        let l4 = &scenario.world.variants[ladder[0]];
        assert_eq!((l4.max, l4.cost_micros, l4.startup_ms), (3, 293_300, 82_000));
        assert_eq!(scenario.variants[ladder[0]].slots, 16);
        assert_eq!(scenario.world.pools[0].capacity.cpu_millis, 64_000);
        assert!((scenario.visits()[generate] - 2.5).abs() < 1e-9);
        assert!((scenario.objective_ms(0) - 10_000.0).abs() < 1e-9);
        assert!(
            scenario.notes.iter().any(|note| note.contains("pool 'h100'")),
            "{:?}",
            scenario.notes
        );
    }

    #[test]
    fn nodes_are_read_or_refused_with_the_form() {
        let nodes: Nodes = "h100=2:16,256Gi,8".parse().unwrap();
        assert_eq!(nodes.shape, Some(("16".into(), "256Gi".into(), 8)));
        for wrong in ["h100", "h100=two", "h100=2:16", "h100=2:x,1Gi"] {
            let error = wrong.parse::<Nodes>().unwrap_err().to_string();
            assert!(error.contains("POOL=COUNT"), "{error}");
        }
        let unknown = scenario(Objects::default(), &["nowhere=1".parse().unwrap()]).unwrap_err();
        assert!(matches!(unknown, Error::UnknownPool(_)));
    }

    #[test]
    fn a_stage_without_a_pool_is_named_with_the_reasons() {
        let given = ["graviton=1:1,1Gi", "x86=1:1,1Gi"].map(|text| text.parse().unwrap());
        let error = scenario(Objects::default(), &given).unwrap_err().to_string();
        assert!(
            error.contains("'retrieve'") && error.contains("graviton: no node is large enough"),
            "{error}"
        );
    }

    #[test]
    fn every_sample_can_be_simulated_with_every_policy() {
        let load = Load::named(
            "steady:3",
            Path::new("nowhere"),
            Change {
                seconds: Some(90),
                ..Change::NONE
            },
            1,
        )
        .unwrap();
        let mut seen = 0;
        for path in [samples(), samples().join("features"), samples().join("hardware")]
            .iter()
            .flat_map(|folder| manifests(folder).unwrap())
        {
            let objects = Objects::read(std::slice::from_ref(&path)).unwrap();
            let scenario = scenario(objects, &[]).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            for kind in KINDS {
                let mut policy = kind.name.parse::<Spec>().unwrap().build(&scenario, &load);
                let start = initial(&scenario, &load);
                let outcome = run(
                    &scenario,
                    &load,
                    &start,
                    (kind.name, policy.as_mut()),
                    &Options::default(),
                );
                let about = format!("{} with {}", path.display(), kind.name);
                assert_eq!(outcome.requests, outcome.served + outcome.failed, "{about}");
                assert!(outcome.served > 0, "{about}");
            }
            seen += 1;
        }
        assert!(seen >= 25, "{seen} samples");
    }
}
