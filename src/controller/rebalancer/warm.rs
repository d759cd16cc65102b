//! What room is to be kept for bursts: as the core says, and for an hour after a start as was kept before.

use std::sync::Arc;

use kube::core::DeserializeGuard;

use super::super::capacity::PoolObservation;
use super::super::pipeline::validated::PipelineId;
use super::super::report::{WarmRoom, WarmRooms};
use super::super::view::Amounts;
use super::Rebalancer;
use crate::api::ComputePool;
use crate::quantity::Round;
use crate::rebalance::burst::Room;

/// For how long what was kept before a start is kept at least: the time in which the core remembers bursts.
const RECALLED_MS: u64 = 3_600_000;

impl Rebalancer {
    /// Tells what room is to be kept.
    pub(super) fn keep_rooms(&mut self, now_ms: u64) {
        let mut rooms: WarmRooms = (self.state.rooms(now_ms).iter())
            .filter_map(|room| {
                let pool = self.index.pools.get(room.pool.0 as usize)?;
                let stage = self.index.stage(room.stage)?;
                let pipeline = self.index.pipeline(stage.pipeline)?;
                let kept = WarmRoom {
                    part: room.part,
                    parts: room.parts,
                    reason: why(room, &stage.name, pipeline),
                };
                Some((pool.clone(), kept))
            })
            .collect();
        if now_ms < self.started_ms.saturating_add(RECALLED_MS) {
            let keeps = |name: &String| {
                let mut keeps = self.index.keeps.iter();
                keeps.any(|keep| self.index.pools.get(keep.pool.0 as usize) == Some(name))
            };
            let before = self.rooms_before.iter().flatten().filter(|(name, _)| keeps(name));
            recall(&mut rooms, before);
        }
        self.ctx.rooms.send_if_modified(|known| {
            let differs = known.as_deref() != Some(&rooms);
            if differs {
                *known = Some(Arc::new(rooms));
            }
            differs
        });
    }
}

/// What was kept before stays where less is wanted now.
fn recall<'a>(rooms: &mut WarmRooms, before: impl Iterator<Item = (&'a String, &'a WarmRoom)>) {
    for (name, before) in before {
        if rooms.get(name).is_none_or(|room| room.parts < before.parts) {
            rooms.insert(name.clone(), before.clone());
        }
    }
}

/// What the pools' statuses say was kept before. What was wrong with it is looked at anew.
pub(super) fn recalled(pools: &[Arc<DeserializeGuard<ComputePool>>], observed: &[PoolObservation]) -> WarmRooms {
    let known = pools.iter().filter_map(|pool| pool.0.as_ref().ok());
    known
        .filter_map(|pool| {
            let name = pool.metadata.name.clone()?;
            let kept = pool.status.as_ref()?.warm_buffer.as_ref()?;
            let device = observed
                .iter()
                .find(|observed| observed.name == name)?
                .device
                .as_deref();
            let part = Amounts::offered(&kept.requests).resources(device, Round::Up);
            let parts = u32::try_from(kept.placeholders).ok()?;
            let reason = kept.reason.split("; it is not held").next()?.to_owned();
            Some((name, WarmRoom { part, parts, reason }))
        })
        .collect()
}

/// For people: what room is kept for.
fn why(room: &Room, stage: &str, pipeline: &PipelineId) -> String {
    let PipelineId { namespace, name, .. } = pipeline;
    let replicas = match room.replicas {
        1 => "1 replica".to_owned(),
        many => format!("{many} replicas"),
    };
    let seconds = room.within_ms.div_ceil(1_000);
    let less = if room.whole {
        ""
    } else {
        "; `warmBuffer.maxNodes` allows no more"
    };
    format!(
        "stage '{stage}' of pipeline '{namespace}/{name}' may need {replicas} more as suddenly as within the last hour, when its \
         demand rose faster than a new replica on a new node starts ({seconds} s){less}"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controller::capacity::fixtures::World;
    use crate::rebalance::world::{PoolIdx, Resources, StageIdx};

    const PART: Resources = Resources {
        cpu_millis: 1_500,
        memory_kib: 2 << 20,
        device_millis: 0,
    };

    fn room(parts: u32, reason: &str) -> WarmRoom {
        let reason = reason.to_owned();
        WarmRoom {
            part: PART,
            parts,
            reason,
        }
    }

    #[test]
    fn what_was_kept_before_a_start_is_kept_until_more_is_wanted() {
        let status = json!({"warmBuffer": {"placeholders": 4, "held": 0, "requests": {"cpu": "1500m", "memory": "2Gi"},
                                           "reason": "a burst; it is not held: forbidden"}});
        let world = World::default()
            .pool("a", json!({"status": status}))
            .pool("b", json!({}));
        let pools: Vec<_> = world
            .pools
            .iter()
            .map(|pool| Arc::new(DeserializeGuard(Ok((**pool).clone()))))
            .collect();
        let before = recalled(&pools, &world.observe());
        assert_eq!(before, WarmRooms::from([("a".to_owned(), room(4, "a burst"))]));
        for (wanted, kept) in [(None, 4), (Some(3), 4), (Some(5), 5)] {
            let mut rooms: WarmRooms = wanted
                .map(|parts| ("a".to_owned(), room(parts, "now")))
                .into_iter()
                .collect();
            recall(&mut rooms, before.iter());
            assert_eq!(rooms["a"].parts, kept, "{wanted:?}");
        }
    }

    #[test]
    fn people_read_whose_burst_it_is_and_when_it_is_less() {
        let id = PipelineId {
            namespace: "shop".to_owned(),
            name: "rag".to_owned(),
            uid: "u".to_owned(),
        };
        let mut room = Room {
            pool: PoolIdx(0),
            part: PART,
            parts: 3,
            stage: StageIdx(0),
            replicas: 3,
            rise: 1_000,
            within_ms: 131_500,
            whole: true,
        };
        assert_eq!(
            why(&room, "embed", &id),
            "stage 'embed' of pipeline 'shop/rag' may need 3 replicas more as suddenly as within the last hour, when its demand rose \
             faster than a new replica on a new node starts (132 s)"
        );
        (room.replicas, room.whole) = (1, false);
        assert!(why(&room, "embed", &id).contains("1 replica more"));
        assert!(why(&room, "embed", &id).ends_with("; `warmBuffer.maxNodes` allows no more"));
    }
}
