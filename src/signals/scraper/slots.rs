//! A bounded number of slots, shared fairly between namespaces.
//!
//! A free slot goes to the namespace that holds the fewest of those that wait, so a namespace with many or slow pods gets what
//! the others leave. And none may hold more than [`OF_FREE`] times what is free (the dynamic threshold of switches that share
//! a buffer between ports): alone it gets three quarters, and the more there are the less each, so that whoever comes next finds
//! a slot at once, and not when a slow server's deadline ends.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Slots that a namespace may hold for each that is free.
const OF_FREE: usize = 3;

/// The slots.
#[derive(Debug)]
pub(super) struct Slots {
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: usize,
    /// Slots given so far.
    given: u64,
    /// Namespaces that hold slots or wait for one.
    namespaces: BTreeMap<Arc<str>, Share>,
}

#[derive(Debug, Default)]
struct Share {
    held: usize,
    /// When it was given a slot last, by [`State::given`].
    last: u64,
    waiting: VecDeque<oneshot::Sender<()>>,
}

/// A slot, or a place in the queue for one. Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Slot<'s> {
    slots: &'s Slots,
    namespace: Arc<str>,
    /// While it waits.
    granted: Option<oneshot::Receiver<()>>,
}

impl Slots {
    /// So many, at least one.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            state: Mutex::default(),
        }
    }

    /// Waits for a slot.
    pub(super) async fn acquire(&self, namespace: &Arc<str>) -> Slot<'_> {
        let granted = {
            let mut state = self.lock();
            let (grant, granted) = oneshot::channel();
            let share = state.namespaces.entry(Arc::clone(namespace)).or_default();
            share.waiting.push_back(grant);
            state.give(self.most);
            granted
        };
        let mut slot = Slot {
            slots: self,
            namespace: Arc::clone(namespace),
            granted: Some(granted),
        };
        if let Some(granted) = &mut slot.granted {
            // Whoever waits is in the queue until a slot is given: the sender does not go before.
            let _ = granted.await;
        }
        slot.granted = None;
        slot
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Gives away what may be given.
    fn give(&mut self, most: usize) {
        while let Some(next) = self.next(most) {
            let Some(share) = self.namespaces.get_mut(&next) else {
                return;
            };
            // Who no longer waits is passed over.
            let Some(grant) = share.waiting.pop_front() else { return };
            if grant.send(()).is_ok() {
                self.given += 1;
                self.held += 1;
                share.held += 1;
                share.last = self.given;
            } else if share.held == 0 && share.waiting.is_empty() {
                self.namespaces.remove(&next);
            }
        }
    }

    /// Who gets the next slot: the one that holds the fewest, and of those the one that has waited for a turn the longest.
    fn next(&self, most: usize) -> Option<Arc<str>> {
        let free = most.saturating_sub(self.held);
        let waits = self.namespaces.iter().filter(|(_, share)| !share.waiting.is_empty());
        let (next, share) = waits.min_by_key(|(_, share)| (share.held, share.last))?;
        (share.held < OF_FREE * free).then(|| Arc::clone(next))
    }

    fn take_back(&mut self, namespace: &str, most: usize) {
        self.held = self.held.saturating_sub(1);
        if let Some(share) = self.namespaces.get_mut(namespace) {
            share.held = share.held.saturating_sub(1);
            if share.held == 0 && share.waiting.is_empty() {
                self.namespaces.remove(namespace);
            }
        }
        self.give(most);
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut state = self.slots.lock();
        if let Some(mut granted) = self.granted.take() {
            granted.close();
            if granted.try_recv().is_err() {
                // Left the queue with nothing; its place is passed over when its turn comes.
                return;
            }
        }
        state.take_back(&self.namespace, self.slots.most);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Waker};

    use super::*;

    type Place<'s> = Pin<Box<dyn Future<Output = Slot<'s>> + 's>>;

    /// Asks, and takes the slot if there is one at once.
    fn ask<'s>(slots: &'s Slots, namespace: &'static str) -> Result<Slot<'s>, Place<'s>> {
        let namespace: Arc<str> = namespace.into();
        let mut place: Place<'s> = Box::pin(async move { slots.acquire(&namespace).await });
        look(&mut place).ok_or(place)
    }

    fn look<'s>(place: &mut Place<'s>) -> Option<Slot<'s>> {
        match place.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(slot) => Some(slot),
            std::task::Poll::Pending => None,
        }
    }

    fn taken<'s>(slots: &'s Slots, namespace: &'static str, times: usize) -> (Vec<Slot<'s>>, Vec<Place<'s>>) {
        let (mut held, mut waiting) = (Vec::new(), Vec::new());
        for _ in 0..times {
            match ask(slots, namespace) {
                Ok(slot) => held.push(slot),
                Err(place) => waiting.push(place),
            }
        }
        (held, waiting)
    }

    #[test]
    fn one_namespace_alone_leaves_a_quarter_and_others_find_it() {
        let slots = Slots::new(8);
        let (greedy, waiting) = taken(&slots, "greedy", 20);
        assert_eq!((greedy.len(), waiting.len()), (6, 14));
        let (honest, waiting) = taken(&slots, "honest", 3);
        assert_eq!((honest.len(), waiting.len()), (2, 1));
    }

    #[test]
    fn several_greedy_namespaces_come_to_leave_a_slot_for_the_next_one() {
        let slots = Slots::new(16);
        let mut all: Vec<_> = ["a", "b", "c", "d"].map(|one| taken(&slots, one, 20)).into();
        for _ in 0..8 {
            for (held, waiting) in &mut all {
                // One ends, and whoever waits for its place may have it.
                held.pop();
                waiting.retain_mut(|place| look(place).map(|slot| held.push(slot)).is_none());
            }
        }
        let held: Vec<usize> = all.iter().map(|(held, _)| held.len()).collect();
        assert!(held.iter().all(|held| (3..=5).contains(held)), "{held:?}");
        assert!(ask(&slots, "next").is_ok());
    }

    #[test]
    fn a_free_slot_goes_to_whoever_holds_the_fewest() {
        let slots = Slots::new(4);
        let (mut greedy, _waiting) = taken(&slots, "greedy", 9);
        let (honest, mut waits) = taken(&slots, "honest", 2);
        assert_eq!((greedy.len(), honest.len(), waits.len()), (3, 1, 1));
        greedy.pop();
        let second = look(&mut waits[0]);
        assert!(second.is_some(), "not one of the six that waited before it");
    }

    #[test]
    fn who_no_longer_waits_takes_no_slot_along() {
        let slots = Slots::new(1);
        let first = ask(&slots, "a").ok().unwrap();
        let (_, waits) = taken(&slots, "b", 3);
        drop(waits);
        let Err(mut last) = ask(&slots, "c") else {
            panic!("one is all")
        };
        // Given, and dropped before it was seen: it goes on to the next.
        let Err(unseen) = ask(&slots, "a") else {
            panic!("one is all")
        };
        drop(first);
        drop(unseen);
        let slot = look(&mut last);
        assert!(slot.is_some());
        drop(slot);
        assert!(slots.lock().namespaces.is_empty() && slots.lock().held == 0);
    }
}
