//! What the pipelines of a namespace may take together: annotations that the platform team sets on the Namespace, because
//! who may edit pipelines in a namespace may not edit the namespace. Pure.

use std::collections::BTreeMap;

use crate::api::decimal::Decimal;
use crate::api::labels::{MAX_COST_PER_HOUR, MAX_POWER_WATTS};
use crate::rebalance::world::Ceilings;

/// Largest ceiling on power, as in a pipeline's `budget.maxPowerWatts`.
const WATTS_MAX: u64 = 1_000_000_000;

/// Ceilings of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceCeilings {
    /// What holds.
    pub limits: Ceilings,
    /// What cannot be read, and therefore does not hold: with the annotation and what is allowed.
    pub problems: Vec<String>,
}

impl NamespaceCeilings {
    /// Reads a namespace's annotations.
    pub fn of(annotations: &BTreeMap<String, String>) -> Self {
        let mut found = Self::default();
        let mut refuse = |key: &str, text: &str, allowed: &str| {
            found
                .problems
                .push(format!("annotation {key} of the namespace is '{text}': {allowed}"));
        };
        if let Some(text) = annotations.get(MAX_COST_PER_HOUR) {
            match Decimal(text.clone()).micros() {
                Ok(micros) => found.limits.budget_micros = Some(micros),
                Err(_) => refuse(
                    MAX_COST_PER_HOUR,
                    text,
                    "must be a decimal such as '120.00', at most 9 digits before the point and 6 after",
                ),
            }
        }
        if let Some(text) = annotations.get(MAX_POWER_WATTS) {
            match text.parse() {
                Ok(watts @ 0..=WATTS_MAX) => found.limits.power_max_milliwatts = Some(watts * 1_000),
                _ => refuse(MAX_POWER_WATTS, text, "must be whole watts, 0 to 1000000000"),
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(annotations: &[(&str, &str)]) -> NamespaceCeilings {
        let annotations = annotations
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        NamespaceCeilings::of(&annotations.collect())
    }

    #[test]
    fn ceilings_are_read_from_the_namespace() {
        assert_eq!(of(&[("team", "search")]), NamespaceCeilings::default());
        let both = of(&[(MAX_COST_PER_HOUR, "120.50"), (MAX_POWER_WATTS, "4000")]);
        assert_eq!(both.limits.budget_micros, Some(120_500_000));
        assert_eq!(both.limits.power_max_milliwatts, Some(4_000_000));
        assert_eq!(both.problems, [""; 0]);
    }

    #[test]
    fn a_ceiling_that_cannot_be_read_is_named_with_what_is_allowed_and_the_other_holds() {
        let wrong = of(&[(MAX_COST_PER_HOUR, "ten"), (MAX_POWER_WATTS, "40")]);
        assert_eq!(wrong.limits.power_max_milliwatts, Some(40_000));
        assert_eq!(wrong.limits.budget_micros, None);
        assert_eq!(
            wrong.problems,
            [
                "annotation tiercel.dev/max-cost-per-hour of the namespace is 'ten': must be a decimal such as '120.00', at most 9 digits before the point and 6 after"
            ]
        );
        for text in ["-1", "4kW", "1000000001", "4.5", ""] {
            let wrong = of(&[(MAX_POWER_WATTS, text)]);
            assert_eq!(
                wrong.problems,
                [format!(
                    "annotation tiercel.dev/max-power-watts of the namespace is '{text}': must be whole watts, 0 to 1000000000"
                )]
            );
        }
    }
}
