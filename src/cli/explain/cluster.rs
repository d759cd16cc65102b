//! What the API server says of a pipeline, and what its refusals mean.

use kube::api::ListParams;
use kube::core::Status;
use kube::{Api, Client};

use super::{Error, one_line};
use crate::api::TieredPipeline;

/// Names that a message holds at most.
const NAMES_MAX: u32 = 10;

/// One pipeline.
pub(super) async fn pipeline(client: &Client, url: &str, namespace: &str, name: &str) -> Result<TieredPipeline, Error> {
    let pipelines: Api<TieredPipeline> = Api::namespaced(client.clone(), namespace);
    let error = match pipelines.get(name).await {
        Ok(pipeline) => return Ok(pipeline),
        Err(error) => error,
    };
    Err(match told(&error, url, name) {
        Error::UnknownPipeline { name, .. } => {
            // Who may not list is not told what else there is.
            let known = pipelines.list_metadata(&ListParams::default().limit(NAMES_MAX)).await;
            Error::UnknownPipeline {
                name,
                namespace: namespace.to_owned(),
                known: known.map_or_else(
                    |_| Vec::new(),
                    |list| list.iter().map(kube::ResourceExt::name_any).collect(),
                ),
            }
        }
        other => other,
    })
}

/// What an error of the client means to whoever asked for a pipeline.
fn told(error: &kube::Error, url: &str, name: &str) -> Error {
    match error {
        kube::Error::Api(status) => refused(status, name),
        kube::Error::SerdeError(problem) => Error::Unreadable {
            name: name.to_owned(),
            problem: problem.to_string(),
        },
        other => Error::Unreachable {
            url: url.to_owned(),
            problem: plainly(other),
        },
    }
}

fn refused(status: &Status, name: &str) -> Error {
    let message = status.message.split_whitespace().collect::<Vec<_>>().join(" ");
    // Of a kind that it does not know the server says so without naming an object.
    let about = status.details.as_ref().is_some_and(|details| !details.name.is_empty());
    match status.code {
        404 if about => Error::UnknownPipeline {
            name: name.to_owned(),
            namespace: String::new(),
            known: Vec::new(),
        },
        404 => Error::NotInstalled,
        403 => Error::NotPermitted(message),
        401 => Error::Credentials(message),
        _ => Error::Refused(message),
    }
}

/// What went wrong, without the client's own words around it.
pub(in crate::cli) fn plainly(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.split_whitespace().collect::<Vec<_>>().join(" "),
        other => one_line(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, message: &str, name: &str) -> Status {
        Status {
            code,
            message: message.to_owned(),
            details: serde_json::from_value(serde_json::json!({ "name": name })).unwrap(),
            ..Status::default()
        }
    }

    #[test]
    fn every_refusal_is_one_line_with_a_code_of_its_own() {
        let cases = [
            (
                status(404, r#"tieredpipelines.tiercel.dev "chat" not found"#, "chat"),
                3,
            ),
            (status(404, "404 page not found\n", ""), 5),
            (status(403, "User \"ann\" cannot get resource", "chat"), 4),
            (status(401, "Unauthorized", ""), 4),
            (status(500, "etcd\nis away", ""), 1),
        ];
        for (status, code) in cases {
            let error = refused(&status, "chat");
            assert_eq!(error.code(), code, "{error}");
            assert!(!error.to_string().contains('\n'), "{error}");
        }
    }
}
