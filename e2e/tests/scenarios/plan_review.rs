//! `tiercel plan` where changes are reviewed: what GitHub's action and the job for GitLab say is run as it is written, so that
//! neither rots.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::Value;
use tiercel_e2e::command::{self, Output};
use tiercel_e2e::operator::find_binary;

use crate::suite::Suite;
use crate::support::{documents, file, repository};

pub(crate) fn scenarios(suite: &Arc<Suite>) -> [Trial; 2] {
    crate::scenarios![suite, plan_review:
        the_steps_of_the_action_for_pull_requests_run_as_written,
        the_job_for_merge_requests_runs_as_written,
    ]
}

/// A repository of the sample with a branch `change`, and programs that stand for those of the review. Gone with the test.
struct Review(PathBuf);

impl Drop for Review {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

impl Review {
    /// `origin` with the pools in `pools`, its branch cloned into `clone` as `depth` says.
    async fn new(name: &str, pools: &str, depth: &str) -> Self {
        let review = Self(std::env::temp_dir().join(format!("tiercel-{name}-{}", std::process::id())));
        std::fs::create_dir_all(review.0.join("origin").join(pools)).unwrap();
        std::fs::create_dir_all(review.0.join("origin/deploy")).unwrap();
        std::fs::create_dir_all(review.0.join("bin")).unwrap();
        let sample = |name: &str| repository().join("config/samples").join(name).display().to_string();
        let made = format!(
            "cd {origin} && cp {} {pools} && cp {} deploy && git init -q -b main && git add -A && \
             alias_git() {{ git -c user.name=a -c user.email=a@example.com -c commit.gpgsign=false \"$@\"; }}; \
             alias_git commit -qm first && git checkout -q -b change && \
             sed -i 's/guard:2.1.0/guard:2.2.0/' deploy/support-agent.yaml && alias_git commit -qam second && \
             git clone -q {depth} --branch change file://{origin} {clone}",
            sample("pools.yaml"),
            sample("support-agent.yaml"),
            origin = review.at("origin"),
            clone = review.at("clone"),
        );
        review.done(&made, &[]).await;
        review
    }

    fn at(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// A shell script in place of a program.
    async fn stub(&self, program: &str, script: &str) {
        std::fs::write(self.0.join("bin").join(program), format!("#!/bin/sh\n{script}\n")).unwrap();
        self.done(&format!("chmod +x {}/{program}", self.at("bin")), &[]).await;
    }

    /// Runs a script as both of them do: it ends with the first command that fails.
    async fn shell(&self, script: &str, env: &[(&str, String)]) -> Output {
        let args = ["--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script].map(str::to_owned);
        let path = format!("{}:{}", self.at("bin"), std::env::var("PATH").unwrap());
        let mut all = vec![
            ("PATH".to_owned(), path),
            ("GIT_CONFIG_GLOBAL".to_owned(), "/dev/null".to_owned()),
        ];
        all.extend(env.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        command::run("bash".into(), &args, &all, "", Duration::from_mins(1))
            .await
            .unwrap()
    }

    /// The same; it must succeed.
    async fn done(&self, script: &str, env: &[(&str, String)]) -> String {
        let output = self.shell(script, env).await;
        assert_eq!(output.code, Some(0), "{script}\n{output:?}");
        output.stdout
    }

    /// A script in the clone.
    fn within(&self, script: &str) -> String {
        format!("cd {}\n{script}", self.at("clone"))
    }
}

/// A change that is refused.
const BROKEN: &str = "sed -i 's/kind: Retrieval/kind: Retrievals/' deploy/support-agent.yaml";

/// The shell scripts of the action's steps, in order.
fn steps() -> Vec<String> {
    let action: Value = documents(&file(".github/actions/plan/action.yml")).remove(0);
    let steps = action["runs"]["steps"].as_array().unwrap();
    steps
        .iter()
        .map(|step| step["run"].as_str().unwrap().to_owned())
        .collect()
}

pub(crate) async fn the_steps_of_the_action_for_pull_requests_run_as_written(_: &Suite) {
    let review = Review::new("action", "deploy", "--depth=1").await;
    // What GitHub's own program would be asked.
    let gh = format!(
        "echo \"$*\" >>{0}/calls\ncase \"$*\" in *--jq*) cat {0}/ids;; esac",
        review.0.display()
    );
    review.stub("gh", &gh).await;
    std::fs::write(review.0.join("ids"), "").unwrap();
    let env = [
        ("GITHUB_OUTPUT", review.at("output")),
        ("GITHUB_STEP_SUMMARY", review.at("summary")),
        ("RUNNER_TEMP", review.at("")),
        ("BINARY", find_binary().unwrap().display().to_string()),
        ("BASE", String::new()),
        ("PULL_REQUEST_BASE", "main".to_owned()),
        ("MANIFESTS", "deploy".to_owned()),
        ("ARGUMENTS", "--nodes graviton=4:16,64Gi".to_owned()),
        ("REFERENCE", "origin/main".to_owned()),
        ("COMMENTS", "repos/acme/agents/issues/7/comments".to_owned()),
        ("ONE", "repos/acme/agents/issues/comments".to_owned()),
        ("MARKDOWN", review.at("tiercel-plan.md")),
    ];
    let steps = steps();
    assert_eq!(steps.len(), 5);
    let done = async |script: &str| review.done(&review.within(script), &env).await;
    for step in &steps[..4] {
        done(step).await;
    }
    let output = || review.text("output");
    assert!(output().contains("reference=origin/main\n"), "{}", output());
    assert!(output().contains("refused=false\nchanged=true\n"), "{}", output());
    let summary = review.text("summary");
    assert!(
        summary.starts_with("<!-- tiercel plan -->\n### tiercel plan: 1 pipeline changes"),
        "{summary}"
    );
    std::fs::write(review.0.join("ids"), "41\n42\n").unwrap();
    done(&steps[3]).await;
    let calls = review.text("calls");
    let calls: Vec<&str> = calls.lines().filter(|call| call.contains("--method")).collect();
    let body = format!("--field body=@{} --silent", review.at("tiercel-plan.md"));
    let expected = [
        format!("api --method POST repos/acme/agents/issues/7/comments {body}"),
        format!("api --method PATCH repos/acme/agents/issues/comments/42 {body}"),
    ];
    assert_eq!(calls, expected);

    // Refused: the plan is told all the same, and the last step fails.
    done(BROKEN).await;
    done(&steps[2]).await;
    assert!(output().ends_with("refused=true\nchanged=false\n"), "{}", output());
    assert_eq!(review.shell(&steps[4], &env).await.code, Some(1));
    // What is not understood fails at once.
    let wrong = format!("ARGUMENTS=--nonsense\n{}", review.within(&steps[2]));
    assert_eq!(review.shell(&wrong, &env).await.code, Some(2));
}

/// The job that the documentation shows.
fn job() -> Value {
    let page = file("docs/how-to/plan.md");
    let (_, section) = page.split_once("\n## GitLab\n").unwrap();
    let (_, block) = section.split_once("```yaml\n").unwrap();
    let (yaml, _) = block.split_once("```").unwrap();
    documents(yaml).remove(0)["tiercel plan"].take()
}

/// The texts of a list.
fn texts(list: &Value) -> Vec<&str> {
    let texts = list.as_array().unwrap().iter();
    texts.map(|text| text.as_str().unwrap()).collect()
}

pub(crate) async fn the_job_for_merge_requests_runs_as_written(_: &Suite) {
    let job = job();
    // One shell runs all of it, so that what one line sets the next one has.
    let script = texts(&job["script"]).join("\n");
    let variables = job["variables"].as_object().unwrap();
    let variable = |name: &str| variables.get(name).and_then(Value::as_str);
    // 0 is all commits. The base of a merge request is more than one away.
    let depth = if variable("GIT_DEPTH") == Some("0") {
        ""
    } else {
        "--depth=1"
    };
    let review = Review::new("job", "deploy/pools", depth).await;
    let (root, clone) = (review.0.display(), review.at("clone"));
    let binary = find_binary().unwrap().display().to_string();
    let cargo = format!(
        "echo \"cargo $*\" >>{root}/calls\nmkdir -p \"$CARGO_HOME/bin\" && ln -s {binary} \"$CARGO_HOME/bin/tiercel\""
    );
    review.stub("cargo", &cargo).await;
    let curl = format!(
        "echo \"curl $*\" >>{root}/calls\n\
         for word in \"$@\"; do case \"$word\" in body@*) cat \"${{word#body@}}\" >{root}/note;; esac; done"
    );
    review.stub("curl", &curl).await;
    let base = format!("git -C {} rev-parse main", review.at("origin"));
    let base = review.done(&base, &[]).await.trim().to_owned();
    let mut env = vec![
        ("CI_MERGE_REQUEST_DIFF_BASE_SHA", base),
        ("CI_API_V4_URL", "https://gitlab.example.com/api/v4".to_owned()),
        ("CI_PROJECT_ID", "7".to_owned()),
        ("CI_MERGE_REQUEST_IID", "42".to_owned()),
        ("PLAN_TOKEN", String::new()),
    ];
    for (name, value) in variables {
        let value = value.as_str().unwrap().replace("$CI_PROJECT_DIR", &clone);
        env.push((name.as_str(), value));
    }
    let calls = || {
        let calls = review.text("calls").lines().map(str::to_owned).collect::<Vec<_>>();
        std::fs::write(review.0.join("calls"), "").unwrap();
        calls
    };
    let title = "### tiercel plan: 1 pipeline changes";

    // Without a token the plan is in the log and in the artifacts.
    let told = review.done(&review.within(&script), &env).await;
    assert!(told.contains(title), "{told}");
    let built = "cargo install --locked --git https://github.com/tiercel/tiercel --bin tiercel tiercel";
    assert_eq!(calls(), [built]);
    for kept in [&job["artifacts"]["paths"], &job["cache"]["paths"]]
        .into_iter()
        .flat_map(texts)
    {
        assert!(review.0.join("clone").join(kept).exists(), "{kept} is not there");
    }

    // With one it is a note as well, and nothing is built twice.
    env.retain(|(name, _)| *name != "PLAN_TOKEN");
    env.push(("PLAN_TOKEN", "given".to_owned()));
    review.done(&review.within(&script), &env).await;
    let noted = "curl --fail --silent --show-error --output /dev/null --header PRIVATE-TOKEN: given --data-urlencode \
                 body@plan.md https://gitlab.example.com/api/v4/projects/7/merge_requests/42/notes";
    assert_eq!(calls(), [noted]);
    let note = review.text("note");
    assert!(note.contains(title), "{note}");

    // Refused: the plan is told all the same, and the job fails.
    review.done(&review.within(BROKEN), &[]).await;
    let refused = review.shell(&review.within(&script), &env).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert_eq!(calls(), [noted]);
    let note = review.text("note");
    assert!(note.contains("is 'Retrievals', but must be one of"), "{note}");
}
