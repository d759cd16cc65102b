//! Texts of YAML that people wrote: their documents, and what is wrong with one, in one line.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_saphyr::{MessageFormatter as _, UserMessageFormatter};

/// A document of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Document<'a> {
    /// Which one, from 1. Documents without content are not counted.
    pub number: u32,
    /// Lines of the text in front of it.
    pub before: u64,
    /// Its own text.
    pub text: &'a str,
}

impl Document<'_> {
    /// The line of the whole text, from 1, on which its content begins.
    pub fn line(&self) -> u64 {
        let opening = self.text.lines().take_while(|line| is_blank(line)).count();
        self.before + u64::try_from(opening).unwrap_or_default() + 1
    }
}

/// What is wrong with a text. Displayed in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Line of the text, from 1, where it is known.
    pub line: Option<u64>,
    /// What is wrong there.
    pub message: String,
}

impl Broken {
    /// What the parser says of a text, without its picture of the place.
    pub fn of(error: &serde_saphyr::Error) -> Self {
        let plain = UserMessageFormatter.format_message(error.without_snippet());
        Self {
            line: error.location().map(|location| location.line()),
            message: one_line(&plain),
        }
    }

    /// What the parser says of one document, with the line of the text around it.
    pub fn within(document: &Document, error: &serde_saphyr::Error) -> Self {
        let own = Self::of(error);
        Self {
            line: own.line.map(|line| line + document.before),
            ..own
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// Documents of a text that have content.
pub fn documents(text: &str) -> Vec<Document<'_>> {
    let full = parts(text).into_iter().filter(|(_, text)| !text.lines().all(is_blank));
    let numbered = (1..).zip(full);
    numbered
        .map(|(number, (before, text))| Document { number, before, text })
        .collect()
}

/// The one document of a text, such as a file of settings.
///
/// # Errors
/// When there is none, or more than one, or it is not of its form.
pub fn only<T: DeserializeOwned>(text: &str) -> Result<T, Broken> {
    match documents(text).as_slice() {
        [] => Err(Broken {
            line: None,
            message: EMPTY.to_owned(),
        }),
        [_] => serde_saphyr::from_str(text).map_err(|error| Broken::of(&error)),
        [_, second, ..] => Err(Broken {
            line: Some(second.line()),
            message: "a second document begins, and only one is read: join them".to_owned(),
        }),
    }
}

/// What is wrong with a text that has no document.
pub const EMPTY: &str = "it is empty, or has nothing but comments";

/// Each part with the lines in front of it. `---` at the beginning of a line always parts documents: no block of text may hold
/// it there.
fn parts(text: &str) -> Vec<(u64, &str)> {
    let mut all = Vec::new();
    let (mut start, mut first, mut at) = (0, 0, 0);
    for (number, line) in (0_u64..).zip(text.split_inclusive('\n')) {
        let marker = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        if marker {
            all.push((first, text.get(start..at).unwrap_or_default()));
            // What stands behind the marker on its line belongs to the document.
            let inline = line.get(3..).unwrap_or_default().trim();
            let inline = !inline.is_empty() && !inline.starts_with('#');
            (start, first) = if inline {
                (at + 3, number)
            } else {
                (at + line.len(), number + 1)
            };
        }
        at += line.len();
    }
    all.push((first, text.get(start..).unwrap_or_default()));
    all
}

fn is_blank(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

/// Words with one space between them.
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        #[expect(dead_code, reason = "only its form is read")]
        name: String,
    }

    #[test]
    fn documents_know_their_number_and_line_and_empty_ones_do_not_count() {
        let text = "# a comment\n---\n\na: 1\n--- # two\n# nothing\n--- {b: 2}\n---\nc: |\n  ---\n  text\n";
        let found: Vec<(u32, u64)> = documents(text)
            .iter()
            .map(|document| (document.number, document.line()))
            .collect();
        assert_eq!(found, [(1, 4), (2, 7), (3, 9)]);
        assert_eq!(documents(" \n# nothing\n---\n"), []);
    }

    #[test]
    fn what_is_wrong_is_one_line_with_the_place() {
        for (text, said) in [
            ("name: [a\n", "line 1: expected string scalar"),
            (
                "name: a\nnames: b\n",
                "line 2: unknown field `names`, expected one of name",
            ),
            ("name: a\n---\n# and\nname: b\n", "line 4: a second document begins"),
            ("# nothing\n", "it is empty"),
        ] {
            let problem = only::<Settings>(text).unwrap_err().to_string();
            assert!(
                problem.starts_with(said) && problem.lines().count() == 1,
                "{text:?}: {problem}"
            );
        }
        only::<Settings>("---\nname: a\n").unwrap();
    }
}
