//! Kubernetes quantities, exactly: `250m`, `1.5Gi`, `182374651n`, `2e3`.
//!
//! A [`Quantity`] is a whole number of billionths of the base unit (cores, bytes, devices), which is the finest step
//! that Kubernetes keeps. Nothing is rounded until a coarser unit is asked for, and then the caller says which way:
//! requests up, capacity down, so that a sum never promises room that is not there.

use std::str::FromStr;

/// Billionths in one base unit.
const NANOS: i128 = 1_000_000_000;

/// Largest magnitude in base units; the API server caps quantities at the same value.
const UNITS_MAX: i128 = i64::MAX as i128;

/// No legal quantity needs more characters; bounds the work on hostile text.
const TEXT_MAX: usize = 128;

/// Which way a quantity goes when it does not divide evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// Towards positive infinity: for what is requested.
    Up,
    /// Towards negative infinity: for what is available.
    Down,
}

/// An exact amount of a resource. Ordered by size; `500m` equals `0.5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity {
    nanos: i128,
}

/// Why a text is not a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing there.
    #[error("quantity is empty: write a number such as 2, 500m or 1.5Gi")]
    Empty,
    /// No digits, or something between sign and digits.
    #[error("quantity does not start with a number: write a number such as 2, 500m or 1.5Gi")]
    NoNumber,
    /// The suffix is none of those Kubernetes knows.
    #[error("quantity has an unknown suffix: use n, u, m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei or an exponent")]
    UnknownSuffix,
    /// Larger than the API server can hold (2^63 - 1 base units).
    #[error("quantity is too large: at most 9223372036854775807 base units")]
    TooLarge,
    /// More digits than can be held exactly.
    #[error("quantity has too many digits to be read exactly: shorten it")]
    TooManyDigits,
}

impl Quantity {
    /// Nothing of the resource.
    pub const ZERO: Self = Self { nanos: 0 };

    /// Reads a quantity as Kubernetes writes and accepts it. Steps finer than a billionth are rounded away from zero,
    /// as the API server does.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(Error::Empty);
        }
        if text.len() > TEXT_MAX {
            return Err(Error::TooManyDigits);
        }
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, text.get(1..).unwrap_or_default()),
            Some(b'+') => (false, text.get(1..).unwrap_or_default()),
            _ => (false, text),
        };
        let end = unsigned
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(Error::NoNumber);
        }
        let fraction = fraction.trim_end_matches('0');
        let mut mantissa: u128 = 0;
        for digit in whole.bytes().chain(fraction.bytes()) {
            let shifted = mantissa.checked_mul(10).ok_or(Error::TooManyDigits)?;
            mantissa = shifted
                .checked_add(u128::from(digit - b'0'))
                .ok_or(Error::TooManyDigits)?;
        }
        let scale = Scale::parse(suffix)?;
        if mantissa == 0 {
            return Ok(Self::ZERO);
        }
        let decimal = scale.decimal + 9 - i32::try_from(fraction.len()).map_err(|_| Error::TooManyDigits)?;
        let nanos = scaled(mantissa, scale.binary, decimal)?;
        let nanos = i128::try_from(nanos)
            .ok()
            .filter(|n| *n <= UNITS_MAX * NANOS)
            .ok_or(Error::TooLarge)?;
        Ok(Self {
            nanos: if negative { -nanos } else { nanos },
        })
    }

    /// So many billionths of the base unit.
    pub const fn from_nanos(nanos: i128) -> Self {
        Self { nanos }
    }

    /// So many thousandths of the base unit.
    pub const fn from_millis(millis: i64) -> Self {
        Self {
            nanos: millis as i128 * 1_000_000,
        }
    }

    /// Billionths of the base unit, exactly.
    pub const fn nanos(self) -> i128 {
        self.nanos
    }

    /// Thousandths of the base unit: millicores, thousandths of a device.
    pub fn millis(self, round: Round) -> i128 {
        divide(self.nanos, 1_000_000, round)
    }

    /// Whole base units: cores, bytes, devices.
    pub fn units(self, round: Round) -> i128 {
        divide(self.nanos, NANOS, round)
    }

    /// KiB, for quantities of memory and storage.
    pub fn kib(self, round: Round) -> i128 {
        divide(self.nanos, NANOS * 1024, round)
    }
}

impl FromStr for Quantity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

/// Thousandths of the base unit in a quantity: [`Quantity::parse`] and [`Quantity::millis`] in one.
pub fn parse_millis(text: &str, round: Round) -> Result<i128, Error> {
    Ok(Quantity::parse(text)?.millis(round))
}

/// What a suffix multiplies by: 2^binary × 10^decimal.
struct Scale {
    binary: u32,
    decimal: i32,
}

impl Scale {
    fn parse(suffix: &str) -> Result<Self, Error> {
        let (binary, decimal) = match suffix {
            "n" => (0, -9),
            "u" => (0, -6),
            "m" => (0, -3),
            "" => (0, 0),
            "k" => (0, 3),
            "M" => (0, 6),
            "G" => (0, 9),
            "T" => (0, 12),
            "P" => (0, 15),
            "E" => (0, 18),
            "Ki" => (10, 0),
            "Mi" => (20, 0),
            "Gi" => (30, 0),
            "Ti" => (40, 0),
            "Pi" => (50, 0),
            "Ei" => (60, 0),
            _ => (0, exponent(suffix).ok_or(Error::UnknownSuffix)?),
        };
        Ok(Self { binary, decimal })
    }
}

/// `e3`, `E-3`, `e+03`. Exponents beyond any quantity are clamped, so that zero with one is still zero.
fn exponent(suffix: &str) -> Option<i32> {
    let digits = suffix.strip_prefix(['e', 'E'])?;
    let (sign, digits) = match digits.as_bytes().first()? {
        b'-' => (-1, digits.get(1..)?),
        b'+' => (1, digits.get(1..)?),
        _ => (1, digits),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(sign * digits.parse::<i32>().unwrap_or(1_000).min(1_000))
}

/// mantissa × 2^binary × 10^decimal, rounded up. Powers of two are cancelled first, so that a fraction of a binary
/// suffix stays exact without wider arithmetic.
fn scaled(mantissa: u128, binary: u32, decimal: i32) -> Result<u128, Error> {
    if decimal >= 0 {
        let factor = 10_u128.checked_pow(decimal.unsigned_abs()).ok_or(Error::TooLarge)?;
        let value = mantissa.checked_mul(factor).ok_or(Error::TooLarge)?;
        return value.checked_mul(1 << binary).ok_or(Error::TooLarge);
    }
    let places = decimal.unsigned_abs();
    let cancelled = places.min(binary);
    let numerator = mantissa
        .checked_mul(1 << (binary - cancelled))
        .ok_or(Error::TooManyDigits)?;
    let fives = 5_u128.checked_pow(places);
    let twos = 2_u128.checked_pow(places - cancelled);
    // A divisor beyond u128 is larger than any numerator: what is left is less than one billionth, and rounds up.
    let divisor = fives.zip(twos).and_then(|(fives, twos)| fives.checked_mul(twos));
    Ok(divisor.map_or(1, |divisor| numerator.div_ceil(divisor)))
}

fn divide(value: i128, by: i128, round: Round) -> i128 {
    let floor = value.div_euclid(by);
    match round {
        Round::Down => floor,
        Round::Up => floor + i128::from(value.rem_euclid(by) != 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nanos(text: &str) -> i128 {
        Quantity::parse(text)
            .unwrap_or_else(|error| panic!("{text}: {error}"))
            .nanos()
    }

    #[test]
    fn quantities_of_every_suffix_are_exact() {
        for (text, expected) in [
            ("0", 0),
            ("-0", 0),
            ("0e999999999999", 0),
            ("1", NANOS),
            ("+1", NANOS),
            ("1.", NANOS),
            (".5", NANOS / 2),
            ("250m", 250_000_000),
            ("-250m", -250_000_000),
            ("182374651n", 182_374_651),
            ("3u", 3_000),
            ("0.1", 100_000_000),
            ("1k", 1_000 * NANOS),
            ("2M", 2_000_000 * NANOS),
            ("7E", 7_000_000_000_000_000_000 * NANOS),
            ("2e3", 2_000 * NANOS),
            ("2E3", 2_000 * NANOS),
            ("2e-3", 2_000_000),
            ("2E+3", 2_000 * NANOS),
            ("1Ki", 1_024 * NANOS),
            ("1.5Gi", 1_610_612_736 * NANOS),
            ("24Gi", 25_769_803_776 * NANOS),
            ("0.0001Ki", 102_400_000),
            ("1.000000000001Ei", 1_152_921_504_607_999_897_504_606_847),
            ("9223372036854775807", UNITS_MAX * NANOS),
            ("000000000000000000000000000000000000000000000000012", 12 * NANOS),
            ("1.0000000000000000000000000000000000000000000000000000", NANOS),
        ] {
            assert_eq!(nanos(text), expected, "{text}");
        }
    }

    #[test]
    fn steps_finer_than_a_billionth_round_away_from_zero_as_the_api_server_does() {
        assert_eq!(nanos("0.1n"), 1);
        assert_eq!(nanos("-0.1n"), -1);
        assert_eq!(nanos("1e-300"), 1);
        assert_eq!(nanos("1.0000000001"), NANOS + 1);
    }

    #[test]
    fn what_is_not_a_quantity_says_why() {
        for (text, expected) in [
            ("", Error::Empty),
            ("-", Error::NoNumber),
            (".", Error::NoNumber),
            ("m", Error::NoNumber),
            ("--1", Error::NoNumber),
            ("INVALID", Error::NoNumber),
            ("NaN", Error::NoNumber),
            (" 1", Error::NoNumber),
            ("1.2.3", Error::NoNumber),
            ("1 ", Error::UnknownSuffix),
            ("1K", Error::UnknownSuffix),
            ("1ki", Error::UnknownSuffix),
            ("1e", Error::UnknownSuffix),
            ("1e+", Error::UnknownSuffix),
            ("1e3m", Error::UnknownSuffix),
            ("1mi", Error::UnknownSuffix),
            ("1µ", Error::UnknownSuffix),
            ("1e309", Error::TooLarge),
            ("10E", Error::TooLarge),
            ("9223372036854775808", Error::TooLarge),
            ("9223372036854775807.1", Error::TooLarge),
            ("1111111111111111111111111111111111111111111", Error::TooManyDigits),
        ] {
            assert_eq!(Quantity::parse(text), Err(expected), "{text:?}");
        }
    }

    #[test]
    fn the_caller_chooses_the_direction_of_rounding() {
        assert_eq!(parse_millis("1n", Round::Up), Ok(1));
        assert_eq!(parse_millis("1n", Round::Down), Ok(0));
        assert_eq!(parse_millis("-1n", Round::Up), Ok(0));
        assert_eq!(parse_millis("-1n", Round::Down), Ok(-1));
        assert_eq!(
            Quantity::parse("1025").map(|q| (q.kib(Round::Up), q.kib(Round::Down))),
            Ok((2, 1))
        );
        assert_eq!(
            Quantity::parse("1500m").map(|q| (q.units(Round::Up), q.units(Round::Down))),
            Ok((2, 1))
        );
    }

    proptest! {
        #[test]
        fn any_text_gives_a_quantity_or_an_error(text in "\\PC{0,140}") {
            let _ = Quantity::parse(&text);
        }

        #[test]
        fn text_that_looks_like_a_quantity_never_panics(text in "[+-]?[0-9]{0,40}\\.?[0-9]{0,40}(|n|u|m|k|M|E|Ki|Pi|Ei|[eE][+-]?[0-9]{0,12})") {
            if let Ok(quantity) = Quantity::parse(&text) {
                prop_assert!(quantity.nanos().abs() <= UNITS_MAX * NANOS);
                prop_assert!(quantity.millis(Round::Down) <= quantity.millis(Round::Up));
            }
        }

        #[test]
        fn millis_written_down_come_back(millis in -1_000_000_000_000_i64..1_000_000_000_000) {
            prop_assert_eq!(nanos(&format!("{millis}m")), Quantity::from_millis(millis).nanos());
            let (sign, size) = (if millis < 0 { "-" } else { "" }, millis.unsigned_abs());
            prop_assert_eq!(nanos(&format!("{sign}{}.{:03}", size / 1000, size % 1000)), i128::from(millis) * 1_000_000);
        }

        #[test]
        fn every_binary_suffix_is_1024_of_the_one_before(value in 0_u32..1_000_000, thousandths in 0_u32..1_000) {
            let text = |suffix: &str| format!("{value}.{thousandths:03}{suffix}");
            for (smaller, larger) in [("Ki", "Mi"), ("Mi", "Gi"), ("Gi", "Ti")] {
                // The smaller one may have been rounded up by less than a billionth.
                let (smaller, larger) = (nanos(&text(smaller)), nanos(&text(larger)));
                prop_assert!((0..1_024).contains(&(smaller * 1_024 - larger)), "{smaller} {larger}");
            }
        }

        #[test]
        fn rounding_up_and_down_enclose_the_exact_value(exact in -10_i128.pow(24)..10_i128.pow(24)) {
            let quantity = Quantity::from_nanos(exact);
            for (up, down, step) in [
                (quantity.millis(Round::Up), quantity.millis(Round::Down), 1_000_000),
                (quantity.units(Round::Up), quantity.units(Round::Down), NANOS),
                (quantity.kib(Round::Up), quantity.kib(Round::Down), NANOS * 1024),
            ] {
                prop_assert!(down * step <= exact && exact <= up * step && up - down <= 1);
                prop_assert_eq!(up == down, exact % step == 0);
            }
        }
    }
}
