//! Shell completion: scripts for `tiercel`, and the candidates that kubectl asks the plugin for.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Arg, Command, CommandFactory as _};
use clap_complete::aot::{Shell, generate};
use clap_complete::engine::complete;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::config::{Kubeconfig, KubeconfigError};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use super::Arguments as Program;
use super::cluster::{Context, Target, is_name};
use super::print;
use crate::api::{ComputePool, TieredPipeline};

/// How long names of pipelines are waited for: somebody holds the Tab key.
const PATIENCE: Duration = Duration::from_secs(2);
/// Commands whose first word is the name of a pipeline.
const NAMED: [&str; 8] = ["cost", "explain", "get", "pause", "report", "resume", "status", "why"];
/// Commands whose second word is a stage of it.
const STAGED: [&str; 2] = ["explain", "why"];
/// Most names of one kind.
const NAMES_MAX: u32 = 500;
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
    if let Some((wanted, target)) = wanted(&words) {
        found = names(&wanted, &target);
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

/// What of a cluster is being written.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    /// The name of a pipeline.
    Pipeline,
    /// A stage of this one.
    Stage(String),
    /// A pool.
    Pool,
    /// A namespace.
    Namespace,
    /// A context of the kubeconfig; `--context=` stands in front of it, or nothing.
    Context,
}

/// What is asked of which cluster, if something of one is being written.
fn wanted(words: &[OsString]) -> Option<(Wanted, Target)> {
    let words: Vec<&str> = words.iter().map(|word| word.to_str()).collect::<Option<_>>()?;
    let (last, before) = words.split_last()?;
    let (command, rest) = before.split_first()?;
    let program = Program::command();
    let command = program.find_subcommand(command)?;
    let mut target = Target::default();
    let mut names: Vec<&str> = Vec::new();
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        let (flag, mut value) = match word.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (*word, None),
        };
        if !flag.starts_with('-') {
            names.push(word);
            continue;
        }
        if takes_value(command, flag) && value.is_none() {
            let Some(next) = rest.next() else {
                // Of a flag without its value that is what is being written.
                return Some((of_flag(command, flag)?, target));
            };
            value = Some((*next).to_owned());
        }
        match flag {
            "-n" | "--namespace" => target.namespace = value,
            "--context" => target.context = Context { context: value },
            _ => {}
        }
    }
    if let Some((flag, _)) = last.split_once('=').filter(|_| last.starts_with("--")) {
        return Some((of_flag(command, flag)?, target));
    }
    if last.starts_with('-') {
        return None;
    }
    let wanted = match names.as_slice() {
        [] if NAMED.contains(&before.first()?) => Wanted::Pipeline,
        [name] if STAGED.contains(before.first()?) && is_name(name) => Wanted::Stage((*name).to_owned()),
        // Whatever else stands there.
        _ => return None,
    };
    Some((wanted, target))
}

/// Whether a flag of a command is followed by a value.
fn takes_value(command: &Command, flag: &str) -> bool {
    let of_it = |argument: &&Arg| {
        let long = argument
            .get_long()
            .is_some_and(|long| flag.strip_prefix("--") == Some(long));
        let short = argument
            .get_short()
            .is_some_and(|short| flag.strip_prefix('-') == Some(short.encode_utf8(&mut [0; 4])));
        long || short
    };
    let known = command.get_arguments().find(of_it);
    known.is_some_and(|argument| argument.get_action().takes_values())
}

/// What of a cluster a flag of a command names.
fn of_flag(command: &Command, flag: &str) -> Option<Wanted> {
    if !takes_value(command, flag) {
        return None;
    }
    match flag {
        "-n" | "--namespace" | "--operator-namespace" => Some(Wanted::Namespace),
        "--context" => Some(Wanted::Context),
        // Elsewhere it is a file.
        "--pool" => Some(Wanted::Pool),
        _ => None,
    }
}

fn names(wanted: &Wanted, target: &Target) -> Vec<Candidate> {
    let found = if *wanted == Wanted::Context {
        contexts(Kubeconfig::read())
    } else {
        let asked = print::wait(async {
            Ok::<_, print::Error>(
                tokio::time::timeout(PATIENCE, there(wanted, target))
                    .await
                    .ok()
                    .flatten(),
            )
        });
        asked.ok().flatten().unwrap_or_default()
    };
    found.into_iter().map(|name| (name, None)).collect()
}

/// What the cluster has.
async fn there(wanted: &Wanted, target: &Target) -> Option<Vec<String>> {
    async fn listed<K>(api: Api<K>) -> Option<Vec<String>>
    where
        K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
    {
        let found = api.list_metadata(&ListParams::default().limit(NAMES_MAX)).await.ok()?;
        Some(found.iter().map(kube::ResourceExt::name_any).collect())
    }
    let cluster = target.connect().await.ok()?;
    let pipelines: Api<TieredPipeline> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    match wanted {
        Wanted::Pipeline => listed(pipelines).await,
        Wanted::Stage(name) => {
            let pipeline = pipelines.get(name).await.ok()?;
            Some(pipeline.spec.stages.into_iter().map(|stage| stage.name).collect())
        }
        Wanted::Pool => listed(Api::<ComputePool>::all(cluster.client)).await,
        Wanted::Namespace => listed(Api::<Namespace>::all(cluster.client)).await,
        Wanted::Context => None,
    }
}

fn contexts(read: Result<Kubeconfig, KubeconfigError>) -> Vec<String> {
    let known = read.map(|config| config.contexts).unwrap_or_default();
    known.into_iter().map(|context| context.name).collect()
}

/// One candidate a line, and the directive.
fn listed(found: &[Candidate], words: &[OsString]) -> String {
    let begun = words
        .last()
        .map(|word| word.to_string_lossy().into_owned())
        .unwrap_or_default();
    // Of `--pool=l4` the shell knows the whole word, and candidates are values.
    let begun = match begun.split_once('=') {
        Some((flag, value)) if flag.starts_with("--") && !found.iter().any(|(known, _)| known.starts_with("--")) => {
            value.to_owned()
        }
        _ => begun,
    };
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
    fn what_a_cluster_knows_is_asked_for_where_it_stands_and_where_the_words_say() {
        let stage = || Wanted::Stage("chat".to_owned());
        for (line, what, namespace, context) in [
            ("status ", Wanted::Pipeline, None, None),
            ("cost ", Wanted::Pipeline, None, None),
            ("cost --by stage --since 7d ch", Wanted::Pipeline, None, None),
            ("get -n rag ch", Wanted::Pipeline, Some("rag"), None),
            (
                "pause --scale-in --namespace=rag --context prod ",
                Wanted::Pipeline,
                Some("rag"),
                Some("prod"),
            ),
            ("why -o json ", Wanted::Pipeline, None, None),
            ("why chat ", stage(), None, None),
            ("explain -n rag chat gen", stage(), Some("rag"), None),
            ("why chat -n rag --pool ", Wanted::Pool, Some("rag"), None),
            ("why chat --pool l4", Wanted::Pool, None, None),
            ("why chat --pool=l4", Wanted::Pool, None, None),
            ("get -n ", Wanted::Namespace, None, None),
            ("top --context prod -n ra", Wanted::Namespace, None, Some("prod")),
            ("status --operator-namespace ti", Wanted::Namespace, None, None),
            ("discover --context ", Wanted::Context, None, None),
            ("status chat --context=pr", Wanted::Context, None, None),
        ] {
            let (found, target) = wanted(&words(line)).unwrap_or_else(|| panic!("{line}"));
            assert_eq!(found, what, "{line}");
            assert_eq!(target.namespace.as_deref(), namespace, "{line}");
            assert_eq!(target.context.context.as_deref(), context, "{line}");
        }
        for line in [
            "",
            "sta",
            "top ",
            "status chat ",
            "why chat generate ",
            "why a/b ",
            "get -",
            "get -o ",
            "lint -f ",
            "lint -n ",
            "plan --pools ",
            "discover ",
        ] {
            assert_eq!(wanted(&words(line)).map(|(what, _)| what), None, "{line}");
        }
    }

    #[test]
    fn a_value_behind_a_flag_of_one_word_is_a_candidate_by_itself() {
        let pools = ["l4-spot", "h100"].map(|name| (name.to_owned(), None));
        assert_eq!(listed(&pools, &words("why chat --pool=l4")), "l4-spot\n:4\n");
        assert_eq!(listed(&pools, &words("why chat --pool ")), "l4-spot\nh100\n:4\n");
    }

    #[test]
    fn contexts_are_those_of_the_kubeconfig() {
        let text = "apiVersion: v1\nkind: Config\nclusters: []\nusers: []\ncontexts: [{name: prod, context: {cluster: a}}, \
                    {name: kind, context: {cluster: b}}]\n";
        assert_eq!(contexts(Kubeconfig::from_yaml(text)), ["prod", "kind"]);
        assert!(contexts(Kubeconfig::from_yaml("- 7")).is_empty());
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
