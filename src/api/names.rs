//! Names of children: derived, bounded, collision-free. No child's name is formed elsewhere.

use sha2::{Digest, Sha256};

/// Longest name of a Deployment: 63 for a pod's host name, minus `-` and 10 characters of the ReplicaSet's hash.
pub const DEPLOYMENT_NAME_MAX: usize = 52;
/// Longest name of a Service: a DNS label.
pub const SERVICE_NAME_MAX: usize = 63;
/// 13 characters of base 32 are 65 bits: no collision among 10^7 names.
const HASH_LENGTH: usize = 13;
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Name of the Deployment of one stage on one pool.
pub fn deployment(pipeline: &str, uid: &str, stage: &str, pool: &str) -> String {
    bounded(&[pipeline, stage, pool], uid, DEPLOYMENT_NAME_MAX)
}

/// Name of a stage's Service and PodDisruptionBudget.
pub fn stage(pipeline: &str, uid: &str, stage: &str) -> String {
    bounded(&[pipeline, stage], uid, SERVICE_NAME_MAX)
}

/// Name of a pipeline's ServiceAccount.
pub fn service_account(pipeline: &str, uid: &str) -> String {
    bounded(&[pipeline], uid, SERVICE_NAME_MAX)
}

/// What the names of all children of a pipeline start with. Children of others may, too.
pub fn prefix(pipeline: &str) -> String {
    let shortest = DEPLOYMENT_NAME_MAX.min(SERVICE_NAME_MAX) - HASH_LENGTH - 1;
    let head: String = pipeline
        .chars()
        .map(|c| if c == '.' { '-' } else { c })
        .take(shortest)
        .collect();
    head.trim_end_matches('-').to_owned()
}

/// Identity of a stage as a label value: stable for the life of the pipeline, independent of any other field.
pub fn stage_id(uid: &str, stage: &str) -> String {
    hash(&[uid, stage])
}

/// Identity of a stage on a pool as a label value.
pub fn variant_id(uid: &str, stage: &str, pool: &str) -> String {
    hash(&[uid, stage, pool])
}

/// Environment variable through which a stage finds a successor: `tool-use` becomes `TIERCEL_STAGE_TOOL_USE_URL`.
pub fn stage_url_variable(stage: &str) -> String {
    format!("TIERCEL_STAGE_{}_URL", stage.to_ascii_uppercase().replace('-', "_"))
}

/// 64 bits of identity for the core, which knows no names.
pub fn key(parts: &[&str]) -> u64 {
    digest(parts)
        .iter()
        .take(8)
        .fold(0, |key, byte| key << 8 | u64::from(*byte))
}

/// The parts joined by two dashes, which no part contains: `a-b` + `c` and `a` + `b-c` stay apart. A hash of all parts and
/// the UID stands in where that is too long, and after a first part of two letters, because DNS libraries take `xx--…` for
/// an internationalised name.
fn bounded(parts: &[&str], uid: &str, max: usize) -> String {
    let plain = parts.join("--");
    let internationalised = parts.len() > 1 && parts.first().is_some_and(|first| first.len() == 2);
    let separable = parts.iter().all(|part| !part.contains("--") && !part.contains('.'));
    if plain.len() <= max && separable && !internationalised {
        return plain;
    }
    let mut hashed = vec![uid];
    hashed.extend_from_slice(parts);
    let suffix = hash(&hashed);
    let keep = max - HASH_LENGTH - 1;
    let prefix: String = parts
        .join("-")
        .chars()
        .map(|c| if c == '.' { '-' } else { c })
        .take(keep)
        .collect();
    format!("{}-{suffix}", prefix.trim_end_matches('-'))
}

fn hash(parts: &[&str]) -> String {
    let digest = digest(parts);
    let mut bits = digest
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    let mut text = String::with_capacity(HASH_LENGTH);
    for _ in 0..HASH_LENGTH {
        let index = bits
            .by_ref()
            .take(5)
            .fold(0usize, |index, bit| index << 1 | usize::from(bit));
        text.push(BASE32.get(index).copied().map_or('a', char::from));
    }
    text
}

/// Length-prefixed, so that no two lists of parts hash alike.
fn digest(parts: &[&str]) -> [u8; 32] {
    let mut sha = Sha256::new();
    for part in parts {
        sha.update((part.len() as u64).to_be_bytes());
        sha.update(part.as_bytes());
    }
    sha.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn short_names_read_as_written() {
        assert_eq!(deployment("rag", "u1", "guard", "arm"), "rag--guard--arm");
        assert_eq!(stage("rag", "u1", "guard"), "rag--guard");
    }

    #[test]
    fn names_with_dashes_cannot_be_confused() {
        assert_ne!(stage("a-b", "u", "c"), stage("a", "u", "b-c"));
        assert_ne!(deployment("a", "u", "b-c", "d"), deployment("a", "u", "b", "c-d"));
    }

    #[test]
    fn all_names_of_a_pipeline_start_with_its_prefix() {
        let long = "p".repeat(37);
        let pipelines = ["rag", "ab", "a.b", "rag-v1.2", &format!("{long}-x"), &"p".repeat(60)];
        for pipeline in pipelines {
            for child in ["guard", &"s".repeat(30)] {
                let names = [
                    deployment(pipeline, "u", child, "pool.eu"),
                    deployment(pipeline, "u", child, "arm"),
                    stage(pipeline, "u", child),
                    service_account(pipeline, "u"),
                ];
                let prefix = prefix(pipeline);
                for name in names {
                    assert!(name.starts_with(&prefix), "{name} does not start with {prefix}");
                }
            }
        }
    }

    #[test]
    fn long_names_stay_within_their_limit_and_keep_their_head() {
        let name = deployment(&"p".repeat(40), "u", &"s".repeat(30), &"x".repeat(63));
        assert_eq!(name.len(), DEPLOYMENT_NAME_MAX);
        assert!(name.starts_with("pppp"));
    }

    #[test]
    fn a_stage_finds_its_successor_by_a_plain_variable() {
        assert_eq!(stage_url_variable("tool-use"), "TIERCEL_STAGE_TOOL_USE_URL");
    }

    #[test]
    fn a_two_letter_pipeline_does_not_read_as_punycode() {
        assert!(stage("ai", "u", "guard").starts_with("ai-guard-"));
    }

    #[test]
    fn a_hundred_thousand_names_do_not_collide() {
        let names: BTreeSet<String> = (0..100_000u32)
            .map(|i| deployment(&"p".repeat(40), &format!("{i:x}"), "stage", "pool"))
            .collect();
        assert_eq!(names.len(), 100_000);
    }

    /// Selectors are immutable: this value must never change between releases.
    #[test]
    fn identities_are_frozen() {
        assert_eq!(stage_id("0b1c", "generate"), "33btfbuznjwby");
        assert_eq!(variant_id("0b1c", "generate", "l4"), "ailpbgx4radi5");
    }
}
