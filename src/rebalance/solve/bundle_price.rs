//! The search for prices, second half: on the bound itself.
//!
//! Near the best prices L(λ) is all kinks, and the more so the fewer stages there are. One evaluation at λ gives its value
//! and a slope, use minus room, and as L is concave every such pair is a plane that L lies below everywhere. A proximal
//! bundle method keeps the planes it has seen and goes to where the lowest of them is highest, but not far from the
//! best point so far:
//!
//! ```text
//! max over λ ≥ 0:   min_i (L_i + g_i·(λ − λ_i))  −  |λ − c|²_W / 2t
//! ```
//!
//! The dual of that little problem looks for weights α on the planes: minimise `t/2·|Σ α_i g_i|²_W + Σ α_i e_i` on the
//! simplex, where `e_i ≥ 0` is how far plane i lies above L at the centre c. Exchanging weight between two planes at a time
//! solves it in microseconds. If the new point is better by a good part of what the planes promised, it becomes the
//! centre; if not, its plane makes the next promise more modest.

/// Planes that are kept.
const PLANES_MAX: usize = 24;
/// Exchanges between planes per step.
const EXCHANGES: usize = 80;

/// A plane above L: its slope and how far it lies above the centre's value.
#[derive(Clone, Debug, Default)]
struct Plane {
    slope: Vec<f64>,
    above: f64,
    weight: f64,
}

/// State of the search.
#[derive(Clone, Debug, Default)]
pub(super) struct Bundle {
    planes: Vec<Plane>,
    centre: Vec<f64>,
    /// Scale of each price.
    scales: Vec<f64>,
    length: f64,
    promise: f64,
    products: Vec<f64>,
}

/// What became of a point that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is the new centre.
    Serious,
    /// It only taught something.
    Null,
}

impl Bundle {
    /// Nothing is known yet.
    pub(super) fn is_empty(&self) -> bool {
        self.planes.is_empty()
    }

    /// Starts at a point with its slope. `units` are scales for prices that are zero.
    pub(super) fn start(&mut self, centre: &[f64], slope: Vec<f64>, units: &[f64]) {
        self.centre = centre.to_vec();
        self.scales.clear();
        self.scales.extend(
            centre
                .iter()
                .zip(units)
                .map(|(&price, &unit)| if price > unit { price } else { unit }),
        );
        self.planes.clear();
        self.planes.push(Plane {
            slope,
            above: 0.0,
            weight: 1.0,
        });
        self.length = 0.3;
    }

    /// The next point to look at; none if the planes promise nothing any more.
    pub(super) fn propose(&mut self) -> Option<Vec<f64>> {
        self.weigh();
        let size = self.centre.len();
        let mut slope = vec![0.0; size];
        let mut above = 0.0;
        for plane in &self.planes {
            above += plane.weight * plane.above;
            for (sum, part) in slope.iter_mut().zip(&plane.slope) {
                *sum += plane.weight * part;
            }
        }
        let mut moved = false;
        let mut rise = 0.0;
        let next = (0..size).map(|at| {
            let price = self.centre[at] + self.length * self.scales[at] * slope[at];
            let price = if price > 0.0 { price } else { 0.0 };
            rise += slope[at] * (price - self.centre[at]);
            moved |= (price - self.centre[at]).abs() > 0.0;
            price
        });
        let next: Vec<f64> = next.collect();
        self.promise = rise + above;
        (moved && self.promise > 0.0).then_some(next)
    }

    /// What was found at the point proposed: by how much it is better than the centre, and its slope.
    pub(super) fn learn(&mut self, point: Vec<f64>, gain: f64, slope: Vec<f64>) -> Step {
        let step = if gain > 0.1 * self.promise {
            Step::Serious
        } else {
            Step::Null
        };
        if step == Step::Serious {
            for plane in &mut self.planes {
                let moved = difference(&plane.slope, &point, &self.centre);
                plane.above = positive(plane.above + moved - gain);
            }
            self.push(Plane {
                slope,
                above: 0.0,
                weight: 0.0,
            });
            self.centre = point;
            self.length *= if gain > 0.5 * self.promise { 1.8 } else { 1.0 };
        } else {
            let above = positive(gain + difference(&slope, &self.centre, &point));
            // Far above the centre means that the step was too long for the planes to say anything.
            self.length *= if above > self.promise { 0.5 } else { 0.9 };
            self.push(Plane {
                slope,
                above,
                weight: 0.0,
            });
        }
        step
    }

    fn push(&mut self, plane: Plane) {
        if self.planes.len() >= PLANES_MAX {
            let mut worst = 0;
            for (at, plane) in self.planes.iter().enumerate() {
                let (here, there) = (plane, &self.planes[worst]);
                if here.weight < there.weight || (here.weight <= there.weight && here.above > there.above) {
                    worst = at;
                }
            }
            let gone = self.planes.remove(worst);
            if let Some(first) = self.planes.first_mut() {
                first.weight += gone.weight;
            }
        }
        self.planes.push(plane);
    }

    /// Finds the weights by exchanges between the plane that wants more and the one that wants less.
    fn weigh(&mut self) {
        let count = self.planes.len();
        self.products.clear();
        for one in &self.planes {
            for other in &self.planes {
                let pairs = one.slope.iter().zip(&other.slope).zip(&self.scales);
                self.products
                    .push(pairs.fold(0.0, |sum, ((a, b), scale)| sum + a * b * scale) * self.length);
            }
        }
        for _ in 0..EXCHANGES {
            let (mut up, mut down) = ((f64::MAX, 0), (-f64::MAX, 0));
            for at in 0..count {
                let row = self.planes.iter().zip(&self.products[at * count..]);
                let pull = row.fold(self.planes[at].above, |sum, (plane, product)| {
                    sum + plane.weight * product
                });
                if pull < up.0 {
                    up = (pull, at);
                }
                if self.planes[at].weight > 0.0 && pull > down.0 {
                    down = (pull, at);
                }
            }
            let (up, down, force) = (up.1, down.1, down.0 - up.0);
            let stiffness = self.products[up * count + up] + self.products[down * count + down]
                - 2.0 * self.products[up * count + down];
            if up == down || force <= 0.0 {
                break;
            }
            let most = self.planes[down].weight;
            let amount = if stiffness > 0.0 { force / stiffness } else { most };
            let amount = if amount < most { amount } else { most };
            self.planes[up].weight += amount;
            self.planes[down].weight -= amount;
        }
    }
}

fn positive(value: f64) -> f64 {
    if value > 0.0 { value } else { 0.0 }
}

/// slope · (to − from)
fn difference(slope: &[f64], to: &[f64], from: &[f64]) -> f64 {
    slope
        .iter()
        .zip(to.iter().zip(from))
        .fold(0.0, |sum, (slope, (to, from))| sum + slope * (to - from))
}
