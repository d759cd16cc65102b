//! Pure: query templates of administrators. Names of namespaces, pipelines, stages and pods take the place of placeholders
//! inside the values of matchers, escaped, and every selector is bound to the namespace that is asked about.

use std::fmt::Write as _;
use std::ops::Range;

use super::grammar::{self, Comparison, Error};

/// What stands for the pods of a stage that has none: no pod can have this name.
const NO_POD: &str = "-";

/// What may be filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placeholder {
    Namespace,
    Pipeline,
    Stage,
    Pods,
}

impl Placeholder {
    const ALL: [(&'static str, Self); 4] = [
        ("namespace", Self::Namespace),
        ("pipeline", Self::Pipeline),
        ("stage", Self::Stage),
        ("pods", Self::Pods),
    ];
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Name { of: Placeholder, in_regex: bool },
}

/// What a query asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names<'a> {
    /// The namespace of pipeline and pods.
    pub namespace: &'a str,
    /// The pipeline; empty where a query is asked for all stages of a namespace at once.
    pub pipeline: &'a str,
    /// The stage; empty likewise.
    pub stage: &'a str,
    /// Names of the Ready pods.
    pub pods: &'a [&'a str],
}

/// For whom a query answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Per {
    /// For each pod: asked once for all stages of a namespace.
    Pod,
    /// For a stage as a whole, such as the length of its queue at a broker.
    Stage,
}

/// A checked template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    query: Vec<Piece>,
    /// Each selector of the query by itself, whose samples say how old the query's answer is.
    selectors: Vec<Vec<Piece>>,
}

impl Template {
    /// Checks a template. `namespace_label` is the label that holds the namespace in the server's series.
    ///
    /// # Errors
    /// The text is no query, a placeholder stands where it must not, or a selector is not bound to the namespace.
    pub fn parse(text: &str, namespace_label: &str, per: Per) -> Result<Self, Error> {
        let text = text.trim();
        let parsed = grammar::parse(text)?;
        let refuse = |at: usize, problem: String| Error {
            at: text.get(..at).unwrap_or_default().chars().count() + 1,
            problem,
        };
        let Some(first) = parsed.selectors.first() else {
            return Err(refuse(0, "a query must select series".to_owned()));
        };
        if parsed.selectors.len() > 8 {
            return Err(refuse(
                first.span.start,
                "a query has at most 8 selectors: use a recording rule".to_owned(),
            ));
        }
        for inside in &parsed.strings {
            if let Some((place, ..)) = placeholders(text, inside).next() {
                let problem = "placeholders stand in values of labels only, such as pod=~\"$pods\"";
                return Err(refuse(place.start, problem.to_owned()));
            }
        }
        let mut places = Vec::new();
        for selector in &parsed.selectors {
            let bound = selector.matchers.iter().any(|matcher| {
                matcher.label == namespace_label
                    && matcher.comparison == Comparison::Equal
                    && matcher.quote == b'"'
                    && matches!(slice(text, &matcher.value), "$namespace" | "${namespace}")
            });
            if !bound {
                return Err(refuse(
                    selector.span.start,
                    format!(
                        "every selector must hold {namespace_label}=\"$namespace\", or a pipeline could read the series \
                         of other namespaces"
                    ),
                ));
            }
            for matcher in &selector.matchers {
                let in_regex = matches!(matcher.comparison, Comparison::Matches | Comparison::MatchesNot);
                for (place, name) in placeholders(text, &matcher.value) {
                    let of = fits(name, matcher.comparison, matcher.quote, per)
                        .map_err(|problem| refuse(place.start, problem))?;
                    places.push((place, Piece::Name { of, in_regex }));
                }
            }
        }
        places.sort_by_key(|(place, _)| place.start);
        Ok(Self {
            query: pieces(text, &(0..text.len()), &places),
            selectors: parsed
                .selectors
                .iter()
                .map(|selector| pieces(text, &selector.span, &places))
                .collect(),
        })
    }

    /// The query about `names`.
    pub(super) fn query(&self, names: &Names<'_>) -> String {
        rendered(&self.query, names)
    }

    /// Each selector of the query about `names`.
    pub(super) fn selectors(&self, names: &Names<'_>) -> impl Iterator<Item = String> {
        self.selectors.iter().map(|pieces| rendered(pieces, names))
    }

    /// How many selectors the query has.
    pub(super) fn selectors_len(&self) -> usize {
        self.selectors.len()
    }
}

/// The placeholder that a name after `$` is, if it may stand in such a value.
fn fits(name: &str, comparison: Comparison, quote: u8, per: Per) -> Result<Placeholder, String> {
    let known = Placeholder::ALL.into_iter().find(|(known, _)| *known == name);
    let Some((_, of)) = known else {
        return Err(format!(
            "${name} is no placeholder: use $namespace, $pipeline, $stage or $pods"
        ));
    };
    if quote != b'"' {
        return Err(format!("put the value with ${name} in double quotes"));
    }
    if of == Placeholder::Pods && comparison != Comparison::Matches {
        return Err("$pods is a list: compare with =~".to_owned());
    }
    if per == Per::Pod && matches!(of, Placeholder::Pipeline | Placeholder::Stage) {
        return Err(format!(
            "a query per pod is asked once for all stages of a namespace: use $pods instead of ${name}"
        ));
    }
    Ok(of)
}

/// Every `$name` and `${name}` within `range`, with its place. A `$` before anything else ends a regular expression.
fn placeholders<'a>(text: &'a str, range: &Range<usize>) -> impl Iterator<Item = (Range<usize>, &'a str)> {
    let (inside, start) = (slice(text, range), range.start);
    inside.match_indices('$').filter_map(move |(at, _)| {
        let rest = inside.get(at + 1..)?;
        let (braced, rest) = rest.strip_prefix('{').map_or((false, rest), |rest| (true, rest));
        if !rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            return None;
        }
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        if braced && !rest.starts_with('}') {
            return None;
        }
        let length = 1 + name.len() + if braced { 2 } else { 0 };
        Some((start + at..start + at + length, name))
    })
}

fn slice<'a>(text: &'a str, range: &Range<usize>) -> &'a str {
    text.get(range.clone()).unwrap_or_default()
}

/// The text of `span` cut at the places that lie in it.
fn pieces(text: &str, span: &Range<usize>, places: &[(Range<usize>, Piece)]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut at = span.start;
    for (place, piece) in places
        .iter()
        .filter(|(place, _)| span.start <= place.start && place.end <= span.end)
    {
        pieces.push(Piece::Text(slice(text, &(at..place.start)).to_owned()));
        pieces.push(piece.clone());
        at = place.end;
    }
    pieces.push(Piece::Text(slice(text, &(at..span.end)).to_owned()));
    pieces
}

fn rendered(pieces: &[Piece], names: &Names<'_>) -> String {
    let mut text = String::new();
    for piece in pieces {
        let (of, in_regex) = match piece {
            Piece::Text(part) => {
                text.push_str(part);
                continue;
            }
            Piece::Name { of, in_regex } => (*of, *in_regex),
        };
        let mut push = |name: &str| push_escaped(&mut text, name, in_regex);
        match of {
            Placeholder::Namespace => push(names.namespace),
            Placeholder::Pipeline => push(names.pipeline),
            Placeholder::Stage => push(names.stage),
            Placeholder::Pods => {
                text.push_str("(?:");
                let names = if names.pods.is_empty() { &[NO_POD] } else { names.pods };
                for (index, name) in names.iter().enumerate() {
                    if index > 0 {
                        text.push('|');
                    }
                    push_escaped(&mut text, name, true);
                }
                text.push(')');
            }
        }
    }
    text
}

/// Writes a name so that it means itself inside double quotes, and inside a regular expression there.
fn push_escaped(text: &mut String, name: &str, in_regex: bool) {
    for c in name.chars() {
        match c {
            '\\' if in_regex => text.push_str(r"\\\\"),
            '.' | '+' | '*' | '?' | '(' | ')' | '|' | '[' | ']' | '{' | '}' | '^' | '$' if in_regex => {
                text.push_str(r"\\");
                text.push(c);
            }
            '\\' => text.push_str(r"\\"),
            '"' => text.push_str("\\\""),
            c if c.is_control() || !c.is_ascii() => {
                // Writing to a String cannot fail.
                let _ = write!(text, "\\U{:08x}", u32::from(c));
            }
            c => text.push(c),
        }
    }
}

/// Whether every selector of a rendered query holds `label="namespace"`, and what its strings mean.
#[cfg(test)]
pub(super) fn is_bound(query: &str, label: &str, namespace: &str) -> Result<bool, Error> {
    let parsed = grammar::parse(query)?;
    Ok(parsed.selectors.iter().all(|selector| {
        selector.matchers.iter().any(|matcher| {
            matcher.label == label
                && matcher.comparison == Comparison::Equal
                && unquoted(slice(query, &matcher.value)) == namespace
        })
    }))
}

/// What a double-quoted text means.
#[cfg(test)]
fn unquoted(text: &str) -> String {
    let mut meant = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, (c == '\\').then(|| chars.next()).flatten()) {
            ('\\', Some('U')) => {
                let code: String = chars.by_ref().take(8).collect();
                meant.push(char::from_u32(u32::from_str_radix(&code, 16).unwrap()).unwrap());
            }
            ('\\', escaped) => meant.push(escaped.unwrap()),
            (c, _) => meant.push(c),
        }
    }
    meant
}
