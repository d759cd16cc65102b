//! Pure: one pool as text for people: chosen or not and why, what it costs, and what the whole stage would cost there.

use super::Explained;
use super::table::paragraph;
use super::text::{heading, held, money, number};
use crate::explain::{Pool, Stage};

/// The answer about the one pool that the stages still name.
pub(super) fn render(explained: &Explained) -> String {
    let mut lines = heading(explained);
    for stage in &explained.document.stages {
        for pool in &stage.pools {
            lines.push(String::new());
            lines.extend(of_pool(stage, pool));
        }
        for excluded in &stage.excluded {
            lines.push(String::new());
            lines.push(format!("stage {} on pool {}: not allowed", stage.name, excluded.pool));
            lines.extend(paragraph("  ", &excluded.why));
        }
    }
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

fn of_pool(stage: &Stage, pool: &Pool) -> Vec<String> {
    let verdict = match pool.wanted {
        None => "what is planned is not known",
        Some(0) => "not chosen",
        Some(_) if pool.not_more.is_some() => "chosen, though not for more",
        Some(_) => "chosen",
    };
    let mut lines = vec![format!("stage {} on pool {}: {verdict}", stage.name, pool.name)];
    let mut say = |text: &str| lines.extend(paragraph("  ", text));
    if let Some(why) = &pool.not_more {
        let question = if pool.wanted == Some(0) {
            "why not"
        } else {
            "why not more"
        };
        say(&format!("{question}: {why}"));
    }
    if let Some(wanted) = pool.wanted.filter(|wanted| wanted.max(&pool.replicas) > &0) {
        say(&format!(
            "{} wanted there, {} asked for, {} Ready",
            replicas(wanted),
            pool.replicas,
            pool.ready
        ));
    }
    if let Some(each) = one(pool) {
        say(&each);
    }
    if pool.below_hint {
        say("the tier hint prefers other pools: this one is for when they are short, dry or over budget");
    }
    if let Some(room) = pool.room {
        say(&match room {
            0 => "no room for another replica".to_owned(),
            // What has no resource to run out of has room for more than anybody counts.
            room if room >= 100_000 => "room for as many as may be asked for".to_owned(),
            room => format!("room for {} more, if others do not take it first", replicas(room)),
        });
    }
    if let Some(alone) = pool.alone {
        let planned = stage
            .cost_per_hour
            .map(|cost| format!("; as planned: {} per hour", money(cost)));
        say(&format!(
            "all of the stage there: {}, {} per hour{}",
            replicas(alone.replicas),
            money(alone.cost_per_hour),
            planned.unwrap_or_default()
        ));
    }
    if let Some(why) = &pool.not_alone {
        say(&format!("not for all of the stage: {why}"));
    }
    lines.extend(held(stage));
    lines
}

/// What one replica costs, draws, serves and takes to start.
fn one(pool: &Pool) -> Option<String> {
    let replica = pool.replica?;
    let mut parts = vec![format!("costs {} per hour", money(replica.cost_per_hour))];
    parts.extend(replica.watts.map(|watts| format!("draws {} W", number(watts))));
    let serves = pool.requests_per_second.as_ref();
    parts.extend(serves.map(|serves| format!("serves {} requests/s", number(serves.value))));
    let starts = pool.startup_seconds.as_ref();
    parts.extend(starts.map(|starts| format!("is Ready after {} s", number(starts.value))));
    let (last, front) = parts.split_last()?;
    Some(match front {
        [] => format!("a replica {last}"),
        front => format!("a replica {} and {last}", front.join(", ")),
    })
}

fn replicas(count: u32) -> String {
    match count {
        1 => "1 replica".to_owned(),
        count => format!("{count} replicas"),
    }
}
