//! The documentation: every link leads somewhere, every page is in the book, every manifest is understood.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tiercel::api::{ComputePool, TieredPipeline};

use crate::programs::{documents, files, read, root};
use crate::samples::assert_understood;

/// Pages of the documentation and of the repository's front.
fn pages() -> Vec<PathBuf> {
    let mut pages = files("docs", "md");
    let front = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
    ];
    pages.extend(front.iter().map(|name| root().join(name)));
    pages.extend(["tiercel", "tiercel-crds"].map(|chart| root().join(format!("charts/{chart}/README.md"))));
    assert!(pages.len() > 45, "{} pages", pages.len());
    pages
}

fn name(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// A page without what stands in code blocks and code spans, line by line.
fn prose(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            lines.push(String::new());
        } else if fenced {
            lines.push(String::new());
        } else {
            // Every second part stands between backquotes.
            let parts = line.split('`').enumerate();
            lines.push(parts.map(|(at, part)| if at % 2 == 0 { part } else { "x" }).collect());
        }
    }
    assert!(!fenced, "a code block does not end");
    lines
}

/// Targets of links and images with their line.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(prose(text)) {
        for part in line.split("](").skip(1) {
            let target = part.split(')').next().unwrap_or_default();
            found.push((number, target.split_whitespace().next().unwrap_or_default().to_owned()));
        }
    }
    found
}

/// The anchors of a page's headings, as code hosts and mdBook make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut fenced = false;
    let mut anchors = BTreeSet::new();
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        let Some(heading) = line.strip_prefix('#').filter(|_| !fenced) else {
            continue;
        };
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        anchors.insert(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
    }
    anchors
}

/// What is wrong with the links of one page.
fn broken(page: &Path, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (line, target) in links(text) {
        if target.starts_with("https://") {
            continue;
        }
        let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
        let found = if file.is_empty() {
            page.to_owned()
        } else {
            page.with_file_name("").join(file)
        };
        if !found.exists() {
            faults.push(format!("{}:{line}: {target} leads nowhere", name(page)));
        } else if !anchor.is_empty() {
            let other = std::fs::read_to_string(&found).unwrap();
            if !anchors(&other).contains(anchor) {
                faults.push(format!("{}:{line}: no heading makes #{anchor}", name(page)));
            }
        }
        // The book holds nothing else.
        let docs = root().join("docs").canonicalize().unwrap();
        let leaves = found.canonicalize().is_ok_and(|found| !found.starts_with(&docs));
        if leaves && page.starts_with(root().join("docs")) {
            faults.push(format!("{}:{line}: {target} leaves the book", name(page)));
        } else if file.ends_with("README.md") && page.starts_with(root().join("docs")) && !page.ends_with("SUMMARY.md")
        {
            faults.push(format!(
                "{}:{line}: {target} is index.html in the book: call the page index.md",
                name(page)
            ));
        }
    }
    faults
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut faults = Vec::new();
    let mut count = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        count += links(&text).len();
        faults.extend(broken(&page, &text));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(count > 150, "only {count} links were looked at");
    // The check sees what it is for.
    let text = "# A heading: `code`, and more\n[a](#a-heading-code-and-more) [b](#b) [c](gone.md) [d](concepts.md#gone) [e](../README.md) [g](README.md)\n`[f](gone.md)`\n";
    // The page is not there, so it is looked at beside one that is.
    let faults: Vec<String> = broken(&root().join("docs/concepts.md"), text);
    assert_eq!(
        faults,
        [
            "docs/concepts.md:2: no heading makes #a-heading-code-and-more",
            "docs/concepts.md:2: no heading makes #b",
            "docs/concepts.md:2: gone.md leads nowhere",
            "docs/concepts.md:2: no heading makes #gone",
            "docs/concepts.md:2: ../README.md leaves the book",
            "docs/concepts.md:2: README.md is index.html in the book: call the page index.md",
        ]
    );
    assert!(anchors(text).contains("a-heading-code-and-more"));
}

#[test]
fn every_page_is_in_the_book_once() {
    let summary = read("docs/SUMMARY.md");
    let listed: Vec<String> = links(&summary).into_iter().map(|(_, target)| target).collect();
    let unique: BTreeSet<&String> = listed.iter().collect();
    assert_eq!(unique.len(), listed.len(), "a page is listed twice");
    for path in files("docs", "md") {
        let page = path.strip_prefix(root().join("docs")).unwrap().display().to_string();
        assert!(
            page == "SUMMARY.md" || listed.contains(&page),
            "docs/{page} is not in docs/SUMMARY.md"
        );
    }
}

#[test]
fn manifests_in_the_documentation_are_understood() {
    let mut found = 0;
    for path in files("docs", "md").into_iter().chain([root().join("README.md")]) {
        let text = std::fs::read_to_string(&path).unwrap();
        for block in text.split("```yaml\n").skip(1) {
            let block = block.split("```").next().unwrap();
            // A block inside a list is indented.
            let indent = block.len() - block.trim_start_matches(' ').len();
            let lines = block
                .lines()
                .map(|line| line.get(indent.min(line.len())..).unwrap_or_default());
            let yaml = lines.collect::<Vec<_>>().join("\n");
            for document in documents(&yaml) {
                match document["kind"].as_str() {
                    Some("ComputePool") => assert_understood::<ComputePool>(&name(&path), &document),
                    Some("TieredPipeline") => assert_understood::<TieredPipeline>(&name(&path), &document),
                    _ => continue,
                }
                found += 1;
            }
        }
    }
    assert!(found >= 11, "only {found} manifests");
}

/// `sh` blocks. A scenario runs those of the README; `blocks` says who runs the others.
fn commands(page: &str) -> Vec<String> {
    let text = read(page);
    let blocks = text
        .split("```sh\n")
        .skip(1)
        .map(|block| block.split("```").next().unwrap().to_owned());
    blocks.collect()
}

#[test]
fn the_quick_start_types_what_the_readme_types() {
    let (quick, readme) = (commands("docs/quick-start.md"), commands("README.md"));
    assert_eq!(readme.len(), 2);
    assert_eq!(quick[..2], readme, "a scenario runs the commands of the README only");
}
