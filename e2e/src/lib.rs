//! What the end-to-end scenarios and the demo stand on.

pub mod fleet;
pub mod load;
pub mod report;
