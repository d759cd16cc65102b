//! `tiercel status`: one pipeline on one screen.

use super::cluster::{NotShown, Target};
use super::operator::Installed;
use super::print::{self, Format, Look};
use crate::view;

/// Arguments of `tiercel status`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The pipeline.
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    target: Target,
    /// `text`, `json` or `yaml`.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    output: Format,
    #[command(flatten)]
    look: Look,
    #[command(flatten)]
    installed: Installed,
}

/// Runs the command.
///
/// # Errors
/// When the cluster does not show the pipeline.
pub fn run(arguments: &Arguments) -> Result<(), NotShown> {
    print::wait(status(arguments))
}

async fn status(arguments: &Arguments) -> Result<(), NotShown> {
    let cluster = arguments.target.connect().await?;
    let question = super::get::Question::of(&cluster.namespace, &arguments.name);
    let (seen, notes) = question.ask(&cluster).await?;
    for note in notes.into_iter().chain(arguments.installed.skew(&cluster).await) {
        eprintln!("tiercel: {note}");
    }
    let now = print::now();
    let screens = view::tree::tree(&seen, now).pipelines.into_iter().zip(&seen.pipelines);
    for (tree, object) in screens {
        let screen = view::status::screen(object, tree, now);
        let text = match arguments.output.document(&screen)? {
            Some(document) => document,
            None => screen.text(arguments.look.style()),
        };
        print::write(&text)?;
    }
    Ok(())
}
