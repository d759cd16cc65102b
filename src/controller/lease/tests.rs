use serde_json::{Value, json};

use super::*;
use crate::fixtures::{Call, ScriptedApi, status};

const US: &str = "us";

/// `holder` empty: given back. The record reads like this since `changed_ms`.
fn seen(holder: &str, epoch: i64, duration_ms: u64, changed_ms: u64) -> Observation {
    let holder = Some(holder.to_owned()).filter(|holder| !holder.is_empty());
    Observation {
        record: Some(Record {
            holder,
            epoch,
            duration_ms,
        }),
        changed_ms,
    }
}

#[test]
fn a_standby_takes_what_is_free_and_waits_for_what_is_held() {
    let absent = Observation {
        record: None,
        changed_ms: 0,
    };
    let table = [
        ("no lease at all", absent, 5_000, Action::Acquire),
        ("given back", seen("", 3, 1_000, 4_999), 5_000, Action::Acquire),
        (
            "ours, but no term: an answer got lost",
            seen(US, 3, 15_000, 4_999),
            5_000,
            Action::Acquire,
        ),
        (
            "held and fresh",
            seen("other", 3, 15_000, 5_000),
            5_000,
            Action::Wait(2_000),
        ),
        (
            "held, nearly expired",
            seen("other", 3, 15_000, 5_000),
            19_999,
            Action::Wait(1),
        ),
        (
            "held, not changed for 15 s",
            seen("other", 3, 15_000, 5_000),
            20_000,
            Action::Acquire,
        ),
        (
            "a shorter lease gets 15 s all the same",
            seen("other", 3, 1_000, 5_000),
            19_000,
            Action::Wait(1_000),
        ),
        (
            "a longer lease is waited for",
            seen("other", 3, 30_000, 5_000),
            34_000,
            Action::Wait(1_000),
        ),
        (
            "an absurd lease is not",
            seen("other", 3, u64::MAX, 5_000),
            65_000,
            Action::Acquire,
        ),
    ];
    for (name, observation, now_ms, expected) in table {
        assert_eq!(next(&observation, now_ms, US, None), expected, "{name}");
    }
}

#[test]
fn a_leader_renews_in_time_and_stops_in_time() {
    let term = Term {
        epoch: 3,
        renewed_ms: 10_000,
        due_ms: 12_000,
    };
    let late = Term { due_ms: 25_000, ..term };
    let ours = seen(US, 3, 15_000, 10_000);
    let table = [
        ("renewed just now", &term, ours.clone(), 10_500, Action::Wait(1_500)),
        ("renewal is due", &term, ours.clone(), 12_000, Action::Renew),
        ("renewals fail, still time", &term, ours.clone(), 19_999, Action::Renew),
        (
            "ten seconds without renewal",
            &term,
            ours.clone(),
            20_000,
            Action::StepDown,
        ),
        ("never waits past the end", &late, ours, 19_000, Action::Wait(1_000)),
        (
            "taken by another",
            &term,
            seen("other", 4, 15_000, 11_000),
            11_000,
            Action::StepDown,
        ),
        (
            "cleared by hand",
            &term,
            seen("", 3, 15_000, 11_000),
            11_000,
            Action::StepDown,
        ),
        (
            "ours in another epoch",
            &term,
            seen(US, 4, 15_000, 11_000),
            11_000,
            Action::StepDown,
        ),
        (
            "deleted",
            &term,
            Observation {
                record: None,
                changed_ms: 11_000,
            },
            11_000,
            Action::StepDown,
        ),
    ];
    for (name, term, observation, now_ms, expected) in table {
        assert_eq!(next(&observation, now_ms, US, Some(term)), expected, "{name}");
    }
}

/// A candidate, its clock, its leadership and the API server's end.
struct World {
    api: ScriptedApi,
    clock: Clock,
    leadership: watch::Receiver<Leadership>,
    handle: LeaseHandle,
    version: u32,
}

impl World {
    fn start() -> Self {
        let (client, api) = ScriptedApi::new();
        let clock = Clock::start();
        let (leadership, handle) = Leader::start(client, "tiercel", "tiercel-system", US, clock.clone());
        Self {
            api,
            clock,
            leadership,
            handle,
            version: 1,
        }
    }

    fn lease(&self, holder: &str, epoch: i32, renew_time: &str) -> Value {
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "tiercel", "namespace": "tiercel-system", "resourceVersion": self.version.to_string()},
            "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": epoch, "renewTime": renew_time},
        })
    }

    async fn get(&mut self) -> Call {
        let call = self.api.call().await;
        assert_eq!(call.method, "GET", "{}", call.body);
        assert!(
            call.path.ends_with("/namespaces/tiercel-system/leases/tiercel"),
            "{}",
            call.path
        );
        call
    }

    async fn answer_get(&mut self, holder: &str, epoch: i32, renew_time: &str) {
        let lease = self.lease(holder, epoch, renew_time);
        self.get().await.reply(200, &lease);
    }

    /// Accepts a write as the server would: the body comes back with a new version.
    async fn accept(&mut self, method: &str) -> Value {
        let call = self.api.call().await;
        assert_eq!(call.method, method, "{}", call.body);
        self.accept_call(call)
    }

    fn accept_call(&mut self, call: Call) -> Value {
        self.version += 1;
        let mut body = call.body.clone();
        body["metadata"]["resourceVersion"] = json!(self.version.to_string());
        call.reply(200, &body);
        body
    }

    async fn leads(&mut self) -> Leadership {
        *self.leadership.wait_for(|leadership| leadership.leading).await.unwrap()
    }

    async fn acquire_free(&mut self) -> Leadership {
        self.get().await.reply(404, &status(404, "NotFound"));
        let body = self.accept("POST").await;
        assert_eq!(body["spec"]["holderIdentity"], US);
        assert_eq!(body["spec"]["leaseDurationSeconds"], 15);
        assert_eq!(body["spec"]["leaseTransitions"], 1);
        self.leads().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_free_lease_is_acquired_and_renewed_every_two_seconds() {
    let mut world = World::start();
    let leadership = world.acquire_free().await;
    assert_eq!(
        leadership,
        Leadership {
            leading: true,
            epoch: 1,
            held_until_ms: 10_000
        }
    );
    for round in 1..=20_u64 {
        let body = world.accept("PUT").await;
        assert_eq!(world.clock.now_ms(), round * 2_000);
        assert_eq!(
            (&body["spec"]["holderIdentity"], &body["spec"]["leaseTransitions"]),
            (&json!(US), &json!(1))
        );
        world.leadership.changed().await.unwrap();
        assert_eq!(
            world.leadership.borrow_and_update().held_until_ms,
            round * 2_000 + 10_000
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_held_lease_is_left_alone_while_it_changes() {
    let mut world = World::start();
    for round in 0..60 {
        // The time it carries may even go back: that it changes is what counts.
        world
            .answer_get("other", 7, &format!("2020-01-01T00:00:{:02}.000000Z", 59 - round))
            .await;
    }
    assert!(world.clock.now_ms() >= 118_000, "{}", world.clock.now_ms());
    assert!(!world.leadership.borrow().leading);
}

#[tokio::test(start_paused = true)]
async fn a_lease_silent_for_fifteen_seconds_is_taken_over_whatever_time_it_carries() {
    let mut world = World::start();
    loop {
        let call = world.api.call().await;
        if call.method == "PUT" {
            assert_eq!(call.body["metadata"]["resourceVersion"], "1");
            let body = world.accept_call(call);
            assert_eq!(body["spec"]["leaseTransitions"], 8);
            break;
        }
        assert!(world.clock.now_ms() <= 15_000, "no attempt to take over");
        let lease = world.lease("other", 7, "2199-01-01T00:00:00.000000Z");
        call.reply(200, &lease);
    }
    assert_eq!(world.clock.now_ms(), 15_000);
    assert_eq!(
        world.leads().await,
        Leadership {
            leading: true,
            epoch: 8,
            held_until_ms: 25_000
        }
    );
}

#[tokio::test(start_paused = true)]
async fn a_standby_cut_off_from_the_server_does_not_take_over_on_old_knowledge() {
    let mut world = World::start();
    world.answer_get("other", 7, "2026-01-01T00:00:00.000000Z").await;
    while world.clock.now_ms() < 40_000 {
        world.get().await.reset();
    }
    // The holder had been renewing all along.
    world.answer_get("other", 7, "2026-01-01T00:00:40.000000Z").await;
    world.answer_get("other", 7, "2026-01-01T00:00:42.000000Z").await;
    assert!(!world.leadership.borrow().leading);
}

#[tokio::test(start_paused = true)]
async fn a_touch_of_the_metadata_does_not_keep_a_dead_leader_alive() {
    let mut world = World::start();
    loop {
        let call = world.api.call().await;
        if call.method == "PUT" {
            break;
        }
        assert!(world.clock.now_ms() <= 15_000, "no attempt to take over");
        world.version += 1;
        call.reply(200, &world.lease("other", 7, "2026-01-01T00:00:00.000000Z"));
    }
    assert_eq!(world.clock.now_ms(), 15_000);
}

#[tokio::test(start_paused = true)]
async fn a_leader_steps_down_ten_seconds_after_its_last_renewal() {
    let mut world = World::start();
    world.acquire_free().await;
    world.accept("PUT").await;
    let mut hanging = Vec::new();
    let stepped_down = {
        let mut leadership = world.leadership.clone();
        let clock = world.clock.clone();
        tokio::spawn(async move {
            leadership.wait_for(|leadership| !leadership.leading).await.unwrap();
            clock.now_ms()
        })
    };
    // One refusal, then a server that does not answer at all.
    world.api.call().await.reply(500, &status(500, "InternalError"));
    while world.clock.now_ms() < 12_000 {
        hanging.extend(world.api.call_within(Duration::from_millis(500)).await);
    }
    assert_eq!(stepped_down.await.unwrap(), 12_000, "renewed at 2 s");
    assert_eq!(
        *world.leadership.borrow(),
        Leadership {
            leading: false,
            epoch: 1,
            held_until_ms: 0
        }
    );
    assert!(hanging.iter().filter(|call| call.method == "PUT").count() >= 2);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_on_renewal_is_read_again_and_the_term_goes_on_if_it_is_still_ours() {
    let mut world = World::start();
    world.acquire_free().await;
    world.api.call().await.reply(409, &status(409, "Conflict"));
    world.version = 9;
    world.answer_get(US, 1, "2026-01-01T00:00:00.000000Z").await;
    let call = world.api.call().await;
    assert_eq!(
        (call.method.as_str(), &call.body["metadata"]["resourceVersion"]),
        ("PUT", &json!("9"))
    );
    assert_eq!(world.clock.now_ms(), 2_100);
    world.accept_call(call);
    world.leadership.changed().await.unwrap();
    assert_eq!(world.leadership.borrow_and_update().held_until_ms, 12_100);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_on_renewal_ends_the_term_if_another_has_it() {
    let mut world = World::start();
    world.acquire_free().await;
    world.api.call().await.reply(409, &status(409, "Conflict"));
    world.answer_get("other", 2, "2026-01-01T00:00:00.000000Z").await;
    world
        .leadership
        .wait_for(|leadership| !leadership.leading)
        .await
        .unwrap();
    assert_eq!((world.clock.now_ms(), world.leadership.borrow().epoch), (2_000, 2));
}

#[tokio::test(start_paused = true)]
async fn the_loser_of_a_race_for_a_free_lease_reads_again() {
    let mut world = World::start();
    world.get().await.reply(404, &status(404, "NotFound"));
    world.api.call().await.reply(409, &status(409, "AlreadyExists"));
    world.answer_get("other", 1, "2026-01-01T00:00:00.000000Z").await;
    assert_eq!(world.clock.now_ms(), 100);
    assert!(!world.leadership.borrow().leading);
}

#[tokio::test(start_paused = true)]
async fn a_missing_namespace_is_not_hammered() {
    let mut world = World::start();
    let mut calls = 0;
    while world.clock.now_ms() < 60_000 {
        world.api.call().await.reply(404, &status(404, "NotFound"));
        calls += 1;
        assert!(calls <= 62, "{calls} calls in {} ms", world.clock.now_ms());
    }
}

#[tokio::test(start_paused = true)]
async fn release_gives_the_lease_back_and_ends_the_term() {
    let mut world = World::start();
    world.acquire_free().await;
    let World {
        mut api,
        handle,
        leadership,
        ..
    } = world;
    let (released, ()) = tokio::join!(handle.release(), async {
        let call = api.call().await;
        assert_eq!(
            (call.method.as_str(), &call.body["spec"]["holderIdentity"]),
            ("PUT", &Value::Null)
        );
        assert_eq!(call.body["spec"]["leaseTransitions"], 1);
        let body = call.body.clone();
        call.reply(200, &body);
    });
    assert!(released);
    assert!(!leadership.borrow().leading);
    assert!(
        api.call_within(Duration::from_mins(1)).await.is_none(),
        "it stands for election no more"
    );
}

#[tokio::test(start_paused = true)]
async fn a_dropped_handle_leaves_the_lease_to_expire() {
    let mut world = World::start();
    world.acquire_free().await;
    let World {
        mut api,
        handle,
        mut leadership,
        ..
    } = world;
    drop(handle);
    leadership.wait_for(|leadership| !leadership.leading).await.unwrap();
    assert!(api.call_within(Duration::from_mins(1)).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn leadership_runs_out_by_itself_for_whoever_looks_at_the_clock() {
    let mut world = World::start();
    let leadership = world.acquire_free().await;
    assert!(leadership.holds(9_999));
    assert!(!leadership.holds(10_000));
    assert!(
        !Leadership {
            leading: false,
            ..leadership
        }
        .holds(0)
    );
}
