//! A structural schema held against a document, as the API server does: types, bounds, lists that are maps or sets, fields that
//! nobody knows. Defaults are filled in on the way, because rules see them.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::rules::{element, member};

/// A path, and what is wrong there.
pub(crate) type Complaint = (String, String);

/// How the complaint about a field that nobody knows begins.
pub(super) const UNKNOWN: &str = "is unknown";

/// Fields of an object's head, which the schema does not speak of.
const HEAD: [&str; 3] = ["apiVersion", "kind", "metadata"];

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

/// Checks what every object has in front of its own fields.
pub(super) fn head(document: &Value, complaints: &mut Vec<Complaint>) {
    let none = Map::new();
    let metadata = document.get("metadata").and_then(Value::as_object).unwrap_or(&none);
    for name in ["name", "namespace"] {
        if let Some(value) = metadata.get(name).filter(|value| !value.is_string()) {
            let message = format!("is {}, but must be {}", kind(value), article("string"));
            complaints.push((member("metadata", name), message));
        }
    }
    if metadata.get("name").is_none_or(|name| name.as_str() == Some("")) {
        complaints.push(("metadata.name".to_owned(), "must be set".to_owned()));
    }
    let namespace = metadata.get("namespace").and_then(Value::as_str).unwrap_or_default();
    let fits = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    if namespace.len() > 63 || !namespace.chars().all(fits) {
        let message = "must be at most 63 lower-case letters, digits and dashes".to_owned();
        complaints.push(("metadata.namespace".to_owned(), message));
    }
    for name in metadata.keys().filter(|name| !METADATA.contains(&name.as_str())) {
        complaints.push((
            member("metadata", name),
            format!("{UNKNOWN}{}", near(name, METADATA.into_iter())),
        ));
    }
    for map in ["labels", "annotations"] {
        for (name, value) in metadata.get(map).and_then(Value::as_object).into_iter().flatten() {
            if !value.is_string() {
                let message = format!("is {}, but must be {}", kind(value), article("string"));
                complaints.push((member(&member("metadata", map), name), message));
            }
        }
    }
}

/// Checks one node and those below it.
pub(crate) fn check(schema: &Value, value: &mut Value, path: &str, complaints: &mut Vec<Complaint>) {
    if schema.get("x-kubernetes-int-or-string").is_some() {
        if !(value.is_string() || value.is_i64() || value.is_u64()) {
            complaints.push((
                path.to_owned(),
                format!("is {}, but must be a text or a whole number", kind(value)),
            ));
        }
        bounds(schema, value, path, complaints);
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
        complaints.push((
            path.to_owned(),
            format!("is {}, but must be {}", kind(value), article(wanted)),
        ));
        return;
    }
    bounds(schema, value, path, complaints);
    match value {
        Value::Object(members) => object(schema, members, path, complaints),
        Value::Array(items) => array(schema, items, path, complaints),
        _ => {}
    }
}

fn object(schema: &Value, members: &mut Map<String, Value>, path: &str, complaints: &mut Vec<Complaint>) {
    if let Some(of_each) = schema.get("additionalProperties").filter(|schema| schema.is_object()) {
        for (key, value) in members.iter_mut() {
            check(of_each, value, &member(path, key), complaints);
        }
        return;
    }
    let none = Map::new();
    let known = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
    for (name, of_it) in known {
        if let (false, Some(default)) = (members.contains_key(name), of_it.get("default")) {
            members.insert(name.clone(), default.clone());
        }
    }
    // As the server does with a field that may not be null.
    members.retain(|_, value| !value.is_null());
    for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
        let name = name.as_str().unwrap_or_default();
        if !members.contains_key(name) {
            complaints.push((member(path, name), "must be set".to_owned()));
        }
    }
    let root = path.is_empty();
    for (name, value) in members.iter_mut() {
        match known.get(name) {
            Some(of_it) => check(of_it, value, &member(path, name), complaints),
            None if root && HEAD.contains(&name.as_str()) => {}
            None if known.is_empty() => {}
            None => complaints.push((
                member(path, name),
                format!("{UNKNOWN}{}", near(name, known.keys().map(String::as_str))),
            )),
        }
    }
}

fn array(schema: &Value, items: &mut [Value], path: &str, complaints: &mut Vec<Complaint>) {
    if let Some(of_each) = schema.get("items") {
        for (at, item) in items.iter_mut().enumerate() {
            check(of_each, item, &element(path, at), complaints);
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
            let parts = keys.iter().map(|key| item.get(key).unwrap_or(&Value::Null).to_string());
            parts.collect::<Vec<_>>().join(", ")
        };
        if !seen.insert(key.clone()) {
            let place = match keys.first() {
                Some(first) => member(&element(path, at), first),
                None => element(path, at),
            };
            complaints.push((place, format!("must not be the same twice: {key} stands above already")));
        }
    }
}

/// Bounds on what has the right type.
fn bounds(schema: &Value, value: &Value, path: &str, complaints: &mut Vec<Complaint>) {
    let mut complain = |message: String| complaints.push((path.to_owned(), message));
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
        && !allowed.contains(value)
    {
        let words: Vec<String> = allowed.iter().map(|word| word.to_string().replace('"', "'")).collect();
        complain(format!("is {}, but must be one of {}", shown(value), words.join(", ")));
    }
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    if let Some(number) = value.as_f64() {
        match (bound("minimum"), bound("maximum")) {
            (Some(least), Some(most)) if !(least..=most).contains(&number) => {
                complain(format!("is {value}, but must be from {least} to {most}"));
            }
            (Some(least), None) if number < least => complain(format!("is {value}, but must be at least {least}")),
            (None, Some(most)) if number > most => complain(format!("is {value}, but must be at most {most}")),
            _ => {}
        }
    }
    let count = |name: &str| schema.get(name).and_then(Value::as_u64);
    let (length, names, what) = match value {
        Value::String(text) => (text.chars().count(), ("minLength", "maxLength"), "characters"),
        Value::Array(items) => (items.len(), ("minItems", "maxItems"), "entries"),
        Value::Object(members) => (members.len(), ("minProperties", "maxProperties"), "entries"),
        _ => return,
    };
    let length = length as u64;
    if count(names.0).is_some_and(|least| length < least) {
        let least = count(names.0).unwrap_or_default();
        complain(if length == 0 {
            "must not be empty".to_owned()
        } else {
            format!("has {length} {what}, but must have at least {least}")
        });
    }
    if let Some(most) = count(names.1).filter(|&most| length > most) {
        complain(format!("has {length} {what}, but must have at most {most}"));
    }
}

/// A known name that was probably meant.
fn near<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '_'], "");
    let wanted = plain(name);
    let alike = known.clone().find(|known| {
        let known = plain(known);
        known == wanted || known.starts_with(&wanted) || wanted.starts_with(&known) || distance(&known, &wanted) <= 2
    });
    if let Some(known) = alike {
        return format!("; '{known}' may be meant");
    }
    let names: Vec<&str> = known.collect();
    format!("; known here: {}", names.join(", "))
}

/// Letters to change, add or take away from one to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, letter) in a.chars().enumerate() {
        let mut before = at;
        let mut left = at + 1;
        for (other, slot) in b.iter().zip(row.iter_mut().skip(1)) {
            let above = *slot;
            let changed = before + usize::from(letter != *other);
            left = changed.min(above + 1).min(left + 1);
            before = above;
            *slot = left;
        }
        if let Some(first) = row.first_mut() {
            *first = at + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

fn shown(value: &Value) -> String {
    value.to_string().replace('"', "'")
}

/// What a value is, for people.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn article(kind: &str) -> &'static str {
    match kind {
        "object" => "an object",
        "array" => "a list",
        "string" => "a text: write it in quotes",
        "boolean" => "true or false",
        "integer" => "a whole number",
        _ => "a number",
    }
}
