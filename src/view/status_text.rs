//! The screen as text.

use super::status::{Decision, Line, Screen, Serves};
use super::table::{Cell, Layout, Row, wrapped};
use super::{Style, Tone, age};
use crate::api::tiered_pipeline::Mode;

/// Columns where the terminal does not say how many there are.
const WIDTH: usize = 100;
/// Columns of the labels on the left.
const LABEL: usize = 12;

impl Screen {
    /// For people.
    pub fn text(&self, style: Style) -> String {
        let width = style.width.unwrap_or(WIDTH);
        let name = style.paint(Tone::Strong, &format!("{}/{}", self.namespace, self.name));
        let state = style.paint(
            self.state.tone(),
            &format!("{} {}", style.sign(self.state), self.state.word()),
        );
        let mut lines = vec![format!("{name}  {state}")];
        let mut say = |label: &str, tone: Tone, text: &str| {
            for (at, part) in wrapped(text, width.saturating_sub(LABEL)).iter().enumerate() {
                let label = format!("{:LABEL$}", if at == 0 { label } else { "" });
                lines.push(style.paint(Tone::Quiet, &label) + &style.paint(tone, part));
            }
        };
        let (tone, word) = match self.serves {
            Serves::Yes => (Tone::Good, "yes"),
            Serves::Short => (Tone::Warn, "yes, but"),
            Serves::No => (Tone::Bad, "no"),
            Serves::Unknown => (Tone::Busy, "unknown"),
        };
        let gap = if self.serves == Serves::Short { " " } else { ": " };
        say("serves", tone, &format!("{word}{gap}{}", self.because));
        let mut runs = vec![format!("{} of {} replicas Ready", self.ready, self.replicas)];
        runs.extend(self.pools.iter().map(|(pool, count)| format!("{pool} {count}")));
        say("runs", Tone::Plain, &runs.join(style.dot()));
        say("costs", Tone::Plain, &self.costs(style));
        if let Some(stage) = &self.bottleneck {
            say("bottleneck", Tone::Plain, stage);
        }
        if let Some(mode) = self.mode() {
            say("mode", Tone::Warn, &mode);
        }
        lines.push(String::new());
        lines.extend(self.table().lines(style));
        lines.push(String::new());
        lines.extend(self.conditions(style, width));
        lines.extend(self.waits(style, width));
        lines.push(String::new());
        lines.extend(self.decisions(style));
        lines.join("\n") + "\n"
    }

    fn costs(&self, style: Style) -> String {
        let mut parts = Vec::new();
        let most = self
            .max_cost_per_hour
            .as_ref()
            .map(|most| format!(" of at most {most}/h"));
        match &self.cost_per_hour {
            Some(cost) => parts.push(format!("{cost}/h{}", most.unwrap_or_default())),
            None => parts.push("not known yet".to_owned()),
        }
        let most = self.max_power_watts.map(|most| format!(" of at most {most} W"));
        parts.extend(
            self.power_watts
                .map(|watts| format!("{watts} W{}", most.unwrap_or_default())),
        );
        parts.join(style.dot())
    }

    /// What is out of the ordinary.
    fn mode(&self) -> Option<String> {
        let mode = match self.mode {
            Mode::Automatic => None,
            Mode::Advisory => Some("Advisory: decides and reports, writes no replicas"),
            Mode::Paused => Some("Paused by spec.mode: nothing is decided"),
        };
        let paused = match self.paused {
            None => None,
            Some("all") => Some("paused by annotation: nothing is decided".to_owned()),
            Some("scale-in") => Some("scale-in paused by annotation: nothing shrinks".to_owned()),
            Some(direction) => Some(format!("{direction} paused by annotation: nothing grows")),
        };
        match (mode, paused) {
            (mode, None) => mode.map(ToOwned::to_owned),
            (None, paused) => paused,
            (Some(mode), Some(paused)) => Some(format!("{mode}; {paused}")),
        }
    }

    fn table(&self) -> Layout {
        let row = |line: &Line| {
            let pools: Vec<String> = line
                .pools
                .iter()
                .map(|pool| format!("{} {}", pool.name, pool.replicas))
                .collect();
            Row(vec![
                line.name.as_str().into(),
                Cell::toned(line.state.tone(), line.state.word()),
                format!("{}/{}", line.ready, line.replicas).into(),
                pools.join(", ").into(),
            ])
        };
        Layout {
            titles: vec!["STAGE", "STATE", "READY", "POOLS"],
            right: vec![2],
            rows: self.stages.iter().map(row).collect(),
        }
    }

    fn conditions(&self, style: Style, width: usize) -> Vec<String> {
        if self.serves == Serves::Unknown && self.conditions.is_empty() {
            return vec![style.paint(Tone::Quiet, "no condition on record")];
        }
        if self.conditions.is_empty() {
            return vec![style.paint(Tone::Quiet, "conditions are as they should be")];
        }
        let mut lines = vec![style.paint(Tone::Quiet, "CONDITIONS THAT MATTER")];
        for concern in &self.conditions {
            let head = format!("{}={}", concern.type_, concern.status);
            let rest = format!("({}, for {})", concern.reason, age(concern.for_seconds));
            lines.push(format!("{} {rest}", style.paint(Tone::Warn, &head)));
            let message = wrapped(&concern.message, width.saturating_sub(2));
            lines.extend(
                message
                    .iter()
                    .filter(|line| !line.is_empty())
                    .map(|line| format!("  {line}")),
            );
        }
        lines
    }

    fn waits(&self, style: Style, width: usize) -> Vec<String> {
        // What a condition says already is not said again.
        let said = |wait: &String| {
            self.conditions
                .iter()
                .any(|concern| concern.message.contains(wait.as_str()))
        };
        let waits: Vec<&String> = self.waits_for.iter().filter(|wait| !said(wait)).collect();
        if waits.is_empty() {
            return Vec::new();
        }
        let mut lines = vec![String::new(), style.paint(Tone::Quiet, "WAITS FOR")];
        for wait in waits {
            for (at, part) in wrapped(wait, width.saturating_sub(2)).iter().enumerate() {
                lines.push(format!("{}{part}", if at == 0 { "- " } else { "  " }));
            }
        }
        lines
    }

    fn decisions(&self, style: Style) -> Vec<String> {
        if self.decisions.is_empty() {
            return vec![style.paint(Tone::Quiet, "no decision on record")];
        }
        let row = |decision: &Decision| {
            let of = &decision.summary;
            let signal = of.signal.as_ref().map(|signal| format!(", {signal} decided"));
            let why = format!("{}{}", of.reason, signal.unwrap_or_default());
            Row(vec![
                decision.age_seconds.map_or_else(String::new, age).into(),
                format!("{} -> {}", of.cost_before, of.cost_after).into(),
                of.summary.as_str().into(),
                why.into(),
            ])
        };
        Layout {
            titles: vec!["AGE", "COST/H", "LAST DECISIONS", "WHY"],
            right: vec![0, 1],
            rows: self.decisions.iter().map(row).collect(),
        }
        .lines(style)
    }
}
