//! From what runs to what is planned, make before break: the writes that are safe now, given only what is observed.
//! Nothing about earlier steps is stored; the next observation leads to the next writes, also after a crash in between.

use super::bug::{Bug, seeded};
use super::demand::cut;
use super::ledger::Ledger;
use super::oracle::Need;
use super::spend::Spend;
use super::world::Variant;

/// One pool of a stage, as the moves see it.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one pool")]
pub(super) struct Site {
    /// Replicas asked for.
    pub(super) desired: u32,
    /// Of these, the ones that are certain while a write is on its way.
    pub(super) certain: u32,
    /// These, or more if a write on its way does not arrive.
    pub(super) most: u32,
    /// A write is on its way: nothing more is written here before it is observed.
    pub(super) in_flight: bool,
    /// Ready ones among them.
    pub(super) ready: u32,
    pub(super) planned: u32,
    /// Capacity of one replica.
    pub(super) capacity: u64,
    pub(super) price: u128,
    pub(super) reliable: bool,
    /// Dry: what is pending here can go at once.
    pub(super) dry: bool,
    /// Somebody waits for what these replicas hold: room in the pool, or money.
    pub(super) contested: bool,
}

/// What the moves of a stage must respect.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one stage")]
pub(super) struct Terms {
    pub(super) demand: u64,
    pub(super) floor: u32,
    pub(super) reliable_floor: u32,
    /// Most replicas of the stage, a shift's surge apart. What exceeds it goes without a replacement.
    pub(super) ceiling: u32,
    pub(super) uniform: bool,
    /// Demand is not known: count replicas instead of capacity.
    pub(super) blind: bool,
    /// The pipeline costs more than its budget already: replicas go before their replacement is Ready.
    pub(super) over_budget: bool,
    /// Replicas a shift may hold beyond the planned total.
    pub(super) surge: u32,
    /// Ready replicas that may still go within this minute.
    pub(super) shrink_max: u64,
    /// None went within this minute so far.
    pub(super) untouched: bool,
}

/// What stood in the way of the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, read by the guards in their own order"
)]
pub(super) struct Blocked {
    pub(super) room: bool,
    pub(super) budget: bool,
    pub(super) ready: bool,
    pub(super) floor: bool,
    pub(super) rate: bool,
}

/// Writes for now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Steps {
    /// Index into the sites, and the new `spec.replicas`. Growth first.
    pub(super) writes: Vec<(usize, u32)>,
    /// Ready replicas that go.
    pub(super) ready_removed: u32,
    pub(super) blocked: Blocked,
}

/// What replicas serve together.
pub(super) fn serve(uniform: bool, sites: impl Iterator<Item = (u32, u64)>) -> u64 {
    let (mut count, mut pace, mut sum) = (0_u128, u64::MAX, 0_u128);
    for (replicas, capacity) in sites.filter(|&(replicas, _)| replicas > 0) {
        count += u128::from(replicas);
        pace = pace.min(capacity);
        sum += u128::from(replicas) * u128::from(capacity);
    }
    match (uniform, count) {
        (_, 0) => 0,
        (true, _) if seeded(Bug::UniformIsMean) => cut(sum),
        (true, count) => cut(count * u128::from(pace)),
        (false, _) => cut(sum),
    }
}

/// Whether replicas cover a stage's demand and floor.
pub(super) fn covers(need: &Need, sites: impl Iterator<Item = (u32, u64)> + Clone) -> bool {
    let count = total(sites.clone().map(|(count, _)| count));
    count >= need.floor && serve(need.uniform, sites) >= need.demand
}

fn total(counts: impl Iterator<Item = u32>) -> u32 {
    counts.fold(0, u32::saturating_add)
}

/// The writes that are safe now. `ledger` is what is free while old and new replicas of earlier writes exist side by
/// side; growth is taken out of it, what shrinks is given back only once it is observed to be gone.
pub(super) fn next(sites: &[Site], variants: &[Variant], terms: &Terms, ledger: &mut Ledger, pipeline: usize) -> Steps {
    let mut steps = Steps::default();
    let (shrunk, removable) = shrink(sites, terms, &mut steps);
    grow(sites, variants, terms, removable, ledger, pipeline, &mut steps);
    for (at, (site, &to)) in sites.iter().zip(&shrunk).enumerate() {
        if to < site.desired {
            steps.writes.push((at, to));
        }
    }
    if seeded(Bug::ShrinkFirst) {
        steps.writes.reverse();
    }
    steps
}

/// New counts of the shrinking sites, and how many Ready replicas could go if only the replacement mattered.
fn shrink(sites: &[Site], terms: &Terms, steps: &mut Steps) -> (Vec<u32>, u32) {
    let mut to: Vec<u32> = sites.iter().map(|site| site.desired).collect();
    let mut ready: Vec<u32> = sites.iter().map(|site| site.ready).collect();
    let planned_capacity = serve(terms.uniform, sites.iter().map(|site| (site.planned, site.capacity)));
    let ready_capacity = serve(terms.uniform, sites.iter().map(|site| (site.ready, site.capacity)));
    let goal = terms.demand.min(planned_capacity);
    // A replica that nobody else could use serves on as long as its work is not done elsewhere, also where the plan
    // has no place for it any more. What others wait for goes as the plan says.
    let required = |site: &Site| match (terms.over_budget || seeded(Bug::BreakBeforeMake), site.contested) {
        (true, _) => 0,
        (false, true) => goal.min(ready_capacity),
        (false, false) => terms.demand.min(ready_capacity),
    };
    let ready_total = total(sites.iter().map(|site| site.ready));
    let planned_total = total(sites.iter().map(|site| site.planned));
    let floor = if terms.blind && !terms.over_budget {
        terms.floor.max(planned_total)
    } else {
        terms.floor
    };
    let ready_floor = floor
        .saturating_sub(u32::from(seeded(Bug::SpareOffByOne)))
        .min(ready_total);
    let desired_total = total(sites.iter().map(|site| site.certain));
    let reliable = |site: &&Site| site.reliable;
    let mut spare = Spare {
        desired: desired_total - terms.floor.min(desired_total),
        ready: ready_total - ready_floor,
        desired_reliable: spare(
            total(sites.iter().filter(reliable).map(|site| site.certain)),
            terms.reliable_floor,
        ),
        ready_reliable: spare(
            total(sites.iter().filter(reliable).map(|site| site.ready)),
            terms.reliable_floor,
        ),
    };
    let mut rate = terms.shrink_max;
    // A shift's replicas that are not Ready yet replace nobody, so only Ready ones can be too many.
    let mut excess = ready_total.saturating_sub(terms.ceiling);
    let mut removable = 0_u32;
    let at_once = if terms.untouched { u64::MAX } else { rate };
    let together = terms.uniform && goes_together(sites, &spare, at_once, required);
    for at in dearest_first(sites) {
        let (Some(site), Some(to), Some(left)) = (sites.get(at), to.get_mut(at), ready.get(at).copied()) else {
            continue;
        };
        let surplus = site.desired.saturating_sub(site.planned);
        if surplus == 0 || site.in_flight {
            continue;
        }
        // What was never Ready serves nobody: it goes at once, or, where it may just be slow, once it is not needed.
        let unready = surplus.min(site.desired - site.ready);
        let unready = if site.dry || ready_capacity >= goal { unready } else { 0 };
        steps.blocked.ready |= unready < surplus.min(site.desired - site.ready);
        let withdrawn = unready.min(spare.desired(site.reliable));
        steps.blocked.floor |= withdrawn < unready;
        *to -= withdrawn;
        spare.spend_desired(site.reliable, withdrawn);

        let wanted = site.ready.saturating_sub(site.planned).min(surplus);
        let spared = wanted.min(spare.ready(site.reliable)).min(spare.desired(site.reliable));
        steps.blocked.floor |= spared < wanted;
        let replaced = if together {
            spared
        } else {
            replaceable(terms.uniform, sites, &ready, at, spared, required(site)).max(spared.min(excess))
        };
        steps.blocked.ready |= replaced < spared && goal >= terms.demand;
        steps.blocked.room |= replaced < spared && goal < terms.demand;
        removable = removable.saturating_add(replaced);
        let allowed = u32::try_from(rate).unwrap_or(u32::MAX).min(replaced);
        let gone = if together {
            replaced
        } else if terms.uniform && allowed < replaced {
            part(sites, &ready, at, allowed, replaced, required(site), terms.untouched).max(allowed.min(excess))
        } else {
            allowed
        };
        steps.blocked.rate |= gone < replaced;
        rate = rate.saturating_sub(u64::from(gone));
        *to -= gone;
        // What is not Ready goes first, whoever was meant: a slow pool is only left if they all go.
        if terms.uniform && gone > 0 && gone == left && *to <= spare.desired(site.reliable).saturating_sub(gone) {
            spare.spend_desired(site.reliable, *to);
            *to = 0;
        }
        excess -= gone.min(excess);
        steps.ready_removed = steps.ready_removed.saturating_add(gone);
        spare.spend_desired(site.reliable, gone);
        spare.spend_ready(site.reliable, gone);
        if let Some(slot) = ready.get_mut(at) {
            *slot = left - gone;
        }
    }
    if terms.uniform && !replaced_together(sites, &to, goal.min(ready_capacity)) {
        let excused = terms.over_budget || ready_total > terms.ceiling || seeded(Bug::BreakBeforeMake);
        if !excused && steps.ready_removed > 0 {
            to.iter_mut()
                .zip(sites)
                .for_each(|(to, site)| *to = (*to).max(site.ready));
            steps.ready_removed = 0;
            steps.blocked.ready = true;
        }
    }
    (to, removable)
}

/// Whether all Ready replicas beyond the plan can go at once: several slow pools that set the pace can only be left
/// together, none of them before the others.
fn goes_together(sites: &[Site], spare: &Spare, rate: u64, required: impl Fn(&Site) -> u64) -> bool {
    let surplus = |site: &Site| site.ready.saturating_sub(site.planned);
    let going = || sites.iter().filter(|site| surplus(site) > 0);
    let count = total(going().map(surplus));
    let reliable = total(going().filter(|site| site.reliable).map(surplus));
    let rest = serve(
        true,
        sites.iter().map(|site| (site.ready.min(site.planned), site.capacity)),
    );
    let required = going().map(required).max().unwrap_or(0);
    u64::from(count) <= rate
        && count <= spare.ready.min(spare.desired)
        && reliable <= spare.ready_reliable.min(spare.desired_reliable)
        && going().all(|site| !site.in_flight)
        && rest >= required
}

/// Whether what is left under uniform traffic serves `required`: also if a pool that is being left is still there, because
/// the write is on its way or lost.
fn replaced_together(sites: &[Site], to: &[u32], required: u64) -> bool {
    let left = sites
        .iter()
        .zip(to)
        .map(|(site, &to)| (site.ready.min(to), site.capacity));
    let leaving = sites.iter().any(|site| site.in_flight && site.most > site.desired);
    !leaving && serve(true, left) >= required
}

/// How many of `all` Ready replicas, which could go together, go under uniform traffic if the minute allows for `allowed`.
/// Those that are left set the pace for as long as there are any, so a part may be missed where all are not. Then it is
/// all or none, and a step that cannot be divided is no larger than a minute allows if it is the only one.
fn part(sites: &[Site], ready: &[u32], at: usize, allowed: u32, all: u32, required: u64, untouched: bool) -> u32 {
    match replaceable(true, sites, ready, at, allowed, required) {
        some if some < allowed && untouched => all,
        some => some,
    }
}

fn spare(have: u32, floor: u32) -> u32 {
    have - floor.min(have)
}

/// Replicas above the floors.
#[derive(Clone, Copy, Debug)]
struct Spare {
    desired: u32,
    ready: u32,
    desired_reliable: u32,
    ready_reliable: u32,
}

impl Spare {
    fn desired(&self, reliable: bool) -> u32 {
        if reliable {
            self.desired.min(self.desired_reliable)
        } else {
            self.desired
        }
    }

    fn ready(&self, reliable: bool) -> u32 {
        if reliable {
            self.ready.min(self.ready_reliable)
        } else {
            self.ready
        }
    }

    fn spend_desired(&mut self, reliable: bool, count: u32) {
        self.desired -= count;
        self.desired_reliable -= if reliable { count } else { 0 };
    }

    fn spend_ready(&mut self, reliable: bool, count: u32) {
        self.ready -= count;
        self.ready_reliable -= if reliable { count } else { 0 };
    }
}

fn dearest_first(sites: &[Site]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sites.len()).collect();
    let site = |at: usize| sites.get(at).copied().unwrap_or_default();
    order.sort_by(|&a, &b| {
        let (a, b) = (site(a), site(b));
        let (left, right) = (a.price * u128::from(b.capacity), b.price * u128::from(a.capacity));
        right.cmp(&left).then((b.desired, b.ready).cmp(&(a.desired, a.ready)))
    });
    order
}

/// How many of `count` Ready replicas of one site can go while the rest still serves `required`.
fn replaceable(uniform: bool, sites: &[Site], ready: &[u32], at: usize, count: u32, required: u64) -> u32 {
    let (Some(site), Some(&here)) = (sites.get(at), ready.get(at)) else {
        return 0;
    };
    let without = |gone: u32| {
        let counts = ready
            .iter()
            .enumerate()
            .map(|(other, &n)| if other == at { n.saturating_sub(gone) } else { n });
        serve(uniform, counts.zip(sites.iter().map(|site| site.capacity)))
    };
    if without(count) >= required {
        return count;
    }
    // The site stays in use, so its pace stays too.
    let most = count.min(here.saturating_sub(1));
    let pace = if uniform {
        ready
            .iter()
            .zip(sites)
            .filter(|&(&n, _)| n > 0)
            .map(|(_, site)| site.capacity)
            .min()
            .unwrap_or(1)
    } else {
        site.capacity
    };
    let surplus = without(0).saturating_sub(required) / pace.max(1);
    u32::try_from(surplus)
        .unwrap_or(u32::MAX)
        .min(if uniform { most } else { count })
}

fn grow(
    sites: &[Site],
    variants: &[Variant],
    terms: &Terms,
    removable: u32,
    ledger: &mut Ledger,
    pipeline: usize,
    steps: &mut Steps,
) {
    let desired_total = total(sites.iter().map(|site| site.most));
    let planned_total = total(sites.iter().map(|site| site.planned));
    let ready_total = total(sites.iter().map(|site| site.ready));
    let pace = |count: fn(&Site) -> u32| {
        sites
            .iter()
            .filter(|site| count(site) > 0)
            .map(|site| site.capacity)
            .min()
    };
    let slower = pace(|site| site.planned)
        .zip(pace(|site| site.ready))
        .is_some_and(|(new, old)| new < old);
    // Replicas that share a Service with slower ones are only worth their pace: such a shift is made in one go.
    let stays = ready_total - removable.min(ready_total);
    let base = if terms.uniform && slower {
        u32::MAX
    } else {
        planned_total.max(stays)
    };
    let ceiling = base
        .min(terms.ceiling.max(planned_total))
        .saturating_add(terms.surge.max(1));
    let mut free = if seeded(Bug::SurgeIgnored) {
        u32::MAX
    } else {
        ceiling.saturating_sub(desired_total)
    };
    let before = ledger.clone();
    let mut arrives: Vec<u32> = sites.iter().map(|site| site.ready).collect();
    for at in dearest_first(sites).into_iter().rev() {
        let (Some(site), Some(variant), Some(arriving)) = (sites.get(at), variants.get(at), arrives.get_mut(at)) else {
            continue;
        };
        *arriving = site.desired;
        let wanted = site.planned.saturating_sub(site.desired);
        if wanted == 0 || site.in_flight {
            continue;
        }
        let within = wanted.min(free);
        steps.blocked.ready |= within < wanted;
        let affordable = ledger.budget(pipeline).affords(Spend::of(variant));
        let paid = within.min(u32::try_from(affordable).unwrap_or(u32::MAX));
        steps.blocked.budget |= paid < within;
        let placed = paid.min(ledger.room(variant));
        steps.blocked.room |= placed < paid;
        // What finds no room yet is set aside all the same, so that nobody behind in the queue takes it.
        ledger.take(pipeline, variant, paid);
        if placed > 0 {
            *arriving = site.desired.saturating_add(placed);
            steps.writes.push((at, *arriving));
            free -= placed;
        }
    }
    // A shift for its price alone starts only if what fits of it lets something go; else it would stay half done.
    let goal = terms.demand.min(serve(
        terms.uniform,
        sites.iter().map(|site| (site.planned, site.capacity)),
    ));
    let serves = serve(terms.uniform, sites.iter().map(|site| (site.ready, site.capacity))) >= goal;
    let stuck = steps.blocked.budget || steps.blocked.room;
    let frees = || {
        let mut sources = sites.iter().enumerate().filter(|(_, site)| site.desired > site.planned);
        sources.any(|(at, _)| replaceable(terms.uniform, sites, &arrives, at, 1, goal) > 0)
    };
    if serves && !terms.blind && stuck && !frees() {
        steps.writes.clear();
        *ledger = before;
    }
}
