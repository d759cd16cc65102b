//! Decimal numbers as strings: exact, never a float.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A non-negative decimal with at most nine digits before and six after the point, such as `"0.2415"`.
///
/// Parsed once, kept as text so that what the author wrote is what they read back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Decimal(pub String);

/// The text is not a decimal of the accepted form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' must be a decimal such as '0.25' or '12': at most 9 digits before the point and 6 after")]
pub struct InvalidDecimal(pub String);

const MICROS_PER_UNIT: u64 = 1_000_000;

impl Decimal {
    /// The value in millionths: `"0.25"` is 250,000. At most 10^15, so that sums of thousands stay exact.
    ///
    /// # Errors
    /// When the text is not of the accepted form.
    pub fn micros(&self) -> Result<u64, InvalidDecimal> {
        let invalid = || InvalidDecimal(self.0.clone());
        let (whole, fraction) = self
            .0
            .split_once('.')
            .map_or((self.0.as_str(), None), |(w, f)| (w, Some(f)));
        let digits = |text: &str, most: usize| {
            (!text.is_empty() && text.len() <= most && text.bytes().all(|b| b.is_ascii_digit())).then_some(())
        };
        digits(whole, 9).ok_or_else(invalid)?;
        let whole: u64 = whole.parse().map_err(|_| invalid())?;
        let fraction: u64 = match fraction {
            None => 0,
            Some(text) => {
                digits(text, 6).ok_or_else(invalid)?;
                format!("{text:0<6}").parse().map_err(|_| invalid())?
            }
        };
        Ok(whole * MICROS_PER_UNIT + fraction)
    }

    /// The value in thousandths, rounded down: `"2.5"` is 2,500.
    ///
    /// # Errors
    /// When the text is not of the accepted form.
    pub fn millis(&self) -> Result<u64, InvalidDecimal> {
        self.micros().map(|micros| micros / 1_000)
    }
}

/// Formats millionths of a currency unit with two places, rounded half up; more places only where two would read 0.00.
pub fn money(micros: u64) -> String {
    if micros > 0 && micros < 5_000 {
        return format!("0.{micros:06}").trim_end_matches('0').to_owned();
    }
    let cents = micros.saturating_add(5_000) / 10_000;
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// Formats thousandths exactly, without zeros at the end.
pub fn thousandths(millis: u64) -> String {
    let text = format!("{}.{:03}", millis / 1_000, millis % 1_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for Decimal {
    fn schema_name() -> Cow<'static, str> {
        "Decimal".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 1,
            "maxLength": 16,
            "x-kubernetes-validations": [{
                "rule": r"self.matches('^[0-9]{1,9}([.][0-9]{1,6})?$')",
                "message": "must be a decimal string such as '0.25' or '12', at most 9 digits before the point and 6 after",
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, micros: Option<u64>) {
        assert_eq!(Decimal(text.to_owned()).micros().ok(), micros, "{text:?}");
    }

    #[test]
    fn decimals_are_exact_to_the_millionth() {
        check("0", Some(0));
        check("0.2415", Some(241_500));
        check("12", Some(12_000_000));
        check("999999999.999999", Some(999_999_999_999_999));
    }

    #[test]
    fn what_is_not_a_plain_decimal_is_refused() {
        for text in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "+1",
            "1e3",
            "NaN",
            "0.1234567",
            "1234567890",
            "1,5",
            " 1",
            "١",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn money_reads_as_cents_unless_that_would_hide_it() {
        assert_eq!(money(11_834_999), "11.83");
        assert_eq!(money(11_835_000), "11.84");
        assert_eq!(money(0), "0.00");
        assert_eq!(money(1_200), "0.0012");
        assert_eq!(money(u64::MAX), "18446744073709.55");
    }
}
