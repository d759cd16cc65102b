//! Pure: words in lines of a width.

/// Breaks at spaces only: a word that is longer than a line stays whole.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if length(line) + 1 + length(word) <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// Columns that a text takes, as far as each of its letters takes one.
pub(super) fn length(text: &str) -> usize {
    text.chars().count()
}
