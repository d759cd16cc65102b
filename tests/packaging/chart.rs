//! The chart as rendered by the real helm.

use clap::Parser as _;
use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::programs::{documents, files, helm, id, read, refusal, template};

const VALUE_SETS: [&str; 3] = ["default", "full", "namespaced"];

fn value_file(name: &str) -> String {
    format!("--values=charts/tiercel/ci/{name}-values.yaml")
}

pub(crate) fn find(rendered: &[Value], wanted: &str) -> Value {
    let found = rendered.iter().find(|object| id(object) == wanted);
    found
        .unwrap_or_else(|| panic!("no {wanted} among {:?}", rendered.iter().map(id).collect::<Vec<_>>()))
        .clone()
}

#[test]
fn every_value_set_lints_and_is_listed_here() {
    for name in VALUE_SETS {
        helm(&["lint", "--strict", "charts/tiercel", &value_file(name)]);
    }
    let on_disk: Vec<String> = files("charts/tiercel/ci", "yaml")
        .iter()
        .map(|path| path.file_stem().unwrap().display().to_string())
        .collect();
    assert_eq!(on_disk, VALUE_SETS.map(|name| format!("{name}-values")));
}

// The definitions are left out of the golden files: they are generated, and held against the types elsewhere.
#[test]
fn default_values_render_as_recorded() {
    assert_snapshot!(template(&[&value_file("default"), "--set=crds.enabled=false"]));
}

#[test]
fn every_switch_and_extension_point_renders_as_recorded() {
    // Alerts and dashboard are held against their own files: see `monitoring`.
    assert_snapshot!(template(&[
        &value_file("full"),
        "--set=crds.enabled=false,metrics.prometheusRule.enabled=false,metrics.dashboards.enabled=false",
    ]));
}

#[test]
fn namespaced_scope_renders_as_recorded() {
    assert_snapshot!(template(&[&value_file("namespaced")]));
}

#[test]
fn no_role_has_a_wildcard_or_reaches_secrets_or_foreign_pods() {
    for name in VALUE_SETS {
        for object in documents(&template(&[&value_file(name)])) {
            let Some(rules) = object.get("rules").and_then(Value::as_array) else {
                continue;
            };
            for rule in rules {
                for part in ["apiGroups", "resources", "verbs"] {
                    for entry in rule[part].as_array().unwrap() {
                        let entry = entry.as_str().unwrap();
                        let forbidden = [
                            "secrets",
                            "pods/exec",
                            "pods/eviction",
                            "escalate",
                            "bind",
                            "impersonate",
                        ];
                        assert!(
                            !entry.contains('*') && !forbidden.contains(&entry),
                            "{name}: {} has {rule}",
                            id(&object)
                        );
                    }
                }
                let core = rule["apiGroups"] == json!([""]);
                let verbs = rule["verbs"].as_array().unwrap();
                let reads = verbs
                    .iter()
                    .all(|verb| ["get", "list", "watch"].contains(&verb.as_str().unwrap()));
                let names: Vec<_> = rule["resources"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter_map(Value::as_str)
                    .collect();
                let read_only = ["nodes", "namespaces", "pods", "pods/proxy"]
                    .iter()
                    .any(|name| core && names.contains(name));
                assert!(!read_only || reads, "{name}: {} must only read {names:?}", id(&object));
                let leases = names.contains(&"leases") && rule["verbs"] != json!(["create"]);
                assert!(
                    !leases || rule.get("resourceNames").is_some(),
                    "{name}: {} must name its lease",
                    id(&object)
                );
            }
        }
    }
}

#[test]
fn people_are_given_no_right_on_status_and_pools_are_not_aggregated_to_editors() {
    for object in documents(&template(&[])) {
        let labels = &object["metadata"]["labels"];
        let aggregated = |role: &str| {
            labels
                .get(format!("rbac.authorization.k8s.io/aggregate-to-{role}"))
                .is_some()
        };
        let writes = object.to_string().contains("\"update\"");
        if aggregated("view") {
            assert!(!writes, "{} writes", id(&object));
        }
        if aggregated("view") || aggregated("edit") || aggregated("admin") {
            assert!(
                !object["rules"].to_string().contains("/status"),
                "{} reaches status",
                id(&object)
            );
        }
        if aggregated("edit") || aggregated("admin") {
            assert!(
                !object["rules"].to_string().contains("computepools"),
                "{} reaches pools",
                id(&object)
            );
        }
    }
}

#[test]
fn who_may_ask_the_operator_is_granted_only_where_it_is_asked_for_and_as_the_page_says() {
    let roles = |arguments: &[&str]| -> Vec<Value> {
        let all = documents(&template(arguments)).into_iter();
        all.filter(|object| id(object).ends_with("-on-call")).collect()
    };
    assert_eq!(roles(&[]), Vec::<Value>::new());
    let unbound = roles(&["--set=rbac.onCall.create=true"]);
    assert_eq!(unbound.len(), 1, "{unbound:?}");
    let bound = roles(&[
        "--set=rbac.onCall.create=true",
        "--set=rbac.onCall.subjects[0].kind=Group",
        "--set=rbac.onCall.subjects[0].name=on-call",
        "--set=rbac.onCall.subjects[0].apiGroup=rbac.authorization.k8s.io",
    ]);
    let page = read("docs/explain.md");
    let block = page
        .split("```yaml\n")
        .find(|block| block.contains("pods/proxy"))
        .unwrap();
    let shown = documents(block.split("```").next().unwrap());
    for (of, part) in [(0, "rules"), (1, "roleRef"), (1, "subjects")] {
        assert_eq!(bound[of][part], shown[of][part], "docs/explain.md, left the chart");
    }
    assert_eq!(bound.len(), shown.len());
    for (chart, page) in bound.iter().zip(&shown) {
        assert_eq!(id(chart), id(page), "docs/explain.md");
    }
}

#[test]
fn the_pod_meets_the_restricted_profile() {
    let deployment = find(&documents(&template(&[])), "Deployment tiercel-system/tiercel");
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["runAsUser"], 65532);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(pod["enableServiceLinks"], false);
    for field in ["hostNetwork", "hostPID", "hostIPC", "volumes"] {
        assert!(pod.get(field).is_none(), "{field}");
    }
    let container = &pod["containers"][0]["securityContext"];
    assert_eq!(container["allowPrivilegeEscalation"], false);
    assert_eq!(container["readOnlyRootFilesystem"], true);
    assert_eq!(container["capabilities"], json!({"drop": ["ALL"]}));
}

#[test]
fn values_become_the_flags_of_run() {
    let rendered = documents(&template(&[&value_file("full")]));
    let deployment = find(&rendered, "Deployment tiercel-system/tiercel-operator");
    let args = deployment["spec"]["template"]["spec"]["containers"][0]["args"].clone();
    assert_eq!(
        args,
        json!([
            "run",
            "--leader-elect",
            "--lease-name=tiercel",
            "--lease-namespace=tiercel-system",
            "--metrics-bind-address=0.0.0.0:9090",
            "--scrape-interval-milliseconds=500",
            "--scrape-allow-cidr=127.64.0.0/12",
            "--log-format=json",
            "--log-filter=info,tiercel::controller=debug",
            "--reconcile-concurrency=64",
            "--kube-writes-per-second=200",
            "--placeholder-image=registry.example.com/mirrored/pause:3.9",
            "--sources=/etc/tiercel/sources/sources.yaml",
            "--decision-log=/var/log/tiercel/decisions.log",
            "--presets=/etc/tiercel/presets",
            "--allow-secrets",
            "--scrape-allow-cidr=127.96.0.0/12",
        ])
    );
}

#[test]
fn sources_become_a_file_that_the_program_takes_and_rights_on_what_it_names() {
    let rendered = documents(&template(&[&value_file("full")]));
    let file = find(&rendered, "ConfigMap tiercel-system/tiercel-operator-sources");
    let text = file["data"]["sources.yaml"].as_str().unwrap();
    let sources = tiercel::signals::sources::Sources::parse("sources.yaml", text).unwrap();
    assert_eq!((sources.endpoints.len(), sources.presets().count()), (1, 3));

    let pod = find(&rendered, "Deployment tiercel-system/tiercel-operator")["spec"]["template"].clone();
    let named = |list: &Value| {
        let found = list.as_array().unwrap().iter().find(|entry| entry["name"] == "sources");
        found.unwrap().clone()
    };
    let mount = named(&pod["spec"]["containers"][0]["volumeMounts"]);
    assert_eq!(mount["mountPath"], "/etc/tiercel/sources");
    assert_eq!(mount["readOnly"], true);
    let volume = named(&pod["spec"]["volumes"]);
    assert_eq!(volume["configMap"]["name"], "tiercel-operator-sources");
    let annotations = |text: &str| {
        let deployment = find(&documents(text), "Deployment tiercel-system/tiercel-operator");
        deployment["spec"]["template"]["metadata"]["annotations"]["tiercel.dev/sources"].clone()
    };
    let before = annotations(&template(&[&value_file("full")]));
    let after = annotations(&template(&[
        &value_file("full"),
        "--set=sources.externalMetrics[0].freshness=1m",
    ]));
    assert!(
        before.is_string() && before != after,
        "a change must start the pods anew: {before}"
    );

    let rules = |rendered: &[Value], api: &str| -> Vec<Value> {
        let granted = rendered.iter().filter_map(|object| object.get("rules")?.as_array());
        let rules = granted.flatten().filter(|rule| rule["apiGroups"] == json!([api]));
        rules.map(|rule| json!([rule["resources"], rule["verbs"]])).collect()
    };
    assert_eq!(
        rules(&rendered, "custom.metrics.k8s.io"),
        [json!([["pods/http_requests_in_flight"], ["get", "list"]])]
    );
    assert_eq!(
        rules(&rendered, "external.metrics.k8s.io"),
        [json!([["sqs_messages_visible"], ["get", "list"]])]
    );
    let default = documents(&template(&[]));
    for api in ["custom.metrics.k8s.io", "external.metrics.k8s.io"] {
        assert!(rules(&default, api).is_empty(), "{api} is granted to nobody by default");
    }
}

#[test]
fn the_program_takes_the_arguments_of_every_value_set() {
    for name in VALUE_SETS {
        let rendered = documents(&template(&[&value_file(name)]));
        let deployment = rendered.iter().find(|object| object["kind"] == "Deployment").unwrap();
        let args = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
            .as_array()
            .unwrap();
        let line = args.iter().map(|arg| arg.as_str().unwrap());
        let parsed = tiercel::cli::Arguments::try_parse_from(std::iter::once("tiercel").chain(line));
        assert!(parsed.is_ok(), "{name}: {}", parsed.unwrap_err());
    }
}

#[test]
fn presets_are_mounted_where_the_flag_says_and_the_program_takes_them() {
    let rendered = documents(&template(&[&value_file("full")]));
    let files = find(&rendered, "ConfigMap tiercel-system/tiercel-operator-presets")["data"].clone();
    let files = files.as_object().unwrap();
    assert_eq!(files.keys().collect::<Vec<_>>(), ["own-server.yaml", "tgi.yaml"]);
    let folder = std::env::temp_dir().join(format!("tiercel-chart-presets-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for (file, text) in files {
        std::fs::write(folder.join(file), text.as_str().unwrap()).unwrap();
    }
    let known = tiercel::signals::presets::load_with(&folder);
    std::fs::remove_dir_all(&folder).unwrap();
    let known = known.unwrap_or_else(|error| panic!("{error}"));
    assert!(known.iter().any(|preset| preset.name() == "own-server"));

    let pod = |arguments: &[&str]| {
        let rendered = documents(&template(arguments));
        let deployment = rendered
            .into_iter()
            .find(|object| object["kind"] == "Deployment")
            .unwrap();
        deployment["spec"]["template"].clone()
    };
    let full = pod(&[&value_file("full")]);
    let container = &full["spec"]["containers"][0];
    let flag = format!(
        "--presets={}",
        container["volumeMounts"][0]["mountPath"].as_str().unwrap()
    );
    assert!(
        container["args"].as_array().unwrap().contains(&json!(flag)),
        "{container}"
    );
    assert_eq!(
        full["spec"]["volumes"][0]["configMap"]["name"],
        "tiercel-operator-presets"
    );
    let mark = |pod: &Value| pod["metadata"]["annotations"]["tiercel.dev/presets"].clone();
    let changed = pod(&[&value_file("full"), "--set=presets.own-server.enableHint=other"]);
    assert!(
        mark(&full).is_string() && mark(&full) != mark(&changed),
        "a change must start new pods"
    );
    assert!(mark(&pod(&[])).is_null());
}

#[test]
fn free_memory_goes_back_at_once_unless_the_values_say_otherwise_and_no_variable_is_given_twice() {
    let variables = |arguments: &[&str]| {
        let rendered = documents(&template(arguments));
        let deployment = find(&rendered, "Deployment tiercel-system/tiercel");
        deployment["spec"]["template"]["spec"]["containers"][0]["env"].clone()
    };
    let at_once = json!({"name": "MIMALLOC_PURGE_DELAY", "value": "0"});
    let more = "--set-json=extraEnv=[{\"name\": \"NO_PROXY\", \"value\": \"10.0.0.0/16\"}]";
    let later = "--set-json=extraEnv=[{\"name\": \"MIMALLOC_PURGE_DELAY\", \"value\": \"1000\"}]";
    assert_eq!(variables(&[]), json!([at_once]));
    assert_eq!(
        variables(&[more]),
        json!([at_once, {"name": "NO_PROXY", "value": "10.0.0.0/16"}])
    );
    assert_eq!(
        variables(&[later]),
        json!([{"name": "MIMALLOC_PURGE_DELAY", "value": "1000"}])
    );
}

#[test]
fn an_image_is_named_by_digest_before_tag_and_by_the_global_registry_first() {
    let image = |arguments: &[&str]| {
        let rendered = documents(&template(arguments));
        let deployment = find(&rendered, "Deployment tiercel-system/tiercel");
        deployment["spec"]["template"]["spec"]["containers"][0]["image"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let digest = format!("sha256:{}", "0".repeat(64));
    assert_eq!(
        image(&[]),
        format!("ghcr.io/tiercel/tiercel:{}", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(
        image(&["--set=image.tag=dev", "--set=image.registry="]),
        "tiercel/tiercel:dev"
    );
    let set = format!("--set=image.tag=dev,image.digest={digest},global.imageRegistry=mirror.example.com");
    assert_eq!(image(&[&set]), format!("mirror.example.com/tiercel/tiercel@{digest}"));
}

#[test]
fn an_image_of_ones_own_is_named_as_the_quick_start_names_it() {
    let page = read("docs/quick-start.md");
    let (_, built) = page.split_once("docker build -t ").unwrap();
    let built = built.split_whitespace().next().unwrap();
    let (_, install) = page
        .split_once("helm install tiercel charts/tiercel -n tiercel-system")
        .unwrap();
    let install = install.split("```").next().unwrap();
    let set: Vec<String> = install
        .split("--set ")
        .skip(1)
        .map(|set| format!("--set={}", set.split_whitespace().next().unwrap()))
        .collect();
    let rendered = documents(&template(&set.iter().map(String::as_str).collect::<Vec<_>>()));
    let deployment = find(&rendered, "Deployment tiercel-system/tiercel");
    assert_eq!(deployment["spec"]["template"]["spec"]["containers"][0]["image"], built);
}

#[test]
fn a_wrong_value_is_refused_by_name() {
    let cases: [(&[&str], &str); 11] = [
        (&["--set=presets.Own.source=x"], "/presets"),
        (&["--set=presets.own.source=x"], "/presets/own"),
        (&["--set=replicaCout=3"], "replicaCout"),
        (&["--set=metrics.serviceMonitor.enable=true"], "enable"),
        (&["--set=log.format=xml"], "/log/format"),
        (&["--set=rbac.scope=Namespaced"], "/watchNamespaces"),
        (&["--set=watchNamespaces={a,b}"], "/watchNamespaces"),
        (&["--set=scrape.intervalMilliseconds=5"], "/scrape/intervalMilliseconds"),
        (&["--set=tests.enabled=true"], "/tests/image"),
        (&["--set=leaderElection.enabled=false"], "two writers would fight"),
        (
            &["--set=metrics.serviceMonitor.enabled=true,metrics.service.enabled=false"],
            "metrics.podMonitor",
        ),
    ];
    for (arguments, named) in cases {
        let message = refusal(arguments);
        assert!(message.contains(named), "{arguments:?} must name {named}:\n{message}");
    }
}

#[test]
fn a_parent_chart_may_add_its_own_global_keys() {
    template(&["--set=global.parentOnly=1"]);
}

#[test]
fn chart_manifests_and_package_agree_on_the_version() {
    let version = env!("CARGO_PKG_VERSION");
    let chart = documents(&read("charts/tiercel/Chart.yaml")).remove(0);
    for chart in [&chart, &documents(&read("charts/tiercel-crds/Chart.yaml"))[0]] {
        assert_eq!(chart["appVersion"], version);
        assert_eq!(chart["version"], version);
    }
    assert!(
        chart["annotations"]["artifacthub.io/images"]
            .as_str()
            .unwrap()
            .contains(&format!("tiercel:{version}"))
    );
    for path in files("config", "yaml") {
        let text = std::fs::read_to_string(&path).unwrap();
        for line in text
            .lines()
            .filter(|line| line.contains("app.kubernetes.io/version") || line.contains("newTag"))
        {
            assert!(line.contains(version), "{}: {line} must say {version}", path.display());
        }
    }
}
