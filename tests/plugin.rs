//! Every command that asks a cluster, against every way in which one can fail to answer: one line that says what to do, the exit
//! code that the documentation promises, and nothing on standard output. The real program, and a server on loopback.
// `cfg(test)` always holds here; it tells clippy that helpers may fail by panicking, as tests do.
#![cfg(test)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// A command that asks a cluster. With the name of a pipeline, it ends in it.
struct Asked {
    words: &'static [&'static str],
    /// It is about one pipeline.
    named: bool,
}

const fn asked(words: &'static [&'static str], named: bool) -> Asked {
    Asked { words, named }
}

/// A manifest for commands that take one.
const POOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/samples/pools.yaml");

const COMMANDS: [Asked; 20] = [
    asked(&["get"], false),
    asked(&["get", "-A", "-o", "json"], false),
    asked(&["get", "-o", "wide"], false),
    asked(&["get", "-w"], false),
    asked(&["get", "chat"], true),
    asked(&["status", "chat", "-o", "yaml"], true),
    asked(&["explain", "chat"], true),
    asked(&["explain", "chat", "-o", "json"], true),
    asked(&["explain", "chat", "--pool", "x86"], true),
    asked(&["pause", "chat"], true),
    asked(&["resume", "chat", "--scale-in"], true),
    asked(&["report", "chat", "--file", "never-written.zip"], true),
    asked(&["cost", "chat"], true),
    asked(&["cost", "-A"], false),
    asked(&["plan", "-f", POOLS, "--context"], false),
    asked(&["top"], false),
    asked(&["top", "-o", "yaml"], false),
    asked(&["ui", "--port", "0"], false),
    asked(&["discover"], false),
    asked(&["discover", "--apply"], false),
];

/// How a server answers: status and body by path.
type Answers = fn(&str) -> (u16, String);

fn status(code: u16, message: &str, name: &str) -> (u16, String) {
    let body = format!(
        r#"{{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"X","message":"{message}","code":{code},"details":{{"name":"{name}"}}}}"#
    );
    (code, body)
}

fn list() -> (u16, String) {
    (
        200,
        r#"{"kind":"List","apiVersion":"v1","metadata":{},"items":[]}"#.to_owned(),
    )
}

/// A server of its own port, for as long as the test runs.
fn serve(answers: Answers) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream, answers));
        }
    });
    url
}

fn answer(stream: TcpStream, answers: Answers) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    let _ = reader.read_line(&mut line);
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut length = 0;
    loop {
        let mut header = String::new();
        let _ = reader.read_line(&mut header);
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if header.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    let _ = reader.read_exact(&mut body);
    let (code, body) = answers(&path);
    let head = format!(
        "HTTP/1.1 {code} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let mut stream = stream;
    let _ = stream.write_all(format!("{head}{body}").as_bytes());
}

fn kubeconfig(folder: &Path, url: &str) -> PathBuf {
    let path = folder.join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{server: '{url}'}}}}]\n\
         contexts: [{{name: c, context: {{cluster: c, user: u, namespace: rag}}}}]\nusers: [{{name: u, user: {{}}}}]\n\
         current-context: c\n"
    );
    std::fs::write(&path, text).unwrap();
    path
}

fn run(folder: &Path, kubeconfig: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kubectl-tiercel"))
        .args(words)
        .current_dir(folder)
        .env("KUBECONFIG", kubeconfig)
        .env_remove("HTTP_PROXY")
        .env_remove("http_proxy")
        .output()
        .unwrap()
}

/// One line, no stack trace, no debug print, this exit code.
fn refused(output: &Output, words: &[&str], code: i32, says: &str) {
    let (out, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let seen = format!("{words:?}: {:?}\n{out}---\n{error}", output.status.code());
    assert_eq!(output.status.code(), Some(code), "{seen}");
    assert_eq!((out.as_ref(), error.lines().count()), ("", 1), "{seen}");
    assert!(
        error.starts_with("tiercel: ") && error.contains(says),
        "'{says}' is missing: {seen}"
    );
    for raw in ["panicked", "Error(", "Error {", "Some(", "Status {", "\\n"] {
        assert!(!error.contains(raw), "{seen}");
    }
}

#[test]
fn every_command_says_what_is_wrong_in_one_line_with_the_promised_code() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&str, Answers, bool, i32, &str); 6] = [
        (
            "no such pipeline",
            |path| {
                if path.contains("/tieredpipelines/chat") {
                    status(404, "tieredpipelines chat not found", "chat")
                } else {
                    list()
                }
            },
            true,
            3,
            "there is no pipeline 'chat' in namespace 'rag'",
        ),
        (
            "no right",
            |_| status(403, "User ann cannot do that", ""),
            false,
            4,
            "not permitted: User ann",
        ),
        (
            "unknown user",
            |_| status(401, "Unauthorized", ""),
            false,
            4,
            "log in again",
        ),
        (
            "no definitions",
            |path| {
                if path.contains("tiercel.dev") {
                    (404, "404 page not found\n".to_owned())
                } else {
                    list()
                }
            },
            false,
            5,
            "tiercel is not installed there",
        ),
        (
            "broken server",
            |_| status(500, "etcd is away", ""),
            false,
            1,
            "etcd is away",
        ),
        (
            "no server of Kubernetes",
            |_| (200, "<html>hello</html>".to_owned()),
            false,
            1,
            "cannot be read",
        ),
    ];
    for (case, answers, named_only, code, says) in cases {
        let config = kubeconfig(folder.path(), &serve(answers));
        let meant = COMMANDS.iter().filter(|command| command.named || !named_only);
        // Pools are proposed before tiercel is there.
        for command in meant.filter(|command| code != 5 || command.words != ["discover"]) {
            let output = run(folder.path(), &config, command.words);
            println!("{case}");
            refused(&output, command.words, code, says);
        }
    }
    assert!(!folder.path().join("never-written.zip").exists());
}

#[test]
fn nobody_answers_or_nobody_is_configured() {
    let folder = tempfile::tempdir().unwrap();
    let closed = {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.local_addr().unwrap().port()
    };
    let url = format!("http://127.0.0.1:{closed}");
    let config = kubeconfig(folder.path(), &url);
    let missing = folder.path().join("no-such-file");
    for command in &COMMANDS {
        refused(&run(folder.path(), &config, command.words), command.words, 6, &url);
        refused(
            &run(folder.path(), &missing, command.words),
            command.words,
            6,
            "set KUBECONFIG",
        );
        // Where the last word names a context already, it gets a name.
        let named = command.words.last() == Some(&"--context");
        let other: &[&str] = if named { &["none"] } else { &["--context", "none"] };
        let words = [command.words, other].concat();
        refused(&run(folder.path(), &config, &words), &words, 6, "--context");
    }
}

/// Commands on files of [`broken`], and what they say.
const FILES: &[(&[&str], &str)] = &[
    (
        &["lint", "-f", "broken.yaml"],
        "broken.yaml:3: document 2: not YAML: unclosed bracket",
    ),
    (&["lint", "-f", "twice.yaml"], "twice.yaml:2: document 1: not YAML: "),
    (&["lint", "-f", "no-such.yaml"], "cannot read no-such.yaml"),
    (&["lint", "-f", "empty.yaml"], "empty.yaml: no document"),
    (&["lint", "-f", "binary.yaml"], "binary.yaml: it is not text"),
    (
        &["lint", "-f", "presets", "-f", "presets/none"],
        "presets/none: there is no such file",
    ),
    (&["plan", "-f", "no-such.yaml"], "cannot read no-such.yaml"),
    (&["plan", "-f", "empty.yaml"], "cannot read empty.yaml: it is empty"),
    (&["plan", "-f", "binary.yaml"], "binary.yaml: it is not text"),
    (
        &["simulate", "broken.yaml"],
        "broken.yaml:1: document 1: TieredPipeline default/?: apiVersion: must be 'tiercel.dev/v1alpha1'",
    ),
    (
        &["simulate", "twice.yaml"],
        "twice.yaml:2: document 1: not YAML: duplicate mapping key: kind",
    ),
    (
        &["simulate", "refused.yaml"],
        "refused.yaml:5: document 1: ComputePool a: spec.tier: is 'TPU', but must be one of ",
    ),
    (&["simulate", "no-such.yaml"], "cannot read no-such.yaml"),
    (&["simulate", "binary.yaml"], "binary.yaml: it is not text"),
    (
        &["simulate", "empty.yaml", "others.yaml"],
        "empty.yaml, others.yaml: neither a TieredPipeline nor a ComputePool",
    ),
    (&["simulate", "--load", "no-such.csv"], "the load no-such.csv"),
    (&["simulate", "--nodes", "x"], "POOL=COUNT"),
    (&["simulate", "--fault", "x"], "POOL=PERCENT@FROM+LENGTH"),
    (&["simulate", "--policies", "best"], "best"),
    (
        &["solve", "broken.yaml"],
        "broken.yaml: not JSON: expected value at line 1 column 1",
    ),
    (&["solve", "empty.yaml"], "empty.yaml: not JSON: "),
    (&["solve", "binary.yaml"], "binary.yaml: it is not text"),
    (&["solve", "no-such.json"], "cannot read no-such.json"),
    (
        &["solve", "field.json"],
        "field.json: `pools[0].name` is a number, but must be a text",
    ),
    (&["replay", "broken.yaml"], "broken.yaml: this is no decision log"),
    (&["replay", "empty.yaml"], "empty.yaml: this is no decision log"),
    (&["replay", "binary.yaml"], "binary.yaml: it is not text"),
    (&["replay", "log.json"], "log.json: the log is of version 99"),
    (&["replay", "presets"], "cannot read presets: it is a folder"),
    (&["replay", "no-such.log"], "cannot read no-such.log"),
    (&["read", "--preset", "vllm", "no-such.txt"], "cannot read no-such.txt"),
    (
        &["read", "--preset", "vllm", "broken.yaml"],
        "broken.yaml: body is not in the Prometheus text format",
    ),
    (
        &["read", "--preset", "vllm", "empty.yaml"],
        "empty.yaml: body is not in the Prometheus text format",
    ),
    (
        &["read", "--preset", "vllm", "binary.yaml"],
        "binary.yaml: body is not in the Prometheus text format",
    ),
    (
        &["read", "--preset", "vllm", "--presets", "presets", "-"],
        "own.yaml: line 3: a second document begins",
    ),
    (
        &["read", "--preset", "vllm", "--presets", "none", "-"],
        "presets none: there is no such file or folder",
    ),
    (&["crd", "--out", "none"], "cannot write none/computepools.yaml"),
    (
        &["run", "--presets", "presets"],
        "own.yaml: line 3: a second document begins",
    ),
    (
        &["run", "--sources", "settings.yaml"],
        "settings.yaml: line 2: unknown field `queris`",
    ),
    (&["run", "--sources", "empty.yaml"], "empty.yaml: it is empty"),
    (&["run", "--sources", "binary.yaml"], "binary.yaml: it is not text"),
    (
        &["run", "--sources", "no-such.yaml"],
        "no-such.yaml: there is no such file",
    ),
    (
        &["discover", "--prices", "empty.yaml"],
        "empty.yaml: not a table of prices: it is empty",
    ),
    (&["discover", "--prices", "binary.yaml"], "binary.yaml: it is not text"),
    (
        &["discover", "--prices", "settings.yaml"],
        "settings.yaml: not a table of prices: line 1: unknown field `prometheus`",
    ),
    (&["discover", "--prices", "no-such.yaml"], "cannot read no-such.yaml"),
    (&["discover", "--prices", "prices.yaml"], "price of 'a'"),
];

/// Arguments that contradict themselves, or name what nothing can be called.
const ARGUMENTS: &[(&[&str], &str)] = &[
    (&["get", "-w", "-o", "json"], "leave it out"),
    (&["get", "chat", "-A"], "leave out -A"),
    (&["get", "../nodes"], "not the name of a pipeline"),
    (&["status", "a/b"], "not the name of a pipeline"),
    (&["pause", "Chat"], "not the name of a pipeline"),
    (&["report", ""], "not the name of a pipeline"),
    (&["explain", "a/b/c"], "NAME/STAGE"),
];

/// Files that are broken in every way.
fn broken(folder: &Path) {
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    write("broken.yaml", "kind: TieredPipeline\n---\nspec: {stages: [\n");
    write("twice.yaml", "kind: A\nkind: B\n");
    write("prices.yaml", "instances: [{type: a, costPerNodeHour: \"1,5\"}]\n");
    write("settings.yaml", "prometheus: []\nqueris: []\n");
    write("empty.yaml", "# nothing\n");
    write("others.yaml", "kind: ConfigMap\n");
    write(
        "refused.yaml",
        "apiVersion: tiercel.dev/v1alpha1\nkind: ComputePool\nmetadata: {name: a}\n\nspec: {tier: TPU, costPerNodeHour: \"1\"}\n",
    );
    write("field.json", r#"{"pools": [{"name": 7}]}"#);
    write("log.json", "{\"log\": \"tiercel decision log\", \"version\": 99}\n");
    std::fs::write(folder.join("binary.yaml"), [0x7f, b'E', b'L', b'F', 0xff, 0xfe, 0]).unwrap();
    std::fs::create_dir(folder.join("presets")).unwrap();
    write("presets/own.yaml", "name: own\n---\nname: other\n");
}

#[test]
fn arguments_and_files_that_make_no_sense_are_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let config = kubeconfig(folder.path(), &serve(|_| list()));
    broken(folder.path());
    for (words, says) in FILES.iter().chain(ARGUMENTS) {
        refused(&run(folder.path(), &config, words), words, 2, says);
    }
    // A plan names all that is wrong, each in a line of its own, and says at the end that something is.
    let output = run(folder.path(), &config, &["plan", "-f", "broken.yaml"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        text.lines()
            .any(|line| line == "  broken.yaml:3: document 2: not YAML: unclosed bracket '['"),
        "{text}"
    );
    // What clap says takes more lines, and names the command as kubectl does.
    let output = run(folder.path(), &config, &["status"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("Usage: kubectl tiercel status"), "{text}");
}

/// A cluster whose operator is so old that it knows no `/v1/explain`, and says its version where it is deployed.
fn old(path: &str) -> (u16, String) {
    let labels = r#""labels":{"app.kubernetes.io/name":"tiercel","app.kubernetes.io/version":"0.0.1"}"#;
    if path.contains("/proxy/metrics") {
        return (200, "tiercel_lease_leading 1\n".to_owned());
    }
    if path.contains("/proxy/v1/explain") {
        return (404, String::new());
    }
    let items = match path {
        path if path.contains("/tieredpipelines/chat") => return (200, CHAT.to_owned()),
        path if path.contains("/tieredpipelines") => CHAT.to_owned(),
        path if path.contains("/namespaces/tiercel-system/deployments") => {
            format!(r#"{{"metadata":{{"name":"tiercel",{labels}}},"spec":{{"selector":{{}},"template":{{}}}}}}"#)
        }
        path if path.contains("/namespaces/tiercel-system/pods") => {
            format!(r#"{{"metadata":{{"name":"tiercel-0",{labels}}},"status":{{"phase":"Running"}}}}"#)
        }
        _ => String::new(),
    };
    let body = format!(r#"{{"kind":"List","apiVersion":"v1","metadata":{{}},"items":[{items}]}}"#);
    (200, body)
}

const CHAT: &str = r#"{"apiVersion":"tiercel.dev/v1alpha1","kind":"TieredPipeline",
    "metadata":{"name":"chat","namespace":"rag","annotations":{}},
    "spec":{"stages":[{"name":"generate","container":{"image":"i","resources":{"requests":{"cpu":"1","memory":"1Gi"}}}}]},
    "status":{"stages":[{"name":"generate","replicas":1,"readyReplicas":1,
        "pools":[{"name":"x86","replicas":1,"ready":1}]}]}}"#;

#[test]
fn an_old_operator_is_named_and_the_answer_is_still_given() {
    let folder = tempfile::tempdir().unwrap();
    let config = kubeconfig(folder.path(), &serve(old));
    for (words, shows) in [
        (&["get"][..], "rag/chat"),
        (&["status", "chat"], "rag/chat"),
        (
            &["why", "chat"],
            "readings, their ages and needs are missing: pod tiercel-0: it knows no /v1/explain",
        ),
        (&["explain", "chat", "-o", "json"], "it knows no /v1/explain"),
        (&["top"], "rag/chat"),
        (&["pause", "chat"], "pipeline 'chat' is paused"),
        (&["resume", "chat"], "pipeline 'chat' is not paused"),
        (&["report", "chat", "--file", "report.zip"], "report.zip: "),
    ] {
        let output = run(folder.path(), &config, words);
        let (out, error) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        let seen = format!("{words:?}: {:?}\n{out}---\n{error}", output.status.code());
        assert_eq!(output.status.code(), Some(0), "{seen}");
        let plain = out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(plain.contains(shows), "'{shows}' is missing: {seen}");
        let told = error
            .lines()
            .filter(|line| line.contains("the operator is 0.0.1"))
            .count();
        assert_eq!((told, error.lines().count()), (1, 1), "{seen}");
    }
    // Its metrics have nothing of the namespace: that is said, too.
    let output = run(folder.path(), &config, &["cost"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{error}");
    assert!(error.contains("the operator is 0.0.1"), "{error}");
}

/// A cluster in which pods may not be listed, and whose pool becomes another class once it is watched.
fn watched(path: &str) -> (u16, String) {
    let pool = |class: &str, version: u32| {
        format!(
            r#"{{"apiVersion":"tiercel.dev/v1alpha1","kind":"ComputePool","metadata":{{"name":"x86","resourceVersion":"{version}"}},
                "spec":{{"tier":"CPU","class":"{class}","nodeSelector":{{"a":"b"}},"costPerNodeHour":"1"}}}}"#
        )
    };
    let event = format!(r#"{{"type":"MODIFIED","object":{}}}"#, pool("zen5", 2)).replace('\n', "");
    let items = match path {
        path if path.contains("/pods") => return status(403, "User ann cannot list pods", ""),
        path if path.contains("watch=true") && path.contains("/computepools") && path.contains("resourceVersion=1") => {
            // Later than what was there before is drawn.
            std::thread::sleep(Duration::from_secs(1));
            return (200, event + "\n");
        }
        path if path.contains("watch=true") => {
            std::thread::sleep(Duration::from_mins(1));
            return (200, String::new());
        }
        path if path.contains("/tieredpipelines") => CHAT.to_owned(),
        path if path.contains("/computepools") => pool("zen4", 1),
        _ => String::new(),
    };
    let body = format!(r#"{{"kind":"List","apiVersion":"v1","metadata":{{"resourceVersion":"1"}},"items":[{items}]}}"#);
    (200, body)
}

#[test]
fn a_watch_shows_what_may_be_seen_says_what_may_not_and_follows_pools() {
    let folder = tempfile::tempdir().unwrap();
    let mut watch = Command::new(env!("CARGO_BIN_EXE_kubectl-tiercel"))
        .args(["get", "-w", "-o", "wide", "--timeout-seconds", "5"])
        .env("KUBECONFIG", kubeconfig(folder.path(), &serve(watched)))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (sender, lines) = mpsc::channel();
    let out = BufReader::new(watch.stdout.take().unwrap());
    std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let mut seen = Vec::new();
    let mut open = vec![
        "rag/chat",
        "zen4",
        "pods are not up to date: User ann cannot list pods",
        "zen5",
    ];
    while !open.is_empty() {
        let Ok(line) = lines.recv_timeout(Duration::from_secs(20)) else {
            break;
        };
        open.retain(|wanted| !line.contains(wanted));
        seen.push(line);
    }
    assert!(open.is_empty(), "{open:?} are missing:\n{}", seen.join("\n"));
    assert_eq!(watch.wait().unwrap().code(), Some(0), "its time is up");
}

#[test]
fn an_empty_cluster_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let config = kubeconfig(folder.path(), &serve(|_| list()));
    for (words, out, error) in [
        (
            &["get"][..],
            "",
            "no pipelines in namespace 'rag'; -A shows those of every namespace\n",
        ),
        (&["get", "-A"], "", "no pipelines in any namespace\n"),
        (&["discover"], "no pool to propose\n", ""),
    ] {
        let output = run(folder.path(), &config, words);
        assert_eq!(output.status.code(), Some(0), "{words:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), out, "{words:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), error, "{words:?}");
    }
}

#[test]
fn pools_are_proposed_for_a_cluster_without_tiercel() {
    let folder = tempfile::tempdir().unwrap();
    let node = |path: &str| {
        if !path.contains("/nodes") {
            return (404, "404 page not found\n".to_owned());
        }
        let node = r#"{"metadata":{"name":"n","labels":{"kubernetes.io/arch":"arm64","node.kubernetes.io/instance-type":"m8g.4xlarge"}},
            "status":{"allocatable":{"cpu":"16","memory":"64Gi"}}}"#;
        (
            200,
            format!(r#"{{"kind":"List","apiVersion":"v1","metadata":{{}},"items":[{node}]}}"#),
        )
    };
    let config = kubeconfig(folder.path(), &serve(node));
    for words in [&["discover"][..], &["discover", "-o", "yaml"]] {
        let output = run(folder.path(), &config, words);
        let (out, error) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert_eq!(output.status.code(), Some(0), "{words:?}: {error}");
        assert!(out.contains("0.71808"), "{words:?}: {out}");
        assert_eq!(
            error,
            "tiercel: the cluster knows no ComputePool yet: keep what -o yaml prints until tiercel is installed there\n",
            "{words:?}"
        );
    }
}

#[test]
fn kubectl_gets_candidates_also_where_no_cluster_answers() {
    let folder = tempfile::tempdir().unwrap();
    let config = kubeconfig(folder.path(), "http://127.0.0.1:1");
    for (words, begins) in [
        (&["__complete", "--", "disc"][..], "discover\t"),
        (&["__complete", "--", "status", ""], ":4\n"),
    ] {
        let output = run(folder.path(), &config, words);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && text.starts_with(begins) && output.stderr.is_empty(),
            "{words:?}: {output:?}"
        );
    }
}
