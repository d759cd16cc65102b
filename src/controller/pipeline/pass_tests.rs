//! Whole passes over one pipeline, against a scripted API server.

use std::sync::Arc;
use std::time::Duration;

use kube::core::DeserializeGuard;
use kube::runtime::reflector;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::tests::{rag, stage, world};
use super::{Context, pass};
use crate::api::{TieredPipeline, conditions};
use crate::controller::capacity::fixtures::World;
use crate::controller::clock::Clock;
use crate::controller::events::Events;
use crate::controller::live::Children;
use crate::controller::outcome::Outcomes;
use crate::controller::own_writes::OwnWrites;
use crate::controller::owners::Owners;
use crate::controller::pools::Look;
use crate::controller::rebalancer::Notice;
use crate::controller::report::Views;
use crate::controller::stores::Stores;
use crate::fixtures::{ScriptedApi, status};
use crate::telemetry::Metrics;

/// A context in which nothing is there but a world, and the far ends of its clients: of the passes, and of what people are
/// told. What is told the rebalancer can be heard.
fn context(
    world: &World,
) -> (
    Arc<Context>,
    (ScriptedApi, ScriptedApi),
    mpsc::UnboundedReceiver<Notice>,
) {
    let ((client, api), (teller, told)) = (ScriptedApi::new(), ScriptedApi::new());
    let (clock, metrics) = (Clock::started_ago(Duration::from_mins(1)), Metrics::default());
    let (notices, heard) = mpsc::unbounded_channel();
    let (pools, nodes, pods) = world.stores();
    let stores = Stores {
        pipelines: reflector::store().0,
        pools,
        deployments: Children::new().0,
        services: Children::new().0,
        budgets: Children::new().0,
        accounts: Children::new().0,
        namespaces: reflector::store().0,
        nodes,
        pods,
        owners: Owners::default(),
    };
    let context = Context {
        client,
        stores,
        notices,
        look: watch::channel(Arc::new(Look::default())).1,
        views: Views::default(),
        events: Events::start(teller, "tiercel-0", clock.clone(), metrics.clone()).0,
        own: OwnWrites::default(),
        outcomes: Outcomes::new(metrics.clone(), clock.clone()),
        metrics,
        clock,
        allow_secrets: false,
    };
    (Arc::new(context), (api, told), heard)
}

fn at_version(mut pipeline: TieredPipeline, version: u64) -> TieredPipeline {
    pipeline.metadata.resource_version = Some(version.to_string());
    pipeline
}

/// One pass in which every write is answered with what would be stored, at version `stored`. Gives the writes of a status.
async fn writes(ctx: &Arc<Context>, api: &mut ScriptedApi, seen: &TieredPipeline, stored: u64) -> Vec<Value> {
    let object = Arc::new(DeserializeGuard(Ok(seen.clone())));
    let mut written = Vec::new();
    let answering = async {
        while let Some(call) = api.call_within(Duration::from_secs(1)).await {
            if call.method == "GET" {
                call.reply(404, &status(404, "NotFound"));
                continue;
            }
            if !call.path.contains("/tieredpipelines/rag/status?") {
                let body = call.body.clone();
                call.reply(200, &body);
                continue;
            }
            let mut object = serde_json::to_value(at_version(seen.clone(), stored)).unwrap();
            object["status"] = call.body["status"].clone();
            written.push(call.body.clone());
            call.reply(200, &object);
        }
    };
    let (pass, ()) = tokio::join!(pass(object, Arc::clone(ctx)), answering);
    assert!(pass.is_ok(), "{pass:?}");
    written
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_comes_before_the_news_of_the_last_write_says_nothing_twice() {
    let (ctx, (mut api, mut told), _heard) = context(&World::default());
    let raw = at_version(rag(json!([stage("serve", json!({}))]), json!({})), 5);
    let first = writes(&ctx, &mut api, &raw, 9).await;
    assert_eq!(first.len(), 1);
    assert_eq!(
        first[0]["metadata"],
        json!({"uid": "uid-rag"}),
        "only while it is the pipeline that was looked at"
    );
    let news = told.call().await;
    news.reply(201, &json!({"metadata": {}}));

    // As the store has it: not at all newer, or with an edit of the labels from in between.
    for seen in [5, 7] {
        let second = writes(&ctx, &mut api, &at_version(raw.clone(), seen), 11).await;
        assert_eq!(second, Vec::<Value>::new(), "seen at {seen}");
    }
    assert!(told.call_within(Duration::from_secs(20)).await.is_none(), "told twice");

    let mut shown = at_version(raw, 9);
    shown.status = serde_json::from_value(first[0]["status"].clone()).unwrap();
    assert_eq!(writes(&ctx, &mut api, &shown, 11).await, Vec::<Value>::new());

    // Somebody has emptied the status: that is news, not the past.
    let mut emptied = at_version(shown.clone(), 10);
    emptied.status = None;
    let again = writes(&ctx, &mut api, &emptied, 11).await;
    assert_eq!(again.len(), 1);
    let types =
        |status: &Value| conditions::verdicts(&serde_json::from_value::<Vec<_>>(status["conditions"].clone()).unwrap());
    assert_eq!(types(&again[0]["status"]), types(&first[0]["status"]));
}

#[tokio::test(start_paused = true)]
async fn a_deployment_that_the_server_refuses_is_told_the_rebalancer_and_one_that_somebody_else_was_faster_with_is_not()
{
    for (code, told) in [(403, true), (409, false)] {
        let (ctx, (mut api, _people), mut heard) = context(&world());
        let object = Arc::new(DeserializeGuard(Ok(rag(json!([stage("serve", json!({}))]), json!({})))));
        let answering = async {
            let mut asked = None;
            while let Some(call) = api.call_within(Duration::from_secs(1)).await {
                let name = call.path.split_once("/deployments/").map(|(_, name)| name.to_owned());
                match (call.method.as_str(), name) {
                    ("GET", _) => call.reply(404, &status(404, "NotFound")),
                    (_, Some(name)) => {
                        asked = name.split('?').next().map(str::to_owned);
                        call.reply(code, &status(code, "Forbidden"));
                    }
                    (_, None) => {
                        let body = call.body.clone();
                        call.reply(200, &body);
                    }
                }
            }
            asked.expect("a Deployment")
        };
        let (_, name) = tokio::join!(pass(object, Arc::clone(&ctx)), answering);
        match heard.try_recv() {
            Ok(Notice::Refused(key)) if told => assert_eq!(key, ("agents".to_owned(), name)),
            Err(_) if !told => {}
            other => panic!("{code}: {other:?}"),
        }
        assert!(heard.try_recv().is_err(), "{code}: more than one");
    }
}
