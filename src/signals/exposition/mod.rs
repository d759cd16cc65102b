//! Bytes of a metrics endpoint -> samples. Prometheus text format 0.0.4 and OpenMetrics 1.0.
//!
//! Zero-copy, bounded, linear in the size of the body, and never a panic. A bad line costs that line only: it is kept
//! as a [`LineError`], so that a reader who wanted its family learns that the family is damaged. Values that are no
//! numbers are passed on as such; what they mean is for [`super::presets`] to say.

#[cfg(test)]
mod garbage;
mod lexer;
mod scan;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

pub use lexer::Labels;

use super::Finite;

/// What a sample line takes at least in bodies of real servers; where lines are shorter, the list grows once or twice.
const BYTES_PER_SAMPLE: usize = 96;

/// What one body may hold. A body beyond a limit is refused as a whole: a truncated success would be a wrong number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the body.
    pub bytes_max: usize,
    /// Lines, comments and empty ones included.
    pub lines_max: usize,
    /// Labels of one series.
    pub labels_max: usize,
}

impl Limits {
    /// What a scrape may bring: 2 MiB, 20,000 lines, 64 labels.
    pub const SCRAPE: Self = Self {
        bytes_max: 2 * 1024 * 1024,
        lines_max: 20_000,
        labels_max: 64,
    };
}

/// Why a whole body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// More bytes than allowed.
    #[error("body is larger than {max} bytes: expose fewer series on this endpoint")]
    TooManyBytes {
        /// The limit.
        max: usize,
    },
    /// More lines than allowed.
    #[error("body has more than {max} lines: expose fewer series on this endpoint")]
    TooManyLines {
        /// The limit.
        max: usize,
    },
    /// A series with more labels than allowed.
    #[error("line {line}: series has more than {max} labels")]
    TooManyLabels {
        /// Line of the series, from 1.
        line: u32,
        /// The limit.
        max: usize,
    },
    /// Neither a sample nor a comment of the format: an empty body, an error page, another format.
    #[error("body is not in the Prometheus text format: it has no sample and no HELP, TYPE, UNIT or EOF comment")]
    NotExposition,
}

/// What is wrong with one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Bytes that are not UTF-8.
    #[error("not UTF-8")]
    Encoding,
    /// No metric name where one must stand.
    #[error("metric name expected")]
    Name,
    /// No label name where one must stand.
    #[error("label name expected")]
    LabelName,
    /// A label without `=`.
    #[error("= expected after label name")]
    Equals,
    /// A label value or name without an opening quote.
    #[error("opening quote expected")]
    OpeningQuote,
    /// A quoted text that the line ends in.
    #[error("closing quote expected")]
    ClosingQuote,
    /// A label set that the line ends in, or labels run together.
    #[error("comma or closing brace expected")]
    ClosingBrace,
    /// The same label name twice in one series.
    #[error("label name occurs twice")]
    LabelTwice,
    /// No value, or one that is no number, NaN or infinity.
    #[error("value expected: a number, NaN, +Inf or -Inf")]
    Value,
    /// A timestamp that is no number.
    #[error("timestamp expected: a number")]
    Timestamp,
    /// An exemplar that is cut off.
    #[error("exemplar expected: labels in braces after the #")]
    Exemplar,
    /// Something after the last field.
    #[error("end of line expected")]
    Trailing,
}

/// A line that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {problem}")]
pub struct LineError<'a> {
    /// Line in the body, from 1.
    pub line: u32,
    /// Byte in the line, from 1.
    pub column: u32,
    /// What is wrong there.
    pub problem: Problem,
    /// The metric name as far as it could be read.
    name: Option<Text<'a>>,
    /// The line ends with the name, so that the name itself may have been cut off.
    name_cut: bool,
}

impl LineError<'_> {
    /// Whether the line belonged, or may have belonged, to this series name.
    pub fn damages(&self, name: &str) -> bool {
        self.name
            .is_some_and(|own| own.is(name) || (self.name_cut && name.starts_with(own.raw)))
    }
}

/// A name or label value as it stands in the body, escapes included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text<'a> {
    raw: &'a str,
    escaped: bool,
}

impl<'a> Text<'a> {
    /// Whether the text, with its escapes resolved, is this one. Does not allocate.
    pub fn is(&self, other: &str) -> bool {
        if self.escaped {
            self.chars().eq(other.chars())
        } else {
            self.raw == other
        }
    }

    /// The text with its escapes resolved.
    pub fn resolved(&self) -> Cow<'a, str> {
        if self.escaped {
            Cow::Owned(self.chars().collect())
        } else {
            Cow::Borrowed(self.raw)
        }
    }

    /// `\\`, `\"` and `\n` are escapes; a backslash before anything else stands for itself.
    fn chars(&self) -> impl Iterator<Item = char> + use<'a> {
        let mut rest = self.raw.chars().peekable();
        std::iter::from_fn(move || {
            let char = rest.next()?;
            if char != '\\' {
                return Some(char);
            }
            let resolved = match rest.peek() {
                Some('\\') => '\\',
                Some('"') => '"',
                Some('n') => '\n',
                _ => return Some('\\'),
            };
            rest.next();
            Some(resolved)
        })
    }
}

/// One label of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label<'a> {
    /// Its name.
    pub name: Text<'a>,
    /// Its value.
    pub value: Text<'a>,
}

/// The value of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A number.
    Number(Finite),
    /// `NaN`, an infinity, or a number beyond the range of a double.
    NotFinite,
}

/// One sample line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample<'a> {
    /// Series name, suffixes such as `_bucket` included.
    pub name: Text<'a>,
    /// Its value.
    pub value: Value,
    /// Line in the body, from 1.
    pub line: u32,
    labels: &'a str,
    timestamp: Option<&'a str>,
}

impl<'a> Sample<'a> {
    /// Its labels, in the order of the line. Read from the line each time: most series of a body are never asked.
    pub fn labels(&self) -> Labels<'a> {
        Labels::of(self.labels)
    }
}

/// A parsed body.
#[derive(Clone, Debug)]
pub struct Exposition<'a> {
    samples: Vec<Sample<'a>>,
    errors: Vec<LineError<'a>>,
    open_metrics: bool,
}

impl<'a> Exposition<'a> {
    /// Reads a body. Costs time linear in its size; memory for its samples and bad lines, within `limits`.
    pub fn parse(body: &'a [u8], limits: &Limits) -> Result<Self, Error> {
        if body.len() > limits.bytes_max {
            return Err(Error::TooManyBytes { max: limits.bytes_max });
        }
        // Looked at once as a whole, which is many times faster than line by line; only a body that has a bad byte
        // somewhere is looked at again.
        scan::visit(body.len());
        let text = std::str::from_utf8(body).ok();
        let mut parsed = Self {
            samples: Vec::with_capacity((body.len() / BYTES_PER_SAMPLE).min(limits.lines_max)),
            errors: Vec::new(),
            open_metrics: false,
        };
        let mut previous = lexer::Previous::none(limits.labels_max);
        let mut comments = false;
        let mut eof_at = None;
        let mut number: u32 = 0;
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', body).chain(std::iter::once(body.len())) {
            number = number.saturating_add(1);
            let line = body.get(start..end).unwrap_or_default();
            let at = start;
            start = end + 1;
            scan::visit(line.len());
            let indented = line.trim_ascii_end();
            let indent = indented.len() - indented.trim_ascii_start().len();
            let Some(first) = indented.get(indent) else { continue };
            // Checked on lines with content, so that the empty rest after the last newline is not counted.
            if usize::try_from(number).is_ok_and(|number| number > limits.lines_max) {
                return Err(Error::TooManyLines { max: limits.lines_max });
            }
            if *first == b'#' {
                match lexer::comment(indented.trim_ascii_start()) {
                    lexer::Comment::Eof => eof_at = Some((parsed.samples.len(), parsed.errors.len())),
                    lexer::Comment::Metadata => comments = true,
                    lexer::Comment::Other => {}
                }
                continue;
            }
            let within = at + indent..at + indented.len();
            let line = match text {
                Some(text) => text.get(within).ok_or(&[][..]),
                None => std::str::from_utf8(body.get(within.clone()).unwrap_or_default())
                    .map_err(|_| body.get(within).unwrap_or_default()),
            };
            let lexed = match line {
                Ok(line) => lexer::sample(line, &mut previous),
                Err(line) => Err(lexer::not_text(line, &mut previous)),
            };
            match lexed {
                Ok(lexer::Lexed {
                    name,
                    labels,
                    value,
                    timestamp,
                }) => parsed.samples.push(Sample {
                    name,
                    value,
                    line: number,
                    labels,
                    timestamp,
                }),
                Err(fault) => parsed.errors.push(line_error(&fault, number, indent, limits)?),
            }
        }
        if parsed.samples.is_empty() && !comments && eof_at.is_none() {
            return Err(Error::NotExposition);
        }
        // In 0.0.4 `# EOF` is a comment like any other; in OpenMetrics it is mandatory and last.
        parsed.open_metrics = eof_at == Some((parsed.samples.len(), parsed.errors.len()));
        Ok(parsed)
    }

    /// All samples, in the order of the body.
    pub fn samples(&self) -> &[Sample<'a>] {
        &self.samples
    }

    /// The lines that could not be read, in the order of the body.
    pub fn errors(&self) -> &[LineError<'a>] {
        &self.errors
    }

    /// Whether the body is OpenMetrics, which ends with `# EOF`.
    pub const fn is_open_metrics(&self) -> bool {
        self.open_metrics
    }

    /// Source time of a sample, if the exporter gave one: Unix time in milliseconds.
    pub fn timestamp_ms(&self, sample: &Sample<'a>) -> Option<i64> {
        let text = sample.timestamp?;
        if !self.open_metrics
            && let Ok(millis) = text.parse()
        {
            return Some(millis);
        }
        let scale = if self.open_metrics { 1_000.0 } else { 1.0 };
        let millis = (text.parse::<f64>().ok()? * scale).round();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "saturates; such a time is compared for advance only"
        )]
        Some(millis as i64)
    }
}

#[cold]
fn line_error<'a>(fault: &lexer::Fault<'a>, line: u32, indent: usize, limits: &Limits) -> Result<LineError<'a>, Error> {
    match *fault {
        lexer::Fault::TooManyLabels => Err(Error::TooManyLabels {
            line,
            max: limits.labels_max,
        }),
        lexer::Fault::Line {
            at,
            problem,
            name,
            name_cut,
        } => Ok(LineError {
            line,
            column: u32::try_from(indent + at + 1).unwrap_or(u32::MAX),
            problem,
            name,
            name_cut,
        }),
    }
}

/// A number that changes when the body does, for telling a still exporter from a moving one. Not cryptographic.
pub fn fingerprint(body: &[u8]) -> u64 {
    const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| (hash.rotate_left(23) ^ word).wrapping_mul(PRIME);
    let (words, rest) = body.as_chunks::<8>();
    let mut hash = words
        .iter()
        .fold(PRIME, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    hash = rest.iter().fold(hash, |hash, byte| mix(hash, u64::from(*byte)));
    mix(hash, u64::try_from(body.len()).unwrap_or(u64::MAX))
}
