//! Pictures of what the benchmarks measured, as SVG: `target/bench/<id>.json` in, `docs/images/bench-<what>.svg` out.
//!
//! | module | what it is |
//! | --- | --- |
//! | `figures` | a bench's file, read field by field; what is missing is named |
//! | `axis` | scales, ticks and how numbers are written |
//! | `picture`, `paint` | panels of lines, marks and words as data, and drawn |
//! | `b1` to `b8` | one bench each: its figures to pictures |
//!
//! A picture is drawn whole or not at all: a value that its axes have no place for is an error.

mod axis;
mod b1;
mod b3;
mod b5;
mod b7;
mod b8;
mod figures;
mod paint;
mod picture;

use std::path::{Path, PathBuf};

use figures::Figures;
use picture::Picture;

/// Why a picture is not drawn.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is not JSON.
    #[error("target/bench/{id}.json is not JSON ({source}): run `make bench BENCH={id}` again")]
    Json {
        /// Which bench wrote it.
        id: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A file lacks a field, or has something else there.
    #[error("target/bench/{id}.json: {field} is {found}, not {wanted}: run `make bench BENCH={id}` again")]
    Field {
        /// Which bench wrote it.
        id: String,
        /// Where, as a JSON pointer.
        field: String,
        /// What is there.
        found: String,
        /// What should be.
        wanted: &'static str,
    },
    /// A value has no place on an axis.
    #[error("{series} at {value} has no place on the axis {axis:?}, which runs from {low} to {high}")]
    Outside {
        /// Whose value.
        series: String,
        /// The value.
        value: f64,
        /// The axis, as it is labelled.
        axis: String,
        /// Where the axis starts.
        low: f64,
        /// Where it ends.
        high: f64,
    },
    /// The picture cannot be put together.
    #[error("cannot draw: {0}")]
    Drawing(String),
}

type Draw = fn(&Figures) -> Result<Picture, PlotError>;

/// What is drawn: the bench, the picture's name, and from figures to a picture.
const PICTURES: [(&str, &str, Draw); 6] = [
    ("b1", "bench-b1-sweep", b1::sweep),
    ("b3", "bench-b3-time", b3::time),
    ("b3", "bench-b3-cost", b3::cost),
    ("b5", "bench-b5-frontier", b5::frontier),
    ("b7", "bench-b7-step", b7::step),
    ("b8", "bench-b8-size", b8::size),
];

/// What came of one picture.
#[derive(Debug)]
pub enum Drawn {
    /// It was written.
    Written(PathBuf),
    /// Its bench has not been run here; what there was is as it was.
    NotMeasured {
        /// Which bench.
        bench: &'static str,
        /// The picture's name, without `.svg`.
        picture: &'static str,
    },
    /// Its figures cannot be drawn; what there was is as it was.
    Failed {
        /// The picture's name, without `.svg`.
        picture: &'static str,
        /// Why.
        error: PlotError,
    },
}

/// Draws every picture whose figures are in `bench` into `images`. What goes wrong with one keeps no other from being drawn.
pub fn draw(bench: &Path, images: &Path) -> Vec<Drawn> {
    let one = |(id, picture, draw): (&'static str, &'static str, Draw)| {
        let written = Figures::read(bench, id).and_then(|figures| {
            let Some(figures) = figures else {
                return Ok(Drawn::NotMeasured { bench: id, picture });
            };
            let svg = paint::svg(&draw(&figures)?)?;
            let path = images.join(format!("{picture}.svg"));
            match std::fs::write(&path, svg) {
                Ok(()) => Ok(Drawn::Written(path)),
                Err(source) => Err(PlotError::File { path, source }),
            }
        });
        written.unwrap_or_else(|error| Drawn::Failed { picture, error })
    };
    PICTURES.map(one).into()
}

#[cfg(test)]
mod tests;
