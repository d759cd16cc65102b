//! Pure: as much of PromQL as it takes to find every selector of a query, and to refuse what could hide one.
//!
//! What is not understood is refused, so that no dialect can smuggle in a selector that was not looked at. The value of a
//! query is left to the server to judge.

use std::ops::Range;

/// Longest query text, and deepest nesting, of a template.
pub(super) const TEXT_MAX: usize = 4_096;
const DEPTH_MAX: u8 = 32;

const OPERATORS: [&str; 12] = ["==", "!=", ">=", "<=", ">", "<", "+", "-", "*", "/", "%", "^"];
const WORD_OPERATORS: [&str; 4] = ["and", "or", "unless", "atan2"];
const AGGREGATIONS: [&str; 14] = [
    "sum",
    "min",
    "max",
    "avg",
    "group",
    "stddev",
    "stdvar",
    "count",
    "count_values",
    "bottomk",
    "topk",
    "quantile",
    "limitk",
    "limit_ratio",
];

/// Why a text is not taken for a query, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at character {at}: {problem}")]
pub struct Error {
    /// Counted from 1.
    pub at: usize,
    /// What is wrong there, and what to write.
    pub problem: String,
}

/// How a label is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Matches,
    MatchesNot,
}

/// `label="value"`.
#[derive(Clone, Debug)]
pub(super) struct Matcher {
    pub(super) label: String,
    pub(super) comparison: Comparison,
    /// Inside the quotes.
    pub(super) value: Range<usize>,
    pub(super) quote: u8,
}

/// `name{matchers}`, without range.
#[derive(Clone, Debug)]
pub(super) struct Selector {
    pub(super) span: Range<usize>,
    pub(super) matchers: Vec<Matcher>,
}

/// A text that is a query.
#[derive(Clone, Debug, Default)]
pub(super) struct Parsed {
    pub(super) selectors: Vec<Selector>,
    /// Insides of strings that are not values of matchers.
    pub(super) strings: Vec<Range<usize>>,
}

/// Finds every selector of `text`.
pub(super) fn parse(text: &str) -> Result<Parsed, Error> {
    let mut parser = Parser {
        text,
        at: 0,
        parsed: Parsed::default(),
    };
    if text.len() > TEXT_MAX {
        return Err(parser.refuse("a query has at most 4096 bytes: use a recording rule"));
    }
    parser.expression(0)?;
    parser.skip_blanks();
    if parser.at < text.len() {
        return Err(parser.refuse("expected an operator or the end"));
    }
    Ok(parser.parsed)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    parsed: Parsed,
}

impl<'a> Parser<'a> {
    fn expression(&mut self, depth: u8) -> Result<(), Error> {
        if depth > DEPTH_MAX {
            return Err(self.refuse("nested too deeply: use a recording rule"));
        }
        self.operand(depth)?;
        while self.operator() {
            self.matching()?;
            self.operand(depth)?;
        }
        Ok(())
    }

    fn operator(&mut self) -> bool {
        OPERATORS.into_iter().any(|operator| self.take(operator))
            || WORD_OPERATORS.into_iter().any(|operator| self.take_word(operator))
    }

    /// `bool`, `on (…) group_left (…)` and the like after an operator.
    fn matching(&mut self) -> Result<(), Error> {
        self.take_word("bool");
        if self.take_word("on") || self.take_word("ignoring") {
            self.labels()?;
            if self.take_word("group_left") || self.take_word("group_right") {
                self.skip_blanks();
                if self.peek() == Some(b'(') {
                    self.labels()?;
                }
            }
        }
        Ok(())
    }

    fn operand(&mut self, depth: u8) -> Result<(), Error> {
        while self.take("+") || self.take("-") {}
        match self.peek() {
            Some(b'(') => {
                self.at += 1;
                self.expression(depth + 1)?;
                self.expect(")")?;
            }
            Some(b'{') => self.selector(self.at)?,
            Some(b'"' | b'\'' | b'`') => {
                let inside = self.string()?.0;
                self.parsed.strings.push(inside);
            }
            Some(byte) if byte.is_ascii_digit() || byte == b'.' => self.number(),
            Some(byte) if is_word(byte) => self.word_operand(depth)?,
            Some(b'#') => return Err(self.refuse("no comments inside a query: comment it in the file")),
            Some(b'$') => {
                return Err(self.refuse("placeholders stand in values of labels only, such as pod=~\"$pods\""));
            }
            Some(_) => return Err(self.refuse("expected a selector, a function or a number")),
            None => return Err(self.refuse("the query ends too early")),
        }
        self.suffix()
    }

    /// A call, an aggregation, a selector with a name, or `inf` and `nan`.
    fn word_operand(&mut self, depth: u8) -> Result<(), Error> {
        let start = self.at;
        let word = self.word();
        self.skip_blanks();
        match self.peek() {
            Some(b'{') => return self.selector(start),
            Some(b'(') => {}
            _ if is_one_of(word, &["inf", "nan"]) => return Ok(()),
            _ if is_one_of(word, &AGGREGATIONS) && (self.take_word("by") || self.take_word("without")) => {
                self.labels()?;
            }
            _ => {
                self.at = start;
                return Err(self.refuse(&format!(
                    "{word} has no matchers: write {word}{{namespace=\"$namespace\"}}"
                )));
            }
        }
        self.expect("(")?;
        if !self.take(")") {
            loop {
                self.expression(depth + 1)?;
                if !self.take(",") {
                    break;
                }
            }
            self.expect(")")?;
        }
        if is_one_of(word, &AGGREGATIONS) && (self.take_word("by") || self.take_word("without")) {
            self.labels()?;
        }
        Ok(())
    }

    /// The matchers of a selector that began at `start`.
    fn selector(&mut self, start: usize) -> Result<(), Error> {
        self.expect("{")?;
        let mut matchers = Vec::new();
        while !self.take("}") {
            self.skip_blanks();
            let label = match self.peek() {
                Some(b'"' | b'\'') => {
                    let (inside, _) = self.string()?;
                    self.slice(inside).to_owned()
                }
                Some(byte) if is_word(byte) => self.word().to_owned(),
                _ => return Err(self.refuse("expected a label")),
            };
            let comparison = if self.take("=~") {
                Some(Comparison::Matches)
            } else if self.take("!~") {
                Some(Comparison::MatchesNot)
            } else if self.take("!=") {
                Some(Comparison::NotEqual)
            } else if self.take("=") {
                Some(Comparison::Equal)
            } else {
                None
            };
            // A quoted text alone is the metric's name.
            if let Some(comparison) = comparison {
                self.skip_blanks();
                let (value, quote) = self.string()?;
                matchers.push(Matcher {
                    label,
                    comparison,
                    value,
                    quote,
                });
            }
            if !self.take(",") {
                self.expect("}")?;
                break;
            }
        }
        self.parsed.selectors.push(Selector {
            span: start..self.at,
            matchers,
        });
        Ok(())
    }

    /// Ranges and subqueries; what would move a selector in time is refused.
    fn suffix(&mut self) -> Result<(), Error> {
        while self.take("[") {
            let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b':' || byte == b' ';
            while self.peek().is_some_and(inside) {
                self.at += 1;
            }
            self.expect("]")?;
        }
        let start = self.at;
        if self.take("@") || self.take_word("offset") {
            self.at = start;
            self.skip_blanks();
            return Err(self.refuse("offset and @ make every value old: leave them out"));
        }
        Ok(())
    }

    /// `(a, "b", c)`.
    fn labels(&mut self) -> Result<(), Error> {
        self.expect("(")?;
        while !self.take(")") {
            self.skip_blanks();
            match self.peek() {
                Some(b'"' | b'\'') => {
                    let inside = self.string()?.0;
                    self.parsed.strings.push(inside);
                }
                Some(byte) if is_word(byte) => {
                    self.word();
                }
                _ => return Err(self.refuse("expected a label")),
            }
            if !self.take(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(())
    }

    /// Also durations, which newer servers take for numbers.
    fn number(&mut self) {
        let mut before = 0;
        let hexadecimal = self.text.get(self.at..).is_some_and(|rest| rest.starts_with("0x"));
        while let Some(byte) = self.peek() {
            let exponent = matches!(before, b'e' | b'E') && !hexadecimal;
            let digit_next = self.text.as_bytes().get(self.at + 1).is_some_and(u8::is_ascii_digit);
            let sign = matches!(byte, b'+' | b'-') && exponent && digit_next;
            if !(byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_') || sign) {
                break;
            }
            before = byte;
            self.at += 1;
        }
    }

    /// The inside of a quoted text and its quote.
    fn string(&mut self) -> Result<(Range<usize>, u8), Error> {
        let Some(quote @ (b'"' | b'\'' | b'`')) = self.peek() else {
            return Err(self.refuse("expected a quoted text"));
        };
        let start = self.at + 1;
        let mut escaped = false;
        for (at, byte) in self.text.bytes().enumerate().skip(start) {
            match byte {
                b'\n' if quote != b'`' => break,
                _ if escaped => escaped = false,
                b'\\' if quote != b'`' => escaped = true,
                _ if byte == quote => {
                    self.at = at + 1;
                    return Ok((start..at, quote));
                }
                _ => {}
            }
        }
        Err(self.refuse("the quoted text does not end on its line"))
    }

    fn word(&mut self) -> &'a str {
        let start = self.at;
        while self.peek().is_some_and(|byte| is_word(byte) || byte.is_ascii_digit()) {
            self.at += 1;
        }
        self.slice(start..self.at)
    }

    fn slice(&self, range: Range<usize>) -> &'a str {
        self.text.get(range).unwrap_or_default()
    }

    fn skip_blanks(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Takes `expected` after blanks; leaves the place alone otherwise.
    fn take(&mut self, expected: &str) -> bool {
        self.skip_blanks();
        let there = self.text.get(self.at..).is_some_and(|rest| rest.starts_with(expected));
        if there {
            self.at += expected.len();
        }
        there
    }

    /// Takes a keyword in any case, unless it goes on as another word or is the name of a selector.
    fn take_word(&mut self, expected: &str) -> bool {
        self.skip_blanks();
        let start = self.at;
        if self.word().eq_ignore_ascii_case(expected) && self.peek() != Some(b'{') {
            return true;
        }
        self.at = start;
        false
    }

    fn expect(&mut self, expected: &str) -> Result<(), Error> {
        if self.take(expected) {
            Ok(())
        } else {
            Err(self.refuse(&format!("expected {expected}")))
        }
    }

    fn refuse(&self, problem: &str) -> Error {
        Error {
            at: self.slice(0..self.at).chars().count() + 1,
            problem: problem.to_owned(),
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || matches!(byte, b'_' | b':')
}

fn is_one_of(word: &str, words: &[&str]) -> bool {
    words.iter().any(|known| word.eq_ignore_ascii_case(known))
}
