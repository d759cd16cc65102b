use serde_json::Value;

use super::*;
use crate::fixtures::{ScriptedApi, status};

const IN: Pause = Pause {
    scale_in: true,
    scale_out: false,
};
const OUT: Pause = Pause {
    scale_in: false,
    scale_out: true,
};
const NONE: Pause = Pause {
    scale_in: false,
    scale_out: false,
};

#[test]
fn each_direction_is_paused_and_resumed_by_itself() {
    use Direction::{Pause as Stop, Resume};
    for (direction, before, scale_in, scale_out, after) in [
        (Stop, NONE, false, false, Pause::ALL),
        (Stop, NONE, true, false, IN),
        (Stop, OUT, true, false, Pause::ALL),
        (Stop, IN, true, false, IN),
        (Stop, NONE, true, true, Pause::ALL),
        (Resume, Pause::ALL, false, false, NONE),
        (Resume, Pause::ALL, true, false, OUT),
        (Resume, IN, false, true, IN),
        (Resume, IN, true, false, NONE),
    ] {
        assert_eq!(
            direction.after(before, scale_in, scale_out),
            after,
            "{direction:?} {before:?} {scale_in} {scale_out}"
        );
    }
}

fn pipeline(version: &str, annotation: Option<&str>, mode: &str) -> Value {
    let annotations = annotation.map_or(json!({}), |word| json!({ "tiercel.dev/pause": word }));
    json!({"apiVersion": "tiercel.dev/v1alpha1", "kind": "TieredPipeline",
        "metadata": {"name": "chat", "namespace": "rag", "resourceVersion": version, "annotations": annotations},
        "spec": {"mode": mode, "stages": []}})
}

fn arguments(scale_in: bool) -> Arguments {
    Arguments {
        name: "chat".to_owned(),
        scale_in,
        scale_out: false,
        target: Target::default(),
        installed: Installed {
            operator_namespace: "tiercel-system".to_owned(),
            operator_selector: "app=tiercel".to_owned(),
        },
    }
}

#[tokio::test]
async fn what_was_read_is_what_is_changed_and_who_comes_too_late_looks_again() {
    let (client, mut api) = ScriptedApi::new();
    let play = tokio::spawn(async move {
        let mut patches = Vec::new();
        api.call().await.reply(200, &pipeline("1", None, "Automatic"));
        let first = api.call().await;
        patches.push((first.method.clone(), first.path.clone(), first.body.clone()));
        first.reply(409, &status(409, "Conflict"));
        api.call()
            .await
            .reply(200, &pipeline("2", Some("scale-out"), "Automatic"));
        let second = api.call().await;
        patches.push((second.method.clone(), second.path.clone(), second.body.clone()));
        second.reply(200, &pipeline("3", Some("all"), "Automatic"));
        patches
    });
    let told = change(&Cluster::scripted(client), &arguments(true), Direction::Pause)
        .await
        .unwrap();
    let patches = play.await.unwrap();
    assert!(told.contains("'chat' is paused"), "{told}");
    let sent: Vec<(&Value, &Value)> = patches
        .iter()
        .map(|(_, _, body)| {
            let metadata = &body["metadata"];
            (
                &metadata["resourceVersion"],
                &metadata["annotations"]["tiercel.dev/pause"],
            )
        })
        .collect();
    assert_eq!(sent, [(&json!("1"), &json!("scale-in")), (&json!("2"), &json!("all"))]);
    assert!(
        patches
            .iter()
            .all(|(method, path, _)| method == "PATCH" && path.contains("fieldManager=kubectl-tiercel")),
        "{patches:?}"
    );
}

#[tokio::test]
async fn what_is_so_already_is_not_written() {
    for (annotation, mode, direction, says) in [
        (Some("all"), "Automatic", Direction::Pause, "already paused"),
        (None, "Automatic", Direction::Resume, "is not paused"),
        (None, "Paused", Direction::Resume, "`spec.mode` is Paused"),
        (None, "Advisory", Direction::Resume, "Advisory"),
    ] {
        let (client, mut api) = ScriptedApi::new();
        api.expect("GET", "/tieredpipelines/chat")
            .reply(200, pipeline("1", annotation, mode));
        let script = api.serve();
        let told = change(&Cluster::scripted(client), &arguments(false), direction)
            .await
            .unwrap();
        script.finish().await;
        assert!(told.contains(says), "{told}");
    }
}

#[tokio::test]
async fn who_may_not_annotate_learns_which_right_it_takes() {
    let (client, mut api) = ScriptedApi::new();
    api.expect("GET", "/tieredpipelines/chat")
        .reply(200, pipeline("1", None, "Automatic"));
    api.expect("PATCH", "/tieredpipelines/chat")
        .reply(403, status(403, "User \"ann\" cannot patch"));
    let script = api.serve();
    let error = change(&Cluster::scripted(client), &arguments(false), Direction::Pause)
        .await
        .unwrap_err();
    script.finish().await;
    assert_eq!(error.code(), 4);
    assert!(error.to_string().contains("patch tieredpipelines"), "{error}");
}
