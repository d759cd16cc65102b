//! What was told, to tell news from repetition, and to tell no more than etcd should hold. Pure.

use std::collections::HashMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::table::{self, Row, When};
use crate::api::conditions::{Reason, Status, Type};

/// Objects, and messages, that are remembered; what was not told of for the longest time gives way.
pub(super) const TOLD_MAX: usize = 8_192;
/// A message told again within this time is the same news. Longer than the time between two passes.
const SAME_NEWS_MS: u64 = 360_000;
/// A message under a reason of one object makes an Event at most this often, however it flickers.
const INTERVAL_MS: u64 = 10_000;
/// Events of one object at once, and the time for one more: the limits of Kubernetes' own components. An object that
/// flaps without end makes 25 Events and then twelve an hour. The API server keeps Events for an hour: at most 37 of an
/// object, some 40 kB.
const BURST: u32 = 25;
const REFILL_MS: u64 = 300_000;

#[derive(Debug, Default)]
pub(super) struct Told {
    by_reason: HashMap<(String, &'static str), Telling>,
    by_object: HashMap<String, Object>,
}

#[derive(Debug)]
struct Telling {
    message: String,
    published_ms: u64,
    told_ms: u64,
}

/// What was told of one object.
#[derive(Debug)]
struct Object {
    /// The reason told last, by condition; none of one that was never told. Not there: what stands in the status counts as
    /// told.
    reasons: Vec<(Type, Option<Reason>)>,
    tokens: u32,
    refilled_ms: u64,
    told_ms: u64,
}

impl Told {
    /// True if this message is news about the object and worth an Event.
    pub(super) fn is_news(&mut self, uid: &str, reason: &'static str, message: &str, now_ms: u64) -> bool {
        let key = (uid.to_owned(), reason);
        if let Some(telling) = self.by_reason.get_mut(&key) {
            let same = telling.message == message && now_ms.saturating_sub(telling.told_ms) < SAME_NEWS_MS;
            if same || now_ms.saturating_sub(telling.published_ms) < INTERVAL_MS {
                telling.told_ms = now_ms;
                return false;
            }
        } else {
            make_room(&mut self.by_reason, |telling| telling.told_ms);
        }
        let telling = Telling {
            message: message.to_owned(),
            published_ms: now_ms,
            told_ms: now_ms,
        };
        self.by_reason.insert(key, telling);
        true
    }

    /// Such a message could not be told: it stays news.
    pub(super) fn forget(&mut self, uid: &str, reason: &'static str) {
        self.by_reason.remove(&(uid.to_owned(), reason));
    }

    /// What of an object's conditions differs from what people were told last, the summary first. By level, not by edge:
    /// what could not be told stays news for the next pass, as long as it holds. `before`: the conditions on record, which
    /// count as told by whoever wrote them.
    pub(super) fn news<'a>(
        &mut self,
        uid: &str,
        table: &'static [Row],
        before: &[Condition],
        now: &'a [Condition],
        now_ms: u64,
    ) -> Vec<(Row, &'a Condition)> {
        let known = self.by_object.get(uid);
        let told = |type_: Type| {
            let known = known.and_then(|object| object.reasons.iter().find(|(known, _)| *known == type_));
            known.map_or_else(|| on_record(table, before, type_), |(_, reason)| *reason)
        };
        let due = |type_: &Type| {
            let condition = of(now, *type_)?;
            let row = table::find(table, *type_, &condition.reason)?;
            let last = told(*type_);
            let due = match row.when {
                When::Taken => true,
                // Of what is young nothing is known yet: that is no loss.
                When::Lost => condition.status == Status::False.as_str() || last.is_some(),
                When::Back => last.is_some(),
                When::Seen => false,
            };
            (due && last != Some(row.reason)).then_some((row, condition, last))
        };
        let due: Vec<_> = Type::ALL.iter().filter_map(due).collect();
        if !due.is_empty() {
            // The status is written whether or not people can be told: it says no longer what they know.
            let object = self.object(uid, now_ms);
            for (row, _, last) in &due {
                if object.reasons.iter().all(|(type_, _)| *type_ != row.type_) {
                    object.reasons.push((row.type_, *last));
                }
            }
        }
        let due = due.into_iter().map(|(row, condition, _)| (row, condition)).collect();
        self.settle(uid, table, now);
        due
    }

    /// A loss that nobody was told of is over: what holds now counts as told.
    fn settle(&mut self, uid: &str, table: &'static [Row], now: &[Condition]) {
        let Some(object) = self.by_object.get_mut(uid) else {
            return;
        };
        for (type_, told) in object.reasons.iter_mut().filter(|(_, told)| told.is_none()) {
            let row = of(now, *type_).and_then(|condition| table::find(table, *type_, &condition.reason));
            *told = row.filter(|row| row.when == When::Back).map(|row| row.reason);
        }
    }

    fn object(&mut self, uid: &str, now_ms: u64) -> &mut Object {
        if !self.by_object.contains_key(uid) {
            make_room(&mut self.by_object, |object| object.told_ms);
        }
        self.by_object.entry(uid.to_owned()).or_insert(Object {
            reasons: Vec::new(),
            tokens: BURST,
            refilled_ms: now_ms,
            told_ms: now_ms,
        })
    }

    /// Takes one of the object's Events. False if it had too many.
    pub(super) fn take(&mut self, uid: &str, now_ms: u64) -> bool {
        let object = self.object(uid, now_ms);
        let more = now_ms.saturating_sub(object.refilled_ms) / REFILL_MS;
        object.tokens = BURST.min(object.tokens.saturating_add(u32::try_from(more).unwrap_or(BURST)));
        object.refilled_ms = if object.tokens == BURST {
            now_ms
        } else {
            object.refilled_ms + more * REFILL_MS
        };
        let Some(left) = object.tokens.checked_sub(1) else {
            return false;
        };
        object.tokens = left;
        object.told_ms = now_ms;
        true
    }

    /// Keeps that a row was told of an object.
    pub(super) fn remember(&mut self, uid: &str, row: Row) {
        let Some(object) = self.by_object.get_mut(uid) else {
            return;
        };
        object.reasons.retain(|(type_, _)| *type_ != row.type_);
        object.reasons.push((row.type_, Some(row.reason)));
    }
}

fn of(conditions: &[Condition], type_: Type) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == type_.as_str())
}

/// The reason that counts as told because it stands in the status. What is unknown there may never have been told.
fn on_record(table: &'static [Row], before: &[Condition], type_: Type) -> Option<Reason> {
    let condition = of(before, type_)?;
    let row = table::find(table, type_, &condition.reason)?;
    (row.when == When::Taken || condition.status != Status::Unknown.as_str()).then_some(row.reason)
}

/// Lets the oldest go where all places are taken.
fn make_room<K: Clone + Eq + std::hash::Hash, V>(all: &mut HashMap<K, V>, told_ms: impl Fn(&V) -> u64) {
    if all.len() >= TOLD_MAX {
        let oldest = all.iter().min_by_key(|(_, one)| told_ms(one));
        let oldest = oldest.map(|(key, _)| key.clone());
        oldest.and_then(|key| all.remove(&key));
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::api::conditions::{New, set};
    use crate::controller::events::table::{PIPELINE, POOL};

    #[test]
    fn news_is_a_changed_message_and_repetition_is_not() {
        let mut told = Told::default();
        let table = [
            (0, "a", "PoolDry", "l4 is dry", true),
            (1, "a", "PoolDry", "l4 is dry", false),
            (2, "b", "PoolDry", "l4 is dry", true),
            (3, "a", "PoolNotFound", "l4 is dry", true),
            (9_999, "a", "PoolDry", "h100 is dry", false),
            (10_000, "a", "PoolDry", "h100 is dry", true),
            (300_000, "a", "PoolDry", "h100 is dry", false),
            (600_000, "a", "PoolDry", "h100 is dry", false),
            (960_000, "a", "PoolDry", "h100 is dry", true),
        ];
        for (now_ms, uid, reason, message, expected) in table {
            assert_eq!(
                told.is_news(uid, reason, message, now_ms),
                expected,
                "{uid} {reason} {message} at {now_ms}"
            );
        }
    }

    #[test]
    fn the_memory_of_what_was_told_is_bounded() {
        let mut told = Told::default();
        for object in 0..TOLD_MAX as u64 + 5 {
            assert!(told.is_news(&object.to_string(), "PoolDry", "dry", object));
            assert!(told.take(&object.to_string(), object));
        }
        assert_eq!(told.by_reason.len(), TOLD_MAX);
        assert_eq!(told.by_object.len(), TOLD_MAX);
        assert!(told.is_news("4", "PoolDry", "dry", 9_000), "the oldest is forgotten");
        assert!(!told.is_news("100", "PoolDry", "dry", 9_000));
        assert!(!told.by_object.contains_key("4") && told.by_object.contains_key("100"));
    }

    fn conditions(all: &[(Type, Status, Reason)]) -> Vec<Condition> {
        let mut conditions = Vec::new();
        for (type_, status, reason) in all {
            let new = New {
                type_: *type_,
                status: *status,
                reason: *reason,
                message: String::new(),
            };
            let now = Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
            set(&mut conditions, &now, None, new);
        }
        conditions
    }

    /// Tells what there is to tell, as the operator does.
    fn tell(
        told: &mut Told,
        table: &'static [Row],
        before: &[Condition],
        now: &[Condition],
        now_ms: u64,
    ) -> Vec<Reason> {
        let news: Vec<Row> = told
            .news("a", table, before, now, now_ms)
            .into_iter()
            .map(|(row, _)| row)
            .collect();
        let mut reasons = Vec::new();
        for row in news {
            if told.take("a", now_ms) {
                told.remember("a", row);
                reasons.push(row.reason);
            }
        }
        reasons
    }

    #[test]
    fn a_young_pipeline_tells_of_its_summary_and_of_what_is_lost_and_of_nothing_that_is_well() {
        use Reason::*;
        let mut told = Told::default();
        let mut before = Vec::new();
        let mut then = |all: &[(Type, Status, Reason)]| {
            let now = conditions(all);
            let reasons = tell(&mut told, PIPELINE, &before, &now, 0);
            before = now;
            reasons
        };
        let (unknown, no, yes) = (Status::Unknown, Status::False, Status::True);
        let signals = |status, reason| (Type::SignalsAvailable, status, reason);
        let tier = (Type::PreferredTier, yes, OnPreferredTier);
        assert_eq!(then(&[(Type::Ready, unknown, Pending), tier]), [Pending]);
        assert_eq!(
            then(&[(Type::Ready, no, RollingOut), signals(unknown, MetricsStale), tier]),
            [RollingOut],
            "its pods have never said anything: nothing is lost"
        );
        assert_eq!(
            then(&[(Type::Ready, yes, AsDeclared), signals(yes, Fresh), tier]),
            [AsDeclared]
        );
        assert_eq!(then(&[(Type::Ready, yes, AsDeclared), signals(yes, Fresh), tier]), []);
        assert_eq!(
            then(&[(Type::Ready, yes, AsDeclared), signals(unknown, MetricsStale), tier]),
            [MetricsStale]
        );
        assert_eq!(
            then(&[(Type::Ready, yes, AsDeclared), signals(no, MetricsStale), tier]),
            [],
            "the same loss"
        );
        assert_eq!(
            then(&[(Type::Ready, yes, AsDeclared), signals(yes, Fresh), tier]),
            [Fresh]
        );
    }

    #[test]
    fn every_loss_is_told_and_that_it_is_over_and_a_restarted_operator_repeats_neither() {
        let lost: Vec<&Row> = PIPELINE.iter().filter(|row| row.when == When::Lost).collect();
        assert!(lost.len() >= 6);
        for row in lost {
            let is_end = |back: &&Row| back.type_ == row.type_ && back.when == When::Back;
            let back = PIPELINE.iter().find(is_end).expect("each loss can be over");
            let bad = conditions(&[(row.type_, Status::False, row.reason)]);
            let good = conditions(&[(row.type_, Status::True, back.reason)]);
            let mut told = Told::default();
            assert_eq!(tell(&mut told, PIPELINE, &good, &bad, 0), [row.reason]);
            assert_eq!(tell(&mut told, PIPELINE, &good, &bad, 1), [], "the watch lags");
            let mut restarted = Told::default();
            assert_eq!(tell(&mut restarted, PIPELINE, &bad, &bad, 0), []);
            assert_eq!(tell(&mut restarted, PIPELINE, &bad, &good, 0), [back.reason]);
            let mut young = Told::default();
            assert_eq!(tell(&mut young, PIPELINE, &[], &good, 0), []);
            assert_eq!(tell(&mut young, PIPELINE, &[], &bad, 0), [row.reason]);
        }
    }

    #[test]
    fn that_nobody_contests_replicas_any_more_is_told_once_they_are_where_the_plan_wants_them() {
        use Reason::*;
        let mut told = Told::default();
        let of = |reason| conditions(&[(Type::Balanced, (reason == WithinTolerance).into(), reason)]);
        let mut before = of(WithinTolerance);
        let mut then = |reason| {
            let now = of(reason);
            let reasons = tell(&mut told, PIPELINE, &before, &now, 0);
            before = now;
            reasons
        };
        assert_eq!(then(Shifting), []);
        assert_eq!(then(WithinTolerance), []);
        assert_eq!(then(Contested), [Contested]);
        assert_eq!(then(CoolingDown), []);
        assert_eq!(then(WithinTolerance), [WithinTolerance]);
        assert_eq!(then(Shifting), []);
    }

    #[test]
    fn what_could_not_be_told_stays_news_until_it_is_over_whatever_the_status_says_by_then() {
        let signals = |status, reason| conditions(&[(Type::SignalsAvailable, status, reason)]);
        let fresh = signals(Status::True, Reason::Fresh);
        let stale = signals(Status::False, Reason::MetricsStale);
        let mut told = Told::default();
        for before in [&[][..], &stale, &stale] {
            let news = told.news("a", PIPELINE, before, &stale, 0);
            assert_eq!(news.len(), 1, "nobody was told: {before:?}");
        }
        assert_eq!(
            tell(&mut told, PIPELINE, &stale, &fresh, 0),
            [],
            "no word of a loss, none of its end"
        );
        let unknown = signals(Status::Unknown, Reason::MetricsStale);
        assert_eq!(tell(&mut told, PIPELINE, &fresh, &unknown, 0), [Reason::MetricsStale]);
    }

    #[test]
    fn a_pool_tells_of_its_summary() {
        let mut told = Told::default();
        let ready =
            |status, reason| conditions(&[(Type::Ready, status, reason), (Type::CapacityAvailable, status, reason)]);
        let nodes = ready(Status::True, Reason::NodesAvailable);
        let none = ready(Status::False, Reason::NoNodes);
        assert_eq!(tell(&mut told, POOL, &[], &nodes, 0), [Reason::NodesAvailable]);
        assert_eq!(tell(&mut told, POOL, &nodes, &none, 0), [Reason::NoNodes]);
        assert_eq!(tell(&mut told, POOL, &none, &none, 0), []);
    }

    #[test]
    fn an_object_that_flaps_makes_25_events_and_then_twelve_an_hour_and_the_last_word_is_true() {
        let mut told = Told::default();
        let fresh = conditions(&[(Type::SignalsAvailable, Status::True, Reason::Fresh)]);
        let stale = conditions(&[(Type::SignalsAvailable, Status::False, Reason::MetricsStale)]);
        let mut count = 0;
        let mut before = &fresh;
        let mut last = Reason::Fresh;
        // Five times a second for two hours.
        let end_ms = 2 * 3_600_000;
        for now_ms in (0..end_ms).step_by(200) {
            let now = if now_ms % 400 == 0 { &stale } else { &fresh };
            let reasons = tell(&mut told, PIPELINE, before, now, now_ms);
            count += reasons.len();
            last = reasons.last().copied().unwrap_or(last);
            before = now;
        }
        assert!((25 + 23..=25 + 24).contains(&count), "{count}");
        // It stays lost: a later pass tells, however little was left.
        let other = if last == Reason::Fresh { &stale } else { &fresh };
        let told_later = tell(&mut told, PIPELINE, other, other, end_ms + REFILL_MS);
        assert_eq!(told_later.len(), 1);
        assert_ne!(told_later[0], last);
    }
}
