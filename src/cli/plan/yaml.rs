//! The objects that the operator would apply.

use super::super::print;
use super::Error;
use crate::plan::report::Report;

/// What nobody knows before the API server has it.
const HEAD: &str = "\
# What tiercel would apply, as its field manager `tiercel`. `spec.replicas` is left out where the rebalancer owns it.
# A UID that begins with `given-at-creation-`, and labels that are made of it, come from the API server.
";

/// Documents, in the order that they would be applied in.
pub(super) fn render(report: &Report) -> Result<String, Error> {
    let mut text = HEAD.to_owned();
    let children = report.after.pipelines.iter().flat_map(|pipeline| &pipeline.children);
    for child in children {
        let yaml = print::yaml(&child.manifest)?;
        text.push_str("---\n");
        text.push_str(yaml.trim_end());
        text.push('\n');
    }
    Ok(text)
}
