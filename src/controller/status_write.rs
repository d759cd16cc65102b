//! One write of a status: applied, as far as the definition in the cluster knows it.

use std::fmt::Debug;
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::api::labels;

/// Deadline of one request.
const DEADLINE: Duration = Duration::from_secs(30);

/// What the API server says of a field that the definition does not have, after its path.
const UNDECLARED: &str = ": field not declared in schema";

/// Writing a status failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not answer in time.
    #[error("no answer within {} s", DEADLINE.as_secs())]
    Deadline,
    /// The API server refused or could not be asked.
    #[error(transparent)]
    Api(#[from] kube::Error),
}

/// Applies the status of an object. `None` if the object is gone, or was replaced by one of the same name, which the UID in the
/// body tells apart.
///
/// A definition older than the operator refuses an applied status with any field that it does not declare, whole. What it does
/// declare is written then: an operator must be able to say how things are before everything is upgraded.
///
/// # Errors
/// When the API server refuses or does not answer.
pub async fn apply<K>(api: &Api<K>, object: &K, status: &impl Serialize) -> Result<Option<K>, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let name = object.meta().name.clone().unwrap_or_default();
    let mut body = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"uid": object.meta().uid},
        "status": status,
    });
    let refusal = match send(api, &name, &body).await {
        Err(Error::Api(kube::Error::Api(refusal))) => refusal,
        other => return other.map(Some),
    };
    if refusal.is_not_found() || refusal.is_conflict() {
        return Ok(None);
    }
    let unknown: Vec<Vec<String>> = refusal.message.lines().filter_map(undeclared).collect();
    if unknown.is_empty() {
        return Err(Error::Api(kube::Error::Api(refusal)));
    }
    tracing::warn!(
        kind = %K::kind(&()),
        name,
        fields = unknown.len(),
        "the definition in the cluster is older than the operator: upgrade it; the status is written without what it does not declare"
    );
    for path in &unknown {
        strip(&mut body, path);
    }
    send(api, &name, &body).await.map(Some)
}

async fn send<K>(api: &Api<K>, name: &str, body: &Value) -> Result<K, Error>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let params = PatchParams::apply(labels::FIELD_MANAGER).force();
    let patch = Patch::Apply(body);
    let answer = tokio::time::timeout(DEADLINE, api.patch_status(name, &params, &patch)).await;
    Ok(answer.map_err(|_| Error::Deadline)??)
}

/// The names on the way to a field that is not declared, without the items of lists:
/// `.status.stages[name="a"].pools[name="b"].field: …` is `status`, `stages`, `pools`, `field`.
fn undeclared(line: &str) -> Option<Vec<String>> {
    let path = line.trim().strip_suffix(UNDECLARED)?.strip_prefix('.')?;
    let (mut names, mut inside) = (vec![String::new()], false);
    for character in path.chars() {
        match character {
            '[' => inside = true,
            ']' => inside = false,
            _ if inside => {}
            '.' => names.push(String::new()),
            _ => names.last_mut()?.push(character),
        }
    }
    Some(names)
}

/// Takes a field out, of every item of the lists on its way.
fn strip(value: &mut Value, path: &[String]) {
    match (value, path) {
        (Value::Array(items), _) => items.iter_mut().for_each(|item| strip(item, path)),
        (Value::Object(fields), [last]) => drop(fields.remove(last)),
        (Value::Object(fields), [first, rest @ ..]) => {
            if let Some(field) = fields.get_mut(first) {
                strip(field, rest);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::TieredPipeline;
    use crate::fixtures::{ScriptedApi, status};

    fn pipeline() -> TieredPipeline {
        serde_json::from_value(json!({
            "apiVersion": "tiercel.dev/v1alpha1", "kind": "TieredPipeline",
            "metadata": {"name": "rag", "namespace": "agents", "uid": "uid-rag"}, "spec": {"stages": []},
        }))
        .unwrap()
    }

    fn said() -> Value {
        let pool = json!({"name": "x.y", "replicas": 1, "startupSeconds": "2"});
        json!({"replicas": 1, "stages": [{"name": "a", "message": "m", "pools": [pool]}, {"name": "b"}], "message": "n"})
    }

    /// Applies a status to a server that gives these answers; what it was sent, and how that ended.
    async fn answered(answers: Vec<(u16, Value)>) -> (Vec<Value>, Result<Option<TieredPipeline>, Error>) {
        let (client, mut server) = ScriptedApi::new();
        let api: Api<TieredPipeline> = Api::namespaced(client, "agents");
        let (pipeline, said) = (pipeline(), said());
        let answering = async {
            let mut sent = Vec::new();
            for (code, body) in answers {
                let call = server.call().await;
                assert!(call.path.contains("force=true"), "{}", call.path);
                sent.push(call.body.clone());
                call.reply(code, &body);
            }
            sent
        };
        let (ended, sent) = tokio::join!(apply(&api, &pipeline, &said), answering);
        (sent, ended)
    }

    fn refused(message: &str) -> (u16, Value) {
        let mut body = status(500, "InternalError");
        body["message"] = json!(message);
        (500, body)
    }

    #[tokio::test(start_paused = true)]
    async fn a_definition_that_is_older_gets_what_it_declares() {
        let message = "failed to create typed patch object (agents/rag; tiercel.dev/v1alpha1, Kind=TieredPipeline): errors:\n  \
                       .status.stages[name=\"a\"].pools[name=\"x.y\"].startupSeconds: field not declared in schema\n  \
                       .status.message: field not declared in schema";
        let (sent, ended) = answered(vec![refused(message), (200, json!(pipeline()))]).await;
        assert!(ended.unwrap().is_some());
        assert_eq!((sent.len(), &sent[0]["status"]), (2, &said()));
        let mut known = said();
        known["stages"][0]["pools"][0]
            .as_object_mut()
            .unwrap()
            .remove("startupSeconds");
        known.as_object_mut().unwrap().remove("message");
        assert_eq!(sent[1]["status"], known);
        assert_eq!(sent[1]["metadata"], json!({"uid": "uid-rag"}));
    }

    #[tokio::test(start_paused = true)]
    async fn any_other_refusal_is_an_error_and_who_is_gone_is_none() {
        let (sent, ended) = answered(vec![refused("etcd is full")]).await;
        assert_eq!((sent.len(), ended.is_err()), (1, true));
        for (code, reason) in [(404, "NotFound"), (409, "Conflict")] {
            let (_, ended) = answered(vec![(code, status(code, reason))]).await;
            assert!(matches!(ended, Ok(None)), "{code}");
        }
    }
}
