//! Better plans, for as long as somebody waits.
//!
//! The gap between plan and bound is a sum of parts, none of them negative: for every stage its excess (what its counts
//! cost at the prices, beyond the best it could do at those prices) and for every price the room it leaves unused. So it
//! is known where to look. Few stages with a large excess are taken out together with others that want the same pools,
//! and put back in another order, each by the oracle at what things truly cost with the room that is there then. What is
//! better stays; everything else is undone.
//!
//! The dice are seeded with a constant: with the same number of tries the result is the same.

use super::build::{ask_with_room, place_if_fits};
use super::dual::Evaluation;
use super::generate::Dice;
use super::instance::Instance;
use super::oracle::{Ask, Oracle, extra};
use super::plan::Plan;

/// Stages that are taken out together, at most.
const RUIN_MAX: usize = 6;
/// Stages asked one by one between two looks at the time.
const ASK_EVERY: usize = 64;

/// Scratch.
#[derive(Clone, Debug, Default)]
pub(super) struct Improve {
    excess: Vec<(i64, u32)>,
    held: Vec<Vec<u32>>,
}

/// What a stage's counts cost at prices, beyond its best.
fn excess_of(instance: &Instance, at: usize, prices: &[u64], plan: &Plan, best: i64) -> i64 {
    let stage = &instance.stages[at];
    let counts = plan.of(instance, at);
    let rent = (stage.options.start as usize..)
        .zip(counts)
        .fold(0_i64, |sum, (option, &count)| {
            if count == 0 {
                return sum;
            }
            sum.saturating_add(extra(instance, stage, option, prices).saturating_mul(i64::from(count)))
        });
    plan.values[at].saturating_add(rent).saturating_sub(best)
}

impl Improve {
    /// Stages by excess, largest first.
    pub(super) fn rank(&mut self, instance: &Instance, prices: &[u64], answers: &Evaluation, plan: &Plan) {
        self.excess.clear();
        let all = (0..).zip(&answers.values);
        self.excess.extend(
            all.map(|(at, &best)| (-excess_of(instance, at as usize, prices, plan, best), at))
                .filter(|&(excess, _)| excess < 0),
        );
        self.excess.sort_unstable();
    }

    /// Stages by what they pay beyond the best they could do if they were alone, largest first; at most `most`.
    pub(super) fn rank_by_loss(&mut self, instance: &Instance, alone: &[i64], plan: &Plan, most: usize) {
        self.excess.clear();
        let all = (0..instance.stages.len() as u32).zip(plan.values.iter().zip(alone));
        let losses = all.map(|(at, (value, alone))| (alone - value, at));
        self.excess.extend(losses.filter(|&(loss, _)| loss < 0));
        if self.excess.len() > most {
            self.excess.select_nth_unstable(most);
            self.excess.truncate(most);
        }
        self.excess.sort_unstable();
    }

    /// The stages that were ranked.
    pub(super) fn ranked(&self) -> impl Iterator<Item = u32> {
        self.excess.iter().map(|&(_, at)| at)
    }

    /// Asks every stage that was ranked at true cost, as long as there is time.
    pub(super) fn one_by_one(
        &mut self,
        instance: &Instance,
        most: usize,
        oracle: &mut Oracle,
        plan: &mut Plan,
        go_on: &mut dyn FnMut() -> bool,
    ) {
        let mut held = Vec::new();
        for (asked, &(_, at)) in self.excess.iter().take(most).enumerate() {
            if asked % ASK_EVERY == ASK_EVERY - 1 && !go_on() {
                return;
            }
            let at = at as usize;
            let before = plan.values[at];
            plan.free(instance, at, &mut held);
            let answer = oracle.solve(
                instance,
                at,
                &Ask {
                    room: &plan.room,
                    ..Ask::default()
                },
            );
            if answer.value < before && plan.fits(instance, at, &oracle.counts) {
                plan.place(instance, at, &oracle.counts);
            } else {
                plan.place(instance, at, &held);
            }
        }
    }

    /// One try of taking some stages out and putting them back. Returns by how much the plan got better.
    pub(super) fn ruin(
        &mut self,
        instance: &Instance,
        prices: &[u64],
        dice: &mut Dice,
        oracle: &mut Oracle,
        plan: &mut Plan,
    ) -> i128 {
        let stages = instance.stages.len() as u64;
        if stages < 2 {
            return 0;
        }
        let size = dice.between(2, RUIN_MAX.min(instance.stages.len()) as u64) as usize;
        let mut chosen: Vec<u32> = Vec::with_capacity(size);
        let front = (self.excess.len() as u64).min(2 + stages / 4).max(1);
        while chosen.len() < size {
            let from_front = !self.excess.is_empty() && (chosen.is_empty() || dice.chance(40));
            let at = if from_front {
                self.excess[dice.between(0, front - 1) as usize].1
            } else {
                dice.between(0, stages - 1) as u32
            };
            if !chosen.contains(&at) {
                chosen.push(at);
            } else if dice.chance(50) {
                break;
            }
        }
        let before: i128 = chosen.iter().map(|&at| i128::from(plan.values[at as usize])).sum();
        self.held.resize(RUIN_MAX, Vec::new());
        for (&at, held) in chosen.iter().zip(&mut self.held) {
            plan.free(instance, at as usize, held);
        }
        // The one with the excess may go first or last; the others follow as drawn. At prices or at true cost.
        let turn = dice.between(0, chosen.len() as u64 - 1) as usize;
        let prices = if dice.chance(50) { prices } else { &[] };
        let mut after = 0_i128;
        for step in 0..chosen.len() {
            let at = chosen[(step + turn) % chosen.len()] as usize;
            ask_with_room(instance, at, prices, oracle, plan);
            place_if_fits(instance, at, oracle, plan);
            after += i128::from(plan.values[at]);
        }
        if after < before {
            return before - after;
        }
        let mut scratch = Vec::new();
        for &at in &chosen {
            plan.free(instance, at as usize, &mut scratch);
        }
        for (&at, held) in chosen.iter().zip(&self.held) {
            plan.place(instance, at as usize, held);
        }
        0
    }
}
