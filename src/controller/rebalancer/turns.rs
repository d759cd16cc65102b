//! Whose write goes next, where more wait than may be under way: the one of most value, and of equals the first to come.
//!
//! The client's token bucket takes writes as they come. So only so many stand before it at once, and the rest wait here,
//! where a later and more important one still gets ahead of them. Waiting here is not part of a write's deadline.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Writes of decisions under way at once: what the API server answers within a few milliseconds each is far more per second
/// than the budget of writes.
const UNDER_WAY_MAX: usize = 8;

/// What a write is worth; the greater goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Value {
    /// Class of the pipeline.
    pub(super) priority: u16,
    /// Adds replicas: somebody waits for them. What shrinks only costs.
    pub(super) grows: bool,
    /// Part of the replicas there that it is about, thousandths.
    pub(super) permille: u64,
}

impl Value {
    /// Of a write that takes a Deployment from `before` to `after` replicas.
    pub(super) fn new(priority: u16, before: u32, after: u32) -> Self {
        let (before, after) = (u64::from(before), u64::from(after));
        Self {
            priority,
            grows: after > before,
            permille: before.abs_diff(after) * 1_000 / before.max(1),
        }
    }
}

/// Hands out turns. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    free: usize,
    came: u64,
    waiting: BinaryHeap<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    order: (Value, Reverse<u64>),
    turn: oneshot::Sender<Turn>,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order.cmp(&other.order)
    }
}

/// The right to write; ends with the value.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            shared: Arc::new(Mutex::new(Shared {
                free: UNDER_WAY_MAX,
                came: 0,
                waiting: BinaryHeap::new(),
            })),
        }
    }
}

impl Turns {
    /// Waits for a turn. Whoever gives up waiting is passed over.
    pub(super) async fn take(&self, value: Value) -> Turn {
        let turn = {
            let mut shared = self.lock();
            if shared.free > 0 {
                shared.free -= 1;
                return Turn { turns: self.clone() };
            }
            let (sender, receiver) = oneshot::channel();
            shared.came += 1;
            let order = (value, Reverse(shared.came));
            shared.waiting.push(Waiting { order, turn: sender });
            receiver
        };
        // The sender is only dropped together with all turns.
        turn.await.unwrap_or_else(|_| Turn { turns: self.clone() })
    }

    /// A poisoned lock is used on: nothing in it can be half done.
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let next = {
            let mut shared = self.turns.lock();
            let next = shared.waiting.pop();
            if next.is_none() {
                shared.free += 1;
            }
            next
        };
        if let Some(next) = next {
            // Comes back and is dropped, for the one after, if nobody waits for it any more.
            drop(next.turn.send(Turn {
                turns: self.turns.clone(),
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(priority: u16, before: u32, after: u32) -> Value {
        Value::new(priority, before, after)
    }

    #[tokio::test]
    async fn as_many_as_may_write_at_once_do_not_wait() {
        let turns = Turns::default();
        let mut taken = Vec::new();
        for _ in 0..UNDER_WAY_MAX {
            taken.push(turns.take(value(0, 1, 2)).await);
        }
        let one_more = tokio::spawn({
            let turns = turns.clone();
            async move { drop(turns.take(value(0, 1, 2)).await) }
        });
        tokio::task::yield_now().await;
        assert!(!one_more.is_finished());
        taken.pop();
        one_more.await.unwrap();
        drop(taken);
        assert_eq!(turns.lock().free, UNDER_WAY_MAX, "none is lost");
    }

    #[tokio::test]
    async fn the_most_valuable_goes_first_and_of_equals_the_first() {
        let turns = Turns::default();
        let mut taken = Vec::new();
        for _ in 0..UNDER_WAY_MAX {
            taken.push(turns.take(value(0, 1, 1)).await);
        }
        let (told, mut order) = tokio::sync::mpsc::unbounded_channel();
        let waiting = [
            ("shrinks", value(500, 4, 1)),
            ("grows by a tenth", value(500, 10, 11)),
            ("batch wakes", value(100, 0, 1)),
            ("doubles", value(500, 1, 2)),
            ("doubles too", value(500, 2, 4)),
            ("live grows by a tenth", value(900, 10, 11)),
            ("gives up", value(1_000, 1, 9)),
        ];
        let mut tasks = Vec::new();
        for (name, value) in waiting {
            let (turns, told) = (turns.clone(), told.clone());
            tasks.push(tokio::spawn(async move {
                let turn = turns.take(value).await;
                told.send(name).unwrap();
                drop(turn);
            }));
            tokio::task::yield_now().await;
        }
        tasks.pop().unwrap().abort();
        tokio::task::yield_now().await;
        taken.pop();
        let mut went = Vec::new();
        for _ in 0..6 {
            went.push(order.recv().await.unwrap());
        }
        assert_eq!(
            went,
            [
                "live grows by a tenth",
                "doubles",
                "doubles too",
                "grows by a tenth",
                "shrinks",
                "batch wakes"
            ]
        );
    }
}
