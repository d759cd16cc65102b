//! What HiGHS can hold against a plan and its certificate.

use planner::rebalance::solve::Solution;
use planner::rebalance::solve::rows::Rows;

use crate::Failure;
use crate::exact;
use crate::mip::{Mip, dollars};

/// HiGHS' bound comes out of floats with feasibility tolerances of 1e-6; it counts as broken only by more than that.
const TOLERANCE: f64 = 1e-6;

/// A plan with its certificate, in the rows' prices.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) cost: i128,
    pub(crate) bound: i128,
    /// Exact cost of the counts, from the rows alone, or what they break.
    pub(crate) exact: Result<i128, String>,
}

impl Claim {
    pub(crate) fn new(rows: &Rows, solution: &Solution) -> Self {
        Self {
            cost: solution.cost,
            bound: solution.bound,
            exact: exact::cost(rows, &solution.counts),
        }
    }

    /// `cost` above `bound`, percent.
    pub(crate) fn gap_percent(&self) -> f64 {
        100.0 * (dollars(self.cost) / dollars(self.bound) - 1.0)
    }

    /// What is wrong with it without any other solver.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        match &self.exact {
            Err(broken) => faults.push(format!("the plan breaks a rule: {broken}")),
            Ok(exact) if *exact != self.cost => {
                faults.push(format!("the plan costs {exact}, but {} is claimed", self.cost));
            }
            Ok(_) => {}
        }
        if self.bound > self.cost {
            faults.push(format!("the bound {} is above the cost {}", self.bound, self.cost));
        }
        faults
    }

    /// [`Claim::faults`], and what HiGHS holds against it. Our bound against its incumbent is compared in integers.
    pub(crate) fn objections(&self, mip: &Mip) -> Vec<String> {
        let mut objections = self.faults();
        let slack = TOLERANCE * mip.bound.abs() + TOLERANCE;
        if dollars(self.cost) < mip.bound - slack {
            objections.push(format!(
                "the plan costs {}, below the bound {} of HiGHS",
                dollars(self.cost),
                mip.bound
            ));
        }
        match mip.cost {
            Some(cost) if self.bound > cost => {
                objections.push(format!("the bound {} is above a plan of HiGHS for {cost}", self.bound));
            }
            None if mip.objective.is_finite()
                && dollars(self.bound) > mip.objective * (1.0 + TOLERANCE) + TOLERANCE =>
            {
                objections.push(format!(
                    "the bound {} is above the incumbent {} of HiGHS",
                    dollars(self.bound),
                    mip.objective
                ));
            }
            _ => {}
        }
        objections
    }
}

/// Shows that the judge can object: a bound just above an incumbent and a plan below its bound must both be refused.
pub(crate) fn can_object(claim: &Claim, mip: &Mip) -> Result<(), Failure> {
    let Some(cost) = mip.cost else {
        return Err("the first instance has no exact incumbent, so the judge was not tried".into());
    };
    let raised = Claim {
        bound: cost + 1,
        ..claim.clone()
    };
    let below = cost - cost / 100_000;
    let cheap = Claim {
        cost: below,
        exact: Ok(below),
        bound: 0,
    };
    for (name, forged) in [
        ("a bound above the incumbent", raised),
        ("a plan below the bound", cheap),
    ] {
        if forged.objections(mip).is_empty() {
            return Err(format!("the judge lets {name} pass: its check is broken").into());
        }
    }
    Ok(())
}
