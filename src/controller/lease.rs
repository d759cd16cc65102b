//! Leadership over a `coordination.k8s.io/v1` Lease. Owner of the Lease; read by everything that writes.
//!
//! Expiry is judged by how long the record has not changed on *our* monotonic clock; its `renewTime` is written for people
//! and never compared. A leader stops by itself 10 s after the last renewal it knows of, others take over after 15 s without
//! a change, so two clocks may differ in rate by a third before both lead. `leaseTransitions` is the epoch of a term.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

use super::clock::Clock;

#[cfg(test)]
mod tests;

/// A record that does not change for so long is up for grabs.
pub const LEASE_MS: u64 = 15_000;
/// A leader that could not renew for so long stops.
pub const RENEW_DEADLINE_MS: u64 = 10_000;
/// Time between renewals, and between looks at a lease that another one holds.
pub const RETRY_MS: u64 = 2_000;
/// Three attempts fit into the renew deadline even when the first two hang.
const CALL_MS: u64 = 3_000;
/// Pause before renewing over a record that someone edited under us.
const CONFLICT_RETRY_MS: u64 = 100;
/// A record that asks for more patience than this is not believed.
const FOREIGN_LEASE_MS_MAX: u64 = 4 * LEASE_MS;

const _: () = assert!(RENEW_DEADLINE_MS < LEASE_MS && RENEW_DEADLINE_MS > 3 * CALL_MS && RETRY_MS < CALL_MS);

/// Whether this process may write, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// The lease was ours when this was published. Ask [`Leadership::holds`] before a write.
    pub leading: bool,
    /// Rises with every term of any holder; the term's number while leading, the last one seen otherwise.
    pub epoch: i64,
    /// End of the term on our clock unless it is renewed before. 0 when not leading.
    pub held_until_ms: u64,
}

impl Leadership {
    /// Leading, and not past the deadline. Stays right even if the task that renews the lease is gone.
    pub fn holds(&self, now_ms: u64) -> bool {
        self.leading && now_ms < self.held_until_ms
    }
}

/// What a Lease says, as far as the decision goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Absent: nobody, or given back.
    pub holder: Option<String>,
    /// `leaseTransitions`.
    pub epoch: i64,
    /// How long the holder asks to be left alone, milliseconds.
    pub duration_ms: u64,
}

/// What was last read, and since when it reads so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Absent: there is no Lease.
    pub record: Option<Record>,
    /// When the record was first seen in this form, on our clock.
    pub changed_ms: u64,
}

/// A term of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// The epoch it was acquired under.
    pub epoch: i64,
    /// When the last acknowledged renewal was *sent*: others cannot have seen it earlier.
    pub renewed_ms: u64,
    /// When to renew next.
    pub due_ms: u64,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write ourselves into the record.
    Acquire,
    /// Write the record again.
    Renew,
    /// Nothing for so many milliseconds; a standby looks again afterwards.
    Wait(u64),
    /// Stop writing: the term is over.
    StepDown,
}

/// Decides. `identity` is unique per process, `term` is what we believe to hold.
pub fn next(observation: &Observation, now_ms: u64, identity: &str, term: Option<&Term>) -> Action {
    let holder = observation.record.as_ref().and_then(|record| record.holder.as_deref());
    if let Some(term) = term {
        let end_ms = term.renewed_ms.saturating_add(RENEW_DEADLINE_MS);
        let ours = observation
            .record
            .as_ref()
            .is_some_and(|record| record.epoch == term.epoch);
        return match holder {
            Some(holder) if ours && holder == identity && now_ms < end_ms => match term.due_ms.min(end_ms) {
                due_ms if due_ms > now_ms => Action::Wait(due_ms - now_ms),
                _ => Action::Renew,
            },
            _ => Action::StepDown,
        };
    }
    match (&observation.record, holder) {
        // Ours without a term: an acquisition whose answer got lost, or a term that ran out. The epoch moves on.
        (Some(record), Some(holder)) if holder != identity => {
            let patience_ms = record.duration_ms.clamp(LEASE_MS, FOREIGN_LEASE_MS_MAX);
            match observation
                .changed_ms
                .saturating_add(patience_ms)
                .saturating_sub(now_ms)
            {
                0 => Action::Acquire,
                left_ms => Action::Wait(left_ms.min(RETRY_MS)),
            }
        }
        _ => Action::Acquire,
    }
}

/// Takes part in the election.
pub struct Leader;

impl Leader {
    /// Starts to stand for election in the background. `identity` has to be unique per process, not per pod name: a
    /// restarted container is another candidate. The client should have no write limit; deadlines are set here.
    ///
    /// Needs `get`, `create` and `update` on `leases.coordination.k8s.io` in the namespace.
    pub fn start(
        client: Client,
        name: &str,
        namespace: &str,
        identity: &str,
        clock: Clock,
    ) -> (watch::Receiver<Leadership>, LeaseHandle) {
        let (publish, leadership) = watch::channel(Leadership {
            leading: false,
            epoch: 0,
            held_until_ms: 0,
        });
        let (stop, stopped) = oneshot::channel();
        let candidate = Candidate {
            leases: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            clock,
            lease: None,
            observation: Observation {
                record: None,
                changed_ms: 0,
            },
            epoch_seen: 0,
            term: None,
            publish,
        };
        (
            leadership,
            LeaseHandle {
                stop: Some(stop),
                task: Some(tokio::spawn(candidate.run(stopped))),
            },
        )
    }
}

/// Ends the candidacy. Dropped without [`LeaseHandle::release`], the lease is left to expire: right when a write may still
/// be under way.
#[must_use = "dropping it ends the candidacy"]
pub struct LeaseHandle {
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<bool>>,
}

impl LeaseHandle {
    /// Gives the lease back, so that a standby takes over within [`RETRY_MS`]. Only for when all writes have ended. True
    /// if it was ours and is given back; bounded by two calls of 3 s.
    pub async fn release(mut self) -> bool {
        let Some((stop, task)) = self.stop.take().zip(self.task.take()) else {
            return false;
        };
        stop.send(()).is_ok() && task.await.unwrap_or(false)
    }
}

struct Candidate {
    leases: Api<Lease>,
    name: String,
    identity: String,
    clock: Clock,
    /// As last read or written, for its resource version and for what others keep in it.
    lease: Option<Lease>,
    observation: Observation,
    epoch_seen: i64,
    term: Option<Term>,
    publish: watch::Sender<Leadership>,
}

impl Candidate {
    /// True if the lease was released.
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) -> bool {
        loop {
            // A standby decides on what it just read, never on what it read before the network went away.
            let known = self.term.is_some() || self.read(CALL_MS).await;
            let now_ms = self.clock.now_ms();
            let action = if known {
                next(&self.observation, now_ms, &self.identity, self.term.as_ref())
            } else {
                Action::Wait(RETRY_MS)
            };
            let wait_ms = match action {
                Action::Acquire => self.acquire().await,
                Action::Renew => self.renew().await,
                Action::StepDown => self.step_down(),
                Action::Wait(wait_ms) => wait_ms,
            };
            let until = self.clock.instant(self.clock.now_ms().saturating_add(wait_ms));
            tokio::select! {
                biased;
                stop = &mut stopped => return self.stop(stop.is_ok()).await,
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    /// Reads the record; true if that worked.
    async fn read(&mut self, limit_ms: u64) -> bool {
        match within(limit_ms, self.leases.get_opt(&self.name)).await {
            Ok(lease) => {
                self.observe(lease);
                true
            }
            Err(error) => {
                tracing::warn!(lease = self.name, %error, "cannot read the lease, trying again");
                false
            }
        }
    }

    /// Writes ourselves into the record; returns how long to wait afterwards.
    async fn acquire(&mut self) -> u64 {
        let epoch = self.epoch_seen.saturating_add(1).min(i64::from(i32::MAX));
        let sent_ms = self.clock.now_ms();
        let now = MicroTime(self.clock.wall());
        let mut lease = self.lease.clone().unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            },
            ..Lease::default()
        });
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(self.identity.clone());
        spec.lease_duration_seconds = Some(seconds(LEASE_MS));
        spec.lease_transitions = Some(i32::try_from(epoch).unwrap_or(i32::MAX));
        spec.acquire_time = Some(now.clone());
        spec.renew_time = Some(now);
        let written = match self.lease {
            Some(_) => within(CALL_MS, self.leases.replace(&self.name, &PostParams::default(), &lease)).await,
            None => within(CALL_MS, self.leases.create(&PostParams::default(), &lease)).await,
        };
        match written {
            Ok(lease) => {
                tracing::info!(lease = self.name, epoch, "leading");
                self.observe(Some(lease));
                self.term = Some(Term {
                    epoch,
                    renewed_ms: sent_ms,
                    due_ms: sent_ms + RETRY_MS,
                });
                self.announce();
                0
            }
            Err(Error::Call(kube::Error::Api(status))) if status.is_conflict() || status.is_already_exists() => {
                CONFLICT_RETRY_MS
            }
            Err(error) => {
                tracing::warn!(lease = self.name, %error, "cannot acquire the lease, trying again");
                RETRY_MS
            }
        }
    }

    /// Writes the record again, or reads it where someone else has written it; returns how long to wait afterwards.
    async fn renew(&mut self) -> u64 {
        let (Some(term), Some(mut lease)) = (self.term, self.lease.clone()) else {
            return 0;
        };
        let sent_ms = self.clock.now_ms();
        let end_ms = term.renewed_ms.saturating_add(RENEW_DEADLINE_MS);
        let spec = lease.spec.get_or_insert_default();
        spec.renew_time = Some(MicroTime(self.clock.wall()));
        spec.lease_duration_seconds = Some(seconds(LEASE_MS));
        let limit_ms = CALL_MS.min(end_ms.saturating_sub(sent_ms));
        let due_ms = match within(
            limit_ms,
            self.leases.replace(&self.name, &PostParams::default(), &lease),
        )
        .await
        {
            Ok(lease) => {
                self.observe(Some(lease));
                self.term = Some(Term {
                    renewed_ms: sent_ms,
                    due_ms: sent_ms + RETRY_MS,
                    ..term
                });
                self.announce();
                return 0;
            }
            Err(error) => {
                tracing::warn!(lease = self.name, %error, "cannot renew the lease, trying again");
                let left_ms = end_ms.saturating_sub(self.clock.now_ms());
                if error.overtaken() && self.read(CALL_MS.min(left_ms)).await {
                    self.clock.now_ms() + CONFLICT_RETRY_MS
                } else {
                    sent_ms + RETRY_MS
                }
            }
        };
        self.term = Some(Term { due_ms, ..term });
        0
    }

    fn step_down(&mut self) -> u64 {
        tracing::warn!(lease = self.name, epoch = self.epoch_seen, "no longer leading");
        self.term = None;
        self.announce();
        0
    }

    /// The last act: gives the lease back if asked to and if it is ours.
    async fn stop(mut self, release: bool) -> bool {
        let held = self.term.take();
        self.announce();
        let (true, Some(_), Some(mut lease)) = (release, held, self.lease.take()) else {
            return false;
        };
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = None;
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(self.clock.wall()));
        match within(CALL_MS, self.leases.replace(&self.name, &PostParams::default(), &lease)).await {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(lease = self.name, %error, "cannot give the lease back, it will expire");
                false
            }
        }
    }

    /// Takes note of a record; the time of change moves only with its content, whoever touched the metadata.
    fn observe(&mut self, lease: Option<Lease>) {
        let spec = |lease: &Option<Lease>| lease.as_ref().and_then(|lease| lease.spec.clone());
        if spec(&lease) != spec(&self.lease) || lease.is_some() != self.lease.is_some() {
            self.observation.changed_ms = self.clock.now_ms();
        }
        self.observation.record = lease.as_ref().map(|lease| record(lease.spec.as_ref()));
        self.epoch_seen = self
            .observation
            .record
            .as_ref()
            .map_or(0, |record| record.epoch)
            .max(self.epoch_seen);
        self.lease = lease;
    }

    fn announce(&self) {
        let leadership = match self.term {
            Some(Term { epoch, renewed_ms, .. }) => Leadership {
                leading: true,
                epoch,
                held_until_ms: renewed_ms.saturating_add(RENEW_DEADLINE_MS),
            },
            None => Leadership {
                leading: false,
                epoch: self.epoch_seen,
                held_until_ms: 0,
            },
        };
        self.publish.send_replace(leadership);
    }
}

fn record(spec: Option<&LeaseSpec>) -> Record {
    let holder = spec
        .and_then(|spec| spec.holder_identity.clone())
        .filter(|holder| !holder.is_empty());
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or_default();
    Record {
        holder,
        epoch: spec
            .and_then(|spec| spec.lease_transitions)
            .unwrap_or_default()
            .max(0)
            .into(),
        duration_ms: u64::try_from(seconds).unwrap_or_default().saturating_mul(1_000),
    }
}

fn seconds(ms: u64) -> i32 {
    i32::try_from(ms / 1_000).unwrap_or(i32::MAX)
}

/// A call about the lease failed.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("no answer within {0} ms")]
    Deadline(u64),
    #[error("grant get, create and update on leases.coordination.k8s.io to the operator's service account")]
    Forbidden(#[source] kube::Error),
    #[error(transparent)]
    Call(kube::Error),
}

impl Error {
    /// Someone else wrote or deleted the record in between.
    fn overtaken(&self) -> bool {
        let Self::Call(kube::Error::Api(status)) = self else {
            return false;
        };
        status.is_conflict() || status.is_not_found()
    }
}

async fn within<T>(limit_ms: u64, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Error> {
    match timeout(Duration::from_millis(limit_ms), call).await {
        Err(_) => Err(Error::Deadline(limit_ms)),
        Ok(Err(kube::Error::Api(status))) if status.is_forbidden() => Err(Error::Forbidden(kube::Error::Api(status))),
        Ok(Err(error)) => Err(Error::Call(error)),
        Ok(Ok(answer)) => Ok(answer),
    }
}
