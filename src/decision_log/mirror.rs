//! The core's events as serde knows them: the core itself knows no serializer.
//!
//! A new field of the world is one word in its `mirror!`; where old logs are to stay readable it gets `#[serde(default)]`.
//! A new event is one line in `events!`, and a `mirror!` of what it carries.

use std::borrow::Borrow;

use serde::{Deserialize, Serialize};

use crate::rebalance::propose;
use crate::rebalance::world::{self, Key, PipelineIdx, PoolIdx, Resources, StageIdx, VariantIdx};

/// Declares a mirror of a type of the core with conversions both ways. Fields are plain (`name`), wrapped numbers
/// (`name as Wrapper`), or mirrors themselves (`name: Mirror`).
macro_rules! mirror {
    ($name:ident of $origin:ty {
        $($(#[$attribute:meta])* $plain:ident: $type:ty,)*
    } wrapped { $($number:ident: $width:ty as $wrapper:ident,)* }) => {
        #[derive(Serialize, Deserialize)]
        pub(super) struct $name { $($number: $width,)* $($(#[$attribute])* $plain: $type,)* }

        impl From<&$origin> for $name {
            fn from(of: &$origin) -> Self {
                Self { $($number: of.$number.0,)* $($plain: of.$plain.clone().into(),)* }
            }
        }

        impl From<$origin> for $name {
            fn from(of: $origin) -> Self {
                Self::from(&of)
            }
        }

        impl From<$name> for $origin {
            fn from(of: $name) -> Self {
                Self { $($number: $wrapper(of.$number),)* $($plain: of.$plain.into(),)* }
            }
        }
    };
}

/// Declares a mirror of an enum without fields.
macro_rules! mirror_words {
    ($name:ident of $origin:ty { $($word:ident),* }) => {
        #[derive(Clone, Copy, Serialize, Deserialize)]
        pub(super) enum $name { $($word),* }

        impl From<$origin> for $name {
            fn from(of: $origin) -> Self {
                match of { $(<$origin>::$word => Self::$word),* }
            }
        }

        impl From<$name> for $origin {
            fn from(of: $name) -> Self {
                match of { $($name::$word => Self::$word),* }
            }
        }
    };
}

mirror_words!(Tier of world::Tier { Cpu, Accelerator });
mirror_words!(Mode of world::Mode { Automatic, Advisory, Paused, NoScaleIn, NoScaleOut });
mirror_words!(Traffic of world::Traffic { Uniform, Weighted, Pull });
mirror_words!(DryReason of world::DryReason { Unschedulable, CannotStart, Reclaimed });

/// What something was learned of: the number of a variant, or of a stage.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Subject {
    Capacity(u32),
    Startup(u32),
    Calls(u32),
}

impl From<world::Subject> for Subject {
    fn from(of: world::Subject) -> Self {
        match of {
            world::Subject::Capacity(variant) => Self::Capacity(variant.0),
            world::Subject::Startup(variant) => Self::Startup(variant.0),
            world::Subject::Calls(stage) => Self::Calls(stage.0),
        }
    }
}

impl From<Subject> for world::Subject {
    fn from(of: Subject) -> Self {
        match of {
            Subject::Capacity(at) => Self::Capacity(VariantIdx(at)),
            Subject::Startup(at) => Self::Startup(VariantIdx(at)),
            Subject::Calls(at) => Self::Calls(StageIdx(at)),
        }
    }
}

/// A variant's number.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct At(u32);

impl From<VariantIdx> for At {
    fn from(of: VariantIdx) -> Self {
        Self(of.0)
    }
}

impl From<At> for VariantIdx {
    fn from(of: At) -> Self {
        Self(of.0)
    }
}

/// CPU in millicores, memory in KiB, thousandths of devices.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct Bundle(u64, u64, u64);

impl From<Resources> for Bundle {
    fn from(of: Resources) -> Self {
        Self(of.cpu_millis, of.memory_kib, of.device_millis)
    }
}

impl From<Bundle> for Resources {
    fn from(Bundle(cpu_millis, memory_kib, device_millis): Bundle) -> Self {
        Self {
            cpu_millis,
            memory_kib,
            device_millis,
        }
    }
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) enum OnSignalLoss {
    Hold,
    CurrentIfHigher,
    Static(u32),
}

impl From<world::OnSignalLoss> for OnSignalLoss {
    fn from(of: world::OnSignalLoss) -> Self {
        match of {
            world::OnSignalLoss::Hold => Self::Hold,
            world::OnSignalLoss::CurrentIfHigher => Self::CurrentIfHigher,
            world::OnSignalLoss::Static(count) => Self::Static(count),
        }
    }
}

impl From<OnSignalLoss> for world::OnSignalLoss {
    fn from(of: OnSignalLoss) -> Self {
        match of {
            OnSignalLoss::Hold => Self::Hold,
            OnSignalLoss::CurrentIfHigher => Self::CurrentIfHigher,
            OnSignalLoss::Static(count) => Self::Static(count),
        }
    }
}

/// Latency in milliseconds and percentile.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Objective(Option<(u64, u32)>);

impl Objective {
    const fn is_absent(&self) -> bool {
        self.0.is_none()
    }
}

impl From<Option<world::Objective>> for Objective {
    fn from(of: Option<world::Objective>) -> Self {
        Self(of.map(|of| (of.latency_ms, of.percentile)))
    }
}

impl From<Objective> for Option<world::Objective> {
    fn from(of: Objective) -> Self {
        let objective = |(latency_ms, percentile)| world::Objective { latency_ms, percentile };
        of.0.map(objective)
    }
}

/// Callers of a stage: stage and calls in thousandths.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Edges(Vec<(u32, u64)>);

impl From<Vec<world::Edge>> for Edges {
    fn from(of: Vec<world::Edge>) -> Self {
        Self(of.iter().map(|edge| (edge.from.0, edge.calls_millis)).collect())
    }
}

impl From<Edges> for Vec<world::Edge> {
    fn from(of: Edges) -> Self {
        let edge = |(from, calls_millis)| world::Edge {
            from: StageIdx(from),
            calls_millis,
        };
        of.0.into_iter().map(edge).collect()
    }
}

/// Signals beside a stage's own: target in thousandths, age in milliseconds, whether waiting work is seen.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Others(Vec<(u32, u64, bool)>);

impl Others {
    const fn is_none(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<world::Also>> for Others {
    fn from(of: Vec<world::Also>) -> Self {
        let parts = |also: &world::Also| (also.target_permille, also.reading_age_ms_max, also.sees_waiting);
        Self(of.iter().map(parts).collect())
    }
}

impl From<Others> for Vec<world::Also> {
    fn from(of: Others) -> Self {
        let also = |(target_permille, reading_age_ms_max, sees_waiting)| world::Also {
            target_permille,
            reading_age_ms_max,
            sees_waiting,
        };
        of.0.into_iter().map(also).collect()
    }
}

mirror!(Pool of world::Pool { tier: Tier, reliable: bool, capacity: Bundle, } wrapped { key: u64 as Key, });
mirror!(Pipeline of world::Pipeline {
    priority: u16, budget_micros: Option<u64>, mode: Mode,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    power_max_milliwatts: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shared: Option<u32>,
    #[serde(default, skip_serializing_if = "Objective::is_absent")]
    objective: Objective,
} wrapped { key: u64 as Key, });
mirror!(Stage of world::Stage {
    variants: (u32, u32), min: u32, max: u32, reliable_min: u32, target_permille: u32, traffic: Traffic, rated: bool,
    sees_waiting: bool, after: Edges, tolerance_permille: u32, up_window_ms: u64, down_window_ms: u64,
    down_percent_per_minute: u32, moves_per_hour: u32, max_surge: u32, signal_loss_ms: u64, on_signal_loss: OnSignalLoss,
    reading_age_ms_max: u64,
    #[serde(default, skip_serializing_if = "Others::is_none")]
    also: Others,
} wrapped { key: u64 as Key, pipeline: u32 as PipelineIdx, });
mirror!(Variant of world::Variant {
    request: Bundle, cost_micros: u64, marginal_micros: u64, power_milliwatts: Option<u64>, hint_permille: u32,
    capacity_millis: u64, concurrency: Option<u32>, startup_ms: u64, max: u32,
} wrapped { key: u64 as Key, stage: u32 as StageIdx, pool: u32 as PoolIdx, });
mirror!(Reading of world::Reading {
    taken_ms: u64, sampled: u32, expected: u32, running_millis: Option<u64>, waiting_millis: Option<u64>,
    utilization_permille: Option<u32>, rate_millis: Option<u64>,
} wrapped {});

mirror!(Learned of world::Learned { declared: u64, value: u64, samples: u32, } wrapped {});

mirror!(Ceilings of world::Ceilings { budget_micros: Option<u64>, power_max_milliwatts: Option<u64>, } wrapped {});

#[derive(Serialize, Deserialize)]
pub(super) struct World {
    pools: Vec<Pool>,
    pipelines: Vec<Pipeline>,
    stages: Vec<Stage>,
    variants: Vec<Variant>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    shared: Vec<Ceilings>,
}

impl From<&world::World> for World {
    fn from(of: &world::World) -> Self {
        Self {
            pools: of.pools.iter().map(Pool::from).collect(),
            pipelines: of.pipelines.iter().map(Pipeline::from).collect(),
            stages: of.stages.iter().map(Stage::from).collect(),
            variants: of.variants.iter().map(Variant::from).collect(),
            shared: of.shared.iter().map(Ceilings::from).collect(),
        }
    }
}

impl From<World> for world::World {
    fn from(of: World) -> Self {
        Self {
            pools: of.pools.into_iter().map(world::Pool::from).collect(),
            pipelines: of.pipelines.into_iter().map(world::Pipeline::from).collect(),
            stages: of.stages.into_iter().map(world::Stage::from).collect(),
            variants: of.variants.into_iter().map(world::Variant::from).collect(),
            shared: of.shared.into_iter().map(world::Ceilings::from).collect(),
        }
    }
}

/// Counts are pairs of variant and replicas; prices are of a pool, a resource and so many millionths; those of ceilings of
/// a pipeline or a place among the shared, on cost or power, and so many millionths.
#[derive(Serialize, Deserialize)]
pub(super) struct Proposal {
    world: u64,
    counts: Vec<(u32, u32)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gap_ppm: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gap_in_force_ppm: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    prices: Vec<(u32, u8, u64)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ceilings: Vec<(Keeper, On, u64)>,
}

#[derive(Serialize, Deserialize)]
enum Keeper {
    Pipeline(u32),
    Shared(u32),
}

#[derive(Serialize, Deserialize)]
enum On {
    Cost,
    Power,
}

impl From<&propose::CeilingPrice> for (Keeper, On, u64) {
    fn from(of: &propose::CeilingPrice) -> Self {
        let keeper = match of.of {
            propose::Keeper::Pipeline(at) => Keeper::Pipeline(at.0),
            propose::Keeper::Shared(at) => Keeper::Shared(at),
        };
        let on = match of.on {
            propose::On::Cost => On::Cost,
            propose::On::Power => On::Power,
        };
        (keeper, on, of.micros)
    }
}

impl From<(Keeper, On, u64)> for propose::CeilingPrice {
    fn from((keeper, on, micros): (Keeper, On, u64)) -> Self {
        let of = match keeper {
            Keeper::Pipeline(at) => propose::Keeper::Pipeline(PipelineIdx(at)),
            Keeper::Shared(at) => propose::Keeper::Shared(at),
        };
        let on = match on {
            On::Cost => propose::On::Cost,
            On::Power => propose::On::Power,
        };
        Self { of, on, micros }
    }
}

impl From<&propose::Proposal> for Proposal {
    fn from(of: &propose::Proposal) -> Self {
        let price = |&(pool, resource, micros): &(PoolIdx, u8, u64)| (pool.0, resource, micros);
        Self {
            world: of.world,
            counts: of.counts.iter().map(|&(variant, count)| (variant.0, count)).collect(),
            gap_ppm: of.certificate.gap_ppm,
            gap_in_force_ppm: of.certificate.gap_in_force_ppm,
            prices: of.certificate.prices.iter().map(price).collect(),
            ceilings: of.certificate.ceilings.iter().map(Into::into).collect(),
        }
    }
}

impl From<Proposal> for propose::Proposal {
    fn from(of: Proposal) -> Self {
        let counts = of.counts.into_iter();
        let prices = of.prices.into_iter();
        Self {
            world: of.world,
            counts: counts.map(|(variant, count)| (VariantIdx(variant), count)).collect(),
            certificate: propose::Certificate {
                gap_ppm: of.gap_ppm,
                gap_in_force_ppm: of.gap_in_force_ppm,
                prices: prices
                    .map(|(pool, resource, micros)| (PoolIdx(pool), resource, micros))
                    .collect(),
                ceilings: of.ceilings.into_iter().map(Into::into).collect(),
            },
        }
    }
}

/// Declares the mirror of the core's events: those that carry one value, boxed or not (`Name(Mirror of Origin)`), and
/// behind the `;` those with fields (`Name { field: Mirror }`).
macro_rules! events {
    ($($word:ident($mirror:ident of $origin:ty)),+; $($name:ident { $($field:ident: $type:ty),+ },)*) => {
        #[derive(Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub(super) enum Event {
            $($word($mirror),)+
            $($name { $($field: $type),+ },)*
        }

        impl From<&world::Event> for Event {
            fn from(event: &world::Event) -> Self {
                match event {
                    $(world::Event::$word(inner) => Self::$word($mirror::from(Borrow::<$origin>::borrow(inner))),)+
                    $(world::Event::$name { $($field),+ } => Self::$name { $($field: (*$field).into()),+ },)*
                }
            }
        }

        impl From<Event> for world::Event {
            #[allow(clippy::useless_conversion, reason = "some are boxed, some are not")]
            fn from(event: Event) -> Self {
                match event {
                    $(Event::$word(inner) => Self::$word(<$origin>::from(inner).into()),)+
                    $(Event::$name { $($field),+ } => Self::$name { $($field: $field.into()),+ },)*
                }
            }
        }
    };
}

events! {
    World(World of world::World), Proposal(Proposal of propose::Proposal);
    Replicas { variant: At, desired: u32, ready: u32 },
    Leaving { variant: At, count: u32 },
    Started { variant: At, took_ms: u64, found: bool },
    Reading { variant: At, reading: Reading },
    Also { variant: At, signal: u8, reading: Reading },
    Dry { variant: At, reason: DryReason },
    Learned { subject: Subject, learned: Learned },
}
