//! Aligned columns in tones, for a terminal of some width or none.

use super::{Style, Tone};

/// Spaces between columns.
const GAP: usize = 2;
/// Narrowest last column that is worth showing.
const LAST_MIN: usize = 12;

/// One cell: parts in tones, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell(Vec<(Tone, String)>);

impl Cell {
    /// One part.
    pub fn toned(tone: Tone, text: impl Into<String>) -> Self {
        Self(vec![(tone, text.into())])
    }

    /// One plain part.
    pub fn plain(text: impl Into<String>) -> Self {
        Self::toned(Tone::Plain, text)
    }

    /// One more part.
    #[must_use]
    pub fn and(mut self, tone: Tone, text: impl Into<String>) -> Self {
        self.0.push((tone, text.into()));
        self
    }

    /// Columns that it takes.
    pub fn length(&self) -> usize {
        self.0.iter().map(|(_, text)| text.chars().count()).sum()
    }

    /// Its parts.
    pub fn parts(&self) -> impl Iterator<Item = (Tone, &str)> {
        self.0.iter().map(|(tone, text)| (*tone, text.as_str()))
    }

    fn painted(&self, style: Style) -> String {
        self.0.iter().map(|(tone, text)| style.paint(*tone, text)).collect()
    }

    /// The first columns of it; the last of them says that there was more.
    fn cut(&self, columns: usize, style: Style) -> Self {
        if self.length() <= columns {
            return self.clone();
        }
        let more = if style.unicode { "…" } else { "~" };
        let mut left = columns.saturating_sub(1);
        let mut cut = Vec::new();
        for (tone, text) in &self.0 {
            let part: String = text.chars().take(left).collect();
            left -= part.chars().count();
            cut.push((*tone, part));
        }
        cut.push((Tone::Quiet, more.to_owned()));
        Self(cut)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::plain(text)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::plain(text)
    }
}

/// One line of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row(pub Vec<Cell>);

/// A table: titles, which of them stand right, and lines.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Titles of the columns.
    pub titles: Vec<&'static str>,
    /// Columns of numbers.
    pub right: Vec<usize>,
    /// Lines.
    pub rows: Vec<Row>,
}

impl Layout {
    /// Columns that each needs for its widest cell.
    pub fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.titles.iter().map(|title| title.chars().count()).collect();
        for Row(cells) in &self.rows {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.length());
            }
        }
        widths
    }

    /// Lines under a line of titles. In a terminal the last column is cut to what is left.
    pub fn lines(&self, style: Style) -> Vec<String> {
        let widths = self.widths();
        let titles = Row(self
            .titles
            .iter()
            .map(|title| Cell::toned(Tone::Quiet, *title))
            .collect());
        let rows = std::iter::once(&titles).chain(&self.rows);
        rows.map(|row| self.line(row, &widths, style)).collect()
    }

    fn line(&self, Row(cells): &Row, widths: &[usize], style: Style) -> String {
        let mut line = String::new();
        let mut used = 0;
        for (at, (cell, width)) in cells.iter().zip(widths).enumerate() {
            let last = at + 1 == widths.len();
            let room = style.width.map_or(usize::MAX, |columns| columns.saturating_sub(used));
            if last && room < LAST_MIN.min(cell.length()) {
                break;
            }
            let cell = if last { cell.cut(room, style) } else { cell.clone() };
            let free = " ".repeat(width.saturating_sub(cell.length()));
            if self.right.contains(&at) {
                line += &free;
                line += &cell.painted(style);
            } else {
                line += &cell.painted(style);
                if !last {
                    line += &free;
                }
            }
            used += width + GAP;
            if !last {
                line += &" ".repeat(GAP);
            }
        }
        line.trim_end().to_owned()
    }
}

/// Words in lines of at most `width` columns; a longer word stays whole.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}
