//! One JSON object, read field by field: every complaint names the path of the field and what is allowed there, and what
//! nobody asked for is refused.

use serde_json::{Map, Value};

use super::Error;
use crate::lint::kind;

/// Fields of an object that were not read yet.
#[derive(Debug)]
pub(super) struct Fields {
    path: String,
    left: Map<String, Value>,
    /// Names that were asked for, for the message about one that was not.
    known: Vec<&'static str>,
}

impl Fields {
    /// Takes an object apart; `path` is how people find it.
    pub(super) fn of(value: Value, path: String) -> Result<Self, Error> {
        match value {
            Value::Object(left) => Ok(Self {
                path,
                left,
                known: Vec::new(),
            }),
            other => Err(Error::Field {
                path,
                problem: format!("is {}, but must be an object", kind(&other)),
            }),
        }
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    fn problem(&self, name: &str, problem: String) -> Error {
        Error::Field {
            path: self.path_of(name),
            problem,
        }
    }

    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.left.remove(name).filter(|value| !value.is_null())
    }

    fn missing(&self, name: &str, what: &str) -> Error {
        self.problem(name, format!("is missing, but must be {what}"))
    }

    /// A text; required.
    pub(super) fn text(&mut self, name: &'static str) -> Result<String, Error> {
        self.text_or_none(name)?.ok_or_else(|| self.missing(name, "a text"))
    }

    /// A text, if there is one.
    pub(super) fn text_or_none(&mut self, name: &'static str) -> Result<Option<String>, Error> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.problem(name, format!("is {}, but must be a text", kind(&other)))),
        }
    }

    /// A truth value.
    pub(super) fn flag(&mut self, name: &'static str, default: bool) -> Result<bool, Error> {
        match self.take(name) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(self.problem(name, format!("is {}, but must be true or false", kind(&other)))),
        }
    }

    /// A list, empty if it is missing.
    pub(super) fn list(&mut self, name: &'static str) -> Result<Vec<(Value, String)>, Error> {
        let path = self.path_of(name);
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => Ok(items
                .into_iter()
                .enumerate()
                .map(|(at, item)| (item, format!("{path}[{at}]")))
                .collect()),
            Some(other) => Err(self.problem(name, format!("is {}, but must be a list", kind(&other)))),
        }
    }

    /// A whole number from 0 on.
    pub(super) fn count(&mut self, name: &'static str, default: u32) -> Result<u32, Error> {
        let Some(value) = self.take(name) else {
            return Ok(default);
        };
        let fits = value.as_u64().and_then(|number| u32::try_from(number).ok());
        fits.ok_or_else(|| {
            self.problem(
                name,
                format!("is {value}, but must be a whole number from 0 to {}", u32::MAX),
            )
        })
    }

    /// A number with at most `digits` behind the point, times 10^`digits`; below zero only if `signed`.
    pub(super) fn fixed_or_none(
        &mut self,
        name: &'static str,
        digits: u32,
        signed: bool,
    ) -> Result<Option<i128>, Error> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let least = if signed { i128::from(i64::MIN) } else { 0 };
        let exact = match &value {
            Value::Number(number) => fixed(&number.to_string(), digits),
            _ => None,
        };
        if let Some(exact) = exact.filter(|&exact| exact >= least && exact <= i128::from(i64::MAX)) {
            return Ok(Some(exact));
        }
        let sign = if signed { "" } else { " that is not negative" };
        let most = i128::from(i64::MAX) / 10_i128.pow(digits);
        let problem = match digits {
            0 => format!("is {value}, but must be a whole number{sign} of at most {most}"),
            _ => format!(
                "is {value}, but must be a number{sign} of at most {most} with at most {digits} digits behind the point"
            ),
        };
        Err(self.problem(name, problem))
    }

    /// The same for what is not negative, with a default.
    pub(super) fn amount(&mut self, name: &'static str, digits: u32, default: u64) -> Result<u64, Error> {
        let read = self.fixed_or_none(name, digits, false)?;
        Ok(read.map_or(default, |exact| u64::try_from(exact).unwrap_or(default)))
    }

    /// The same, required.
    pub(super) fn amount_required(&mut self, name: &'static str, digits: u32) -> Result<u64, Error> {
        let read = self
            .fixed_or_none(name, digits, false)?
            .and_then(|exact| u64::try_from(exact).ok());
        read.ok_or_else(|| self.missing(name, "a number that is not negative"))
    }

    /// Refuses what was not asked for.
    pub(super) fn finish(self) -> Result<(), Error> {
        match self.left.keys().next() {
            None => Ok(()),
            Some(name) => Err(self.problem(name, format!("is unknown; known here: {}", self.known.join(", ")))),
        }
    }
}

/// A decimal text (`-12.5`, `1e-3`) times 10^`digits`, if that is whole and not absurd.
fn fixed(text: &str, digits: u32) -> Option<i128> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let number: i128 = format!("{whole}{part}").parse().ok()?;
    let shift = exponent
        .checked_add(i32::try_from(digits).ok()?)?
        .checked_sub(i32::try_from(part.len()).ok()?)?;
    let power = 10_i128.checked_pow(shift.unsigned_abs());
    match power {
        _ if number == 0 => Some(0),
        None => None,
        Some(power) if shift >= 0 => number.checked_mul(power),
        Some(power) => (number % power == 0).then_some(number / power),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_become_integers_without_rounding() {
        for (text, digits, expected) in [
            ("0.98", 6, Some(980_000)),
            ("32.77", 6, Some(32_770_000)),
            ("-3", 0, Some(-3)),
            ("1e3", 3, Some(1_000_000)),
            ("1e-7", 6, None),
            ("2.5e-1", 3, Some(250)),
            ("0.0", 0, Some(0)),
            ("1.5", 0, None),
            ("1e400", 3, None),
        ] {
            assert_eq!(fixed(text, digits), expected, "{text} with {digits} digits");
        }
    }
}
