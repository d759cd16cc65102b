//! Steps to figures.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::step::{Measured, Setting, Step, Who};
use crate::Failure;
use crate::audit::millis;
use crate::numbers::{self, Summary, ratio, summary};
use crate::result::repository;

/// Prints and returns the figures of one setting.
pub(super) fn phase(setting: Setting, measured: &Measured) -> Value {
    let steps = &measured.steps;
    let bare = summary(
        &measured
            .patches
            .iter()
            .map(|patch| patch.answered_ms)
            .collect::<Vec<_>>(),
    );
    let tiercel = of(steps, Who::Tiercel);
    let mut autoscalers = Map::new();
    for who in Who::ALL {
        let own = of(steps, who);
        if own.steps == 0 {
            continue;
        }
        let label = match who {
            Who::Tiercel => "tiercel",
            Who::Hpa => "hpa",
            Who::Keda => "keda",
        };
        println!("{label}: {} steps, {} without a write", own.steps, own.missed);
        numbers::print("  load step -> signal shows it", "ms", own.shown);
        numbers::print("  signal shows it -> write answered", "ms", own.reaction);
        numbers::print("  load step -> write answered", "ms", own.written);
        numbers::print("  load step -> replicas Ready", "ms", own.ready);
        let times = ratio(own.reaction.p50, tiercel.reaction.p50).unwrap_or_default();
        let whole = ratio(own.written.p50, tiercel.written.p50).unwrap_or_default();
        println!("  p50 against tiercel's: {times:.1} x from the signal, {whole:.1} x from the step");
        autoscalers.insert(
            label.into(),
            json!({
                "steps": own.steps,
                "steps_without_write": own.missed,
                "step_to_signal_ms": own.shown,
                "signal_to_write_ms": own.reaction,
                "step_to_write_ms": own.written,
                "step_to_ready_ms": own.ready,
                "sorted_ms": { "step_to_write": own.written_each, "signal_to_write": own.reaction_each },
                "signal_to_write_p50_against_tiercel": times,
                "step_to_write_p50_against_tiercel": whole,
            }),
        );
    }
    numbers::print("bare client's PATCH: sent -> answered by the server", "ms", bare);
    let p50 = ratio(tiercel.reaction.p50, bare.p50);
    println!(
        "tiercel, signal shows it -> write answered, against it: {:.2} x at p50",
        p50.unwrap_or_default()
    );
    println!("CPU, cores: {:.3?}", measured.cpu_cores);
    println!("requests per second: {:.2?}", measured.requests_per_s);
    json!({
        "setting": setting.name,
        "cpu_cores": measured.cpu_cores,
        "requests_per_s": measured.requests_per_s,
        "hpa_sync_period_s": setting.sync.as_secs(),
        "keda_polling_interval_s": setting.polling.map_or(30, |polling| polling.as_secs()),
        "spread_s": setting.spread.as_secs(),
        "autoscalers": autoscalers,
        "bare_patch_ms": bare,
        "tiercel_against_bare_p50": p50,
    })
}

struct Own {
    steps: usize,
    missed: usize,
    shown: Summary,
    reaction: Summary,
    written: Summary,
    ready: Summary,
    /// Every step's, sorted, for curves.
    reaction_each: Vec<f64>,
    written_each: Vec<f64>,
}

fn of(steps: &[Step], who: Who) -> Own {
    let own: Vec<&Step> = steps.iter().filter(|step| step.who == who).collect();
    let spans = |from: fn(&Step) -> Option<Timestamp>, to: fn(&Step) -> Option<Timestamp>| {
        let both = own.iter().filter_map(|step| Some(millis(from(step)?, to(step)?)));
        let mut spans: Vec<f64> = both.collect();
        spans.sort_by(f64::total_cmp);
        spans
    };
    let set: fn(&Step) -> Option<Timestamp> = |step| Some(step.set);
    let reaction = spans(|step| step.shown, |step| step.written);
    let written = spans(set, |step| step.written);
    Own {
        steps: own.len(),
        missed: own.iter().filter(|step| step.written.is_none()).count(),
        shown: summary(&spans(set, |step| step.shown)),
        reaction: summary(&reaction),
        written: summary(&written),
        ready: summary(&spans(set, |step| step.ready)),
        reaction_each: reaction,
        written_each: written,
    }
}

/// What was measured beside tiercel, as the Go modules pin it.
pub(super) fn versions() -> Result<Value, Failure> {
    let pins = std::fs::read_to_string(repository().join("e2e/controlplane/go.mod"))?;
    let pinned = |module: &str| {
        let mut words = pins.split_whitespace().skip_while(|word| *word != module);
        words.find(|word| word.starts_with('v')).map(str::to_owned)
    };
    Ok(json!({
        "kubernetes": pinned("k8s.io/kubernetes"),
        "metrics_server": pinned("sigs.k8s.io/metrics-server"),
        "kwok": pinned("sigs.k8s.io/kwok"),
        "keda": tiercel_e2e::keda::version()?,
    }))
}
