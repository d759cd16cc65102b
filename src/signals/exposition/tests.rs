use super::*;
use proptest::prelude::*;

fn parse(body: &str) -> Exposition<'_> {
    Exposition::parse(body.as_bytes(), &Limits::SCRAPE).unwrap_or_else(|error| panic!("{body:?}: {error}"))
}

/// One sample per line: `name{label=value,…} value @milliseconds`.
fn shown(body: &str) -> String {
    let parsed = parse(body);
    let mut lines = Vec::new();
    for sample in parsed.samples() {
        let labels: Vec<_> = sample
            .labels()
            .map(|label| format!("{}={}", label.name.resolved(), label.value.resolved()))
            .collect();
        let value = match sample.value {
            Value::Number(number) => number.get().to_string(),
            Value::NotFinite => "not finite".to_owned(),
        };
        let time = parsed
            .timestamp_ms(sample)
            .map(|time| format!(" @{time}"))
            .unwrap_or_default();
        lines.push(format!(
            "{}{{{}}} {value}{time}",
            sample.name.resolved(),
            labels.join(",")
        ));
    }
    lines.join("\n")
}

#[test]
fn every_legal_form_is_read() {
    for (body, expected) in [
        ("a 1", "a{} 1"),
        ("a 1\n", "a{} 1"),
        ("a 1\r\nb 2\r\n", "a{} 1\nb{} 2"),
        ("a\t1", "a{} 1"),
        ("  a   1  ", "a{} 1"),
        ("a{} 1", "a{} 1"),
        ("a{}1", "a{} 1"),
        ("a { x = \"1\" } 1", "a{x=1} 1"),
        ("a{x=\"1\",} 1", "a{x=1} 1"),
        ("a{x=\"1\" , y=\"2\"} 1", "a{x=1,y=2} 1"),
        (
            "vllm:num_requests_running{engine=\"0\"} 3",
            "vllm:num_requests_running{engine=0} 3",
        ),
        ("vllm:x_seconds_bucket{le=\"0.1\"} 1", "vllm:x_seconds_bucket{le=0.1} 1"),
        (":a 1", ":a{} 1"),
        ("a{path=\"/v1/{id}\"} 1", "a{path=/v1/{id}} 1"),
        ("a{x=\"1,2\",y=\"a=b\"} 1", "a{x=1,2,y=a=b} 1"),
        ("a{x=\"#\"} 1", "a{x=#} 1"),
        (r#"a{x="q\"r"} 1"#, "a{x=q\"r} 1"),
        (r#"a{x="q\\"} 1"#, "a{x=q\\} 1"),
        (r#"a{x="q\nr"} 1"#, "a{x=q\nr} 1"),
        (r#"a{x="C:\dir"} 1"#, "a{x=C:\\dir} 1"),
        (r#"a{x="\é"} 1"#, "a{x=\\é} 1"),
        ("a{x=\"\"} 1", "a{x=} 1"),
        ("a{x=\"é漢🦀\"} 1", "a{x=é漢🦀} 1"),
        (
            "{\"http.requests\",\"service.name\"=\"x\"} 1",
            "http.requests{service.name=x} 1",
        ),
        ("{\"http.requests\"} 1", "http.requests{} 1"),
        ("{x=\"1\",\"y z\"=\"2\"} 1\na 1", "a{} 1"),
        ("a{x=\"1\"} 1\na{y=\"2\"} 2", "a{x=1} 1\na{y=2} 2"),
        ("a 1\nb 2\na{x=\"1\"} 3", "a{} 1\nb{} 2\na{x=1} 3"),
        ("# TYPE a gauge\n# TYPE b counter\na 1\n", "a{} 1"),
        ("# TYPE a unknown\na 1", "a{} 1"),
        ("# UNIT a seconds\na_created 1.7e9\n# EOF\n", "a_created{} 1700000000"),
        ("# just words\n#\n#EOF\n\na 1", "a{} 1"),
        (
            "a 1e3\nb -2.5\nc .5\nd 5.\ne +7",
            "a{} 1000\nb{} -2.5\nc{} 0.5\nd{} 5\ne{} 7",
        ),
        // Whatever has too many digits for the short way takes the long one.
        (
            "a 999999999999999\nb 9007199254740993\nc 0.1\nd 123456.789012345\ne 00.50\nf 0.30000000000000004",
            "a{} 999999999999999\nb{} 9007199254740992\nc{} 0.1\nd{} 123456.789012345\ne{} 0.5\nf{} 0.30000000000000004",
        ),
        (
            "a NaN\nb nan\nc +Inf\nd inf\ne -Inf\nf -nan\ng 1e999",
            &"abcdefg"
                .chars()
                .map(|c| format!("{c}{{}} not finite"))
                .collect::<Vec<_>>()
                .join("\n"),
        ),
        ("a 1 1700000000123", "a{} 1 @1700000000123"),
        ("a 1 -5", "a{} 1 @-5"),
        ("a 1 1700000000.5\n# EOF", "a{} 1 @1700000000500"),
        ("a 1 1700000000\n# EOF\n", "a{} 1 @1700000000000"),
        ("# EOF\na 1 1700000000123", "a{} 1 @1700000000123"),
        (
            "a_bucket{le=\"1\"} 4 # {trace=\"x\"} 0.7 1.5\n# EOF",
            "a_bucket{le=1} 4",
        ),
        ("a_total 4 12 # {} 0.7\n# EOF", "a_total{} 4 @12000"),
        (
            "a_bucket{le=\"1\"} 4 1.5 # {trace=\"}\",span=\"#\"} 0.7 1.5\na_bucket{le=\"2\"} 5\n# EOF",
            "a_bucket{le=1} 4 @1500\na_bucket{le=2} 5",
        ),
        // What a line shares with the one before it is not read twice.
        (
            "a{x=\"1\",y=\"2\"} 1\na{x=\"1\",y=\"3\"} 2\na{x=\"1\",z=\"3\"} 3\na{x=\"1\"} 4\na 5\na{x=\"1\",} 6\nab{x=\"1\"} 7",
            "a{x=1,y=2} 1\na{x=1,y=3} 2\na{x=1,z=3} 3\na{x=1} 4\na{} 5\na{x=1} 6\nab{x=1} 7",
        ),
        (
            "{\"a b\",x=\"1\"} 1\n{\"a b\",x=\"2\"} 2\n{\"a c\",x=\"2\"} 3",
            "a b{x=1} 1\na b{x=2} 2\na c{x=2} 3",
        ),
    ] {
        assert_eq!(shown(body), expected, "{body:?}");
    }
}

#[test]
fn a_bad_line_is_reported_with_its_place_and_costs_only_itself() {
    for (line, column, problem) in [
        ("1a 1", 1, Problem::Name),
        ("a", 2, Problem::Name),
        ("a-b 1", 2, Problem::Name),
        ("é 1", 1, Problem::Name),
        ("{} 1", 4, Problem::Name),
        ("{x=\"1\"} 1", 9, Problem::Name),
        ("a ", 2, Problem::Name),
        ("a{", 3, Problem::LabelName),
        ("a{,} 1", 3, Problem::LabelName),
        ("a{x:y=\"1\"} 1", 4, Problem::Equals),
        ("a{\"x\"} 1", 6, Problem::Equals),
        ("a{x} 1", 4, Problem::Equals),
        ("{x=\"1\",\"y\"} 1", 11, Problem::Equals),
        ("a{x=1} 1", 5, Problem::OpeningQuote),
        ("a{x=\"1} 1", 10, Problem::ClosingQuote),
        (r#"a{x="1\"#, 8, Problem::ClosingQuote),
        ("a{x=\"1\"", 8, Problem::ClosingBrace),
        ("a{x=\"1\"y=\"2\"} 1", 8, Problem::ClosingBrace),
        ("a{x=\"1\",x=\"2\"} 1", 9, Problem::LabelTwice),
        (r#"a{"x\\"="1","x\\"="2"} 1"#, 13, Problem::LabelTwice),
        ("a{x=\"1\"}", 9, Problem::Value),
        ("a one", 3, Problem::Value),
        ("a 0x1", 3, Problem::Value),
        ("a 1_000", 3, Problem::Value),
        ("   a one", 6, Problem::Value),
        ("a 1 soon", 5, Problem::Timestamp),
        ("a 1 NaN", 5, Problem::Timestamp),
        ("a 1 2 3", 7, Problem::Trailing),
        ("a 1 # x", 7, Problem::Exemplar),
        ("a 1 # {x=\"1\"", 13, Problem::ClosingBrace),
        ("a 1 # {x=\"1\"}", 14, Problem::Exemplar),
        ("a 1 # {x=\"1\"} y", 15, Problem::Exemplar),
        ("a 1 # {\"x\"} 1", 11, Problem::Equals),
        ("a 1 # {x=\"1\",x=\"2\"} 1", 14, Problem::LabelTwice),
        ("a 1 # {} 1 y", 12, Problem::Timestamp),
        ("a 1 # {} 1 2 3", 14, Problem::Trailing),
        ("<html><body>", 1, Problem::Name),
    ] {
        let body = format!("good 1\n{line}\ngood 2\n");
        let parsed = parse(&body);
        assert_eq!(parsed.samples().len(), 2, "{line:?}");
        let [error] = parsed.errors() else {
            panic!("{line:?}: {:?}", parsed.errors())
        };
        assert_eq!(
            (error.line, error.column, error.problem),
            (2, column, problem),
            "{line:?}"
        );
    }
}

#[test]
fn bytes_that_are_not_utf8_damage_their_line_only() {
    let body = b"good 1\nbad{x=\"\xff\"} 1\ngood 2\n";
    let parsed = Exposition::parse(body, &Limits::SCRAPE).unwrap();
    assert_eq!(parsed.samples().len(), 2);
    assert_eq!(parsed.errors()[0].to_string(), "line 2, column 8: not UTF-8");
    assert!(parsed.errors()[0].damages("bad"));
}

#[test]
fn a_bad_line_damages_its_own_family_and_no_other() {
    let parsed = parse("good 1\nqueue{engine=\"0\"} much\nqueue_len");
    let damages = |name| parsed.errors().iter().any(|error| error.damages(name));
    assert!(damages("queue"));
    assert!(damages("queue_length"), "the name itself may have been cut off");
    assert!(!damages("queue_l_other") && !damages("good") && !damages("que"));
}

#[test]
fn a_body_without_sample_or_comment_of_the_format_is_refused() {
    for body in [
        "",
        "\n\n",
        "<!DOCTYPE html>\n<p>502 Bad Gateway</p>",
        "{\"requests\": 1}",
        "# hello",
        "null",
        "\u{feff}",
    ] {
        let refused = Exposition::parse(body.as_bytes(), &Limits::SCRAPE);
        assert_eq!(
            refused.map(|parsed| parsed.samples().len()),
            Err(Error::NotExposition),
            "{body:?}"
        );
    }
    for body in ["# EOF", "# HELP a b", "# TYPE a gauge\n"] {
        assert!(parse(body).samples().is_empty(), "{body:?}");
    }
}

#[test]
fn a_body_beyond_a_limit_is_refused_as_a_whole() {
    let limits = Limits {
        bytes_max: 100,
        lines_max: 3,
        labels_max: 2,
    };
    let parse = |body: &str| Exposition::parse(body.as_bytes(), &limits).map(|parsed| parsed.samples().len());
    assert_eq!(parse("a 1\nb 1\nc 1\n"), Ok(3));
    assert_eq!(parse("a 1\nb 1\nc 1\nd 1"), Err(Error::TooManyLines { max: 3 }));
    assert_eq!(parse("a{x=\"1\",y=\"2\"} 1"), Ok(1));
    assert_eq!(
        parse("\na{x=\"1\",y=\"2\",z=\"3\"} 1"),
        Err(Error::TooManyLabels { line: 2, max: 2 })
    );
    assert_eq!(parse(&format!("a{{x=\"{}\"}} 1", "1".repeat(91))), Ok(1));
    assert_eq!(
        parse(&format!("a{{x=\"{}\"}} 1", "1".repeat(92))),
        Err(Error::TooManyBytes { max: 100 })
    );
}

#[test]
fn a_number_of_absurd_length_is_a_bad_line() {
    let body = format!("good 1\na {}\n", "1".repeat(100_000));
    assert_eq!(parse(&body).errors()[0].problem, Problem::Value);
}

#[test]
fn the_fingerprint_follows_every_byte() {
    let body = b"vllm:num_requests_running 3\nvllm:num_requests_waiting 1\n".to_vec();
    let original = fingerprint(&body);
    for at in 0..body.len() {
        let mut changed = body.clone();
        changed[at] ^= 1;
        assert_ne!(fingerprint(&changed), original, "byte {at}");
        assert_ne!(fingerprint(&body[..at]), original, "length {at}");
    }
}

const VALID: &str = "# HELP a x\n# TYPE a gauge\na{engine=\"0\",model=\"m\"} 1 1700000000000\nvllm:b_bucket{le=\"+Inf\"} 2 # {t=\"1\"} 3\n\
                     {\"c.d\",\"e\"=\"f\\\"g\"} NaN\n# EOF\n";

proptest! {
    #[test]
    fn random_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = Exposition::parse(&body, &Limits::SCRAPE);
    }

    #[test]
    fn random_texts_of_the_alphabet_never_panic_and_every_line_is_accounted_for(body in "[a1:{}\"=, .#\\\\\n\t+é]{0,200}") {
        if let Ok(parsed) = Exposition::parse(body.as_bytes(), &Limits::SCRAPE) {
            let lines = body.split('\n').map(str::trim_ascii).filter(|line| !line.is_empty() && !line.starts_with('#')).count();
            prop_assert_eq!(parsed.samples().len() + parsed.errors().len(), lines);
            for sample in parsed.samples() {
                for label in sample.labels() {
                    prop_assert!(label.value.is(&label.value.resolved()) && label.name.is(&label.name.resolved()));
                }
                let _ = parsed.timestamp_ms(sample);
            }
        }
    }

    #[test]
    fn a_valid_body_with_a_changed_byte_never_panics(at in 0..VALID.len(), byte: u8) {
        let mut body = VALID.as_bytes().to_vec();
        body[at] = byte;
        let _ = Exposition::parse(&body, &Limits::SCRAPE);
    }

    #[test]
    fn a_valid_body_cut_off_anywhere_never_panics_and_never_invents_a_series(at in 0..VALID.len()) {
        let whole = parse(VALID);
        if let Ok(cut) = Exposition::parse(&VALID.as_bytes()[..at], &Limits::SCRAPE) {
            for sample in cut.samples() {
                prop_assert!(whole.samples().iter().any(|other| other.name == sample.name));
            }
        }
    }

    #[test]
    fn what_is_written_is_read(name in "[a-zA-Z_:][a-zA-Z0-9_:]{0,20}", label in "[a-zA-Z_][a-zA-Z0-9_]{0,9}", text in "\\PC{0,20}|.{0,20}", number in proptest::num::f64::NORMAL | proptest::num::f64::ZERO) {
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let body = format!("{name}{{{label}=\"{quoted}\"}} {number:e}\n");
        let parsed = parse(&body);
        prop_assert_eq!(parsed.samples().len(), 1, "{:?}", parsed.errors());
        let sample = parsed.samples()[0];
        prop_assert!(sample.name.is(&name));
        prop_assert_eq!(sample.labels().next().unwrap().value.resolved(), text.as_str());
        prop_assert_eq!(sample.value, Value::Number(Finite::try_from(number).unwrap()));
    }
}
