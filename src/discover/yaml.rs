//! Proposed pools as YAML with comments, which serializers have no place for.

use std::fmt::Write as _;

use kube::ResourceExt as _;

use super::Proposed;

/// Columns of a comment.
const WIDTH: usize = 110;

/// Documents that `kubectl apply` takes, once every price is there.
///
/// # Errors
/// When an object cannot be written.
pub fn render(pools: &[Proposed]) -> Result<String, String> {
    let documents: Result<Vec<String>, String> = pools.iter().map(document).collect();
    Ok(documents?.join("---\n"))
}

fn document(proposed: &Proposed) -> Result<String, String> {
    let mut text = String::new();
    let nodes = match proposed.nodes.as_slice() {
        [one] => format!("1 node: {one}"),
        many => {
            let shown: Vec<&str> = many.iter().take(super::NAMED_MAX).map(String::as_str).collect();
            let more = many.len().saturating_sub(shown.len());
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            format!("{} nodes: {}{more}", many.len(), shown.join(", "))
        }
    };
    comment(&mut text, &nodes);
    for note in &proposed.notes {
        comment(&mut text, note);
    }
    let body = serde_saphyr::to_string(&proposed.pool).map_err(|error| error.to_string())?;
    for line in body.lines() {
        let remark = match line.trim_start().split_once(':') {
            Some(("costPerNodeHour", _)) => Some(cost(proposed)),
            Some(("powerWattsPerNode", _)) => proposed.power_note.clone(),
            _ => None,
        };
        let remark = remark.map(|remark| format!("    # {remark}")).unwrap_or_default();
        let _ = writeln!(text, "{line}{remark}");
    }
    Ok(text)
}

fn cost(proposed: &Proposed) -> String {
    match &proposed.price_source {
        Some(_) => "a list price: put in what you pay".to_owned(),
        None => format!(
            "nobody says what a node of '{}' costs: fill it in, or name it in --prices FILE",
            proposed.pool.name_any()
        ),
    }
}

fn comment(text: &mut String, words: &str) {
    for line in crate::view::wrapped(words, WIDTH) {
        let _ = writeln!(text, "# {line}");
    }
}
