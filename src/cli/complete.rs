//! Shell completion: scripts for `tiercel`, and the candidates that kubectl asks the plugin for.

use std::ffi::OsString;
use std::time::Duration;

use clap::CommandFactory as _;
use clap_complete::aot::{Shell, generate};
use clap_complete::engine::complete;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use super::Arguments as Program;
use super::cluster::{Context, Target};
use super::print;
use crate::api::TieredPipeline;

/// How long names of pipelines are waited for: somebody holds the Tab key.
const PATIENCE: Duration = Duration::from_secs(2);
/// Commands whose first word is the name of a pipeline.
const NAMED: [&str; 7] = ["explain", "get", "pause", "report", "resume", "status", "why"];
/// Directives of cobra, which kubectl speaks: no file names, no space after the word.
const NO_FILES: u8 = 4;
const NO_SPACE: u8 = 2;

/// Arguments of `tiercel completion`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The shell.
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

/// Arguments of `tiercel __complete`, which `kubectl_complete-tiercel` calls.
#[derive(Debug, clap::Args)]
pub struct Words {
    /// The words after `kubectl tiercel`; the last one is being written.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, num_args = 0..)]
    words: Vec<OsString>,
}

/// Prints the script.
///
/// # Errors
/// When it cannot be written.
pub fn script(arguments: &Arguments) -> Result<(), print::Error> {
    let mut text = Vec::new();
    generate(arguments.shell, &mut Program::command(), "tiercel", &mut text);
    print::write(&String::from_utf8_lossy(&text))
}

/// Prints the candidates as kubectl reads them. What goes wrong leaves them out: nobody reads errors there.
///
/// # Errors
/// When they cannot be written.
pub fn candidates(arguments: &Words) -> Result<(), print::Error> {
    let words = if arguments.words.is_empty() {
        vec![OsString::new()]
    } else {
        arguments.words.clone()
    };
    let mut found = known(&words);
    if let Some(target) = pipeline_wanted(&words) {
        found = names(&target);
    }
    print::write(&listed(&found, &words))
}

/// A candidate and its help.
type Candidate = (String, Option<String>);

/// Commands, flags and their values.
fn known(words: &[OsString]) -> Vec<Candidate> {
    let mut line = vec![OsString::from("tiercel")];
    line.extend_from_slice(words);
    let at = words.len();
    let folder = std::env::current_dir().ok();
    let found = complete(&mut Program::command(), line, at, folder.as_deref()).unwrap_or_default();
    let shown = found.iter().filter(|candidate| !candidate.is_hide_set());
    shown
        .map(|candidate| {
            let help = candidate
                .get_help()
                .map(|help| help.to_string().lines().next().unwrap_or_default().to_owned());
            (candidate.get_value().to_string_lossy().into_owned(), help)
        })
        .collect()
}

/// Where to look for pipelines, if the name of one is being written.
fn pipeline_wanted(words: &[OsString]) -> Option<Target> {
    let words: Vec<&str> = words.iter().map(|word| word.to_str()).collect::<Option<_>>()?;
    let (last, before) = words.split_last()?;
    let (command, rest) = before.split_first()?;
    if !NAMED.contains(command) || last.starts_with('-') {
        return None;
    }
    let mut target = Target::default();
    let mut context = Context::default();
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        let (flag, mut value) = match word.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (*word, None),
        };
        let takes_value = [
            "-n",
            "--namespace",
            "--context",
            "-o",
            "--output",
            "--file",
            "--operator",
        ]
        .contains(&flag)
            || flag.starts_with("--operator-");
        if takes_value && value.is_none() {
            // Of a flag without its value that is what is being written.
            value = Some((*rest.next()?).to_owned());
        }
        match flag {
            "-n" | "--namespace" => target.namespace = value,
            "--context" => context.context = value,
            flag if flag.starts_with('-') => {}
            // The name stands there already.
            _ => return None,
        }
    }
    target.context = context;
    Some(target)
}

fn names(target: &Target) -> Vec<Candidate> {
    let asked = print::wait(async {
        let asked = async {
            let cluster = target.connect().await.ok()?;
            let api: Api<TieredPipeline> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
            let found = api.list_metadata(&ListParams::default().limit(500)).await.ok()?;
            Some(found.iter().map(|object| (object.name_any(), None)).collect::<Vec<_>>())
        };
        Ok::<_, print::Error>(tokio::time::timeout(PATIENCE, asked).await.ok().flatten())
    });
    asked.ok().flatten().unwrap_or_default()
}

/// One candidate a line, and the directive.
fn listed(found: &[Candidate], words: &[OsString]) -> String {
    let begun = words
        .last()
        .map(|word| word.to_string_lossy().into_owned())
        .unwrap_or_default();
    let fitting = found.iter().filter(|(value, _)| value.starts_with(&begun));
    let mut lines: Vec<String> = fitting
        .map(|(value, help)| match help {
            Some(help) if !help.is_empty() => format!("{value}\t{help}"),
            _ => value.clone(),
        })
        .collect();
    let unfinished = lines.iter().any(|line| line.ends_with(['/', '=']));
    lines.push(format!(":{}", if unfinished { NO_FILES | NO_SPACE } else { NO_FILES }));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    fn told(line: &str) -> String {
        let words = words(line);
        listed(&known(&words), &words)
    }

    #[test]
    fn commands_flags_and_values_are_completed_as_kubectl_reads_them() {
        let commands = told("st");
        assert!(
            commands.starts_with("status\t") && commands.ends_with("\n:4\n"),
            "{commands}"
        );
        assert!(!told("__").contains("__complete"));
        let flags = told("get --no");
        assert!(flags.contains("--no-color\t"), "{flags}");
        let values = told("status chat -o ");
        assert!(values.contains("yaml") && values.contains("json"), "{values}");
    }

    #[test]
    fn a_name_is_asked_for_where_one_stands_and_where_the_words_say() {
        for (line, namespace, context) in [
            ("status ", None, None),
            ("get -n rag ch", Some("rag"), None),
            (
                "pause --scale-in --namespace=rag --context prod ",
                Some("rag"),
                Some("prod"),
            ),
            ("why -o json ", None, None),
        ] {
            let target = pipeline_wanted(&words(line)).unwrap_or_else(|| panic!("{line}"));
            assert_eq!(target.namespace.as_deref(), namespace, "{line}");
            assert_eq!(target.context.context.as_deref(), context, "{line}");
        }
        for line in [
            "",
            "sta",
            "top ",
            "status chat ",
            "get -",
            "get -n ",
            "lint -f ",
            "discover ",
        ] {
            assert!(pipeline_wanted(&words(line)).is_none(), "{line}");
        }
    }

    #[test]
    fn each_shell_gets_a_script() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell, Shell::Elvish] {
            let mut text = Vec::new();
            generate(shell, &mut Program::command(), "tiercel", &mut text);
            let text = String::from_utf8(text).unwrap();
            assert!(text.contains("discover"), "{shell}");
        }
    }
}
