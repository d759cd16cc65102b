//! The queueing model of one replica: slots, a first-in-first-out queue in front of them, and batching.
//!
//! Pure: time is an argument (seconds since any fixed origin, never going back), so the model can be held against
//! closed-form results. Requests that run together share one speed that depends on how many there are, so one *virtual
//! clock* of work done per request is enough to know exactly when each finishes, whatever joins or leaves meanwhile.

use std::collections::{BTreeSet, HashMap, VecDeque};

/// What one replica can do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Capacity {
    /// Requests that run at the same time; the others wait. At least 1.
    pub slots: u32,
    /// Requests of one unit of work per second with every slot busy.
    pub requests_per_s: f64,
    /// How much longer one request takes when all slots are busy than when it is alone: 1 for independent slots, `slots`
    /// for one shared processor, in between for batching.
    pub slowdown: f64,
    /// Requests that may wait; more are refused.
    pub queue_limit: u32,
}

impl Capacity {
    /// Seconds that one unit of work takes while `running` requests share the replica.
    pub fn seconds_per_unit(&self, running: u32) -> f64 {
        let slots = f64::from(self.slots.max(1));
        let full = slots / self.requests_per_s.max(f64::MIN_POSITIVE);
        if self.slots <= 1 {
            return full;
        }
        let slowdown = self.slowdown.clamp(1.0, slots);
        let share = (f64::from(running.clamp(1, self.slots)) - 1.0) / (slots - 1.0);
        full * (1.0 + (slowdown - 1.0) * share) / slowdown
    }

    /// Share of the full throughput that `running` requests draw, 0 to 1.
    pub fn utilization(&self, running: u32) -> f64 {
        if running == 0 {
            return 0.0;
        }
        f64::from(running) / self.seconds_per_unit(running) / self.requests_per_s.max(f64::MIN_POSITIVE)
    }
}

/// What happened to a request on arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It got a slot at once.
    Running,
    /// It waits.
    Waiting,
    /// The queue is full.
    Refused,
}

/// A request that is done. Times in seconds of the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Finished {
    /// As given on arrival.
    pub id: u64,
    /// When it came.
    pub arrived: f64,
    /// When it got a slot.
    pub started: f64,
    /// When it was done.
    pub finished: f64,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    arrived: f64,
    started: f64,
    work: f64,
    /// Reading of the virtual clock at which it is done.
    due: f64,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    id: u64,
    arrived: f64,
    work: f64,
}

/// One replica's queue and slots.
#[derive(Clone, Debug)]
pub struct Station {
    capacity: Capacity,
    /// Speed factor: 1 as declared, less when slowed down, 0 when hanging.
    pace: f64,
    now: f64,
    /// Units of work that a request running since the origin of this clock would have got.
    virtual_now: f64,
    /// Bits of `due` (non-negative floats order like their bits) and the id.
    by_due: BTreeSet<(u64, u64)>,
    running: HashMap<u64, Running>,
    waiting: VecDeque<Waiting>,
    finished: Vec<Finished>,
    busy_s: f64,
}

impl Station {
    /// An empty station at time `now`.
    pub fn new(capacity: Capacity, now: f64) -> Self {
        Self {
            capacity,
            pace: 1.0,
            now,
            virtual_now: 0.0,
            by_due: BTreeSet::new(),
            running: HashMap::new(),
            waiting: VecDeque::new(),
            finished: Vec::new(),
            busy_s: 0.0,
        }
    }

    /// Requests that hold a slot.
    pub fn running(&self) -> u32 {
        u32::try_from(self.running.len()).unwrap_or(u32::MAX)
    }

    /// Requests that wait for a slot.
    pub fn waiting(&self) -> u32 {
        u32::try_from(self.waiting.len()).unwrap_or(u32::MAX)
    }

    /// Whether this request holds a slot.
    pub fn is_running(&self, id: u64) -> bool {
        self.running.contains_key(&id)
    }

    /// Share of its work that a request in a slot has got so far, 0 to 1; `None` while it waits or if it is unknown.
    pub fn progress(&self, id: u64) -> Option<f64> {
        let run = self.running.get(&id)?;
        let left = (run.due - self.virtual_now).max(0.0);
        Some(if run.work > 0.0 {
            (1.0 - left / run.work).clamp(0.0, 1.0)
        } else {
            1.0
        })
    }

    /// Seconds of full-throughput work done so far, up to the last call of [`Station::advance`].
    pub fn busy_s(&self) -> f64 {
        self.busy_s
    }

    /// Brings `work` units (1 = the reference request) at `now`. `id` must be new.
    pub fn arrive(&mut self, now: f64, id: u64, work: f64) -> Admission {
        self.advance(now);
        let waiting = Waiting {
            id,
            arrived: self.now,
            work: work.max(0.0),
        };
        if self.running() < self.capacity.slots.max(1) {
            self.start(waiting);
            Admission::Running
        } else if self.waiting() < self.capacity.queue_limit {
            self.waiting.push_back(waiting);
            Admission::Waiting
        } else {
            Admission::Refused
        }
    }

    /// Takes a request out before it is done, as when its client went away. Unknown ids are ignored.
    pub fn cancel(&mut self, now: f64, id: u64) {
        self.advance(now);
        if let Some(run) = self.running.remove(&id) {
            self.by_due.remove(&(run.due.to_bits(), id));
            self.fill();
        } else {
            self.waiting.retain(|w| w.id != id);
        }
    }

    /// Changes the speed from `now` on: 0.5 takes twice as long, 0 stops.
    pub fn set_pace(&mut self, now: f64, pace: f64) {
        self.advance(now);
        self.pace = pace.max(0.0);
    }

    /// Lets time pass up to `now`; what finished is kept for [`Station::take_finished`].
    pub fn advance(&mut self, now: f64) {
        let now = now.max(self.now);
        while let Some(at) = self.next_completion().filter(|at| *at <= now) {
            let Some((due_bits, id)) = self.by_due.pop_first() else {
                break;
            };
            self.busy_s += (at - self.now) * self.pace * self.capacity.utilization(self.running());
            self.now = at;
            self.virtual_now = f64::from_bits(due_bits);
            if let Some(run) = self.running.remove(&id) {
                self.finished.push(Finished {
                    id,
                    arrived: run.arrived,
                    started: run.started,
                    finished: at,
                });
            }
            self.fill();
        }
        let running = self.running();
        if running == 0 {
            self.virtual_now = 0.0;
        } else {
            let elapsed = (now - self.now) * self.pace;
            self.busy_s += elapsed * self.capacity.utilization(running);
            self.virtual_now += elapsed / self.capacity.seconds_per_unit(running);
        }
        self.now = now;
    }

    /// When the next request will be done if nothing else happens.
    pub fn next_completion(&self) -> Option<f64> {
        let (due_bits, _) = self.by_due.first()?;
        if self.pace <= 0.0 {
            return None;
        }
        let left = (f64::from_bits(*due_bits) - self.virtual_now).max(0.0);
        Some(self.now + left * self.capacity.seconds_per_unit(self.running()) / self.pace)
    }

    /// What finished since the last call, in order of time.
    pub fn take_finished(&mut self) -> Vec<Finished> {
        std::mem::take(&mut self.finished)
    }

    fn fill(&mut self) {
        while self.running() < self.capacity.slots.max(1) {
            let Some(next) = self.waiting.pop_front() else { break };
            self.start(next);
        }
    }

    fn start(&mut self, request: Waiting) {
        let due = self.virtual_now + request.work;
        self.by_due.insert((due.to_bits(), request.id));
        self.running.insert(
            request.id,
            Running {
                arrived: request.arrived,
                started: self.now,
                work: request.work,
                due,
            },
        );
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
