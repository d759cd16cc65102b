//! What people read, and how the command ends. Whole texts are on record in `snapshots/`.

use std::path::Path;
use std::process::Command;

use clap::Parser as _;

use super::*;

/// The command line of a test.
#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

fn arguments(words: &[&str]) -> Arguments {
    Line::try_parse_from([&["plan"], words].concat())
        .unwrap_or_else(|error| panic!("{error}"))
        .arguments
}

const POOLS: &str = "\
apiVersion: tiercel.dev/v1alpha1
kind: ComputePool
metadata: {name: arm}
spec:
  tier: CPU
  nodeSelector: {pool: arm}
  costPerNodeHour: \"0.72\"
---
apiVersion: tiercel.dev/v1alpha1
kind: ComputePool
metadata: {name: l4}
spec:
  tier: Accelerator
  nodeSelector: {pool: l4}
  device: {resourceName: nvidia.com/gpu}
  costPerNodeHour: \"0.98\"
  powerWattsPerNode: 72
  elastic: {maxNodes: 8, nodeAllocatable: {cpu: \"8\", memory: 32Gi, nvidia.com/gpu: \"1\"}}
";

fn pipeline(image: &str, least: u32, budget: &str) -> String {
    format!(
        "\
apiVersion: tiercel.dev/v1alpha1
kind: TieredPipeline
metadata: {{name: chat, namespace: agents}}
spec:
  budget: {{maxCostPerHour: \"{budget}\"}}
  stages:
  - name: retrieve
    kind: Retrieval
    container:
      image: registry.example.com/retrieve:1
      ports: [{{name: http, containerPort: 8000}}]
      resources: {{requests: {{cpu: \"2\", memory: 4Gi}}}}
    replicas: {{min: 1, max: 10}}
  - name: generate
    kind: Inference
    after: [{{stage: retrieve}}]
    container:
      image: {image}
      ports: [{{name: http, containerPort: 8000}}]
      resources: {{requests: {{cpu: \"6\", memory: 24Gi}}, limits: {{nvidia.com/gpu: \"1\"}}}}
    signal: {{preset: vllm}}
    replicas: {{min: {least}, max: 12}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: prompts}}
"
    )
}

/// A folder of manifests, and what the report on it is made of.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), files);
    folder
}

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

fn git_in(folder: &Path, words: &[&str]) {
    let author = [
        "-c",
        "user.name=test",
        "-c",
        "user.email=test@example.com",
        "-c",
        "commit.gpgsign=false",
    ];
    let done = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(author)
        .args(words)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "git {words:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// A repository with one commit, tagged `old`.
fn repository(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = folder(files);
    git_in(folder.path(), &["init", "--quiet", "--initial-branch=main"]);
    git_in(folder.path(), &["add", "-A"]);
    git_in(folder.path(), &["commit", "--quiet", "-m", "first"]);
    git_in(folder.path(), &["tag", "old"]);
    folder
}

/// The report on a folder; the folder's own name is left out of it.
fn reported(folder: &Path, words: &[&str]) -> Report {
    let path = folder.display().to_string();
    let nodes = ["--nodes", "arm=2:16,64Gi"];
    let mut report = report(&arguments(&[&["-f", &path], &nodes[..], words].concat())).unwrap();
    let places = report.problems.iter_mut().map(|problem| &mut problem.place);
    let places = places.chain(report.after.pipelines.iter_mut().map(|pipeline| &mut pipeline.source));
    for place in places.flatten() {
        place.file = place.file.replace(&format!("{path}/"), "");
    }
    report
}

#[test]
fn one_folder_as_text() {
    let folder = folder(&[("pools.yaml", POOLS), ("chat.yaml", &pipeline("vllm:1", 2, "40"))]);
    insta::assert_snapshot!(text::render(&reported(folder.path(), &[])));
}

#[test]
fn one_folder_as_markdown() {
    let folder = folder(&[("pools.yaml", POOLS), ("chat.yaml", &pipeline("vllm:1", 2, "40"))]);
    insta::assert_snapshot!(markdown::render(&reported(folder.path(), &[])));
}

/// A commit, and what the working copy makes of it: another image, a higher floor, a budget that bounds, a pipeline that is
/// new, one that goes, and something that is refused.
fn changed() -> Report {
    let other = |name: &str| pipeline("vllm:1", 1, "9").replace("name: chat", &format!("name: {name}"));
    let repository = repository(&[
        ("pools.yaml", POOLS),
        ("chat.yaml", &pipeline("vllm:1", 2, "40")),
        ("old.yaml", &other("old")),
        ("same.yaml", &other("same")),
    ]);
    std::fs::remove_file(repository.path().join("old.yaml")).unwrap();
    let bad = other("new").replace("min: 1, max: 10", "min: 1, max: 10, maximum: 12");
    write(
        repository.path(),
        &[("chat.yaml", &pipeline("vllm:2", 3, "6")), ("new.yaml", &bad)],
    );
    reported(repository.path(), &["--diff", "old"])
}

#[test]
fn a_change_as_text() {
    insta::assert_snapshot!(text::render(&changed()));
}

#[test]
fn a_change_as_markdown() {
    insta::assert_snapshot!(markdown::render(&changed()));
}

#[test]
fn the_document_for_programs() {
    let folder = folder(&[("pools.yaml", POOLS), ("chat.yaml", &pipeline("vllm:1", 2, "40"))]);
    let document = serde_json::to_string_pretty(&reported(folder.path(), &[])).unwrap();
    insta::assert_snapshot!(document.replace(&folder.path().display().to_string(), "DIR"));
}

#[test]
fn yaml_has_every_object_in_the_order_of_writing_and_reads_back() {
    let folder = folder(&[("pools.yaml", POOLS), ("chat.yaml", &pipeline("vllm:1", 2, "40"))]);
    let report = reported(folder.path(), &[]);
    let text = yaml::render(&report).unwrap();
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).unwrap();
    let kinds: Vec<&str> = documents
        .iter()
        .map(|document| document["kind"].as_str().unwrap())
        .collect();
    let expected = [
        "ServiceAccount",
        "Service",
        "Service",
        "PodDisruptionBudget",
        "Deployment",
        "Deployment",
    ];
    assert_eq!(kinds, expected);
    let manifests: Vec<_> = report.after.pipelines[0]
        .children
        .iter()
        .map(|child| child.manifest.clone())
        .collect();
    assert_eq!(documents, manifests);
    assert_eq!(documents[5]["spec"]["replicas"], 2);
}

/// Runs the command as the program does: its exit code, and what it says of failures.
fn ends(words: &[&str]) -> (u8, String) {
    match run(&arguments(words)) {
        Ok(()) => (0, String::new()),
        Err(error) => (error.code(), error.to_string()),
    }
}

#[test]
fn every_end_has_its_exit_code_and_one_line() {
    let good = folder(&[("pools.yaml", POOLS), ("chat.yaml", &pipeline("vllm:1", 2, "40"))]);
    let bad = folder(&[("pools.yaml", POOLS), ("chat.yaml", &pipeline("vllm:1", 20, "40"))]);
    let poolless = folder(&[("chat.yaml", &pipeline("vllm:1", 2, "40"))]);
    let repository = repository(&[("pools.yaml", POOLS), ("chat.yaml", &pipeline("vllm:1", 2, "40"))]);
    let path = |folder: &tempfile::TempDir| folder.path().display().to_string();
    let (good, bad, poolless, versioned) = (path(&good), path(&bad), path(&poolless), path(&repository));
    let pools = format!("{good}/pools.yaml");
    let nowhere = format!("{good}/nowhere");
    let table: [(&[&str], u8, &str); 15] = [
        (&["-f", &good], 0, ""),
        (&["-f", &good, "-o", "json"], 0, ""),
        (&["-f", &poolless, "--pools", &pools], 0, ""),
        (&["-f", &pools], 0, ""),
        (&["-f", &bad], 1, "1 problem: "),
        (&["-f", &bad, "-o", "yaml"], 1, "1 problem: "),
        (&["-f", &poolless], 2, "no ComputePool is known"),
        (&["-f", &nowhere], 2, "cannot read "),
        (&["-f", &good, "--nodes", "arm"], 2, "`--nodes arm` is not understood"),
        (
            &["-f", &good, "--nodes", "x=1"],
            2,
            "`--nodes` names pool 'x', which no file declares",
        ),
        (&["-f", &good, "--exit-code"], 2, "`--exit-code` tells of differences"),
        (&["-f", &good, "--diff", "old"], 2, "`--diff old`: "),
        (
            &["-f", &versioned, "--diff", "none"],
            2,
            "`--diff none`: there is no such commit",
        ),
        (&["-f", &versioned, "--diff=-c"], 2, "`--diff -c`: name a commit"),
        (&["-f", &versioned, "--diff", "old", "--exit-code"], 0, ""),
    ];
    for (words, code, says) in table {
        let (ended, said) = ends(words);
        assert_eq!(ended, code, "{words:?}: {said}");
        assert!(said.starts_with(says) && !said.contains('\n'), "{words:?}: {said}");
    }
    write(repository.path(), &[("chat.yaml", &pipeline("vllm:2", 2, "40"))]);
    assert_eq!(
        ends(&["-f", &versioned, "--diff", "old", "--exit-code"]),
        (3, "there are changes".to_owned())
    );
    assert_eq!(ends(&["-f", &versioned, "--diff", "old"]).0, 0);
    write(repository.path(), &[("chat.yaml", &pipeline("vllm:2", 20, "40"))]);
    assert_eq!(
        ends(&["-f", &versioned, "--diff", "old", "--exit-code"]).0,
        1,
        "a refusal weighs more than a change"
    );
}

#[test]
fn what_is_asked_for_twice_or_not_at_all_is_refused_as_usage() {
    for words in [
        &["plan"][..],
        &["plan", "-f", "a", "--pools", "b", "--context", "c"],
        &["plan", "-f", "a", "--nodes", "x=1", "--context", "c"],
        &["plan", "-f", "a", "-o", "table"],
    ] {
        let error = Line::try_parse_from(words).err().unwrap();
        assert_eq!(error.exit_code(), 2, "{words:?}");
    }
}

#[test]
fn git_is_read_without_a_checkout_also_from_below_and_for_one_file() {
    let repository = repository(&[
        ("deploy/pools.yaml", POOLS),
        ("deploy/chat.yaml", &pipeline("vllm:1", 2, "40")),
        ("deploy/more/other.yml", "kind: ConfigMap\napiVersion: v1\n"),
        ("deploy/.hidden.yaml", "kind: ConfigMap\napiVersion: v1\n"),
        ("deploy/README.md", "no manifest"),
    ]);
    write(
        repository.path(),
        &[("deploy/chat.yaml", "changed"), ("deploy/new.yaml", "new")],
    );
    let deploy = repository.path().join("deploy");
    let names = |paths: &[PathBuf], recursive: bool| {
        let texts = git::read("old", paths, recursive).unwrap();
        let cut = |name: &str| name.rsplit_once("deploy/").unwrap().1.to_owned();
        texts
            .iter()
            .map(|(name, text)| (cut(name), text.len()))
            .collect::<Vec<_>>()
    };
    let (pools, chat) = (POOLS.len(), pipeline("vllm:1", 2, "40").len());
    let flat = [("chat.yaml".to_owned(), chat), ("pools.yaml".to_owned(), pools)];
    assert_eq!(names(std::slice::from_ref(&deploy), false), flat);
    let all = names(std::slice::from_ref(&deploy), true);
    assert_eq!(all.len(), 3, "{all:?}");
    assert_eq!(all[1].0, "more/other.yml");
    assert_eq!(names(&[deploy.join("chat.yaml")], false), flat[..1]);
    assert_eq!(names(&[deploy.join("new.yaml")], false), []);
    assert_eq!(std::fs::read_to_string(deploy.join("chat.yaml")).unwrap(), "changed");
}

#[test]
fn a_pipeline_that_cannot_be_read_any_more_is_refused_and_not_told_as_gone() {
    let repository = repository(&[("pools.yaml", POOLS), ("chat.yaml", &pipeline("vllm:1", 2, "40"))]);
    for broken in [
        "kind: [",
        &pipeline("vllm:1", 2, "40").replace("kind: Inference", "kind: Inferences"),
    ] {
        write(repository.path(), &[("chat.yaml", broken)]);
        let report = reported(repository.path(), &["--diff", "old"]);
        assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
        let before = report.before.unwrap();
        assert_eq!(
            (before.changes, before.plan.cost),
            (Vec::new(), report.after.cost),
            "{broken}"
        );
    }
    write(repository.path(), &[("chat.yaml", &pipeline("vllm:1", 2, "40"))]);
    // Nor does a pool.
    write(
        repository.path(),
        &[("pools.yaml", &POOLS.replace("tier: CPU", "tier: GPU"))],
    );
    let report = reported(repository.path(), &["--diff", "old"]);
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    assert_eq!(report.before.unwrap().changes, []);
    write(repository.path(), &[("pools.yaml", POOLS)]);
    // A stage that the operator refuses stays as it is.
    write(repository.path(), &[("chat.yaml", &pipeline("vllm:1", 20, "40"))]);
    let report = reported(repository.path(), &["--diff", "old"]);
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    let before = report.before.as_ref().unwrap();
    assert_eq!((&before.changes[..], before.plan.cost), (&[][..], report.after.cost));
    std::fs::remove_file(repository.path().join("chat.yaml")).unwrap();
    let report = reported(repository.path(), &["--diff", "old"]);
    assert_eq!(report.before.unwrap().changes.len(), 1);
}

#[test]
fn markdown_shows_what_files_say_as_it_is() {
    let bad = pipeline("vllm:1", 2, "40").replace("kind: Inference", "kind: \"*a* | @all <img src=x> `b`\"");
    let folder = folder(&[("pools.yaml", POOLS), ("chat.yaml", &bad)]);
    let page = markdown::render(&reported(folder.path(), &[]));
    let line = page.lines().find(|line| line.starts_with("- `chat.yaml:")).unwrap();
    let shown =
        "`spec.stages[1].kind`: is '\\*a\\* \\| @\u{200b}all \\<img src=x\\> \\`b\\`', but must be one of 'Retrieval',";
    assert!(line.contains(shown), "{line}");
}
