//! Pure: a document as text for people: aligned, without colour, at most 100 columns wherever words can be broken.

use super::Explained;
use super::table::{Row, paragraph, table};
use crate::explain::{Ceiling, CeilingOn, Learned, Need, Signal, Stage, State, Unit, Value};

/// The whole answer.
pub(super) fn render(explained: &Explained) -> String {
    let document = &explained.document;
    let mut lines = heading(explained);
    for stage in &document.stages {
        lines.push(String::new());
        lines.extend(of_stage(stage, explained.live));
    }
    lines.push(String::new());
    lines.extend(decisions(explained));
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

/// Which pipeline, as whom, and how good the plan is.
pub(super) fn heading(explained: &Explained) -> Vec<String> {
    let document = &explained.document;
    let mut lines = vec![format!("pipeline {}/{}", document.namespace, document.pipeline)];
    match &explained.unreached {
        None => {
            lines.push(format!("as the operator sees it at {}", document.time));
            lines.push(proof(document.gap_percent));
            let ceilings = document.ceilings.iter();
            lines.extend(ceilings.flat_map(|one| paragraph("", &ceiling(one))));
        }
        Some(why) => {
            let text = format!("as its status has it; readings, their ages and needs are missing: {why}");
            lines.extend(paragraph("", &text));
        }
    }
    lines
}

/// How far the joint plan is from the best one.
pub(super) fn proof(gap_percent: Option<f64>) -> String {
    match gap_percent {
        None => "pools or budgets are short; how far the plan is from the best there can be is not proven".to_owned(),
        Some(gap) if gap <= 0.0 => "of all pipelines together the plan is the cheapest there can be".to_owned(),
        Some(gap) => format!(
            "of all pipelines together the plan costs at most {} % more than the best there can be",
            number(gap)
        ),
    }
}

/// What more of a ceiling is worth.
fn ceiling(ceiling: &Ceiling) -> String {
    let saves = money(ceiling.saves_per_hour);
    match ceiling.on {
        CeilingOn::Power => format!("{} binds: one more watt would save {saves} per hour", ceiling.set_by),
        CeilingOn::Cost => format!(
            "{} binds: 1.00 more per hour would be worth {saves}, tier hints weighed in",
            ceiling.set_by
        ),
    }
}

fn of_stage(stage: &Stage, live: bool) -> Vec<String> {
    let mut lines = vec![format!("stage {}", stage.name)];
    if live {
        lines.extend(paragraph("  ", &headline(stage)));
        lines.extend(bounds(stage));
    }
    lines.extend(held(stage));
    if let Some(reason) = stage.reason.as_deref().filter(|_| live) {
        let cost = stage.cost_per_hour.map(|cost| format!(", {} per hour", money(cost)));
        let least = stage
            .minimum_cost_per_hour
            .map(|cost| format!(", {} at the minimum", money(cost)));
        let text = format!(
            "planned: {} ({reason}){}{}",
            shaped(reason),
            cost.unwrap_or_default(),
            least.unwrap_or_default()
        );
        lines.extend(paragraph("  ", &text));
    }
    let held = stage.hold.as_ref().map(|hold| &hold.message);
    if let Some(message) = stage.message.as_ref().filter(|message| Some(*message) != held) {
        lines.extend(paragraph("  ", &format!("status: {message}")));
    }
    let mut parts = vec![learned(stage), pools(stage)];
    if live {
        parts.splice(0..0, [signals(stage), needs(stage)]);
    }
    for part in parts.into_iter().filter(|part| !part.is_empty()) {
        lines.push(String::new());
        lines.extend(part);
    }
    lines
}

/// Why not now, and until when.
pub(super) fn held(stage: &Stage) -> Vec<String> {
    let Some(hold) = &stage.hold else { return Vec::new() };
    let seconds = hold.seconds.map(|seconds| format!(", for {} at most", time(seconds)));
    let text = format!(
        "held: {} ({}{})",
        hold.message,
        hold.reason,
        seconds.unwrap_or_default()
    );
    paragraph("  ", &text)
}

/// What shaped a plan, in a few words.
pub(super) fn shaped(reason: &str) -> &'static str {
    match reason {
        "Cheapest" => "the cheapest pools that fit",
        "PoolFull" => "preferred pools are full",
        "PoolDry" => "preferred pools could not place pods lately",
        "CannotStart" => "pods could not start on preferred pools lately",
        "Reclaimed" => "nodes of preferred pools are being taken away",
        "BudgetExhausted" => "the budget leaves no more",
        "AtBounds" => "the bounds of the stage",
        "NoCapacity" => "no pool has room for all that is needed",
        "MakeBeforeBreak" => "a shift whose new replicas are Ready",
        "GivesWay" => "stages waited for each other's room, and this one lost least by giving way",
        "Probe" => "one replica tries a pool that had no room",
        "Fallback" => "what is declared for lost signals",
        _ => ELSE_SHAPED,
    }
}

/// Of a reason that this version does not know.
pub(super) const ELSE_SHAPED: &str = "as the operator's version says";

/// Of a need that is no word of the operator's, but the name of a preset.
pub(super) const ALSO: &str = "a signal of `signal.also`";

/// What a need comes from, in a few words.
pub(super) fn cause(need: &str) -> &'static str {
    match need {
        "Rate" => "requests that arrive",
        "Utilization" => "how full replicas are",
        "Running" => "requests in progress",
        "Waiting" => "requests in progress, most of which wait",
        "Saturation" => "replicas are full: more may wait than is seen",
        "Callers" => "what callers send",
        "Latency" => "headroom for the latency objective",
        "Recent" => "the most of the scale-down window",
        "Floor" => "replicas that there are at least",
        "Fallback" => "what is declared for lost signals",
        _ => ALSO,
    }
}

/// What is needed, by what, and what there is.
pub(super) fn headline(stage: &Stage) -> String {
    let Some(demand) = stage.demand else {
        return "no signal has ever been seen: what runs is left as it is".to_owned();
    };
    let unit = match stage.unit {
        Unit::RequestsPerSecond => "requests/s of capacity needed",
        Unit::Replicas => "replicas' worth of work",
    };
    let decided = match stage.decided.as_deref() {
        None => "nothing is needed".to_owned(),
        Some("Floor") => "Floor decides: declared floors ask for more than demand does".to_owned(),
        Some("Fallback") => "Fallback decides: signals are lost, and what is declared for that applies".to_owned(),
        Some(driver) => format!("{driver} decides"),
    };
    let ready = stage
        .ready_capacity
        .map(|ready| format!(", Ready replicas serve {}", number(ready)));
    let saturated = if stage.saturated {
        "; replicas are full: more may be needed than is seen"
    } else {
        ""
    };
    format!(
        "{decided}: {} {unit}{}{}{saturated}",
        number(demand),
        settled(stage, demand).unwrap_or_default(),
        ready.unwrap_or_default()
    )
}

/// Of the need that decides, what it asks for at this moment, where what is planned for is something else.
fn settled(stage: &Stage, demand: f64) -> Option<String> {
    let decided = stage.decided.as_deref()?;
    // Floors count replicas, and a fallback is no need.
    let need = stage
        .needs
        .iter()
        .find(|need| need.need == decided && decided != "Floor")?;
    let now = number(need.asks);
    (now != number(demand)).then(|| format!(" after averaging, tolerance and windows ({now} at this moment)"))
}

/// Within which bounds.
fn bounds(stage: &Stage) -> Option<String> {
    let full = stage
        .target_percent
        .map(|percent| format!(", each full at {} % utilization", number(percent)));
    let replicas = stage.replicas?;
    Some(format!(
        "  {} to {} replicas{}",
        replicas.min,
        replicas.max,
        full.unwrap_or_default()
    ))
}

fn signals(stage: &Stage) -> Vec<String> {
    if stage.signals.is_empty() {
        return vec!["  nothing is read: no pod is there, and no source speaks of the stage as a whole".to_owned()];
    }
    let row = |signal: &Signal| Row {
        cells: vec![
            signal.pool.clone().unwrap_or_else(|| "all".to_owned()),
            signal.preset.clone(),
            signal.source.clone(),
            match signal.state {
                State::Fresh => "fresh",
                State::Stale => "stale",
                State::Absent => "absent",
            }
            .to_owned(),
            age(signal),
            signal
                .pods
                .map_or_else(|| "-".to_owned(), |pods| format!("{}/{}", pods.sampled, pods.expected)),
            values(&signal.values),
        ],
        notes: signal
            .gaps
            .iter()
            .map(|gap| match gap.pods {
                None => gap.why.clone(),
                Some(1) => format!("1 pod: {}", gap.why),
                Some(pods) => format!("{pods} pods: {}", gap.why),
            })
            .collect(),
    };
    let rows: Vec<Row> = stage.signals.iter().map(row).collect();
    let mut lines = table(&["SIGNAL OF", "PRESET", "ASKED", "STATE", "AGE", "PODS", "READ"], &rows);
    if !stage.trusted {
        lines.push("  not trusted: nothing shrinks on this".to_owned());
    }
    lines
}

fn age(signal: &Signal) -> String {
    match (signal.newest_seconds, signal.oldest_seconds) {
        (Some(newest), Some(oldest)) if time(newest) != time(oldest) => format!("{} to {}", time(newest), time(oldest)),
        (Some(newest), _) => time(newest),
        (None, _) => "-".to_owned(),
    }
}

fn values(values: &[Value]) -> String {
    if values.is_empty() {
        return "-".to_owned();
    }
    let text = |value: &Value| match value.unit.as_str() {
        "share" => format!("{} {} %", value.role, number(value.value * 100.0)),
        "seconds" => format!("{} {}", value.role, time(value.value)),
        "requests/s" => format!("{} {}/s", value.role, number(value.value)),
        _ => format!("{} {}", value.role, number(value.value)),
    };
    values.iter().map(text).collect::<Vec<_>>().join(", ")
}

fn needs(stage: &Stage) -> Vec<String> {
    if stage.needs.is_empty() {
        return Vec::new();
    }
    let is_floor = |need: &Need| need.need == "Floor";
    let mut needs: Vec<&Need> = stage.needs.iter().collect();
    // The largest first; floors are counted in another unit.
    needs.sort_by(|a, b| is_floor(a).cmp(&is_floor(b)).then(b.asks.total_cmp(&a.asks)));
    let row = |need: &Need| {
        let asks = number(need.asks);
        let unit = match stage.unit {
            Unit::RequestsPerSecond if !is_floor(need) => "requests/s",
            _ if asks == "1" => "replica",
            _ => "replicas",
        };
        let decides = stage.decided.as_ref() == Some(&need.need);
        Row::plain([
            need.need.clone(),
            format!("{asks} {unit}"),
            if decides { "decides" } else { "" }.to_owned(),
            cause(&need.need).to_owned(),
        ])
    };
    let rows: Vec<Row> = needs.into_iter().map(row).collect();
    table(&["NEED", "ASKS FOR", "", "COMES FROM"], &rows)
}

fn learned(stage: &Stage) -> Vec<String> {
    let mut rows = Vec::new();
    let mut row = |what: &str, place: String, learned: &Learned, slow: Option<f64>| {
        let slow = slow.map(|slow| format!(", p90 {}", time(slow)));
        rows.push(Row::plain([
            what.to_owned(),
            place,
            format!("{}{}", number(learned.value), slow.unwrap_or_default()),
            number(learned.declared),
            match learned.samples {
                0 => "none yet".to_owned(),
                samples => samples.to_string(),
            },
            format!("{} to {}", number(learned.range[0]), number(learned.range[1])),
        ]));
    };
    let taught = |learned: &Option<Learned>| learned.is_some_and(|learned| learned.samples > 0);
    let used = stage.pools.iter().filter(|pool| {
        let runs = pool.replicas > 0 || pool.wanted.is_some_and(|wanted| wanted > 0);
        runs || taught(&pool.requests_per_second) || taught(&pool.startup_seconds)
    });
    for pool in used {
        if let Some(learned) = &pool.requests_per_second {
            row("requests/s of a replica", pool.name.clone(), learned, None);
        }
        if let Some(learned) = &pool.startup_seconds {
            row(
                "seconds until Ready",
                pool.name.clone(),
                learned,
                pool.startup_slow_seconds,
            );
        }
    }
    for calls in &stage.calls {
        let from = calls
            .from
            .as_ref()
            .map_or_else(|| "all callers".to_owned(), |from| format!("from {from}"));
        row("calls per request", from, &calls.calls_per_request, None);
    }
    if rows.is_empty() {
        return Vec::new();
    }
    table(
        &["LEARNED", "WHERE", "IN FORCE", "DECLARED", "SAMPLES", "BOUNDS"],
        &rows,
    )
}

fn pools(stage: &Stage) -> Vec<String> {
    if stage.pools.is_empty() {
        return vec!["  no replica on any pool".to_owned()];
    }
    let row = |pool: &crate::explain::Pool| {
        Row::plain([
            pool.name.clone(),
            pool.wanted.map_or_else(|| "-".to_owned(), |wanted| wanted.to_string()),
            pool.replicas.to_string(),
            pool.ready.to_string(),
            pool.replica
                .map_or_else(|| "-".to_owned(), |replica| money(replica.cost_per_hour)),
            pool.alone.map_or_else(
                || if pool.not_alone.is_some() { "no" } else { "-" }.to_owned(),
                |alone| format!("{} at {}", alone.replicas, money(alone.cost_per_hour)),
            ),
            pool.not_more.clone().unwrap_or_default(),
        ])
    };
    let rows: Vec<Row> = stage.pools.iter().map(row).collect();
    let header = [
        "REPLICAS ON",
        "WANTED",
        "ASKED FOR",
        "READY",
        "ONE PER HOUR",
        "ALL THERE",
        "WHY NOT MORE",
    ];
    let mut lines = table(&header, &rows);
    if !stage.excluded.is_empty() {
        let row = |excluded: &crate::explain::Excluded| Row::plain([excluded.pool.clone(), excluded.why.clone()]);
        lines.push(String::new());
        let rows: Vec<Row> = stage.excluded.iter().map(row).collect();
        lines.extend(table(&["NOT ALLOWED ON", "BECAUSE"], &rows));
    }
    lines
}

fn decisions(explained: &Explained) -> Vec<String> {
    let decisions = &explained.document.decisions;
    if decisions.is_empty() {
        return vec!["no decision yet".to_owned()];
    }
    let row = |decision: &crate::api::tiered_pipeline::DecisionSummary| {
        let signal = decision.signal.as_ref().map(|signal| format!(" by {signal}"));
        Row {
            cells: vec![decision.time.clone(), decision.summary.clone()],
            notes: vec![format!(
                "{}{}; {}; per hour {} -> {}",
                decision.trigger,
                signal.unwrap_or_default(),
                decision.reason,
                decision.cost_before,
                decision.cost_after
            )],
        }
    };
    let rows: Vec<Row> = decisions.iter().map(row).collect();
    table(&["DECIDED AT", "WHAT, AND WHY"], &rows)
}

/// Money per hour: two digits behind the point, or as many as it takes to see two that count.
pub(super) fn money(amount: f64) -> String {
    match amount.abs() {
        size if size >= 0.0995 || size == 0.0 => format!("{amount:.2}"),
        size if size >= 0.00995 => format!("{amount:.3}"),
        _ => format!("{amount:.4}"),
    }
}

/// Three digits that count, or all before the point.
pub(super) fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.9995 || size == 0.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    if digits == 0 {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Seconds as people say them.
fn time(seconds: f64) -> String {
    match seconds {
        _ if seconds < 9.95 => format!("{seconds:.1} s"),
        _ if seconds < 119.5 => format!("{seconds:.0} s"),
        _ if seconds < 7_170.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.0} h", seconds / 3_600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_count_and_no_empty_ones() {
        let cases = [0.0, 0.125, 1.25, 9.437, 10.0, 18.44, 99.96, 12_345.6];
        assert_eq!(
            cases.map(number),
            ["0", "0.125", "1.25", "9.44", "10", "18.4", "100", "12346"]
        );
    }

    #[test]
    fn times_are_told_in_the_unit_that_fits() {
        let cases = [0.04, 0.4, 9.94, 9.96, 42.4, 119.6, 3_600.0, 7_200.0];
        assert_eq!(
            cases.map(time),
            ["0.0 s", "0.4 s", "9.9 s", "10 s", "42 s", "2 min", "60 min", "2 h"]
        );
    }
}
