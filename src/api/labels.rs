//! Label and annotation keys, and the field managers. Every key is spelled here and nowhere else.

/// Field manager of everything but replica counts.
pub const FIELD_MANAGER: &str = "tiercel";
/// Field manager of `spec.replicas` after creation.
pub const REBALANCER_FIELD_MANAGER: &str = "tiercel-rebalancer";

/// Name of the pipeline a child belongs to.
pub const PIPELINE: &str = "tiercel.dev/pipeline";
/// Name of the stage a child belongs to.
pub const STAGE: &str = "tiercel.dev/stage";
/// Name of the pool a Deployment is bound to.
pub const POOL: &str = "tiercel.dev/pool";
/// Hardware profile of the stage that a Deployment runs.
pub const PROFILE: &str = "tiercel.dev/profile";
/// What the stage does: `Inference`, `Retrieval`, ….
pub const STAGE_KIND: &str = "tiercel.dev/stage-kind";
/// Selector of a stage's pods: hash of pipeline UID and stage name. Immutable, so built from identity alone.
pub const STAGE_ID: &str = "tiercel.dev/stage-id";
/// Selector of a Deployment's pods: hash of pipeline UID, stage name and pool name.
pub const VARIANT_ID: &str = "tiercel.dev/variant-id";

/// Well-known label that names the tool managing an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Well-known label: the application an object is part of.
pub const PART_OF: &str = "app.kubernetes.io/part-of";
/// Well-known label: the component within the application.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// Value of [`MANAGED_BY`].
pub const MANAGER: &str = "tiercel";
/// Value of [`COMPONENT`] on what holds room for bursts.
pub const WARM_BUFFER: &str = "warm-buffer";
/// Priority class of the pods that hold room for bursts. It is below that of any replica, so a pod that has it yields to them,
/// whoever made it.
pub const WARM_BUFFER_CLASS: &str = "tiercel-warm-buffer";

/// Fingerprint of what tiercel last applied to a child: a difference means that something was taken out of the spec.
pub const APPLIED: &str = "tiercel.dev/applied";
/// Break-glass annotation on a pipeline: `all`, `scale-in` or `scale-out`.
pub const PAUSE: &str = "tiercel.dev/pause";
/// Annotation on a namespace: what all its pipelines may cost together per hour, a decimal.
pub const MAX_COST_PER_HOUR: &str = "tiercel.dev/max-cost-per-hour";
/// Annotation on a namespace: what all its pipelines may draw together, whole watts.
pub const MAX_POWER_WATTS: &str = "tiercel.dev/max-power-watts";
/// Annotation on a pool that `tiercel discover` proposed: where its price comes from.
pub const PRICE_SOURCE: &str = "tiercel.dev/price-source";

/// Well-known label of a node's host name.
pub const HOSTNAME: &str = "kubernetes.io/hostname";
/// Well-known label of a node's zone.
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// Well-known label of a node's processor architecture.
pub const ARCHITECTURE: &str = "kubernetes.io/arch";
