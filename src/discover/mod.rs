//! Pure: pools proposed from the nodes of a cluster. Nodes that are the same to a replica (hardware, instance type, how they are
//! bought) become one pool; what existing pools cover is left out.

mod hardware;
pub mod prices;
mod select;
mod yaml;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use serde::Serialize;

use crate::api::ComputePool;
use crate::api::compute_pool::{ComputePoolSpec, Device, Tier, Toleration, TolerationOperator};
use crate::api::decimal::Decimal;
use crate::api::labels;
use crate::controller::capacity::matches;
use hardware::{Apart, GROUPS, Hardware, labels_of};
use prices::Prices;
pub use yaml::render;

/// Longest name of a pool.
const NAME_MAX: usize = 63;
/// Nodes that a note names.
const NAMED_MAX: usize = 3;

/// Taints that mark hardware or the way it is bought, by key: a pool of such nodes tolerates them. Any other taint keeps the
/// nodes for somebody, which is not for this program to undo.
const HARDWARE_TAINTS: [&str; 13] = [
    "nvidia.com/gpu",
    "amd.com/gpu",
    "aws.amazon.com/neuron",
    "google.com/tpu",
    "habana.ai/gaudi",
    "gpu.intel.com/xe",
    "gpu.intel.com/i915",
    "kubernetes.io/arch",
    "kubernetes.azure.com/scalesetpriority",
    "kubernetes.azure.com/priority",
    "cloud.google.com/gke-spot",
    "karpenter.sh/capacity-type",
    "sku",
];
/// Prefixes of taints that come and go by themselves.
const PASSING: [&str; 5] = [
    "node.kubernetes.io/",
    "node.cloudprovider.kubernetes.io/",
    "karpenter.sh/",
    "ToBeDeletedByClusterAutoscaler",
    "DeletionCandidateOfClusterAutoscaler",
];

/// What is proposed, and what is not.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Proposal {
    /// New pools, by name.
    pub pools: Vec<Proposed>,
    /// Nodes that existing pools cover, by pool.
    pub covered: BTreeMap<String, u32>,
    /// Nodes that are for no pool, by why.
    pub apart: BTreeMap<String, u32>,
}

/// A pool that does not exist yet.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Proposed {
    /// The object. Its price is empty where nobody says what the nodes cost: the API server refuses that.
    pub pool: ComputePool,
    /// The nodes that it would have.
    pub nodes: Vec<String>,
    /// Where its price comes from; `None` where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_source: Option<String>,
    /// What its watts are of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_note: Option<String>,
    /// What somebody should look at.
    pub notes: Vec<String>,
}

impl Proposed {
    /// Whether it says what nodes cost.
    pub const fn is_priced(&self) -> bool {
        self.price_source.is_some()
    }
}

/// Proposes pools for the nodes that no existing pool selects.
pub fn propose(nodes: &[Node], existing: &[ComputePool], prices: &Prices) -> Proposal {
    let mut proposal = Proposal::default();
    let mut groups: BTreeMap<Hardware, Vec<&Node>> = BTreeMap::new();
    // Taints keep replicas off the others, whatever a pool selects.
    let open: Vec<&Node> = nodes
        .iter()
        .filter(|node| {
            !matches!(
                hardware::hardware(node, prices),
                Err(Apart::ControlPlane | Apart::System)
            )
        })
        .collect();
    for node in nodes {
        let covering = existing.iter().find(|pool| {
            let spec = &pool.spec;
            matches(&spec.node_selector, &spec.match_expressions, labels_of(node))
        });
        match (covering, hardware::hardware(node, prices)) {
            (Some(pool), _) => *proposal.covered.entry(pool.name_any()).or_default() += 1,
            (None, Err(why)) => *proposal.apart.entry(Apart::to_string(&why)).or_default() += 1,
            (None, Ok(hardware)) => groups.entry(hardware).or_default().push(node),
        }
    }
    let mut taken: BTreeSet<String> = existing.iter().map(kube::ResourceExt::name_any).collect();
    for (hardware, members) in &groups {
        let name = name(hardware, &groups, &taken);
        proposal.pools.push(proposed(&name, hardware, members, &open, prices));
        taken.insert(name);
    }
    proposal.pools.sort_by_key(|proposed| proposed.pool.name_any());
    proposal
}

fn proposed(name: &str, hardware: &Hardware, members: &[&Node], open: &[&Node], prices: &Prices) -> Proposed {
    let mut notes = Vec::new();
    let picked = select::selector(hardware, members, open);
    notes.extend(picked.note);
    let (tolerations, kept) = tolerations(members);
    if !kept.is_empty() {
        notes.push(format!(
            "nodes carry {}, which the pool does not tolerate: somebody keeps them; add a toleration if they are for pipelines",
            kept.join(", ")
        ));
    }
    if let Some(group) = grown_by(members) {
        notes.push(format!(
            "{group} may add nodes: `elastic.maxNodes` counts those that are still to come"
        ));
    }
    let bought = hardware.bought.capacity_type();
    let price = hardware
        .instance
        .as_ref()
        .and_then(|instance| prices.price(instance, bought));
    let devices = hardware.device.as_ref().and_then(|resource| {
        let counts = || members.iter().map(|node| hardware::devices(node, resource));
        let (least, most) = (counts().min()?, counts().max()?);
        // Boards of nodes that differ are not to be counted.
        (least == most).then_some(most)
    });
    let power = devices.and_then(|devices| prices.power(&hardware.class, devices));
    let mut pool = ComputePool::new(
        name,
        ComputePoolSpec {
            tier: if hardware.device.is_some() {
                Tier::Accelerator
            } else {
                Tier::Cpu
            },
            class: Some(hardware.class.clone()),
            architecture: Some(hardware.architecture),
            node_selector: picked.labels,
            match_expressions: picked.expressions,
            tolerations,
            device: hardware.device.clone().map(|resource_name| Device { resource_name }),
            capacity_type: bought,
            cost_per_node_hour: price.as_ref().map_or_else(Decimal::default, |price| price.cost.clone()),
            power_watts_per_node: power.as_ref().and_then(|power| i32::try_from(power.watts).ok()),
            ..ComputePoolSpec::default()
        },
    );
    if let Some(price) = &price {
        pool.annotations_mut()
            .insert(labels::PRICE_SOURCE.to_owned(), price.source.clone());
    }
    Proposed {
        pool,
        nodes: members.iter().map(|node| node.name_any()).collect(),
        price_source: price.map(|price| price.source),
        power_note: power.map(|power| power.note),
        notes,
    }
}

/// Short, and not taken: the hardware, how it is bought where that is not the rule, the instance type where several have it.
fn name(hardware: &Hardware, groups: &BTreeMap<Hardware, Vec<&Node>>, taken: &BTreeSet<String>) -> String {
    let vendors = ["nvidia-", "amd-", "aws-", "google-", "intel-"];
    let mut base = hardware.class.as_str();
    for vendor in vendors {
        base = base.strip_prefix(vendor).unwrap_or(base);
    }
    let bought = match hardware.bought {
        hardware::Bought::OnDemand => "",
        hardware::Bought::Reserved => "-reserved",
        hardware::Bought::Spot => "-spot",
    };
    let alike = groups
        .keys()
        .filter(|other| other.class == hardware.class && other.bought == hardware.bought)
        .count();
    let further = [hardware.instance.as_deref(), hardware.topology.as_deref()];
    let further: Vec<&str> = further.into_iter().flatten().collect();
    let short = format!("{base}{bought}");
    let long = format!("{base}-{}{bought}", further.join("-"));
    let wanted = legal(if alike > 1 && !further.is_empty() {
        &long
    } else {
        &short
    });
    let mut numbered = (2..).map(|number| {
        let suffix = format!("-{number}");
        format!("{}{suffix}", wanted.get(..NAME_MAX - suffix.len()).unwrap_or(&wanted))
    });
    if taken.contains(&wanted) {
        numbered.find(|name| !taken.contains(name)).unwrap_or(wanted)
    } else {
        wanted
    }
}

/// As names of pools must be: lower-case letters, digits and single dashes, beginning with a letter.
fn legal(text: &str) -> String {
    let mut name = String::new();
    for letter in text.to_ascii_lowercase().chars() {
        let fits = letter.is_ascii_alphanumeric();
        if fits && (!name.is_empty() || letter.is_ascii_alphabetic()) {
            name.push(letter);
        } else if !fits && !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    name.truncate(NAME_MAX);
    let name = name.trim_end_matches('-');
    if name.is_empty() {
        "pool".to_owned()
    } else {
        name.to_owned()
    }
}

/// What replicas tolerate there, and the taints that they do not.
fn tolerations(members: &[&Node]) -> (Vec<Toleration>, Vec<String>) {
    let mut tolerated: Vec<Toleration> = Vec::new();
    let mut kept: BTreeSet<String> = BTreeSet::new();
    let taints = members
        .iter()
        .flat_map(|node| node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()));
    for taint in taints {
        let value = taint.value.clone().filter(|value| !value.is_empty());
        let gpu = taint.key != "sku" || value.as_deref() == Some("gpu");
        if HARDWARE_TAINTS.contains(&taint.key.as_str()) && gpu {
            let exists = taint.key.contains(".com/gpu") || value.is_none() || taint.key == "google.com/tpu";
            let toleration = Toleration {
                key: taint.key.clone(),
                operator: if exists {
                    TolerationOperator::Exists
                } else {
                    TolerationOperator::Equal
                },
                value: value.filter(|_| !exists),
                effect: effect(&taint.effect),
            };
            if !tolerated.contains(&toleration) {
                tolerated.push(toleration);
            }
        } else if !PASSING.iter().any(|prefix| taint.key.starts_with(prefix)) {
            let value = value.map(|value| format!("={value}")).unwrap_or_default();
            kept.insert(format!("'{}{value}:{}'", taint.key, taint.effect));
        }
    }
    (tolerated, kept.into_iter().collect())
}

fn effect(text: &str) -> Option<crate::api::compute_pool::TaintEffect> {
    serde_json::from_value(text.into()).ok()
}

/// The group that adds nodes like these, if they are all of one.
fn grown_by(members: &[&Node]) -> Option<String> {
    let key = GROUPS
        .iter()
        .find(|key| members.iter().all(|node| labels_of(node).contains_key(**key)))?;
    let mut names: Vec<&str> = members
        .iter()
        .filter_map(|node| labels_of(node).get(*key).map(String::as_str))
        .collect();
    names.sort_unstable();
    names.dedup();
    let shown: Vec<&str> = names.iter().take(NAMED_MAX).copied().collect();
    let kind = key.rsplit('/').next().unwrap_or(key);
    Some(format!("{kind} {}", shown.join(", ")))
}
