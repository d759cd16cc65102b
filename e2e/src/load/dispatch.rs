//! Which replica gets the next call of a stage.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::route::Traffic;
use crate::fleet::Endpoint;

/// The calls of one stage on their way to replicas.
pub(super) struct Dispatch {
    traffic: Traffic,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    endpoints: Arc<[Endpoint]>,
    /// Uniform: whose turn it is.
    turn: usize,
    /// Weighted: what each replica is owed.
    credit: HashMap<Arc<str>, f64>,
    /// Pull: calls that each replica holds.
    held: HashMap<Arc<str>, u32>,
    waiting: VecDeque<oneshot::Sender<Lease>>,
}

/// A call's claim on a replica; dropping it frees the slot.
pub(super) struct Lease {
    pub(super) endpoint: Endpoint,
    dispatch: Option<Arc<Dispatch>>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(dispatch) = self.dispatch.take() {
            let mut state = dispatch.state();
            if let Some(held) = state.held.get_mut(&self.endpoint.uid) {
                *held = held.saturating_sub(1);
                if *held == 0 {
                    state.held.remove(&self.endpoint.uid);
                }
            }
            dispatch.hand_out(state);
        }
    }
}

impl Dispatch {
    pub(super) fn new(traffic: Traffic) -> Arc<Self> {
        Arc::new(Self {
            traffic,
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in the replicas that are ready now.
    pub(super) fn set_endpoints(self: &Arc<Self>, endpoints: Arc<[Endpoint]>) {
        let mut state = self.state();
        state.credit.retain(|uid, _| endpoints.iter().any(|e| e.uid == *uid));
        state.endpoints = endpoints;
        self.hand_out(state);
    }

    /// A replica for one call; waits, first come first served, while there is none.
    pub(super) async fn lease(self: &Arc<Self>) -> Option<Lease> {
        let lease = {
            let mut state = self.state();
            let (sender, lease) = oneshot::channel();
            state.waiting.push_back(sender);
            self.hand_out(state);
            lease
        };
        lease.await.ok()
    }

    /// Serves the waiting calls as far as replicas allow. Leases whose call has gone are dropped after the lock, since
    /// dropping one takes it again.
    fn hand_out(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let mut unclaimed = Vec::new();
        while let Some(next) = state.waiting.pop_front() {
            if next.is_closed() {
                continue;
            }
            let Some(endpoint) = state.pick(self.traffic) else {
                state.waiting.push_front(next);
                break;
            };
            let dispatch = (self.traffic == Traffic::Pull).then(|| Arc::clone(self));
            if let Err(lease) = next.send(Lease { endpoint, dispatch }) {
                unclaimed.push(lease);
            }
        }
        drop(state);
        drop(unclaimed);
    }
}

impl State {
    fn pick(&mut self, traffic: Traffic) -> Option<Endpoint> {
        let endpoints = Arc::clone(&self.endpoints);
        match traffic {
            Traffic::Uniform => {
                let index = self.turn.checked_rem(endpoints.len())?;
                self.turn = index + 1;
                endpoints.get(index).cloned()
            }
            Traffic::Weighted => {
                // Smooth weighted round robin: everyone earns its weight, the richest pays for all.
                let total: f64 = endpoints.iter().map(|e| e.weight).sum();
                let mut richest: Option<(&Endpoint, f64)> = None;
                for endpoint in endpoints.iter() {
                    let credit = self.credit.entry(Arc::clone(&endpoint.uid)).or_insert(0.0);
                    *credit += endpoint.weight;
                    if richest.is_none_or(|(_, most)| *credit > most) {
                        richest = Some((endpoint, *credit));
                    }
                }
                let (endpoint, credit) = richest?;
                self.credit.insert(Arc::clone(&endpoint.uid), credit - total);
                Some(endpoint.clone())
            }
            Traffic::Pull => {
                let held = |e: &Endpoint| self.held.get(&e.uid).copied().unwrap_or(0);
                let share = |e: &Endpoint| f64::from(held(e)) / f64::from(e.slots.max(1));
                let free = endpoints.iter().filter(|e| held(e) < e.slots);
                let endpoint = free.min_by(|a, b| share(a).total_cmp(&share(b)))?.clone();
                *self.held.entry(Arc::clone(&endpoint.uid)).or_insert(0) += 1;
                Some(endpoint)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(uid: &str, weight: f64, slots: u32) -> Endpoint {
        Endpoint {
            uid: uid.into(),
            address: "127.64.0.1:1".parse().unwrap(),
            pool: "p".into(),
            weight,
            slots,
        }
    }

    async fn picks(traffic: Traffic, endpoints: Vec<Endpoint>, count: usize) -> HashMap<String, usize> {
        let dispatch = Dispatch::new(traffic);
        dispatch.set_endpoints(endpoints.into());
        let mut picks = HashMap::new();
        for _ in 0..count {
            let lease = dispatch.lease().await.unwrap();
            *picks.entry(lease.endpoint.uid.to_string()).or_insert(0) += 1;
        }
        picks
    }

    #[tokio::test]
    async fn uniform_gives_everyone_the_same_share_and_weighted_one_by_capacity() {
        let both = || vec![endpoint("fast", 9.0, 1), endpoint("slow", 1.0, 1)];
        let uniform = picks(Traffic::Uniform, both(), 100).await;
        assert_eq!((uniform["fast"], uniform["slow"]), (50, 50));
        let weighted = picks(Traffic::Weighted, both(), 100).await;
        assert_eq!((weighted["fast"], weighted["slow"]), (90, 10));
    }

    #[tokio::test]
    async fn pull_never_gives_a_replica_more_than_its_slots_and_serves_the_oldest_first() {
        let dispatch = Dispatch::new(Traffic::Pull);
        dispatch.set_endpoints(vec![endpoint("a", 1.0, 2), endpoint("b", 1.0, 1)].into());
        let mut leases = Vec::new();
        for _ in 0..3 {
            leases.push(dispatch.lease().await.unwrap());
        }
        let held = |uid: &str| leases.iter().filter(|l| &*l.endpoint.uid == uid).count();
        assert_eq!((held("a"), held("b")), (2, 1));
        let mut first = by_hand(dispatch.lease());
        let mut second = by_hand(dispatch.lease());
        assert!(first.pending() && second.pending());
        drop(leases.pop());
        assert!(
            !first.pending() && second.pending(),
            "the oldest is served, the other waits"
        );
    }

    #[tokio::test]
    async fn a_call_that_gave_up_does_not_keep_its_slot() {
        let dispatch = Dispatch::new(Traffic::Pull);
        dispatch.set_endpoints(vec![endpoint("a", 1.0, 1)].into());
        let held = dispatch.lease().await.unwrap();
        let mut impatient = by_hand(dispatch.lease());
        assert!(impatient.pending());
        drop(impatient);
        drop(held);
        let mut next = by_hand(dispatch.lease());
        assert!(!next.pending());
    }

    #[tokio::test]
    async fn calls_wait_for_the_first_ready_replica() {
        let dispatch = Dispatch::new(Traffic::Uniform);
        let mut early = by_hand(dispatch.lease());
        assert!(early.pending());
        dispatch.set_endpoints(vec![endpoint("a", 1.0, 1)].into());
        assert!(!early.pending());
    }

    /// A future that is polled by hand and keeps what it answers.
    struct ByHand<F: Future>(std::pin::Pin<Box<F>>, Option<F::Output>);

    fn by_hand<F: Future>(future: F) -> ByHand<F> {
        ByHand(Box::pin(future), None)
    }

    impl<F: Future> ByHand<F> {
        fn pending(&mut self) -> bool {
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            if self.1.is_none()
                && let std::task::Poll::Ready(output) = self.0.as_mut().poll(&mut context)
            {
                self.1 = Some(output);
            }
            self.1.is_none()
        }
    }
}
