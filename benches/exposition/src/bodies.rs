//! Bodies as servers write them, made here after the documented formats. Numbers vary in length as they do in life.

use std::fmt::Write;

/// One body.
pub(crate) struct Body {
    /// Word for tables.
    pub(crate) name: &'static str,
    /// What it stands for.
    pub(crate) about: &'static str,
    /// The text.
    pub(crate) text: String,
    /// Sample lines in it.
    pub(crate) samples: usize,
}

/// All bodies.
pub(crate) fn all() -> Vec<Body> {
    let body = |name, about, text: String| {
        let samples = text.lines().filter(|line| !line.starts_with('#')).count();
        Body {
            name,
            about,
            text,
            samples,
        }
    };
    vec![
        body("vllm", "vLLM, 2 engines, 14 histograms", vllm("vllm:")),
        body("vllm_plain", "the same with `_` for `:` in names", vllm("vllm_")),
        body("histograms", "one service, 320 routes, one histogram", histograms()),
        body("triton", "Triton, 150 models, counters and gauges", triton()),
    ]
}

/// Numbers without rhyme, the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below.max(1)
    }
}

fn head(text: &mut String, name: &str, help: &str, kind: &str) {
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

fn histogram(text: &mut String, numbers: &mut Numbers, name: &str, labels: &str, bounds: &[&str], decimal: &str) {
    let mut count = 0;
    for bound in bounds {
        count += numbers.next(5_000);
        let _ = writeln!(text, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}{decimal}");
    }
    let _ = writeln!(
        text,
        "{name}_sum{{{labels}}} {}.{:06}\n{name}_count{{{labels}}} {count}{decimal}",
        numbers.next(9_000_000),
        numbers.next(1_000_000)
    );
}

const SECONDS: [&str; 22] = [
    "0.001", "0.005", "0.01", "0.02", "0.04", "0.06", "0.08", "0.1", "0.25", "0.5", "0.75", "1.0", "2.5", "5.0", "7.5",
    "10.0", "20.0", "40.0", "80.0", "160.0", "640.0", "+Inf",
];

const ROUTE_SECONDS: [&str; 14] = [
    "0.005", "0.01", "0.025", "0.05", "0.075", "0.1", "0.25", "0.5", "0.75", "1", "2.5", "5", "7.5", "+Inf",
];

fn vllm(prefix: &str) -> String {
    let mut text = String::new();
    let mut numbers = Numbers(1);
    let model = "model_name=\"meta-llama/Llama-3.1-8B-Instruct\"";
    for (name, help) in [
        ("num_requests_running", "Number of requests in model execution batches."),
        ("num_requests_waiting", "Number of requests waiting to be processed."),
    ] {
        head(&mut text, &format!("{prefix}{name}"), help, "gauge");
        for engine in 0..2 {
            let _ = writeln!(
                text,
                "{prefix}{name}{{engine=\"{engine}\",{model}}} {}.0",
                numbers.next(64)
            );
        }
    }
    head(
        &mut text,
        &format!("{prefix}kv_cache_usage_perc"),
        "Fraction of used KV-cache blocks.",
        "gauge",
    );
    for engine in 0..2 {
        let _ = writeln!(
            text,
            "{prefix}kv_cache_usage_perc{{engine=\"{engine}\",{model}}} 0.{:016}",
            numbers.next(10_000_000_000_000_000)
        );
    }
    for name in [
        "prompt_tokens",
        "generation_tokens",
        "num_preemptions",
        "prefix_cache_queries",
        "prefix_cache_hits",
    ] {
        head(&mut text, &format!("{prefix}{name}_total"), "Number so far.", "counter");
        for engine in 0..2 {
            let (whole, part) = (numbers.next(9) + 1, numbers.next(1_000_000));
            let _ = writeln!(
                text,
                "{prefix}{name}_total{{engine=\"{engine}\",{model}}} {whole}.{part:06}e+07"
            );
        }
    }
    for name in [
        "time_to_first_token_seconds",
        "inter_token_latency_seconds",
        "request_time_per_output_token_seconds",
        "e2e_request_latency_seconds",
        "request_queue_time_seconds",
        "request_inference_time_seconds",
        "request_prefill_time_seconds",
        "request_decode_time_seconds",
        "request_prompt_tokens",
        "request_generation_tokens",
        "iteration_tokens_total",
        "request_max_num_generation_tokens",
        "request_params_n",
        "request_params_max_tokens",
    ] {
        let name = format!("{prefix}{name}");
        head(&mut text, &name, "Histogram of what its name says.", "histogram");
        for engine in 0..2 {
            let labels = format!("engine=\"{engine}\",{model}");
            histogram(&mut text, &mut numbers, &name, &labels, &SECONDS, ".0");
        }
    }
    text
}

fn histograms() -> String {
    let mut text = String::new();
    let mut numbers = Numbers(2);
    let name = "http_server_request_duration_seconds";
    head(&mut text, name, "Duration of HTTP server requests.", "histogram");
    for route in 0..320 {
        for (method, code) in [("GET", 200), ("POST", 503)] {
            let labels = format!(
                "http_request_method=\"{method}\",http_response_status_code=\"{code}\",http_route=\"/v1/models/{route}/items\",url_scheme=\"http\""
            );
            histogram(&mut text, &mut numbers, name, &labels, &ROUTE_SECONDS, "");
        }
    }
    text
}

fn triton() -> String {
    let mut text = String::new();
    let mut numbers = Numbers(3);
    for (name, help, kind) in [
        (
            "nv_inference_request_success",
            "Number of successful inference requests, all batch sizes",
            "counter",
        ),
        (
            "nv_inference_request_failure",
            "Number of failed inference requests, all batch sizes",
            "counter",
        ),
        (
            "nv_inference_count",
            "Number of inferences performed (does not include cached requests)",
            "counter",
        ),
        (
            "nv_inference_exec_count",
            "Number of model executions performed",
            "counter",
        ),
        (
            "nv_inference_request_duration_us",
            "Cumulative inference request duration in microseconds",
            "counter",
        ),
        (
            "nv_inference_queue_duration_us",
            "Cumulative inference queuing duration in microseconds",
            "counter",
        ),
        (
            "nv_inference_compute_input_duration_us",
            "Cumulative compute input duration in microseconds",
            "counter",
        ),
        (
            "nv_inference_compute_infer_duration_us",
            "Cumulative compute inference duration in microseconds",
            "counter",
        ),
        (
            "nv_inference_pending_request_count",
            "Instantaneous number of pending requests",
            "gauge",
        ),
    ] {
        head(&mut text, name, help, kind);
        for model in 0..150 {
            let value = numbers.next(10_u64.pow(u32::try_from(1 + model % 10).unwrap_or(1)));
            let _ = writeln!(text, "{name}{{model=\"ensemble_stage_{model}\",version=\"1\"}} {value}");
        }
    }
    text
}
