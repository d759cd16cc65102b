//! The instance format of `tiercel solve`: names and decimals outside, indices and integers inside.
//!
//! `docs/reference/solve.md` is the manual.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Error;
use super::fields::Fields;
use crate::rebalance::solve::rows::{GroupRow, OptionRow, PoolRow, Rows, StageRow};
use crate::rebalance::solve::{Priced, Reason, Solution, Traffic};
use crate::rebalance::world::Resources;

/// Prices inside are billionths of a dollar per hour: micro-dollars times thousandths of the hint.
const NANOS: u64 = 1_000;

/// An instance and the names of its parts, in the order of the rows.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) rows: Rows,
    pools: Vec<String>,
    groups: Vec<String>,
    stages: Vec<String>,
}

/// Positions of things by their names.
type Names = BTreeMap<String, u32>;

impl Document {
    /// Reads a document.
    pub(super) fn read(value: Value) -> Result<Self, Error> {
        let mut fields = Fields::of(value, String::new())?;
        let mut document = Self {
            rows: Rows::default(),
            pools: Vec::new(),
            groups: Vec::new(),
            stages: Vec::new(),
        };
        let (mut pools, mut groups, mut stages) = (Names::new(), Names::new(), Names::new());
        for (value, path) in fields.list("pools")? {
            let mut pool = Fields::of(value, path.clone())?;
            named(&mut pool, &path, &mut pools, &mut document.pools)?;
            document.rows.pools.push(PoolRow {
                reliable: pool.flag("reliable", true)?,
                cpu_millis: whole(pool.fixed_or_none("cpu_millis", 0, true)?),
                memory_kib: whole(pool.fixed_or_none("memory_kib", 0, true)?),
                device_millis: whole(pool.fixed_or_none("device_millis", 0, true)?),
            });
            pool.finish()?;
        }
        for (value, path) in fields.list("groups")? {
            let mut group = Fields::of(value, path.clone())?;
            named(&mut group, &path, &mut groups, &mut document.groups)?;
            document.rows.groups.push(GroupRow {
                money_max_micros: group
                    .fixed_or_none("money_max_usd_per_hour", 6, false)?
                    .map(whole_unsigned),
                power_max_milliwatts: group.fixed_or_none("power_max_watts", 3, false)?.map(whole_unsigned),
            });
            group.finish()?;
        }
        let mut pipelines = Names::new();
        for (value, path) in fields.list("stages")? {
            let mut stage = Fields::of(value, path.clone())?;
            named(&mut stage, &path, &mut stages, &mut document.stages)?;
            let row = read_stage(&mut stage, &path, &pools, &groups, &mut pipelines)?;
            stage.finish()?;
            document.rows.stages.push(row);
        }
        fields.finish()?;
        Ok(document)
    }

    /// The answer, as people and programs read it.
    pub(super) fn answer(&self, solution: &Solution, milliseconds: f64) -> Value {
        let mut first = 0;
        let mut reasons: BTreeMap<usize, &Vec<Reason>> = BTreeMap::new();
        reasons.extend(solution.reasons.iter().map(|(stage, why)| (*stage as usize, why)));
        let mut cost_micros = 0_u128;
        let mut stages = Vec::new();
        for (at, row) in self.rows.stages.iter().enumerate() {
            let counts = solution.counts.iter().skip(first).take(row.options.len());
            first += row.options.len();
            let mut replicas = serde_json::Map::new();
            for (option, &count) in row.options.iter().zip(counts) {
                cost_micros += u128::from(option.cost_micros) * u128::from(count);
                if count > 0 {
                    let pool = self.pools.get(option.pool as usize).cloned().unwrap_or_default();
                    replicas.insert(pool, count.into());
                }
            }
            let why: Vec<&str> = reasons
                .get(&at)
                .into_iter()
                .flat_map(|why| why.iter().map(|&reason| text(reason)))
                .collect();
            stages.push(json!({
                "name": self.stages.get(at),
                "replicas": replicas,
                "unserved": thousandths(solution.unserved.get(at).copied().unwrap_or(0)),
                "missing_replicas": solution.short.get(at),
                "reasons": why,
            }));
        }
        json!({
            "stages": stages,
            "cost_usd_per_hour": ratio(i128::try_from(cost_micros).unwrap_or(i128::MAX), 1e6),
            "objective_usd_per_hour": ratio(solution.cost, 1e9),
            "bound_usd_per_hour": ratio(solution.bound, 1e9),
            "gap_percent": solution.gap_ppm.map(|gap| ratio(i128::from(gap), 1e4)),
            "prices": solution.prices.iter().map(|&(what, price)| self.price(what, price)).collect::<Vec<_>>(),
            "milliseconds": milliseconds,
            "effort": {
                "evaluations": solution.effort.evaluations,
                "tries": solution.effort.tries,
                "improvements": solution.effort.successes,
                "nodes": solution.effort.nodes,
            },
        })
    }

    fn price(&self, what: Priced, price: u64) -> Value {
        // 2^-24 of a billionth of a dollar per base unit.
        let per = |units: f64| ratio(i128::from(price), 16_777_216.0 * 1e9 / units);
        let group = |at: u32| self.groups.get(at as usize);
        match what {
            Priced::Pool { pool, resource } => {
                let (name, units) = match resource {
                    0 => ("usd_per_hour_per_cpu", 1e3),
                    1 => ("usd_per_hour_per_gib", 1_048_576.0),
                    _ => ("usd_per_hour_per_device", 1e3),
                };
                json!({ "pool": self.pools.get(pool as usize), name: per(units) })
            }
            Priced::Money { group: at } => json!({ "group": group(at), "usd_per_usd": per(1e6) }),
            Priced::Power { group: at } => json!({ "group": group(at), "usd_per_hour_per_watt": per(1e3) }),
        }
    }
}

fn read_stage(
    stage: &mut Fields,
    path: &str,
    pools: &Names,
    groups: &Names,
    pipelines: &mut Names,
) -> Result<StageRow, Error> {
    let count = u32::try_from(pipelines.len()).unwrap_or(u32::MAX);
    let mut row = StageRow {
        demand_millis: stage.amount_required("demand", 3)?,
        min: stage.count("min", 0)?,
        max: stage.count("max", u32::MAX)?,
        reliable_min: stage.count("reliable_min", 0)?,
        traffic: match stage.text_or_none("traffic")?.as_deref() {
            None | Some("Pull") => Traffic::Pull,
            Some("Weighted") => Traffic::Weighted,
            Some("Uniform") => Traffic::Uniform,
            Some(other) => {
                let problem = format!("is \"{other}\", but must be Uniform, Weighted or Pull");
                return Err(Error::Field {
                    path: format!("{path}.traffic"),
                    problem,
                });
            }
        },
        // Dollars per hour and unit: 10^9 billionths over 10^3 thousandths.
        penalty: stage.amount_required("unserved_usd_per_unit", 6)?,
        priority: 0,
        pipeline: stage
            .text_or_none("pipeline")?
            .map(|name| *pipelines.entry(name).or_insert(count)),
        groups: Vec::new(),
        options: Vec::new(),
    };
    let priority = stage.count("priority", 0)?;
    row.priority = u16::try_from(priority)
        .ok()
        .filter(|&priority| priority <= 1_000)
        .ok_or_else(|| Error::Field {
            path: format!("{path}.priority"),
            problem: format!("is {priority}, but must be a whole number from 0 to 1000"),
        })?;
    for (value, path) in stage.list("groups")? {
        let Value::String(name) = &value else {
            return Err(Error::Field {
                path,
                problem: "must be the name of a group".to_owned(),
            });
        };
        row.groups.push(lookup(name, &path, groups, "group", "groups")?);
    }
    for (value, path) in stage.list("options")? {
        let mut option = Fields::of(value, path.clone())?;
        let read = read_option(&mut option, &path, pools)?;
        if row.options.iter().any(|before| before.pool == read.pool) {
            let problem = "names a pool that another option of the stage names; one option per pool".to_owned();
            return Err(Error::Field {
                path: format!("{path}.pool"),
                problem,
            });
        }
        option.finish()?;
        row.options.push(read);
    }
    Ok(row)
}

fn read_option(option: &mut Fields, path: &str, pools: &Names) -> Result<OptionRow, Error> {
    let pool = option.text("pool")?;
    let cost_micros = option.amount_required("cost_usd_per_hour", 6)?;
    let hint = option.amount("hint", 3, 1_000)?;
    let marginal = option.amount("marginal_usd_per_hour", 6, cost_micros)?;
    let mut further = Vec::new();
    let row = OptionRow {
        pool: lookup(&pool, &format!("{path}.pool"), pools, "pool", "pools")?,
        request: Resources {
            cpu_millis: option.amount("cpu_millis", 0, 0)?,
            memory_kib: option.amount("memory_kib", 0, 0)?,
            device_millis: option.amount("device_millis", 0, 0)?,
        },
        price: marginal.saturating_mul(hint),
        cost_micros,
        power_milliwatts: option.amount("power_watts", 3, 0)?,
        capacity_millis: option.amount_required("capacity", 3)?,
        current: option.count("current", 0)?,
        move_up: option.amount("move_up_usd_per_hour", 6, 0)?.saturating_mul(NANOS),
        move_down: option.amount("move_down_usd_per_hour", 6, 0)?.saturating_mul(NANOS),
        lower: option.count("lower", 0)?,
        upper: option.count("upper", u32::MAX)?,
        further: Vec::new(),
    };
    for (value, path) in option.list("further")? {
        let mut step = Fields::of(value, path)?;
        further.push((step.count("from", 0)?, step.amount_required("capacity", 3)?));
        step.finish()?;
    }
    Ok(OptionRow { further, ..row })
}

/// Reads the name of a thing and remembers its place.
fn named(fields: &mut Fields, path: &str, names: &mut Names, list: &mut Vec<String>) -> Result<(), Error> {
    let name = fields.text("name")?;
    let place = u32::try_from(list.len()).unwrap_or(u32::MAX);
    if names.insert(name.clone(), place).is_some() {
        let problem = format!("is \"{name}\", which another one is called already; names must differ");
        return Err(Error::Field {
            path: format!("{path}.name"),
            problem,
        });
    }
    list.push(name);
    Ok(())
}

fn lookup(name: &str, path: &str, names: &Names, one: &str, list: &str) -> Result<u32, Error> {
    names.get(name).copied().ok_or_else(|| {
        let some: Vec<&str> = names.keys().take(8).map(String::as_str).collect();
        let known = if some.is_empty() {
            "there is none".to_owned()
        } else {
            format!("there is {}", some.join(", "))
        };
        let problem = format!("is \"{name}\", but must name a {one} of `{list}`; {known}");
        Error::Field {
            path: path.to_owned(),
            problem,
        }
    })
}

fn whole(exact: Option<i128>) -> i64 {
    exact.map_or(0, |exact| i64::try_from(exact).unwrap_or(i64::MAX))
}

fn whole_unsigned(exact: i128) -> u64 {
    u64::try_from(exact).unwrap_or(0)
}

/// For display only: the answer is exact up to what a double holds.
#[expect(clippy::cast_precision_loss, reason = "for display")]
fn ratio(value: i128, by: f64) -> f64 {
    value as f64 / by
}

fn thousandths(value: u64) -> f64 {
    ratio(i128::from(value), 1e3)
}

fn text(reason: Reason) -> &'static str {
    match reason {
        Reason::Contradiction => "bounds contradict each other; what must stay stands above max, and max above min",
        Reason::KeptBeyondRoom => "what must stay exceeds the room of a pool or a ceiling; nothing is added there",
        Reason::NoOption => "no option can get a replica",
        Reason::BeyondReach => "all options together cannot serve the demand or keep the floors",
        Reason::Ceiling => "the ceiling on replicas is reached",
        Reason::Room => "pools are full, and others lose more without their room",
        Reason::Budget => "a ceiling on money or power is reached",
        Reason::NotWorthIt => "serving the rest costs more than leaving it unserved",
        Reason::Bottleneck => "another stage of the pipeline serves less; more here would serve nobody",
    }
}
