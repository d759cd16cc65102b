//! A pipeline serves what its narrowest stage serves.
//!
//! If one stage of a pipeline can only serve 60 % of its demand, the other 40 % are lost to all of them, and capacity that
//! the others hold beyond 60 % is bought for nothing. So what a plan costs is counted end to end: every stage of a
//! pipeline leaves unserved what the stage with the smallest served share leaves. Never less than what each stage leaves
//! by itself, so a bound on the sum over single stages is also one on this.
//!
//! After the build, every stage of a pipeline that cannot serve all is cut down to the common share, which frees room;
//! stages that went short ask again; and as that may raise shares, the cut is repeated a few times.

use super::build::ask_with_room;
use super::instance::{Instance, Stage};
use super::oracle::{Ask, Oracle};
use super::plan::{Plan, outcome};

/// Cuts and second helpings, at most.
const ROUNDS: usize = 4;
/// Replicas of one stage that are taken away one by one in each, at most: the oracle has taken most.
const TRIMS: usize = 16;

/// Served and wanted, both in thousandths: a share without rounding.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    served: u64,
    demand: u64,
}

impl Share {
    pub(super) const WHOLE: Self = Self { served: 1, demand: 1 };

    /// Less, as a share. Nothing of nothing is not below anything.
    pub(super) fn below(self, other: Self) -> bool {
        u128::from(self.served) * u128::from(other.demand) < u128::from(other.served) * u128::from(self.demand)
    }

    pub(super) fn same(self, other: Self) -> bool {
        !self.below(other) && !other.below(self)
    }

    /// Whether there is any demand.
    pub(super) fn is_wanted(self) -> bool {
        self.demand > 0
    }

    /// What is served beyond the part that gets `through`.
    pub(super) fn beyond(self, through: Self) -> u64 {
        self.served.saturating_sub(through.of(self.demand))
    }

    /// What of `demand` must be served for no less than that share: rounded up, or whoever serves it would be the next to
    /// hold the others up.
    fn needs(self, demand: u64) -> u64 {
        let part = (u128::from(demand) * u128::from(self.served)).div_ceil(u128::from(self.demand.max(1)));
        u64::try_from(part).unwrap_or(u64::MAX)
    }

    /// That share of `demand`, rounded down: what gets through.
    fn of(self, demand: u64) -> u64 {
        let part = u128::from(demand) * u128::from(self.served) / u128::from(self.demand.max(1));
        u64::try_from(part).unwrap_or(u64::MAX)
    }
}

/// Demand and what is served of it, by whatever serves.
pub(super) fn served(instance: &Instance, at: usize, plan: &Plan) -> Share {
    share(&instance.stages[at], plan.outcomes[at].unserved)
}

/// The same of a stage whose choices leave so much unserved.
pub(super) fn share(stage: &Stage, unserved: i64) -> Share {
    let demand = stage.given_demand();
    let open = stage.beyond.saturating_add(unserved.cast_unsigned());
    Share {
        served: demand.saturating_sub(open),
        demand,
    }
}

/// Share that each pipeline serves end to end.
fn shares(instance: &Instance, plan: &Plan) -> Vec<Share> {
    let mut shares = vec![Share::WHOLE; instance.pipeline_count];
    for (at, stage) in instance.stages.iter().enumerate() {
        let Some(share) = shares.get_mut(stage.pipeline as usize) else {
            continue;
        };
        let here = served(instance, at, plan);
        if here.demand > 0 && here.below(*share) {
            *share = here;
        }
    }
    shares
}

/// What each stage leaves unserved end to end, in canonical order.
pub(super) fn unserved(instance: &Instance, plan: &Plan) -> Vec<u64> {
    let shares = shares(instance, plan);
    let stages = instance.stages.iter().enumerate();
    stages
        .map(|(at, stage)| {
            let here = served(instance, at, plan);
            let through = shares
                .get(stage.pipeline as usize)
                .map_or(here.served, |share| share.of(here.demand));
            here.demand - through.min(here.served)
        })
        .collect()
}

/// What the pipelines lose end to end beyond what single stages leave unserved, scaled.
pub(super) fn surcharge(instance: &Instance, plan: &Plan, unserved: &[u64]) -> i128 {
    if instance.pipeline_count == 0 {
        return 0;
    }
    let stages = instance.stages.iter().enumerate().zip(unserved);
    stages.fold(0, |sum, ((at, stage), &unserved)| {
        let here = served(instance, at, plan);
        let alone = here.demand - here.served;
        sum + i128::from(stage.penalty) * i128::from(unserved - alone)
    })
}

/// What one pipeline loses end to end beyond what its stages leave unserved, scaled.
pub(super) fn lost(instance: &Instance, plan: &Plan, members: &[u32]) -> i128 {
    let share = least(members.iter().map(|&at| served(instance, at as usize, plan)));
    members.iter().fold(0, |sum, &at| {
        let here = served(instance, at as usize, plan);
        let beyond = here.served - share.of(here.demand).min(here.served);
        sum + i128::from(instance.stages[at as usize].penalty) * i128::from(beyond)
    })
}

/// What of its demand a stage has to cover so that all that the others of its pipeline serve gets through; none if that
/// is all of it.
pub(super) fn passed_on(instance: &Instance, plan: &Plan, members: &[u32], at: usize) -> Option<i64> {
    let others = members.iter().filter(|&&mate| mate as usize != at);
    let share = least(others.map(|&mate| served(instance, mate as usize, plan)));
    let stage = &instance.stages[at];
    let through = share.needs(stage.given_demand());
    (through < stage.given_demand()).then(|| stage.coverable(through))
}

fn least(shares: impl Iterator<Item = Share>) -> Share {
    let wanted = shares.filter(|share| share.demand > 0);
    wanted.fold(
        Share::WHOLE,
        |least, share| if share.below(least) { share } else { least },
    )
}

/// Gives back what pipelines cannot use, and the room to those who can.
pub(super) fn cut(instance: &Instance, prices: &[u64], oracle: &mut Oracle, plan: &mut Plan) {
    if instance.pipeline_count == 0 {
        return;
    }
    let mut held = Vec::new();
    for round in 1..=ROUNDS {
        let shares = shares(instance, plan);
        let mut freed = false;
        for (at, stage) in instance.stages.iter().enumerate() {
            let Some(share) = shares.get(stage.pipeline as usize) else {
                continue;
            };
            let here = served(instance, at, plan);
            let through = share.needs(here.demand);
            if through >= here.served {
                continue;
            }
            plan.free(instance, at, &mut held);
            let most = stage.coverable(through);
            let before = price(instance, at, &held);
            let room = std::mem::take(&mut plan.room);
            oracle.solve(
                instance,
                at,
                &Ask {
                    prices,
                    room: &room,
                    demand: Some(most),
                    ..Ask::default()
                },
            );
            plan.room = room;
            let counts = oracle.counts.clone();
            let now = outcome(instance, at, &counts);
            // Only what costs less and still serves the share.
            let serves = now.unserved <= stage.demand - most && now.short <= outcome(instance, at, &held).short;
            let mut kept = if serves && now.price < before && plan.fits(instance, at, &counts) {
                counts
            } else {
                held.clone()
            };
            trim(instance, at, stage.demand - most, &mut kept);
            freed |= kept != held;
            plan.place(instance, at, &kept);
        }
        // A cut comes last: what a stage took again in vain is given back.
        if !freed || round == ROUNDS || !second_helping(instance, prices, &shares, oracle, plan) {
            return;
        }
    }
}

/// Takes away replicas, one by one, that cost something and without which no more than `unserved` stays open. The oracle
/// answers at prices of pools, so what it leaves may hold more than what it would cost truly is worth.
fn trim(instance: &Instance, at: usize, unserved: i64, counts: &mut [u32]) {
    let mut now = outcome(instance, at, counts);
    for _ in 0..TRIMS {
        let without = |option: usize, counts: &mut [u32]| {
            let count = counts[option];
            counts[option] = count.checked_sub(1)?;
            let less = outcome(instance, at, counts);
            counts[option] = count;
            let allowed = less.price < now.price && less.unserved <= unserved && less.short <= now.short;
            allowed.then_some((less.price, option))
        };
        let best = (0..counts.len()).filter_map(|option| without(option, counts)).min();
        let Some((_, option)) = best else { return };
        counts[option] -= 1;
        now = outcome(instance, at, counts);
    }
}

fn price(instance: &Instance, at: usize, counts: &[u32]) -> i64 {
    outcome(instance, at, counts).price
}

/// Stages that are the narrowest of their pipeline, or have none, ask again with the room that was freed.
fn second_helping(instance: &Instance, prices: &[u64], shares: &[Share], oracle: &mut Oracle, plan: &mut Plan) -> bool {
    let mut hungry: Vec<(u16, u32)> = Vec::new();
    for (at, stage) in (0..).zip(&instance.stages) {
        let here = served(instance, at as usize, plan);
        let narrowest = shares
            .get(stage.pipeline as usize)
            .is_none_or(|share| !share.below(here));
        if here.served < here.demand && stage.demand > 0 && narrowest {
            hungry.push((u16::MAX - stage.priority, at));
        }
    }
    hungry.sort_unstable();
    let mut held = Vec::new();
    let mut changed = false;
    for (_, at) in hungry {
        let at = at as usize;
        let before = plan.values[at];
        plan.free(instance, at, &mut held);
        ask_with_room(instance, at, prices, oracle, plan);
        let counts = oracle.counts.clone();
        if outcome(instance, at, &counts).value(instance.stages[at].penalty) < before
            && plan.fits(instance, at, &counts)
        {
            plan.place(instance, at, &counts);
            changed = true;
        } else {
            plan.place(instance, at, &held);
        }
    }
    changed
}
