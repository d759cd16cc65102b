//! Children as the API server writes them, and the way from there to what is kept.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Mutex;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::body::Body;
use super::{Controller, Kind, Live};
use crate::api::labels;

/// What the server keeps in an object's metadata for itself: nobody wants anything of it.
const KEPT_BY_SERVER: [&str; 8] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// A child with the one thing that a watch must know of it.
#[derive(Clone, Debug)]
pub struct Wire<K: Kind> {
    /// Its version.
    metadata: ObjectMeta,
    /// The child.
    pub live: Live<K>,
}

impl<'de, K: Kind> Deserialize<'de> for Wire<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let live = Live::deserialize(deserializer)?;
        let metadata = ObjectMeta {
            resource_version: Some(live.resource_version.clone().into_string()),
            ..ObjectMeta::default()
        };
        Ok(Self { metadata, live })
    }
}

impl<K: Kind> Resource for Wire<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What the facts of a kind are read from.
#[derive(Debug)]
pub struct Source<'a> {
    pub(super) generation: Option<i64>,
    pub(super) replicas: Option<i32>,
    pub(super) status: &'a RawStatus,
    managers: &'a [RawManaged],
}

impl<'a> Source<'a> {
    /// Field managers that own `spec.replicas`.
    pub(super) fn replica_writers(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let owners = self
            .managers
            .iter()
            .filter(|entry| entry.fields.spec.replicas.is_some());
        owners.filter_map(|entry| entry.manager.as_deref())
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawMeta {
    name: Box<str>,
    namespace: Box<str>,
    uid: Box<str>,
    resource_version: Box<str>,
    generation: Option<i64>,
    deletion_timestamp: Option<Value>,
    labels: Option<BTreeMap<Box<str>, Box<str>>>,
    owner_references: Option<Vec<RawOwner>>,
    managed_fields: Option<Vec<RawManaged>>,
}

#[derive(Deserialize)]
struct RawOwner {
    name: Box<str>,
    uid: Box<str>,
    controller: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawManaged {
    manager: Option<String>,
    #[serde(default, rename = "fieldsV1")]
    fields: RawFields,
}

/// Of the managed fields only who owns the replicas is ever read.
#[derive(Debug, Default, Deserialize)]
struct RawFields {
    #[serde(default, rename = "f:spec")]
    spec: RawSpecFields,
}

#[derive(Debug, Default, Deserialize)]
struct RawSpecFields {
    #[serde(default, rename = "f:replicas")]
    replicas: Option<Present>,
}

/// Something is there.
#[derive(Debug)]
struct Present;

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// Of the status of any kind what is read of Deployments.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RawStatus {
    pub(super) observed_generation: Option<i64>,
    pub(super) replicas: Option<i32>,
    pub(super) ready_replicas: Option<i32>,
    pub(super) updated_replicas: Option<i32>,
    pub(super) conditions: Vec<RawCondition>,
}

#[derive(Debug, Deserialize)]
pub(super) struct RawCondition {
    #[serde(rename = "type")]
    pub(super) type_: Box<str>,
    pub(super) status: Box<str>,
    pub(super) message: Option<Box<str>>,
}

impl<'de, K: Kind> Deserialize<'de> for Live<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = Map::deserialize(deserializer)?;
        let metadata = object.get("metadata").unwrap_or(&Value::Null);
        let meta = Option::<RawMeta>::deserialize(metadata).map_err(D::Error::custom)?;
        let meta = meta.unwrap_or_default();
        // Other kinds have other conditions; what cannot be read as ours says nothing about replicas.
        let status = object.remove("status").unwrap_or_default();
        let status = RawStatus::deserialize(status).unwrap_or_default();
        let spec = object.get_mut("spec").and_then(Value::as_object_mut);
        let replicas = spec.and_then(|spec| spec.remove("replicas"));
        let replicas = replicas.as_ref().and_then(Value::as_i64);
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            for field in KEPT_BY_SERVER {
                metadata.remove(field);
            }
        }
        // Lists leave both out.
        object.insert("apiVersion".to_owned(), K::api_version(&()).into());
        object.insert("kind".to_owned(), K::kind(&()).into());
        let managers = meta.managed_fields.unwrap_or_default();
        let facts = Source {
            generation: meta.generation,
            replicas: replicas.and_then(|count| i32::try_from(count).ok()),
            status: &status,
            managers: &managers,
        };
        let mut labels = meta.labels.unwrap_or_default();
        let owners = meta.owner_references.into_iter().flatten();
        Ok(Self {
            facts: facts.into(),
            name: meta.name,
            namespace: meta.namespace.into(),
            uid: meta.uid.into(),
            resource_version: meta.resource_version,
            leaving: meta.deletion_timestamp.is_some(),
            controller: owners
                .filter(|owner| owner.controller == Some(true))
                .map(|RawOwner { name, uid, .. }| Controller {
                    name: name.into(),
                    uid: uid.into(),
                })
                .next(),
            pipeline: labels.remove(labels::PIPELINE).map(Into::into),
            stage: labels.remove(labels::STAGE).map(Into::into),
            stage_id: labels.remove(labels::STAGE_ID).map(Into::into),
            pool: labels.remove(labels::POOL).map(Into::into),
            body: Mutex::new(Body::new(&Value::Object(object))),
            kind: PhantomData,
        })
    }
}
