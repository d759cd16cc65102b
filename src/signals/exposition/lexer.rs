//! One line -> its fields. Every function moves forwards only, so a line costs time linear in its length.

use super::{Label, Problem, Text, Value};
use crate::signals::Finite;

/// No legal number needs more characters; bounds the work of the conversion.
const NUMBER_MAX: usize = 128;

/// What a comment line says about the body.
pub(super) enum Comment {
    /// `# EOF`.
    Eof,
    /// `# HELP`, `# TYPE`, `# UNIT`.
    Metadata,
    /// Anything else.
    Other,
}

/// Fields of a sample line.
pub(super) struct Lexed<'a> {
    pub(super) name: Text<'a>,
    pub(super) value: Value,
    pub(super) timestamp: Option<&'a str>,
}

/// Why a line has no fields.
pub(super) enum Fault<'a> {
    /// The line is bad.
    Line {
        at: usize,
        problem: Problem,
        name: Option<Text<'a>>,
        name_cut: bool,
    },
    /// The series is beyond the limit, and the body with it.
    TooManyLabels,
}

/// Reads a comment line; `line` starts with `#`.
pub(super) fn comment(line: &[u8]) -> Comment {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    match (words.next(), words.next(), words.next()) {
        (Some(b"#"), Some(b"EOF"), None) => Comment::Eof,
        (Some(b"#"), Some(b"HELP" | b"TYPE" | b"UNIT"), Some(_)) => Comment::Metadata,
        _ => Comment::Other,
    }
}

/// Reads a sample line without surrounding blanks and appends its labels.
pub(super) fn sample<'a>(
    line: &'a [u8],
    labels: &mut Vec<Label<'a>>,
    labels_max: usize,
) -> Result<Lexed<'a>, Fault<'a>> {
    let (text, encoding) = match std::str::from_utf8(line) {
        Ok(text) => (text, Ok(())),
        // What stands before the bad byte still tells which family is damaged.
        Err(error) => {
            let valid = line.get(..error.valid_up_to()).unwrap_or_default();
            (std::str::from_utf8(valid).unwrap_or_default(), Err(valid.len()))
        }
    };
    let mut cursor = Cursor { text, at: 0 };
    let mut name = None;
    let fields = fields(&mut cursor, labels, labels_max, &mut name);
    let (at, problem) = match (encoding, fields) {
        (Ok(()), Ok(lexed)) => return Ok(lexed),
        (_, Err(Stop::TooManyLabels)) => return Err(Fault::TooManyLabels),
        (Err(at), _) => (at, Problem::Encoding),
        (Ok(()), Err(Stop::At(at, problem))) => (at, problem),
    };
    let name_cut = name.is_some_and(|name: Text<'_>| name.raw.len() == text.len());
    Err(Fault::Line {
        at,
        problem,
        name,
        name_cut,
    })
}

/// Where and why lexing of a line stopped.
enum Stop {
    At(usize, Problem),
    TooManyLabels,
}

fn fields<'a>(
    cursor: &mut Cursor<'a>,
    labels: &mut Vec<Label<'a>>,
    labels_max: usize,
    name: &mut Option<Text<'a>>,
) -> Result<Lexed<'a>, Stop> {
    if cursor.peek() != Some(b'{') {
        *name = Some(cursor.bare(|byte| byte == b':').ok_or(cursor.stop(Problem::Name))?);
    }
    let after_name = cursor.at;
    cursor.skip_blanks();
    let braces = cursor.peek() == Some(b'{');
    if braces {
        cursor.at += 1;
        label_set(cursor, labels, labels_max, name)?;
        cursor.skip_blanks();
    } else if cursor.at == after_name {
        return Err(cursor.stop(Problem::Name));
    }
    let Some(name) = *name else {
        return Err(cursor.stop(Problem::Name));
    };

    let at = cursor.at;
    let value = value(cursor.word()).ok_or(Stop::At(at, Problem::Value))?;
    cursor.skip_blanks();
    let mut timestamp = None;
    if !matches!(cursor.peek(), None | Some(b'#')) {
        let at = cursor.at;
        let word = cursor.word();
        if !matches!(value_of(word), Some(time) if time.is_finite()) {
            return Err(Stop::At(at, Problem::Timestamp));
        }
        timestamp = Some(word);
        cursor.skip_blanks();
    }
    match cursor.peek() {
        None => Ok(Lexed { name, value, timestamp }),
        Some(b'#') => {
            cursor.at += 1;
            cursor.skip_blanks();
            // What the exemplar says is of no use here; that it is one is checked, so that no damaged line passes.
            if cursor.peek() == Some(b'{') && cursor.text.get(cursor.at..).is_some_and(|rest| rest.contains('}')) {
                Ok(Lexed { name, value, timestamp })
            } else {
                Err(cursor.stop(Problem::Exemplar))
            }
        }
        Some(_) => Err(cursor.stop(Problem::Trailing)),
    }
}

/// Reads labels up to and with the closing brace. A quoted text without a value, in first place, is the metric name.
fn label_set<'a>(
    cursor: &mut Cursor<'a>,
    labels: &mut Vec<Label<'a>>,
    labels_max: usize,
    metric: &mut Option<Text<'a>>,
) -> Result<(), Stop> {
    let first = labels.len();
    loop {
        cursor.skip_blanks();
        let at = cursor.at;
        match cursor.peek() {
            Some(b'}') => {
                cursor.at += 1;
                return Ok(());
            }
            Some(b'"') => {
                let text = cursor.quoted()?;
                cursor.skip_blanks();
                if cursor.peek() == Some(b'=') {
                    label_value(cursor, text, labels)?;
                } else if metric.is_none() && labels.len() == first {
                    *metric = Some(text);
                } else {
                    return Err(cursor.stop(Problem::Equals));
                }
            }
            _ => {
                let name = cursor.bare(|_| false).ok_or(cursor.stop(Problem::LabelName))?;
                cursor.skip_blanks();
                if cursor.peek() != Some(b'=') {
                    return Err(cursor.stop(Problem::Equals));
                }
                label_value(cursor, name, labels)?;
            }
        }
        let own = labels.get(first..).unwrap_or_default();
        if own.len() > labels_max {
            return Err(Stop::TooManyLabels);
        }
        if let Some((last, before)) = own.split_last()
            && before.iter().any(|label| same(label.name, last.name))
        {
            return Err(Stop::At(at, Problem::LabelTwice));
        }
        cursor.skip_blanks();
        match cursor.peek() {
            Some(b',') => cursor.at += 1,
            Some(b'}') => {}
            _ => return Err(cursor.stop(Problem::ClosingBrace)),
        }
    }
}

/// Reads `="…"` and appends the label.
fn label_value<'a>(cursor: &mut Cursor<'a>, name: Text<'a>, labels: &mut Vec<Label<'a>>) -> Result<(), Stop> {
    cursor.at += 1;
    cursor.skip_blanks();
    if cursor.peek() != Some(b'"') {
        return Err(cursor.stop(Problem::OpeningQuote));
    }
    let value = cursor.quoted()?;
    labels.push(Label { name, value });
    Ok(())
}

fn same(a: Text<'_>, b: Text<'_>) -> bool {
    if a.escaped || b.escaped {
        a.chars().eq(b.chars())
    } else {
        a.raw == b.raw
    }
}

fn value_of(word: &str) -> Option<f64> {
    if word.len() > NUMBER_MAX {
        None
    } else {
        word.parse().ok()
    }
}

fn value(word: &str) -> Option<Value> {
    value_of(word).map(|number| Finite::try_from(number).map_or(Value::NotFinite, Value::Number))
}

/// A position in a line. Only ever at the boundary of a character, because it moves over ASCII or whole texts.
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn stop(&self, problem: Problem) -> Stop {
        Stop::At(self.at, problem)
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// A name without quotes: letters, digits not in first place, underscores, and what `also` allows.
    fn bare(&mut self, also: impl Fn(u8) -> bool) -> Option<Text<'a>> {
        let start = self.at;
        while let Some(byte) = self.peek() {
            let starts = byte.is_ascii_alphabetic() || byte == b'_' || also(byte);
            if !(starts || (byte.is_ascii_digit() && self.at > start)) {
                break;
            }
            self.at += 1;
        }
        (self.at > start).then(|| Text {
            raw: self.since(start),
            escaped: false,
        })
    }

    /// A quoted text; the cursor is at its opening quote.
    fn quoted(&mut self) -> Result<Text<'a>, Stop> {
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    let raw = self.since(start);
                    self.at += 1;
                    return Ok(Text { raw, escaped });
                }
                // The escaped character is ASCII or the backslash stands for itself: stepping over one byte more is
                // safe only for the two that could otherwise be misread.
                b'\\' => {
                    escaped = true;
                    self.at += 1;
                    if matches!(self.peek(), Some(b'\\' | b'"')) {
                        self.at += 1;
                    }
                }
                _ => self.at += 1,
            }
        }
        Err(self.stop(Problem::ClosingQuote))
    }

    /// Everything up to the next blank.
    fn word(&mut self) -> &'a str {
        let start = self.at;
        while !matches!(self.peek(), None | Some(b' ' | b'\t')) {
            self.at += 1;
        }
        self.since(start)
    }
}
