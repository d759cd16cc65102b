//! Every block of the pages that people type from is typed by a scenario, held by a test, or says why not.

use std::collections::BTreeSet;

use crate::programs::read;

/// Who runs a block.
enum Runner {
    /// A scenario, as `module::function`.
    Scenario(&'static str),
    /// A test of this package, likewise.
    Test(&'static str),
    /// Nobody: why it cannot be run here.
    Nobody(&'static str),
}
use Runner::{Nobody, Scenario, Test};

const UPGRADE: Runner =
    Scenario("upgrade::the_previous_chart_is_upgraded_rolled_back_and_installed_again_without_a_restart_of_any_pod");

/// Page, first line of the block, who runs it.
const BLOCKS: [(&str, &str, Runner); 20] = [
    (
        "README.md",
        "make demo     # a local Kubernetes control plane, a six-stage AI pipeline under recorded load, replicas moving between pools",
        Nobody("the demo takes five minutes, and `make test` is what would run this"),
    ),
    (
        "README.md",
        "apiVersion: tiercel.dev/v1alpha1",
        Test("docs::manifests_in_the_documentation_are_understood"),
    ),
    (
        "README.md",
        "make cluster DETACH=1 NO_POOLS=1                 # a cluster with nodes, and no pools yet; without DETACH=1 until Ctrl-C",
        Scenario("quickstart::the_commands_of_the_readme_run_as_written_and_lead_from_nodes_to_an_answer"),
    ),
    (
        "docs/quick-start.md",
        "make demo     # a local Kubernetes control plane, a six-stage AI pipeline under recorded load, replicas moving between pools",
        Test("docs::the_quick_start_types_what_the_readme_types"),
    ),
    (
        "docs/quick-start.md",
        "make cluster DETACH=1 NO_POOLS=1                 # a cluster with nodes, and no pools yet; without DETACH=1 until Ctrl-C",
        Test("docs::the_quick_start_types_what_the_readme_types"),
    ),
    (
        "docs/quick-start.md",
        "cargo build --release --bin tiercel",
        Nobody("the tests have neither Docker nor a registry"),
    ),
    (
        "docs/quick-start.md",
        "helm install tiercel charts/tiercel -n tiercel-system --create-namespace \\",
        Test("chart::an_image_of_ones_own_is_named_as_the_quick_start_names_it"),
    ),
    (
        "docs/quick-start.md",
        "helm install tiercel charts/tiercel --namespace tiercel-system --create-namespace",
        UPGRADE,
    ),
    (
        "docs/how-to/gitops.md",
        "healthCheckExprs:",
        Test("gitops::flux_and_kstatus_say_the_same_as_argo_cd"),
    ),
    (
        "docs/how-to/gitops.md",
        "-- TieredPipeline",
        Test("gitops::argo_cd_says_of_every_situation_what_is_on_record"),
    ),
    (
        "docs/how-to/gitops.md",
        "-- ComputePool",
        Test("gitops::argo_cd_says_of_every_situation_what_is_on_record"),
    ),
    (
        "docs/how-to/gitops.md",
        "discovery.lua: |",
        Test("gitops::pause_sets_what_the_operator_reads_as_paused_and_resume_takes_nothing_else_away"),
    ),
    (
        "docs/how-to/gitops.md",
        "  spec:",
        Nobody("part of an Application of Argo CD, which does not run here"),
    ),
    (
        "docs/how-to/gitops.md",
        "  - {field: spec.stages.container.resources.requests, type: core/v1/ResourceList}",
        Test("gitops::every_quantity_of_a_spec_is_a_known_type_for_argo_cd_and_nothing_else_is"),
    ),
    (
        "docs/how-to/gitops.md",
        "  - {field: spec.elastic.nodeAllocatable, type: core/v1/ResourceList}",
        Test("gitops::every_quantity_of_a_spec_is_a_known_type_for_argo_cd_and_nothing_else_is"),
    ),
    (
        "docs/how-to/upgrade.md",
        "helm upgrade tiercel charts/tiercel --namespace tiercel-system --reset-then-reuse-values",
        UPGRADE,
    ),
    (
        "docs/how-to/upgrade.md",
        "helm rollback tiercel --namespace tiercel-system",
        UPGRADE,
    ),
    (
        "docs/how-to/upgrade.md",
        "helm uninstall tiercel --namespace tiercel-system",
        UPGRADE,
    ),
    (
        "docs/how-to/upgrade.md",
        "helm upgrade tiercel charts/tiercel --namespace tiercel-system --reset-then-reuse-values --set crds.enabled=false",
        UPGRADE,
    ),
    (
        "charts/tiercel-crds/README.md",
        "helm install tiercel-crds charts/tiercel-crds --namespace tiercel-system --create-namespace",
        Test("definitions::the_two_charts_together_are_the_one_with_definitions"),
    ),
];

/// First lines of the fenced blocks of a page.
fn first_lines(text: &str) -> Vec<String> {
    let mut lines = text.lines();
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        if line.trim_start().starts_with("```") {
            found.push(lines.next().unwrap().to_owned());
            assert!(lines.any(|line| line.trim_start() == "```"), "a block does not end");
        }
    }
    found
}

#[test]
fn every_block_of_the_pages_that_people_type_from_is_run_or_says_why_not() {
    let pages: BTreeSet<&str> = BLOCKS.iter().map(|(page, ..)| *page).collect();
    for page in pages {
        let listed: Vec<&str> = BLOCKS
            .iter()
            .filter(|(of, ..)| *of == page)
            .map(|(_, first, _)| *first)
            .collect();
        assert_eq!(
            first_lines(&read(page)),
            listed,
            "left the blocks of {page}, right those on record"
        );
    }
    for (page, first, runner) in &BLOCKS {
        let (folder, name) = match runner {
            Scenario(name) => ("e2e/tests/scenarios", name),
            Test(name) => ("tests/packaging", name),
            Nobody(reason) => {
                assert!(reason.len() > 20, "{page}: why does nobody run `{first}`?");
                continue;
            }
        };
        let (module, function) = name.split_once("::").unwrap();
        let source = read(&format!("{folder}/{module}.rs"));
        assert!(
            source.contains(&format!("fn {function}(")),
            "{page}: there is no {name} that runs `{first}`"
        );
    }
    assert_eq!(first_lines("a\n```sh\nb\nc\n```\n  ```\nd\n  ```\n"), ["b", "d"]);
}
