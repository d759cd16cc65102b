//! Rules of the repository as tests. ARCHITECTURE.md states them as absences; here they are looked for.

use std::path::{Path, PathBuf};

/// Longest Rust file. Most stay well below 400 lines.
const LINES_MAX: usize = 700;

struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Lines of code with their numbers: no comments, and nothing from `#[cfg(test)] mod` on.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = (1..).zip(self.text.lines());
        let product = lines.take_while(|(_, line)| !line.starts_with("#[cfg(test)]") || self.path.ends_with("lib.rs"));
        product.map(|(number, line)| (number, line.split("//").next().unwrap_or_default()))
    }
}

/// Rust files below a folder of the repository, tests beside the code left out.
fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                found.push(Source {
                    text: std::fs::read_to_string(&path).unwrap(),
                    path: name,
                });
            }
        }
    }
    assert!(
        !found.is_empty(),
        "nothing was read below {folder}, so nothing was checked"
    );
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Places where one of `words` stands in the code of files that `concerns` picks.
fn hits(folder: &str, concerns: impl Fn(&str) -> bool, words: &[&str]) -> Vec<String> {
    let mut hits = Vec::new();
    let files = sources(folder);
    let picked: Vec<&Source> = files.iter().filter(|file| concerns(&file.path)).collect();
    assert!(
        !picked.is_empty(),
        "no file of {folder} is concerned: the rule has lost its subject"
    );
    for file in picked {
        for (number, code) in file.code() {
            hits.extend(
                words
                    .iter()
                    .filter(|word| code.contains(**word))
                    .map(|word| format!("{}:{number}: {word}", file.path)),
            );
        }
    }
    hits
}

fn is_test(path: &str) -> bool {
    path.contains("tests")
        || path.ends_with("fixtures.rs")
        || path.ends_with("fixture.rs")
        || path.ends_with("tidy.rs")
        || path.ends_with("campaign.rs")
        || path.ends_with("episodes.rs")
}

#[test]
fn whatever_metrics_can_be_told_somebody_tells() {
    let all = sources("src");
    let metrics = all.iter().find(|file| file.path == "src/telemetry/metrics.rs").unwrap();
    let foreign = |file: &&Source| {
        !file.path.starts_with("src/telemetry/") && !is_test(&file.path) && file.path != "src/reference.rs"
    };
    let callers: Vec<&str> = all.iter().filter(foreign).map(|file| file.text.as_str()).collect();
    let mut told = 0;
    for (_, code) in metrics.code() {
        let name = code
            .trim()
            .strip_prefix("pub fn ")
            .and_then(|rest| rest.split('(').next());
        let Some(name) = name.filter(|name| !["new", "encode"].contains(name)) else {
            continue;
        };
        let call = format!(".{name}(");
        assert!(
            callers.iter().any(|text| text.contains(&call)),
            "nobody calls Metrics::{name}: its series would never move"
        );
        told += 1;
    }
    assert!(told > 20, "only {told} functions were found");
}

#[test]
fn rebalance_stays_free_of_the_outside() {
    let words = [
        "crate::api",
        "crate::controller",
        "crate::signals",
        "crate::telemetry",
        "kube",
        "k8s_openapi",
        "serde",
        "tokio",
        "tracing::",
        "async ",
        "Instant",
        "SystemTime",
        "HashMap",
        "HashSet",
        "std::env",
        "std::fs",
        "println!",
        "rand::",
    ];
    let mut found = hits("src/rebalance", |path| !is_test(path), &words);
    // The one exception, which no build without the feature `seeded-bugs` contains.
    found.retain(|hit| !(hit.starts_with("src/rebalance/bug.rs:") && hit.ends_with(": std::env")));
    assert!(
        found.is_empty(),
        "rebalance is std only, without clock or hash order:\n{}",
        found.join("\n")
    );
}

#[test]
fn seeded_bugs_are_behind_a_feature_that_is_off() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let features = manifest["features"].as_table().unwrap();
    let default = features.get("default").map(ToString::to_string).unwrap_or_default();
    assert!(
        features.contains_key("seeded-bugs") && !default.contains("seeded-bugs"),
        "{features:?}"
    );
    let text = std::fs::read_to_string(root.join("src/rebalance/bug.rs")).unwrap();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| line.contains("std::env")) {
        let before: Vec<&str> = text.lines().take(number).collect();
        let gate = before.iter().rev().find(|line| line.starts_with("#[cfg"));
        assert_eq!(
            gate,
            Some(&"#[cfg(feature = \"seeded-bugs\")]"),
            "line {number}: {line}"
        );
    }
}

#[test]
fn rebalance_decides_without_floats_outside_prices() {
    // The sweep keeps to whole numbers that a float holds exactly, and its test compares bits.
    let apart = ["price.rs", "sim.rs", "sweep.rs"];
    let concerned = |path: &str| !is_test(path) && !apart.iter().any(|end| path.ends_with(end));
    let found = hits("src/rebalance", concerned, &["f64", "f32"]);
    assert!(
        found.is_empty(),
        "integers decide; floats only steer prices:\n{}",
        found.join("\n")
    );
}

#[test]
fn api_and_the_pure_steps_hold_no_client() {
    let words = ["kube::Client", "Api<", "Api::", "async fn", ".await", "tokio::"];
    let mut found = hits("src/api", |_| true, &words);
    let pure = [
        "validate.rs",
        "validated.rs",
        "placement.rs",
        "compare.rs",
        "verdict.rs",
        "pipeline/build/",
        "capacity",
    ];
    found.extend(hits(
        "src/controller",
        |path| !is_test(path) && pure.iter().any(|part| path.contains(part)),
        &words,
    ));
    assert!(
        found.is_empty(),
        "pure code holds no client and waits for nothing:\n{}",
        found.join("\n")
    );
}

#[test]
fn api_imports_nothing_that_stands_on_it() {
    let found = hits(
        "src/api",
        |path| !is_test(path),
        &["crate::controller", "crate::rebalance", "crate::signals", "crate::cli"],
    );
    assert!(found.is_empty(), "api is the ground floor:\n{}", found.join("\n"));
}

#[test]
fn clocks_are_read_in_few_places() {
    let allowed = [
        "cli/print.rs",
        "controller/clock.rs",
        "controller/compute_pool.rs",
        "controller/view/watch.rs",
        "controller/warm_buffer.rs",
        "signals/scraper",
    ];
    let concerned = |path: &str| !is_test(path) && !allowed.iter().any(|place| path.contains(place));
    let found = hits(
        "src",
        concerned,
        &["Instant::now", "SystemTime::now", "Timestamp::now", "Utc::now"],
    );
    assert!(found.is_empty(), "time is an argument:\n{}", found.join("\n"));
}

#[test]
fn writes_happen_where_they_are_expected() {
    let allowed = [
        "pipeline/apply.rs",
        "pipeline/status.rs",
        "controller/status_write.rs",
        "rebalancer/writes.rs",
        "controller/lease.rs",
        "controller/events.rs",
        "controller/warm_buffer.rs",
        "rebalancer/execute.rs",
    ];
    let words = [
        ".patch(",
        ".patch_status(",
        ".patch_scale(",
        ".create(",
        ".replace(",
        ".delete(",
        ".delete_collection(",
        ".publish(",
    ];
    let concerned = |path: &str| !is_test(path) && !allowed.iter().any(|place| path.ends_with(place));
    let mut found = hits("src/controller", concerned, &words);
    // Files and stores of our own are no API objects.
    found.retain(|hit| {
        !["record.rs", "rebalancer/mod.rs", "live/store.rs"]
            .iter()
            .any(|own| hit.contains(own))
            || hit.contains(".patch")
    });
    assert!(found.is_empty(), "every write has its place:\n{}", found.join("\n"));
}

#[test]
fn nothing_waits_inside_a_reconcile() {
    let concerned =
        |path: &str| !is_test(path) && (path.contains("controller/pipeline/") || path.ends_with("compute_pool.rs"));
    let found = hits("src/controller", concerned, &["sleep(", "interval(", "sleep_until("]);
    assert!(
        found.is_empty(),
        "return an outcome and be woken:\n{}",
        found.join("\n")
    );
}

#[test]
fn there_is_no_finalizer_webhook_or_conversion() {
    let found = hits(
        "src",
        |path| !is_test(path),
        &["finalizer(", "finalizers:", "WebhookConfiguration", "ConversionReview"],
    );
    assert!(
        found.is_empty(),
        "a namespace must go with the operator absent:\n{}",
        found.join("\n")
    );
}

#[test]
fn keys_are_spelled_in_one_place() {
    let allowed = [
        "api/labels.rs",
        "api/mod.rs",
        "controller/view.rs",
        "controller/events.rs",
    ];
    let concerned = |path: &str| !is_test(path) && !allowed.iter().any(|place| path.ends_with(place));
    let found = hits("src", concerned, &["\"tiercel.dev/"]);
    assert!(
        found.is_empty(),
        "label keys live in api/labels.rs:\n{}",
        found.join("\n")
    );
}

#[test]
fn files_stay_readable() {
    let mut long: Vec<String> = Vec::new();
    for folder in ["src", "e2e/src", "e2e/tests", "tests"] {
        let all = sources(folder)
            .into_iter()
            .map(|file| (file.path, file.text.lines().count()));
        long.extend(
            all.filter(|(_, lines)| *lines > LINES_MAX)
                .map(|(path, lines)| format!("{path}: {lines} lines")),
        );
    }
    assert!(long.is_empty(), "split what does two things:\n{}", long.join("\n"));
}

#[test]
fn every_scenario_module_is_listed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/tests/scenarios");
    let main = std::fs::read_to_string(root.join("main.rs")).unwrap();
    for entry in std::fs::read_dir(&root).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        if path.extension().is_some_and(|extension| extension == "rs") && stem != "main" {
            assert!(
                main.contains(&format!("mod {stem};")),
                "e2e/tests/scenarios/{stem}.rs is never run: list it in main.rs"
            );
        }
    }
}

#[test]
fn every_promise_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/promises.md")).unwrap();
    let tests: Vec<Source> = ["src", "e2e/tests"].into_iter().flat_map(sources).collect();
    let exists = |name: &str| {
        let begins = format!("fn {name}(");
        tests.iter().any(|source| source.text.contains(&begins))
    };
    let mut ids = Vec::new();
    for line in page
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| -"))
    {
        let [_, id, _, named, _] = line.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("docs/promises.md: three columns, not: {line}");
        };
        if id.is_empty() {
            continue;
        }
        let named: Vec<&str> = named.split('`').skip(1).step_by(2).collect();
        let missing: Vec<&&str> = named.iter().filter(|name| !exists(name)).collect();
        assert!(
            !named.is_empty() && missing.is_empty(),
            "docs/promises.md: {id} wants tests that exist, not {missing:?}"
        );
        ids.push(id.to_owned());
    }
    let all = [("S", 14), ("L", 5), ("Q", 3)];
    let all = all
        .into_iter()
        .flat_map(|(kind, last)| (1..=last).map(move |at| format!("{kind}{at}")));
    assert_eq!(ids, all.collect::<Vec<_>>());
}

#[test]
fn no_path_of_one_machine_is_written_down() {
    let folders = ["src", "e2e/src", "e2e/tests", "tests"];
    let words: Vec<String> = ["work", "root", "home"]
        .iter()
        .map(|folder| format!("\"/{folder}/"))
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let found: Vec<String> = folders
        .iter()
        .flat_map(|folder| hits(folder, |_| true, &words))
        .collect();
    assert!(found.is_empty(), "paths come from arguments:\n{}", found.join("\n"));
}
