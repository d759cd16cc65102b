//! Every metric of the operator, by name. Labels are closed words here; series with names of objects are in `objects`.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
        info::Info,
    },
    registry::{Registry, Unit},
};

use super::{
    exposition::{Exposition, text_from_openmetrics},
    objects::{Objects, SERIES_MAX},
    samples::{PipelineSample, PoolSample, Word},
};

/// What is said of a plan that failed its own check.
pub const PLAN_REJECTED: Word = "PlanRejected";

/// Seconds; from what the core needs to what a person notices.
const DECISION_BUCKETS: &[f64] = &[
    1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.1, 1.0,
];
/// Seconds; a signal is scraped every second, a write has a deadline of five.
const REACTION_BUCKETS: &[f64] = &[
    1e-3, 2.5e-3, 5e-3, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// Seconds; a reconcile is a dozen calls with a deadline of 30 s each.
const RECONCILE_BUCKETS: &[f64] = &[
    1e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

macro_rules! label_sets {
    ($($name:ident { $($label:ident),+ })+) => {
        $(#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)] struct $name { $($label: Word),+ })+
    };
}
label_sets! {
    Build { version }
    Controlled { controller }
    Decided { trigger, reason }
    Outcome { outcome }
    Reason { reason }
    Reconciled { controller, outcome }
    SignalError { source, why }
    Throttled { client }
    Watched { kind }
    Event { outcome }
    Direction { direction }
    Queued { queue }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    client: Word,
    verb: Word,
    code: u16,
}

#[derive(Clone, Debug)]
struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

type Histograms<L> = Family<L, Histogram, Buckets>;

/// The registry and what is in it. A handle: clones share everything. Nothing here waits or fails.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    objects: Arc<Objects>,
    reconciles: Family<Reconciled, Counter>,
    reconcile_duration: Histograms<Controlled>,
    in_flight: Family<Controlled, Gauge>,
    watch_restarts: Family<Watched, Counter>,
    requests: Family<Request, Counter>,
    throttle_wait: Family<Throttled, Counter<f64, std::sync::atomic::AtomicU64>>,
    leading: Gauge,
    decisions: Family<Decided, Counter>,
    decision_duration: Histogram,
    holds: Family<Reason, Counter>,
    plans_rejected: Counter,
    log_lost: Counter,
    /// Not a number while unknown: missing is not zero.
    plan_gap: Gauge<f64, std::sync::atomic::AtomicU64>,
    plan_solve_duration: Histogram,
    reaction: Histogram,
    scale_writes: Family<Outcome, Counter>,
    scale_write_duration: Histogram,
    scaled_replicas: Family<Direction, Counter>,
    signal_errors: Family<SignalError, Counter>,
    events: Family<Event, Counter>,
    queue_depth: Family<Queued, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(SERIES_MAX)
    }
}

impl Metrics {
    /// An empty registry. Objects together get at most `series_max` series.
    pub fn new(series_max: usize) -> Self {
        let mut registry = Registry::with_prefix("tiercel");
        let build = Info::new(Build {
            version: env!("CARGO_PKG_VERSION"),
        });
        registry.register("build", "The operator's version", build);
        let unknown = Gauge::default();
        unknown.set(f64::NAN);
        let inner = Inner {
            objects: Arc::new(Objects::new(series_max)),
            reconcile_duration: Family::new_with_constructor(Buckets(RECONCILE_BUCKETS)),
            decision_duration: Buckets(DECISION_BUCKETS).new_metric(),
            reaction: Buckets(REACTION_BUCKETS).new_metric(),
            reconciles: Family::default(),
            in_flight: Family::default(),
            watch_restarts: Family::default(),
            requests: Family::default(),
            throttle_wait: Family::default(),
            leading: Gauge::default(),
            decisions: Family::default(),
            holds: Family::default(),
            plans_rejected: Counter::default(),
            log_lost: Counter::default(),
            plan_gap: unknown,
            plan_solve_duration: Buckets(DECISION_BUCKETS).new_metric(),
            scale_writes: Family::default(),
            scale_write_duration: Buckets(REACTION_BUCKETS).new_metric(),
            scaled_replicas: Family::default(),
            signal_errors: Family::default(),
            events: Family::default(),
            queue_depth: Family::default(),
            registry: Registry::default(),
        };
        inner.register_controller(&mut registry);
        inner.register_decisions(&mut registry);
        registry.register_collector(Box::new(Arc::clone(&inner.objects)));
        Self(Arc::new(Inner { registry, ..inner }))
    }

    /// Everything, as a scraper asked for it.
    pub fn encode(&self, exposition: Exposition) -> String {
        let mut written = String::new();
        // Writing to a string fails only where a label fails to encode, and ours are strings.
        if let Err(error) = text::encode(&mut written, &self.0.registry) {
            tracing::error!(%error, "cannot encode metrics");
        }
        match exposition {
            Exposition::OpenMetrics => written,
            Exposition::Text => text_from_openmetrics(&written),
        }
    }

    /// A pass of a controller began. Pair with [`Metrics::reconciled`].
    pub fn reconcile_started(&self, controller: Word) {
        self.0.in_flight.get_or_create(&Controlled { controller }).inc();
    }

    /// A pass of a controller ended.
    pub fn reconciled(&self, controller: Word, outcome: Word, took: Duration) {
        self.0.in_flight.get_or_create(&Controlled { controller }).dec();
        self.0
            .reconciles
            .get_or_create(&Reconciled { controller, outcome })
            .inc();
        self.0
            .reconcile_duration
            .get_or_create(&Controlled { controller })
            .observe(took.as_secs_f64());
    }

    /// A watch of a kind failed and starts anew.
    pub fn watch_restarted(&self, kind: Word) {
        self.0.watch_restarts.get_or_create(&Watched { kind }).inc();
    }

    /// A request to the API server was answered with `code`; 0 for none: broken or past its deadline.
    pub fn api_request(&self, client: Word, verb: Word, code: u16) {
        self.0.requests.get_or_create(&Request { client, verb, code }).inc();
    }

    /// A write waited for its turn.
    pub fn throttled(&self, client: Word, waited: Duration) {
        self.0
            .throttle_wait
            .get_or_create(&Throttled { client })
            .inc_by(waited.as_secs_f64());
    }

    /// Leadership as of now. A process that stops leading forgets what it knew of objects: the next leader shows it.
    pub fn set_leading(&self, leading: bool) {
        if self.0.leading.set(leading.into()) == 1 && !leading {
            self.0.objects.forget_all();
        }
    }

    /// A decision was made.
    pub fn decided(&self, trigger: Word, reason: Word) {
        self.0.decisions.get_or_create(&Decided { trigger, reason }).inc();
    }

    /// One step of the core took so long, verification included.
    pub fn decision_took(&self, took: Duration) {
        self.0.decision_duration.observe(took.as_secs_f64());
    }

    /// Steps of the core are missing from the decision log.
    pub fn decision_log_lost(&self, steps: u64) {
        self.0.log_lost.inc_by(steps);
    }

    /// How far the plan in force is from the best there can be, millionths of the best; none: nobody knows.
    pub fn set_plan_gap(&self, gap_ppm: Option<u64>) {
        #[expect(clippy::cast_precision_loss, reason = "a share, for people")]
        let ratio = gap_ppm.map_or(f64::NAN, |ppm| ppm as f64 / 1e6);
        self.0.plan_gap.set(ratio);
    }

    /// The solver searched so long, beside the decisions.
    pub fn plan_solved(&self, took: Duration) {
        self.0.plan_solve_duration.observe(took.as_secs_f64());
    }

    /// From the sampling of the signal to the acknowledgement of the write.
    pub fn reacted(&self, took: Duration) {
        self.0.reaction.observe(took.as_secs_f64());
    }

    /// A write through `scale` ended.
    pub fn scale_write(&self, outcome: Word) {
        self.0.scale_writes.get_or_create(&Outcome { outcome }).inc();
    }

    /// The request of such a write took so long, its wait for a turn left out.
    pub fn scale_write_took(&self, took: Duration) {
        self.0.scale_write_duration.observe(took.as_secs_f64());
    }

    /// An acknowledged write moved replicas of a stage on a pool. `pipeline` is namespace and name.
    pub fn scaled(&self, pipeline: (&str, &str), stage: &Arc<str>, pool: &Arc<str>, (from, to): (u32, u32)) {
        let direction = if to >= from { "up" } else { "down" };
        let moved = to.abs_diff(from);
        self.0
            .scaled_replicas
            .get_or_create(&Direction { direction })
            .inc_by(moved.into());
        self.0.objects.moved(pipeline, stage, pool, moved);
    }

    /// A signal could not be read.
    pub fn signal_error(&self, source: Word, why: Word) {
        self.0.signal_errors.get_or_create(&SignalError { source, why }).inc();
    }

    /// An Event for people was published, failed, was dropped because too many waited, or held back because its object
    /// had too many.
    pub fn event(&self, outcome: Word) {
        self.0.events.get_or_create(&Event { outcome }).inc();
    }

    /// So many wait in a queue now.
    pub fn set_queue_depth(&self, queue: Word, waiting: usize) {
        let waiting = i64::try_from(waiting).unwrap_or(i64::MAX);
        self.0.queue_depth.get_or_create(&Queued { queue }).set(waiting);
    }

    /// Replaces the series of a pipeline: stages and pools that are not in the sample are gone from the next scrape.
    /// Counts what holds its stages back since the last sample; a rejected plan is a defect.
    pub fn set_pipeline(&self, namespace: &str, pipeline: &str, sample: PipelineSample) {
        for reason in self.0.objects.set_pipeline(namespace, pipeline, sample) {
            self.0.holds.get_or_create(&Reason { reason }).inc();
            if reason == PLAN_REJECTED {
                self.0.plans_rejected.inc();
            }
        }
    }

    /// Conditions of a pipeline that are true or false; what is unknown is left out.
    pub fn set_conditions(&self, namespace: &str, pipeline: &str, conditions: Vec<(Word, bool)>) {
        self.0.objects.set_conditions(namespace, pipeline, conditions);
    }

    /// The pipeline is gone, and with it its series.
    pub fn forget_pipeline(&self, namespace: &str, pipeline: &str) {
        self.0.objects.forget_pipeline(namespace, pipeline);
    }

    /// Replaces the series of a pool.
    pub fn set_pool(&self, pool: &str, sample: PoolSample) {
        self.0.objects.set_pool(pool, sample);
    }

    /// The pool is gone, and with it its series.
    pub fn forget_pool(&self, pool: &str) {
        self.0.objects.forget_pool(pool);
    }
}

impl Inner {
    /// Help gets its full stop from the registry.
    fn register_controller(&self, registry: &mut Registry) {
        let help = "Passes of a controller by how they ended";
        registry.register("reconcile_passes", help, self.reconciles.clone());
        let help = "How long a pass of a controller took";
        registry.register_with_unit(
            "reconcile_duration",
            help,
            Unit::Seconds,
            self.reconcile_duration.clone(),
        );
        registry.register("reconcile_in_flight", "Passes under way", self.in_flight.clone());
        let help = "What waits in a queue: news for the planner, unanswered writes of replica counts, Events";
        registry.register("queue_depth", help, self.queue_depth.clone());
        registry.register(
            "watch_restarts",
            "Watches that failed and started anew",
            self.watch_restarts.clone(),
        );
        let help = "Requests to the API server by verb and status code, 0 for no answer";
        registry.register("api_requests", help, self.requests.clone());
        let help = "How long writes waited for their turn under our own limits";
        registry.register_with_unit("api_throttle_wait", help, Unit::Seconds, self.throttle_wait.clone());
        registry.register("lease_leading", "1 while this process leads", self.leading.clone());
        registry.register(
            "event_publications",
            "Events for people by what became of them",
            self.events.clone(),
        );
    }

    fn register_decisions(&self, registry: &mut Registry) {
        registry.register(
            "decision_made",
            "Decisions by trigger and reason",
            self.decisions.clone(),
        );
        let help = "How long a step of the planner took, its verification included";
        registry.register_with_unit("decision_duration", help, Unit::Seconds, self.decision_duration.clone());
        registry.register(
            "decision_held",
            "Wanted changes that did not happen, by reason",
            self.holds.clone(),
        );
        let help = "Plans that failed their own check and were not written; a defect";
        registry.register("decision_rejected_plans", help, self.plans_rejected.clone());
        let help = "Steps of the planner that are missing from the decision log: the disk was slow or full";
        registry.register("decision_log_lost_steps", help, self.log_lost.clone());
        let help = "Cost of the plan in force beyond the proven bound, as a share of the bound; NaN while unknown";
        registry.register("plan_gap_ratio", help, self.plan_gap.clone());
        let help = "How long the solver searched, beside the decisions";
        registry.register_with_unit(
            "plan_solve_duration",
            help,
            Unit::Seconds,
            self.plan_solve_duration.clone(),
        );
        let help = "From the sampling of a signal to the acknowledged write";
        registry.register_with_unit("scale_reaction", help, Unit::Seconds, self.reaction.clone());
        registry.register(
            "scale_writes",
            "Writes of replica counts by how they ended",
            self.scale_writes.clone(),
        );
        let help = "How long a write of a replica count took to be answered, its wait for a turn left out";
        registry.register_with_unit(
            "scale_write_duration",
            help,
            Unit::Seconds,
            self.scale_write_duration.clone(),
        );
        registry.register(
            "scale_replicas",
            "Replicas moved by acknowledged writes",
            self.scaled_replicas.clone(),
        );
        let help = "Readings that failed, by source and cause";
        registry.register("signal_errors", help, self.signal_errors.clone());
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
