//! The audit log with times: the API server's own word on when a request came and when it was answered.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::Value;

use crate::Failure;

/// One answered request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) user: String,
    pub(crate) verb: String,
    /// Plural resource with its subresource.
    pub(crate) resource: String,
    pub(crate) name: String,
    pub(crate) code: u64,
    /// When the API server had the request.
    pub(crate) received: Timestamp,
    /// When the answer was complete.
    pub(crate) answered: Timestamp,
}

impl Request {
    /// Whether the request keeps a lease.
    pub(crate) fn is_lease(&self) -> bool {
        self.resource == "leases"
    }

    /// Whether it asks for a change.
    pub(crate) fn is_mutating(&self) -> bool {
        matches!(
            self.verb.as_str(),
            "create" | "update" | "patch" | "delete" | "deletecollection"
        )
    }
}

/// A reader of what is to come.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    offset: u64,
}

impl Log {
    pub(crate) fn from_now(path: PathBuf) -> Result<Self, Failure> {
        let offset = std::fs::metadata(&path)?.len();
        Ok(Self { path, offset })
    }

    /// What was answered since the last call.
    pub(crate) fn read(&mut self) -> Result<Vec<Request>, Failure> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        bytes.truncate(whole);
        self.offset += u64::try_from(whole)?;
        let text = String::from_utf8_lossy(&bytes);
        text.lines().filter_map(|line| parse(line).transpose()).collect()
    }
}

fn parse(line: &str) -> Result<Option<Request>, Failure> {
    let event: Value = serde_json::from_str(line)?;
    let text = |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or_default();
    if text("/stage") != "ResponseComplete" {
        return Ok(None);
    }
    let resource = match text("/objectRef/subresource") {
        "" => text("/objectRef/resource").to_owned(),
        subresource => format!("{}/{subresource}", text("/objectRef/resource")),
    };
    Ok(Some(Request {
        user: text("/user/username").to_owned(),
        verb: text("/verb").to_owned(),
        resource,
        name: text("/objectRef/name").to_owned(),
        code: event
            .pointer("/responseStatus/code")
            .and_then(Value::as_u64)
            .unwrap_or_default(),
        received: text("/requestReceivedTimestamp").parse()?,
        answered: text("/stageTimestamp").parse()?,
    }))
}

/// How often each verb and resource was asked for.
pub(crate) fn count<'a>(requests: impl IntoIterator<Item = &'a Request>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in requests {
        *counts
            .entry(format!("{} {}", request.verb, request.resource))
            .or_default() += 1;
    }
    counts
}

/// Milliseconds from one moment to another; negative if it is the other way round.
pub(crate) fn millis(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64() * 1e3
}
