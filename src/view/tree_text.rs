//! The tree as text: one line for each node of it.

use super::table::{Cell, Layout, Row};
use super::tree::{Pipeline, Pod, Pool, Stage, Tree};
use super::{Style, Tone, age};
use crate::api::compute_pool::{CapacityType, Tier};
use crate::api::tiered_pipeline::Mode;

/// Columns that states, counts and a few words take beside the names.
const BESIDE: usize = 42;

impl Tree {
    /// For people. `wide` adds where everything is.
    pub fn text(&self, style: Style, wide: bool) -> String {
        let mut short = false;
        let mut layout = self.layout(style, wide, short);
        let room = style.width.map(|columns| columns.saturating_sub(BESIDE));
        if room.is_some_and(|room| layout.widths().first().is_some_and(|&names| names > room)) {
            short = true;
            layout = self.layout(style, wide, short);
        }
        let mut text = layout.lines(style).join("\n");
        text.push('\n');
        text
    }

    fn layout(&self, style: Style, wide: bool, short: bool) -> Layout {
        let mut titles = vec!["NAME", "STATE", "READY", "AGE"];
        titles.extend(wide.then_some("WHERE"));
        titles.push("INFO");
        let writer = Writer { style, wide, short };
        let mut layout = Layout {
            titles,
            right: vec![2],
            rows: Vec::new(),
        };
        for pipeline in &self.pipelines {
            writer.pipeline(pipeline, &mut layout.rows);
        }
        layout
    }
}

/// How lines are written.
#[derive(Clone, Copy)]
struct Writer {
    style: Style,
    wide: bool,
    /// Pods without what their place in the tree says already.
    short: bool,
}

impl Writer {
    fn row(self, name: Cell, state: Cell, ready: String, seconds: Option<i64>, place: String, info: Cell) -> Row {
        let age = seconds.map(age).unwrap_or_default();
        let mut cells = vec![name, state, ready.into(), Cell::toned(Tone::Quiet, age)];
        cells.extend(self.wide.then(|| Cell::toned(Tone::Quiet, place)));
        cells.push(info);
        Row(cells)
    }

    fn pipeline(self, pipeline: &Pipeline, rows: &mut Vec<Row>) {
        let name = Cell::toned(Tone::Quiet, format!("{}/", pipeline.namespace)).and(Tone::Strong, &*pipeline.name);
        rows.push(self.row(
            name,
            self.style.state(pipeline.state),
            format!("{}/{}", pipeline.ready, pipeline.replicas),
            pipeline.age_seconds,
            String::new(),
            Cell::plain(headline(pipeline, self.style)),
        ));
        for (at, stage) in pipeline.stages.iter().enumerate() {
            self.stage(stage, pipeline, at + 1 == pipeline.stages.len(), rows);
        }
    }

    fn stage(self, stage: &Stage, pipeline: &Pipeline, last: bool, rows: &mut Vec<Row>) {
        let mut info = Cell::default();
        if stage.bottleneck {
            info = info.and(Tone::Warn, "bottleneck");
        }
        if let Some(message) = &stage.message {
            let gap = if stage.bottleneck { self.style.dot() } else { "" };
            info = info.and(Tone::Plain, gap).and(Tone::Plain, message.as_str());
        }
        let place = format!("{} {}", stage.kind, stage.tier_hint);
        rows.push(self.row(
            Cell::toned(Tone::Quiet, self.branch(&[], last)).and(Tone::Plain, &*stage.name),
            self.style.state(stage.state),
            format!("{}/{}", stage.ready, stage.replicas),
            None,
            place,
            info,
        ));
        for (at, pool) in stage.pools.iter().enumerate() {
            let ancestors = [last];
            self.pool(pool, stage, pipeline, &ancestors, at + 1 == stage.pools.len(), rows);
        }
    }

    fn pool(
        self,
        pool: &Pool,
        stage: &Stage,
        pipeline: &Pipeline,
        ancestors: &[bool],
        last: bool,
        rows: &mut Vec<Row>,
    ) {
        let bought = match pool.capacity_type {
            Some(CapacityType::Spot) => " Spot",
            Some(CapacityType::Reserved) => " Reserved",
            _ => "",
        };
        let tier = match pool.tier {
            None => "",
            Some(Tier::Cpu) => "CPU",
            Some(Tier::Accelerator) => "Accelerator",
        };
        let class = pool.class.as_ref().map(|class| format!(" {class}")).unwrap_or_default();
        rows.push(self.row(
            Cell::toned(Tone::Quiet, self.branch(ancestors, last)).and(Tone::Plain, &*pool.name),
            self.style.state(pool.state),
            format!("{}/{}", pool.ready, pool.replicas),
            None,
            format!("{tier}{class}{bought}"),
            Cell::default(),
        ));
        for (at, pod) in pool.pods.iter().enumerate() {
            let branch = self.branch(&[ancestors, &[last]].concat(), at + 1 == pool.pods.len());
            rows.push(self.pod(
                pod,
                &branch,
                &format!("{}--{}--{}", pipeline.name, stage.name, pool.name),
            ));
        }
    }

    fn pod(self, pod: &Pod, branch: &str, deployment: &str) -> Row {
        let more = if self.style.unicode { "…" } else { "~" };
        let name = match pod.name.strip_prefix(deployment) {
            Some(rest) if self.short => format!("{more}{}", rest.trim_start_matches('-')),
            _ => pod.name.clone(),
        };
        let mut info: Vec<String> = pod.reason.iter().cloned().collect();
        match pod.restarts {
            0 => {}
            1 => info.push("1 restart".to_owned()),
            many => info.push(format!("{many} restarts")),
        }
        self.row(
            Cell::toned(Tone::Quiet, branch).and(Tone::Plain, name),
            self.style.state(pod.state),
            String::new(),
            pod.age_seconds,
            pod.node.clone().unwrap_or_default(),
            Cell::plain(info.join(", ")),
        )
    }

    /// What stands in front of a name: for each ancestor whether it was the last of its kind.
    fn branch(self, ancestors: &[bool], last: bool) -> String {
        let (through, tee, corner) = if self.style.unicode {
            ("│  ", "├─ ", "└─ ")
        } else {
            ("|  ", "|- ", "`- ")
        };
        let mut text: String = ancestors
            .iter()
            .map(|&last| if last { "   " } else { through })
            .collect();
        text += if last { corner } else { tee };
        text
    }
}

/// What is to be said of a pipeline in one line.
fn headline(pipeline: &Pipeline, style: Style) -> String {
    let mut parts = Vec::new();
    parts.extend(pipeline.cost_per_hour.as_ref().map(|cost| format!("{cost}/h")));
    parts.extend(pipeline.power_watts.map(|watts| format!("{watts} W")));
    match pipeline.mode {
        Mode::Automatic => {}
        Mode::Advisory => parts.push("Advisory: decides, writes no replicas".to_owned()),
        Mode::Paused => parts.push("spec.mode is Paused".to_owned()),
    }
    match pipeline.paused {
        None => {}
        Some("all") => parts.push("paused by annotation".to_owned()),
        Some(direction) => parts.push(format!("{direction} paused")),
    }
    if pipeline.state != super::State::Ready {
        parts.extend(pipeline.message.clone());
    }
    parts.join(style.dot())
}
