//! What must hold for every field, whoever adds one: bounds, descriptions, messages, defaults.
#![allow(
    clippy::case_sensitive_file_extension_comparisons,
    reason = "paths of fields, not of files"
)]

use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::container::{Container, EmptyDir, Quantity, Resources, Volume};
use super::decimal::Decimal;
use super::stage::{Caller, Disruption, Kind, Replicas, Scaling, Signal, TierHint, Traffic};
use super::tiered_pipeline::{Mode, Objective};
use super::{ComputePoolSpec, Stage, TieredPipelineSpec};
use crate::cli::crd;

/// One node of a schema with its path, such as `TieredPipeline.spec.stages[].name`.
struct Node {
    path: String,
    schema: Map<String, Value>,
}

/// Every node of both schemas, as printed; `metadata` and the type fields are Kubernetes' own.
fn nodes() -> Vec<Node> {
    let mut nodes = Vec::new();
    for (_, yaml) in crd::render().unwrap() {
        let definition: Value = serde_saphyr::from_str(&yaml).unwrap();
        let kind = definition["spec"]["names"]["kind"].as_str().unwrap();
        for version in definition["spec"]["versions"].as_array().unwrap() {
            collect(kind, &version["schema"]["openAPIV3Schema"], &mut nodes);
        }
    }
    assert!(nodes.len() > 300, "only {} nodes: is the walk whole?", nodes.len());
    nodes
}

fn collect(path: &str, schema: &Value, nodes: &mut Vec<Node>) {
    let Value::Object(members) = schema else {
        panic!("{path} is not a schema: {schema}")
    };
    nodes.push(Node {
        path: path.to_owned(),
        schema: members.clone(),
    });
    for (name, property) in members
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        collect(&format!("{path}.{name}"), property, nodes);
    }
    if let Some(items) = members.get("items") {
        collect(&format!("{path}[]"), items, nodes);
    }
    if let Some(values) = members.get("additionalProperties") {
        collect(&format!("{path}{{}}"), values, nodes);
    }
}

/// Reports every node that breaks a rule, with its path.
fn every(rule: impl Fn(&Node) -> Result<(), String>) {
    let broken: Vec<_> = nodes()
        .iter()
        .filter_map(|node| rule(node).err().map(|why| format!("{}: {why}", node.path)))
        .collect();
    assert!(broken.is_empty(), "{} fields:\n{}", broken.len(), broken.join("\n"));
}

impl Node {
    fn has(&self, key: &str) -> Result<(), String> {
        if self.schema.contains_key(key) {
            Ok(())
        } else {
            Err(format!("no {key}: {:?}", self.schema))
        }
    }

    fn kind(&self) -> &str {
        match self.schema.get("type") {
            Some(kind) => kind.as_str().unwrap(),
            None if self.schema.get("x-kubernetes-int-or-string") == Some(&json!(true)) => "int-or-string",
            None => "",
        }
    }
}

#[test]
fn every_field_is_bounded() {
    every(|node| match node.kind() {
        "string" if node.schema.contains_key("enum") => Ok(()),
        "string" => node.has("maxLength"),
        "array" => node.has("maxItems"),
        "integer" | "number" => node.has("minimum").and_then(|()| node.has("maximum")),
        "int-or-string" => ["minimum", "maximum", "maxLength"]
            .iter()
            .try_for_each(|bound| node.has(bound)),
        "object" if node.schema.contains_key("additionalProperties") => node.has("maxProperties"),
        "object" if node.path.ends_with(".metadata") => Ok(()),
        "object" => node.has("properties"),
        "boolean" => Ok(()),
        other => Err(format!("type {other:?} is none that the API uses")),
    });
}

#[test]
fn numbers_are_whole_and_printed_so() {
    every(|node| {
        for bound in [
            "minimum",
            "maximum",
            "minLength",
            "maxLength",
            "minItems",
            "maxItems",
            "maxProperties",
        ] {
            if node.schema.get(bound).is_some_and(|value| value.as_i64().is_none()) {
                return Err(format!("{bound} is not whole"));
            }
        }
        Ok(())
    });
    for (name, yaml) in crd::render().unwrap() {
        let float = yaml.lines().find(|line| line.ends_with(".0") && !line.contains('"'));
        assert_eq!(float, None, "{name}");
    }
}

#[test]
fn every_field_has_a_description_whose_first_sentence_stands_alone() {
    every(|node| {
        let kubernetes_own =
            node.path.matches('.').count() == 1 && !node.path.ends_with(".spec") && !node.path.ends_with(".status");
        if node.path.ends_with("[]") || kubernetes_own {
            return Ok(());
        }
        let text = node
            .schema
            .get("description")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let first = text.chars().next().ok_or("no description")?;
        let sentence = text.split(". ").next().unwrap_or(text).trim_end_matches('.');
        if !first.is_uppercase() {
            Err(format!("does not begin with a capital: {text}"))
        } else if !text.ends_with('.') {
            Err(format!("does not end with a full stop: {text}"))
        } else if text.contains("{{") || text.contains('\n') {
            Err(format!("holds braces that a chart would read, or a line break: {text}"))
        } else if sentence.split_whitespace().count() < 2 && !["Growth", "Shrinking"].contains(&sentence) {
            Err(format!("says too little: {text}"))
        } else {
            Ok(())
        }
    });
}

/// `kubectl explain` shows no text of single values, so the field's own has to name them.
#[test]
fn descriptions_name_every_allowed_value() {
    every(|node| {
        let text = node
            .schema
            .get("description")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let values = node.schema.get("enum").and_then(Value::as_array).into_iter().flatten();
        let unnamed: Vec<_> = values
            .filter(|value| !text.contains(&format!("`{}`", value.as_str().unwrap())))
            .collect();
        let item = node.path.ends_with("[]");
        if item || unnamed.is_empty() {
            Ok(())
        } else {
            Err(format!("{unnamed:?} are not in: {text}"))
        }
    });
}

#[test]
fn schemas_hold_nothing_that_clients_stumble_over() {
    every(|node| {
        for key in [
            "nullable",
            "title",
            "pattern",
            "oneOf",
            "allOf",
            "not",
            "x-kubernetes-preserve-unknown-fields",
        ] {
            // The pattern of a condition's fields is Kubernetes' own.
            if node.schema.contains_key(key) && !(key == "pattern" && node.path.contains(".conditions[]")) {
                return Err(format!("has {key}; a rule with a sentence says what is allowed"));
            }
        }
        match node.schema.get("format").and_then(Value::as_str) {
            None | Some("int32" | "int64" | "date-time") => Ok(()),
            Some(other) => Err(format!("format {other}")),
        }
    });
}

#[test]
fn lists_of_named_things_are_maps_by_name() {
    every(|node| {
        let named = node
            .schema
            .get("items")
            .and_then(|items| items.pointer("/properties/name"))
            .is_some();
        let by_name = node.schema.get("x-kubernetes-list-map-keys") == Some(&json!(["name"]));
        if named && !by_name {
            Err("the same name may stand twice".to_owned())
        } else {
            Ok(())
        }
    });
}

/// Row 24 of the API conventions, as far as a machine can read.
#[test]
fn refusals_say_what_must_be_and_quote_as_kubernetes_does() {
    let mut rules = 0;
    let broken: Vec<String> = nodes()
        .iter()
        .flat_map(|node| {
            let list = node
                .schema
                .get("x-kubernetes-validations")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default();
            list.into_iter()
                .map(|rule| (node.path.clone(), rule))
                .collect::<Vec<_>>()
        })
        .filter_map(|(path, rule)| {
            rules += 1;
            let expression = rule.get("messageExpression").and_then(Value::as_str);
            // The first text of an expression is the sentence; what follows are names.
            let sentence = expression.and_then(|text| text.strip_prefix('\'')?.split(" + ").next());
            let message = sentence
                .or_else(|| rule.get("message")?.as_str())
                .unwrap_or_default()
                .to_owned();
            message_fault(&message).map(|why| format!("{path}: {why}: {message}"))
        })
        .collect();
    assert!(rules > 80, "only {rules} rules: is the walk whole?");
    assert!(broken.is_empty(), "{} messages:\n{}", broken.len(), broken.join("\n"));
}

fn message_fault(message: &str) -> Option<&'static str> {
    let unquoted: String = message.split('\'').step_by(2).collect();
    if !unquoted.contains("must ") && !unquoted.contains("may not ") {
        Some("does not say what must be")
    } else if ["<=", ">=", "==", "!="].iter().any(|sign| unquoted.contains(sign)) {
        Some("writes an inequality with signs instead of words")
    } else if message.contains('"') {
        Some("uses double quotes; literals stand in single ones")
    } else if message.matches('`').count() % 2 == 1 {
        Some("opens a backtick and does not close it")
    } else if message.ends_with('.') || message.contains('\n') {
        Some("ends with a full stop or breaks the line")
    } else {
        None
    }
}

#[test]
fn messages_with_faults_are_found() {
    for bad in [
        "min <= max",
        "`min` must be <= `max`",
        "must be \"a\"",
        "`min must be less",
        "must be less.",
    ] {
        assert!(message_fault(bad).is_some(), "{bad}");
    }
    assert_eq!(
        message_fault("`min` must not be greater than `max`, such as '<= 3'"),
        None
    );
}

#[test]
fn generated_files_are_fresh() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = super::reference::page(&super::crds().unwrap()).unwrap();
    let folders = [
        ("crds", crd::files().unwrap()),
        ("charts/tiercel/templates/crds", crd::templates().unwrap()),
        ("docs/reference", vec![("api.md".to_owned(), page)]),
    ];
    for (folder, files) in folders {
        for (name, text) in files {
            let found = std::fs::read_to_string(root.join(folder).join(&name)).unwrap_or_default();
            assert!(found == text, "{folder}/{name} differs from the types: run `make crds`");
        }
    }
}

#[test]
fn every_preset_that_ships_is_named_where_authors_look() {
    let crds = serde_json::to_value(super::crds().unwrap()).unwrap().to_string();
    for preset in crate::signals::presets::load().unwrap() {
        let name = format!("`{}`", preset.name());
        assert!(
            crds.contains(&name),
            "the description of `signal.preset` must name {name}"
        );
    }
}

/// What the API server fills in must be what the operator's types take an absence for.
#[test]
fn defaults_of_the_schema_are_those_of_the_types() {
    let mut checked = 0;
    let mut check = |definition: &CustomResourceDefinition, pointer: &str, given: Value, typed: Value| {
        let version = serde_json::to_value(&definition.spec.versions[0]).unwrap();
        let schema = version
            .pointer(&format!("/schema/openAPIV3Schema/properties/spec{pointer}"))
            .unwrap();
        let mut filled = given;
        fill(schema, &mut filled);
        assert_eq!(filled, typed, "{pointer}");
        checked += 1;
    };
    let crds = super::crds().unwrap();
    let [pool, pipeline] = crds.as_slice() else {
        panic!("two kinds")
    };
    let container = json!({"image": "a", "resources": {}});
    let stage = json!({"name": "s", "container": container});
    check(
        pipeline,
        "/properties/stages/items",
        stage.clone(),
        read::<Stage>(&stage),
    );
    let spec = json!({"stages": [stage], "objective": {"latencyMilliseconds": 1}});
    check(pipeline, "", spec.clone(), read::<TieredPipelineSpec>(&spec));
    let bare =
        json!({"tier": "CPU", "costPerNodeHour": "1", "elastic": {"maxNodes": 1}, "tolerations": [{"key": "a"}]});
    check(pool, "", bare.clone(), read::<ComputePoolSpec>(&bare));
    assert_eq!(checked, 3);
    // A part left out and a part left empty mean the same.
    let mut parts = json!({"name": "s", "container": {"image": "a", "resources": {}}});
    let absent = read::<Stage>(&parts);
    for part in ["replicas", "signal", "disruption"] {
        parts[part] = json!({});
    }
    parts["scaling"] = json!({"scaleUp": {}, "scaleDown": {}});
    assert_eq!(read::<Stage>(&parts), absent);
}

/// As the operator reads it, written again.
fn read<T: serde::de::DeserializeOwned + serde::Serialize>(value: &Value) -> Value {
    serde_json::to_value(serde_json::from_value::<T>(value.clone()).unwrap()).unwrap()
}

/// As the API server fills defaults in: top down, absent members only.
fn fill(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                if let Some(default) = property.get("default").filter(|_| !members.contains_key(name)) {
                    members.insert(name.clone(), default.clone());
                }
                if let Some(member) = members.get_mut(name) {
                    fill(property, member);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill(&schema["items"], item)),
        _ => {}
    }
}

fn decimals() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1), Just(999_999_999_999_999), 0..=999_999_999_999_999_u64]
}

fn stages() -> impl Strategy<Value = Stage> {
    let hints = prop_oneof![
        Just(None),
        Just(Some(TierHint::AcceleratorRequired)),
        Just(Some(TierHint::AcceleratorPreferred)),
        Just(Some(TierHint::CpuPreferred)),
        Just(Some(TierHint::CpuSufficient)),
    ];
    let kinds = prop_oneof![Just(Kind::Inference), Just(Kind::ToolUse), Just(Kind::Custom)];
    let traffic = prop_oneof![Just(Traffic::Uniform), Just(Traffic::Weighted), Just(Traffic::Pull)];
    let volumes = proptest::collection::vec(("[a-z]{1,8}", "[0-9]{1,4}Gi"), 0..3);
    (
        "[a-z]{1,30}",
        kinds,
        hints,
        traffic,
        (0..100, 1..1000),
        decimals(),
        volumes,
        proptest::option::of(0..99),
    )
        .prop_map(
            |(name, kind, tier_hint, traffic, (min, more), calls, volumes, fallback)| Stage {
                name,
                kind,
                tier_hint,
                traffic,
                after: vec![Caller {
                    stage: "a".to_owned(),
                    calls_per_request: decimal(calls),
                }],
                container: Container {
                    image: "a".to_owned(),
                    resources: Resources {
                        requests: [("cpu".to_owned(), Quantity("500m".to_owned()))].into(),
                        ..Resources::default()
                    },
                    volumes: volumes
                        .into_iter()
                        .map(|(name, size)| Volume {
                            mount_path: format!("/{name}"),
                            name,
                            empty_dir: Some(EmptyDir {
                                size_limit: Some(Quantity(size)),
                                ..EmptyDir::default()
                            }),
                            ..Volume::default()
                        })
                        .collect(),
                    ..Container::default()
                },
                replicas: Replicas {
                    min,
                    max: min + more,
                    reliable_min: 0,
                },
                signal: Signal {
                    static_replicas: fallback,
                    ..Signal::default()
                },
                scaling: Scaling::default(),
                disruption: Disruption::default(),
                ..Stage::default()
            },
        )
}

fn decimal(micros: u64) -> Decimal {
    Decimal(format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000))
}

proptest! {
    #[test]
    fn a_decimal_read_is_the_decimal_written(micros in decimals()) {
        prop_assert_eq!(decimal(micros).micros(), Ok(micros));
        let short = decimal(micros).0.trim_end_matches('0').trim_end_matches('.').to_owned();
        prop_assert_eq!(Decimal(short).micros(), Ok(micros));
    }

    #[test]
    fn no_text_makes_the_decimal_panic_or_leave_its_range(text in "\\PC{0,20}") {
        if let Ok(micros) = Decimal(text).micros() {
            prop_assert!(micros <= 999_999_999_999_999);
        }
    }

    #[test]
    fn a_spec_written_and_read_again_is_the_same(stages in proptest::collection::vec(stages(), 0..4), priority in 0..1000) {
        let objective = Some(Objective { latency_milliseconds: 1, percentile: 50 });
        let spec = TieredPipelineSpec { mode: Mode::Advisory, priority, objective, stages, ..TieredPipelineSpec::default() };
        let json = serde_json::to_string(&spec).unwrap();
        prop_assert_eq!(&serde_json::from_str::<TieredPipelineSpec>(&json).unwrap(), &spec);
        let yaml = serde_saphyr::to_string(&spec).unwrap();
        prop_assert_eq!(&serde_saphyr::from_str::<TieredPipelineSpec>(&yaml).unwrap(), &spec);
    }
}
