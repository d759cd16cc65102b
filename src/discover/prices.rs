//! What nodes cost and accelerators draw: a small dated table, and an administrator's own before it.

use serde::Deserialize;

use crate::api::compute_pool::CapacityType;
use crate::api::decimal::{Decimal, InvalidDecimal};
use crate::yaml;

/// The table that comes with the program.
const BUNDLED: &str = include_str!("prices.yaml");

/// Prices by instance type and watts by class. What an administrator's table says goes first.
#[derive(Clone, Debug)]
pub struct Prices {
    tables: Vec<Table>,
}

/// A table cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is not of the form.
    #[error("not a table of prices: {0}; its form is that of src/discover/prices.yaml, see docs/kubectl-tiercel.md")]
    Form(String),
    /// A price is none.
    #[error("price of '{instance}': {problem}")]
    Price {
        /// Of which instance type.
        instance: String,
        /// What is wrong.
        problem: InvalidDecimal,
    },
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Table {
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    spot_share: Option<Decimal>,
    #[serde(default)]
    instances: Vec<Instance>,
    #[serde(default)]
    boards: Vec<Board>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Instance {
    #[serde(rename = "type")]
    type_: String,
    cost_per_node_hour: Decimal,
    #[serde(default)]
    spot_cost_per_node_hour: Option<Decimal>,
    /// Class of its hardware, where labels do not say it.
    #[serde(default)]
    class: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Board {
    class: String,
    watts: u32,
    #[serde(default)]
    note: Option<String>,
}

/// A price, and what is to be known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// Of one node, per hour.
    pub cost: Decimal,
    /// Where it comes from.
    pub source: String,
}

/// What a node's accelerators draw, and what is to be known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Power {
    /// All boards of a node together.
    pub watts: u32,
    /// Of what.
    pub note: String,
}

impl Prices {
    /// The bundled table, behind an administrator's own if there is one.
    ///
    /// # Errors
    /// When a table is not of the form.
    pub fn read(own: Option<&str>) -> Result<Self, Error> {
        let tables = own.into_iter().chain([BUNDLED]).map(table);
        Ok(Self {
            tables: tables.collect::<Result<_, _>>()?,
        })
    }

    /// What tables say of an instance type, the first of them first.
    fn instances<'a>(&'a self, type_: &str) -> impl Iterator<Item = (&'a Table, &'a Instance)> + use<'a> {
        let all = self
            .tables
            .iter()
            .flat_map(|table| table.instances.iter().map(move |instance| (table, instance)));
        let known: Vec<_> = all.filter(|(_, instance)| instance.type_ == type_).collect();
        known.into_iter()
    }

    /// What the hardware of an instance type is called.
    pub fn class(&self, instance: &str) -> Option<&str> {
        self.instances(instance)
            .find_map(|(_, instance)| instance.class.as_deref())
    }

    /// What one node costs; `None` where nobody says.
    pub fn price(&self, instance: &str, bought: CapacityType) -> Option<Price> {
        let (table, found) = self.instances(instance).next()?;
        let source = table
            .source
            .clone()
            .unwrap_or_else(|| "your table of prices".to_owned());
        let plain = |cost: &Decimal, source: String| Price {
            cost: cost.clone(),
            source,
        };
        if bought != CapacityType::Spot {
            return Some(plain(&found.cost_per_node_hour, source));
        }
        if let Some(cost) = &found.spot_cost_per_node_hour {
            return Some(plain(cost, source));
        }
        let share = self.tables.iter().find_map(|table| table.spot_share.as_ref())?;
        let micros = u128::from(found.cost_per_node_hour.micros().ok()?) * u128::from(share.micros().ok()?) / 1_000_000;
        let micros = u64::try_from(micros).ok()?;
        Some(Price {
            cost: exactly(micros),
            source: format!("{source}; spot assumed to be {share} of it, put in what you see"),
        })
    }

    /// What `count` boards of a class draw.
    pub fn power(&self, class: &str, count: u32) -> Option<Power> {
        let boards = self.tables.iter().flat_map(|table| &table.boards);
        let board = boards.into_iter().find(|board| board.class == class)?;
        let note = board.note.as_ref().map(|note| format!(", {note}")).unwrap_or_default();
        let of = match count {
            1 => "the accelerator board alone".to_owned(),
            _ => format!("{count} accelerator boards of {} alone", board.watts),
        };
        Some(Power {
            watts: board.watts.checked_mul(count).filter(|&watts| watts > 0)?,
            note: format!("{of}{note}"),
        })
    }
}

fn table(text: &str) -> Result<Table, Error> {
    let table: Table = yaml::only(text).map_err(|broken| Error::Form(broken.to_string()))?;
    if let Some(share) = &table.spot_share {
        share
            .micros()
            .map_err(|error| Error::Form(format!("spotShare: {error}")))?;
    }
    for instance in &table.instances {
        let prices = [
            Some(&instance.cost_per_node_hour),
            instance.spot_cost_per_node_hour.as_ref(),
        ];
        for price in prices.into_iter().flatten() {
            price.micros().map_err(|problem| Error::Price {
                instance: instance.type_.clone(),
                problem,
            })?;
        }
    }
    Ok(table)
}

/// Millionths without zeros at the end.
fn exactly(micros: u64) -> Decimal {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    Decimal(text.trim_end_matches('0').trim_end_matches('.').to_owned())
}
