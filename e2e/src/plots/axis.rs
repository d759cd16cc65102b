//! Scales, ticks and how numbers are written.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use super::PlotError;
use crate::report::{decade_ticks, number};

/// How an axis runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scale {
    Linear,
    /// By powers of ten; nothing at or below zero has a place.
    Log,
    /// Like `Log` well beyond this value and linear around zero, for what may be zero or less.
    Symlog(f64),
}

impl Scale {
    fn place(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log => value.ln(),
            Self::Symlog(near) => (value / near).asinh(),
        }
    }
}

/// One axis of a panel.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// What and in which unit.
    pub(super) label: String,
    pub(super) scale: Scale,
    pub(super) low: f64,
    pub(super) high: f64,
    /// Values with a line across and what is written beside it.
    pub(super) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From `low` to `high`, with a tick at each of `ticks`.
    pub(super) fn new(label: &str, scale: Scale, (low, high): (f64, f64), ticks: &[f64]) -> Self {
        Self {
            label: label.to_owned(),
            scale,
            low,
            high,
            ticks: ticks.iter().map(|&value| (value, written(value))).collect(),
        }
    }

    /// By powers of ten, around all of `values`; those at or below zero find no place on it when they are drawn.
    pub(super) fn logarithmic(label: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = values
            .into_iter()
            .filter(|value| *value > 0.0)
            .fold((f64::INFINITY, 0.0), |(low, high), value| {
                (f64::min(low, value), f64::max(high, value))
            });
        let ticks = if low.is_finite() && high.is_finite() {
            decade_ticks(low, high.max(low * 10.0))
        } else {
            vec![1.0, 10.0]
        };
        let ends = (ticks.first(), ticks.last());
        let ends = (ends.0.copied().unwrap_or(1.0), ends.1.copied().unwrap_or(10.0));
        Self::new(label, Scale::Log, ends, &ticks)
    }

    /// `Scale::Symlog` around zero and all of `values`, with ticks at zero and at powers of ten from `near` on.
    pub(super) fn around_zero(label: &str, near: f64, values: impl IntoIterator<Item = f64>) -> Self {
        let (least, most) = values
            .into_iter()
            .fold((0.0, near * 10.0), |(low, high): (f64, f64), value| {
                (low.min(value), high.max(value))
            });
        let beyond = |end: f64| powers(near.log10().round(), end.max(near).log10().ceil());
        let mut ticks = Vec::new();
        if least < 0.0 {
            ticks.extend(beyond(-least).into_iter().rev().map(|value| -value));
        }
        ticks.push(0.0);
        ticks.extend(beyond(most));
        let ends = (ticks.first(), ticks.last());
        let ends = (ends.0.copied().unwrap_or(0.0), ends.1.copied().unwrap_or(1.0));
        Self::new(label, Scale::Symlog(near), ends, &ticks)
    }

    /// From zero to a round number above all of `values`.
    pub(super) fn from_zero(label: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let most = values.into_iter().fold(0.0, f64::max);
        let power = 10_f64.powf((most.max(1e-9) / 5.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|step| step * power)
            .into_iter()
            .find(|step| most / step <= 6.0);
        let step = step.unwrap_or(10.0 * power);
        let last = whole((most / step).ceil()).max(1);
        let ticks: Vec<f64> = (0..=last).map(|at| f64::from(at) * step).collect();
        let high = ticks.last().copied().unwrap_or(step);
        Self::new(label, Scale::Linear, (0.0, high), &ticks)
    }

    /// A name at each whole number from 0 on, from top to bottom or left to right.
    pub(super) fn names(label: &str, names: Vec<String>) -> Self {
        let ticks: Vec<(f64, String)> = (0_u32..).map(f64::from).zip(names).collect();
        let last = ticks.last().map_or(0.0, |&(at, _)| at);
        Self {
            label: label.to_owned(),
            scale: Scale::Linear,
            // Downwards, as one reads.
            low: last + 0.5,
            high: -0.5,
            ticks,
        }
    }

    /// Which part of the axis lies before `value`; an error if it is outside, or no number.
    pub(super) fn share(&self, series: &str, value: f64) -> Result<f64, PlotError> {
        let (low, high) = (self.scale.place(self.low), self.scale.place(self.high));
        let share = (self.scale.place(value) - low) / (high - low);
        // Rounding may put the ends themselves beyond by a hair.
        if share.is_finite() && (-1e-9..=1.0 + 1e-9).contains(&share) {
            return Ok(share);
        }
        Err(PlotError::Outside {
            series: series.to_owned(),
            value,
            axis: self.label.clone(),
            low: self.low,
            high: self.high,
        })
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let share = self.share("", *value).unwrap_or_default();
        from + whole(share * f64::from(to - from))
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.iter().map(|&(value, _)| value).collect()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        let tick = self.ticks.iter().find(|(at, _)| at.total_cmp(value).is_eq());
        tick.map(|(_, text)| text.clone()).unwrap_or_default()
    }
}

/// To units of the picture.
pub(super) fn whole(value: f64) -> i32 {
    #[expect(clippy::cast_possible_truncation, reason = "saturates far beyond any picture")]
    let whole = value.round() as i32;
    whole
}

fn powers(from: f64, to: f64) -> Vec<f64> {
    (whole(from)..=whole(to)).map(|power| 10_f64.powi(power)).collect()
}

/// As many digits as it needs, thousands grouped.
pub(super) fn written(value: f64) -> String {
    if value != 0.0 && value.abs() < 1.0 {
        // Powers of ten are not exact: no more digits than it was meant to have.
        let text = format!("{value:.6}");
        text.trim_end_matches('0').replace('-', "\u{2212}")
    } else {
        number(value)
    }
}
