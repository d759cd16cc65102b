//! The definitions' CEL rules, evaluated here. Two-variable macros (`self.all(i, s, …)`) are not known to the interpreter: the
//! one rule that has them is checked by hand, any further one is named as the server's to check.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;

use cel::extractors::This;
use cel::objects::{Key, Map as CelMap};
use cel::{Context, ExecutionError, Program};
use serde_json::Value;

use super::schema::Complaint;
use crate::quantity::Quantity;

/// Path of a member.
pub(crate) fn member(path: &str, name: &str) -> String {
    let plain = name.chars().all(|letter| letter.is_ascii_alphanumeric());
    match (path, plain) {
        ("", _) => name.to_owned(),
        (_, true) => format!("{path}.{name}"),
        (_, false) => format!("{path}[{name}]"),
    }
}

/// Path of an element.
pub(super) fn element(path: &str, at: usize) -> String {
    format!("{path}[{at}]")
}

/// Checks the rules of a schema against a document that fits it.
pub(super) fn check(schema: &Value, value: &Value, complaints: &mut Vec<Complaint>, unchecked: &mut BTreeSet<String>) {
    let mut checker = Checker {
        programs: HashMap::new(),
        complaints,
        unchecked,
    };
    checker.node(schema, value, "");
}

struct Checker<'a> {
    /// Rules that were compiled. Stages share most of theirs.
    programs: HashMap<&'a str, Option<Program>>,
    complaints: &'a mut Vec<Complaint>,
    unchecked: &'a mut BTreeSet<String>,
}

impl<'a> Checker<'a> {
    fn node(&mut self, schema: &'a Value, value: &Value, path: &str) {
        let rules = schema.get("x-kubernetes-validations").and_then(Value::as_array);
        for rule in rules.into_iter().flatten() {
            self.rule(rule, value, path);
        }
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    let known = schema.get("properties").and_then(|known| known.get(name));
                    let of_each = schema.get("additionalProperties").filter(|schema| schema.is_object());
                    if let Some(of_it) = known.or(of_each) {
                        self.node(of_it, value, &member(path, name));
                    }
                }
            }
            Value::Array(items) => {
                if let Some(of_each) = schema.get("items") {
                    for (at, item) in items.iter().enumerate() {
                        self.node(of_each, item, &element(path, at));
                    }
                }
            }
            _ => {}
        }
    }

    fn rule(&mut self, rule: &'a Value, value: &Value, path: &str) {
        let text = |name: &str| rule.get(name).and_then(Value::as_str);
        let source = text("rule").unwrap_or_default();
        if source.contains("t.name == a.stage") {
            self.complaints.extend(order(value, path));
            return;
        }
        let program = self
            .programs
            .entry(source)
            .or_insert_with(|| Program::compile(source).ok());
        match program.as_ref().map(|program| holds(program, value)) {
            Some(Ok(true)) => {}
            Some(Ok(false)) => {
                // A definition cannot point into the head of an object.
                let head = if source.contains("self.metadata.name") {
                    ".metadata.name"
                } else {
                    ""
                };
                let field = text("fieldPath").unwrap_or(head);
                let message = text("message").unwrap_or(source);
                let place = format!("{path}{field}");
                let place = place.trim_start_matches('.').to_owned();
                self.complaints.push((place, message.to_owned()));
            }
            Some(Err(_)) | None => {
                self.unchecked.insert(source.to_owned());
            }
        }
    }
}

/// Callers stand above the called.
fn order(stages: &Value, path: &str) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let mut above: BTreeSet<&str> = BTreeSet::new();
    for (at, stage) in stages.as_array().into_iter().flatten().enumerate() {
        let callers = stage.get("after").and_then(Value::as_array).into_iter().flatten();
        for (caller, named) in callers.enumerate() {
            let name = named.get("stage").and_then(Value::as_str).unwrap_or_default();
            if !above.contains(name) {
                let place = element(&member(&element(path, at), "after"), caller);
                let message = format!("'{name}' must be a stage that is listed above, which keeps cycles out");
                complaints.push((member(&place, "stage"), message));
            }
        }
        above.extend(stage.get("name").and_then(Value::as_str));
    }
    complaints
}

fn holds(program: &Program, value: &Value) -> Result<bool, ExecutionError> {
    let mut context = Context::default();
    context.add_variable_from_value("self", of_json(value));
    // Quantities as the API server knows them. Kept as texts: nothing but comparisons is asked of them.
    let conflict = |_| ExecutionError::function_error("quantity", "is taken");
    context
        .add_function("isQuantity", |text: Arc<String>| Quantity::parse(&text).is_ok())
        .map_err(conflict)?;
    context
        .add_function("quantity", |text: Arc<String>| text)
        .map_err(conflict)?;
    context.add_function("compareTo", compare).map_err(conflict)?;
    match program.execute(&context)? {
        cel::Value::Bool(holds) => Ok(holds),
        other => Err(ExecutionError::function_error("rule", format!("answers {other:?}"))),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the interpreter hands over values")]
fn compare(This(left): This<Arc<String>>, right: Arc<String>) -> Result<i64, ExecutionError> {
    let read = |text: &str| Quantity::parse(text).map_err(|error| ExecutionError::function_error("quantity", error));
    Ok(read(&left)?.cmp(&read(&right)?) as i64)
}

/// Whole numbers are `int`, as the schema says, also those that are not negative.
fn of_json(value: &Value) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Bool(flag) => cel::Value::Bool(*flag),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => cel::Value::Int(whole),
            None => cel::Value::Float(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => cel::Value::String(Arc::new(text.clone())),
        Value::Array(items) => cel::Value::List(Arc::new(items.iter().map(of_json).collect())),
        Value::Object(members) => {
            let members = members
                .iter()
                .map(|(name, value)| (Key::String(Arc::new(name.clone())), of_json(value)));
            cel::Value::Map(CelMap {
                map: Arc::new(members.collect()),
            })
        }
    }
}
