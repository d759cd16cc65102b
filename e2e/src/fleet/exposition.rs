//! The metrics page as the real servers write it: names, labels, types and buckets. Here vLLM and llama.cpp; other model
//! servers and the conventions of HTTP libraries in files of their own.

mod models;
#[cfg(test)]
mod tests;
mod web;

use std::fmt::Write as _;

use super::behaviour::Exposition;
use super::faults::{Condition, Metrics};
use super::queue::Capacity;

/// Upper bounds of the latency buckets, seconds (vLLM's request latency buckets).
pub(super) const LATENCY_BUCKETS: [f64; 21] = [
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
];

/// Upper bounds of the buckets for the time to the first token, seconds (vLLM's).
pub(super) const FIRST_TOKEN_BUCKETS: [f64; 22] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
];

/// Upper bounds of the buckets for the time between tokens, seconds (vLLM's).
pub(super) const TOKEN_BUCKETS: [f64; 18] = [
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
];

/// Upper bounds of a plain HTTP service's latency buckets, seconds.
pub(super) const HTTP_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// A cumulative histogram.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    bounds: &'static [f64],
    counts: Vec<u64>,
    sum: f64,
    count: u64,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: vec![0; bounds.len()],
            sum: 0.0,
            count: 0,
        }
    }

    pub(super) fn observe(&mut self, value: f64) {
        if let Some(count) = self
            .bounds
            .iter()
            .position(|b| value <= *b)
            .and_then(|i| self.counts.get_mut(i))
        {
            *count += 1;
        }
        self.sum += value;
        self.count += 1;
    }
}

/// What one engine of a replica has done and is doing.
#[derive(Clone, Debug)]
pub(super) struct EngineStats {
    pub(super) running: u32,
    pub(super) waiting: u32,
    /// 0 to 1.
    pub(super) cache_usage: f64,
    pub(super) prompt_tokens: u64,
    pub(super) generation_tokens: u64,
    /// Seconds of service spent on prompts, and on generating.
    pub(super) prompt_s: f64,
    pub(super) generation_s: f64,
    pub(super) succeeded: u64,
    pub(super) refused: u64,
    pub(super) busy_s: f64,
    pub(super) latency: Histogram,
    pub(super) queue_time: Histogram,
    pub(super) first_token: Histogram,
    pub(super) per_token: Histogram,
}

impl EngineStats {
    pub(super) fn new(exposition: Exposition) -> Self {
        let latency: &'static [f64] = if exposition.is_web() {
            &HTTP_BUCKETS
        } else {
            &LATENCY_BUCKETS
        };
        Self {
            running: 0,
            waiting: 0,
            cache_usage: 0.0,
            prompt_tokens: 0,
            generation_tokens: 0,
            prompt_s: 0.0,
            generation_s: 0.0,
            succeeded: 0,
            refused: 0,
            busy_s: 0.0,
            latency: Histogram::new(latency),
            queue_time: Histogram::new(&LATENCY_BUCKETS),
            first_token: Histogram::new(&FIRST_TOKEN_BUCKETS),
            per_token: Histogram::new(&TOKEN_BUCKETS),
        }
    }
}

/// The page of one replica.
pub(super) struct Page<'a> {
    pub(super) exposition: Exposition,
    pub(super) model: &'a str,
    pub(super) engines: &'a [EngineStats],
    /// When the process started, seconds since 1970.
    pub(super) started_unix_s: f64,
    pub(super) capacity: Capacity,
    /// Times the page was shown.
    pub(super) scrapes: u32,
    pub(super) condition: Condition,
}

/// Text exposition of the page.
pub(super) fn render(page: &Page<'_>) -> String {
    let mut out = Text {
        page: String::with_capacity(4_096),
        lie: 1.0,
        wrong_unit: false,
        instead: None,
    };
    out.single(
        "process_start_time_seconds",
        "gauge",
        "Start time of the process since unix epoch in seconds.",
        page.started_unix_s,
    );
    if page.condition.metrics == Some(Metrics::Missing) {
        return out.page;
    }
    out.lie = page.condition.lie;
    out.wrong_unit = page.condition.metrics == Some(Metrics::WrongUnit);
    out.instead = match page.condition.metrics {
        Some(Metrics::Nan) => Some("NaN"),
        Some(Metrics::PlusInfinity) => Some("+Inf"),
        Some(Metrics::MinusInfinity) => Some("-Inf"),
        _ => None,
    };
    match page.exposition {
        Exposition::Vllm { .. } => vllm(&mut out, page),
        Exposition::Llamacpp => llamacpp(&mut out, page),
        Exposition::Sglang { ranks } => models::sglang(&mut out, page, ranks),
        Exposition::Trtllm => models::trtllm(&mut out, page),
        Exposition::Triton => models::triton(&mut out, page, false),
        Exposition::TritonTrtllm => models::triton(&mut out, page, true),
        Exposition::Tgi => models::tgi(&mut out, page),
        Exposition::RayServe => models::ray_serve(&mut out, page),
        Exposition::Http => web::client_library(&mut out, page),
        Exposition::HttpOpenTelemetry => web::open_telemetry(&mut out, page),
        Exposition::HttpMicrometer => web::micrometer(&mut out, page),
    }
    out.page
}

#[allow(clippy::cast_precision_loss)] // counters stay far below 2^53
fn vllm(out: &mut Text, page: &Page<'_>) {
    type Value = fn(&EngineStats) -> f64;
    type Series = fn(&EngineStats) -> &Histogram;
    let labels: Vec<String> = (0..page.engines.len())
        .map(|i| format!("engine=\"{i}\",model_name=\"{}\"", page.model))
        .collect();
    let gauges: [(&str, &str, Value); 2] = [
        ("vllm:num_requests_running", "Requests in the execution batches.", |e| {
            f64::from(e.running)
        }),
        (
            "vllm:num_requests_waiting",
            "Requests that wait to be processed.",
            |e| f64::from(e.waiting),
        ),
    ];
    for (name, help, value) in gauges {
        out.family(name, "gauge", help);
        for (engine, labels) in page.engines.iter().zip(&labels) {
            out.sample(name, labels, value(engine));
        }
    }
    out.family("vllm:kv_cache_usage_perc", "gauge", "KV-cache usage, 1 is full.");
    for (engine, labels) in page.engines.iter().zip(&labels) {
        out.share("vllm:kv_cache_usage_perc", labels, engine.cache_usage);
    }
    let counters: [(&str, &str, Value); 4] = [
        ("vllm:num_preemptions", "Preemptions by the engine.", |_| 0.0),
        ("vllm:prompt_tokens", "Prefill tokens processed.", |e| {
            e.prompt_tokens as f64
        }),
        ("vllm:generation_tokens", "Generation tokens processed.", |e| {
            e.generation_tokens as f64
        }),
        ("vllm:prefix_cache_queries", "Prefix cache queries, in tokens.", |e| {
            e.prompt_tokens as f64
        }),
    ];
    for (name, help, value) in counters {
        let total = format!("{name}_total");
        out.family(&total, "counter", help);
        for (engine, labels) in page.engines.iter().zip(&labels) {
            out.sample(&total, labels, value(engine));
        }
        out.created(name, &labels, page.started_unix_s);
    }
    out.family(
        "vllm:request_success_total",
        "counter",
        "Requests that finished, by reason.",
    );
    for (engine, labels) in page.engines.iter().zip(&labels) {
        let (engine_label, model_label) = labels.split_once(',').unwrap_or((labels, ""));
        let labels = format!("{engine_label},finished_reason=\"stop\",{model_label}");
        out.sample("vllm:request_success_total", &labels, engine.succeeded as f64);
    }
    let histograms: [(&str, &str, Series); 4] = [
        ("vllm:time_to_first_token_seconds", "Time to first token.", |e| {
            &e.first_token
        }),
        ("vllm:inter_token_latency_seconds", "Time between tokens.", |e| {
            &e.per_token
        }),
        ("vllm:e2e_request_latency_seconds", "End-to-end request latency.", |e| {
            &e.latency
        }),
        ("vllm:request_queue_time_seconds", "Time spent waiting.", |e| {
            &e.queue_time
        }),
    ];
    for (name, help, series) in histograms {
        out.family(name, "histogram", help);
        for (engine, labels) in page.engines.iter().zip(&labels) {
            out.histogram(name, labels, series(engine));
        }
        out.created(name, &labels, page.started_unix_s);
    }
}

#[allow(clippy::cast_precision_loss)] // counters stay far below 2^53
fn llamacpp(out: &mut Text, page: &Page<'_>) {
    let Some(engine) = page.engines.first() else { return };
    let rate = |tokens: u64, seconds: f64| if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 };
    let counters = [
        (
            "prompt_tokens_total",
            "Number of prompt tokens processed.",
            engine.prompt_tokens as f64,
        ),
        ("prompt_seconds_total", "Prompt process time", engine.prompt_s),
        (
            "tokens_predicted_total",
            "Number of generation tokens processed.",
            engine.generation_tokens as f64,
        ),
        (
            "tokens_predicted_seconds_total",
            "Predict process time",
            engine.generation_s,
        ),
        (
            "n_decode_total",
            "Total number of llama_decode() calls",
            engine.generation_tokens as f64,
        ),
    ];
    for (name, help, value) in counters {
        out.single(&format!("llamacpp:{name}"), "counter", help, value);
    }
    let gauges = [
        (
            "prompt_tokens_seconds",
            "Average prompt throughput in tokens/s.",
            rate(engine.prompt_tokens, engine.prompt_s),
        ),
        (
            "predicted_tokens_seconds",
            "Average generation throughput in tokens/s.",
            rate(engine.generation_tokens, engine.generation_s),
        ),
        (
            "requests_processing",
            "Number of requests processing.",
            f64::from(engine.running),
        ),
        (
            "requests_deferred",
            "Number of requests deferred.",
            f64::from(engine.waiting),
        ),
        (
            "n_busy_slots_per_decode",
            "Average number of busy slots per llama_decode() call",
            f64::from(engine.running.min(page.capacity.slots)),
        ),
    ];
    for (name, help, value) in gauges {
        out.single(&format!("llamacpp:{name}"), "gauge", help, value);
    }
}

struct Text {
    page: String,
    lie: f64,
    /// Shares are written in per cent, and times in milliseconds.
    wrong_unit: bool,
    /// Stands for every value.
    instead: Option<&'static str>,
}

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.page, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// A family without help.
    fn kind(&mut self, name: &str, kind: &str) {
        let _ = writeln!(self.page, "# TYPE {name} {kind}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.family(name, kind, help);
        self.sample(name, "", value);
    }

    fn sample(&mut self, name: &str, labels: &str, value: f64) {
        let value = self
            .instead
            .map_or_else(|| (value * self.lie).to_string(), str::to_owned);
        let _ = match labels {
            "" => writeln!(self.page, "{name} {value}"),
            labels => writeln!(self.page, "{name}{{{labels}}} {value}"),
        };
    }

    #[allow(clippy::cast_precision_loss)] // counts stay far below 2^53
    fn histogram(&mut self, name: &str, labels: &str, histogram: &Histogram) {
        let mut below = 0;
        let bucket = format!("{name}_bucket");
        let comma = if labels.is_empty() { "" } else { "," };
        for (bound, count) in histogram.bounds.iter().zip(&histogram.counts) {
            below += count;
            let labels = format!("{labels}{comma}le=\"{bound:?}\"");
            self.sample(&bucket, &labels, below as f64);
        }
        let labels_inf = format!("{labels}{comma}le=\"+Inf\"");
        self.sample(&bucket, &labels_inf, histogram.count as f64);
        self.sample(&format!("{name}_count"), labels, histogram.count as f64);
        let unit = if self.wrong_unit { 1_000.0 } else { 1.0 };
        self.sample(&format!("{name}_sum"), labels, histogram.sum * unit);
    }

    /// A gauge between 0 and 1.
    fn share(&mut self, name: &str, labels: &str, value: f64) {
        let unit = if self.wrong_unit { 100.0 } else { 1.0 };
        self.sample(name, labels, value * unit);
    }

    /// The creation time that Python's client writes next to every counter and histogram.
    fn created(&mut self, name: &str, labels: &[String], started_unix_s: f64) {
        let name = format!("{name}_created");
        let _ = writeln!(self.page, "# HELP {name} {name}\n# TYPE {name} gauge");
        for labels in labels {
            let _ = writeln!(self.page, "{name}{{{labels}}} {started_unix_s}");
        }
    }
}
