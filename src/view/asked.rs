//! What only the operator knows of a pipeline: what is planned and what the least would cost, and which pools are dry for whom.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::explain::{Document, Stage};

/// What the operator says beside the status.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Asked {
    /// Of all stages together.
    pub cost: Cost,
    /// Pools that are taken for dry, by stage.
    pub dry: Vec<Dry>,
}

/// What a pipeline costs, in the currency of the pools' prices. A sum of which a part is not known is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// Of the replicas that are planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned_per_hour: Option<f64>,
    /// Of the least replicas where one costs the least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum_per_hour: Option<f64>,
}

/// A pool on which a stage adds nothing for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dry {
    /// The stage.
    pub stage: String,
    /// The pool.
    pub pool: String,
    /// Why, in a few words.
    pub why: String,
    /// When one replica tries again, RFC 3339; absent where one may already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// What a document says of that. One that is made from a status says nothing of it.
pub fn asked(document: &Document) -> Asked {
    let sum = |of: fn(&Stage) -> Option<f64>| {
        let all: Option<Vec<f64>> = document.stages.iter().map(of).collect();
        all.filter(|all| !all.is_empty()).map(|all| all.iter().sum())
    };
    let made: Option<Timestamp> = document.time.parse().ok();
    let until = |seconds: f64| {
        let left = SignedDuration::try_from_secs_f64(seconds).ok();
        let left = left.filter(SignedDuration::is_positive)?;
        // Of a moment that people read, parts of a second say nothing.
        let moment = Timestamp::from_second(made?.checked_add(left).ok()?.as_second()).ok()?;
        Some(moment.to_string())
    };
    let pools = document.stages.iter().flat_map(|stage| {
        let pools = stage.pools.iter();
        pools.map(move |pool| (stage, pool))
    });
    let dry = pools.filter_map(|(stage, pool)| {
        let dry = pool.dry.as_ref()?;
        Some(Dry {
            stage: stage.name.clone(),
            pool: pool.name.clone(),
            why: dry.why.clone(),
            until: until(dry.seconds),
        })
    });
    Asked {
        cost: Cost {
            planned_per_hour: sum(|stage| stage.cost_per_hour),
            minimum_per_hour: sum(|stage| stage.minimum_cost_per_hour),
        },
        dry: dry.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::{Dry as Told, Pool};

    fn pool(name: &str, dry: Option<(&str, f64)>) -> Pool {
        Pool {
            name: name.to_owned(),
            dry: dry.map(|(why, seconds)| Told {
                why: why.to_owned(),
                seconds,
            }),
            ..Pool::default()
        }
    }

    fn stage(name: &str, planned: Option<f64>, minimum: Option<f64>, pools: Vec<Pool>) -> Stage {
        Stage {
            name: name.to_owned(),
            cost_per_hour: planned,
            minimum_cost_per_hour: minimum,
            pools,
            ..Stage::default()
        }
    }

    fn document(stages: Vec<Stage>) -> Document {
        Document {
            time: "2026-11-21T12:00:00.250Z".to_owned(),
            stages,
            ..Document::default()
        }
    }

    #[test]
    fn costs_of_all_stages_and_dry_pools_by_stage_are_on_record() {
        let generate = vec![
            pool("l4", Some(("could not place pods lately", 34.9))),
            pool("arm", None),
            pool("h100", Some(("nodes are being taken away", 0.0))),
        ];
        let document = document(vec![
            stage("guard", Some(0.5), Some(0.25), vec![pool("arm", None)]),
            stage("generate", Some(4.5), Some(0.75), generate),
        ]);
        insta::assert_json_snapshot!(asked(&document));
    }

    #[test]
    fn a_sum_of_which_a_part_is_missing_is_missing() {
        let stages = || {
            vec![
                stage("guard", Some(0.5), Some(0.25), Vec::new()),
                stage("generate", Some(4.5), None, Vec::new()),
            ]
        };
        let cost = asked(&document(stages())).cost;
        assert_eq!((cost.planned_per_hour, cost.minimum_per_hour), (Some(5.0), None));
        assert_eq!(asked(&document(Vec::new())), Asked::default(), "no stage is no zero");
    }

    #[test]
    fn until_when_is_not_told_where_the_time_is_not() {
        let until = |time: &str, seconds: f64| {
            let document = Document {
                time: time.to_owned(),
                ..document(vec![stage("s", None, None, vec![pool("l4", Some(("why", seconds)))])])
            };
            asked(&document).dry[0].until.clone()
        };
        assert_eq!(
            until("2026-11-21T12:00:00Z", 90.0).as_deref(),
            Some("2026-11-21T12:01:30Z")
        );
        assert_eq!(until("", 90.0), None);
        for seconds in [-1.0, f64::NAN, f64::INFINITY, 1e300] {
            assert_eq!(until("2026-11-21T12:00:00Z", seconds), None, "{seconds}");
        }
    }
}
