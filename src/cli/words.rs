//! Pure: how wide words are.

/// Columns that a text takes, as far as each of its letters takes one.
pub(super) fn length(text: &str) -> usize {
    text.chars().count()
}
