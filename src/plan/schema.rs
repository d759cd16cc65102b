//! What strict admission would refuse of an object, by the schema of its definition: unknown fields, missing fields, types,
//! bounds, words, and names that children are named after. Other rules (CEL) are the API server's; those that decide about
//! children the operator checks again, and so does the plan.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::manifest::below;
use crate::api;

/// The schemas of both kinds.
#[derive(Debug)]
pub struct Schemas(Vec<(String, Value)>);

impl Schemas {
    /// Those that this program installs.
    ///
    /// # Errors
    /// When a definition cannot be derived; a defect, caught by a test.
    pub fn installed() -> Result<Self, serde_json::Error> {
        let of = |definition| {
            let mut value = serde_json::to_value(&definition)?;
            let kind = value
                .pointer("/spec/names/kind")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            let schema = value
                .pointer_mut("/spec/versions/0/schema/openAPIV3Schema")
                .map(Value::take);
            Ok((kind, schema.unwrap_or_default()))
        };
        api::crds()?.into_iter().map(of).collect::<Result<_, _>>().map(Self)
    }

    /// The schema of a kind.
    pub(super) fn of(&self, kind: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| known == kind).map(|(_, schema)| schema)
    }
}

/// Something that strict admission refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// Path of the field.
    pub(super) field: String,
    /// What is wrong, and what is allowed.
    pub(super) message: String,
    /// Without it the object cannot be understood. An unknown field is left out by a server that is not strict.
    pub(super) fatal: bool,
}

impl Finding {
    pub(super) fn fatal(field: &str, message: String) -> Self {
        Self {
            field: field.to_owned(),
            message,
            fatal: true,
        }
    }
}

/// The rule of names that become part of the names of children.
const PART_NAME: &str = "self.matches('^[a-z]([a-z0-9]|-[a-z0-9])*$')";

/// Fields of `metadata`, which a definition does not repeat.
const METADATA: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Everything that is wrong with an object, in the order of its fields.
pub(super) fn check(object: &Value, schema: &Value) -> Vec<Finding> {
    let mut found = Vec::new();
    metadata(object, schema, &mut found);
    walk("", object, schema, &mut found);
    found
}

/// The rules of a schema node: expression and message.
fn rules(schema: &Value) -> impl Iterator<Item = (&str, &str)> {
    let all = schema.get("x-kubernetes-validations").and_then(Value::as_array);
    all.into_iter()
        .flatten()
        .filter_map(|rule| Some((rule.get("rule")?.as_str()?, rule.get("message")?.as_str()?)))
}

/// Lower-case letters, digits and single dashes, beginning with a letter and not ending with a dash.
fn is_part_name(text: &str) -> bool {
    let letter = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.chars().all(letter)
        && !text.ends_with('-')
        && !text.contains("--")
}

fn metadata(object: &Value, schema: &Value, found: &mut Vec<Finding>) {
    let empty = Map::new();
    let metadata = object.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    if metadata.get("name").and_then(Value::as_str).is_none_or(str::is_empty) {
        found.push(Finding::fatal("metadata.name", "must be set".to_owned()));
    }
    let name = metadata.get("name").and_then(Value::as_str).unwrap_or_default();
    let length = |rule: &str| {
        let (_, most) = rule.split_once("self.metadata.name.size() <= ")?;
        most.trim().parse::<usize>().ok()
    };
    let bound = rules(schema).find_map(|(rule, message)| Some((length(rule)?, message)));
    if let Some((most, message)) = bound.filter(|_| !name.is_empty())
        && (name.len() > most || !is_part_name(name))
    {
        found.push(Finding::fatal("metadata.name", message.to_owned()));
    }
    let within = metadata.get("namespace").and_then(Value::as_str).unwrap_or_default();
    let fits = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    if within.len() > 63 || !within.chars().all(fits) {
        let message = "must be at most 63 lower-case letters, digits and dashes".to_owned();
        found.push(Finding::fatal("metadata.namespace", message));
    }
    for key in metadata.keys().filter(|key| !METADATA.contains(&key.as_str())) {
        found.push(unknown(&below("metadata", key), METADATA.into_iter()));
    }
    for key in ["labels", "annotations"] {
        for (name, value) in metadata.get(key).and_then(Value::as_object).into_iter().flatten() {
            if !value.is_string() {
                let message = format!("must be a text: put {value} in quotes");
                found.push(Finding::fatal(&below(&below("metadata", key), name), message));
            }
        }
    }
}

fn unknown<'a>(field: &str, known: impl Iterator<Item = &'a str>) -> Finding {
    let name = field.rsplit('.').next().unwrap_or_default();
    let near = known.map(|word| (distance(name, word), word)).min();
    let near = near.filter(|(distance, word)| *distance <= 2 || distance * 3 <= word.len());
    let message = match near {
        Some((_, word)) => format!("unknown field; is '{word}' meant?"),
        None => "unknown field".to_owned(),
    };
    Finding {
        field: field.to_owned(),
        message,
        fatal: false,
    }
}

/// Letters to be changed, put in or taken out, whatever their case.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (above, letter) in (1..).zip(a.to_lowercase().chars()) {
        let mut next = vec![above];
        for (at, other) in b.iter().enumerate() {
            let cell = |row: &[usize], at: usize| row.get(at).copied().unwrap_or_default();
            let swapped = cell(&row, at) + usize::from(letter != *other);
            next.push(swapped.min(cell(&row, at + 1) + 1).min(cell(&next, at) + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

fn walk(path: &str, value: &Value, schema: &Value, found: &mut Vec<Finding>) {
    let refuse = |message: String, found: &mut Vec<Finding>| found.push(Finding::fatal(path, message));
    if schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        if !value.is_string() && !value.is_i64() && !value.is_u64() {
            refuse(
                format!("must be a whole number or a text, not {}", kind_of(value)),
                found,
            );
        }
        return;
    }
    let wanted = schema.get("type").and_then(Value::as_str).unwrap_or_default();
    let fits = match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => true,
    };
    if !fits {
        let quotes = if wanted == "string" && !value.is_object() && !value.is_array() {
            ": put it in quotes"
        } else {
            ""
        };
        refuse(
            format!("must be {}, not {}{quotes}", word(wanted), kind_of(value)),
            found,
        );
        return;
    }
    if let Some(words) = schema.get("enum").and_then(Value::as_array)
        && !words.contains(value)
    {
        let words: Vec<String> = words
            .iter()
            .filter_map(Value::as_str)
            .map(|word| format!("'{word}'"))
            .collect();
        refuse(format!("must be one of {}, not {value}", words.join(", ")), found);
        return;
    }
    match value {
        Value::Object(fields) => object(path, fields, schema, found),
        Value::Array(items) => array(path, items, schema, found),
        Value::String(text) => {
            let named = rules(schema).find(|(rule, _)| *rule == PART_NAME);
            if let Some((_, message)) = named.filter(|_| !text.is_empty() && !is_part_name(text)) {
                refuse(message.to_owned(), found);
            }
            sized(
                path,
                text.chars().count(),
                schema,
                ("minLength", "maxLength", "characters"),
                found,
            );
        }
        Value::Number(number) => {
            let (least, most) = (schema.get("minimum"), schema.get("maximum"));
            let bound = |bound: Option<&Value>| bound.and_then(Value::as_f64);
            let is = number.as_f64().unwrap_or_default();
            if bound(least).is_some_and(|least| is < least) || bound(most).is_some_and(|most| is > most) {
                let message = match (bound(least), bound(most)) {
                    (Some(least), Some(most)) => format!("must be between {least} and {most}, not {number}"),
                    (Some(least), None) => format!("must be at least {least}, not {number}"),
                    (_, most) => format!("must be at most {}, not {number}", most.unwrap_or_default()),
                };
                refuse(message, found);
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

fn object(path: &str, fields: &Map<String, Value>, schema: &Value, found: &mut Vec<Finding>) {
    let properties = schema.get("properties").and_then(Value::as_object);
    let others = schema.get("additionalProperties");
    for name in schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        if !fields.contains_key(name) {
            found.push(Finding::fatal(&below(path, name), "must be set".to_owned()));
        }
    }
    sized(
        path,
        fields.len(),
        schema,
        ("minProperties", "maxProperties", "entries"),
        found,
    );
    for (name, value) in fields {
        let at = below(path, name);
        match (
            properties.and_then(|properties| properties.get(name)),
            others,
            properties,
        ) {
            (Some(schema), ..) | (None, Some(schema), _) => walk(&at, value, schema, found),
            // The definition leaves these to the API server.
            (None, None, _) if path.is_empty() && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") => {}
            (None, None, Some(properties)) => found.push(unknown(&at, properties.keys().map(String::as_str))),
            (None, None, None) => {}
        }
    }
}

fn array(path: &str, items: &[Value], schema: &Value, found: &mut Vec<Finding>) {
    sized(path, items.len(), schema, ("minItems", "maxItems", "items"), found);
    if let Some(schema) = schema.get("items") {
        for (at, item) in items.iter().enumerate() {
            walk(&format!("{path}[{at}]"), item, schema, found);
        }
    }
    let keys: Vec<&str> = match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("map") => {
            let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
            keys.into_iter().flatten().filter_map(Value::as_str).collect()
        }
        Some("set") => Vec::new(),
        _ => return,
    };
    let mut seen = BTreeSet::new();
    for (at, item) in items.iter().enumerate() {
        let key = if keys.is_empty() {
            item.to_string()
        } else {
            let parts = keys
                .iter()
                .map(|key| item.get(key).map(ToString::to_string).unwrap_or_default());
            parts.collect::<Vec<_>>().join(", ")
        };
        if !seen.insert(key.clone()) {
            let at = format!("{path}[{at}]");
            let field = keys.first().map_or_else(|| at.clone(), |key| below(&at, key));
            found.push(Finding::fatal(&field, format!("is there twice: {key}")));
        }
    }
}

fn sized(path: &str, size: usize, schema: &Value, (least, most, of): (&str, &str, &str), found: &mut Vec<Finding>) {
    let bound = |key: &str| {
        schema
            .get(key)
            .and_then(Value::as_u64)
            .and_then(|bound| usize::try_from(bound).ok())
    };
    let message = match (bound(least), bound(most)) {
        (Some(1), _) if size == 0 => "must not be empty".to_owned(),
        (Some(least), _) if size < least => format!("must have at least {least} {of}, not {size}"),
        (_, Some(most)) if size > most => format!("must have at most {most} {of}, not {size}"),
        _ => return,
    };
    found.push(Finding::fatal(path, message));
}

fn word(wanted: &str) -> &str {
    match wanted {
        "object" => "a map",
        "array" => "a list",
        "string" => "a text",
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        other => other,
    }
}

fn kind_of(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(_) => format!("the text {value}"),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a map".to_owned(),
    }
}
