//! I/O: one endpoint, asked in rounds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};

use super::{Ground, Target, Trouble, groups, scraped, ticks};
use crate::signals::Why;
use crate::signals::presets::Preset;
use crate::signals::prometheus::answer::Answer;
use crate::signals::prometheus::client::{Client, Error};
use crate::signals::prometheus::question::{Question, Signal};
use crate::signals::prometheus::said::Said;
use crate::signals::prometheus::template::{Names, Per};
use crate::signals::scraper::Scraped;
use crate::signals::sources::Ask;
use crate::signals::stage::{StageAnswer, StageKey};

/// So many presets and namespaces in a row whose query runs into its timeout end a round: the endpoint is slow, not the
/// query.
const TIMEOUTS_MAX: u32 = 2;

/// Asks one endpoint.
struct Poller {
    ground: Ground,
    client: Client,
    pace: Interval,
    trouble: Trouble,
    /// When each question was last evaluated, by preset, namespace and part.
    evaluated_ms: BTreeMap<(&'static str, Arc<str>, usize), i64>,
    /// The last answer about each pod, by preset and UID.
    known: BTreeMap<(&'static str, Arc<str>), u64>,
    /// Not to be asked before.
    silent_until_ms: u64,
    /// Why the rest of the round need not be asked.
    given_up: Option<Why>,
    timeouts_in_a_row: u32,
}

pub(super) async fn poll(index: usize, ground: Ground) {
    let Some(endpoint) = ground.sources.endpoints.get(index).cloned() else {
        return;
    };
    let mut pace = tokio::time::interval(Duration::from_secs(1) / endpoint.queries_per_second.max(1));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ticks = ticks(endpoint.interval);
    let mut poller = Poller {
        client: Client::new(Arc::clone(&endpoint)),
        ground,
        pace,
        trouble: Trouble::default(),
        evaluated_ms: BTreeMap::new(),
        known: BTreeMap::new(),
        silent_until_ms: 0,
        given_up: None,
        timeouts_in_a_row: 0,
    };
    let mut rounds: usize = 0;
    while let Some(wanted) = poller.ground.round(&mut ticks).await {
        if poller.ground.clock.now_ms() < poller.silent_until_ms {
            continue;
        }
        let sources = Arc::clone(&poller.ground.sources);
        let here = |target: &Target| matches!(sources.ask(target.preset.name()), Some((_, Some(at))) if at == index);
        let groups = groups(&wanted, here);
        poller.forget(&groups);
        if groups.is_empty() {
            continue;
        }
        match poller.client.refresh_token().await {
            Ok(()) => poller.trouble.over("token"),
            // The last one may still do.
            Err(error) => poller.trouble.say("token", &error),
        }
        poller.given_up = None;
        poller.timeouts_in_a_row = 0;
        // Another one is first in each round, so that nobody's slow queries keep the same others from being asked.
        let mut groups: Vec<_> = groups.into_iter().collect();
        let many = groups.len();
        groups.rotate_left(rounds % many.max(1));
        rounds = rounds.wrapping_add(1);
        for ((preset, namespace), targets) in groups {
            let Some((Ask::Queries { per, signals, .. }, _)) = sources.ask(preset) else {
                continue;
            };
            let listening = match per {
                Per::Pod => poller.pods(signals, &namespace, &targets).await,
                Per::Stage => poller.stages(signals, &namespace, &targets).await,
            };
            if !listening {
                return;
            }
        }
    }
}

impl Poller {
    /// One request for the pods of all stages, or as few as their names fit into.
    async fn pods(&mut self, signals: &[Signal], namespace: &Arc<str>, targets: &[&Target]) -> bool {
        let Some(preset) = targets.first().map(|target| target.preset) else {
            return true;
        };
        let uids: BTreeMap<&str, &Arc<str>> = targets
            .iter()
            .flat_map(|target| &target.pods)
            .map(|(name, uid)| (name.as_str(), uid))
            .collect();
        let names: Vec<&str> = uids.keys().copied().collect();
        let mut slow = false;
        for (part, (question, asked)) in Question::per_pod(signals, namespace, &names).into_iter().enumerate() {
            let answered = if slow {
                Err(Why::Timeout)
            } else {
                self.ask(&question, preset, namespace, part).await
            };
            slow = matches!(answered, Err(Why::Timeout));
            let mut answers = Vec::with_capacity(asked.len());
            match answered {
                Err(why) => {
                    let now_ms = self.ground.clock.now_ms();
                    let failed = |name: &&str| uids.get(name).map(|uid| scraped(uid, preset, now_ms, Err(why)));
                    answers.extend(asked.iter().filter_map(failed));
                }
                Ok((sent_ms, answer)) => {
                    for (name, numbers) in asked.iter().zip(question.pods(&answer, asked)) {
                        let Some(uid) = uids.get(name) else { continue };
                        answers.extend(self.pod(preset, uid, sent_ms, Said::of(&numbers, signals)));
                    }
                }
            }
            if !self.ground.pods(answers) {
                return false;
            }
        }
        true
    }

    /// The answer of a pod, dated back by its age; nothing if it is the last one again, which must not make it younger.
    fn pod(
        &mut self,
        preset: &'static Preset,
        uid: &Arc<str>,
        sent_ms: u64,
        said: Result<Said, Why>,
    ) -> Option<Scraped> {
        let said = match said {
            Err(why) => return Some(scraped(uid, preset, sent_ms, Err(why))),
            Ok(said) => said,
        };
        // An operator that is younger than the number has no date for it yet.
        let taken_ms = sent_ms.checked_sub(said.age_ms)?;
        let key = (preset.name(), Arc::clone(uid));
        let before = self.known.insert(key, said.fingerprint);
        (before != Some(said.fingerprint)).then(|| scraped(uid, preset, taken_ms, Ok(said.of_pod())))
    }

    /// One request for all stages, or as few as their queries fit into.
    async fn stages(&mut self, signals: &[Signal], namespace: &Arc<str>, targets: &[&Target]) -> bool {
        let Some(preset) = targets.first().map(|target| target.preset) else {
            return true;
        };
        let mut pods: BTreeMap<&StageKey, Vec<&str>> = BTreeMap::new();
        for target in targets {
            let names = target.pods.keys().map(String::as_str);
            pods.entry(&target.stage).or_default().extend(names);
        }
        let stages: Vec<&StageKey> = pods.keys().copied().collect();
        let names: Vec<Names<'_>> = pods
            .iter()
            .map(|(stage, pods)| Names {
                namespace: &stage.namespace,
                pipeline: &stage.pipeline,
                stage: &stage.stage,
                pods,
            })
            .collect();
        let mut stages = stages.into_iter();
        let mut slow = false;
        for (part, (question, asked)) in Question::per_stage(signals, &names).into_iter().enumerate() {
            let answered = if slow {
                Err(Why::Timeout)
            } else {
                self.ask(&question, preset, namespace, part).await
            };
            slow = matches!(answered, Err(Why::Timeout));
            let (received_ms, outcomes) = match answered {
                Err(why) => (self.ground.clock.now_ms(), vec![Err(why); asked.len()]),
                Ok((sent_ms, answer)) => {
                    let numbers = question.stages(&answer, asked.len());
                    let said = numbers.iter().map(|numbers| Said::of(numbers, signals));
                    (sent_ms, said.map(|said| said.map(Said::of_stage)).collect())
                }
            };
            let answers = stages.by_ref().zip(outcomes).map(|(stage, outcome)| StageAnswer {
                stage: stage.clone(),
                preset,
                received_ms,
                outcome,
            });
            if !self.ground.stages(answers.collect()) {
                return false;
            }
        }
        true
    }

    /// Puts one question, unless the endpoint has shown in this round that it will not answer. With the answer comes the
    /// time when it was sent: what was measured before the answer's evaluation was measured before that at the latest.
    async fn ask(
        &mut self,
        question: &Question<'_>,
        preset: &'static Preset,
        namespace: &Arc<str>,
        part: usize,
    ) -> Result<(u64, Answer), Why> {
        if let Some(why) = self.given_up {
            return Err(why);
        }
        self.pace.tick().await;
        let sent_ms = self.ground.clock.now_ms();
        let answered = self.client.query(&question.text).await;
        let subject = format!("{namespace}/{}", preset.name());
        self.timeouts_in_a_row = match answered {
            Err(Error::Timeout { .. }) => self.timeouts_in_a_row + 1,
            _ => 0,
        };
        let answer = match answered {
            Ok(answer) => answer,
            Err(error) => {
                if error.concerns_endpoint() || self.timeouts_in_a_row >= TIMEOUTS_MAX {
                    self.given_up = Some(error.why());
                }
                if let Error::Busy {
                    retry_after: Some(after),
                    ..
                } = &error
                {
                    let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
                    self.silent_until_ms = self.ground.clock.now_ms().saturating_add(after);
                }
                self.trouble.say(&subject, &error);
                return Err(error.why());
            }
        };
        // Somebody between us and the server repeats an old answer, whose ages look as young as they once were.
        let evaluated = self
            .evaluated_ms
            .insert((preset.name(), Arc::clone(namespace), part), answer.evaluated_ms);
        if !answer.samples.is_empty() && evaluated == Some(answer.evaluated_ms) {
            self.trouble.say(
                &subject,
                &"the same evaluation is answered again: a cache is in the way",
            );
            return Err(Why::Frozen);
        }
        self.trouble.over(&subject);
        Ok((sent_ms, answer))
    }

    /// Forgets what nobody asks about any more.
    fn forget(&mut self, groups: &BTreeMap<(&'static str, Arc<str>), Vec<&Target>>) {
        self.evaluated_ms
            .retain(|(preset, namespace, _), _| groups.contains_key(&(*preset, Arc::clone(namespace))));
        let wanted: std::collections::BTreeSet<&Arc<str>> = groups
            .values()
            .flatten()
            .flat_map(|target| target.pods.values())
            .collect();
        self.known.retain(|(_, uid), _| wanted.contains(uid));
    }
}
