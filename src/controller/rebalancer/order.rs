//! The writes of one decision: what grows first, and what shrinks once all of that is acknowledged.
//!
//! Two objects cannot be written at once. Whoever looks between two writes, or dies there, must find the floor held.

use tokio::sync::watch;

use super::writes::{Outcome, Write};
use crate::rebalance::decision::Move;

/// The moves of one decision that may be sent, given which can be. What shrinks counts on what grows: where a growth
/// cannot be sent, no shrink is.
pub(super) fn sendable(moves: &[Move], can: impl Fn(&Move) -> bool) -> Vec<Move> {
    let grows = |step: &&Move| step.to > step.from;
    let growth_only = moves.iter().filter(grows).any(|step| !can(step));
    let mut sent = moves.to_vec();
    sent.retain(|step| can(step) && (grows(&step) || !growth_only));
    sent
}

/// Makes the writes of one decision wait for each other.
pub(super) struct Order {
    /// Whether every growth so far was written; closed once all have ended.
    growths: watch::Sender<bool>,
}

/// When one write may go.
pub(super) enum Place {
    First(watch::Sender<bool>),
    After(watch::Receiver<bool>),
}

impl Default for Order {
    fn default() -> Self {
        Self {
            growths: watch::Sender::new(true),
        }
    }
}

impl Order {
    pub(super) fn place(&self, write: &Write) -> Place {
        if write.to > write.from {
            Place::First(self.growths.clone())
        } else {
            Place::After(self.growths.subscribe())
        }
    }
}

impl Place {
    /// Writes when it is its turn; not at all if something that had to grow before did not.
    pub(super) async fn take<F: Future<Output = Outcome>>(self, write: impl FnOnce() -> F) -> Outcome {
        match self {
            Self::First(growths) => {
                let outcome = write().await;
                if !matches!(outcome, Outcome::Written(_)) {
                    growths.send_replace(false);
                }
                outcome
            }
            Self::After(mut growths) => {
                while growths.changed().await.is_ok() {}
                if *growths.borrow() {
                    write().await
                } else {
                    Outcome::Failed("replicas that were to come first could not be written".to_owned())
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;
    use crate::rebalance::world::VariantIdx;

    #[test]
    fn where_a_growth_cannot_be_sent_no_shrink_is() {
        let step = |variant, from, to| Move {
            variant: VariantIdx(variant),
            from,
            to,
        };
        let (grows, more, shrinks) = (step(0, 0, 1), step(1, 1, 3), step(2, 2, 1));
        let moves = [shrinks, grows, more];
        assert_eq!(sendable(&moves, |_| true), moves);
        assert_eq!(sendable(&moves, |it| *it != grows), [more]);
        assert_eq!(sendable(&moves, |it| *it != shrinks), [grows, more]);
        assert_eq!(sendable(&[shrinks], |_| true), [shrinks]);
    }

    fn write(name: &str, from: u32, to: u32) -> Write {
        Write {
            child: ("agents".into(), name.into()),
            from,
            to,
            resource_version: "1".into(),
            sampled_ms: None,
        }
    }

    /// The writes of one decision, all sent at once; growths take a second and end as told. Gives what was written, in order.
    async fn sent(growth: impl Fn() -> Outcome + Clone + Send + 'static) -> Vec<String> {
        let order = Order::default();
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = tokio::task::JoinSet::new();
        for write in [
            write("l4", 2, 1),
            write("x86", 0, 1),
            write("arm", 3, 0),
            write("h100", 1, 2),
        ] {
            let (place, log, growth) = (order.place(&write), Arc::clone(&log), growth.clone());
            tasks.spawn(async move {
                let grows = write.to > write.from;
                let doing = || async move {
                    if grows {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                    log.lock().unwrap().push(write.child.1.clone());
                    if grows { growth() } else { Outcome::Written("2".into()) }
                };
                drop(place.take(doing).await);
            });
        }
        drop(order);
        tasks.join_all().await;
        Arc::into_inner(log).unwrap().into_inner().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_shrinks_before_everything_that_grows_is_acknowledged() {
        let mut order = sent(|| Outcome::Written("2".into())).await;
        order[..2].sort();
        order[2..].sort();
        assert_eq!(order, ["h100", "x86", "arm", "l4"]);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_shrinks_when_something_did_not_grow() {
        let mut order = sent(|| Outcome::Failed("no".into())).await;
        order.sort();
        assert_eq!(order, ["h100", "x86"]);
    }
}
