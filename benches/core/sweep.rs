//! B1: readings to demand.
//!
//! Four sides, interleaved, one thread each:
//!
//! * the sweep over columns;
//! * the stream: as many bytes read and written by the simplest loop there is, so what memory allows;
//! * one by one: the sweep's arithmetic on one reading after the other, through columns of one row, and so with what it
//!   costs to lay a reading out;
//! * HPA: the rules of `HorizontalPodAutoscaler` v2 (`tiercel::simulate::policy::hpa`, written from its documentation, which
//!   is cited there) on the same variants: ratio, missing and unready pods, tolerance, growth limit. Arithmetic only: none
//!   of its requests, no informer, no pod lists.

use std::hint::black_box;
use std::time::Instant;

use serde_json::{Value, json};
use tiercel::rebalance::solve::generate::Dice;
use tiercel::rebalance::sweep::{Columns, Demand, sweep};
use tiercel::rebalance::world::{
    Key, OnSignalLoss, PipelineIdx, PoolIdx, Reading, Resources, Stage, StageIdx, Traffic, Variant,
};
use tiercel::simulate::policy::hpa::{Pods, desired, growth_limit};

use crate::result::{median, spread};

const SIZES: [usize; 5] = [1_000, 10_000, 100_000, 1_000_000, 4_000_000];
const SEED: u64 = 1;
const ROUNDS: usize = 15;

pub(crate) fn run() -> Value {
    println!(
        "| variants | sweep ns | GB/s | stream ns | GB/s | share of stream | one by one ns | HPA's rules ns | sweep ms |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    json!({ "seed": SEED, "bytes_per_variant": Columns::BYTES, "sizes": SIZES.map(size) })
}

fn size(rows: usize) -> Value {
    let (columns, pods, cases) = fleet(rows);
    let (mut out, mut wanted) = (Demand::default(), vec![0_u32; rows]);
    let mut stream = Stream::new(rows);
    let mut one = Columns::new(1);
    let mut single = Demand::default();
    // Small sizes are repeated inside a round, so that the clock does not count.
    let repeat = (400_000 / rows).max(1);
    let (mut ours, mut bare, mut alone, mut theirs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let time = |samples: &mut Vec<f64>, rows: usize, pass: &mut dyn FnMut()| {
        let start = Instant::now();
        for _ in 0..repeat {
            pass();
        }
        samples.push(start.elapsed().as_secs_f64() * 1e9 / (rows * repeat) as f64);
    };
    for round in 0..=ROUNDS {
        if round == 1 {
            // The first round warms up.
            for samples in [&mut ours, &mut bare, &mut alone, &mut theirs] {
                samples.clear();
            }
        }
        time(&mut ours, rows, &mut || sweep(black_box(&columns), &mut out));
        time(&mut bare, rows, &mut || stream.pass());
        time(&mut alone, cases.len(), &mut || {
            for (stage, variant, reading) in black_box(&cases) {
                one.set(0, stage, variant, reading);
                sweep(&one, &mut single);
                black_box(&single);
            }
        });
        time(&mut theirs, rows, &mut || {
            for (pods, wanted) in black_box(&pods).iter().zip(&mut wanted) {
                *wanted = desired(*pods).min(growth_limit(pods.current));
            }
        });
        black_box((&out, &stream.out, &wanted));
    }
    let (sweep_ns, stream_ns) = (median(&ours), median(&bare));
    let rate = |ns: f64| Columns::BYTES as f64 / ns;
    println!(
        "| {rows} | {sweep_ns:.2} | {:.1} | {stream_ns:.2} | {:.1} | {:.0} % | {:.1} | {:.2} | {:.3} |",
        rate(sweep_ns),
        rate(stream_ns),
        100.0 * stream_ns / sweep_ns,
        median(&alone),
        median(&theirs),
        sweep_ns * rows as f64 / 1e6
    );
    json!({
        "variants": rows,
        "sweep_ns": spread(&ours),
        "stream_ns": spread(&bare),
        "one_by_one_ns": spread(&alone),
        "hpa_ns": spread(&theirs),
        "share_of_stream": stream_ns / sweep_ns,
        "hpa_to_sweep": median(&theirs) / sweep_ns,
    })
}

/// The least work on as many bytes as a sweep reads and writes per row: 22 in, 8 out.
struct Stream {
    a: Vec<u64>,
    b: Vec<u64>,
    c: Vec<u64>,
    out: Vec<u64>,
}

impl Stream {
    fn new(rows: usize) -> Self {
        let rows = rows.next_multiple_of(16);
        assert_eq!(Columns::BYTES, 30, "the stream has to move as many bytes as the sweep");
        Self {
            a: vec![1; rows],
            b: vec![2; rows],
            c: vec![3; rows / 4 * 3],
            out: vec![0; rows],
        }
    }

    fn pass(&mut self) {
        let (a, _) = self.a.as_chunks::<16>();
        let (b, _) = self.b.as_chunks::<16>();
        let (c, _) = self.c.as_chunks::<12>();
        let (out, _) = self.out.as_chunks_mut::<16>();
        for (((a, b), c), out) in black_box(a).iter().zip(b).zip(c).zip(out) {
            for at in 0..12 {
                out[at] = a[at].wrapping_add(b[at]) ^ c[at];
            }
            for at in 12..16 {
                out[at] = a[at].wrapping_add(b[at]);
            }
        }
    }
}

type Case = (Stage, Variant, Reading);

/// Columns, the same variants as HPA sees them, and some of the readings.
fn fleet(rows: usize) -> (Columns, Vec<Pods>, Vec<Case>) {
    let mut dice = Dice::new(SEED);
    let mut columns = Columns::new(rows);
    let mut pods = Vec::with_capacity(rows);
    let mut cases = Vec::new();
    for at in 0..rows {
        let (stage, variant, reading) = case(&mut dice);
        assert!(
            columns.set(at, &stage, &variant, &reading),
            "a usual reading is in range"
        );
        pods.push(Pods {
            current: reading.expected,
            sampled: reading.sampled,
            missing: reading.expected - reading.sampled,
            unready: 0,
            ratio: f64::from(reading.utilization_permille.unwrap_or(0)) / f64::from(stage.target_permille),
            fallback: 1.0,
        });
        if cases.len() < 10_000 {
            cases.push((stage, variant, reading));
        }
    }
    (columns, pods, cases)
}

/// Up to 40 replicas, one in ten silent; half with slots, half with a rate, all with a utilization.
fn case(dice: &mut Dice) -> Case {
    let expected = dice.between(1, 40);
    let silent = if dice.chance(10) { dice.between(0, expected) } else { 0 };
    let number = |value: u64| u32::try_from(value).expect("small");
    let reading = Reading {
        taken_ms: 0,
        sampled: number(expected - silent),
        expected: number(expected),
        running_millis: Some(dice.between(0, expected * 16_000)),
        waiting_millis: Some(dice.between(0, 50_000)),
        utilization_permille: Some(number(dice.between(50, 1_000))),
        rate_millis: Some(dice.between(0, expected * 50_000)),
    };
    let stage = Stage {
        key: Key(1),
        pipeline: PipelineIdx(0),
        variants: (0, 1),
        min: 0,
        max: 100,
        reliable_min: 0,
        target_permille: number(dice.between(500, 900)),
        traffic: Traffic::Pull,
        rated: dice.chance(50),
        sees_waiting: true,
        after: Vec::new(),
        tolerance_permille: 100,
        up_window_ms: 0,
        down_window_ms: 300_000,
        down_percent_per_minute: 100,
        moves_per_hour: 60,
        max_surge: 1,
        signal_loss_ms: 60_000,
        on_signal_loss: OnSignalLoss::CurrentIfHigher,
        reading_age_ms_max: 30_000,
        also: Vec::new(),
    };
    let variant = Variant {
        key: Key(2),
        stage: StageIdx(0),
        pool: PoolIdx(0),
        request: Resources::default(),
        cost_micros: 1,
        marginal_micros: 1,
        power_milliwatts: None,
        hint_permille: 1_000,
        capacity_millis: dice.between(1_000, 50_000),
        concurrency: dice.chance(50).then_some(16),
        startup_ms: 10_000,
        max: 100,
    };
    (stage, variant, reading)
}
