//! Pure: objects and lines without what may be secret, for people who pass them on.
//!
//! Values that are often secret (environment, headers, foreign annotations) go, whatever they are. Everywhere else what looks like
//! a secret goes: what stands behind a telling name, credentials and queries of URLs, tokens of known forms, long random words.

use serde_json::Value;

use crate::api::labels;

/// What stands for a secret.
pub const REDACTED: &str = "REDACTED";

/// Parts of names whose values are secret.
const TELLING: [&str; 16] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "accesskey",
    "access_key",
    "access-key",
    "privatekey",
    "private-key",
    "credential",
    "authorization",
];
/// Words that announce a secret.
const ANNOUNCING: [&str; 3] = ["bearer", "basic", "apikey"];
/// Beginnings of tokens.
const TOKENS: [&str; 17] = [
    "sk-",
    "sk_",
    "pk_",
    "rk_",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "hf_",
    "xoxb-",
    "xoxp-",
    "AKIA",
    "ASIA",
    "AIza",
    "eyJ",
    "npm_",
];
/// Annotations that are kept: the key, or its prefix up to the slash.
const KEPT: [&str; 8] = [
    labels::PAUSE,
    labels::APPLIED,
    labels::PRICE_SOURCE,
    "deployment.kubernetes.io/",
    "kubectl.kubernetes.io/restartedAt",
    "kubectl.kubernetes.io/default-container",
    "meta.helm.sh/",
    "app.kubernetes.io/",
];
/// Shortest word that is taken for random.
const RANDOM_MIN: usize = 24;

/// An object without what may be secret, and without what nobody reads.
pub fn object(value: &mut Value) {
    node(value, "");
}

/// One member of an object, under its name.
fn node(value: &mut Value, name: &str) {
    match value {
        Value::Object(members) => {
            members.remove("managedFields");
            for (key, value) in members.iter_mut() {
                match (name, key.as_str()) {
                    ("annotations", _) => annotation(key, value),
                    // Amounts and selectors are no secrets, and their keys may tell of tokens per second.
                    ("limits" | "requests" | "matchLabels" | "nodeSelector", _) => {}
                    (_, key) if is_telling(key) && value.is_string() => hide(value),
                    (_, key) => node(value, key),
                }
            }
        }
        Value::Array(items) => match name {
            "env" | "httpHeaders" => {
                for item in items {
                    if let Some(value) = item.get_mut("value") {
                        hide(value);
                    }
                    node(item, "");
                }
            }
            "command" | "args" => arguments(items),
            _ => items.iter_mut().for_each(|item| node(item, name)),
        },
        Value::String(text) => *text = line(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn hide(value: &mut Value) {
    if value.as_str() != Some("") {
        *value = Value::from(REDACTED);
    }
}

fn annotation(key: &str, value: &mut Value) {
    let kept = KEPT
        .iter()
        .any(|kept| key == *kept || (kept.ends_with('/') && key.starts_with(kept)));
    if kept {
        node(value, "");
    } else {
        hide(value);
    }
}

/// Words of a command line: what follows a telling flag goes, too.
fn arguments(items: &mut [Value]) {
    let mut follows = false;
    for item in items {
        let Some(text) = item.as_str() else { continue };
        let flag = text.starts_with('-');
        if follows && !flag {
            hide(item);
            follows = false;
            continue;
        }
        follows = flag && !text.contains('=') && is_telling(text);
        *item = Value::from(line(text));
    }
}

/// Whether a name tells that its value is secret. Names of references to secrets are none.
fn is_telling(name: &str) -> bool {
    let name = name.trim_start_matches('-').to_ascii_lowercase();
    let reference = [
        "secretname",
        "secretref",
        "secretkeyref",
        "tokenfile",
        "token-file",
        "automountserviceaccounttoken",
    ];
    let counts = name.contains("tokens");
    !counts && !reference.contains(&name.as_str()) && TELLING.iter().any(|word| name.contains(word))
}

/// A text for people, such as a message or a line of a log.
pub fn line(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    let mut announced = false;
    while !rest.is_empty() {
        let gap = rest.find(|letter| !is_gap(letter)).unwrap_or(rest.len());
        let (between, after) = rest.split_at(gap);
        clean.push_str(between);
        let end = after.find(is_gap).unwrap_or(after.len());
        let (word, after) = after.split_at(end);
        rest = after;
        if word.is_empty() {
            continue;
        }
        let plain = word.trim_end_matches([':', '=']).to_ascii_lowercase();
        if plain.is_empty() {
            // `"name":"value"`: what is announced is still to come.
            clean.push_str(word);
            continue;
        }
        if announced && !ANNOUNCING.contains(&plain.as_str()) {
            clean.push_str(REDACTED);
            announced = false;
            continue;
        }
        // `token: abc`, `"password":"abc"`, `Bearer abc`, `--token abc`.
        let assigns = after.trim_start_matches(['"', '\'']).starts_with([':', '=']) || word.ends_with([':', '=']);
        let flag = word.starts_with("--") && !word.contains('=');
        announced = ANNOUNCING.contains(&plain.as_str()) || (is_telling(&plain) && (assigns || flag));
        clean.push_str(&self::word(word));
    }
    clean
}

/// What stands between words. Signs of URLs and tokens are none.
fn is_gap(letter: char) -> bool {
    letter.is_whitespace()
        || matches!(
            letter,
            '"' | '\'' | '`' | ',' | ';' | '(' | ')' | '[' | ']' | '{' | '}' | '<' | '>' | '|'
        )
}

fn word(word: &str) -> String {
    if let Some((scheme, rest)) = word.split_once("://") {
        return format!("{scheme}://{}", address(rest));
    }
    if let Some((name, value)) = word.split_once('=').or_else(|| word.split_once(':'))
        && !value.is_empty()
        && (is_telling(name) || looks_secret(value))
    {
        let sign = word.get(name.len()..=name.len()).unwrap_or("=");
        return format!("{name}{sign}{REDACTED}");
    }
    if looks_secret(word) {
        REDACTED.to_owned()
    } else {
        word.to_owned()
    }
}

/// Of a URL's rest: no user, no values of the query, no fragment, no secret in the path.
fn address(rest: &str) -> String {
    let (rest, fragment) = rest.split_once('#').map_or((rest, false), |(rest, _)| (rest, true));
    let (rest, query) = rest.split_once('?').map_or((rest, false), |(rest, _)| (rest, true));
    let (host, path) = rest
        .split_once('/')
        .map_or((rest, None), |(host, path)| (host, Some(path)));
    let host = match host.rsplit_once('@') {
        Some((_, host)) => format!("{REDACTED}@{host}"),
        None => host.to_owned(),
    };
    let path = path.map(|path| {
        let parts = path
            .split('/')
            .map(|part| if looks_secret(part) { REDACTED } else { part });
        format!("/{}", parts.collect::<Vec<_>>().join("/"))
    });
    let query = if query { format!("?{REDACTED}") } else { String::new() };
    let fragment = if fragment {
        format!("#{REDACTED}")
    } else {
        String::new()
    };
    format!("{host}{}{query}{fragment}", path.unwrap_or_default())
}

/// A token of a known form, or a long word without sense. Digests, UIDs and names of objects are none.
fn looks_secret(word: &str) -> bool {
    let word = word.trim_matches(['.', ':', '/']);
    if TOKENS.iter().any(|token| word.starts_with(token)) && word.len() >= 12 {
        return true;
    }
    let hex = word.chars().all(|letter| letter.is_ascii_hexdigit() || letter == '-');
    let random = word
        .chars()
        .all(|letter| letter.is_ascii_alphanumeric() || "+/=_-".contains(letter));
    let has = |test: fn(char) -> bool| word.chars().any(test);
    let mixed = has(|letter| letter.is_ascii_digit())
        && has(|letter| letter.is_ascii_lowercase())
        && has(|letter| letter.is_ascii_uppercase());
    word.len() >= RANDOM_MIN && random && mixed && !hex && !word.contains('/')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_lose_what_looks_secret_and_nothing_else() {
        for (text, clean) in [
            (
                "pod chat--generate--l4-7d9f-abcde is Ready",
                "pod chat--generate--l4-7d9f-abcde is Ready",
            ),
            ("token: abc", "token: REDACTED"),
            ("password=hunter2 user=ann", "password=REDACTED user=ann"),
            (
                r#"{"apiKey":"abc","model":"qwen"}"#,
                r#"{"apiKey":"REDACTED","model":"qwen"}"#,
            ),
            ("Authorization: Bearer abc.def", "Authorization: Bearer REDACTED"),
            (
                "GET https://ann:pw@host:8/v1/x?key=1#f",
                "GET https://REDACTED@host:8/v1/x?REDACTED#REDACTED",
            ),
            ("--api-key abc --port 80", "--api-key REDACTED --port 80"),
            ("used hf_abcdefgh1234 for it", "used REDACTED for it"),
            (
                "sha256:9f86d081884c7d659a2feaa0c55ad015",
                "sha256:9f86d081884c7d659a2feaa0c55ad015",
            ),
            ("2000 tokens: 5 per second", "2000 tokens: 5 per second"),
            (
                "uid 0b1c2d3e-aaaa-bbbb-cccc-0123456789ab",
                "uid 0b1c2d3e-aaaa-bbbb-cccc-0123456789ab",
            ),
            ("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct"),
            ("got dGhpc0lzQVZlcnlMb25nU2VjcmV0MTIz", "got REDACTED"),
            ("", ""),
        ] {
            assert_eq!(line(text), clean);
        }
    }

    #[test]
    fn objects_keep_their_shape() {
        let mut pod = json!({
            "metadata": {"name": "a", "managedFields": [1], "annotations": {"tiercel.dev/pause": "all", "team/notes": "x"},
                "labels": {"app": "a"}},
            "spec": {"automountServiceAccountToken": false, "containers": [{
                "env": [{"name": "A", "value": "b"}, {"name": "C", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                "args": ["--model", "qwen", "--hf-token", "abc", "--max-tokens", "512", "--password=x"],
                "readinessProbe": {"httpGet": {"httpHeaders": [{"name": "X", "value": "y"}]}},
                "resources": {"limits": {"nvidia.com/gpu": "1"}},
            }]},
        });
        object(&mut pod);
        assert_eq!(
            pod,
            json!({
                "metadata": {"name": "a", "annotations": {"tiercel.dev/pause": "all", "team/notes": "REDACTED"},
                    "labels": {"app": "a"}},
                "spec": {"automountServiceAccountToken": false, "containers": [{
                    "env": [{"name": "A", "value": "REDACTED"}, {"name": "C", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                    "args": ["--model", "qwen", "--hf-token", "REDACTED", "--max-tokens", "512", "--password=REDACTED"],
                    "readinessProbe": {"httpGet": {"httpHeaders": [{"name": "X", "value": "REDACTED"}]}},
                    "resources": {"limits": {"nvidia.com/gpu": "1"}},
                }]},
            })
        );
    }
}
