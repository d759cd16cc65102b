//! `tiercel lint`: what the API server would say of manifests, without one, and advice.

#[cfg(test)]
mod tests;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::print::{self, Format, Look};
use crate::lint::{self, Lint, Weight, lint};
use crate::view::{Style, Tone, wrapped};

/// Largest manifest that is read, bytes.
const FILE_MAX: u64 = 16 << 20;

/// Arguments of `tiercel lint`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A manifest, a folder of them, or `-` for standard input. May be given several times: pipelines are held against the pools
    /// of all files.
    #[arg(short, long, value_name = "FILE", required = true)]
    filename: Vec<PathBuf>,
    /// Fail on advice, too.
    #[arg(long)]
    strict: bool,
    /// `text`, `json` or `yaml`.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    output: Format,
    #[command(flatten)]
    look: Look,
}

/// The manifests cannot be read, or are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {}: {problem}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        problem: String,
    },
    /// It is no YAML.
    #[error("{}: not YAML: {problem}", path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and where.
        problem: String,
    },
    /// The server would refuse something, or advice counts.
    #[error("{errors} and {advice}")]
    Found {
        /// How many errors, in words.
        errors: String,
        /// How much advice, in words.
        advice: String,
    },
    /// The definitions are broken: a defect.
    #[error(transparent)]
    Lint(#[from] lint::Error),
    /// The answer cannot be printed.
    #[error(transparent)]
    Print(#[from] print::Error),
}

impl Error {
    /// 2 for files that cannot be read, 1 for anything else.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Read { .. } | Self::Yaml { .. } => 2,
            Self::Found { .. } | Self::Lint(_) | Self::Print(_) => 1,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// When a file cannot be read, or the API server would refuse what is in it.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    let mut documents = Vec::new();
    for path in &arguments.filename {
        for file in files(path)? {
            documents.extend(read(&file)?.into_iter().enumerate().map(|(at, value)| Document {
                file: file.display().to_string(),
                at: at + 1,
                value,
            }));
        }
    }
    let (lint, text) = looked_at(documents, arguments.output, arguments.look.style())?;
    print::write(&text)?;
    verdict(&lint, arguments.strict)
}

/// A document and where it stands.
struct Document {
    file: String,
    at: usize,
    value: Value,
}

/// A report with the file that it is about.
#[derive(Debug, Serialize)]
struct Located<'a> {
    file: &'a str,
    #[serde(flatten)]
    report: &'a lint::Report,
}

fn looked_at(documents: Vec<Document>, output: Format, style: Style) -> Result<(Lint, String), Error> {
    let (places, values): (Vec<(String, usize)>, Vec<Value>) = documents
        .into_iter()
        .map(|document| ((document.file, document.at), document.value))
        .unzip();
    let mut lint = lint(values)?;
    let mut files = Vec::new();
    for report in &mut lint.reports {
        if let Some((file, at)) = places.get(report.document - 1) {
            report.document = *at;
            files.push(file.as_str());
        }
    }
    let located: Vec<Located> = files
        .iter()
        .zip(&lint.reports)
        .map(|(file, report)| Located { file, report })
        .collect();
    let text = match output.document(&located)? {
        Some(document) => document,
        None => text(&located, &lint, style),
    };
    Ok((lint, text))
}

/// The files that a path means: itself, or the manifests of a folder.
fn files(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let refused = |error: std::io::Error| Error::Read {
        path: path.to_owned(),
        problem: error.to_string(),
    };
    if path == Path::new("-") || !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(refused)? {
        let path = entry.map_err(refused)?.path();
        let manifest = path
            .extension()
            .is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known));
        if manifest && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The documents of a file. A list of objects counts as its objects.
fn read(path: &Path) -> Result<Vec<Value>, Error> {
    let refused = |problem: String| Error::Read {
        path: path.to_owned(),
        problem,
    };
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(FILE_MAX + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(FILE_MAX + 1).read_to_string(&mut text))
    };
    read.map_err(|error| refused(error.to_string()))?;
    if text.len() as u64 > FILE_MAX {
        return Err(refused(format!("more than {} MiB", FILE_MAX >> 20)));
    }
    parse(&text).map_err(|problem| Error::Yaml {
        path: path.to_owned(),
        problem,
    })
}

fn parse(text: &str) -> Result<Vec<Value>, String> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| {
        let text = error.to_string();
        text.lines().next().unwrap_or_default().trim().to_owned()
    })?;
    let lists = documents.into_iter().flat_map(|document| {
        let listed = document.get("kind").and_then(Value::as_str) == Some("List");
        match document.get("items").and_then(Value::as_array).filter(|_| listed) {
            Some(items) => items.clone(),
            None => vec![document],
        }
    });
    Ok(lists.collect())
}

/// Whether it passes.
fn verdict(lint: &Lint, strict: bool) -> Result<(), Error> {
    let (errors, advice) = (count(lint, Weight::Error), count(lint, Weight::Advice));
    if errors == 0 && (advice == 0 || !strict) {
        return Ok(());
    }
    Err(Error::Found {
        errors: counted(errors, "error", "errors"),
        advice: counted(advice, "piece of advice", "pieces of advice"),
    })
}

fn count(lint: &Lint, weight: Weight) -> usize {
    let findings = lint.reports.iter().flat_map(|report| &report.findings);
    findings.filter(|finding| finding.weight == weight).count()
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// For people.
fn text(reports: &[Located], lint: &Lint, style: Style) -> String {
    let width = style.width.unwrap_or(110);
    let mut lines = Vec::new();
    for Located { file, report } in reports {
        let verdict = match report.findings.first().map(|finding| finding.weight) {
            None => style.paint(Tone::Good, "ok"),
            Some(Weight::Advice) => style.paint(Tone::Good, "ok, but"),
            Some(Weight::Error) => style.paint(Tone::Bad, "refused"),
        };
        let name = style.paint(Tone::Strong, &format!("{} {}", report.kind, report.name));
        lines.push(format!("{file}:{} {name}: {verdict}", report.document));
        for finding in &report.findings {
            let tone = if finding.weight == Weight::Error {
                Tone::Bad
            } else {
                Tone::Warn
            };
            let path = if finding.path.is_empty() {
                "the object"
            } else {
                &finding.path
            };
            lines.push(format!("  {} {path}", style.paint(tone, &finding.weight.to_string())));
            lines.extend(
                wrapped(&finding.message, width.saturating_sub(4))
                    .iter()
                    .map(|line| format!("    {line}")),
            );
        }
    }
    let mut summary = vec![
        counted(reports.len(), "document", "documents"),
        counted(count(lint, Weight::Error), "error", "errors"),
        counted(count(lint, Weight::Advice), "piece of advice", "pieces of advice"),
    ];
    if lint.others > 0 {
        summary.push(format!("{} of other kinds not looked at", lint.others));
    }
    if !lint.unchecked.is_empty() {
        summary.push(counted(
            lint.unchecked.len(),
            "rule that only the API server checks",
            "rules that only the API server checks",
        ));
    }
    lines.push(style.paint(Tone::Quiet, &summary.join(", ")));
    lines.join("\n") + "\n"
}
