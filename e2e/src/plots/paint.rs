//! Pictures drawn.

use std::error::Error;

use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::PlotError;
use super::axis::{Axis, whole};
use super::picture::{GREY, INK, Line, Mark, Panel, Picture, Series, Style, Words};

/// Width at which pages show a picture, pixels.
const WIDTH: f64 = 760.0;
/// Units per pixel: plotters draws on whole units.
const UNITS: f64 = 2.0;
const TITLE: f64 = 16.0;
const TEXT: f64 = 13.0;
const SMALL: f64 = 12.0;
const ROW: f64 = 21.0;
const EDGE: f64 = 10.0;
/// Mean width of a character, in heights of the text.
const CHARACTER: f64 = 0.56;
const PALE: RGBColor = RGBColor(222, 222, 222);
const BAND: RGBColor = RGBColor(244, 244, 244);

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;
type At = (i32, i32);

/// The picture as SVG, with a background of its own; an error if a value would be drawn outside its axes.
pub(super) fn svg(picture: &Picture) -> Result<String, PlotError> {
    for panel in &picture.panels {
        panel.check()?;
    }
    let placed = legend(picture);
    let head = EDGE + 24.0 + placed.last().map_or(0.0, |last| last.1 + ROW) + 4.0;
    let columns = picture.columns.max(1);
    let rows = picture.panels.len().div_ceil(columns);
    let foot = SMALL * 1.4 * float(picture.footer.len()) + EDGE + 6.0;
    let height = head + picture.height * float(rows) + foot;
    let mut text = String::new();
    {
        let size = (units(WIDTH).unsigned_abs(), units(height).unsigned_abs());
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        root.fill(&WHITE).map_err(drawing)?;
        let left = units(EDGE);
        write(&root, &picture.title, (left, units(EDGE + 8.0)), TITLE, HPos::Left, INK)?;
        for ((style, name), (x, y)) in picture.legend.iter().zip(&placed) {
            let (from, level) = (units(EDGE + x), units(EDGE + 35.0 + y));
            let to = from + units(26.0);
            draw_line(&root, &[(from, level), (to, level)], *style)?;
            draw_mark(&root, (i32::midpoint(from, to), level), *style)?;
            write(&root, name, (to + units(6.0), level), TEXT, HPos::Left, INK)?;
        }
        let width = (WIDTH - EDGE) / float(columns);
        for (at, panel) in picture.panels.iter().enumerate() {
            let corner = (
                units(width * float(at % columns)),
                units(head + picture.height * float(at / columns)),
            );
            let area = root.clone().shrink(corner, (units(width), units(picture.height)));
            draw_panel(&root, &area, panel)?;
        }
        for (at, line) in picture.footer.iter().enumerate() {
            let y = units(height - foot + 6.0 + SMALL * (0.7 + 1.4 * float(at)));
            write(&root, line, (left, y), SMALL, HPos::Left, GREY)?;
        }
        root.present().map_err(drawing)?;
    }
    Ok(text)
}

/// Where the entries of the legend start, in rows from left to right.
fn legend(picture: &Picture) -> Vec<(f64, f64)> {
    let (mut x, mut y) = (0.0, 0.0);
    let mut placed = Vec::new();
    for (_, name) in &picture.legend {
        let width = 50.0 + TEXT * CHARACTER * float(name.chars().count());
        if x > 0.0 && x + width > WIDTH - 2.0 * EDGE {
            (x, y) = (0.0, y + ROW);
        }
        placed.push((x, y));
        x += width;
    }
    placed
}

fn draw_panel(root: &Canvas<'_>, area: &Canvas<'_>, panel: &Panel) -> Result<(), PlotError> {
    let mut chart = ChartBuilder::on(area)
        .margin_top(units(28.0))
        .margin_right(units(16.0))
        .margin_left(units(EDGE))
        .x_label_area_size(units(44.0))
        .y_label_area_size(units(panel.left))
        .build_cartesian_2d(panel.x.clone(), panel.y.clone())
        .map_err(drawing)?;
    for &(at, _) in panel.y.ticks.iter().step_by(2).filter(|_| panel.banded) {
        let corners = [(panel.x.low, at - 0.5), (panel.x.high, at + 0.5)].map(|corner| chart.backend_coord(&corner));
        root.draw(&Rectangle::new(corners, BAND.filled())).map_err(drawing)?;
    }
    let mut mesh = chart.configure_mesh();
    if panel.banded {
        mesh.disable_y_mesh();
    }
    mesh.bold_line_style(PALE.stroke_width(2))
        .light_line_style(TRANSPARENT)
        .axis_style(GREY.stroke_width(2))
        .label_style(font(TEXT, INK))
        .axis_desc_style(font(TEXT, INK))
        .set_all_tick_mark_size(units(4.0))
        .x_desc(&panel.x.label)
        .y_desc(&panel.y.label)
        .draw()
        .map_err(drawing)?;
    let corner = chart.backend_coord(&(panel.x.low, panel.y.high));
    write(
        root,
        &panel.title,
        (corner.0, corner.1 - units(12.0)),
        TEXT + 1.0,
        HPos::Left,
        INK,
    )?;
    for &value in &panel.rules {
        let ends = [(panel.x.low, value), (panel.x.high, value)].map(|end| chart.backend_coord(&end));
        draw_line(root, &ends, Style::new(INK, Mark::None, Line::Dotted))?;
    }
    for series in &panel.series {
        draw_series(root, &chart, series)?;
    }
    for words in &panel.words {
        draw_words(root, chart.backend_coord(&words.at), words)?;
    }
    Ok(())
}

fn draw_series(root: &Canvas<'_>, chart: &Chart<'_, '_>, series: &Series) -> Result<(), PlotError> {
    for &(x, least, most) in &series.spread {
        let ends = [(x, least), (x, most)].map(|end| chart.backend_coord(&end));
        let bar = PathElement::new(ends.to_vec(), series.style.colour.stroke_width(3));
        root.draw(&bar).map_err(drawing)?;
    }
    let mut points: Vec<At> = series.points.iter().map(|point| chart.backend_coord(point)).collect();
    if series.style.mark == Mark::Speck {
        // There are thousands, many in the same place.
        points.sort_unstable();
        points.dedup();
    }
    draw_line(root, &points, series.style)?;
    points.iter().try_for_each(|&at| draw_mark(root, at, series.style))
}

fn draw_line(root: &Canvas<'_>, points: &[At], style: Style) -> Result<(), PlotError> {
    let stroke = style.colour.stroke_width(4);
    let gaps = match style.line {
        Line::None => return Ok(()),
        Line::Solid => {
            let line = PathElement::new(points.to_vec(), stroke);
            return root.draw(&line).map_err(drawing);
        }
        Line::Dashed => (14, 8),
        Line::Dotted => (4, 6),
    };
    let line = DashedPathElement::new(points.iter().copied(), gaps.0, gaps.1, stroke);
    root.draw(&line).map_err(drawing)
}

fn draw_mark(root: &Canvas<'_>, (x, y): At, style: Style) -> Result<(), PlotError> {
    let full = style.colour.filled();
    let stroke = style.colour.stroke_width(4);
    let shape = |points: &[At]| Polygon::new(points.iter().map(|(a, b)| (x + a, y + b)).collect::<Vec<_>>(), full);
    let line = |from: At, to: At| PathElement::new(vec![(x + from.0, y + from.1), (x + to.0, y + to.1)], stroke);
    let drawn = match style.mark {
        Mark::None => Ok(()),
        Mark::Speck => root.draw(&Circle::new((x, y), 4, style.colour.mix(0.45).filled())),
        Mark::Dot => root.draw(&Circle::new((x, y), 8, full)),
        Mark::Ring => root
            .draw(&Circle::new((x, y), 8, WHITE.filled()))
            .and_then(|()| root.draw(&Circle::new((x, y), 8, stroke))),
        Mark::Square => root.draw(&shape(&[(-7, -7), (7, -7), (7, 7), (-7, 7)])),
        Mark::Diamond => root.draw(&shape(&[(0, -11), (11, 0), (0, 11), (-11, 0)])),
        Mark::Triangle => root.draw(&shape(&[(0, -10), (10, 8), (-10, 8)])),
        Mark::Cross => root
            .draw(&line((-8, -8), (8, 8)))
            .and_then(|()| root.draw(&line((-8, 8), (8, -8)))),
        Mark::Dash => root.draw(&line((-14, 0), (14, 0))),
    };
    drawn.map_err(drawing)
}

/// On white, so that no line runs through them.
fn draw_words(root: &Canvas<'_>, (x, y): At, words: &Words) -> Result<(), PlotError> {
    let (end, half) = (x - units(9.0), units(SMALL * 0.6));
    let start = end - units(SMALL * CHARACTER * float(words.text.chars().count()));
    let behind = Rectangle::new([(start, y - half), (end, y + half)], WHITE.filled());
    root.draw(&behind).map_err(drawing)?;
    write(root, &words.text, (end, y), SMALL, HPos::Right, INK)
}

/// One line of text, its middle at `at`.
fn write(root: &Canvas<'_>, text: &str, at: At, size: f64, to: HPos, colour: RGBColor) -> Result<(), PlotError> {
    let style = font(size, colour).pos(Pos::new(to, VPos::Center));
    root.draw(&Text::new(text.to_owned(), at, style)).map_err(drawing)
}

fn font<'a>(size: f64, colour: RGBColor) -> TextStyle<'a> {
    // plotters means the height of a line, 1.24 times what SVG calls the size.
    ("sans-serif", size * UNITS * 1.24).into_font().color(&colour)
}

fn units(pixels: f64) -> i32 {
    whole(pixels * UNITS)
}

fn float(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn drawing<E: Error + Send + Sync>(error: DrawingAreaErrorKind<E>) -> PlotError {
    PlotError::Drawing(error.to_string())
}
