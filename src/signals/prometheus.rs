//! Numbers from Prometheus-compatible servers, by `/api/v1/query`.
//!
//! ```text
//! grammar   -> every selector of a query
//! template  -> an administrator's query, bound to one namespace, with names filled in
//! question  -> one request for all pods or stages of a namespace, and what its answer says of each
//! answer    -> the JSON of the answer
//! said      -> the numbers of one pod or stage as one answer
//! endpoint  -> where a server is and what is sent to it
//! client    -> puts the request                        (I/O)
//! ```
//!
//! Authors of pipelines choose a preset by its name and never write an expression; which series they can reach is decided
//! by the namespace of their pipeline alone.

pub mod answer;
pub mod client;
pub mod endpoint;
#[cfg(test)]
pub(crate) mod fixture;
mod grammar;
pub mod question;
pub mod said;
pub mod template;
#[cfg(test)]
mod tests;

pub use grammar::Error as QueryError;
