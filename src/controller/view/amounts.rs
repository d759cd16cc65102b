//! Exact amounts of the resources that pods request and nodes offer.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::api::container::Quantity as Text;
use crate::quantity::{Quantity, Round};
use crate::rebalance::world::Resources;

/// Amounts as an object spells them, by resource.
pub(super) type RawQuantities = BTreeMap<String, Text>;

/// The `resources` of a container or pod; limits that stand in for missing requests are filled in by the API server.
#[derive(Default, Deserialize)]
pub(super) struct RawRequests {
    #[serde(default)]
    pub(super) requests: RawQuantities,
}

/// A request that cannot be read takes all there is: better an empty node than an overfull one.
const EVERYTHING: Quantity = Quantity::from_nanos(i64::MAX as i128 * 1_000_000_000);

/// CPU, memory and devices, exactly. Other resources (storage, huge pages) are not kept: no pool is short of them first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Amounts {
    /// Cores.
    pub cpu: Quantity,
    /// Bytes.
    pub memory: Quantity,
    /// Extended resources by name, sorted.
    devices: Box<[(Box<str>, Quantity)]>,
}

impl Default for Amounts {
    fn default() -> Self {
        Self {
            cpu: Quantity::ZERO,
            memory: Quantity::ZERO,
            devices: Box::default(),
        }
    }
}

impl Amounts {
    /// What is requested: an amount that cannot be read is [`EVERYTHING`].
    pub(super) fn requested(raw: &RawQuantities) -> Self {
        Self::read(raw, EVERYTHING)
    }

    /// What is offered: an amount that cannot be read is nothing.
    pub(crate) fn offered(raw: &BTreeMap<String, Text>) -> Self {
        Self::read(raw, Quantity::ZERO)
    }

    fn read(raw: &RawQuantities, unreadable: Quantity) -> Self {
        let mut amounts = Self::default();
        let mut devices = Vec::new();
        for (name, text) in raw {
            let amount = || Quantity::parse(&text.0).unwrap_or(unreadable);
            match name.as_str() {
                "cpu" => amounts.cpu = amount(),
                "memory" => amounts.memory = amount(),
                // Sorted, because the map is.
                name if name.contains('/') => devices.push((name.into(), amount())),
                _ => {}
            }
        }
        amounts.devices = devices.into_boxed_slice();
        amounts
    }

    /// The amount of an extended resource.
    pub fn device(&self, name: &str) -> Quantity {
        self.devices
            .iter()
            .find(|(key, _)| &**key == name)
            .map_or(Quantity::ZERO, |(_, amount)| *amount)
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.combined(other, |a, b| Quantity::from_nanos(a.nanos().saturating_add(b.nanos())))
    }

    /// The larger of each resource.
    #[must_use]
    pub fn max(&self, other: &Self) -> Self {
        self.combined(other, Ord::max)
    }

    /// With CPU and memory as `raw` has them, where it does: what a pod as a whole requests.
    pub(super) fn overridden_by(mut self, raw: &RawQuantities) -> Self {
        let whole = Self::requested(raw);
        if raw.contains_key("cpu") {
            self.cpu = whole.cpu;
        }
        if raw.contains_key("memory") {
            self.memory = whole.memory;
        }
        self
    }

    fn combined(&self, other: &Self, with: impl Fn(Quantity, Quantity) -> Quantity) -> Self {
        let devices = if other.devices.is_empty() {
            self.devices.clone()
        } else {
            let mut names: BTreeMap<&str, Quantity> =
                self.devices.iter().map(|(name, amount)| (&**name, *amount)).collect();
            for (name, amount) in &other.devices {
                let entry = names.entry(name).or_insert(Quantity::ZERO);
                *entry = with(*entry, *amount);
            }
            names.into_iter().map(|(name, amount)| (name.into(), amount)).collect()
        };
        Self {
            cpu: with(self.cpu, other.cpu),
            memory: with(self.memory, other.memory),
            devices,
        }
    }

    /// In the units of the core, with `device` as the device. Round requests up and offers down; below zero is zero.
    pub fn resources(&self, device: Option<&str>, round: Round) -> Resources {
        Resources {
            cpu_millis: clamped(self.cpu.millis(round)),
            memory_kib: clamped(self.memory.kib(round)),
            device_millis: device.map_or(0, |name| clamped(self.device(name).millis(round))),
        }
    }
}

/// Most pods that a node takes.
pub(super) fn pods(raw: &RawQuantities) -> Option<u32> {
    let pods = Quantity::parse(&raw.get("pods")?.0).ok()?.units(Round::Down);
    Some(u32::try_from(pods.max(0)).unwrap_or(u32::MAX))
}

fn clamped(value: i128) -> u64 {
    u64::try_from(value.max(0)).unwrap_or(u64::MAX)
}
