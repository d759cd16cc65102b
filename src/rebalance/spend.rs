//! Money and power: what replicas take of a pipeline's ceilings, and what these leave.

use super::bug::{Bug, seeded};
use super::world::{Ceilings, Pipeline, Variant, World};

/// Money in millionths per hour and power in milliwatts: of a replica, or as ceilings. A ceiling of `u64::MAX` is none; a
/// replica whose power nobody declared takes that much, so that no further one fits under a ceiling: unknown is not nothing.
/// What runs of it when a ceiling is set takes nothing that anybody could count ([`Spend::known`]), or it could never be
/// replaced before it goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spend {
    pub(super) micros: u64,
    pub(super) milliwatts: u64,
}

impl Spend {
    /// No ceiling on anything.
    pub(super) const UNLIMITED: Self = Self {
        micros: u64::MAX,
        milliwatts: u64::MAX,
    };

    /// What one replica more takes.
    pub(super) fn of(variant: &Variant) -> Self {
        Self {
            micros: if seeded(Bug::BudgetForgotten) {
                0
            } else {
                variant.cost_micros
            },
            milliwatts: match variant.power_milliwatts {
                _ if seeded(Bug::PowerForgotten) => 0,
                power => power.unwrap_or(u64::MAX),
            },
        }
    }

    /// What one that is there takes, as far as it is known.
    pub(super) fn known(self) -> Self {
        let known = |part: u64| if part == u64::MAX { 0 } else { part };
        Self {
            micros: self.micros,
            milliwatts: known(self.milliwatts),
        }
    }

    /// What a pipeline may take by itself.
    pub(super) fn own(pipeline: &Pipeline) -> Self {
        Self::shared(&Ceilings {
            budget_micros: pipeline.budget_micros,
            power_max_milliwatts: pipeline.power_max_milliwatts,
        })
    }

    /// What pipelines may take together.
    pub(super) fn shared(ceilings: &Ceilings) -> Self {
        Self {
            micros: ceilings.budget_micros.unwrap_or(u64::MAX),
            milliwatts: ceilings.power_max_milliwatts.unwrap_or(u64::MAX),
        }
    }

    /// What a pipeline may take at most, the others of its shared ceilings taking nothing.
    pub(super) fn ceilings(world: &World, pipeline: usize) -> Self {
        let Some(pipeline) = world.pipelines.get(pipeline) else {
            return Self::UNLIMITED;
        };
        let shared = pipeline.shared.and_then(|at| world.shared.get(at as usize));
        shared.map_or(Self::UNLIMITED, Self::shared).min(Self::own(pipeline))
    }

    /// Replicas of which each takes `each` that this pays for.
    pub(super) fn affords(self, each: Self) -> u64 {
        let part = |left: u64, each: u64| match left {
            u64::MAX => u64::MAX,
            left => left.checked_div(each).unwrap_or(u64::MAX),
        };
        part(self.micros, each.micros).min(part(self.milliwatts, each.milliwatts))
    }

    /// What so many replicas leave; nothing where they take more than there is.
    pub(super) fn less(self, each: Self, count: u64) -> Self {
        let part = |left: u64, each: u64| match left {
            u64::MAX => u64::MAX,
            left => left.saturating_sub(each.saturating_mul(count)),
        };
        Self {
            micros: part(self.micros, each.micros),
            milliwatts: part(self.milliwatts, each.milliwatts),
        }
    }

    /// What is left once so many replicas are gone again.
    pub(super) fn more(self, each: Self, count: u64) -> Self {
        // A ceiling stays one, however much comes back.
        let part = |left: u64, each: u64| match left {
            u64::MAX => u64::MAX,
            left => left.saturating_add(each.saturating_mul(count)).min(u64::MAX - 1),
        };
        Self {
            micros: part(self.micros, each.micros),
            milliwatts: part(self.milliwatts, each.milliwatts),
        }
    }

    /// Whether there is more of anything than `other` has.
    pub(super) fn exceeds(self, other: Self) -> bool {
        self.micros > other.micros || self.milliwatts > other.milliwatts
    }

    /// The smaller of both in each.
    pub(super) fn min(self, other: Self) -> Self {
        Self {
            micros: self.micros.min(other.micros),
            milliwatts: self.milliwatts.min(other.milliwatts),
        }
    }

    /// The larger of both in each.
    pub(super) fn max(self, other: Self) -> Self {
        Self {
            micros: self.micros.max(other.micros),
            milliwatts: self.milliwatts.max(other.milliwatts),
        }
    }

    /// One number for a replica that takes `each` of these ceilings, in millionths of money: power counts what it takes of
    /// its ceiling, so that whichever is the tighter of the two weighs the more. Without ceilings it is the money.
    pub(super) fn weigh(self, each: Self) -> u128 {
        const MOST: u64 = 1 << 40;
        let (micros, milliwatts) = (u128::from(each.micros.min(MOST)), u128::from(each.milliwatts.min(MOST)));
        match (self.micros, self.milliwatts) {
            (_, u64::MAX) => micros,
            (u64::MAX, _) => milliwatts,
            (money, power) => {
                let drawn = milliwatts * u128::from(money.min(MOST)) / u128::from(power.min(MOST)).max(1);
                (micros + drawn).min(u128::from(MOST))
            }
        }
    }
}

/// What many replicas take together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) micros: u128,
    pub(super) milliwatts: u128,
}

impl Sum {
    /// Adds `count` replicas of which each takes `each`.
    pub(super) fn add(&mut self, each: Spend, count: impl Into<u128>) {
        let count = count.into();
        self.micros = self
            .micros
            .saturating_add(u128::from(each.micros).saturating_mul(count));
        self.milliwatts = self
            .milliwatts
            .saturating_add(u128::from(each.milliwatts).saturating_mul(count));
    }

    /// Adds what others take.
    pub(super) fn join(&mut self, other: Self) {
        self.micros = self.micros.saturating_add(other.micros);
        self.milliwatts = self.milliwatts.saturating_add(other.milliwatts);
    }

    /// Whether ceilings allow this much.
    pub(super) fn within(self, ceilings: Spend) -> bool {
        let part = |sum: u128, ceiling: u64| ceiling == u64::MAX || sum <= u128::from(ceiling);
        part(self.micros, ceilings.micros) && part(self.milliwatts, ceilings.milliwatts)
    }
}

/// What pipelines take together of every ceiling that they share, by what each of them takes.
pub(super) fn together(world: &World, taken: &[Sum]) -> Vec<Sum> {
    let mut together = vec![Sum::default(); world.shared.len()];
    for (sum, pipeline) in taken.iter().zip(&world.pipelines) {
        if let Some(shared) = pipeline.shared.and_then(|at| together.get_mut(at as usize)) {
            shared.join(*sum);
        }
    }
    together
}

/// By pipeline: whether it takes more than it may, by itself or with those it shares a ceiling with.
pub(super) fn exceeded(world: &World, taken: &[Sum], together: &[Sum]) -> Vec<bool> {
    let shared: Vec<bool> = (together.iter().zip(&world.shared))
        .map(|(sum, ceilings)| !sum.within(Spend::shared(ceilings)))
        .collect();
    let pipelines = taken.iter().zip(&world.pipelines);
    pipelines
        .map(|(sum, pipeline)| {
            let shared = pipeline.shared.and_then(|at| shared.get(at as usize));
            !sum.within(Spend::own(pipeline)) || shared.copied().unwrap_or(false)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spend(micros: u64, milliwatts: u64) -> Spend {
        Spend { micros, milliwatts }
    }

    #[test]
    fn the_tighter_ceiling_decides_how_many_replicas_are_paid_for() {
        assert_eq!(spend(10, 30).affords(spend(2, 10)), 3);
        assert_eq!(spend(10, 300).affords(spend(2, 10)), 5);
        assert_eq!(spend(10, 30).affords(spend(0, 0)), u64::MAX);
        assert_eq!(Spend::UNLIMITED.affords(spend(u64::MAX, u64::MAX)), u64::MAX);
    }

    #[test]
    fn a_replica_of_unknown_power_fits_under_no_power_ceiling_and_under_any_other() {
        let unknown = spend(1, u64::MAX);
        assert_eq!(spend(10, 1_000_000).affords(unknown), 0);
        assert_eq!(spend(10, u64::MAX).affords(unknown), 10);
        assert_eq!(unknown.known(), spend(1, 0));
    }

    #[test]
    fn no_ceiling_stays_none_whatever_is_taken_and_given_back() {
        let each = spend(3, 4);
        assert_eq!(Spend::UNLIMITED.less(each, 5), Spend::UNLIMITED);
        assert_eq!(Spend::UNLIMITED.more(each, 5), Spend::UNLIMITED);
        assert_eq!(spend(20, 20).less(each, 4).more(each, 1), spend(11, 8));
    }

    #[test]
    fn power_weighs_what_it_takes_of_its_ceiling() {
        // A thousandth of either ceiling weighs the same.
        let ceilings = spend(1_000_000, 50_000);
        assert_eq!(ceilings.weigh(spend(1_000, 0)), ceilings.weigh(spend(0, 50)));
        assert_eq!(spend(7, u64::MAX).weigh(spend(1_000, 50)), 1_000);
        assert_eq!(spend(u64::MAX, 7).weigh(spend(1_000, 50)), 50);
        assert_eq!(Spend::UNLIMITED.weigh(spend(1_000, 50)), 1_000);
    }

    #[test]
    fn a_sum_is_held_against_each_ceiling_that_there_is() {
        let mut sum = Sum::default();
        sum.add(spend(2, u64::MAX), 3_u32);
        assert!(sum.within(spend(6, u64::MAX)));
        assert!(!sum.within(spend(5, u64::MAX)));
        assert!(!sum.within(spend(6, u64::MAX - 1)));
    }
}
