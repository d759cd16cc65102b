//! Whatever comes in, an answer comes out, at a cost that grows with the input and not faster. Cost is counted in bytes
//! looked at: a clock on a busy machine proves nothing. `FUZZ_INPUTS` inputs (10,000; `make fuzz` has 10,000,000).

#![expect(clippy::cast_possible_truncation, reason = "dice, and bodies of a few bytes")]

use super::scan::VISITED;
use super::*;

/// Looks at one byte, apart from telling labels of one series apart: each pass over a line is one.
const LOOKS: u64 = 8;

/// Labels are compared with those before them.
const LOOKS_OF_LABELS: u64 = Limits::SCRAPE.labels_max as u64 / 2;

const LINES: [&str; 12] = [
    "# HELP a x",
    "# TYPE a histogram",
    "# UNIT a seconds",
    "# EOF",
    "a{engine=\"0\",model=\"m/n\"} 1 1700000000000",
    "a{engine=\"0\",model=\"m/o\"} 2.5",
    "vllm:b_bucket{le=\"+Inf\",engine=\"0\"} 2 # {t=\"1\"} 3 4",
    "vllm:b_bucket{le=\"1\",engine=\"0\"} 17 # {} 3",
    "{\"c.d\",\"e f\"=\"f\\\"g\",h=\"\\\\\"} NaN",
    "c{x=\"é漢\",} -1.5e-7",
    "c 0",
    "\tc { x = \"1\" , y = \"\" } +Inf \r",
];

/// Units that would be quadratic for a parser that looks back or starts again.
const UNITS: [&str; 20] = [
    "a",
    "{",
    "}",
    "\"",
    "\\",
    "\\\"",
    "a{x=\"\\\\\"",
    "a 1\n",
    "#",
    "# {",
    " ",
    "\n",
    "a{x=\"1\"} 1 # {",
    "\u{fffd}",
    "a{\"\\\"\"=\"",
    "x=\"\",",
    "1",
    "1e",
    "a{b=\"c\"} 1\n",
    "{\"a\"",
];

/// Numbers without rhyme; the same for the same seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn pick<'t, T: ?Sized>(&mut self, of: &[&'t T]) -> &'t T {
        of[self.below(of.len())]
    }
}

fn any_bytes(dice: &mut Dice, body: &mut Vec<u8>) {
    for _ in 0..dice.below(40) {
        body.push(dice.next() as u8);
    }
}

fn bytes_of_the_format(dice: &mut Dice, body: &mut Vec<u8>) {
    const ALPHABET: &[u8] = b"ab1:{}\"=,. #\\\n\n\te+-_\xc3\xa9";
    for _ in 0..dice.below(60) {
        body.push(ALPHABET[dice.below(ALPHABET.len())]);
    }
}

fn damaged_body(dice: &mut Dice, body: &mut Vec<u8>) {
    for _ in 0..=dice.below(5) {
        body.extend(dice.pick(&LINES).as_bytes());
        body.push(b'\n');
    }
    for _ in 0..dice.below(4) {
        let at = dice.below(body.len());
        let end = (at + dice.below(12)).min(body.len());
        match dice.below(5) {
            0 => body[at] = dice.next() as u8,
            1 => body[at] ^= 1 << dice.below(8),
            2 => drop(body.drain(at..end)),
            3 => body.splice(at..at, dice.pick(&UNITS).bytes()).for_each(drop),
            _ => {
                let again = body[at..end].to_vec();
                body.splice(at..at, again).for_each(drop);
            }
        }
        if body.is_empty() {
            return;
        }
    }
}

fn one_thing_over_and_over(dice: &mut Dice, body: &mut Vec<u8>) {
    if dice.below(2) == 0 {
        body.extend(b"a{x=\"");
    }
    for _ in 0..=dice.below(2) {
        let unit = dice.pick(&UNITS);
        for _ in 0..dice.below(60) {
            body.extend(unit.as_bytes());
        }
    }
}

/// Parses, and gives the bytes looked at.
fn counted<'a>(body: &'a [u8], limits: &Limits) -> (Result<Exposition<'a>, Error>, u64) {
    VISITED.with(|visited| visited.set(0));
    let parsed = Exposition::parse(body, limits);
    (parsed, VISITED.with(std::cell::Cell::get))
}

fn as_alone(line: &[u8]) -> Result<String, Problem> {
    // The line above keeps a body whose only line is bad from being refused as a whole.
    let body = [b"# TYPE a gauge\n", line].concat();
    let parsed = Exposition::parse(&body, &Limits::SCRAPE).unwrap();
    match (parsed.samples(), parsed.errors()) {
        ([sample], []) => Ok(described(sample)),
        ([], [error]) => Err(error.problem),
        other => panic!("{other:?}"),
    }
}

fn described(sample: &Sample<'_>) -> String {
    let labels: Vec<_> = sample.labels().collect();
    format!("{:?} {labels:?} {:?} {:?}", sample.name, sample.value, sample.timestamp)
}

#[test]
fn any_input_is_read_in_bounded_work_and_each_line_as_if_it_stood_alone() {
    let inputs: u64 = std::env::var("FUZZ_INPUTS").map_or(10_000, |text| text.parse().unwrap());
    let (mut samples, mut bad) = (0, 0);
    for seed in 0..inputs {
        let dice = &mut Dice(seed);
        let mut body = Vec::new();
        let make = [
            damaged_body,
            any_bytes,
            damaged_body,
            bytes_of_the_format,
            damaged_body,
            one_thing_over_and_over,
        ];
        make[dice.below(make.len())](dice, &mut body);
        let (parsed, looks) = counted(&body, &Limits::SCRAPE);
        let allowed = (LOOKS + LOOKS_OF_LABELS) * body.len() as u64 + 16;
        let shown = || format!("seed {seed}: {:?}", String::from_utf8_lossy(&body));
        assert!(looks <= allowed, "{looks} looks at {} bytes, {}", body.len(), shown());
        let parsed = match parsed {
            Ok(parsed) => parsed,
            Err(Error::NotExposition) => continue,
            Err(error) => panic!("{error}: {}", shown()),
        };
        let (mut of_samples, mut of_errors) = (parsed.samples().iter(), parsed.errors().iter());
        for (number, line) in (1..).zip(body.split(|byte| *byte == b'\n')) {
            let trimmed = line.trim_ascii();
            if trimmed.is_empty() || trimmed[0] == b'#' {
                continue;
            }
            match as_alone(line) {
                Ok(alone) => {
                    let sample = of_samples.next().unwrap_or_else(|| panic!("{}", shown()));
                    assert_eq!((sample.line, described(sample)), (number, alone), "{}", shown());
                    samples += 1;
                }
                Err(problem) => {
                    let error = of_errors.next().unwrap_or_else(|| panic!("{}", shown()));
                    assert_eq!((error.line, error.problem), (number, problem), "{}", shown());
                    assert!((1..=line.len() + 1).contains(&(error.column as usize)), "{}", shown());
                    bad += 1;
                }
            }
        }
        assert!(of_samples.next().is_none() && of_errors.next().is_none(), "{}", shown());
    }
    assert!(
        samples > inputs / 10 && bad > inputs / 10,
        "{samples} samples, {bad} bad lines: too one-sided"
    );
}

#[test]
fn work_grows_with_the_body_and_not_faster() {
    let limits = Limits {
        lines_max: usize::MAX,
        ..Limits::SCRAPE
    };
    for unit in UNITS {
        for start in ["", "a{x=\"", "a 1 # {"] {
            let work = |bytes: usize| {
                let body = start.to_owned() + &unit.repeat(bytes / unit.len());
                counted(body.as_bytes(), &limits).1
            };
            let (half, whole) = (work(64 * 1024), work(128 * 1024));
            assert!(whole <= 2 * half + 64, "{start}{unit}: {half} looks, then {whole}");
            let full = work(limits.bytes_max - start.len());
            let allowed = LOOKS * limits.bytes_max as u64;
            assert!(full <= allowed, "{start}{unit}: {full} looks at 2 MiB");
        }
    }
}

#[test]
fn telling_many_labels_apart_costs_half_a_look_each_per_byte_at_most() {
    for digits in [2, 30] {
        let labels: Vec<_> = (0..Limits::SCRAPE.labels_max)
            .map(|at| format!("x{at:0digits$}=\"\""))
            .collect();
        // Two kinds of line in turn, so that none is like the one before it.
        let lines = format!("a{{{0}}} 1\nb{{{0}}} 1\n", labels.join(","));
        let body = lines.repeat(200_000 / lines.len());
        let (parsed, looks) = counted(body.as_bytes(), &Limits::SCRAPE);
        assert_eq!(parsed.unwrap().errors(), []);
        let allowed = (LOOKS + LOOKS_OF_LABELS) * body.len() as u64;
        assert!(looks <= allowed, "{looks} looks at {} bytes", body.len());
    }
}

#[test]
fn no_sample_allocates() {
    let body = |lines: usize| {
        (0..lines).fold("# TYPE a histogram\n".to_owned(), |body, at| {
            body + &format!(
                "vllm:request_queue_time_seconds_bucket{{engine=\"{}\",model_name=\"a\\\"b\",le=\"{}\"}} {at} # {{t=\"{at}\"}} 1\n",
                at / 20,
                at % 20
            )
        })
    };
    let allocations = |body: &str| {
        let mut samples = 0;
        let cost = allocation_counter::measure(|| {
            let parsed = Exposition::parse(body.as_bytes(), &Limits::SCRAPE).unwrap();
            samples = parsed
                .samples()
                .iter()
                .filter(|sample| sample.labels().count() == 3)
                .count();
        });
        (samples, cost.count_total)
    };
    let (few, many) = (allocations(&body(20)), allocations(&body(15_000)));
    assert_eq!((few.0, many.0), (20, 15_000));
    assert!(
        few.1 <= 5 && many.1 <= 5,
        "allocations of 20 and of 15,000 samples: {few:?}, {many:?}"
    );
}
