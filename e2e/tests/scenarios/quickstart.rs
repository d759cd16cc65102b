//! What a newcomer types, and what he sees.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use libtest_mimic::Trial;
use tiercel::api::{TieredPipelineStatus, labels};
use tiercel_e2e::command;
use tiercel_e2e::nodes::X86;
use tiercel_e2e::process::{Process, Spec, tail};
use tiercel_e2e::wait::eventually;

use crate::suite::Suite;
use crate::support::{PATIENCE, Tiered, file, stage};
use crate::typed;

/// What `make cluster` runs.
const CLUSTER: &str = env!("CARGO_BIN_EXE_cluster");

pub(crate) fn scenarios(suite: &Arc<Suite>) -> [Trial; 3] {
    crate::scenarios![suite, quickstart:
        the_sample_pools_and_the_support_agent_lead_to_six_stages_that_serve_where_their_hints_allow,
        kubectl_get_reads_well,
        the_commands_of_the_readme_run_as_written_and_lead_from_nodes_to_an_answer,
    ]
}

pub(crate) async fn the_sample_pools_and_the_support_agent_lead_to_six_stages_that_serve_where_their_hints_allow(
    suite: &Suite,
) {
    let tiered = suite.tiered(&[]).await;
    tiered.sample_pools().await;
    tiered.apply_yaml(&file("config/samples/support-agent.yaml")).await;
    let pipeline = tiered.ready("support-agent").await;
    let status = pipeline.status.unwrap();
    assert_eq!(status.stages_ready.as_deref(), Some("6/6"));
    let names: Vec<_> = status.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(
        names,
        ["retrieve", "guard", "orchestrate", "generate", "tools", "postprocess"]
    );
    as_hinted(&tiered, &status);
    // The nodes themselves: hardware of the pool that the pod belongs to.
    let kinds: BTreeMap<_, _> = [
        ("graviton", "graviton"),
        ("x86", "x86"),
        ("l4-spot", "l4-spot"),
        ("h100", "h100"),
        ("inferentia", "inferentia2"),
    ]
    .map(|(pool, shape)| (tiered.pool_name(pool), format!("{}-{shape}-", tiered.namespace())))
    .into();
    for pod in tiered.pods("support-agent").await {
        let node = pod.spec.as_ref().unwrap().node_name.clone().unwrap_or_default();
        let prefix = &kinds[&pod.labels()[labels::POOL]];
        assert!(
            node.starts_with(prefix.as_str()),
            "{} is on '{node}', not on {prefix}*",
            pod.name_any()
        );
    }
}

/// Fails unless the sample's generation runs on accelerators, and all else on CPUs.
pub(crate) fn as_hinted(tiered: &Tiered, status: &TieredPipelineStatus) {
    let tiers: BTreeMap<_, _> = ["graviton", "x86"]
        .map(|pool| (tiered.pool_name(pool), "CPU"))
        .into_iter()
        .chain(["l4-spot", "h100", "inferentia"].map(|pool| (tiered.pool_name(pool), "Accelerator")))
        .collect();
    for stage in &status.stages {
        let wanted = if stage.name == "generate" { "Accelerator" } else { "CPU" };
        assert!(!stage.pools.is_empty(), "stage '{}' runs nowhere", stage.name);
        for pool in &stage.pools {
            assert_eq!(
                tiers[&pool.name], wanted,
                "stage '{}' runs on pool '{}': {:?} {:?}",
                stage.name, pool.name, stage.message, status.decisions
            );
        }
    }
}

pub(crate) async fn kubectl_get_reads_well(suite: &Suite) {
    let tiered = suite.tiered(&[]).await;
    tiered.space.nodes(&X86, 2).await;
    tiered.cpu_pool("x86", &[]).await;
    tiered.cpu_pool("none", &[("kubernetes.io/arch", "s390x")]).await;
    tiered.pool_says("none", "Ready", "False", "NoNodes").await;
    tiered
        .create("web", &[stage("retrieve", &[], 1), stage("answer", &["retrieve"], 2)])
        .await;
    tiered.ready("web").await;
    let masked = |text: &str| {
        let lines = text.lines().map(|line| line.replace(tiered.namespace(), "space"));
        let words = lines.map(|line| {
            let mut words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
            let last = words.last_mut().unwrap();
            if last.ends_with('s') && last.starts_with(|c: char| c.is_ascii_digit()) {
                "AGE".clone_into(last);
            }
            words.join(" ")
        });
        words.collect::<Vec<_>>()
    };
    let kubectl = tiered.installed.cluster.kubectl();
    let pipelines = kubectl.run(&["get", "tpipe", "-n", tiered.namespace()]).await.unwrap();
    assert_eq!(
        masked(&pipelines),
        [
            "NAME READY STAGES REPLICAS COST/H MODE REASON AGE",
            "web True 2/2 3 0.09 Automatic AsDeclared AGE",
        ]
    );
    let (x86, none) = (tiered.pool_name("x86"), tiered.pool_name("none"));
    // The pool's numbers settle for two seconds, or longer on a busy machine.
    let counted = eventually(PATIENCE, "the pool counts its replicas", async || {
        let pools = kubectl.run(&["get", "cpool", &x86, &none]).await.unwrap();
        let line = masked(&pools).into_iter().find(|line| line.contains(" amd64 2 3 "));
        line.map(|_| pools.clone()).ok_or(pools)
    });
    let pools = counted.await.unwrap();
    assert_eq!(
        masked(&pools),
        [
            "NAME TIER CLASS ARCH NODES REPLICAS FREE COST/H PRICE READY REASON AGE",
            "space-x86 CPU x86 amd64 2 3 30 of 31 cpu 2.00 True NodesAvailable AGE",
            "space-none CPU none 0 0 False NoNodes AGE",
        ]
    );
}

/// The commands of the README's block under "Try it by hand", comments and all.
fn readme_commands() -> Vec<String> {
    typed::block("README.md", "make cluster")
        .lines()
        .map(str::to_owned)
        .collect()
}

pub(crate) async fn the_commands_of_the_readme_run_as_written_and_lead_from_nodes_to_an_answer(suite: &Suite) {
    let tools = suite.tools().await.folder().display().to_string();
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("cluster");
    let arguments = |command: &str| vec![command.to_owned(), "--folder".into(), folder.display().to_string()];
    let operator = tiercel_e2e::operator::find_binary().unwrap().display().to_string();
    let env = [
        ("TIERCEL_TOOLS_BIN", &*tools),
        ("TIERCEL_BIN", &*operator),
        ("DETACH", "0"),
        ("PLAIN", "0"),
        ("NO_POOLS", "1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let cluster = async |command| {
        command::run(CLUSTER.into(), &arguments(command), &env, "", PATIENCE)
            .await
            .unwrap()
    };
    // What `make cluster` does, in a terminal of its own.
    let mut terminal = Process::start(Spec {
        name: "make cluster".into(),
        program: CLUSTER.into(),
        args: arguments("up"),
        env: env.to_vec(),
        log: temporary.path().join("terminal.log"),
        outlives_parent: false,
    })
    .unwrap();
    let log = terminal.spec().log.clone();
    eventually(PATIENCE, "`make cluster` has come up", async || {
        terminal.check().map_err(|error| error.to_string()).unwrap();
        let printed = std::fs::read_to_string(&log).unwrap_or_default();
        printed
            .contains("It stays up until")
            .then_some(())
            .ok_or_else(|| tail(&log))
    })
    .await
    .unwrap();
    let again = cluster("up").await;
    let refused = again.code == Some(1) && again.stderr.contains("already");
    assert!(refused, "a second `make cluster` was not refused: {again:?}");

    let printed = std::fs::read_to_string(&log).unwrap();
    let makefile = file("Makefile");
    let environment = folder.join("env");
    let mut load = None;
    let mut run = Vec::new();
    for line in readme_commands() {
        let bare = line.split_once(" #").map_or(&*line, |(bare, _)| bare).trim_end();
        let words: Vec<_> = bare.split_whitespace().collect();
        match *words {
            ["make", "load"] => {
                // In another terminal of its own.
                let spec = Spec {
                    name: "make load".into(),
                    args: arguments("load"),
                    log: temporary.path().join("load.log"),
                    ..terminal.spec().clone()
                };
                load = Some(Process::start(spec).unwrap());
            }
            ["make", target, ..] => {
                let rule = format!("\n{target}:");
                assert!(makefile.contains(&rule), "the Makefile has no target '{target}'");
            }
            [".", file] => {
                assert_eq!(file, "target/cluster/env");
                assert!(environment.is_file(), "`make cluster` wrote no such file");
            }
            ["kubectl", ..] => {
                let typed = format!(". '{}'\n{line}", environment.display());
                let output = typed::shell(Path::new(&tools), &folder.join("kubeconfig"), &typed).await;
                drop(output.success(line.clone()).unwrap());
                let told = printed.lines().any(|it| it == bare);
                assert!(told, "`make cluster` says something else than `{bare}`:\n{printed}");
                run.push(typed);
            }
            _ => panic!("who runs `{line}`?"),
        }
    }
    assert_eq!(run.len(), 5, "commands of the README that were run");
    let mut load = load.expect("the README loads the sample");
    let why = run.last().unwrap();
    eventually(PATIENCE, "why says which need decided, on fresh readings", async || {
        load.check().map_err(|error| error.to_string()).unwrap();
        let output = typed::shell(Path::new(&tools), &folder.join("kubeconfig"), why).await;
        let answered = output.stdout.contains(" decides: ") && output.stdout.contains(" fresh ");
        answered.then_some(()).ok_or_else(|| format!("{output:?}"))
    })
    .await
    .unwrap();
    load.terminate();
    load.wait(Duration::from_secs(5));

    let down = cluster("down").await;
    assert_eq!(down.code, Some(0), "{down:?}");
    terminal.wait(Duration::from_secs(10));
    let end = terminal.check().unwrap_err().to_string();
    assert!(end.contains("exit status: 0"), "it did not end in order: {end}");
    assert!(!folder.exists(), "{} is still there", folder.display());
}
