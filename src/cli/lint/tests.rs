use super::*;

fn documents(text: &str) -> Vec<Document> {
    let parsed = parse("pipeline.yaml", text).unwrap().into_iter();
    parsed
        .map(|(at, value)| Document {
            file: "pipeline.yaml".to_owned(),
            at: at as usize,
            value,
        })
        .collect()
}

#[test]
fn every_sample_passes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/samples");
    let mut seen = 0;
    for folder in [root.clone(), root.join("features"), root.join("hardware")] {
        for file in manifests(&folder).unwrap() {
            let values = read(&file).unwrap().into_iter().map(|(_, value)| value);
            let lint = lint(values.collect()).unwrap();
            let errors = count(&lint, Weight::Error);
            assert_eq!(
                (errors, &lint.unchecked),
                (0, &std::collections::BTreeSet::new()),
                "{}: {lint:#?}",
                file.display()
            );
            seen += lint.reports.len();
        }
    }
    assert!(seen > 30, "{seen}");
}

#[test]
fn findings_stand_below_the_document_that_they_are_about() {
    let text = "apiVersion: tiercel.dev/v1alpha1\nkind: ComputePool\nmetadata: {name: a}\nspec: {tier: CPU, costPerNodeHour: 1}\n\
                ---\napiVersion: v1\nkind: ConfigMap\n---\napiVersion: tiercel.dev/v1alpha1\nkind: TieredPipeline\n\
                metadata: {name: chat, namespace: rag}\nspec: {stages: [{name: a, container: {image: x, resources: {requests: \
                {cpu: 1, memory: 1Gi}}}}]}\n";
    let style = Style {
        colour: false,
        unicode: true,
        width: Some(80),
    };
    let (lint, text) = looked_at(documents(text), Format::Text, style).unwrap();
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    insta::assert_snapshot!(text);
    assert_eq!(
        verdict(&lint, false).unwrap_err().to_string(),
        "1 error and 4 pieces of advice"
    );
}

#[test]
fn advice_alone_fails_only_where_it_is_asked_to() {
    let text = "apiVersion: tiercel.dev/v1alpha1\nkind: ComputePool\nmetadata: {name: a}\n\
                spec: {tier: CPU, nodeSelector: {a: b}, costPerNodeHour: '0'}\n";
    let (lint, _) = looked_at(documents(text), Format::Json, Style::default()).unwrap();
    assert!(verdict(&lint, false).is_ok());
    assert_eq!(verdict(&lint, true).unwrap_err().code(), 1);
}

#[test]
fn broken_yaml_is_one_line_with_its_place() {
    for text in ["a: [1", "a: 1\na: 2", "ok: 1\n---\nb: {", "a: &x [*x]"] {
        let error = parse("a.yaml", text).unwrap_err().to_string();
        assert!(
            error.starts_with("a.yaml:") && !error.contains('\n'),
            "{text:?}: {error}"
        );
    }
    let missing = read(Path::new("no/such/file.yaml")).unwrap_err();
    assert_eq!(missing.code(), 2);
}
