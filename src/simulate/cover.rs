//! The cheapest whole numbers of replicas that serve a rate: exact, by branch and bound, for the handful of pools that one
//! stage may use.

/// Nodes of the search at most; beyond, the best found so far is taken.
const NODES_MAX: u32 = 200_000;

/// One kind of replica.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Item {
    /// Price of one.
    pub price: f64,
    /// What one serves.
    pub capacity: f64,
    /// How many there may be.
    pub max: u32,
}

/// The cheapest counts that serve `demand` with at least `least` and at most `most` replicas. Where that is impossible, the
/// counts that serve the most.
pub fn cheapest(items: &[Item], demand: f64, least: u32, most: u32) -> Vec<u32> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    let unit = |at: &usize| items[*at].price / items[*at].capacity.max(1e-9);
    order.sort_by(|a, b| unit(a).total_cmp(&unit(b)).then(a.cmp(b)));
    let mut search = Search {
        items: order.iter().map(|&at| items[at]).collect(),
        counts: vec![0; items.len()],
        best: None,
        nodes: 0,
    };
    search.descend(0, demand, least, most, 0.0);
    let most_served = || {
        // Not enough for all of it: the largest first.
        let mut left = most;
        let mut largest: Vec<usize> = (0..order.len()).collect();
        largest.sort_by(|&a, &b| search.items[b].capacity.total_cmp(&search.items[a].capacity));
        let mut counts = vec![0; order.len()];
        for at in largest {
            counts[at] = search.items[at].max.min(left);
            left -= counts[at];
        }
        counts
    };
    let found = search
        .best
        .as_ref()
        .map_or_else(most_served, |(_, counts)| counts.clone());
    let mut counts = vec![0; items.len()];
    for (at, count) in order.into_iter().zip(found) {
        counts[at] = count;
    }
    counts
}

/// The same where every replica gets the same share of requests: all serve at the pace of the slowest in use.
pub fn cheapest_uniform(items: &[Item], demand: f64, least: u32, most: u32) -> Vec<u32> {
    let price = |counts: &[u32]| -> f64 {
        items
            .iter()
            .zip(counts)
            .map(|(item, count)| item.price * f64::from(*count))
            .sum()
    };
    let served = |counts: &[u32]| {
        let used = items.iter().zip(counts).filter(|(_, count)| **count > 0);
        let pace = used.map(|(item, _)| item.capacity).fold(f64::INFINITY, f64::min);
        let count: u32 = counts.iter().sum();
        if count == 0 { 0.0 } else { pace * f64::from(count) }
    };
    let mut best: Option<Vec<u32>> = None;
    for slowest in items {
        let paced: Vec<Item> = items
            .iter()
            .map(|item| Item {
                max: if item.capacity >= slowest.capacity { item.max } else { 0 },
                capacity: slowest.capacity,
                ..*item
            })
            .collect();
        let counts = cheapest(&paced, demand, least, most);
        let better = best.as_ref().is_none_or(|best| {
            let (new, old) = (served(&counts).min(demand), served(best).min(demand));
            new > old + 1e-9 || (new > old - 1e-9 && price(&counts) < price(best))
        });
        if better {
            best = Some(counts);
        }
    }
    best.unwrap_or_else(|| vec![0; items.len()])
}

struct Search {
    /// Cheapest unit of capacity first.
    items: Vec<Item>,
    counts: Vec<u32>,
    best: Option<(f64, Vec<u32>)>,
    nodes: u32,
}

impl Search {
    fn descend(&mut self, at: usize, left: f64, least: u32, most: u32, cost: f64) {
        self.nodes += 1;
        let reached = left <= 1e-9 && least == 0;
        let best = self.best.as_ref().map_or(f64::INFINITY, |(best, _)| *best);
        if reached {
            if cost < best {
                let mut counts = self.counts.clone();
                counts.iter_mut().skip(at).for_each(|count| *count = 0);
                self.best = Some((cost, counts));
            }
            return;
        }
        let Some(item) = self.items.get(at).copied() else {
            return;
        };
        // Nothing after this one serves a unit for less.
        let bound = cost + left.max(0.0) * item.price / item.capacity.max(1e-9);
        if bound >= best - 1e-12 || self.nodes > NODES_MAX {
            return;
        }
        let enough = ((left.max(0.0) / item.capacity.max(1e-9)) - 1e-9).ceil().max(0.0) as u32;
        for count in (0..=enough.max(least).min(item.max).min(most)).rev() {
            self.counts[at] = count;
            self.descend(
                at + 1,
                left - item.capacity * f64::from(count),
                least.saturating_sub(count),
                most - count,
                cost + item.price * f64::from(count),
            );
        }
        self.counts[at] = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::random::Random;

    fn item(price: f64, capacity: f64, max: u32) -> Item {
        Item { price, capacity, max }
    }

    #[test]
    fn a_small_rest_goes_to_a_small_replica() {
        // 2.6 per second beside a full cheap pool: one of 1.6 and three of 0.35 would do, two of 1.6 are cheaper.
        let items = [
            item(0.29, 3.3, 2),
            item(6.88, 26.0, 9),
            item(1.97, 1.6, 9),
            item(0.63, 0.35, 9),
        ];
        assert_eq!(cheapest(&items, 6.6, 0, 99), [2, 0, 0, 0]);
        assert_eq!(cheapest(&items, 8.1, 0, 99), [2, 0, 1, 0]);
        assert_eq!(cheapest(&items, 6.9, 0, 99), [2, 0, 0, 1]);
        assert_eq!(cheapest(&items, 0.1, 3, 99), [2, 0, 0, 1], "at least three");
        assert_eq!(cheapest(&items, 500.0, 0, 5), [0, 5, 0, 0], "what serves the most");
    }

    #[test]
    fn it_is_as_cheap_as_trying_everything() {
        for seed in 0..300 {
            let mut random = Random::of(seed, 1);
            let mut draw = |most: u64| 1 + random.draw() % most;
            let items: Vec<Item> = (0..3)
                .map(|_| item(draw(9) as f64, draw(5) as f64, draw(4) as u32))
                .collect();
            let (demand, least, most) = (draw(16) as f64, draw(3) as u32 - 1, 2 + draw(8) as u32);
            let mut best = f64::INFINITY;
            for a in 0..=items[0].max {
                for b in 0..=items[1].max {
                    for c in 0..=items[2].max {
                        let counts = [a, b, c].map(f64::from);
                        let sum =
                            |of: fn(&Item) -> f64| items.iter().zip(counts).map(|(item, n)| of(item) * n).sum::<f64>();
                        if sum(|item| item.capacity) >= demand && (least..=most).contains(&(a + b + c)) {
                            best = best.min(sum(|item| item.price));
                        }
                    }
                }
            }
            let counts = cheapest(&items, demand, least, most);
            let cost: f64 = items
                .iter()
                .zip(&counts)
                .map(|(item, n)| item.price * f64::from(*n))
                .sum();
            if best.is_finite() {
                assert!(
                    (cost - best).abs() < 1e-9,
                    "seed {seed}: {counts:?} cost {cost}, not {best}: {items:?} {demand}"
                );
            }
        }
    }

    #[test]
    fn under_uniform_traffic_a_slow_replica_slows_all() {
        let items = [item(3.0, 10.0, 9), item(0.1, 1.0, 9)];
        assert_eq!(cheapest(&items, 11.0, 0, 99), [1, 1]);
        assert_eq!(
            cheapest_uniform(&items, 11.0, 0, 99),
            [2, 0],
            "one of each would serve two"
        );
        assert_eq!(cheapest_uniform(&items, 3.0, 0, 99), [0, 3]);
    }
}
