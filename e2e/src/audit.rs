//! The API server's audit log: who asked for what. Counts in scenarios come from here, not from the operator's own metrics.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use serde::Deserialize;

/// One answered request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// User name, for example `system:serviceaccount:tiercel-system:tiercel`.
    pub user: String,
    /// The client's `User-Agent`.
    pub agent: String,
    /// `create`, `update`, `patch`, `delete`, `deletecollection`, `get`, `list`, `watch`, …
    pub verb: String,
    /// API group, empty for the core group.
    pub group: String,
    /// Plural resource name with its subresource, for example `deployments/scale`; empty for non-resource requests.
    pub resource: String,
    /// Namespace, empty for cluster-scoped resources.
    pub namespace: String,
    /// Object name, empty for lists and creations with a generated name.
    pub name: String,
    /// HTTP status code of the answer.
    pub code: u16,
}

impl Request {
    /// Whether the request asks for a change.
    pub fn is_mutating(&self) -> bool {
        matches!(
            self.verb.as_str(),
            "create" | "update" | "patch" | "delete" | "deletecollection"
        )
    }

    /// Whether it only renews a lease (leader election, node heartbeats).
    pub fn is_lease(&self) -> bool {
        self.group == "coordination.k8s.io" && self.resource == "leases"
    }
}

/// The log cannot be read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("cannot read the audit log {path} (was the cluster started with the audit option?): {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("line {line:?} of the audit log is not an audit event: {source}")]
    Line { line: String, source: serde_json::Error },
}

/// A reader that remembers how far it has come.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    offset: u64,
}

impl Log {
    /// A reader of everything in the log, and of what is to come.
    pub fn from_start(path: PathBuf) -> Self {
        Self { path, offset: 0 }
    }

    /// A reader of what is to come.
    pub fn from_now(path: PathBuf) -> Result<Self, Error> {
        match std::fs::metadata(&path) {
            Ok(metadata) => Ok(Self {
                offset: metadata.len(),
                path,
            }),
            Err(source) => Err(Error::File { path, source }),
        }
    }

    /// The requests that were answered since the last call. A line that is still being written waits for the next call.
    pub fn read(&mut self) -> Result<Vec<Request>, Error> {
        let failed = |source| Error::File {
            path: self.path.clone(),
            source,
        };
        let mut file = File::open(&self.path).map_err(failed)?;
        file.seek(SeekFrom::Start(self.offset)).map_err(failed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        bytes.truncate(whole);
        self.offset += whole as u64;
        String::from_utf8_lossy(&bytes)
            .lines()
            .filter_map(|line| parse(line).transpose())
            .collect()
    }
}

/// How often each user asked for each verb and resource.
pub fn count<'a>(requests: impl IntoIterator<Item = &'a Request>) -> BTreeMap<(String, String, String), usize> {
    let mut counts = BTreeMap::new();
    for request in requests {
        *counts
            .entry((request.user.clone(), request.verb.clone(), request.resource.clone()))
            .or_default() += 1;
    }
    counts
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    stage: String,
    verb: String,
    #[serde(default)]
    user: User,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    response_status: ResponseStatus,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct User {
    username: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
    api_group: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ResponseStatus {
    code: u16,
}

/// `None` for stages other than the last: a watch, for example, has one for its start.
fn parse(line: &str) -> Result<Option<Request>, Error> {
    let event: Event = serde_json::from_str(line).map_err(|source| Error::Line {
        line: line.to_owned(),
        source,
    })?;
    if event.stage != "ResponseComplete" && event.stage != "Panic" {
        return Ok(None);
    }
    let target = event.object_ref;
    let resource = match target.subresource.as_str() {
        "" => target.resource,
        subresource => format!("{}/{subresource}", target.resource),
    };
    Ok(Some(Request {
        user: event.user.username,
        agent: event.user_agent,
        verb: event.verb,
        group: target.api_group,
        resource,
        namespace: target.namespace,
        name: target.name,
        code: event.response_status.code,
    }))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const SCALE: &str = r#"{"kind":"Event","stage":"ResponseComplete","verb":"patch","user":{"username":"tiercel"},"userAgent":"tiercel/0.1","objectRef":{"resource":"deployments","subresource":"scale","namespace":"a","name":"b","apiGroup":"apps"},"responseStatus":{"code":200}}"#;

    #[test]
    fn a_line_that_is_still_being_written_waits_for_the_next_read() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let (head, rest) = SCALE.split_at(60);
        write!(file, "{SCALE}\n{head}").unwrap();
        let mut log = Log::from_start(file.path().to_owned());
        assert_eq!(log.read().unwrap().len(), 1);
        assert_eq!(log.read().unwrap(), []);
        writeln!(file, "{rest}").unwrap();
        let requests = log.read().unwrap();
        assert_eq!(requests[0].resource, "deployments/scale");
        assert!(requests[0].is_mutating() && !requests[0].is_lease());
        assert_eq!(
            count(&requests),
            [(("tiercel".into(), "patch".into(), "deployments/scale".into()), 1)].into()
        );
    }

    #[test]
    fn only_answers_count_and_nonsense_is_an_error() {
        assert_eq!(
            parse(&SCALE.replace("ResponseComplete", "ResponseStarted")).unwrap(),
            None
        );
        assert!(parse("{").unwrap_err().to_string().contains("not an audit event"));
    }
}
