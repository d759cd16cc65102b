//! Which pools are dry, and for whom. Only the operator knows: its metrics say which, its explanations why and until when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use crate::cli::asking::{Operator, Unreached};
use crate::cli::cost;
use crate::signals::exposition::{self, Exposition, Value};
use crate::view::asked;

/// The metric that tells: 1 where a pool does not deliver replicas to a stage.
const METRIC: &str = "tiercel_stage_dry";
/// Pipelines that one answer asks about; of more than that, only which pools are dry for them is told.
const PIPELINES_MAX: usize = 16;
/// All of these questions together. What has been answered by then is told.
const DEADLINE: Duration = Duration::from_secs(3);

/// A stage that adds nothing on a pool for a while. In the order of pools and names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Place {
    pool: String,
    namespace: String,
    pipeline: String,
    stage: String,
    /// Why, in a few words; absent where the operator was not asked that much.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// When one replica tries again, RFC 3339; absent where one may already.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
}

/// Nobody knows which pools are dry.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unknown {
    #[error(transparent)]
    Unreached(#[from] Unreached),
    #[error("the operator's metrics cannot be read: {0}")]
    Metrics(#[from] exposition::Error),
}

/// All dry places, of one namespace if one is given.
pub(super) async fn find(operator: &Operator, namespace: Option<&str>) -> Result<Vec<Place>, Unknown> {
    let mut places = places(&operator.metrics().await?)?;
    places.retain(|place| namespace.is_none_or(|namespace| place.namespace == namespace));
    let pipelines: BTreeSet<_> = places
        .iter()
        .map(|place| (place.namespace.clone(), place.pipeline.clone()))
        .collect();
    // What is not answered in time stays as it is: the pools are dry all the same.
    let ask = async {
        for (namespace, pipeline) in pipelines.into_iter().take(PIPELINES_MAX) {
            let Ok(document) = operator.ask(&namespace, &pipeline).await else {
                continue;
            };
            for dry in asked::asked(&document).dry {
                let is_meant = |place: &&mut Place| {
                    place.namespace == namespace
                        && place.pipeline == pipeline
                        && place.stage == dry.stage
                        && place.pool == dry.pool
                };
                if let Some(place) = places.iter_mut().find(is_meant) {
                    (place.why, place.until) = (Some(dry.why), dry.until);
                }
            }
        }
    };
    let _ = tokio::time::timeout(DEADLINE, ask).await;
    Ok(places)
}

/// What the metrics say, in the order of pools and names.
fn places(body: &str) -> Result<Vec<Place>, exposition::Error> {
    let parsed = Exposition::parse(body.as_bytes(), &cost::LIMITS)?;
    let dry = parsed.samples().iter().filter(|sample| {
        let is_dry = matches!(sample.value, Value::Number(value) if value.get() > 0.0);
        is_dry && sample.name.resolved() == METRIC
    });
    let mut places: Vec<Place> = dry
        .map(|sample| {
            let labels = sample.labels();
            let mut labels: BTreeMap<_, _> = labels
                .map(|label| (label.name.resolved().into_owned(), label.value.resolved().into_owned()))
                .collect();
            let mut label = |name: &str| labels.remove(name).unwrap_or_default();
            Place {
                namespace: label("namespace"),
                pipeline: label("pipeline"),
                stage: label("stage"),
                pool: label("pool"),
                why: None,
                until: None,
            }
        })
        .collect();
    places.sort();
    Ok(places)
}

#[cfg(test)]
mod tests {
    use hyper::Response;
    use kube::Client;
    use kube::client::Body;
    use tower_test::mock;

    use super::*;
    use crate::explain::{Document, Dry, PATH, Pool, Stage, VERSION};
    use crate::telemetry::{self, Metrics, fixture};

    fn metrics() -> String {
        let metrics = Metrics::default();
        for namespace in ["rag", "other"] {
            metrics.set_pipeline(namespace, "chat", fixture::whole(&["generate"], &["l4"]));
        }
        format!(
            "tiercel_lease_leading 1\n{}",
            metrics.encode(telemetry::Exposition::Text)
        )
    }

    fn document() -> String {
        let dry = Dry {
            why: "could not place pods lately".to_owned(),
            seconds: 30.0,
        };
        let pool = Pool {
            name: "l4".to_owned(),
            dry: Some(dry),
            ..Pool::default()
        };
        let stage = Stage {
            name: "generate".to_owned(),
            pools: vec![pool],
            ..Stage::default()
        };
        let document = Document {
            version: VERSION,
            time: "2026-11-21T12:00:00Z".to_owned(),
            stages: vec![stage],
            ..Document::default()
        };
        serde_json::to_string(&document).unwrap()
    }

    /// Answers these paths of the operator, everything else with 404, and counts the requests.
    async fn found(namespace: Option<&str>, answers: &[(&str, String)]) -> (Result<Vec<Place>, Unknown>, usize) {
        let (service, mut server) = mock::pair::<hyper::Request<Body>, Response<Body>>();
        let operator = Operator::At(Client::new(service, "default"), "http://operator".to_owned());
        let mut asked = 0;
        let serve = async {
            while let Some((request, send)) = server.next_request().await {
                asked += 1;
                let answer = answers.iter().find(|(path, _)| request.uri().path() == *path);
                let (code, body) = answer.map_or((404, "no\n"), |(_, body)| (200, body));
                let answer = Response::builder().status(code);
                send.send_response(answer.body(Body::from(body.as_bytes().to_vec())).unwrap());
            }
        };
        let find = async {
            let found = find(&operator, namespace).await;
            drop(operator);
            found
        };
        let (found, ()) = tokio::join!(find, serve);
        (found, asked)
    }

    #[tokio::test]
    async fn metrics_say_which_pools_are_dry_and_only_their_pipelines_are_asked_why() {
        let path = format!("{PATH}/rag/chat");
        let answers = [("/metrics", metrics()), (path.as_str(), document())];
        let (places, asked) = found(Some("rag"), &answers).await;
        let place = Place {
            namespace: "rag".to_owned(),
            pipeline: "chat".to_owned(),
            stage: "generate".to_owned(),
            pool: "l4".to_owned(),
            why: Some("could not place pods lately".to_owned()),
            until: Some("2026-11-21T12:00:30Z".to_owned()),
        };
        assert_eq!((places.unwrap(), asked), (vec![place.clone()], 2));
        // The other namespace's pipeline is not explained: its pool is dry all the same.
        let (places, asked) = found(None, &answers).await;
        let other = Place {
            namespace: "other".to_owned(),
            why: None,
            until: None,
            ..place.clone()
        };
        assert_eq!((places.unwrap(), asked), (vec![other, place], 3));
    }

    #[tokio::test]
    async fn nothing_is_asked_where_nothing_is_dry_and_an_operator_out_of_reach_is_told() {
        let (places, asked) = found(None, &[("/metrics", "tiercel_lease_leading 1\n".to_owned())]).await;
        assert_eq!((places.unwrap(), asked), (Vec::new(), 1));
        let (nobody, _) = found(None, &[]).await;
        assert!(
            nobody.unwrap_err().to_string().contains("operator"),
            "who does not answer"
        );
    }
}
