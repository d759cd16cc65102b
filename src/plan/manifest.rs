//! From texts to objects: document by document, so that a broken one does not hide the others.

mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use kube::ResourceExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use self::tree::{Lines, below};
use super::ground::{Namespace, Namespaces};
use crate::api::{ComputePool, GROUP, TieredPipeline, VERSION};
use crate::controller::pipeline::ceilings::NamespaceCeilings;
use crate::lint::{self, Refusal, Schemas};
use crate::yaml::{self, Broken, Document, one_line};

/// Where an object comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// The file as it was named.
    pub file: String,
    /// Which document of it, from 1.
    pub document: u32,
    /// Line of the file, from 1.
    pub line: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: document {}", self.file, self.line, self.document)
    }
}

/// What is wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Where; absent for objects of a cluster.
    #[serde(flatten)]
    pub place: Option<Place>,
    /// Kind and name of the object, such as `TieredPipeline agents/chat`; empty where that cannot be read.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub object: String,
    /// Path of the field at fault; empty if it is the document as a whole.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// What is wrong, and what is allowed.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = String::new();
        if let Some(place) = &self.place {
            line.push_str(&place.to_string());
            line.push_str(": ");
        }
        for part in [&self.object, &self.field] {
            if !part.is_empty() {
                line.push_str(part);
                line.push_str(": ");
            }
        }
        line.push_str(&self.message);
        f.write_str(&printable(&line))
    }
}

/// An object, and where it stands.
#[derive(Clone, Debug)]
pub struct Located<K> {
    /// The object.
    pub object: K,
    /// Where it begins; absent for objects of a cluster.
    pub place: Option<Place>,
    /// The document begins behind so many lines of the file.
    before: u64,
    lines: Lines,
    /// The object's own path, where it is an item of a list.
    path: String,
}

impl<K> Located<K> {
    /// An object of no file.
    pub fn of_cluster(object: K) -> Self {
        Self {
            object,
            place: None,
            before: 0,
            lines: Lines::default(),
            path: String::new(),
        }
    }

    /// Where a field stands.
    pub fn at(&self, field: &str) -> Option<Place> {
        let place = self.place.clone()?;
        let line = self.lines.of(&joined(&self.path, field));
        Some(Place {
            line: line.map_or(place.line, |line| line + self.before),
            ..place
        })
    }
}

/// What was found in some texts.
#[derive(Clone, Debug, Default)]
pub struct Manifests {
    /// Pipelines, in the order of the texts.
    pub pipelines: Vec<Located<TieredPipeline>>,
    /// Pools, likewise.
    pub pools: Vec<Located<ComputePool>>,
    /// Namespaces.
    pub namespaces: Namespaces,
    /// Documents that are no business of tiercel: how many of each kind.
    pub skipped: BTreeMap<String, u32>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// How documents without a kind are counted.
const NO_KIND: &str = "without a kind";
/// How texts are counted that are templates of others.
const TEMPLATE: &str = "templates";

impl Manifests {
    /// Adds the documents of a text. Pipelines without a namespace are in `namespace`.
    pub fn add(&mut self, schemas: &Schemas, file: &str, text: &str, namespace: &str) {
        for document in yaml::documents(text) {
            let place = Place {
                file: file.to_owned(),
                document: document.number,
                line: document.line(),
            };
            match tree::parse(document.text) {
                Ok((value, lines)) => {
                    let before = document.before;
                    let origin = Origin { place, before, lines };
                    self.object(schemas, value, &origin, "", namespace);
                }
                Err(error) => self.unreadable(&document, place, &error),
            }
        }
    }

    /// A document that is not YAML. What has holes to be filled in is not meant to be.
    fn unreadable(&mut self, document: &Document, place: Place, error: &serde_saphyr::Error) {
        let template = document.text.contains("{{");
        let ours = ["TieredPipeline", "ComputePool"].into_iter().find(|kind| {
            let named =
                |line: &str| line.trim_start_matches([' ', '-']).strip_prefix("kind:").map(str::trim) == Some(kind);
            document.text.lines().any(named)
        });
        let broken = Broken::within(document, error);
        let message = match (template, ours) {
            (true, None) => {
                self.count(TEMPLATE);
                return;
            }
            (true, Some(kind)) => {
                format!(
                    "a template of a {kind}: fill it in first, such as with `helm template`, and pipe that to `-f -`"
                )
            }
            (false, _) => format!("not YAML: {}", broken.message),
        };
        // A template is no YAML from its first hole on; that says nothing.
        let line = broken.line.filter(|_| !template).unwrap_or(place.line);
        self.problems.push(Problem {
            place: Some(Place { line, ..place }),
            object: String::new(),
            field: String::new(),
            message,
        });
    }

    fn count(&mut self, kind: &str) {
        *self.skipped.entry(printable(kind)).or_default() += 1;
    }

    fn object(&mut self, schemas: &Schemas, mut value: Value, origin: &Origin, path: &str, namespace: &str) {
        let word = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (kind, version) = (word("kind"), word("apiVersion"));
        let ours = kind == "TieredPipeline" || kind == "ComputePool";
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let list = kind.ends_with("List") && (group == GROUP || version == "v1");
        if let Some(Value::Array(items)) = value.get_mut("items").filter(|_| list).map(Value::take) {
            for (at, item) in items.into_iter().enumerate() {
                self.object(schemas, item, origin, &format!("items[{at}]"), namespace);
            }
            return;
        }
        if kind == "Namespace" && version == "v1" {
            self.namespace(&value);
        }
        // A kind of the same name that belongs to somebody else.
        if group != GROUP && !(ours && version.is_empty()) {
            self.count(if kind.is_empty() { NO_KIND } else { &kind });
            return;
        }
        let name = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("?");
        let within = value
            .pointer("/metadata/namespace")
            .and_then(Value::as_str)
            .unwrap_or(namespace);
        let object = if kind == "TieredPipeline" {
            format!("{kind} {within}/{name}")
        } else {
            format!("{kind} {name}")
        };
        let mut findings = Vec::new();
        if version != format!("{GROUP}/{VERSION}") {
            let message = format!("must be '{GROUP}/{VERSION}', not '{version}'");
            findings.push(Refusal::fatal("apiVersion", message));
        }
        if let Some(schema) = schemas.of(&kind) {
            // Filled in, a default would count as written. What only the server can check the operator checks again.
            findings.extend(lint::refused(schema, &mut value.clone(), &mut BTreeSet::new()));
        } else {
            let message = format!("'{kind}' is no kind of {GROUP}: use TieredPipeline or ComputePool");
            findings.push(Refusal::fatal("kind", message));
        }
        let fatal = findings.iter().any(|finding| finding.fatal);
        for finding in findings {
            self.problem(origin, path, &object, &finding.field, finding.message);
        }
        if fatal {
            return;
        }
        let place = origin.at(path, "");
        if kind == "TieredPipeline" {
            if let Some(mut found) = self.decode::<TieredPipeline>(value, origin, path, &object) {
                found
                    .object
                    .metadata
                    .namespace
                    .get_or_insert_with(|| namespace.to_owned());
                let same = |known: &&Located<TieredPipeline>| {
                    (known.object.name_any(), known.object.namespace())
                        == (found.object.name_any(), found.object.namespace())
                };
                match self.pipelines.iter().find(same).and_then(|known| known.place.clone()) {
                    Some(first) => self.twice(&first, place, object),
                    None => self.pipelines.push(found),
                }
            }
        } else if let Some(found) = self.decode::<ComputePool>(value, origin, path, &object) {
            let same = |known: &&Located<ComputePool>| known.object.name_any() == found.object.name_any();
            match self.pools.iter().find(same).and_then(|known| known.place.clone()) {
                Some(first) => self.twice(&first, place, object),
                None => self.pools.push(found),
            }
        }
    }

    fn twice(&mut self, first: &Place, place: Place, object: String) {
        self.problems.push(Problem {
            place: Some(place),
            object,
            field: "metadata.name".to_owned(),
            message: format!("declared twice: first at {first}; that one is planned"),
        });
    }

    fn problem(&mut self, origin: &Origin, path: &str, object: &str, field: &str, message: String) {
        let field = joined(path, field);
        self.problems.push(Problem {
            place: Some(origin.at("", &field)),
            object: object.to_owned(),
            field,
            message,
        });
    }

    fn decode<K: DeserializeOwned>(
        &mut self,
        value: Value,
        origin: &Origin,
        path: &str,
        object: &str,
    ) -> Option<Located<K>> {
        match serde_json::from_value(value) {
            Ok(decoded) => Some(Located {
                object: decoded,
                place: Some(origin.at(path, "")),
                before: origin.before,
                lines: origin.lines.clone(),
                path: path.to_owned(),
            }),
            Err(error) => {
                self.problem(origin, path, object, "", one_line(&error.to_string()));
                None
            }
        }
    }

    fn namespace(&mut self, value: &Value) {
        let Some(name) = value.pointer("/metadata/name").and_then(Value::as_str) else {
            return;
        };
        let texts = |field: &str| -> BTreeMap<String, String> {
            let found = value.pointer(field).and_then(Value::as_object);
            let text = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
            found.into_iter().flatten().filter_map(text).collect()
        };
        let mut labels = texts("/metadata/labels");
        // The API server adds it to every namespace.
        labels.insert("kubernetes.io/metadata.name".to_owned(), name.to_owned());
        let ceilings = NamespaceCeilings::of(&texts("/metadata/annotations"));
        self.namespaces.insert(name.to_owned(), Namespace { labels, ceilings });
    }
}

/// A document that could be read.
struct Origin {
    place: Place,
    /// Lines of the file in front of it.
    before: u64,
    lines: Lines,
}

impl Origin {
    fn at(&self, path: &str, field: &str) -> Place {
        let line = self.lines.of(&joined(path, field));
        Place {
            line: line.map_or(self.place.line, |line| line + self.before),
            ..self.place.clone()
        }
    }
}

fn joined(path: &str, field: &str) -> String {
    if field.is_empty() {
        path.to_owned()
    } else {
        below(path, field)
    }
}

/// A text of a file, without what a terminal takes for an order.
fn printable(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { '?' } else { letter })
        .collect()
}
