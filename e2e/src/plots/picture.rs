//! Panels of lines, marks and words as data.

use plotters::style::RGBColor;

use super::PlotError;
use super::axis::Axis;

// Okabe and Ito's colours, which stay apart for the colour-blind. One name has one colour in all pictures.
pub(super) const TIERCEL: RGBColor = RGBColor(0, 114, 178);
pub(super) const HPA: RGBColor = RGBColor(230, 159, 0);
pub(super) const KEDA: RGBColor = RGBColor(0, 158, 115);
pub(super) const VERMILLION: RGBColor = RGBColor(213, 94, 0);
pub(super) const SKY: RGBColor = RGBColor(86, 180, 233);
pub(super) const PURPLE: RGBColor = RGBColor(204, 121, 167);
pub(super) const GREY: RGBColor = RGBColor(125, 125, 125);
pub(super) const INK: RGBColor = RGBColor(34, 34, 34);

/// What stands at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    None,
    /// Small and faint, for many.
    Speck,
    Dot,
    Ring,
    Square,
    Diamond,
    Triangle,
    Cross,
    /// A short level line.
    Dash,
}

/// What joins the points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    None,
    Solid,
    Dashed,
    Dotted,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub(super) colour: RGBColor,
    pub(super) mark: Mark,
    pub(super) line: Line,
}

impl Style {
    pub(super) const fn new(colour: RGBColor, mark: Mark, line: Line) -> Self {
        Self { colour, mark, line }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) style: Style,
    /// In the order in which they are joined.
    pub(super) points: Vec<(f64, f64)>,
    /// Upright bars from least to most: x, then both.
    pub(super) spread: Vec<(f64, f64, f64)>,
}

/// Words that end left of a point.
#[derive(Clone, Debug)]
pub(super) struct Words {
    pub(super) at: (f64, f64),
    pub(super) text: String,
}

#[derive(Clone, Debug)]
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    /// Room for what is written beside the upright axis, pixels.
    pub(super) left: f64,
    pub(super) series: Vec<Series>,
    /// Values of the upright axis that are marked right across.
    pub(super) rules: Vec<f64>,
    /// Whether every other row is shaded, where the upright axis has names.
    pub(super) banded: bool,
    pub(super) words: Vec<Words>,
}

#[derive(Clone, Debug)]
pub(super) struct Picture {
    pub(super) title: String,
    pub(super) legend: Vec<(Style, String)>,
    pub(super) panels: Vec<Panel>,
    pub(super) columns: usize,
    /// Of one panel, pixels.
    pub(super) height: f64,
    /// Below everything: what is not in the picture, and where the figures come from.
    pub(super) footer: Vec<String>,
}

impl Series {
    pub(super) fn new(name: impl Into<String>, style: Style, points: Vec<(f64, f64)>) -> Self {
        Self {
            name: name.into(),
            style,
            points,
            spread: Vec::new(),
        }
    }
}

impl Words {
    pub(super) fn new(at: (f64, f64), text: impl Into<String>) -> Self {
        Self { at, text: text.into() }
    }
}

impl Panel {
    pub(super) fn new(title: impl Into<String>, x: Axis, y: Axis, series: Vec<Series>) -> Self {
        Self {
            title: title.into(),
            x,
            y,
            left: 62.0,
            series,
            rules: Vec::new(),
            banded: false,
            words: Vec::new(),
        }
    }

    /// An error for whatever would be drawn outside the axes.
    pub(super) fn check(&self) -> Result<(), PlotError> {
        for series in &self.series {
            for &(x, y) in &series.points {
                self.x.share(&series.name, x)?;
                self.y.share(&series.name, y)?;
            }
            for &(x, least, most) in &series.spread {
                self.x.share(&series.name, x)?;
                self.y.share(&series.name, least)?;
                self.y.share(&series.name, most)?;
            }
        }
        for &rule in &self.rules {
            self.y.share("a marked value", rule)?;
        }
        for words in &self.words {
            self.x.share(&words.text, words.at.0)?;
            self.y.share(&words.text, words.at.1)?;
        }
        Ok(())
    }
}
