//! One line -> its fields. Every function moves forwards only, so a line costs time linear in its length.

use super::super::Finite;
use super::scan::{Cursor, Stop, agreement, visit};
use super::{Label, Problem, Text, Value};

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
    /// What stands between the braces; well-formed.
    pub(super) labels: &'a str,
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

/// The series read last. Consecutive lines of a family agree in name and first labels: what was found in the agreeing part
/// is true of the next line too, and is not looked for again. Also what keeps a line from allocating.
pub(super) struct Previous<'a> {
    text: &'a str,
    name: Option<Text<'a>>,
    /// Where the first label starts, and where each next one does.
    starts: Vec<usize>,
    /// Names of the labels.
    names: Vec<Text<'a>>,
    /// Names of the labels of an exemplar.
    exemplar: Vec<Text<'a>>,
    labels_max: usize,
}

impl<'a> Previous<'a> {
    pub(super) fn none(labels_max: usize) -> Self {
        Self {
            text: "",
            name: None,
            starts: Vec::new(),
            names: Vec::new(),
            exemplar: Vec::new(),
            labels_max,
        }
    }

    /// How many labels `text` begins with that this series begins with too, after the same name. Forgets all others.
    #[inline]
    fn shared(&mut self, text: &'a str) -> Option<usize> {
        let common = agreement(self.text.as_bytes(), text.as_bytes());
        let shared = self.starts.iter().rposition(|start| *start <= common);
        let known = shared.map_or(0, |shared| shared + 1);
        self.starts.truncate(known);
        self.names.truncate(shared.unwrap_or(0));
        self.text = "";
        shared
    }
}

/// Adds the name of the label that starts at `at`.
#[inline]
fn add<'a>(names: &mut Vec<Text<'a>>, max: usize, at: usize, name: Text<'a>) -> Result<(), Stop> {
    for other in &*names {
        visit(if other.raw.len() == name.raw.len() {
            name.raw.len()
        } else {
            1
        });
        if same(*other, name) {
            return Err(Stop::At(at, Problem::LabelTwice));
        }
    }
    if names.len() == max {
        return Err(Stop::TooManyLabels);
    }
    names.push(name);
    Ok(())
}

#[inline]
fn same(a: Text<'_>, b: Text<'_>) -> bool {
    if a.escaped || b.escaped {
        a.chars().eq(b.chars())
    } else {
        a.raw == b.raw
    }
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

/// Reads a sample line without surrounding blanks.
#[inline]
pub(super) fn sample<'a>(text: &'a str, previous: &mut Previous<'a>) -> Result<Lexed<'a>, Fault<'a>> {
    let mut name = None;
    match fields(text, previous, &mut name) {
        Ok(lexed) => Ok(lexed),
        Err(stop) => Err(fault(&stop, name, text)),
    }
}

/// A line that is not UTF-8: what stands before the bad byte still tells which family is damaged.
pub(super) fn not_text<'a>(line: &'a [u8], previous: &mut Previous<'a>) -> Fault<'a> {
    let valid = line.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    let mut name = None;
    let _ = fields(valid, previous, &mut name);
    fault(&Stop::At(valid.len(), Problem::Encoding), name, valid)
}

#[cold]
fn fault<'a>(stop: &Stop, name: Option<Text<'a>>, text: &str) -> Fault<'a> {
    match *stop {
        Stop::TooManyLabels => Fault::TooManyLabels,
        Stop::At(at, problem) => Fault::Line {
            at,
            problem,
            name,
            name_cut: name.is_some_and(|name| name.raw.len() == text.len()),
        },
    }
}

#[inline]
fn fields<'a>(text: &'a str, previous: &mut Previous<'a>, name: &mut Option<Text<'a>>) -> Result<Lexed<'a>, Stop> {
    let mut cursor = Cursor { text, at: 0 };
    let mut labels = "";
    if let Some(start) = previous.shared(text).and_then(|shared| previous.starts.get(shared)) {
        cursor.at = *start;
        *name = previous.name;
        labels = series(&mut cursor, previous, name)?;
    } else {
        if cursor.peek() != Some(b'{') {
            *name = Some(cursor.metric_name().ok_or(cursor.stop(Problem::Name))?);
        }
        let after_name = cursor.at;
        cursor.skip_blanks();
        if cursor.peek() == Some(b'{') {
            cursor.at += 1;
            previous.starts.push(cursor.at);
            labels = series(&mut cursor, previous, name)?;
        } else if cursor.at == after_name {
            return Err(cursor.stop(Problem::Name));
        }
    }
    let Some(name) = *name else {
        return Err(cursor.stop(Problem::Name));
    };

    let at = cursor.at;
    let number = cursor.number().ok_or(Stop::At(at, Problem::Value))?;
    let value = Finite::try_from(number).map_or(Value::NotFinite, Value::Number);
    cursor.skip_blanks();
    let timestamp = timestamp(&mut cursor)?;
    match cursor.peek() {
        None => {}
        Some(b'#') => exemplar(&mut cursor, previous)?,
        Some(_) => return Err(cursor.stop(Problem::Trailing)),
    }
    Ok(Lexed {
        name,
        labels,
        value,
        timestamp,
    })
}

/// Reads the labels of a series from the cursor on, and remembers the series.
#[inline]
fn series<'a>(
    cursor: &mut Cursor<'a>,
    previous: &mut Previous<'a>,
    name: &mut Option<Text<'a>>,
) -> Result<&'a str, Stop> {
    let bare = name.is_some();
    let Previous {
        names,
        starts,
        labels_max,
        ..
    } = previous;
    label_set(cursor, names, *labels_max, Some(name), |start| starts.push(start))?;
    let start = starts.first().copied().unwrap_or_default();
    let inside = cursor.text.get(start..cursor.at - 1).unwrap_or_default();
    // A name within the braces is not before all labels: such a line is read as a whole.
    previous.text = if bare { cursor.text } else { "" };
    previous.name = *name;
    cursor.skip_blanks();
    Ok(inside)
}

/// Reads a timestamp if something other than an exemplar follows.
#[inline]
fn timestamp<'a>(cursor: &mut Cursor<'a>) -> Result<Option<&'a str>, Stop> {
    if matches!(cursor.peek(), None | Some(b'#')) {
        return Ok(None);
    }
    let at = cursor.at;
    if !cursor.number().is_some_and(f64::is_finite) {
        return Err(Stop::At(at, Problem::Timestamp));
    }
    let text = cursor.text.get(at..cursor.at);
    cursor.skip_blanks();
    Ok(text)
}

/// Reads `# {…} value [timestamp]` to the end of the line. What it says is of no use here; that it is whole is checked, so
/// that no damaged line passes.
fn exemplar<'a>(cursor: &mut Cursor<'a>, previous: &mut Previous<'a>) -> Result<(), Stop> {
    cursor.at += 1;
    cursor.skip_blanks();
    if cursor.peek() != Some(b'{') {
        return Err(cursor.stop(Problem::Exemplar));
    }
    cursor.at += 1;
    previous.exemplar.clear();
    label_set(cursor, &mut previous.exemplar, previous.labels_max, None, |_| {})?;
    cursor.skip_blanks();
    let at = cursor.at;
    if cursor.number().is_none() {
        return Err(Stop::At(at, Problem::Exemplar));
    }
    cursor.skip_blanks();
    timestamp(cursor)?;
    match cursor.peek() {
        None => Ok(()),
        Some(_) => Err(cursor.stop(Problem::Trailing)),
    }
}

/// Reads labels up to and with the closing brace; `begins` is told where each but the first starts. A quoted text without a
/// value, in first place, is the metric name, where one is wanted.
#[inline]
fn label_set<'a>(
    cursor: &mut Cursor<'a>,
    names: &mut Vec<Text<'a>>,
    labels_max: usize,
    mut metric: Option<&mut Option<Text<'a>>>,
    mut begins: impl FnMut(usize),
) -> Result<(), Stop> {
    loop {
        cursor.skip_blanks();
        let at = cursor.at;
        let name = match cursor.peek() {
            Some(b'}') => {
                cursor.at += 1;
                return Ok(());
            }
            Some(b'"') => {
                let text = cursor.quoted()?;
                cursor.skip_blanks();
                if cursor.peek() == Some(b'=') {
                    Some(text)
                } else if let Some(metric) = metric.as_deref_mut()
                    && metric.is_none()
                    && names.is_empty()
                {
                    *metric = Some(text);
                    None
                } else {
                    return Err(cursor.stop(Problem::Equals));
                }
            }
            _ => {
                let name = cursor.label_name().ok_or(cursor.stop(Problem::LabelName))?;
                cursor.skip_blanks();
                if cursor.peek() != Some(b'=') {
                    return Err(cursor.stop(Problem::Equals));
                }
                Some(name)
            }
        };
        if let Some(name) = name {
            label_value(cursor)?;
            add(names, labels_max, at, name)?;
        }
        cursor.skip_blanks();
        match cursor.peek() {
            Some(b',') => {
                cursor.at += 1;
                begins(cursor.at);
            }
            Some(b'}') => {}
            _ => return Err(cursor.stop(Problem::ClosingBrace)),
        }
    }
}

/// Reads `="…"`; the cursor is at the `=`.
#[inline]
fn label_value<'a>(cursor: &mut Cursor<'a>) -> Result<Text<'a>, Stop> {
    cursor.at += 1;
    cursor.skip_blanks();
    if cursor.peek() != Some(b'"') {
        return Err(cursor.stop(Problem::OpeningQuote));
    }
    cursor.quoted()
}

/// The labels of a series, read again from a label set that was found to be well-formed.
#[derive(Clone)]
pub struct Labels<'a> {
    cursor: Cursor<'a>,
}

impl<'a> Labels<'a> {
    pub(super) fn of(inside: &'a str) -> Self {
        Self {
            cursor: Cursor { text: inside, at: 0 },
        }
    }
}

impl std::fmt::Debug for Labels<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

impl<'a> Iterator for Labels<'a> {
    type Item = Label<'a>;

    fn next(&mut self) -> Option<Label<'a>> {
        loop {
            self.cursor.skip_blanks();
            let name = match self.cursor.peek()? {
                b',' => {
                    self.cursor.at += 1;
                    continue;
                }
                b'"' => self.cursor.quoted().ok()?,
                _ => self.cursor.label_name()?,
            };
            self.cursor.skip_blanks();
            // A quoted text without a value is the metric name.
            if self.cursor.peek() == Some(b'=') {
                let value = label_value(&mut self.cursor).ok()?;
                return Some(Label { name, value });
            }
        }
    }
}
