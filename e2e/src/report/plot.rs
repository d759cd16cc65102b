//! Plots over time as inline SVG: lines and stacked areas with axes, units, a legend and marks.
//!
//! Colours are CSS classes, so that the page decides them for light and dark.

use std::fmt::Write as _;

use super::axis::{clock, decade_ticks, escape, number, ticks, time_step};

/// How the vertical axis runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    /// From zero.
    Linear,
    /// By powers of ten.
    Logarithmic,
}

/// How values between two times are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Straight lines.
    Line,
    /// A value holds until the next one.
    Step,
}

/// One series of a plot.
#[derive(Clone, Debug)]
pub(super) struct Curve {
    pub(super) label: String,
    /// CSS class that gives its colour.
    pub(super) class: String,
    /// One value per time; a missing one leaves a gap.
    pub(super) values: Vec<Option<f64>>,
    pub(super) shape: Shape,
    pub(super) dashed: bool,
    /// Filled down to zero, or to the curve below when stacked.
    pub(super) filled: bool,
}

/// A vertical line at a time.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub(super) t_s: f64,
    pub(super) number: usize,
    pub(super) label: String,
}

/// One plot.
#[derive(Clone, Debug)]
pub(super) struct Plot<'a> {
    pub(super) title: String,
    pub(super) unit: String,
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) scale: Scale,
    pub(super) stacked: bool,
    /// Whether values between whole numbers mean nothing.
    pub(super) whole: bool,
    pub(super) times: &'a [f64],
    /// First and last time of the axis, seconds.
    pub(super) span: (f64, f64),
    pub(super) curves: Vec<Curve>,
    pub(super) marks: &'a [Mark],
    /// Whether marks carry their words, or their number only.
    pub(super) worded: bool,
}

const LEFT: f64 = 46.0;
const RIGHT: f64 = 14.0;
const BOTTOM: f64 = 24.0;
/// Width of a character of the marks' words, roughly.
const CHARACTER: f64 = 6.0;
const LANE: f64 = 17.0;

/// Where things are inside the picture.
struct Frame {
    top: f64,
    bottom: f64,
    left: f64,
    right: f64,
    span: (f64, f64),
    low: f64,
    high: f64,
    scale: Scale,
}

impl Frame {
    fn x(&self, t_s: f64) -> f64 {
        let share = (t_s - self.span.0) / (self.span.1 - self.span.0).max(1e-9);
        self.left + share.clamp(0.0, 1.0) * (self.right - self.left)
    }

    fn y(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Logarithmic => (value.max(self.low) / self.low).ln() / (self.high / self.low).ln(),
        };
        self.bottom - share.clamp(0.0, 1.0) * (self.bottom - self.top)
    }
}

impl Plot<'_> {
    /// The picture, and what a script needs to show values under the pointer.
    pub(super) fn svg(&self) -> String {
        let placed = self.place_marks();
        let lanes = placed.iter().map(|p| p.lane + 1).max().unwrap_or(0);
        let curves = if self.stacked {
            stack(&self.curves)
        } else {
            self.curves.clone()
        };
        #[allow(clippy::cast_precision_loss)] // a handful of lanes
        let top = 22.0 + LANE * lanes as f64;
        let (low, high) = self.range(&curves);
        let frame = Frame {
            top,
            bottom: self.height + top - BOTTOM - 22.0,
            left: LEFT,
            right: self.width - RIGHT,
            span: self.span,
            low,
            high,
            scale: self.scale,
        };
        let mut svg = String::new();
        let (width, height) = (self.width, frame.bottom + BOTTOM);
        let title = escape(&self.title);
        let _ = write!(
            svg,
            "<svg viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"{title}\" data-left=\"{:.1}\" data-right=\"{:.1}\" \
             data-top=\"{:.1}\" data-bottom=\"{:.1}\">",
            frame.left, frame.right, frame.top, frame.bottom
        );
        let _ = write!(
            svg,
            "<text class=\"title\" x=\"2\" y=\"12\">{title} <tspan class=\"unit\">{}</tspan></text>",
            escape(&self.unit)
        );
        self.axes(&mut svg, &frame);
        if self.stacked {
            // From the top, so that the edges of what is below stay visible.
            for (index, curve) in curves.iter().enumerate().rev() {
                self.curve(
                    &mut svg,
                    &frame,
                    curve,
                    index.checked_sub(1).and_then(|below| curves.get(below)),
                );
            }
        } else {
            for curve in &curves {
                self.curve(&mut svg, &frame, curve, None);
            }
        }
        for mark in &placed {
            mark.draw(&mut svg, &frame, self.worded);
        }
        svg.push_str("<line class=\"cross\" hidden=\"\"/></svg>");
        let _ = write!(svg, "<script type=\"application/json\">{}</script>", self.data());
        svg
    }

    /// Every curve's colour and name.
    pub(super) fn legend(&self) -> String {
        let mut html = String::from("<p class=\"legend\">");
        for curve in &self.curves {
            let dashed = if curve.dashed { " dashed" } else { "" };
            let _ = write!(
                html,
                "<span><i class=\"{}{dashed}\"></i>{}</span>",
                curve.class,
                escape(&curve.label)
            );
        }
        html + "</p>"
    }

    fn range(&self, curves: &[Curve]) -> (f64, f64) {
        let values = || {
            curves
                .iter()
                .flat_map(|c| c.values.iter().flatten().copied())
                .filter(|v| v.is_finite())
        };
        let most = values().fold(0.0, f64::max);
        match self.scale {
            Scale::Linear => (0.0, self.ticks(most).last().copied().unwrap_or(1.0)),
            Scale::Logarithmic => {
                let least = values()
                    .filter(|v| *v > 0.0)
                    .fold(f64::INFINITY, f64::min)
                    .min(most.max(1.0));
                let ticks = decade_ticks(least, most.max(least * 10.0));
                (
                    ticks.first().copied().unwrap_or(1.0),
                    ticks.last().copied().unwrap_or(10.0),
                )
            }
        }
    }

    fn ticks(&self, most: f64) -> Vec<f64> {
        ticks(if self.whole { most.max(4.0) } else { most })
    }

    fn axes(&self, svg: &mut String, frame: &Frame) {
        let values = match self.scale {
            Scale::Linear => self.ticks(frame.high),
            Scale::Logarithmic => decade_ticks(frame.low, frame.high),
        };
        for value in values {
            let y = frame.y(value);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"tick\" text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                frame.left,
                frame.right,
                frame.left - 6.0,
                y + 3.5,
                number(value)
            );
        }
        let step = time_step(frame.span.1 - frame.span.0, (frame.right - frame.left) / 60.0);
        let mut t_s = (frame.span.0 / step).ceil() * step;
        while t_s <= frame.span.1 + 1e-9 {
            let x = frame.x(t_s);
            let _ = write!(
                svg,
                "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\
                 <text class=\"tick\" text-anchor=\"middle\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
                frame.bottom,
                frame.bottom + 4.0,
                frame.bottom + 16.0,
                clock(t_s)
            );
            t_s += step;
        }
        let _ = write!(
            svg,
            "<line class=\"axis\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
            frame.left,
            frame.right,
            y = frame.bottom
        );
    }

    fn curve(&self, svg: &mut String, frame: &Frame, curve: &Curve, below: Option<&Curve>) {
        let points: Vec<Option<(f64, f64)>> = self
            .times
            .iter()
            .zip(&curve.values)
            .map(|(t, v)| v.filter(|v| v.is_finite()).map(|v| (frame.x(*t), frame.y(v))))
            .collect();
        let floor: Vec<f64> = match below {
            Some(below) => below.values.iter().map(|v| frame.y(v.unwrap_or(0.0))).collect(),
            None => vec![frame.bottom; points.len()],
        };
        let indexed: Vec<(usize, Option<(f64, f64)>)> = points.into_iter().enumerate().collect();
        for run in indexed.split(|(_, p)| p.is_none()) {
            let run: Vec<(usize, (f64, f64))> = run.iter().filter_map(|(i, p)| Some((*i, (*p)?))).collect();
            let top: Vec<(f64, f64)> = run.iter().map(|(_, p)| *p).collect();
            if top.is_empty() {
                continue;
            }
            let line = path(&top, curve.shape);
            if curve.filled {
                let base: Vec<(f64, f64)> = run
                    .iter()
                    .filter_map(|(i, (x, _))| Some((*x, *floor.get(*i)?)))
                    .collect();
                // A step's lower edge runs backwards: what held from the left is drawn first from the right.
                let back = path_back(&base, curve.shape);
                let _ = write!(svg, "<path class=\"area {}\" d=\"M{line}L{back}Z\"/>", curve.class);
            }
            let dashed = if curve.dashed { " dashed" } else { "" };
            let _ = write!(svg, "<path class=\"line {}{dashed}\" d=\"M{line}\"/>", curve.class);
        }
    }

    fn place_marks(&self) -> Vec<Placed<'_>> {
        let (left, right) = (LEFT, self.width - RIGHT);
        let mut lanes: Vec<f64> = Vec::new();
        let mut placed = Vec::with_capacity(self.marks.len());
        let mut marks: Vec<&Mark> = self.marks.iter().collect();
        marks.sort_by(|a, b| a.t_s.total_cmp(&b.t_s));
        for mark in marks {
            let share = ((mark.t_s - self.span.0) / (self.span.1 - self.span.0).max(1e-9)).clamp(0.0, 1.0);
            let x = left + share * (right - left);
            #[allow(clippy::cast_precision_loss)] // short words
            let words = if self.worded {
                8.0 + CHARACTER * mark.label.chars().count() as f64
            } else {
                0.0
            };
            let leftward = x + 9.0 + words > self.width;
            let (from, to) = if leftward {
                (x - 9.0 - words, x + 9.0)
            } else {
                (x - 9.0, x + 9.0 + words)
            };
            let lane = lanes.iter().position(|end| *end <= from).unwrap_or(lanes.len());
            match lanes.get_mut(lane) {
                Some(end) => *end = to,
                None => lanes.push(to),
            }
            placed.push(Placed {
                mark,
                x,
                lane,
                leftward,
            });
        }
        placed
    }

    /// What the script reads: times, and per curve its name, class and values.
    fn data(&self) -> String {
        let round = |v: f64| (v * 1e3).round() / 1e3;
        let curves: Vec<serde_json::Value> = self
            .curves
            .iter()
            .map(|c| {
                let values: Vec<Option<f64>> = c
                    .values
                    .iter()
                    .map(|v| v.filter(|v| v.is_finite()).map(round))
                    .collect();
                serde_json::json!({"label": c.label, "class": c.class, "values": values})
            })
            .collect();
        let times: Vec<f64> = self.times.iter().map(|t| round(*t)).collect();
        let span = [round(self.span.0), round(self.span.1)];
        let data = serde_json::json!({"unit": self.unit, "span": span, "times": times, "curves": curves});
        // `</script>` inside a name would end the element.
        data.to_string().replace("</", "<\\/")
    }
}

struct Placed<'a> {
    mark: &'a Mark,
    x: f64,
    lane: usize,
    leftward: bool,
}

impl Placed<'_> {
    fn draw(&self, svg: &mut String, frame: &Frame, worded: bool) {
        #[allow(clippy::cast_precision_loss)] // a handful of lanes
        let y = 26.0 + LANE * self.lane as f64;
        let x = self.x;
        let label = escape(&self.mark.label);
        let _ = write!(
            svg,
            "<g class=\"mark\"><title>{} {label}</title><line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{y:.1}\" y2=\"{:.1}\"/>\
             <circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"7\"/><text class=\"digit\" text-anchor=\"middle\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
            clock(self.mark.t_s),
            frame.bottom,
            y + 3.3,
            self.mark.number
        );
        if worded {
            let (anchor, shift) = if self.leftward { ("end", -11.0) } else { ("start", 11.0) };
            let _ = write!(
                svg,
                "<text text-anchor=\"{anchor}\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
                x + shift,
                y + 3.8
            );
        }
        svg.push_str("</g>");
    }
}

/// Each curve on top of the ones before it; what is missing counts as nothing on top.
fn stack(curves: &[Curve]) -> Vec<Curve> {
    let mut sums: Vec<f64> = Vec::new();
    let mut stacked = curves.to_vec();
    for curve in &mut stacked {
        sums.resize(sums.len().max(curve.values.len()), 0.0);
        for (value, sum) in curve.values.iter_mut().zip(&mut sums) {
            *sum += value.unwrap_or(0.0);
            *value = Some(*sum);
        }
    }
    stacked
}

fn path(points: &[(f64, f64)], shape: Shape) -> String {
    let mut d = String::new();
    let mut last: Option<f64> = None;
    for (x, y) in points {
        let _ = match (last, shape) {
            (None, _) => write!(d, "{x:.1} {y:.1}"),
            (Some(_), Shape::Line) => write!(d, "L{x:.1} {y:.1}"),
            (Some(held), Shape::Step) if (held - *y).abs() < 0.05 => write!(d, "H{x:.1}"),
            (Some(_), Shape::Step) => write!(d, "H{x:.1}V{y:.1}"),
        };
        last = Some(*y);
    }
    d
}

fn path_back(points: &[(f64, f64)], shape: Shape) -> String {
    let mut d = String::new();
    for (index, (x, y)) in points.iter().enumerate().rev() {
        let _ = match (index + 1 == points.len(), shape) {
            (true, _) => write!(d, "{x:.1} {y:.1}"),
            (false, Shape::Line) => write!(d, "L{x:.1} {y:.1}"),
            (false, Shape::Step) => write!(d, "V{y:.1}H{x:.1}"),
        };
    }
    d
}
