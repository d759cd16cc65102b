//! `tiercel lint`: what the API server would say of manifests, without one, and advice.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::print::{self, Format, Look};
use crate::files::{self, Unreadable};
use crate::lint::{self, Lint, Weight, lint};
use crate::view::{Style, Tone, wrapped};
use crate::yaml::{self, Broken};

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
    #[error(transparent)]
    Read(#[from] Unreadable),
    /// It is no YAML.
    #[error("{file}:{line}: document {document}: not YAML: {problem}; mend that first, nothing else was looked at")]
    Yaml {
        /// The file.
        file: String,
        /// Line of it, from 1.
        line: u64,
        /// Which document of it, from 1.
        document: u32,
        /// What is wrong there.
        problem: String,
    },
    /// There is nothing in them at all.
    #[error("{0}: no document: the files are empty, or have nothing but comments; name manifests with -f")]
    Empty(String),
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
            Self::Read(_) | Self::Yaml { .. } | Self::Empty(_) => 2,
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
        for file in manifests(path)? {
            documents.extend(read(&file)?.into_iter().map(|(at, value)| Document {
                file: file.display().to_string(),
                at: usize::try_from(at).unwrap_or(usize::MAX),
                value,
            }));
        }
    }
    if documents.is_empty() {
        let named: Vec<String> = arguments.filename.iter().map(|path| files::shown(path)).collect();
        return Err(Error::Empty(named.join(", ")));
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
fn manifests(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let refused = |error: std::io::Error| Unreadable::because(path, &error);
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

/// The documents of a file with their numbers. A list of objects counts as its objects.
fn read(path: &Path) -> Result<Vec<(u32, Value)>, Error> {
    parse(&files::shown(path), &files::text(path)?)
}

fn parse(file: &str, text: &str) -> Result<Vec<(u32, Value)>, Error> {
    let mut found = Vec::new();
    for document in yaml::documents(text) {
        let value = serde_saphyr::from_str(document.text).map_err(|error| {
            let Broken { line, message } = Broken::within(&document, &error);
            Error::Yaml {
                file: file.to_owned(),
                line: line.unwrap_or_else(|| document.line()),
                document: document.number,
                problem: message,
            }
        })?;
        found.extend(objects(value).into_iter().map(|value| (document.number, value)));
    }
    Ok(found)
}

fn objects(document: Value) -> Vec<Value> {
    let listed = document.get("kind").and_then(Value::as_str) == Some("List");
    match document.get("items").and_then(Value::as_array).filter(|_| listed) {
        Some(items) => items.clone(),
        None => vec![document],
    }
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
