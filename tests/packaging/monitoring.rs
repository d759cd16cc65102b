//! Dashboard, alerts and runbooks: they agree with each other, with the chart and with the metrics that there are.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::programs::{documents, files, id, read, refusal, template};

const RULES: &str = "charts/tiercel/rules/alerts.yaml";
const DASHBOARD: &str = "charts/tiercel/dashboards/tiercel-pipelines.json";

/// Alerts of the rule file.
fn alerts() -> Vec<Value> {
    let file = documents(&read(RULES)).remove(0);
    let groups = file["groups"].as_array().unwrap().iter();
    groups
        .flat_map(|group| group["rules"].as_array().unwrap().clone())
        .collect()
}

fn dashboard() -> Value {
    serde_json::from_str(&read(DASHBOARD)).unwrap()
}

/// Panels that show something.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let panels = dashboard["panels"].as_array().unwrap().iter();
    panels.filter(|panel| panel["type"] != "row").collect()
}

/// Words of an expression that name metrics of ours.
fn metrics(expression: &str) -> BTreeSet<&str> {
    expression
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("tiercel_"))
        .collect()
}

/// Names that the reference page has, as Prometheus stores them. The page is held against the code by a unit test.
fn known() -> BTreeSet<String> {
    let page = read("docs/reference/metrics.md");
    let mut names = BTreeSet::new();
    for line in page.lines().filter_map(|line| line.strip_prefix("| `tiercel_")) {
        let mut cells = line.split(" | ");
        let (name, kind) = (cells.next().unwrap().trim_end_matches('`'), cells.next().unwrap());
        let suffixes: &[&str] = if kind == "histogram" {
            &["_bucket", "_sum", "_count"]
        } else {
            &[""]
        };
        names.extend(suffixes.iter().map(|suffix| format!("tiercel_{name}{suffix}")));
    }
    assert!(names.len() > 40, "{names:?}");
    names
}

/// Every expression with where it stands.
fn expressions() -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = alerts()
        .iter()
        .map(|alert| (alert["alert"].to_string(), alert["expr"].as_str().unwrap().to_owned()))
        .collect();
    let dashboard = dashboard();
    for panel in panels(&dashboard) {
        for target in panel["targets"].as_array().unwrap() {
            found.push((panel["title"].to_string(), target["expr"].as_str().unwrap().to_owned()));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if let Some(query) = variable["definition"].as_str() {
            found.push((format!("variable {}", variable["name"]), query.to_owned()));
        }
    }
    found
}

#[test]
fn dashboard_and_alerts_use_only_metrics_that_there_are() {
    let (known, expressions) = (known(), expressions());
    for (place, expression) in &expressions {
        let used = metrics(expression);
        assert!(!used.is_empty(), "{place} asks for no metric of ours: {expression}");
        for name in used {
            assert!(
                known.contains(name),
                "{place} asks for {name}, which docs/reference/metrics.md does not have"
            );
        }
    }
    assert!(expressions.len() > 60, "{}", expressions.len());
}

#[test]
fn every_metric_but_the_plain_ones_is_on_the_dashboard() {
    let shown: BTreeSet<String> = expressions()
        .iter()
        .flat_map(|(_, expression)| metrics(expression).into_iter().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let missing: Vec<String> = known()
        .into_iter()
        .filter(|name| !name.ends_with("_sum") && !name.ends_with("_count") && !shown.contains(name))
        .collect();
    // Its conditions are those of the pool's status; the panels show what follows from them.
    assert_eq!(missing, ["tiercel_pool_condition"]);
}

#[test]
fn every_alert_says_what_is_wrong_and_has_a_runbook_of_four_parts() {
    let alerts = alerts();
    let mut pages = BTreeSet::new();
    for alert in &alerts {
        let name = alert["alert"].as_str().unwrap();
        assert!(name.starts_with("Tiercel"), "{name}");
        assert!(
            ["critical", "warning", "info"].contains(&alert["labels"]["severity"].as_str().unwrap()),
            "{name}"
        );
        for text in ["summary", "description"] {
            assert!(
                alert["annotations"][text].as_str().unwrap().len() > 20,
                "{name}: {text}"
            );
        }
        let url = alert["annotations"]["runbook_url"].as_str().unwrap();
        assert!(url.ends_with(&format!("/docs/runbooks/{name}.md")), "{name}: {url}");
        let page = read(&format!("docs/runbooks/{name}.md"));
        let headings: Vec<&str> = page.lines().filter(|line| line.starts_with('#')).collect();
        assert_eq!(
            headings,
            [
                &format!("# {name}")[..],
                "## Meaning",
                "## Impact",
                "## Diagnosis",
                "## Mitigation"
            ]
        );
        assert!(pages.insert(format!("{name}.md")), "{name} is there twice");
    }
    let on_disk: BTreeSet<String> = files("docs/runbooks", "md")
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name != "index.md")
        .collect();
    assert_eq!(pages, on_disk, "a runbook without its alert, or the other way round");
    // Each alert is in the file of cases that promtool runs.
    let cases = read("tests/alerts/alerts_test.yaml");
    for alert in &alerts {
        let name = alert["alert"].as_str().unwrap();
        assert!(cases.contains(&format!("alertname=\"{name}\"")), "no case for {name}");
    }
}

#[test]
fn the_chart_installs_the_alerts_as_they_are_with_its_own_labels_and_runbooks() {
    let rules = |arguments: &[&str]| -> Vec<Value> {
        let rendered = documents(&template(
            &[&["--set=metrics.prometheusRule.enabled=true"], arguments].concat(),
        ));
        let rule = rendered
            .into_iter()
            .find(|object| object["kind"] == "PrometheusRule")
            .unwrap();
        assert_eq!(id(&rule), "PrometheusRule tiercel-system/tiercel");
        let groups = rule["spec"]["groups"].as_array().unwrap().clone();
        groups
            .iter()
            .flat_map(|group| group["rules"].as_array().unwrap().clone())
            .collect()
    };
    assert_eq!(rules(&[]), alerts());
    let named = rules(&[
        "--set=metrics.prometheusRule.runbookBaseURL=https://wiki.example.com/",
        "--set=metrics.prometheusRule.alertLabels.team=platform",
        "--set=metrics.prometheusRule.disabled={TiercelThrashing,TiercelPreferredTierLost}",
    ]);
    assert_eq!(named.len(), alerts().len() - 2);
    for alert in &named {
        let name = alert["alert"].as_str().unwrap();
        assert_eq!(
            alert["annotations"]["runbook_url"],
            format!("https://wiki.example.com/{name}.md")
        );
        assert_eq!(alert["labels"]["team"], "platform");
        assert!(alert["labels"]["severity"].is_string(), "{name}");
    }
    let message = refusal(&[
        "--set=metrics.prometheusRule.enabled=true",
        "--set=metrics.prometheusRule.disabled={TiercelTypo}",
    ]);
    assert!(message.contains("there is no alert \"TiercelTypo\""), "{message}");
}

#[test]
fn the_chart_installs_the_dashboard_for_the_sidecar() {
    let rendered = documents(&template(&[
        "--set=metrics.dashboards.enabled=true",
        "--set=metrics.dashboards.namespace=monitoring",
    ]));
    let map = rendered
        .iter()
        .find(|object| id(object).contains("-dashboards"))
        .unwrap();
    assert_eq!(id(map), "ConfigMap monitoring/tiercel-dashboards");
    assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
    let text = map["data"]["tiercel-pipelines.json"].as_str().unwrap();
    let installed: Value = serde_json::from_str(text).unwrap();
    assert_eq!(installed, dashboard());
    // A ConfigMap holds at most 1 MiB.
    assert!(text.len() < 512 * 1024, "{} bytes", text.len());
}

#[test]
fn the_dashboard_can_be_imported_anywhere_and_every_panel_can_be_read() {
    let dashboard = dashboard();
    let variables: Vec<&str> = dashboard["templating"]["list"]
        .as_array()
        .unwrap()
        .iter()
        .map(|variable| variable["name"].as_str().unwrap())
        .collect();
    assert_eq!(variables, ["datasource", "namespace", "pipeline"]);
    assert!(
        dashboard.get("id").is_none_or(Value::is_null),
        "an id belongs to one Grafana"
    );
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64()), "two panels have the id of {panel:#}");
    }
    let panels = panels(&dashboard);
    let mut titles = BTreeSet::new();
    for panel in &panels {
        let title = panel["title"].as_str().unwrap();
        assert!(titles.insert(title), "two panels are called {title}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title}");
        for target in targets {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let expression = target["expr"].as_str().unwrap();
            let of_pipelines = metrics(expression)
                .iter()
                .any(|name| name.starts_with("tiercel_stage_") || name.starts_with("tiercel_pipeline_"));
            assert!(
                !of_pipelines || expression.contains("pipeline=~\"$pipeline\""),
                "{title} ignores the chosen pipelines: {expression}"
            );
        }
        let unit = panel["fieldConfig"]["defaults"].get("unit");
        let has_units = !["timeseries", "stat"].contains(&panel["type"].as_str().unwrap())
            || unit.and_then(Value::as_str).is_some_and(|unit| !unit.is_empty());
        assert!(has_units, "{title} has no unit");
        if panel["type"] == "timeseries" {
            for target in targets {
                assert_ne!(target["legendFormat"], "", "{title} has a legend of raw labels");
            }
            assert_eq!(panel["options"]["legend"]["showLegend"], true, "{title}");
        }
    }
    // No panel lies on another, none hangs over the edge of 24 columns.
    let cells = |panel: &Value| {
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        (at("x"), at("y"), at("x") + at("w"), at("y") + at("h"))
    };
    let all = dashboard["panels"].as_array().unwrap();
    for (index, panel) in all.iter().enumerate() {
        let (left, top, right, bottom) = cells(panel);
        assert!(right <= 24, "{}", panel["title"]);
        for other in &all[index + 1..] {
            let (l, t, r, b) = cells(other);
            let apart = right <= l || r <= left || bottom <= t || b <= top;
            assert!(apart, "{} lies on {}", panel["title"], other["title"]);
        }
    }
}

#[test]
fn series_keep_the_namespace_of_their_pipeline() {
    for (switch, kind, endpoints) in [
        ("serviceMonitor", "ServiceMonitor", "endpoints"),
        ("podMonitor", "PodMonitor", "podMetricsEndpoints"),
    ] {
        let rendered = documents(&template(&[&format!("--set=metrics.{switch}.enabled=true")]));
        let monitor = rendered.iter().find(|object| object["kind"] == kind).unwrap();
        assert_eq!(monitor["spec"][endpoints][0]["honorLabels"], json!(true), "{kind}");
    }
}
