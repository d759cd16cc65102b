//! Pure: aligned columns and wrapped words.

use crate::cli::words::length;
use crate::view::wrapped;

/// Columns of a line.
const WIDTH: usize = 100;
/// Spaces in front of a table.
const INDENT: usize = 2;
/// Spaces between columns.
const GAP: usize = 2;
/// Narrowest last column; what has less room begins on a line of its own.
const LAST_MIN: usize = 28;

/// One row, and what is to be said below it.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub(super) cells: Vec<String>,
    pub(super) notes: Vec<String>,
}

impl Row {
    /// A row without notes.
    pub(super) fn plain<const N: usize>(cells: [String; N]) -> Self {
        Self {
            cells: cells.into(),
            notes: Vec::new(),
        }
    }
}

/// A table under its header. The last column is wrapped, so are notes.
pub(super) fn table(header: &[&str], rows: &[Row]) -> Vec<String> {
    let header: Vec<String> = header.iter().map(|&title| title.to_owned()).collect();
    let mut widths: Vec<usize> = header.iter().map(|title| length(title)).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(&row.cells) {
            *width = (*width).max(length(cell));
        }
    }
    let mut lines = line(&header, &widths);
    for row in rows {
        lines.extend(line(&row.cells, &widths));
        for note in &row.notes {
            lines.extend(paragraph(&" ".repeat(INDENT + 2), note));
        }
    }
    lines
}

/// One row over as many lines as its last cell takes.
fn line(cells: &[String], widths: &[usize]) -> Vec<String> {
    let Some((last, front)) = cells.split_last() else {
        return Vec::new();
    };
    let mut text = " ".repeat(INDENT);
    for (cell, width) in front.iter().zip(widths) {
        text.push_str(cell);
        text.push_str(&" ".repeat(width.saturating_sub(length(cell)) + GAP));
    }
    let start = length(&text);
    let (indent, mut lines) = if WIDTH.saturating_sub(start) < LAST_MIN && start + length(last) > WIDTH {
        (INDENT + 2, vec![text.trim_end().to_owned()])
    } else {
        (start, Vec::new())
    };
    let first = lines.is_empty();
    for (at, part) in wrapped(last, WIDTH.saturating_sub(indent)).into_iter().enumerate() {
        let before = if first && at == 0 {
            text.clone()
        } else {
            " ".repeat(indent)
        };
        lines.push(format!("{before}{part}").trim_end().to_owned());
    }
    lines
}

/// Words in lines that all begin with `indent`.
pub(super) fn paragraph(indent: &str, text: &str) -> Vec<String> {
    let lines = wrapped(text, WIDTH.saturating_sub(length(indent)));
    lines.iter().map(|line| format!("{indent}{line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str], notes: &[&str]) -> Row {
        Row {
            cells: cells.iter().map(|&cell| cell.to_owned()).collect(),
            notes: notes.iter().map(|&note| note.to_owned()).collect(),
        }
    }

    #[test]
    fn columns_are_aligned_and_the_last_one_wraps_below_itself() {
        let long = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen";
        let lines = table(&["A", "B"], &[row(&["x", long], &["why"]), row(&["yyy", "z"], &[])]);
        assert_eq!(lines[0], "  A    B");
        assert!(
            lines[1].starts_with("  x    one two") && lines[2].starts_with("       sixteen"),
            "{lines:?}"
        );
        assert_eq!(lines[3..], ["    why", "  yyy  z"]);
        assert!(lines.iter().all(|line| line.len() <= WIDTH), "{lines:?}");
    }

    #[test]
    fn where_names_leave_no_room_the_last_column_gets_a_line_of_its_own() {
        let name = "n".repeat(80);
        let lines = table(&["A", "B"], &[row(&[&name, "so many words that they do not fit"], &[])]);
        assert_eq!(lines[1].trim(), name);
        assert_eq!(lines[2], "    so many words that they do not fit");
    }
}
