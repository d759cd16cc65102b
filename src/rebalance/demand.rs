//! Readings to demand, in two numbers: what is proven (pods that did not report count as idle), used to grow, and what
//! cannot be excluded (they count as full), used to shrink. Silence therefore never lowers anything.

use super::bug::{Bug, seeded};
use super::history::{Extreme, Window};
use super::world::{Reading, Stage, Variant};

/// Demand and capacity are cut here: far beyond any cluster, and no product of the core overflows below it.
pub(super) const UNITS_MAX: u64 = 1 << 60;

/// Replicas' capacity is cut here, for the same reason.
const CAPACITY_MAX: u64 = 1 << 50;

/// Utilization from which a replica counts as saturated: the true demand may be anything above.
const SATURATED_PERMILLE: u32 = 970;

/// What a saturated variant is assumed to need, relative to what it serves. Between the smallest step that a target
/// just below saturation would give and the doubling that is the most one step may do.
const AT_LEAST_PERMILLE: u128 = 1_500;

/// Idle readings in a row that prove idleness.
pub(super) const IDLE_READINGS: u32 = 3;

/// A rise within so many windows of a fall takes that fall back.
const REVERSAL_WINDOWS: u64 = 4;

/// Most times the declared window that a fall waits for.
const PATIENCE_MAX: u64 = 8;

/// Capacity of one replica, never zero, so that it can be divided by.
pub(super) fn capacity(variant: &Variant) -> u64 {
    variant.capacity_millis.clamp(1, CAPACITY_MAX)
}

/// Cuts a wide product to the range of demands.
pub(super) fn cut(wide: u128) -> u64 {
    u64::try_from(wide).unwrap_or(UNITS_MAX).min(UNITS_MAX)
}

/// Lower and upper end of a demand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) low: u64,
    pub(super) high: u64,
}

impl Range {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            low: self.low.saturating_add(other.low).min(UNITS_MAX),
            high: self.high.saturating_add(other.high).min(UNITS_MAX),
        }
    }

    pub(super) fn max(self, other: Self) -> Self {
        Self {
            low: self.low.max(other.low),
            high: self.high.max(other.high),
        }
    }

    /// Scaled by `numerator / denominator`, rounded up.
    pub(super) fn scaled(self, numerator: u64, denominator: u64) -> Self {
        let scale =
            |value: u64| cut((u128::from(value) * u128::from(numerator)).div_ceil(u128::from(denominator.max(1))));
        Self {
            low: scale(self.low),
            high: scale(self.high),
        }
    }
}

/// A ratio by which remembered demand is multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rescale {
    numerator: u128,
    denominator: u128,
}

impl Rescale {
    /// `numerator / denominator`; nothing changes where either is zero.
    pub(super) fn new(numerator: u128, denominator: u128) -> Self {
        if numerator == 0 || denominator == 0 {
            return Self {
                numerator: 1,
                denominator: 1,
            };
        }
        // No product with a demand overflows.
        let excess = (u128::BITS - numerator.max(denominator).leading_zeros()).saturating_sub(u64::BITS);
        Self {
            numerator: (numerator >> excess).max(1),
            denominator: (denominator >> excess).max(1),
        }
    }

    /// Rounded up.
    pub(super) fn of(self, value: u64) -> u64 {
        cut((u128::from(value) * self.numerator).div_ceil(self.denominator))
    }

    /// Both ends.
    pub(super) fn of_range(self, range: Range) -> Range {
        Range {
            low: self.of(range.low),
            high: self.of(range.high),
        }
    }
}

/// Target utilization of a stage, never zero.
pub(super) fn target(stage: &Stage) -> u64 {
    u64::from(stage.target_permille.max(1))
}

/// What one request more in a reading adds to the demand it shows: what noise is counted in.
pub(super) fn one_request(stage: &Stage, variants: &[Variant]) -> u64 {
    let of_slots = |variant: &Variant| {
        let slots = u128::from(variant.concurrency.filter(|&slots| slots > 0)?);
        Some(u128::from(capacity(variant)) * 1_000 / slots)
    };
    // A rate is taken over no more than the age at which a reading is too old.
    let of_rate = 1_000_000_000 / u128::from(stage.reading_age_ms_max.max(1_000));
    let of_rate = if stage.rated { of_rate } else { 0 };
    let most = variants.iter().filter_map(of_slots).fold(of_rate, u128::max);
    cut(most / u128::from(target(stage)))
}

/// Requests per second that reach a variant, if its reading says so; pods that did not report may get as much as they
/// can serve.
pub(super) fn rate(stage: &Stage, reading: &Reading, load: Range) -> Option<Range> {
    let low = reading.rate_millis.filter(|_| stage.rated)?.min(UNITS_MAX);
    let unknown = Range {
        low: 0,
        high: load.high.saturating_sub(load.low),
    };
    Some(Range { low, high: low }.plus(unknown.scaled(target(stage), 1_000)))
}

/// For how long demand is averaged: twice as long as what it calls for takes to start, because nothing that is over sooner
/// can be met by starting something. Never longer than the window of shrinking.
pub(super) fn average_ms(stage: &Stage, startup_ms: u64) -> u64 {
    startup_ms.saturating_mul(2).min(stage.down_window_ms)
}

/// For how long a rise counts that the average does not bear out yet.
pub(super) fn rise_ms(startup_ms: u64) -> u64 {
    startup_ms / 2
}

/// Whether a reading says anything about load.
pub(super) fn speaks(reading: &Reading) -> bool {
    let queue = reading.running_millis.is_some() || reading.waiting_millis.is_some();
    let queue = queue || seeded(Bug::EmptyReadingIsZero);
    (reading.sampled > 0 || reading.expected == 0)
        && (queue || reading.utilization_permille.is_some() || reading.rate_millis.is_some())
}

/// Whether a reading proves that nothing runs and nothing waits.
pub(super) fn idle(reading: &Reading) -> bool {
    let complete = reading.sampled >= reading.expected;
    let quiet = reading.running_millis == Some(0) || reading.rate_millis == Some(0);
    complete && quiet && reading.waiting_millis == Some(0) && reading.utilization_permille.is_none_or(|used| used < 10)
}

/// Demand that one variant's reading shows.
pub(super) fn of_reading(stage: &Stage, variant: &Variant, reading: &Reading) -> Range {
    let target = u128::from(target(stage));
    let capacity = u128::from(capacity(variant));
    let used = u128::from(reading.utilization_permille.unwrap_or(0));
    let served = u128::from(reading.sampled) * used * capacity; // thousandths of a unit, times 1000
    let mut low = served.div_ceil(target);
    let queue = reading.running_millis.unwrap_or(0).min(UNITS_MAX) + reading.waiting_millis.unwrap_or(0).min(UNITS_MAX);
    if let Some(slots) = variant.concurrency.filter(|&slots| slots > 0) {
        low = low.max((u128::from(queue) * capacity).div_ceil(u128::from(slots) * target));
    }
    if stage.rated {
        let rate = u128::from(reading.rate_millis.unwrap_or(0).min(UNITS_MAX));
        low = low.max((rate * 1_000).div_ceil(target));
    }
    let missing = u128::from(reading.expected.saturating_sub(reading.sampled));
    let missing = if seeded(Bug::SilentPodsAreIdle) { 0 } else { missing };
    Range {
        low: cut(low),
        high: cut(low.saturating_add((missing * capacity * 1_000).div_ceil(target))),
    }
}

/// What a reading of a rated stage shows, in fine units without target and rounding, and whether that is measured in the
/// variant's capacity. Only for ratios.
pub(super) fn worth(variant: &Variant, reading: &Reading) -> (bool, u128) {
    let capacity = u128::from(capacity(variant)) << 16;
    let busy = u128::from(reading.sampled) * u128::from(reading.utilization_permille.unwrap_or(0));
    let mut measured = busy.saturating_mul(capacity);
    let queue = reading.running_millis.unwrap_or(0).min(UNITS_MAX) + reading.waiting_millis.unwrap_or(0).min(UNITS_MAX);
    if let Some(slots) = variant.concurrency.filter(|&slots| slots > 0) {
        measured = measured.max(u128::from(queue).saturating_mul(capacity.saturating_mul(1_000)) / u128::from(slots));
    }
    let rate = (u128::from(reading.rate_millis.unwrap_or(0).min(UNITS_MAX)) * 1_000) << 16;
    (measured >= rate, measured.max(rate))
}

/// Which part of a reading shows the most demand, if any shows some: the one that [`of_reading`] goes by.
pub(super) fn signal_of(stage: &Stage, variant: &Variant, reading: &Reading) -> Option<Signal> {
    let alone = |part: Reading| of_reading(stage, variant, &part).low;
    let silent = Reading {
        running_millis: None,
        waiting_millis: None,
        utilization_permille: None,
        rate_millis: None,
        expected: reading.sampled,
        ..*reading
    };
    let rate = alone(Reading {
        rate_millis: reading.rate_millis,
        ..silent
    });
    let used = alone(Reading {
        utilization_permille: reading.utilization_permille,
        ..silent
    });
    let queue = alone(Reading {
        running_millis: reading.running_millis,
        waiting_millis: reading.waiting_millis,
        ..silent
    });
    let most = rate.max(used).max(queue);
    match most {
        0 => None,
        most if most == rate => Some(Signal::Rate),
        most if most == used => Some(Signal::Utilization),
        _ if reading.waiting_millis.unwrap_or(0) > reading.running_millis.unwrap_or(0) => Some(Signal::Waiting),
        _ => Some(Signal::Running),
    }
}

/// A part of a reading that shows demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Rate,
    Utilization,
    Running,
    Waiting,
}

/// Demand that a saturated variant may hide beyond `shown`, what its reading shows. `waiting_before` is what waited at
/// the reading before.
pub(super) fn hidden(variant: &Variant, reading: &Reading, waiting_before: Option<u64>, shown: u64) -> u64 {
    if !saturated(variant, reading, waiting_before) {
        return 0;
    }
    let busy = u128::from(reading.utilization_permille.unwrap_or(1_000).min(1_000));
    let at_least = u128::from(reading.sampled) * busy * u128::from(capacity(variant)) * AT_LEAST_PERMILLE;
    cut(at_least.div_ceil(1_000_000)).saturating_sub(shown)
}

/// Demand is at least what is seen, and nobody can tell how much more.
pub(super) fn saturated(variant: &Variant, reading: &Reading, waiting_before: Option<u64>) -> bool {
    let Some(waiting) = reading.waiting_millis else {
        return reading
            .utilization_permille
            .is_some_and(|used| used >= SATURATED_PERMILLE);
    };
    // With declared concurrency the queue itself says how much is missing. Without, only that it grows.
    let a_request_each = u64::from(reading.sampled).saturating_mul(1_000);
    variant.concurrency.is_none() && waiting >= a_request_each.max(1) && waiting_before.is_some_and(|was| waiting > was)
}

/// Demand of replicas that should report and do not: nothing is proven, everything is possible.
pub(super) fn of_silence(stage: &Stage, variant: &Variant, ready: u32) -> Range {
    let ready = if seeded(Bug::SilentVariantIsIdle) { 0 } else { ready };
    let full = u128::from(ready) * u128::from(capacity(variant)) * 1_000;
    Range {
        low: 0,
        high: cut(full.div_ceil(u128::from(target(stage)))),
    }
}

/// The demand that is acted on. It follows what is seen only beyond the tolerance and after the windows, so that plans
/// are made for a value that stands still while load jitters.
#[derive(Clone, Debug)]
pub(super) struct Level {
    held: Option<u64>,
    /// What was seen when the level was taken from the replicas that were found; until it moves.
    found: Option<u64>,
    /// A rise beyond noise that is not in `held` yet, and until when it counts.
    rise: Option<(u64, u64)>,
    /// Demand beyond noise over the window of growth.
    lowest_rise: Window,
    lowest: Window,
    highest: Window,
    /// Since when readings have come without a gap.
    fresh_since_ms: Option<u64>,
    /// A lower demand is seen and not yet followed; when the window lets it.
    pub(super) cooling_until_ms: Option<u64>,
    /// A different demand is seen, within the tolerance.
    pub(super) within_tolerance: bool,
    /// When it last fell.
    fell_ms: Option<u64>,
    /// When a rise last took a fall back.
    reversed_ms: Option<u64>,
    /// Times the declared window that the next fall waits for: doubled when a rise takes a fall back, halved once that
    /// is long ago. A window too short for the noise is stretched until it is not.
    patience: u64,
}

impl Level {
    pub(super) fn new() -> Self {
        Self {
            held: None,
            found: None,
            rise: None,
            lowest_rise: Window::new(Extreme::Lowest),
            lowest: Window::new(Extreme::Lowest),
            highest: Window::new(Extreme::Highest),
            fresh_since_ms: None,
            cooling_until_ms: None,
            within_tolerance: false,
            fell_ms: None,
            reversed_ms: None,
            patience: 1,
        }
    }

    /// What is acted on.
    pub(super) fn held(&self) -> Option<u64> {
        self.held.map(|held| held.max(self.rise.map_or(0, |(rise, _)| rise)))
    }

    /// The same without a rise that may be over soon.
    pub(super) fn settled(&self) -> Option<u64> {
        self.held
    }

    /// What was seen when the level was taken from the replicas found after a start, which may be more than that asks for.
    /// Absent once the level has moved.
    pub(super) const fn found(&self) -> Option<u64> {
        self.found
    }

    /// When a rise that is not borne out ends.
    pub(super) fn rise_until_ms(&self) -> Option<u64> {
        self.rise.map(|(_, until_ms)| until_ms)
    }

    /// Units or target changed: earlier values say nothing any more.
    pub(super) fn forget(&mut self) {
        *self = Self::new();
    }

    /// Capacity is another now, and with it all that was measured in it.
    pub(super) fn rescale(&mut self, ratio: Rescale) {
        self.held = self.held.map(|held| ratio.of(held));
        self.found = self.found.map(|found| ratio.of(found));
        self.rise = self.rise.map(|(rise, until_ms)| (ratio.of(rise), until_ms));
        for window in [&mut self.lowest_rise, &mut self.lowest, &mut self.highest] {
            window.scale(|value| ratio.of(value));
        }
    }

    /// No fresh evidence at this time.
    pub(super) fn silence(&mut self) {
        self.fresh_since_ms = None;
        self.lowest_rise.clear();
        self.lowest.clear();
        self.highest.clear();
        self.cooling_until_ms = None;
        self.within_tolerance = false;
    }

    /// Follows what the callers forward while the stage itself is silent: upwards only.
    pub(super) fn rise(&mut self, stage: &Stage, low: u64) {
        let tolerance = u128::from(stage.tolerance_permille.min(1_000));
        let held = self.held.unwrap_or(0);
        if u128::from(low) * 1_000 > u128::from(held) * (1_000 + tolerance) {
            self.held = Some(low);
            self.found = None;
        }
    }

    fn down_window_ms(&self, stage: &Stage) -> u64 {
        let declared_ms = if seeded(Bug::CoolDownIgnored) {
            0
        } else {
            stage.down_window_ms
        };
        declared_ms.saturating_mul(self.patience)
    }

    fn rises_to(&mut self, stage: &Stage, demand: u64, now_ms: u64) {
        let memory_ms = self.down_window_ms(stage).saturating_mul(REVERSAL_WINDOWS);
        if self
            .fell_ms
            .take()
            .is_some_and(|fell_ms| now_ms < fell_ms.saturating_add(memory_ms))
        {
            self.patience = (self.patience * 2).min(PATIENCE_MAX);
            self.reversed_ms = Some(now_ms);
        }
        self.held = Some(demand);
        self.found = None;
    }

    fn falls_to(&mut self, stage: &Stage, demand: u64, now_ms: u64) {
        let memory_ms = self.down_window_ms(stage).saturating_mul(REVERSAL_WINDOWS);
        if self
            .reversed_ms
            .is_some_and(|reversed_ms| now_ms >= reversed_ms.saturating_add(memory_ms))
        {
            self.patience = (self.patience / 2).max(1);
            self.reversed_ms = (self.patience > 1).then_some(now_ms);
        }
        self.fell_ms = Some(now_ms);
        self.held = Some(demand);
        self.found = None;
    }

    /// Follows at once what stands out of the average by more than noise (`outstanding`, else 0). It counts for `lasting_ms`
    /// after it was last `seen`: then it is in the average, or was nothing. To be called after [`Self::follow`].
    pub(super) fn stand_out(&mut self, stage: &Stage, outstanding: u64, seen: u64, lasting_ms: u64, now_ms: u64) {
        let tolerance = u128::from(stage.tolerance_permille.min(1_000));
        let beyond = |value: u64, level: u64| u128::from(value) * 1_000 > u128::from(level) * (1_000 + tolerance);
        let until_ms = now_ms.saturating_add(lasting_ms);
        self.rise = match self.rise {
            Some((rise, _)) if !beyond(rise, seen) => Some((rise, until_ms)),
            rise => rise.filter(|&(_, until_ms)| now_ms < until_ms),
        };
        let outstanding = self.lowest_rise.push(now_ms, stage.up_window_ms, outstanding);
        let steady =
            (self.fresh_since_ms).is_some_and(|since_ms| now_ms.saturating_sub(since_ms) >= stage.up_window_ms);
        if steady && beyond(outstanding, self.held().unwrap_or(0)) {
            self.rise = Some((outstanding, until_ms));
        }
        // What the average has is no longer ahead of it.
        let held = self.held.unwrap_or(0);
        self.rise = self.rise.filter(|&(rise, _)| rise > held);
    }

    /// Follows a fresh demand. `supply` is what the replicas asked for can serve and `grain` the largest of them: after
    /// a restart the level starts where it must have been for these replicas, so that a converged world stays as it is.
    pub(super) fn follow(&mut self, stage: &Stage, seen: Range, supply: u64, grain: u64, now_ms: u64) {
        let tolerance = u64::from(stage.tolerance_permille.min(1_000));
        let since_ms = *self.fresh_since_ms.get_or_insert(now_ms);
        let lowest = self.lowest.push(now_ms, stage.up_window_ms, seen.low);
        let down_window_ms = self.down_window_ms(stage);
        let highest = self.highest.push(now_ms, down_window_ms, seen.high);
        if self.held.is_none() {
            self.found = Some(seen.low);
        }
        let held = *self.held.get_or_insert_with(|| {
            let above = Range {
                low: 0,
                high: seen.high,
            }
            .scaled(1_000 + tolerance, 1_000)
            .high;
            if supply <= above || supply - above >= grain {
                supply
            } else {
                above
            }
        });
        let steady_ms = now_ms.saturating_sub(since_ms);
        let rises = |value: u64| u128::from(value) * 1_000 > u128::from(held) * u128::from(1_000 + tolerance);
        let falls = |value: u64| u128::from(value) * 1_000 < u128::from(held) * u128::from(1_000 - tolerance);
        self.cooling_until_ms = None;
        self.within_tolerance = false;
        if rises(lowest) && steady_ms >= stage.up_window_ms {
            self.rises_to(stage, lowest, now_ms);
        } else if falls(highest) && steady_ms >= down_window_ms {
            self.falls_to(stage, highest, now_ms);
        } else if falls(seen.high) {
            let window_ms = down_window_ms.saturating_add(down_window_ms / 32).saturating_add(1);
            self.cooling_until_ms = Some(now_ms.saturating_add(window_ms));
        } else {
            self.within_tolerance = seen.high.saturating_add(grain) <= held || seen.low > held;
        }
    }
}
