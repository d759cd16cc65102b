//! YAML as values, with the line that each field stands on.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

use crate::lint::member;

/// Lines of fields by their path, such as `spec.stages[1].replicas`; counted within the document.
#[derive(Clone, Debug, Default)]
pub struct Lines(BTreeMap<String, u64>);

impl Lines {
    /// The line of a field, or of the nearest field around it.
    pub fn of(&self, path: &str) -> Option<u64> {
        let mut path = path;
        loop {
            if let Some(line) = self.0.get(path) {
                return Some(*line);
            }
            let end = path.rfind(['.', '['])?;
            path = path.get(..end)?;
        }
    }
}

/// The path of a field, or of one below it, from that of an object around it.
pub fn below(path: &str, rest: &str) -> String {
    if path.is_empty() {
        rest.to_owned()
    } else {
        format!("{path}.{rest}")
    }
}

/// A node of a document.
#[derive(Debug)]
enum Tree {
    Scalar(Value),
    List(Vec<Spanned<Tree>>),
    Map(Vec<(Spanned<String>, Spanned<Tree>)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(Tree::List(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Tree, A::Error> {
        let mut all = Vec::new();
        while let Some(field) = fields.next_entry()? {
            all.push(field);
        }
        Ok(Tree::Map(all))
    }
}

impl Tree {
    /// As JSON. A field without a value is left out, as the API server does it.
    fn value(self, path: &str, lines: &mut Lines) -> Value {
        match self {
            Self::Scalar(value) => value,
            Self::List(items) => {
                let items = items.into_iter().enumerate().map(|(at, item)| {
                    let path = format!("{path}[{at}]");
                    lines.0.insert(path.clone(), item.referenced.line());
                    item.value.value(&path, lines)
                });
                Value::Array(items.collect())
            }
            Self::Map(fields) => {
                let mut map = Map::new();
                for (key, field) in fields {
                    let path = member(path, &key.value);
                    lines.0.insert(path.clone(), key.referenced.line());
                    let value = field.value.value(&path, lines);
                    if !value.is_null() {
                        map.insert(key.value, value);
                    }
                }
                Value::Object(map)
            }
        }
    }
}

/// A document as JSON, with the lines of its fields.
pub(super) fn parse(text: &str) -> Result<(Value, Lines), serde_saphyr::Error> {
    let tree: Tree = serde_saphyr::from_str(text)?;
    let mut lines = Lines::default();
    let value = tree.value("", &mut lines);
    Ok((value, lines))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_field_knows_its_line_and_what_is_unknown_the_nearest_around_it() {
        let text = "kind: A\nspec:\n  stages:\n  - name: one\n    replicas: {min: 1,\n      max: 2}\n  - name: \"2\"\n    also:\n";
        let (value, lines) = parse(text).unwrap();
        let expected = json!({"kind": "A", "spec": {"stages": [
            {"name": "one", "replicas": {"min": 1, "max": 2}}, {"name": "2"}]}});
        assert_eq!(value, expected);
        for (path, line) in [
            ("kind", 1),
            ("spec.stages[0].name", 4),
            ("spec.stages[0].replicas.max", 6),
            ("spec.stages[1].name", 7),
            ("spec.stages[1].also", 8),
            ("spec.stages[1].signal.preset", 7),
            ("spec.budget", 2),
        ] {
            assert_eq!(lines.of(path), Some(line), "{path}");
        }
        assert_eq!(lines.of("metadata.name"), None);
    }
}
