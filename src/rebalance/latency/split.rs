//! Which replicas to add so that a latency is kept: the choice over the stages of one pipeline.
//!
//! With `p_s` the price of a replica, `W_s(n)` the wait with `n` of them, convex, and a chain of stages, the least
//!
//! ```text
//! Σ p_s n_s   such that   Σ (S_s + k W_s(n_s)) ≤ T
//! ```
//!
//! is found by marginal analysis (B. Fox, "Discrete optimization via marginal analysis", Management Science 13 (1966)): from
//! the least replicas on, always take the one that saves most time per price, until `T` is kept. It is the multiplier of
//! the constraint brought down in steps: every replica is taken whose saving per price is above it. Where stages branch, the
//! one replica is taken on the path that is longest at the time.
//!
//! The sequence does not depend on `T`: a tighter target goes further along the same one. So it costs no less, and gives no
//! stage less. The last replicas may overshoot; before each of the last steps, it is therefore also tried to end at once with
//! replicas of a single stage, and the cheapest end wins. That keeps the first of the two promises: what is tried does not
//! depend on `T` either, and ends behind the first point that keeps it are never cheaper than that point.

use super::queue::Queue;

/// Steps of the sequence from which an end with one stage's replicas is tried.
const ENDS: usize = 12;
/// A step takes one replica more, or this part of what the stage has.
const PART: u32 = 32;

/// One stage of a pipeline, as far as its latency goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// How requests meet replicas.
    pub(super) queue: Queue,
    /// Replicas that it has without an objective.
    pub(super) least: u32,
    /// Replicas that it may have. Not below `least`.
    pub(super) most: u32,
    /// Price of a replica. At least 1.
    pub(super) price: u64,
    /// Stages that call it, by their place: only such as come before it.
    pub(super) callers: Vec<usize>,
}

/// What a choice came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// So many replicas keep the latency.
    Kept(Vec<u32>),
    /// Even the most replicas take so long, microseconds.
    OutOfReach(u64),
}

/// Chooses replicas for all stages so that the longest path takes `target_us` at most. `tail_permille`: what the wait
/// counts, relative to its mean.
pub(super) fn choose(nodes: &[Node], target_us: u64, tail_permille: u64) -> Choice {
    let mut course = Course::new(nodes, tail_permille);
    let most: Vec<u64> = nodes.iter().map(|node| course.latency(node, node.most)).collect();
    let reach = course.longest(&most, None);
    if reach > target_us {
        return Choice::OutOfReach(reach);
    }
    let mut visited: Vec<Vec<u32>> = Vec::new();
    while course.longest(&course.latencies, None) > target_us {
        if visited.len() == ENDS {
            visited.remove(0);
        }
        visited.push(course.replicas.clone());
        if !course.step() {
            break;
        }
    }
    let mut best = (cost(nodes, &course.replicas), course.replicas.clone());
    for replicas in visited {
        course.go_to(replicas);
        for at in 0..nodes.len() {
            let Some(count) = course.end(at, target_us) else {
                continue;
            };
            let mut end = course.replicas.clone();
            if let Some(slot) = end.get_mut(at) {
                *slot = count;
            }
            let cost = cost(nodes, &end);
            if cost < best.0 {
                best = (cost, end);
            }
        }
    }
    Choice::Kept(best.1)
}

/// Latency of the longest path with so many replicas, microseconds.
pub(super) fn estimate(nodes: &[Node], replicas: &[u32], tail_permille: u64) -> u64 {
    let course = Course::new(nodes, tail_permille);
    let latencies: Vec<u64> = nodes
        .iter()
        .zip(replicas)
        .map(|(node, &count)| course.latency(node, count))
        .collect();
    course.longest(&latencies, None)
}

/// Price of so many replicas.
pub(super) fn cost(nodes: &[Node], replicas: &[u32]) -> u128 {
    let all = nodes.iter().zip(replicas);
    all.map(|(node, &count)| u128::from(node.price) * u128::from(count))
        .sum()
}

/// A point of the sequence.
struct Course<'a> {
    nodes: &'a [Node],
    tail_permille: u64,
    replicas: Vec<u32>,
    /// Latency of each stage with these.
    latencies: Vec<u64>,
    /// Latency of each stage after its next step.
    next: Vec<u64>,
}

impl<'a> Course<'a> {
    fn new(nodes: &'a [Node], tail_permille: u64) -> Self {
        let mut course = Self {
            nodes,
            tail_permille,
            replicas: Vec::new(),
            latencies: Vec::new(),
            next: Vec::new(),
        };
        course.go_to(nodes.iter().map(|node| node.least).collect());
        course
    }

    fn go_to(&mut self, replicas: Vec<u32>) {
        let of = |count: fn(&Node, u32) -> u32| -> Vec<u64> {
            let all = self.nodes.iter().zip(&replicas);
            all.map(|(node, &now)| self.latency(node, count(node, now))).collect()
        };
        (self.latencies, self.next) = (of(|_, now| now), of(larger));
        self.replicas = replicas;
    }

    fn latency(&self, node: &Node, replicas: u32) -> u64 {
        let wait = u128::from(node.queue.wait_us(replicas)) * u128::from(self.tail_permille);
        let wait = u64::try_from(wait.div_ceil(1_000)).unwrap_or(u64::MAX);
        node.queue.service_us().saturating_add(wait)
    }

    /// The longest path, where the stage at `other.0` takes `other.1`.
    fn longest(&self, latencies: &[u64], other: Option<(usize, u64)>) -> u64 {
        self.paths(latencies, other).into_iter().max().unwrap_or(0)
    }

    /// When each stage is done.
    fn paths(&self, latencies: &[u64], other: Option<(usize, u64)>) -> Vec<u64> {
        let mut done: Vec<u64> = Vec::with_capacity(self.nodes.len());
        for (at, (node, &own)) in self.nodes.iter().zip(latencies).enumerate() {
            let own = other.filter(|&(which, _)| which == at).map_or(own, |(_, other)| other);
            let called = node.callers.iter().filter_map(|&caller| done.get(caller)).max();
            done.push(called.copied().unwrap_or(0).saturating_add(own));
        }
        done
    }

    /// Takes the step on the longest path that saves most per price. Says whether there was one.
    fn step(&mut self) -> bool {
        let done = self.paths(&self.latencies, None);
        let mut here = (0..done.len()).max_by_key(|&at| (done.get(at), std::cmp::Reverse(at)));
        let mut best: Option<(u128, u128, usize)> = None;
        while let Some(at) = here {
            let Some(node) = self.nodes.get(at) else { break };
            let (now, then) = (self.latencies.get(at), self.next.get(at));
            let count = self.replicas.get(at).copied().unwrap_or(node.most);
            if let (Some(now), Some(then)) = (now, then)
                && count < node.most
            {
                let saved = u128::from(now.saturating_sub(*then));
                let price = u128::from(node.price) * u128::from(larger(node, count) - count);
                if best.is_none_or(|(most, at_price, _)| saved * at_price > most * price) {
                    best = Some((saved, price, at));
                }
            }
            here = node
                .callers
                .iter()
                .copied()
                .max_by_key(|&caller| (done.get(caller), std::cmp::Reverse(caller)));
        }
        let Some((_, _, at)) = best else { return false };
        let (Some(node), Some(count)) = (self.nodes.get(at), self.replicas.get_mut(at)) else {
            return false;
        };
        *count = larger(node, *count);
        let after = self.latency(node, larger(node, self.replicas.get(at).copied().unwrap_or(0)));
        if let (Some(now), Some(next)) = (self.latencies.get_mut(at), self.next.get_mut(at)) {
            *now = std::mem::replace(next, after);
        }
        true
    }

    /// Fewest replicas of one stage that alone would keep the target from here.
    fn end(&self, at: usize, target_us: u64) -> Option<u32> {
        let (node, &count) = (self.nodes.get(at)?, self.replicas.get(at)?);
        let keeps = |count: u32| {
            let latency = self.latency(node, count);
            self.longest(&self.latencies, Some((at, latency))) <= target_us
        };
        if self.longest(&self.latencies, Some((at, node.queue.service_us()))) > target_us || !keeps(node.most) {
            return None;
        }
        let (mut short, mut enough) = (count, node.most);
        while enough - short > 1 {
            let middle = short + (enough - short) / 2;
            if keeps(middle) {
                enough = middle;
            } else {
                short = middle;
            }
        }
        Some(enough)
    }
}

/// Replicas after the next step.
fn larger(node: &Node, count: u32) -> u32 {
    count.saturating_add((count / PART).max(1)).min(node.most.max(count))
}

#[cfg(test)]
#[path = "split_tests.rs"]
mod tests;
