use proptest::prelude::*;

use crate::signals::prometheus::template::{Names, Per, Template, is_bound};

const NAMES: Names<'static> = Names {
    namespace: "rag",
    pipeline: "support",
    stage: "embed",
    pods: &["embed-1", "embed-2"],
};

fn per_stage(text: &str) -> Result<Template, String> {
    Template::parse(text, "namespace", Per::Stage).map_err(|error| error.to_string())
}

/// Every way to write a selector that Prometheus knows of, bound.
const BOUND: [&str; 16] = [
    r#"queue{namespace="$namespace"}"#,
    r#"{namespace="$namespace", __name__="queue"}"#,
    r#"{"http.queue", "namespace"="$namespace",}"#,
    r#"vllm:queue{ job = 'x', namespace = "$namespace" }"#,
    r#"queue{namespace="${namespace}",stage="${stage}_jobs"}"#,
    r#"sum by (stage, "other") (rate(q{namespace="$namespace"}[5m]))"#,
    r#"SUM(q{namespace="$namespace"}) By (stage)"#,
    r#"-q{namespace="$namespace"} * on (pod) group_left (node) max without () (n{namespace="$namespace"})"#,
    r#"q{namespace="$namespace"} / ignoring(a) group_right r{namespace="$namespace"}"#,
    r#"q{namespace="$namespace"} > bool 1e+3 or r{namespace="$namespace"} unless s{namespace="$namespace"}"#,
    r#"histogram_quantile(0.9, sum by (le) (rate(b{namespace="$namespace",le!="+Inf"}[1m])))"#,
    r#"max_over_time((q{namespace="$namespace"} + 1)[5m:30s])"#,
    r#"label_replace(q{namespace="$namespace"}, "a", "$1", "b", "(.*)")"#,
    r#"q{namespace="$namespace",pod=~"$pods",app!~"x$|y\"$"}"#,
    r#"clamp(q{namespace="$namespace"}, -Inf, 0x1F) ^ 2 % 3"#,
    "q{namespace=\"$namespace\"}\n  == 0",
];

#[test]
fn every_way_to_select_is_understood_and_bound() {
    for text in BOUND {
        let template = per_stage(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let rendered = template.query(&NAMES);
        assert_eq!(is_bound(&rendered, "namespace", "rag"), Ok(true), "{rendered}");
    }
}

#[test]
fn a_selector_that_could_read_other_namespaces_is_refused() {
    for (text, expected) in [
        ("queue", "queue has no matchers"),
        ("{job=\"x\"}", "every selector must hold namespace=\"$namespace\""),
        ("queue{}", "every selector"),
        ("queue{namespace=\"other\"}", "every selector"),
        ("queue{namespace=~\"$namespace\"}", "every selector"),
        ("queue{namespace!=\"$namespace\"}", "every selector"),
        ("queue{namespace=\"$namespace.*\"}", "every selector"),
        ("queue{namespace='$namespace'}", "every selector"),
        ("queue{namespace=`$namespace`}", "every selector"),
        ("queue{kube_namespace=\"$namespace\"}", "every selector"),
        // One of two is enough to leak.
        ("q{namespace=\"$namespace\"} + other", "other has no matchers"),
        ("q{namespace=\"$namespace\"} or or", "or has no matchers"),
        ("sum(sum)", "sum has no matchers"),
        ("sum(q{namespace=\"$namespace\"}) by (x) + on", "expected ("),
        ("q{namespace=\"$namespace\"} + bool{job=\"x\"}", "every selector"),
        ("topk(3, q)", "q has no matchers"),
        ("absent(q{job=\"x\"})", "every selector"),
        ("rate(q[5m])", "q has no matchers"),
        ("1e+other", "other"),
        // Dialects.
        ("q{namespace=\"$namespace\" or namespace=\"other\"}", "expected }"),
        ("q{namespace=\"$namespace\"+\"x\"}", "expected }"),
        ("WITH (x = other) x", "x has no matchers"),
        ("q{namespace=\"$namespace\"} default other", "expected an operator"),
        ("q{namespace=\"$namespace\"} other", "expected an operator"),
        // What would hide the rest, or move it in time.
        ("q{namespace=\"$namespace\"} # other", "expected an operator"),
        ("# other\nq{namespace=\"$namespace\"}", "no comments"),
        ("q{namespace=\"$namespace\"} offset 5m", "offset and @"),
        ("q{namespace=\"$namespace\"} @ 0", "offset and @"),
        ("rate(q{namespace=\"$namespace\"}[5m] OFFSET 1d)", "offset and @"),
        // No query.
        ("", "ends too early"),
        ("1", "must select series"),
        ("vector(0)", "must select series"),
        ("q{namespace=\"$namespace\"", "expected }"),
        ("q{namespace=\"$namespace", "does not end"),
        ("q{namespace=\"$name\nspace\"}", "does not end"),
        ("(q{namespace=\"$namespace\"}", "expected )"),
        ("q{namespace=\"$namespace\"})", "expected an operator"),
    ] {
        let error = per_stage(text).expect_err(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn a_placeholder_stands_where_it_can_be_escaped_and_nowhere_else() {
    for (inside, expected) in [
        ("a=\"$stages\"", "$stages is no placeholder"),
        ("a=\"$pod\"", "use $namespace, $pipeline, $stage or $pods"),
        ("a='$stage'", "double quotes"),
        ("a=~`$stage`", "double quotes"),
        ("a=\"$pods\"", "compare with =~"),
        ("a!~\"$pods\"", "compare with =~"),
        ("$stage=\"a\"", "expected a label"),
    ] {
        let text = format!("q{{namespace=\"$namespace\",{inside}}}");
        let error = per_stage(&text).expect_err(&text);
        assert!(error.contains(expected), "{text}: {error}");
    }
    for text in [
        "$stage{namespace=\"$namespace\"}",
        "q{namespace=\"$namespace\"} > $stage",
        "label_replace(q{namespace=\"$namespace\"}, \"a\", \"$stage\", \"b\", \"c\")",
        "count_values(\"$namespace\", q{namespace=\"$namespace\"})",
    ] {
        let error = per_stage(text).expect_err(text);
        assert!(
            error.contains("placeholders stand in values of labels"),
            "{text}: {error}"
        );
    }
    let text = "q{namespace=\"$namespace\",stage=\"$stage\"}";
    let error = Template::parse(text, "namespace", Per::Pod).unwrap_err().to_string();
    assert!(
        error.starts_with("at character 33: ") && error.contains("use $pods"),
        "{error}"
    );
}

#[test]
fn names_are_filled_in_as_what_they_are() {
    let query = |text: &str, names: &Names<'_>| per_stage(text).unwrap().query(names);
    assert_eq!(
        query(
            r#"q{namespace="$namespace",queue="$pipeline.$stage",pod=~"$pods",x=~"$stage-.*"}"#,
            &NAMES
        ),
        r#"q{namespace="rag",queue="support.embed",pod=~"(?:embed-1|embed-2)",x=~"embed-.*"}"#
    );
    let none = Names { pods: &[], ..NAMES };
    assert_eq!(
        query(r#"q{namespace="$namespace",pod=~"x-$pods"}"#, &none),
        r#"q{namespace="rag",pod=~"x-(?:-)"}"#,
        "no pod is called -, while an empty pattern would match series without a pod"
    );
    let dotted = Names {
        stage: r#"a.b\"c"#,
        ..NAMES
    };
    assert_eq!(
        query(r#"q{namespace="$namespace",a="$stage",b=~"$stage"}"#, &dotted),
        r#"q{namespace="rag",a="a.b\\\"c",b=~"a\\.b\\\\\"c"}"#
    );
}

#[test]
fn each_selector_travels_without_its_range() {
    let template =
        per_stage(r#"sum(rate(a{namespace="$namespace"}[5m])) / {namespace="$namespace",stage="$stage"}"#).unwrap();
    let selectors: Vec<String> = template.selectors(&NAMES).collect();
    assert_eq!(
        selectors,
        [r#"a{namespace="rag"}"#, r#"{namespace="rag",stage="embed"}"#]
    );
}

/// Names beyond what Kubernetes allows: should a check elsewhere fail, this one still holds.
fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9.-]{1,20}",
        any::<String>(),
        proptest::collection::vec(
            proptest::sample::select(vec![
                "\"",
                "\\",
                "\n",
                "}",
                "{",
                ",",
                "=",
                "~",
                "|",
                ")",
                "(",
                "$namespace",
                "$",
                "#",
                "or",
                " ",
                "x",
                "`",
                "'",
                "\u{85}",
                "\u{2028}",
                "é",
                "\0",
            ]),
            0..12,
        )
        .prop_map(|parts| parts.concat()),
    ]
}

/// Texts that are nearly templates: a good one with something put into it, or taken out.
fn nearly() -> impl Strategy<Value = String> {
    let parts = vec![
        "",
        "",
        "q",
        "{",
        "}",
        "(",
        ")",
        "[5m]",
        ",",
        "namespace=\"x\"",
        "pod=~\"$pods\"",
        "\"",
        "'",
        "`",
        "\\",
        " or q ",
        " and ",
        " unless other{a=\"b\"} ",
        "sum",
        "sum by (a) (q)",
        " by ",
        "+",
        "-",
        "*",
        "1",
        "1e",
        ".",
        " ",
        "\n",
        "$stage",
        " offset 1m",
        "@",
        "bool",
        " on (a) ",
        " group_left ",
        "rate",
        "+q{namespace=\"$namespace\"}",
        "=",
        "=~",
        "#",
        "inf",
        "é",
        " default other ",
        "{}",
        "other",
    ];
    let part = proptest::sample::select(parts);
    (0..BOUND.len(), 0..200_usize, 0..6_usize, part).prop_map(|(which, at, cut, part)| {
        let chars: Vec<char> = BOUND[which].chars().collect();
        let at = at % (chars.len() + 1);
        let end = (at + cut).min(chars.len());
        let (before, after) = (&chars[..at], &chars[end..]);
        before
            .iter()
            .copied()
            .chain(part.chars())
            .chain(after.iter().copied())
            .collect()
    })
}

proptest! {
    #[test]
    fn no_name_gets_out_of_its_string_or_past_the_namespace(
        namespace in hostile(), pipeline in hostile(), stage in hostile(),
        pods in proptest::collection::vec(hostile(), 0..4), which in 0..BOUND.len(),
    ) {
        let pods: Vec<&str> = pods.iter().map(String::as_str).collect();
        let names = Names { namespace: &namespace, pipeline: &pipeline, stage: &stage, pods: &pods };
        let text = format!("{} + x{{namespace=\"$namespace\",a=~\"$pods|$stage\",b=\"$pipeline$stage\"}}", BOUND[which]);
        let template = per_stage(&text).unwrap();
        let (plain, rendered) = (template.query(&NAMES), template.query(&names));
        prop_assert_eq!(is_bound(&rendered, "namespace", &namespace), Ok(true), "{}", rendered);
        // The same query but for the insides of strings.
        prop_assert_eq!(skeleton(&rendered), skeleton(&plain), "{}", rendered);
        for selector in template.selectors(&names) {
            prop_assert_eq!(is_bound(&selector, "namespace", &namespace), Ok(true), "{}", selector);
        }
    }

    #[test]
    fn what_is_taken_for_a_template_is_bound(text in nearly()) {
        if let Ok(template) = per_stage(&text) {
            let rendered = template.query(&NAMES);
            prop_assert_eq!(is_bound(&rendered, "namespace", "rag"), Ok(true), "{}", rendered);
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        let _ = per_stage(&text);
    }
}

/// The text with every quoted part left out, by rules of its own.
fn skeleton(query: &str) -> String {
    let mut skeleton = String::new();
    let mut chars = query.chars();
    while let Some(c) = chars.next() {
        skeleton.push(c);
        if matches!(c, '"' | '\'' | '`') {
            loop {
                match chars.next() {
                    Some('\\') if c != '`' => {
                        chars.next();
                    }
                    Some(end) if end == c => break,
                    Some(_) => {}
                    None => panic!("a quote is open: {query}"),
                }
            }
        }
    }
    skeleton
}
