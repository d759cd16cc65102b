//! An order of pools, groups and stages that depends on what they are, never on where they stood.
//!
//! Floating-point sums, ties and sampling all depend on order. Once the instance is laid out in an order made from its
//! own content, nothing after that can tell how the caller ordered or named things, and no later step needs to care.
//!
//! Content is hashed in three rounds, as one would colour a graph: pools by what they have, stages by what they ask and
//! of which pools, pools again by which stages ask for them, stages again by those. What has the same colour after that
//! is alike in all that decides, or as good as.

use super::rows::{GroupRow, OptionRow, PoolRow, Rows, StageRow};
use crate::rebalance::bug::{Bug, seeded};

/// Positions in the caller's rows, in canonical order.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    pub(super) pools: Vec<u32>,
    pub(super) groups: Vec<u32>,
    pub(super) stages: Vec<u32>,
}

/// Finalizer of splitmix64: every bit of the input moves every bit of the output.
pub(super) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

fn chain(hash: u64, value: u64) -> u64 {
    mix(hash.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ value.rotate_left(17))
}

fn pool(row: &PoolRow) -> u64 {
    let words = [row.cpu_millis, row.memory_kib, row.device_millis];
    let start = chain(1, u64::from(row.reliable));
    words
        .iter()
        .fold(start, |hash, &word| chain(hash, word.cast_unsigned()))
}

fn group(row: &GroupRow) -> u64 {
    let words = [row.money_max_micros, row.power_max_milliwatts];
    words.iter().fold(2, |hash, word| {
        chain(chain(hash, u64::from(word.is_some())), word.unwrap_or(0))
    })
}

fn option(row: &OptionRow) -> u64 {
    let words = [
        row.request.cpu_millis,
        row.request.memory_kib,
        row.request.device_millis,
        row.price,
        row.cost_micros,
        row.power_milliwatts,
        row.capacity_millis,
        (u64::from(row.current) << 32) | u64::from(row.lower),
        row.move_up,
        row.move_down,
        u64::from(row.upper),
    ];
    let start = words.iter().fold(3, |hash, &word| chain(hash, word));
    let further = row.further.iter();
    further.fold(start, |hash, &(from, capacity)| {
        chain(chain(hash, u64::from(from)), capacity)
    })
}

fn stage(row: &StageRow) -> u64 {
    let words = [
        row.demand_millis,
        (u64::from(row.min) << 32) | u64::from(row.max),
        u64::from(row.reliable_min),
        row.traffic as u64,
        row.penalty,
        u64::from(row.priority),
        u64::from(row.pipeline.is_some()),
    ];
    words.iter().fold(4, |hash, &word| chain(hash, word))
}

fn at(colours: &[u64], index: u32) -> u64 {
    colours.get(index as usize).copied().unwrap_or(0)
}

fn sorted(colours: &[u64]) -> Vec<u32> {
    let mut keyed: Vec<(u64, u32)> = colours.iter().copied().zip(0..).collect();
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, index)| index).collect()
}

/// The canonical order of `rows`.
pub(super) fn order(rows: &Rows) -> Order {
    let mut pools: Vec<u64> = rows.pools.iter().map(pool).collect();
    let mut groups: Vec<u64> = rows.groups.iter().map(group).collect();
    let own: Vec<u64> = rows.stages.iter().map(stage).collect();
    let options: Vec<u64> = rows
        .stages
        .iter()
        .flat_map(|row| row.options.iter().map(option))
        .collect();
    let mut stages = own.clone();
    let mut pipelines: Vec<(u32, u64)> = Vec::new();
    for round in 0..2 {
        let (mut next_pools, mut next_groups) = (pools.clone(), groups.clone());
        let mut colours = options.iter();
        for (row, (slot, &own)) in rows.stages.iter().zip(stages.iter_mut().zip(&own)) {
            let together = row.pipeline.and_then(|key| {
                let found = pipelines.binary_search_by_key(&key, |&(key, _)| key).ok()?;
                pipelines.get(found).map(|&(_, colour)| colour)
            });
            let here = colours.as_slice().get(..row.options.len()).unwrap_or_default();
            let asked = row.options.iter().zip(here).fold(0_u64, |sum, (option, &colour)| {
                sum.wrapping_add(mix(colour ^ mix(at(&pools, option.pool))))
            });
            let held = row
                .groups
                .iter()
                .fold(0_u64, |sum, &group| sum.wrapping_add(mix(at(&groups, group))));
            *slot = chain(chain(chain(own, asked), held), together.unwrap_or(0));
            if round == 0 {
                for (option, &colour) in row.options.iter().zip(here) {
                    if let Some(pool) = next_pools.get_mut(option.pool as usize) {
                        *pool = pool.wrapping_add(mix(colour.wrapping_add(*slot)));
                    }
                }
                for &group in &row.groups {
                    if let Some(group) = next_groups.get_mut(group as usize) {
                        *group = group.wrapping_add(mix(*slot));
                    }
                }
            }
            colours.by_ref().take(row.options.len()).for_each(drop);
        }
        if round == 0 {
            pools = next_pools;
            groups = next_groups;
            pipelines = colours_of_pipelines(rows, &stages);
        }
    }
    Order {
        pools: sorted(&pools),
        groups: sorted(&groups),
        stages: if seeded(Bug::CallersOrder) {
            (0..stages.len() as u32).collect()
        } else {
            sorted(&stages)
        },
    }
}

/// Colour of every pipeline from those of its stages, sorted by the caller's number.
fn colours_of_pipelines(rows: &Rows, stages: &[u64]) -> Vec<(u32, u64)> {
    let members = rows.stages.iter().zip(stages);
    let mut all: Vec<(u32, u64)> = members
        .filter_map(|(row, &colour)| row.pipeline.map(|key| (key, mix(colour))))
        .collect();
    all.sort_unstable_by_key(|&(key, _)| key);
    all.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 = kept.1.wrapping_add(next.1);
        }
        same
    });
    all
}
