//! Model servers beside vLLM and llama.cpp, by their documented names and labels.
#![allow(clippy::cast_precision_loss, reason = "counters stay far below 2^53")]

use super::{EngineStats, Page, Text};

/// `SGLang`: every tensor-parallel rank repeats the numbers of all.
pub(super) fn sglang(out: &mut Text, page: &Page<'_>, ranks: u32) {
    type Value = fn(&EngineStats) -> f64;
    let Some(engine) = page.engines.first() else { return };
    let model = page.model;
    let ranked: Vec<String> = (0..ranks.max(1))
        .map(|rank| format!("engine_type=\"unified\",model_name=\"{model}\",pp_rank=\"0\",tp_rank=\"{rank}\""))
        .collect();
    let gauges: [(&str, &str, Value); 2] = [
        ("sglang:num_running_reqs", "The number of running requests.", |e| {
            f64::from(e.running)
        }),
        (
            "sglang:num_queue_reqs",
            "The number of requests in the waiting queue.",
            |e| f64::from(e.waiting),
        ),
    ];
    for (name, help, value) in gauges {
        out.family(name, "gauge", help);
        for labels in &ranked {
            out.sample(name, labels, value(engine));
        }
    }
    out.family("sglang:token_usage", "gauge", "The token usage.");
    for labels in &ranked {
        out.share("sglang:token_usage", labels, engine.cache_usage);
    }
    let labels = format!("model_name=\"{model}\"");
    let counters: [(&str, &str, Value); 3] = [
        (
            "sglang:prompt_tokens_total",
            "Number of prefill tokens processed.",
            |e| e.prompt_tokens as f64,
        ),
        (
            "sglang:generation_tokens_total",
            "Number of generation tokens processed.",
            |e| e.generation_tokens as f64,
        ),
        ("sglang:num_requests_total", "Number of requests processed.", |e| {
            e.succeeded as f64
        }),
    ];
    for (name, help, value) in counters {
        out.family(name, "counter", help);
        out.sample(name, &labels, value(engine));
    }
    let name = "sglang:e2e_request_latency_seconds";
    out.family(name, "histogram", "Histogram of End-to-end request latency in seconds");
    out.histogram(name, &labels, &engine.latency);
}

/// `trtllm-serve`, on its path for Prometheus.
pub(super) fn trtllm(out: &mut Text, page: &Page<'_>) {
    let Some(engine) = page.engines.first() else { return };
    let labels = format!("engine_type=\"trtllm\",model_name=\"{}\"", page.model);
    out.family(
        "trtllm_request_success_total",
        "counter",
        "Count of successfully processed requests.",
    );
    let of_reason = |reason: &str| {
        format!(
            "engine_type=\"trtllm\",finished_reason=\"{reason}\",model_name=\"{}\"",
            page.model
        )
    };
    out.sample(
        "trtllm_request_success_total",
        &of_reason("stop"),
        engine.succeeded as f64,
    );
    out.sample("trtllm_request_success_total", &of_reason("length"), 0.0);
    let name = "trtllm_e2e_request_latency_seconds";
    out.family(name, "histogram", "Histogram of end to end request latency in seconds.");
    out.histogram(name, &labels, &engine.latency);
    for (name, help, value) in [
        (
            "trtllm_num_requests_running",
            "Number of active requests",
            engine.running,
        ),
        (
            "trtllm_num_requests_waiting",
            "Number of queued requests",
            engine.waiting,
        ),
    ] {
        out.family(name, "gauge", help);
        out.sample(name, &labels, f64::from(value));
    }
    out.family("trtllm_kv_cache_utilization", "gauge", "Used share of the KV cache");
    out.share("trtllm_kv_cache_utilization", &labels, engine.cache_usage);
}

/// Triton; with its TensorRT-LLM backend the requests are that one's, and there is a GPU.
pub(super) fn triton(out: &mut Text, page: &Page<'_>, trtllm: bool) {
    let Some(engine) = page.engines.first() else { return };
    let model = if trtllm { "tensorrt_llm" } else { "embed" };
    let labels = format!("model=\"{model}\",version=\"1\"");
    let counters = [
        (
            "nv_inference_request_success",
            "Number of successful inference requests, all batch sizes",
            engine.succeeded as f64,
        ),
        (
            "nv_inference_request_failure",
            "Number of failed inference requests, all batch sizes",
            engine.refused as f64,
        ),
        (
            "nv_inference_request_duration_us",
            "Cumulative inference request duration in microseconds (includes cached requests)",
            (engine.latency.sum * 1e6).round(),
        ),
        (
            "nv_inference_queue_duration_us",
            "Cumulative inference queuing duration in microseconds (includes cached requests)",
            (engine.queue_time.sum * 1e6).round(),
        ),
    ];
    for (name, help, value) in counters {
        out.family(name, "counter", help);
        out.sample(name, &labels, value);
    }
    out.family(
        "nv_inference_pending_request_count",
        "gauge",
        "Instantaneous number of pending requests awaiting execution per-model.",
    );
    let pending = if trtllm { 0 } else { engine.waiting };
    out.sample("nv_inference_pending_request_count", &labels, f64::from(pending));
    if !trtllm {
        return;
    }
    let name = "nv_trt_llm_request_metrics";
    out.family(name, "gauge", "TRT LLM request metrics");
    for (kind, value) in [
        ("waiting", engine.waiting),
        ("context", 0),
        ("scheduled", engine.running),
        ("max", page.capacity.slots),
        ("active", engine.running + engine.waiting),
    ] {
        let labels = format!("model=\"{model}\",request_type=\"{kind}\",version=\"1\"");
        out.sample(name, &labels, f64::from(value));
    }
    let name = "nv_trt_llm_kv_cache_block_metrics";
    out.family(name, "gauge", "TRT LLM KV cache block metrics");
    let block = |kind: &str| format!("kv_cache_block_type=\"{kind}\",model=\"{model}\",version=\"1\"");
    out.share(name, &block("fraction"), engine.cache_usage);
    out.sample(name, &block("max"), 1_600.0);
    out.sample(name, &block("used"), (engine.cache_usage * 1_600.0).round());
    out.family("nv_gpu_utilization", "gauge", "GPU utilization rate [0.0 - 1.0)");
    out.share(
        "nv_gpu_utilization",
        "gpu_uuid=\"GPU-0a11\"",
        page.capacity.utilization(engine.running),
    );
}

/// text-generation-inference, whose recorder writes no help.
pub(super) fn tgi(out: &mut Text, page: &Page<'_>) {
    let Some(engine) = page.engines.first() else { return };
    for (name, value) in [
        ("tgi_request_count", engine.succeeded + engine.refused),
        ("tgi_request_success", engine.succeeded),
    ] {
        out.kind(name, "counter");
        out.sample(name, "method=\"Generate\"", value as f64);
    }
    for (name, value) in [
        ("tgi_queue_size", engine.waiting),
        ("tgi_batch_current_size", engine.running),
    ] {
        out.kind(name, "gauge");
        out.sample(name, "", f64::from(value));
    }
    out.kind("tgi_request_duration", "histogram");
    out.histogram("tgi_request_duration", "", &engine.latency);
}

/// Ray's agent on a node with one replica of a Serve deployment and two handles to it.
pub(super) fn ray_serve(out: &mut Text, page: &Page<'_>) {
    let Some(engine) = page.engines.first() else { return };
    let of = |more: &str| format!("application=\"agent\",deployment=\"Runtime\",{more}");
    let session = "SessionName=\"session_1\"";
    let name = "ray_serve_deployment_queued_queries";
    out.family(
        name,
        "gauge",
        "The current number of queries to this deployment waiting to be assigned to a replica.",
    );
    let half = engine.waiting / 2;
    for (handle, waiting) in [("a1", half), ("b7", engine.waiting - half)] {
        let labels = of(&format!("handle=\"{handle}\",{session}"));
        out.sample(name, &labels, f64::from(waiting));
    }
    let name = "ray_serve_replica_processing_queries";
    out.family(name, "gauge", "The current number of queries being processed.");
    let replica = "replica=\"Runtime#x1\"";
    out.sample(name, &of(&format!("{replica},{session}")), f64::from(engine.running));
    let name = "ray_serve_deployment_request_counter_total";
    out.family(
        name,
        "counter",
        "The number of queries that have been processed in this replica.",
    );
    let routed = of(&format!("{replica},route=\"/\""));
    out.sample(name, &routed, engine.succeeded as f64);
    let name = "ray_serve_deployment_processing_latency_ms";
    out.family(name, "histogram", "The latency for queries to be processed.");
    out.sample(&format!("{name}_sum"), &routed, engine.latency.sum * 1e3);
    out.sample(&format!("{name}_count"), &routed, engine.latency.count as f64);
    out.sample(
        &format!("{name}_bucket"),
        &format!("{routed},le=\"+Inf\""),
        engine.latency.count as f64,
    );
}
