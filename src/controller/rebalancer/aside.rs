//! The certified solver, beside the loop: it gets a thread and a slice of time, and its answer comes back like any event.
//! No decision waits for it.

use std::time::Duration;

use tokio::task::{JoinError, JoinSet};

use super::super::clock::Clock;
use super::super::spans;
use crate::rebalance::propose::{Proposal, Question, propose};
use crate::rebalance::solve::{Memory, Settings};

/// Time one search may take. A thousand stages on eight pools need about ten milliseconds.
const SLICE: Duration = Duration::from_millis(50);
/// Part of one core that searching may take: after a search, nine times as long nothing is asked.
const REST_TIMES: u32 = 9;
/// Nothing is asked sooner than this after an answer, so that a burst of events is one question.
const REST_MS_MIN: u64 = 100;

/// At most one search at a time.
pub(super) struct Aside {
    memory: Option<Memory>,
    running: JoinSet<Answer>,
    due_ms: u64,
}

pub(super) struct Answer {
    pub(super) proposal: Proposal,
    pub(super) took: Duration,
    memory: Memory,
}

impl Aside {
    pub(super) fn new() -> Self {
        Self {
            memory: Some(Memory::default()),
            running: JoinSet::new(),
            due_ms: 0,
        }
    }

    /// Whether a question would be looked at now.
    pub(super) fn is_free(&self, now_ms: u64) -> bool {
        self.memory.is_some() && now_ms >= self.due_ms
    }

    /// Starts a search; none if one is under way.
    pub(super) fn ask(&mut self, question: Question, clock: &Clock) {
        let Some(mut memory) = self.memory.take() else { return };
        let clock = clock.clone();
        let span = spans::search(question.stages());
        self.running.spawn_blocking(move || {
            let _in = span.enter();
            let start = clock.now();
            let searching = question.searching(SLICE);
            let mut go_on = || clock.now().duration_since(start) < searching;
            let proposal = propose(&question, &mut memory, &Settings::default(), &mut go_on);
            span.record("tiercel.gap_ppm", proposal.certificate.gap_ppm);
            span.record("tiercel.gap_in_force_ppm", proposal.certificate.gap_in_force_ppm);
            Answer {
                proposal,
                took: clock.now().duration_since(start),
                memory,
            }
        });
    }

    /// The next answer; none while nothing is asked. Safe to drop and call again.
    pub(super) async fn next(&mut self) -> Option<Result<Answer, JoinError>> {
        self.running.join_next().await
    }

    /// Takes an answer apart. A search that broke leaves nothing but its place.
    pub(super) fn done(&mut self, answer: Result<Answer, JoinError>, now_ms: u64) -> Option<(Proposal, Duration)> {
        let answer = answer.inspect_err(|error| tracing::error!(%error, "the solver broke; plans go on without it"));
        let Ok(Answer { proposal, took, memory }) = answer else {
            self.memory = Some(Memory::default());
            self.due_ms = now_ms.saturating_add(60_000);
            return None;
        };
        self.memory = Some(memory);
        let rest_ms = u64::try_from((took * REST_TIMES).as_millis()).unwrap_or(u64::MAX);
        self.due_ms = now_ms.saturating_add(rest_ms.max(REST_MS_MIN));
        Some((proposal, took))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_search_at_a_time_and_a_rest_after_it() {
        let clock = Clock::start();
        let mut aside = Aside::new();
        assert!(aside.is_free(0));
        aside.ask(Question::default(), &clock);
        assert!(!aside.is_free(0), "under way");
        let answer = aside.next().await.unwrap();
        let (proposal, _) = aside.done(answer, 1_000).unwrap();
        assert_eq!(
            proposal,
            Proposal {
                certificate: proposal.certificate.clone(),
                ..Proposal::default()
            }
        );
        assert!(!aside.is_free(1_000 + REST_MS_MIN - 1), "resting");
        assert!(aside.is_free(1_000 + 60_000));
        assert!(aside.next().await.is_none(), "nothing asked");
    }

    #[tokio::test]
    async fn a_search_that_breaks_leaves_its_place_to_the_next() {
        let clock = Clock::start();
        let mut aside = Aside::new();
        let broken = tokio::spawn(async { panic!("on purpose") }).await.unwrap_err();
        aside.memory = None;
        assert!(aside.done(Err(broken), 5).is_none());
        assert!(!aside.is_free(5) && aside.is_free(60_005));
        aside.ask(Question::default(), &clock);
        assert!(aside.next().await.unwrap().is_ok());
    }
}
