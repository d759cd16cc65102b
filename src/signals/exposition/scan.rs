//! What a line is cut with: a position in a text that only moves forwards, and searches that look at eight bytes at once.

use super::{Problem, Text};

/// No legal number needs more characters; bounds the work of the conversion.
const NUMBER_MAX: usize = 128;

/// Decimals that a double divides by without rounding twice.
const TENS: [f64; 16] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
];

/// So many digits are less than 2^53, so that a double holds them exactly.
const DIGITS_EXACT: usize = 15;

const STARTS_NAME: u8 = 1;
const IN_NAME: u8 = 2;
const STARTS_METRIC: u8 = 4;
const IN_METRIC: u8 = 8;

/// What each byte may be part of.
#[expect(clippy::indexing_slicing, reason = "within an array of 256, at compile time")]
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = u8::MIN;
    loop {
        classes[byte as usize] = if byte.is_ascii_alphabetic() || byte == b'_' {
            STARTS_NAME | IN_NAME | STARTS_METRIC | IN_METRIC
        } else if byte.is_ascii_digit() {
            IN_NAME | IN_METRIC
        } else if byte == b':' {
            STARTS_METRIC | IN_METRIC
        } else {
            0
        };
        if byte == u8::MAX {
            break classes;
        }
        byte += 1;
    }
};

/// Notes that so many bytes were looked at. Tests count them, because a clock proves nothing about growth.
#[inline]
pub(super) fn visit(bytes: usize) {
    #[cfg(test)]
    VISITED.with(|visited| visited.set(visited.get() + bytes as u64));
    #[cfg(not(test))]
    let _ = bytes;
}

#[cfg(test)]
thread_local! {
    pub(super) static VISITED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Where and why lexing of a line stopped.
pub(super) enum Stop {
    At(usize, Problem),
    TooManyLabels,
}

/// A position in a line. Only ever at the boundary of a character, because it moves over ASCII or whole texts.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    pub(super) fn stop(&self, problem: Problem) -> Stop {
        Stop::At(self.at, problem)
    }

    #[inline]
    pub(super) fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            visit(1);
            self.at += 1;
        }
    }

    #[inline]
    fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// A metric name without quotes: letters, digits not in first place, `_` and `:`.
    #[inline]
    pub(super) fn metric_name(&mut self) -> Option<Text<'a>> {
        self.bare(STARTS_METRIC, IN_METRIC)
    }

    /// A label name without quotes: as a metric name, without `:`.
    #[inline]
    pub(super) fn label_name(&mut self) -> Option<Text<'a>> {
        self.bare(STARTS_NAME, IN_NAME)
    }

    #[inline]
    fn bare(&mut self, starts: u8, goes_on: u8) -> Option<Text<'a>> {
        let start = self.at;
        let is = |byte: Option<u8>, class: u8| {
            byte.is_some_and(|byte| {
                CLASSES
                    .get(usize::from(byte))
                    .is_some_and(|classes| classes & class != 0)
            })
        };
        if !is(self.peek(), starts) {
            return None;
        }
        self.at += 1;
        while is(self.peek(), goes_on) {
            visit(1);
            self.at += 1;
        }
        Some(Text {
            raw: self.since(start),
            escaped: false,
        })
    }

    /// A quoted text; the cursor is at its opening quote.
    #[inline]
    pub(super) fn quoted(&mut self) -> Result<Text<'a>, Stop> {
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at = quote_or_backslash(self.text.as_bytes(), self.at);
            match self.peek() {
                Some(b'"') => {
                    let raw = self.since(start);
                    self.at += 1;
                    return Ok(Text { raw, escaped });
                }
                // The escaped character is ASCII or the backslash stands for itself: stepping over one byte more is
                // safe only for the two that could otherwise be misread.
                Some(_) => {
                    escaped = true;
                    self.at += 1;
                    if matches!(self.peek(), Some(b'\\' | b'"')) {
                        self.at += 1;
                    }
                }
                None => return Err(self.stop(Problem::ClosingQuote)),
            }
        }
    }

    /// Everything up to the next blank.
    pub(super) fn word(&mut self) -> &'a str {
        let start = self.at;
        while !matches!(self.peek(), None | Some(b' ' | b'\t')) {
            visit(1);
            self.at += 1;
        }
        self.since(start)
    }

    /// A number, NaN or an infinity, up to the next blank.
    #[inline]
    pub(super) fn number(&mut self) -> Option<f64> {
        if let Some(number) = self.plain_number() {
            return Some(number);
        }
        let word = self.word();
        if word.len() > NUMBER_MAX {
            return None;
        }
        visit(word.len());
        word.parse().ok()
    }

    /// Up to 15 digits with or without a point, which is what counters and most gauges are: both parts of the quotient
    /// are exact, so the one rounding of the division is the right one. Anything else is left to the standard library.
    #[inline]
    fn plain_number(&mut self) -> Option<f64> {
        let rest = self.text.as_bytes().get(self.at..)?;
        let mut mantissa = 0_u64;
        let (mut digits, mut decimals, mut length) = (0_usize, 0_usize, 0_usize);
        let mut point = false;
        for &byte in rest {
            visit(1);
            match byte {
                b'0'..=b'9' => {
                    mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
                    digits += 1;
                    decimals += usize::from(point);
                }
                b'.' if !point => point = true,
                b' ' | b'\t' => break,
                _ => return None,
            }
            length += 1;
            if digits > DIGITS_EXACT {
                return None;
            }
        }
        if digits == 0 {
            return None;
        }
        self.at += length;
        #[expect(clippy::cast_precision_loss, reason = "below 10^15")]
        let mantissa = mantissa as f64;
        Some(if decimals == 0 {
            mantissa
        } else {
            mantissa / TENS.get(decimals)?
        })
    }
}

/// Index of the first quote or backslash from `at` on; the length if there is none.
#[inline]
fn quote_or_backslash(bytes: &[u8], mut at: usize) -> usize {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // Sets the high bit of every zero byte; a borrow can set others, but only above a zero byte, and the lowest counts.
    let zeros = |word: u64| word.wrapping_sub(LOW) & !word & HIGH;
    while let Some(word) = eight(bytes, at) {
        visit(8);
        let hits = zeros(word ^ (LOW * u64::from(b'"'))) | zeros(word ^ (LOW * u64::from(b'\\')));
        if hits != 0 {
            return at + hits.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while bytes.get(at).is_some_and(|byte| !matches!(byte, b'"' | b'\\')) {
        visit(1);
        at += 1;
    }
    at
}

/// How many bytes both begin with.
#[inline]
pub(super) fn agreement(a: &[u8], b: &[u8]) -> usize {
    let mut at = 0;
    while let (Some(left), Some(right)) = (eight(a, at), eight(b, at)) {
        visit(8);
        if left != right {
            return at + (left ^ right).trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while let (Some(left), Some(right)) = (a.get(at), b.get(at))
        && left == right
    {
        visit(1);
        at += 1;
    }
    at
}

#[inline]
fn eight(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk::<8>()?))
}
