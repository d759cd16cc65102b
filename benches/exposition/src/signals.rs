//! The exposition parser, compiled alone.

#[path = "../../../src/signals/exposition/mod.rs"]
pub mod exposition;

/// Stands for the operator's type of the same name, which is all that the parser takes from outside.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Finite(f64);

impl TryFrom<f64> for Finite {
    type Error = ();

    fn try_from(number: f64) -> Result<Self, ()> {
        if number.is_finite() { Ok(Self(number)) } else { Err(()) }
    }
}

impl Finite {
    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }
}
