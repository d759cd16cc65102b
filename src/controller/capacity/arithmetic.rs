//! Arithmetic on bundles of resources. Saturates: no amount is negative, none wraps.

use crate::rebalance::world::Resources;

/// Thousandths in one device: devices are handed out whole.
const DEVICE: u64 = 1_000;

fn zip(a: Resources, b: Resources, with: impl Fn(u64, u64) -> u64) -> Resources {
    Resources {
        cpu_millis: with(a.cpu_millis, b.cpu_millis),
        memory_kib: with(a.memory_kib, b.memory_kib),
        device_millis: with(a.device_millis, b.device_millis),
    }
}

/// `a + b`.
pub fn plus(a: Resources, b: Resources) -> Resources {
    zip(a, b, u64::saturating_add)
}

/// `a - b`, never below zero.
pub fn minus(a: Resources, b: Resources) -> Resources {
    zip(a, b, u64::saturating_sub)
}

/// `a` so many times.
pub fn times(a: Resources, count: u32) -> Resources {
    zip(a, Resources::default(), |a, _| a.saturating_mul(u64::from(count)))
}

/// What a reserve of so many per cent keeps free: CPU and memory rounded up, devices rounded down to whole ones, because
/// part of a device cannot be given to anybody and five per cent of a node with one GPU must not cost the GPU.
pub fn reserve(allocatable: Resources, percent: u32) -> Resources {
    let share = |amount: u64| u128::from(amount) * u128::from(percent.min(100));
    let fit = |amount: u128| u64::try_from(amount).unwrap_or(u64::MAX);
    let devices = fit(share(allocatable.device_millis) / 100);
    Resources {
        cpu_millis: fit(share(allocatable.cpu_millis).div_ceil(100)),
        memory_kib: fit(share(allocatable.memory_kib).div_ceil(100)),
        device_millis: devices - devices % DEVICE,
    }
}

/// How often `request` fits into `room`; without end for a request of nothing.
pub fn fits(room: Resources, request: Resources) -> u32 {
    let counts = zip(room, request, |room, request| {
        room.checked_div(request).unwrap_or(u64::MAX)
    });
    let count = counts.cpu_millis.min(counts.memory_kib).min(counts.device_millis);
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// `price` times the largest share of `whole` that `part` takes, rounded up. `None` where `part` needs what `whole` has
/// none of, or where it exceeds 64 bits.
pub fn largest_share(price: u64, part: Resources, whole: Resources) -> Option<u64> {
    let share = |part: u64, whole: u64| match (part, whole) {
        (0, _) => Some(0),
        (_, 0) => None,
        (part, whole) => Some((u128::from(price) * u128::from(part)).div_ceil(u128::from(whole))),
    };
    let largest = share(part.cpu_millis, whole.cpu_millis)?
        .max(share(part.memory_kib, whole.memory_kib)?)
        .max(share(part.device_millis, whole.device_millis)?);
    u64::try_from(largest).ok()
}

/// Some CPU, some memory and, where `device` asks for it, a whole device.
pub fn has_room(free: Resources, device: bool) -> bool {
    free.cpu_millis > 0 && free.memory_kib > 0 && (!device || free.device_millis >= DEVICE)
}
