//! Legal input, and who reads it.

use serde_json::{Value, json};

use crate::peers::ALL;

/// What, body, samples in it.
const INPUTS: [(&str, &str, usize); 13] = [
    ("`:` in a name", "# TYPE a:b gauge\na:b{engine=\"0\"} 3\n", 1),
    ("`}` in a label value", "# TYPE a gauge\na{path=\"/v1/{id}\"} 1\n", 1),
    (
        "escaped quote in a label value",
        "# TYPE a gauge\na{x=\"q\\\"r\"} 1\n",
        1,
    ),
    (
        "one family, different label names",
        "# TYPE a gauge\na{x=\"1\"} 1\na{y=\"2\"} 2\n",
        2,
    ),
    ("samples of two families in turn", "a 1\nb 2\na{x=\"1\"} 3\n", 3),
    (
        "`# TYPE` of a family without samples",
        "# TYPE b counter\n# TYPE a gauge\na 1\n",
        1,
    ),
    ("quoted UTF-8 name", "{\"http.requests\",\"service.name\"=\"x\"} 1\n", 1),
    ("empty label set", "a{} 1\n", 1),
    ("blanks inside braces", "# TYPE a gauge\na { x = \"1\" } 1\n", 1),
    (
        "exemplar and `# EOF`",
        "# TYPE a counter\na_total{x=\"1\"} 4 # {t=\"9\"} 0.7\n# EOF\n",
        1,
    ),
    ("comma after the last label", "# TYPE a gauge\na{x=\"1\",} 1\n", 1),
    ("CRLF", "# TYPE a gauge\r\na 1\r\n", 1),
    ("no newline at the end", "# TYPE a gauge\na 1", 1),
];

/// Prints and gives who reads what.
pub(crate) fn table() -> Value {
    println!("\n== legal input\n");
    let mut rows = Vec::new();
    for (what, body, samples) in INPUTS {
        let answers = ALL.iter().map(|parser| {
            let answer = match (parser.read)(body) {
                Ok(read) if read == samples => "ok",
                Ok(_) => "silently lost",
                Err(_) => "refused",
            };
            (parser.name, answer)
        });
        let answers: Vec<_> = answers.collect();
        let texts: Vec<_> = answers
            .iter()
            .map(|(name, answer)| format!("{name}: {answer}"))
            .collect();
        println!("{what:<38} {}", texts.join("; "));
        rows.push(json!({
            "input": what,
            "body": body,
            "answers": answers.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        }));
    }
    Value::from(rows)
}
