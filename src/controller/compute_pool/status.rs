//! What a pool's status says. Pure: an observation and a time in, a status out.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::ComputePool;
use crate::api::compute_pool::{ComputePoolStatus, ResourceCapacity, WarmBufferStatus};
use crate::api::conditions::{self, New, Reason, Status, Type};
use crate::api::container::Quantity;
use crate::api::decimal::money;
use crate::controller::capacity::arithmetic::{has_room, minus};
use crate::controller::capacity::{NodeRoom, PoolObservation, Problem, summary};
use crate::controller::report::{Room, ShadowPrices, WarmRoom};
use crate::rebalance::world::Resources;

/// The status that `observation` asks for. Transition times come from `previous` where a condition's status stays.
pub fn compute_status(
    pool: &ComputePool,
    observation: &PoolObservation,
    prices: &ShadowPrices,
    room: &Room,
    previous: Option<&ComputePoolStatus>,
    now: &Time,
) -> ComputePoolStatus {
    let generation = pool.metadata.generation;
    let cost = observation.cost_per_node_micros.filter(|_| observation.nodes > 0);
    ComputePoolStatus {
        observed_generation: generation,
        architecture: observation.architecture,
        nodes: bounded(observation.nodes, 100_000),
        ready_nodes: bounded(u32::try_from(observation.usable.len()).unwrap_or(u32::MAX), 100_000),
        replicas: bounded(observation.replicas, 10_000_000),
        capacity: capacity(observation),
        free: free(observation),
        cost_per_hour: cost.map(|micros| money(micros.saturating_mul(u64::from(observation.nodes)))),
        shadow_price: (observation.shape)
            .and_then(|node| prices.of_node(&observation.name, &node))
            .map(money),
        warm_buffer: match room {
            Room::Unknown => previous.and_then(|status| status.warm_buffer.clone()),
            Room::None => None,
            Room::Wanted(room) => Some(warm_buffer(observation, room)),
        },
        conditions: {
            let mut conditions = previous.map(|status| status.conditions.clone()).unwrap_or_default();
            let ready = ready(observation);
            let help_needed = observation.problem.is_some();
            let waiting = matches!(ready.reason, Reason::NoNodes | Reason::NoUsableNodes | Reason::InUse);
            let mut keep = |type_, holds: bool| {
                if holds {
                    conditions::set(
                        &mut conditions,
                        now,
                        generation,
                        New {
                            type_,
                            status: Status::True,
                            ..ready.clone()
                        },
                    );
                } else {
                    conditions::remove(&mut conditions, type_);
                }
            };
            keep(Type::Reconciling, waiting);
            keep(Type::Stalled, help_needed);
            conditions::set(
                &mut conditions,
                now,
                generation,
                capacity_available(observation, &ready),
            );
            conditions::set(&mut conditions, now, generation, ready);
            conditions
        },
    }
}

fn ready(observation: &PoolObservation) -> New {
    let (status, reason, message) = match &observation.problem {
        Some(Problem::InvalidSpec { field, message }) => (
            Status::False,
            Reason::Invalid,
            format!("`{field}`: {message}; correct it, until then the pool gives no capacity"),
        ),
        Some(Problem::PoolsOverlap { node, other }) => (
            Status::False,
            Reason::PoolsOverlap,
            format!(
                "node '{node}' already belongs to the older pool '{other}': narrow the `nodeSelector` of one of them, \
                 until then this pool gives no capacity"
            ),
        ),
        None if observation.deleting && observation.replicas > 0 => {
            let count = counted(observation.replicas, "replica", "replicas");
            (
                Status::False,
                Reason::InUse,
                format!("the pool is being deleted; {count} still on its nodes"),
            )
        }
        None => nodes(observation),
    };
    New {
        type_: Type::Ready,
        status,
        reason,
        message,
    }
}

fn nodes(observation: &PoolObservation) -> (Status, Reason, String) {
    let may_come = observation.elastic_nodes;
    let matching = counted(observation.nodes, "node matches", "nodes match");
    let aside = summary(observation.set_aside.iter().map(|(_, reason)| reason));
    match (observation.usable.len(), observation.nodes, may_come) {
        (0, 0, 0) => {
            let message = "no node matches `nodeSelector` and `matchExpressions`: label nodes, or set `elastic` with \
                           `nodeAllocatable` if an autoscaler adds them";
            (Status::False, Reason::NoNodes, message.to_owned())
        }
        (0, 0, _) => (
            Status::True,
            Reason::Elastic,
            format!("no node now; {} may come", counted(may_come, "node", "nodes")),
        ),
        (0, _, 0) => (
            Status::False,
            Reason::NoUsableNodes,
            format!("{matching}, none can take replicas: {aside}"),
        ),
        (0, _, _) => {
            let message = format!("{matching}, none can take replicas: {aside}; {may_come} more may come");
            (Status::True, Reason::Elastic, message)
        }
        (_, _, _) if aside.is_empty() => (
            Status::True,
            Reason::NodesAvailable,
            format!("{matching}, all can take replicas"),
        ),
        (usable, _, _) => {
            let message = format!(
                "{usable} of {} can take replicas; set aside: {aside}",
                counted(observation.nodes, "node", "nodes")
            );
            (Status::True, Reason::NodesAvailable, message)
        }
    }
}

fn capacity_available(observation: &PoolObservation, ready: &New) -> New {
    let new = |status, reason, message| New {
        type_: Type::CapacityAvailable,
        status,
        reason,
        message,
    };
    if ready.status == Status::False {
        return New {
            type_: Type::CapacityAvailable,
            ..ready.clone()
        };
    }
    let device = observation.device.is_some();
    let open = |node: &NodeRoom| has_room(minus(node.room, node.used_by_tiercel), device);
    if observation.usable.iter().any(open) {
        let message = free(observation).map_or_else(String::new, |free| format!("{free} free"));
        return new(Status::True, Reason::RoomLeft, message);
    }
    if observation.elastic_nodes > 0 {
        let count = counted(observation.elastic_nodes, "more node", "more nodes");
        return new(
            Status::True,
            Reason::Elastic,
            format!("no room on the nodes there are; {count} may come"),
        );
    }
    let scarce = observation.device.as_deref().unwrap_or("cpu and memory");
    new(
        Status::False,
        Reason::Full,
        format!("no node has any {scarce} left: add nodes, or let replicas go to other pools"),
    )
}

/// One resource of a pool: how an amount of it is picked out of a bundle and written down.
struct Row<'a> {
    name: &'a str,
    of: fn(Resources) -> u64,
    quantity: fn(u64) -> String,
    readable: fn(u64) -> String,
}

fn rows(observation: &PoolObservation) -> Vec<Row<'_>> {
    let mut rows = vec![
        Row {
            name: "cpu",
            of: |r| r.cpu_millis,
            quantity: millis_quantity,
            readable: millis_readable,
        },
        Row {
            name: "memory",
            of: |r| r.memory_kib,
            quantity: kib_quantity,
            readable: kib_readable,
        },
    ];
    if let Some(name) = &observation.device {
        rows.push(Row {
            name,
            of: |r| r.device_millis,
            quantity: millis_quantity,
            readable: millis_readable,
        });
    }
    rows
}

fn capacity(observation: &PoolObservation) -> Vec<ResourceCapacity> {
    let totals = observation.totals;
    let rows = rows(observation)
        .into_iter()
        .map(|Row { name, of, quantity, .. }| ResourceCapacity {
            resource: name.to_owned(),
            allocatable: quantity(of(totals.allocatable)),
            requested_by_others: quantity(of(totals.foreign)),
            requested_by_tiercel: quantity(of(totals.used_by_tiercel)),
            free: quantity(of(totals.free)),
        });
    rows.collect()
}

/// Room that is to be kept, and what of it is.
fn warm_buffer(observation: &PoolObservation, room: &WarmRoom) -> WarmBufferStatus {
    let requests = rows(observation).into_iter().filter(|row| (row.of)(room.part) > 0);
    let requests = requests.map(|row| (row.name.to_owned(), Quantity((row.quantity)((row.of)(room.part)))));
    WarmBufferStatus {
        placeholders: bounded(room.parts, 1_000_000),
        held: bounded(observation.placeholders, 1_000_000),
        requests: requests.collect(),
        reason: room.reason.clone(),
    }
}

/// What is free of the scarcest resource: `3 of 8 nvidia.com/gpu`. Scarce is what is mostly requested, whatever the
/// reserve; of equally scarce ones the device is named first.
fn free(observation: &PoolObservation) -> Option<String> {
    let totals = observation.totals;
    let permille = |row: &Row<'_>| {
        let free = u128::from((row.of)(totals.free));
        let requested = u128::from((row.of)(totals.foreign)) + u128::from((row.of)(totals.used_by_tiercel));
        (free * 1_000).checked_div(free + requested).unwrap_or(0)
    };
    let offered = rows(observation)
        .into_iter()
        .rev()
        .filter(|row| (row.of)(totals.allocatable) > 0);
    let Row { name, of, readable, .. } = offered.min_by_key(permille)?;
    Some(format!(
        "{} of {} {name}",
        readable(of(totals.free)),
        readable(of(totals.allocatable))
    ))
}

/// Cores or devices as a quantity: `8`, `31850m`.
fn millis_quantity(millis: u64) -> String {
    if millis.is_multiple_of(1_000) {
        (millis / 1_000).to_string()
    } else {
        format!("{millis}m")
    }
}

/// Cores or devices for people: `8`, `7.5`, `31`. Down: what is written is there.
fn millis_readable(millis: u64) -> String {
    let tenths = millis / 100;
    match (tenths / 10, tenths % 10) {
        (whole, tenth) if tenth > 0 && whole < 10 => format!("{whole}.{tenth}"),
        (whole, _) => whole.to_string(),
    }
}

/// KiB for people: at least two digits, `122Gi`, `512Mi`. Down.
fn kib_readable(kib: u64) -> String {
    const UNITS: [&str; 4] = ["Ki", "Mi", "Gi", "Ti"];
    if kib == 0 {
        return "0".to_owned();
    }
    let mut amount = (kib, 0);
    while amount.0 >= 10 * 1_024 && amount.1 + 1 < UNITS.len() {
        amount = (amount.0 / 1_024, amount.1 + 1);
    }
    format!("{}{}", amount.0, UNITS.get(amount.1).unwrap_or(&"Ki"))
}

/// KiB as a quantity in the largest unit that keeps it exact, or keeps at least four digits: `122Gi`, `125340Mi`.
fn kib_quantity(kib: u64) -> String {
    const UNITS: [&str; 5] = ["Ki", "Mi", "Gi", "Ti", "Pi"];
    let (mut amount, mut unit) = (kib, 0);
    while amount > 0 && unit + 1 < UNITS.len() && (amount.is_multiple_of(1_024) || amount >= 10_240_000) {
        // Down: what is written is there.
        (amount, unit) = (amount / 1_024, unit + 1);
    }
    if amount == 0 {
        return "0".to_owned();
    }
    format!("{amount}{}", UNITS.get(unit).unwrap_or(&"Ki"))
}

fn counted(count: u32, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn bounded(value: u32, max: i32) -> i32 {
    i32::try_from(value).unwrap_or(max).min(max)
}
