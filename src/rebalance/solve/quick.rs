//! The usual stage, without the general search.
//!
//! Most stages at most prices are best served from one pool, or from one and a little of another, and their floors hold
//! by themselves. So before anything is sorted:
//!
//! 1. Serve all from each option alone; the cheapest such plan, or what runs now, is the incumbent.
//! 2. With r the best ratio of price to capacity, nothing costs less than r·demand. If the incumbent is there, done.
//! 3. A plan with at least one replica of an item costs at least its price plus r times what is left to cover. An item
//!    for which that is not below the incumbent is in no better plan. Usually two or three are left.
//! 4. Only those go to the search.
//!
//! Under `Uniform` all replicas count alike at a given pace, so the cheapest ones are taken until one more costs more
//! than it serves; no search at all.
//!
//! If what comes out keeps floors, ceiling and limits, it is the optimum with them, too. If not, nothing is claimed, and
//! [`oracle`](super::oracle) searches with all constraints.

use super::instance::{Instance, PRICE_MAX, SHORT, Stage};
use super::oracle::{Answer, Oracle};
use super::search::{Item, Need, product};

/// A piece at the prices asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    price: i64,
    capacity: i64,
    max: u32,
    option: u32,
}

/// Where the incumbent comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Nothing,
    Current,
    /// What the caller started from, and replicas of a line for the rest.
    Start(u32, i64),
    Option(u32),
}

/// Replicas of equal capacity that cover `left`, at most `max`.
fn cover(line: &Line, left: i64) -> i64 {
    if line.capacity == 0 || left <= 0 {
        0
    } else if line.capacity >= left {
        i64::from(line.max.min(1))
    } else if line.capacity * i64::from(line.max) <= left {
        i64::from(line.max)
    } else {
        (left + line.capacity - 1) / line.capacity
    }
}

impl Oracle {
    /// Tries to solve without floors and limits. The counts are only meaningful if there is an answer.
    pub(super) fn quick(&mut self, instance: &Instance, stage: &Stage, need: &Need, start: &[u32]) -> Option<Answer> {
        self.draw_lines(instance, stage);
        let answer = if stage.uniform {
            self.quick_pace(instance, stage, need)
        } else {
            self.quick_cover(instance, stage, need, start)
        };
        self.keeps(instance, stage, need).then_some(answer)
    }

    fn draw_lines(&mut self, instance: &Instance, stage: &Stage) {
        self.lines.clear();
        let mut left = (u32::MAX, 0);
        for piece in instance.pieces(stage) {
            if left.0 != piece.option {
                left = (piece.option, self.uppers[piece.option as usize]);
            }
            let max = piece.max.min(left.1);
            left.1 -= max;
            if max > 0 {
                self.lines.push(Line {
                    price: (piece.price + self.extras[piece.option as usize]).min(PRICE_MAX),
                    capacity: piece.capacity,
                    max,
                    option: piece.option,
                });
            }
        }
    }

    fn quick_cover(&mut self, instance: &Instance, stage: &Stage, need: &Need, start: &[u32]) -> Answer {
        let demand = need.demand;
        let mut best = need.penalty * demand;
        let mut source = Source::Nothing;
        let (mut price, mut capacity) = (need.penalty, 1);
        let short = |count: i64, reliable: bool| {
            let here = u32::try_from(count).unwrap_or(u32::MAX);
            let floor = need.min.saturating_sub(here);
            let reliable = need.reliable_min.saturating_sub(if reliable { here } else { 0 });
            SHORT * i64::from(floor.max(reliable))
        };
        let (mut at, mut aside) = (0, best.saturating_add(short(0, true)));
        while let Some(first) = self.lines.get(at) {
            let option = first.option;
            let (mut left, mut cost, mut taken) = (demand, 0, 0);
            while let Some(line) = self.lines.get(at).filter(|line| line.option == option) {
                let count = cover(line, left);
                taken += count;
                cost += line.price * count;
                left -= line.capacity * count;
                if product(line.price, capacity) < product(price, line.capacity) {
                    (price, capacity) = (line.price, line.capacity);
                }
                at += 1;
            }
            cost += need.penalty * left.max(0);
            if cost < best {
                (best, source) = (cost, Source::Option(option));
            }
            if cost < aside && self.extras[option as usize] == 0 {
                let reliable = instance.reliable[stage.options.start as usize + option as usize];
                aside = aside.min(cost.saturating_add(short(taken, reliable)));
            }
        }
        self.aside = aside;
        if stage.runs {
            self.take_current(instance, stage);
            let current = self.cost_of_counts(need);
            if current <= best && self.keeps(instance, stage, need) {
                (best, source) = (current, Source::Current);
            }
        }
        if !start.is_empty() {
            let (cost, line, count) = self.cost_of_start(need, start);
            if cost < best {
                (best, source) = (cost, Source::Start(line, count));
            }
        }
        let mut bound = best;
        // Below r·demand, rounded up, there is nothing.
        if best > 0 && product(price, demand) <= product(best - 1, capacity) {
            let search = &mut self.search;
            search.items.clear();
            for line in &self.lines {
                let spare = best - 1 - line.price;
                let rest = (demand - line.capacity).max(0);
                if line.capacity == 0 || spare < 0 || product(price, rest) > product(spare, capacity) {
                    continue;
                }
                let item = Item {
                    price: line.price,
                    capacity: line.capacity,
                    max: line.max,
                    option: line.option,
                    reliable: false,
                };
                search.insert(item);
            }
            let (value, open) = search.beat(best, need);
            bound = value.min(open);
            if value < best {
                best = value;
                self.counts.clear();
                self.counts.resize(self.uppers.len(), 0);
                for (item, &count) in self.search.items.iter().zip(&self.search.best) {
                    self.counts[item.option as usize] += count;
                }
                return Answer { value: best, bound };
            }
        }
        match source {
            Source::Current => self.take_current(instance, stage),
            Source::Nothing => self.take_option(u32::MAX, demand),
            Source::Start(line, count) => {
                self.take_start(start);
                if let Some(line) = self.lines.get(line as usize) {
                    self.counts[line.option as usize] += count as u32;
                }
            }
            Source::Option(option) => self.take_option(option, demand),
        }
        Answer { value: best, bound }
    }

    /// Price of the counts that the caller starts from, with the rest of the demand from the line where that is cheapest,
    /// and how many that takes.
    fn cost_of_start(&mut self, need: &Need, start: &[u32]) -> (i64, u32, i64) {
        self.take_start(start);
        let mut left = (u32::MAX, 0);
        let (mut price, mut served) = (0_i64, 0_i64);
        for line in &self.lines {
            if left.0 != line.option {
                left = (line.option, self.counts[line.option as usize]);
            }
            let here = line.max.min(left.1);
            left.1 -= here;
            price = price.saturating_add(line.price.saturating_mul(i64::from(here)));
            served = served.saturating_add(line.capacity * i64::from(here));
        }
        let rest = (need.demand - served).max(0);
        let (mut best, mut chosen) = (price.saturating_add(need.penalty * rest), (u32::MAX, 0));
        if rest == 0 {
            return (best, chosen.0, chosen.1);
        }
        let (mut left, mut next) = ((u32::MAX, 0), u32::MAX);
        for (at, line) in (0..).zip(&self.lines) {
            if left.0 != line.option {
                left = (line.option, self.counts[line.option as usize]);
            }
            let here = line.max.min(left.1);
            left.1 -= here;
            // Only where further replicas of the option begin.
            if left.1 > 0 || here == line.max || next == line.option {
                continue;
            }
            next = line.option;
            if line.capacity > 0 && rest <= line.capacity * i64::from(line.max - here) {
                let count = (rest - 1) / line.capacity + 1;
                let cost = price.saturating_add(line.price.saturating_mul(count));
                if cost < best {
                    (best, chosen) = (cost, (at, count));
                }
            }
        }
        (best, chosen.0, chosen.1)
    }

    /// What the caller starts from, as far as it fits.
    fn take_start(&mut self, start: &[u32]) {
        self.counts.clear();
        self.counts
            .extend(self.uppers.iter().zip(start).map(|(&upper, &count)| upper.min(count)));
    }

    /// All demand from one option.
    fn take_option(&mut self, option: u32, demand: i64) {
        self.counts.clear();
        self.counts.resize(self.uppers.len(), 0);
        let mut left = demand;
        for line in self.lines.iter().filter(|line| line.option == option) {
            let count = cover(line, left);
            left -= line.capacity * count;
            self.counts[option as usize] += count as u32;
        }
    }

    /// What runs, as far as it fits.
    fn take_current(&mut self, instance: &Instance, stage: &Stage) {
        let first = stage.options.start as usize;
        self.counts.clear();
        for (at, &upper) in self.uppers.iter().enumerate() {
            let runs = instance.current[first + at].saturating_sub(instance.base[first + at]);
            self.counts.push(runs.min(upper));
        }
    }

    /// Price of the counts and of what they leave, where capacities add.
    fn cost_of_counts(&self, need: &Need) -> i64 {
        let mut left = (u32::MAX, 0);
        let (mut price, mut served) = (0_i64, 0_i64);
        for line in &self.lines {
            if left.0 != line.option {
                left = (line.option, self.counts[line.option as usize]);
            }
            let here = line.max.min(left.1);
            left.1 -= here;
            price = price.saturating_add(line.price.saturating_mul(i64::from(here)));
            served = served.saturating_add(line.capacity * i64::from(here));
        }
        price.saturating_add(need.penalty * (need.demand - served).max(0))
    }

    fn keeps(&self, instance: &Instance, stage: &Stage, need: &Need) -> bool {
        let first = stage.options.start as usize;
        let (mut total, mut reliable) = (0_u64, 0_u64);
        for (at, &count) in self.counts.iter().enumerate() {
            total += u64::from(count);
            reliable += if instance.reliable[first + at] {
                u64::from(count)
            } else {
                0
            };
        }
        total >= u64::from(need.min)
            && total <= u64::from(need.max)
            && reliable >= u64::from(need.reliable_min)
            && self.search.limits.iter().all(|limit| {
                let each = if limit.which == 0 {
                    &instance.cost
                } else {
                    &instance.power
                };
                let used = each[first..]
                    .iter()
                    .zip(&self.counts)
                    .fold(0_i64, |sum, (&each, &count)| {
                        sum.saturating_add(each.saturating_mul(i64::from(count)))
                    });
                used <= limit.room
            })
    }

    /// Under `Uniform`: for every pace, the cheapest replicas that are fast enough.
    fn quick_pace(&mut self, instance: &Instance, stage: &Stage, need: &Need) -> Answer {
        // As a stable sort by price would leave them, without its memory: of one option the earlier are never weaker.
        self.lines
            .sort_unstable_by_key(|line| (line.price, line.option, std::cmp::Reverse(line.capacity)));
        self.paces.clear();
        self.paces
            .extend(self.lines.iter().map(|line| line.capacity.min(stage.base_pace)));
        if stage.base_total > 0 {
            self.paces.push(stage.base_pace);
        }
        self.paces.push(0);
        self.paces.sort_unstable_by(|a, b| b.cmp(a));
        self.paces.dedup();
        let (mut best, mut best_pace) = (i64::MAX, 0);
        if stage.runs {
            // What runs serves at its own pace: as good as any, and it stays if nothing is better.
            self.take_current(instance, stage);
            if self.keeps(instance, stage, need) {
                best = self.cost_at_own_pace(stage, need);
                best_pace = -1;
            }
        }
        for at in 0..self.paces.len() {
            let pace = self.paces[at];
            let value = self.cost_at(pace, stage, need, best, false);
            if value < best {
                (best, best_pace) = (value, pace);
            }
        }
        if best_pace >= 0 {
            self.counts.clear();
            self.counts.resize(self.uppers.len(), 0);
            self.cost_at(best_pace, stage, need, i64::MAX, true);
        } else {
            self.take_current(instance, stage);
        }
        Answer {
            value: best,
            bound: best,
        }
    }

    fn cost_at_own_pace(&mut self, stage: &Stage, need: &Need) -> i64 {
        let (mut price, mut total, mut pace) = (0_i64, i64::from(stage.base_total), stage.base_pace);
        let mut left = std::mem::take(&mut self.best);
        left.clone_from(&self.counts);
        // Lines are by price here, and of one option the earlier are never dearer and never slower.
        for line in &self.lines {
            let here = line.max.min(left[line.option as usize]);
            left[line.option as usize] -= here;
            if here > 0 {
                price = price.saturating_add(line.price.saturating_mul(i64::from(here)));
                total += i64::from(here);
                pace = pace.min(line.capacity);
            }
        }
        self.best = left;
        let served = if total > 0 { pace.saturating_mul(total) } else { 0 };
        price.saturating_add(need.penalty * (need.demand - served).max(0))
    }

    /// Least cost at a pace; with `take`, the counts as well. Gives up once it exceeds `most`.
    fn cost_at(&mut self, pace: i64, stage: &Stage, need: &Need, most: i64, take: bool) -> i64 {
        let served = pace.saturating_mul(i64::from(stage.base_total));
        let mut left = (need.demand - served).max(0);
        let mut price = 0_i64;
        for line in &self.lines {
            if left == 0 || pace == 0 || price > most {
                break;
            }
            if line.capacity < pace {
                continue;
            }
            // Full replicas while they are worth it, then one for the rest.
            let full = if i128::from(line.price) < i128::from(need.penalty) * i128::from(pace) {
                left / pace
            } else {
                0
            };
            let mut count = full.min(i64::from(line.max));
            let rest = left - count * pace;
            if rest > 0 && rest < pace && count < i64::from(line.max) && line.price < need.penalty * rest {
                count += 1;
            }
            price = price.saturating_add(line.price * count);
            left = (left - count * pace).max(0);
            if take {
                self.counts[line.option as usize] += count as u32;
            }
        }
        price.saturating_add(need.penalty * left)
    }
}
