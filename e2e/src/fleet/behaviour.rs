//! How the replicas of a stage behave on a pool: what they expose, how fast they are, what a request costs them.

use std::collections::HashMap;

use super::pod::PodSpec;
use super::queue::Capacity;

/// Which server a replica plays, that is, which metrics its `/metrics` has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// vLLM with so many engines, each with its own queue and its own series. At least 1.
    Vllm {
        /// Data-parallel engines in the pod.
        engines: u32,
    },
    /// llama.cpp's `llama-server`.
    Llamacpp,
    /// `SGLang`, whose tensor-parallel ranks each write the same numbers.
    Sglang {
        /// Ranks. At least 1.
        ranks: u32,
    },
    /// TensorRT-LLM's `trtllm-serve`: JSON on `/metrics`, Prometheus on a path of its own.
    Trtllm,
    /// Triton with a backend that has no metrics of its own.
    Triton,
    /// Triton with its TensorRT-LLM backend on a GPU.
    TritonTrtllm,
    /// text-generation-inference.
    Tgi,
    /// Ray Serve.
    RayServe,
    /// A plain HTTP service with a client library's names: request counter, latency histogram, requests in flight, CPU
    /// seconds.
    Http,
    /// The same by OpenTelemetry's conventions.
    HttpOpenTelemetry,
    /// The same with Micrometer.
    HttpMicrometer,
}

impl Exposition {
    /// Whether requests have no tokens.
    pub(super) fn is_web(self) -> bool {
        matches!(self, Self::Http | Self::HttpOpenTelemetry | Self::HttpMicrometer)
    }

    /// Where the page is.
    pub fn path(self) -> &'static str {
        match self {
            Self::Trtllm => "/prometheus/metrics",
            _ => "/metrics",
        }
    }
}

/// What a request costs, in units of the reference request (1.0 is what [`Capacity::requests_per_s`] counts).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Units per request, whatever its size.
    pub fixed: f64,
    /// Units per input token.
    pub per_input_token: f64,
    /// Units per output token.
    pub per_output_token: f64,
}

impl Work {
    /// Every request costs the same.
    pub const CONSTANT: Self = Self {
        fixed: 1.0,
        per_input_token: 0.0,
        per_output_token: 0.0,
    };

    /// A model server's work: a request of `input` and `output` tokens is one unit, `prefill_share` (0 to 1) of it for the
    /// prompt, the rest for the answer.
    pub fn tokens(input: u32, output: u32, prefill_share: f64) -> Self {
        let share = prefill_share.clamp(0.0, 1.0);
        Self {
            fixed: 0.0,
            per_input_token: share / f64::from(input.max(1)),
            per_output_token: (1.0 - share) / f64::from(output.max(1)),
        }
    }

    /// Units until the first token: the request's fixed part and its prompt.
    pub fn prefill(&self, input: u32) -> f64 {
        self.fixed + f64::from(input) * self.per_input_token
    }

    /// Tokens of the prompt and of the answer that are done once `progress` (0 to 1) of a request's work is: the prompt
    /// comes first.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a part of a u32
    pub fn tokens_at(&self, progress: f64, input: u32, output: u32) -> (u64, u64) {
        let (prefill, all) = (self.prefill(input), self.of(input, output));
        let done = progress.clamp(0.0, 1.0) * all;
        let part = |done: f64, of: f64, tokens: u32| {
            let share = if of > 0.0 { (done / of).clamp(0.0, 1.0) } else { 1.0 };
            (share * f64::from(tokens)) as u64
        };
        (
            part(done, prefill, input),
            part(done - prefill, all - prefill, if done > prefill { output } else { 0 }),
        )
    }

    /// Units of a whole request.
    pub fn of(&self, input: u32, output: u32) -> f64 {
        self.prefill(input) + f64::from(output) * self.per_output_token
    }
}

/// How a replica behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Behaviour {
    /// Which server it plays.
    pub exposition: Exposition,
    /// How much it can do.
    pub capacity: Capacity,
    /// What a request costs.
    pub work: Work,
    /// Tokens that fit its key-value cache, over all engines; only vLLM's gauge shows it.
    pub kv_tokens: u64,
    /// The `model_name` label of vLLM's series.
    pub model: String,
    /// CPU used while idle, per cent of the pod's request.
    pub idle_cpu_percent: f64,
    /// CPU used at full throughput, per cent of the pod's request.
    pub full_cpu_percent: f64,
}

impl Behaviour {
    /// A vLLM server: batching makes a full batch four times slower per request than a request alone. The reference
    /// request is the mean of the Azure 2023 conversation trace (1,155 tokens in, 211 out).
    pub fn vllm(requests_per_s: f64, slots: u32) -> Self {
        Self {
            exposition: Exposition::Vllm { engines: 1 },
            capacity: Capacity {
                slots,
                requests_per_s,
                slowdown: f64::from(slots).min(4.0),
                queue_limit: 10_000,
            },
            work: Work::tokens(1_155, 211, 0.15),
            kv_tokens: u64::from(slots) * 2_000,
            model: "default".to_owned(),
            idle_cpu_percent: 2.0,
            full_cpu_percent: 40.0,
        }
    }

    /// A llama.cpp server on CPUs: slots share the cores, so batching helps little.
    pub fn llamacpp(requests_per_s: f64, slots: u32) -> Self {
        Self {
            exposition: Exposition::Llamacpp,
            capacity: Capacity {
                slots,
                requests_per_s,
                slowdown: (f64::from(slots) * 0.75).max(1.0),
                queue_limit: 10_000,
            },
            full_cpu_percent: 98.0,
            ..Self::vllm(requests_per_s, slots)
        }
    }

    /// A plain HTTP service with independent workers and requests of one size.
    pub fn http(requests_per_s: f64, slots: u32) -> Self {
        Self {
            exposition: Exposition::Http,
            capacity: Capacity {
                slots,
                requests_per_s,
                slowdown: 1.0,
                queue_limit: 10_000,
            },
            work: Work::CONSTANT,
            kv_tokens: 0,
            model: String::new(),
            idle_cpu_percent: 2.0,
            full_cpu_percent: 95.0,
        }
    }

    /// The same behaviour behind the metrics of another server.
    #[must_use]
    pub fn showing(self, exposition: Exposition) -> Self {
        Self { exposition, ..self }
    }

    /// The same behaviour where one second on the clock stands for `time_scale` seconds of the model.
    #[must_use]
    pub fn compressed(mut self, time_scale: f64) -> Self {
        self.capacity.requests_per_s *= time_scale;
        self
    }

    /// Engines, each with its share of slots and throughput.
    pub(super) fn engines(&self) -> u32 {
        match self.exposition {
            Exposition::Vllm { engines } => engines.clamp(1, self.capacity.slots.max(1)),
            _ => 1,
        }
    }
}

/// Behaviour by stage and hardware; the closest entry wins.
#[derive(Clone, Debug)]
pub struct Behaviours {
    table: HashMap<(Option<String>, Option<String>), Behaviour>,
    classes: HashMap<String, String>,
    default: Behaviour,
}

impl Default for Behaviours {
    /// Every replica is a plain HTTP service of 10 requests/s and 4 workers.
    fn default() -> Self {
        Self::new(Behaviour::http(10.0, 4))
    }
}

impl Behaviours {
    /// A table in which everything behaves like `default`.
    pub fn new(default: Behaviour) -> Self {
        Self {
            table: HashMap::new(),
            classes: HashMap::new(),
            default,
        }
    }

    /// Says which hardware class a pool is, so that entries by class apply to it.
    #[must_use]
    pub fn class(mut self, pool: &str, class: &str) -> Self {
        self.classes.insert(pool.to_owned(), class.to_owned());
        self
    }

    /// Replicas of `stage` on `hardware` (a pool's name or a hardware class).
    #[must_use]
    pub fn on(mut self, stage: &str, hardware: &str, behaviour: Behaviour) -> Self {
        self.table
            .insert((Some(stage.to_owned()), Some(hardware.to_owned())), behaviour);
        self
    }

    /// Replicas of `stage` wherever no closer entry says otherwise.
    #[must_use]
    pub fn stage(mut self, stage: &str, behaviour: Behaviour) -> Self {
        self.table.insert((Some(stage.to_owned()), None), behaviour);
        self
    }

    /// Replicas on `hardware` (a pool's name or a hardware class) whose stage has no entry.
    #[must_use]
    pub fn hardware(mut self, hardware: &str, behaviour: Behaviour) -> Self {
        self.table.insert((None, Some(hardware.to_owned())), behaviour);
        self
    }

    /// What `pod` behaves like: stage and pool, stage and class, stage, pool, class, default.
    pub fn of(&self, pod: &PodSpec) -> &Behaviour {
        let stage = Some(&pod.stage);
        let (pool, class) = (Some(&pod.pool), self.classes.get(&pod.pool));
        [
            (stage, pool),
            (stage, class),
            (stage, None),
            (None, pool),
            (None, class),
        ]
        .into_iter()
        .find_map(|(stage, hardware)| self.table.get(&(stage.cloned(), hardware.cloned())))
        .unwrap_or(&self.default)
    }
}
