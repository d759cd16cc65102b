//! Mean wait at one stage: Erlang's delay formula, in integers.
//!
//! With `c` servers, offered load `a` (arrivals per second times mean service time) and `a < c`, a request waits with
//! probability
//!
//! ```text
//! C = c / (I (c − a) + a)        I_0 = 1,  I_k = 1 + I_{k−1} k / a,  I = I_c
//! ```
//!
//! and `C S / (c − a)` on average, `S` being the mean service time. `I` is one over Erlang's loss formula; the recursion is
//! the usual one, turned over, because a number that only grows can be kept in an integer. Rounding is always towards the
//! longer wait. Sources: A. K. Erlang, "Solution of some problems in the theory of probabilities of significance in automatic
//! telephone exchanges" (1917); the recursion: D. L. Jagerman, "Some properties of the Erlang loss function", Bell System
//! Technical Journal 53 (1974).

/// A wait without end: more comes than can be served. Sums of a pipeline's stages stay far below overflow.
pub(super) const ENDLESS_US: u64 = 1 << 50;

/// Servers that are counted one by one. More of them are taken for a part as large as this with its share of the load, which
/// waits longer at the same utilization.
const SERVERS_MAX: u64 = 256;
/// Binary digits behind the point of loads.
const LOAD_BITS: u32 = 24;
/// Binary digits behind the point of `I`.
const INVERSE_BITS: u32 = 20;
/// From here on nobody waits for a microsecond.
const INVERSE_MAX: u128 = 1 << 60;
/// Longest service time, 71 minutes.
const SERVICE_US_MAX: u64 = 1 << 32;

/// How the requests of one stage meet its replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Queue {
    /// What arrives, thousandths of requests per second.
    pub(super) rate_millis: u64,
    /// What one replica serves with all slots busy, thousandths of requests per second. At least 1.
    pub(super) capacity_millis: u64,
    /// Requests that one replica handles at once. At least 1.
    pub(super) slots: u32,
    /// One queue for all replicas, rather than one in front of each.
    pub(super) shared: bool,
}

impl Queue {
    /// Time in service of a mean request on a replica whose slots are all busy: `slots / capacity` (Little's law),
    /// microseconds, rounded up.
    pub(super) fn service_us(&self) -> u64 {
        let slots_micro = u128::from(self.slots.max(1)) * 1_000_000_000;
        let service = slots_micro.div_ceil(u128::from(self.capacity_millis.max(1)));
        u64::try_from(service).unwrap_or(SERVICE_US_MAX).min(SERVICE_US_MAX)
    }

    /// Mean wait with so many replicas, microseconds, rounded up. Falls with every replica.
    pub(super) fn wait_us(&self, replicas: u32) -> u64 {
        if self.rate_millis == 0 {
            return 0;
        }
        let slots = u128::from(self.slots.max(1));
        let (servers, share) = if self.shared {
            (u128::from(replicas) * slots, 1)
        } else {
            (slots, u128::from(replicas))
        };
        if servers == 0 || share == 0 {
            return ENDLESS_US;
        }
        let counted = servers.min(u128::from(SERVERS_MAX));
        // Load per queue, and of that the part that goes to the servers which are counted.
        let arrives = u128::from(self.rate_millis) * slots * counted;
        let capacity = u128::from(self.capacity_millis.max(1)) * share * servers;
        let load = (arrives << LOAD_BITS).div_ceil(capacity);
        let full = counted << LOAD_BITS;
        if load >= full {
            return ENDLESS_US;
        }
        let mut inverse = 1_u128 << INVERSE_BITS;
        for server in 1..=counted {
            inverse = (1 << INVERSE_BITS) + inverse * (server << LOAD_BITS) / load;
            if inverse > INVERSE_MAX {
                return 0;
            }
        }
        let free = full - load;
        let busy = inverse * free + (load << INVERSE_BITS);
        let work = (counted * u128::from(self.service_us())) << (2 * LOAD_BITS + INVERSE_BITS);
        let wait = work.div_ceil(free).div_ceil(busy);
        u64::try_from(wait).unwrap_or(ENDLESS_US).min(ENDLESS_US)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::cast_precision_loss, reason = "small numbers by construction")]

    use super::*;

    fn queue(rate_millis: u64, capacity_millis: u64, slots: u32) -> Queue {
        Queue {
            rate_millis,
            capacity_millis,
            slots,
            shared: true,
        }
    }

    /// The textbook sum, in floats.
    fn textbook_us(load: f64, servers: u32, service_us: f64) -> f64 {
        let mut term = 1.0;
        let mut sum = 1.0;
        for server in 1..servers {
            term *= load / f64::from(server);
            sum += term;
        }
        let last = term * load / f64::from(servers) / (1.0 - load / f64::from(servers));
        last / (sum + last) * service_us / (f64::from(servers) - load)
    }

    #[test]
    fn waits_are_erlangs() {
        for slots in [1_u32, 2, 7, 16] {
            for replicas in [1_u32, 2, 5, 12] {
                for percent in [5_u64, 30, 60, 80, 95, 99] {
                    let servers = slots * replicas;
                    let capacity_millis = 4_000;
                    let rate_millis = capacity_millis * u64::from(replicas) * percent / 100;
                    let one = queue(rate_millis, capacity_millis, slots);
                    let load = rate_millis as f64 / 4_000.0 * f64::from(slots);
                    let expected = textbook_us(load, servers, f64::from(slots) * 250_000.0);
                    let waits = one.wait_us(replicas) as f64;
                    let slack = 2.0 + expected * 0.01;
                    assert!(
                        waits >= expected - 1.0 && waits <= expected + slack,
                        "{slots} slots, {replicas} replicas, {percent} %: {waits} instead of {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn one_queue_waits_less_than_one_in_front_of_each() {
        let shared = queue(9_000, 1_000, 2);
        let apart = Queue {
            shared: false,
            ..shared
        };
        for replicas in 10..40 {
            assert!(shared.wait_us(replicas) <= apart.wait_us(replicas), "{replicas}");
        }
        assert_eq!(shared.wait_us(9), ENDLESS_US);
        assert_eq!(apart.wait_us(9), ENDLESS_US);
    }

    #[test]
    fn every_replica_shortens_the_wait_by_less_than_the_one_before() {
        for (slots, shared) in [(1, true), (1, false), (8, true), (8, false), (100, true)] {
            let one = Queue {
                shared,
                ..queue(87_654, 1_000, slots)
            };
            let mut before = (ENDLESS_US, u64::MAX);
            for replicas in 88..400 {
                let now = one.wait_us(replicas);
                assert!(now <= before.0, "{slots} {shared} {replicas}: {now} after {}", before.0);
                let saved = before.0 - now;
                // Up to the microseconds by which waits are rounded.
                assert!(saved <= before.1.saturating_add(2), "{slots} {shared} {replicas}");
                before = (now, saved);
            }
        }
    }

    #[test]
    fn extremes_are_numbers() {
        assert_eq!(queue(0, 1, 1).wait_us(0), 0, "nothing comes, nothing waits");
        assert_eq!(queue(1, 1, 1).wait_us(0), ENDLESS_US);
        assert_eq!(queue(1 << 60, 1, u32::MAX).wait_us(u32::MAX), ENDLESS_US);
        assert_eq!(queue(1, 1 << 50, u32::MAX).wait_us(u32::MAX), 0);
        assert!(queue(1 << 30, 1 << 50, u32::MAX).service_us() >= 1);
        assert_eq!(queue(1, 1, 1_000_000).service_us(), SERVICE_US_MAX);
    }
}
