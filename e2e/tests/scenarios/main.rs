//! End-to-end scenarios on a real control plane: one test binary, one module per topic. The names are sentences and
//! filter as with any cargo test: `cargo test -p tiercel-e2e --test scenarios harness::`.
//!
//! Scenarios share one cluster and run at the same time, each in namespaces and on nodes of its own. The cluster starts
//! with the first scenario that asks for it and ends with the run, whatever the verdict.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::doc_markdown,
    clippy::format_collect,
    clippy::unchecked_time_subtraction,
    reason = "scenarios fail by panicking"
)]

mod adapters;
mod admission;
mod behaviour;
mod behaviour_burst;
mod behaviour_busy;
mod behaviour_chain;
mod behaviour_faults;
mod behaviour_learning;
mod behaviour_load;
mod behaviour_modes;
mod behaviour_owners;
mod behaviour_presets;
mod behaviour_restart;
mod behaviour_shift;
mod behaviour_sources;
mod explain;
mod gitops;
mod hardware;
mod harness;
mod lifecycle;
mod lifecycle_refusals;
mod loopback;
mod monitoring;
mod plan;
mod plan_review;
mod plugin;
mod pools;
mod prometheus;
mod quickstart;
mod suite;
mod support;
mod traces;
mod typed;
mod ui;
mod upgrade;

use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};

use suite::Suite;

/// Scenarios mostly wait, so more of them run at once than there are processors.
const AT_ONCE: usize = 8;

/// Makes one trial per function, named `module::function`.
#[macro_export]
macro_rules! scenarios {
    ($suite:expr, $module:ident: $($name:ident),+ $(,)?) => {
        [$({
            let suite = std::sync::Arc::clone($suite);
            libtest_mimic::Trial::test(concat!(stringify!($module), "::", stringify!($name)), move || {
                suite.run($crate::$module::$name(&suite));
                Ok(())
            })
        }),+]
    };
}

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let suite = Arc::new(Suite::default());
    suite.stop_on_interrupt();
    let mut trials: Vec<Trial> = Vec::new();
    // The longest one first.
    trials.extend(behaviour_learning::scenarios(&suite));
    trials.extend(admission::scenarios(&suite));
    trials.extend(behaviour_busy::scenarios(&suite));
    trials.extend(behaviour_burst::scenarios(&suite));
    trials.extend(behaviour_chain::scenarios(&suite));
    trials.extend(behaviour_faults::scenarios(&suite));
    trials.extend(behaviour_load::scenarios(&suite));
    trials.extend(behaviour_sources::scenarios(&suite));
    trials.extend(behaviour_modes::scenarios(&suite));
    trials.extend(behaviour_owners::scenarios(&suite));
    trials.extend(behaviour_presets::scenarios(&suite));
    trials.extend(behaviour_restart::scenarios(&suite));
    trials.extend(behaviour_shift::scenarios(&suite));
    trials.extend(explain::scenarios(&suite));
    trials.extend(gitops::scenarios(&suite));
    trials.extend(hardware::scenarios(&suite));
    trials.extend(harness::scenarios(&suite));
    trials.extend(lifecycle::scenarios(&suite));
    trials.extend(lifecycle_refusals::scenarios(&suite));
    trials.extend(monitoring::scenarios(&suite));
    trials.extend(plan::scenarios(&suite));
    trials.extend(plan_review::scenarios(&suite));
    trials.extend(plugin::scenarios(&suite));
    trials.extend(ui::scenarios(&suite));
    trials.extend(pools::scenarios(&suite));
    trials.extend(quickstart::scenarios(&suite));
    trials.extend(traces::scenarios(&suite));
    trials.extend(upgrade::scenarios(&suite));
    let conclusion = libtest_mimic::run(&arguments, trials);
    suite.stop();
    conclusion.exit();
}
