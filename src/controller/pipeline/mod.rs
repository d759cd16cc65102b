//! Pipelines: read, validate, build, write, report.

pub mod apply;
pub mod build;
pub mod compare;
pub mod dereference;
pub mod placement;
pub mod status;
pub mod validate;
pub mod validated;
pub mod verdict;
