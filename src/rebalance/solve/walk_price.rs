//! The search for prices where all choices of a stage are listed: over prices of whole rooms, which are alike in size.

use super::bundle_price::{Bundle, Step};
use super::oracle::FRACTION;
use super::smooth_price::{float, gain};

/// Prices start to move by such a part of what all costs, shared among the rooms.
const PART: f64 = 1.0 / 50.0;

/// Prices of whole rooms.
#[derive(Clone, Debug, Default)]
pub(super) struct Point(Vec<f64>);

impl Point {
    /// From prices per unit of each room.
    pub(super) fn read(prices: impl Iterator<Item = u64>, room: &[i64]) -> Self {
        let whole = prices.zip(room).map(|(price, &room)| {
            let price = float(price.min(1 << 62).cast_signed());
            price * float(room) / float(1 << FRACTION)
        });
        Self(whole.collect())
    }

    /// Prices per unit.
    pub(super) fn publish(&self, room: &[i64]) -> Vec<u64> {
        let each = self.0.iter().zip(room).map(|(&price, &room)| {
            let unit = price * float(1 << FRACTION) / float(room.max(1));
            // A float that is too large becomes the largest integer, one that is no number zero.
            if unit > 0.0 { unit as u64 } else { 0 }
        });
        each.collect()
    }
}

/// Where bounds are asked, one point after the other.
#[derive(Debug)]
pub(super) struct Walk {
    at: Point,
    /// Absent until the first answer.
    bundle: Option<(Bundle, i128)>,
    unit: f64,
}

impl Walk {
    /// `costs`: what all costs, about.
    pub(super) fn new(start: Point, costs: i128) -> Self {
        let rooms = i64::try_from(start.0.len().max(1)).unwrap_or(i64::MAX);
        Self {
            unit: gain(costs, 0) * PART / float(rooms),
            at: start,
            bundle: None,
        }
    }

    pub(super) fn at(&self) -> &Point {
        &self.at
    }

    /// Goes on, from the bound here and what stages would use beyond each room. `false`: nothing better is in sight.
    pub(super) fn learn(&mut self, bound: i128, excess: &[i64], room: &[i64]) -> bool {
        let parts = excess.iter().zip(room);
        let slope: Vec<f64> = parts
            .map(|(&excess, &room)| float(excess) / float(room.max(1)))
            .collect();
        let (bundle, centre) = self.bundle.get_or_insert_with(|| (Bundle::default(), bound));
        if bundle.is_empty() {
            bundle.start(&self.at.0, slope, &vec![self.unit; self.at.0.len()]);
        } else if bundle.learn(self.at.0.clone(), gain(bound, *centre), slope) == Step::Serious {
            *centre = bound;
        }
        match bundle.propose() {
            Some(next) => {
                self.at = Point(next);
                true
            }
            None => false,
        }
    }
}
