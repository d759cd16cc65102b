//! What Argo CD, Flux and kstatus read out of our objects: the page's health checks for Argo CD, run by a Lua interpreter, its
//! expressions for Flux, and kstatus's own rules, over objects that the operator's code has described.
//!
//! The objects are in `config/argocd`, with what Argo CD must say of each in `health_test.yaml`, in the layout of its
//! `resource_customizations`. Unit tests of both controllers hold them against the code.

use std::collections::BTreeSet;
use std::sync::Arc;

use cel::objects::{Key, Map};
use cel::{Context, Program};
use mlua::{Lua, LuaOptions, StdLib};
use serde_json::Value;

use crate::programs::{documents, files, read};

const KINDS: [&str; 2] = ["TieredPipeline", "ComputePool"];
const PAGE: &str = "docs/how-to/gitops.md";

/// A recorded object.
struct Situation {
    name: String,
    object: Value,
}

fn situations(kind: &str) -> Vec<Situation> {
    let all = files(&format!("config/argocd/tiercel.dev/{kind}/testdata"), "yaml").into_iter();
    let all: Vec<Situation> = all
        .map(|path| Situation {
            name: path.file_stem().unwrap().display().to_string(),
            object: documents(&std::fs::read_to_string(&path).unwrap()).remove(0),
        })
        .collect();
    assert!(all.len() > 12, "{kind}: {} situations", all.len());
    all
}

/// The page's block in this language after the text `after`.
fn block(language: &str, after: &str) -> String {
    let page = read(PAGE);
    let (_, rest) = page
        .split_once(after)
        .unwrap_or_else(|| panic!("{PAGE} does not say {after}"));
    let (_, block) = rest.split_once(&format!("```{language}\n")).unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

fn health_check(kind: &str) -> String {
    block("lua", &format!("`resource.customizations.health.tiercel.dev_{kind}`"))
}

fn to_lua(lua: &Lua, value: &Value) -> mlua::Result<mlua::Value> {
    Ok(match value {
        Value::Null => mlua::Value::Nil,
        Value::Bool(flag) => mlua::Value::Boolean(*flag),
        // Argo CD hands all numbers over as floats.
        Value::Number(number) => mlua::Value::Number(number.as_f64().unwrap()),
        Value::String(text) => mlua::Value::String(lua.create_string(text)?),
        Value::Array(items) => {
            let items: mlua::Result<Vec<_>> = items.iter().map(|item| to_lua(lua, item)).collect();
            mlua::Value::Table(lua.create_sequence_from(items?)?)
        }
        Value::Object(members) => {
            let table = lua.create_table()?;
            for (name, member) in members {
                table.set(name.as_str(), to_lua(lua, member)?)?;
            }
            mlua::Value::Table(table)
        }
    })
}

/// Health and message, as Argo CD comes to them: by its own rule for what is being deleted, by the script for the rest, which
/// has the base library and tables and nothing else.
fn argo(script: &str, object: &Value) -> mlua::Result<(String, String)> {
    if object["metadata"].get("deletionTimestamp").is_some() {
        return Ok(("Progressing".into(), "Pending deletion".into()));
    }
    let lua = Lua::new_with(StdLib::TABLE, LuaOptions::default())?;
    lua.globals().set("obj", to_lua(&lua, object)?)?;
    let health: mlua::Table = lua.load(script).eval()?;
    Ok((health.get("status")?, health.get("message")?))
}

fn to_cel(value: &Value) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Bool(flag) => cel::Value::Bool(*flag),
        Value::Number(number) => cel::Value::Int(number.as_i64().unwrap()),
        Value::String(text) => cel::Value::String(Arc::new(text.clone())),
        Value::Array(items) => cel::Value::List(Arc::new(items.iter().map(to_cel).collect())),
        Value::Object(members) => {
            let members = members.iter();
            let members = members.map(|(name, value)| (Key::String(Arc::new(name.clone())), to_cel(value)));
            cel::Value::Map(Map {
                map: Arc::new(members.collect()),
            })
        }
    }
}

fn from_lua(value: mlua::Value) -> Value {
    match value {
        mlua::Value::Boolean(flag) => flag.into(),
        mlua::Value::Integer(number) => number.into(),
        // All numbers of an object that people write are whole.
        #[expect(clippy::cast_possible_truncation, reason = "they went in as whole numbers")]
        mlua::Value::Number(number) => (number as i64).into(),
        mlua::Value::String(text) => text.to_str().unwrap().to_owned().into(),
        mlua::Value::Table(table) if table.raw_len() > 0 => {
            let items = table.sequence_values::<mlua::Value>();
            items.map(|item| from_lua(item.unwrap())).collect()
        }
        mlua::Value::Table(table) => {
            let pairs = table.pairs::<String, mlua::Value>().map(Result::unwrap);
            Value::Object(pairs.map(|(name, member)| (name, from_lua(member))).collect())
        }
        _ => Value::Null,
    }
}

/// What a script of actions makes of an object.
fn acted(script: &str, object: &Value) -> Value {
    let lua = Lua::new_with(StdLib::TABLE, LuaOptions::default()).unwrap();
    lua.globals().set("obj", to_lua(&lua, object).unwrap()).unwrap();
    from_lua(lua.load(script).eval().unwrap())
}

/// The object without what Lua cannot tell from absence.
fn plain(mut object: Value) -> Value {
    if let Some(members) = object.as_object_mut() {
        for member in members.values_mut() {
            *member = plain(member.take());
        }
        members.retain(|_, member| {
            !member.is_null()
                && member.as_object().is_none_or(|it| !it.is_empty())
                && *member != Value::Array(Vec::new())
        });
    } else if let Some(items) = object.as_array_mut() {
        for item in items {
            *item = plain(item.take());
        }
    }
    object
}

/// What the expressions for a kind come to, in Flux's order. `early`: whether Flux compares generations itself before it asks
/// them, as newer releases do.
fn flux(expressions: &Value, object: &Value, early: bool) -> &'static str {
    let status = &object["status"];
    if early
        && status
            .get("observedGeneration")
            .is_some_and(|seen| *seen != object["metadata"]["generation"])
    {
        return "InProgress";
    }
    let mut context = Context::default();
    for (name, value) in object.as_object().unwrap() {
        context.add_variable_from_value(name.as_str(), to_cel(value));
    }
    for (key, verdict) in [
        ("inProgress", "InProgress"),
        ("failed", "Failed"),
        ("current", "Current"),
    ] {
        let source = expressions[key].as_str().unwrap();
        match Program::compile(source).unwrap().execute(&context) {
            Ok(cel::Value::Bool(true)) => return verdict,
            Ok(cel::Value::Bool(false)) => {}
            // Flux waits where an expression cannot be answered.
            Err(_) => return "InProgress",
            Ok(other) => panic!("`{source}` answers {other:?}"),
        }
    }
    "InProgress"
}

/// kstatus's rules for a kind that it does not know, in their order.
fn kstatus(object: &Value) -> &'static str {
    let (metadata, status) = (&object["metadata"], &object["status"]);
    if metadata.get("deletionTimestamp").is_some() {
        return "Terminating";
    }
    if status
        .get("observedGeneration")
        .is_some_and(|seen| *seen != metadata["generation"])
    {
        return "InProgress";
    }
    let conditions = || status["conditions"].as_array().into_iter().flatten();
    for condition in conditions().filter(|condition| condition["status"] == "True") {
        match condition["type"].as_str() {
            Some("Reconciling") => return "InProgress",
            Some("Stalled") => return "Failed",
            _ => {}
        }
    }
    match conditions().find(|condition| condition["type"] == "Ready") {
        Some(ready) if ready["status"] != "True" => "InProgress",
        // Without the condition as well: nothing speaks against it.
        _ => "Current",
    }
}

fn expressions(kind: &str) -> Value {
    let all = documents(&block("yaml", "## Flux")).remove(0);
    let all = all["healthCheckExprs"].as_array().unwrap().clone();
    let mut of_kind = all.into_iter().filter(|entry| entry["kind"] == kind);
    let found = of_kind
        .next()
        .unwrap_or_else(|| panic!("{PAGE} has no expressions for {kind}"));
    assert_eq!(found["apiVersion"], "tiercel.dev/v1alpha1");
    found
}

#[test]
fn argo_cd_says_of_every_situation_what_is_on_record() {
    for kind in KINDS {
        let folder = format!("config/argocd/tiercel.dev/{kind}");
        let script = health_check(kind);
        assert_eq!(script, read(&format!("{folder}/health.lua")), "{PAGE} and {folder}");
        let table = documents(&read(&format!("{folder}/health_test.yaml"))).remove(0);
        let table = table["tests"].as_array().unwrap();
        let expected = |name: &str| {
            let path = format!("testdata/{name}.yaml");
            let row = table.iter().find(|row| row["inputPath"] == path.as_str());
            let health = &row.unwrap_or_else(|| panic!("{folder}/health_test.yaml lacks {path}"))["healthStatus"];
            let text = |key: &str| health[key].as_str().unwrap().to_owned();
            (text("status"), text("message"))
        };
        let situations = situations(kind);
        for Situation { name, object } in &situations {
            let told = argo(&script, object).unwrap_or_else(|error| panic!("{kind} {name}: {error}"));
            assert_eq!(told, expected(name), "{kind} {name}");
        }
        assert_eq!(
            table.len(),
            situations.len(),
            "{folder}/health_test.yaml has rows for what is not there"
        );
        let used: BTreeSet<_> = table
            .iter()
            .filter_map(|row| row["healthStatus"]["status"].as_str())
            .collect();
        assert!(
            used.is_superset(&["Degraded", "Healthy", "Progressing"].into()),
            "{kind}: {used:?}"
        );
    }
}

#[test]
fn flux_and_kstatus_say_the_same_as_argo_cd() {
    for kind in KINDS {
        let (script, expressions) = (health_check(kind), expressions(kind));
        for Situation { name, object } in situations(kind) {
            let (health, message) = argo(&script, &object).unwrap();
            let (flux_early, flux_late) = (flux(&expressions, &object, true), flux(&expressions, &object, false));
            assert_eq!(
                flux_early, flux_late,
                "{kind} {name}: it depends on the release of Flux"
            );
            let verdicts = (kstatus(&object), flux_early);
            let wanted = match &*health {
                "Healthy" => ("Current", "Current"),
                "Degraded" if message.starts_with("ReplicasOwnedElsewhere") => ("InProgress", "Failed"),
                "Degraded" => ("Failed", "Failed"),
                // Suspended is no word of kstatus: a pipeline that is paused serves, or comes up.
                "Suspended" if message.starts_with("Paused") => ("Current", "Current"),
                "Progressing" if message == "Pending deletion" => ("Terminating", "InProgress"),
                "Progressing" | "Suspended" => ("InProgress", "InProgress"),
                other => panic!("{kind} {name}: {other}"),
            };
            assert_eq!(verdicts, wanted, "{kind} {name}: Argo CD says {health}: {message}");
        }
    }
}

#[test]
fn pause_sets_what_the_operator_reads_as_paused_and_resume_takes_nothing_else_away() {
    let folder = "config/argocd/tiercel.dev/TieredPipeline/actions";
    let page = documents(&block(
        "yaml",
        "`resource.customizations.actions.tiercel.dev_TieredPipeline`",
    ))
    .remove(0);
    let discovery = page["discovery.lua"].as_str().unwrap();
    assert_eq!(discovery, read(&format!("{folder}/discovery.lua")));
    let action = |name: &str| {
        let mut all = page["definitions"].as_array().unwrap().iter();
        let found = all.find(|definition| definition["name"] == name).unwrap();
        let script = found["action.lua"].as_str().unwrap().to_owned();
        assert_eq!(
            script,
            read(&format!("{folder}/{name}/action.lua")),
            "{PAGE} and {folder}"
        );
        script
    };
    let (pause, resume) = (action("pause"), action("resume"));
    let offered = |object: &Value| {
        let actions = acted(discovery, object);
        let mut offered: Vec<String> = actions.as_object().unwrap().keys().cloned().collect();
        offered.retain(|name| actions[name]["disabled"] == false);
        offered
    };
    let all = situations("TieredPipeline");
    let of = |name: &str| all.iter().find(|it| it.name == name).unwrap().object.clone();
    // What the operator's own test of a paused pipeline has in it.
    let known = of("paused-by-annotation")["metadata"]["annotations"].clone();
    for Situation { name, object } in &all {
        let mut object = object.clone();
        object["metadata"]["annotations"]["example.com/owner"] = "search".into();
        let paused = acted(&pause, &object);
        assert_eq!(offered(&paused), ["resume"], "{name}");
        for (key, value) in known.as_object().unwrap() {
            assert_eq!(paused["metadata"]["annotations"][key], *value, "{name}");
        }
        let resumed = acted(&resume, &paused);
        assert_eq!(offered(&resumed), ["pause"], "{name}");
        if name != "paused-by-annotation" {
            assert_eq!(offered(&object), ["pause"], "{name}");
            assert_eq!(plain(resumed), plain(object), "{name}: something else changed");
        }
    }
    assert_eq!(offered(&of("paused-by-annotation")), ["resume"]);
    // Without any annotation.
    let bare = of("steady");
    assert!(bare["metadata"].get("annotations").is_none(), "{bare}");
    assert_eq!(plain(acted(&resume, &acted(&pause, &bare))), plain(bare));
}

/// Paths of quantities below a node of a schema, as Argo CD writes paths: lists are passed through.
fn quantities(path: &str, node: &Value, into: &mut BTreeSet<(String, &'static str)>) {
    let is_quantity = |node: &Value| node["x-kubernetes-int-or-string"] == true;
    for (name, property) in node["properties"].as_object().into_iter().flatten() {
        let at = format!("{path}.{name}");
        if is_quantity(property) {
            into.insert((at, "core/Quantity"));
        } else if is_quantity(&property["additionalProperties"]) {
            into.insert((at, "core/v1/ResourceList"));
        } else {
            quantities(&at, property, into);
            quantities(&at, &property["items"], into);
        }
    }
}

#[test]
fn every_quantity_of_a_spec_is_a_known_type_for_argo_cd_and_nothing_else_is() {
    for (kind, file) in [("TieredPipeline", "tieredpipelines"), ("ComputePool", "computepools")] {
        let definition = documents(&read(&format!("crds/{file}.yaml"))).remove(0);
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let mut wanted = BTreeSet::new();
        quantities("spec", &schema["properties"]["spec"], &mut wanted);
        let key = format!("`resource.customizations.knownTypeFields.tiercel.dev_{kind}`");
        let page = read(PAGE);
        let (_, rest) = page.split_once(&key).unwrap();
        let text = rest.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
        let listed = documents(text).remove(0);
        let listed: BTreeSet<(String, &str)> = (listed.as_array().unwrap().iter())
            .map(|entry| {
                (
                    entry["field"].as_str().unwrap().to_owned(),
                    entry["type"].as_str().unwrap(),
                )
            })
            .collect();
        assert_eq!(listed, wanted, "{kind}: left the page, right the definition");
    }
}

/// Why the definitions give an object a status before the operator does.
#[test]
fn only_the_status_that_the_definition_gives_keeps_a_new_object_from_passing_for_finished() {
    for kind in KINDS {
        let created = situations(kind)
            .into_iter()
            .find(|it| it.name == "created")
            .unwrap()
            .object;
        assert_eq!(kstatus(&created), "InProgress", "{kind}");
        let mut bare = created;
        bare.as_object_mut().unwrap().remove("status");
        assert_eq!(kstatus(&bare), "Current", "{kind}");
        // What knows our kinds waits in any case.
        assert_eq!(argo(&health_check(kind), &bare).unwrap().0, "Progressing", "{kind}");
        for early in [true, false] {
            assert_eq!(flux(&expressions(kind), &bare, early), "InProgress", "{kind}");
        }
    }
}
