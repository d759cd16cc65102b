//! Condition types and reasons. One enum of reasons feeds conditions, events and metric labels.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

macro_rules! words {
    ($(#[$about:meta])* $list:ident { $($(#[doc = $meaning:literal])+ $name:ident),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $list { $($(#[doc = $meaning])+ $name),+ }

        impl $list {
            /// All of them, for documentation and metric labels.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The word on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),+ }
            }

            /// What it says, for the reference page.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($meaning),+)),+ }
            }
        }
    };
}

words! {
    /// Condition types of both kinds. `Reconciling` and `Stalled` are kstatus's and exist only while true.
    Type {
        /// Summary: the object does what it is for.
        Ready,
        /// Work towards the declared state is under way.
        Reconciling,
        /// No progress is possible without somebody's help.
        Stalled,
        /// Every stage that needs signals has fresh ones.
        SignalsAvailable,
        /// Every stage has the capacity that its demand asks for.
        CapacityAvailable,
        /// Replicas are where the plan wants them.
        Balanced,
        /// Running replicas cost no more than the ceiling.
        WithinBudget,
        /// Every stage runs on the tier that its hint prefers.
        PreferredTier,
        /// Capacity is planned that keeps the latency objective; only there if one is declared.
        WithinObjective,
    }
}

words! {
    /// Why a condition has its status; also the reason of events and the label of metrics.
    Reason {
        /// All is as declared.
        AsDeclared,
        /// First visit: nothing is known yet.
        Pending,
        /// Children were created or changed and are not all Ready.
        RollingOut,
        /// No pool has room for what the stages need.
        NoCapacity,
        /// No pool matches a stage's hint and profiles.
        NoPoolMatches,
        /// The pools that would match do not admit the pipeline's namespace.
        PoolClosed,
        /// Part of the spec was refused; the rest runs.
        Refused,
        /// The whole spec was refused; what ran before goes on.
        Invalid,
        /// A child's name is taken by an object that is not ours.
        NameTaken,
        /// Another autoscaler owns the replicas.
        ReplicasOwnedElsewhere,
        /// Somebody else keeps changing the replicas.
        Contested,
        /// The pipeline, or one direction, is paused.
        Paused,
        /// Decisions are reported, not written.
        Advisory,
        /// Signals are fresh.
        Fresh,
        /// Signals are missing or too old.
        MetricsStale,
        /// Differences are inside the tolerance.
        WithinTolerance,
        /// A stabilization window or a limit of moves holds a change back.
        CoolingDown,
        /// The ceiling on cost holds a change back.
        BudgetExhausted,
        /// Replicas are being shifted.
        Shifting,
        /// A pool could not place or start pods.
        PoolDry,
        /// Running cost is below the ceiling, or there is none.
        WithinBudget,
        /// Stages run where their hint prefers.
        OnPreferredTier,
        /// Stages run below the tier that their hint prefers.
        BelowPreferredTier,
        /// Headroom is planned that keeps the latency objective.
        HeadroomPlanned,
        /// No number of replicas that is allowed keeps the latency objective.
        OutOfReach,
        /// A stage does not declare what the latency objective needs to know of it.
        NotDeclared,
        /// Two pools select the same node.
        PoolsOverlap,
        /// No node matches the pool and it cannot grow.
        NoNodes,
        /// Nodes match but none is usable.
        NoUsableNodes,
        /// Nodes are there and usable.
        NodesAvailable,
        /// The pool is empty now and may grow.
        Elastic,
        /// No room is left.
        Full,
        /// There is room.
        RoomLeft,
        /// The pool is being deleted while stages use it.
        InUse,
        /// A quota or an admission plug-in refused a child.
        ChildRefused,
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Three-valued status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Holds.
    True,
    /// Does not hold.
    False,
    /// Not known yet.
    Unknown,
}

impl Status {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Status {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

/// Longest message that the API server takes in a condition.
const MESSAGE_BYTES_MAX: usize = 1_024;

/// Sets one condition. The transition time moves only when the status does.
pub fn set(conditions: &mut Vec<Condition>, now: &Time, generation: Option<i64>, new: New) {
    let New {
        type_,
        status,
        reason,
        message,
    } = new;
    let mut condition = Condition {
        type_: type_.as_str().to_owned(),
        status: status.as_str().to_owned(),
        reason: reason.as_str().to_owned(),
        message: cut(message),
        observed_generation: generation,
        last_transition_time: now.clone(),
    };
    match conditions.iter_mut().find(|existing| existing.type_ == condition.type_) {
        Some(existing) => {
            if existing.status == condition.status {
                condition.last_transition_time = existing.last_transition_time.clone();
            }
            *existing = condition;
        }
        None => conditions.push(condition),
    }
}

/// Takes a condition away: for the ones that exist only while true.
pub fn remove(conditions: &mut Vec<Condition>, type_: Type) {
    conditions.retain(|condition| condition.type_ != type_.as_str());
}

/// Types that are true or false, for metrics; what is unknown is left out.
pub fn verdicts(conditions: &[Condition]) -> Vec<(&'static str, bool)> {
    let known = Type::ALL.iter().filter_map(|type_| {
        let found = conditions.iter().find(|condition| condition.type_ == type_.as_str())?;
        let holds = found.status == Status::True.as_str();
        (holds || found.status == Status::False.as_str()).then_some((type_.as_str(), holds))
    });
    known.collect()
}

/// One condition to set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct New {
    /// Its type.
    pub type_: Type,
    /// Its status.
    pub status: Status,
    /// One word.
    pub reason: Reason,
    /// A sentence for people; cut at 1 KiB.
    pub message: String,
}

fn cut(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES_MAX {
        let mut end = MESSAGE_BYTES_MAX - '…'.len_utf8();
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    fn ready(status: Status) -> New {
        New {
            type_: Type::Ready,
            status,
            reason: Reason::RollingOut,
            message: "2 of 3 stages are Ready".into(),
        }
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let mut conditions = Vec::new();
        set(&mut conditions, &at(1), Some(1), ready(Status::False));
        set(&mut conditions, &at(2), Some(2), ready(Status::False));
        assert_eq!(conditions[0].last_transition_time, at(1));
        assert_eq!(conditions[0].observed_generation, Some(2));
        set(&mut conditions, &at(3), Some(2), ready(Status::True));
        assert_eq!(conditions[0].last_transition_time, at(3));
        assert_eq!(conditions.len(), 1);
    }

    #[test]
    fn what_is_unknown_has_no_verdict() {
        let mut conditions = Vec::new();
        let new = |type_, status| New { type_, ..ready(status) };
        set(&mut conditions, &at(1), None, new(Type::Ready, Status::False));
        set(&mut conditions, &at(1), None, new(Type::Balanced, Status::Unknown));
        set(&mut conditions, &at(1), None, new(Type::Reconciling, Status::True));
        assert_eq!(verdicts(&conditions), [("Ready", false), ("Reconciling", true)]);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let mut conditions = Vec::new();
        set(
            &mut conditions,
            &at(1),
            None,
            New {
                message: "é".repeat(2_000),
                ..ready(Status::True)
            },
        );
        assert!(conditions[0].message.len() <= MESSAGE_BYTES_MAX);
        assert!(conditions[0].message.ends_with('…'));
    }
}
