//! Admission shown by deterministic simulation: the machine of one scope against limiters of every shape.
//!
//! `cargo test --release --test admission -- --nocapture table` prints the whole table; `WEIR_FULL=1` widens the asserted
//! matrix to every latency and seed.

mod changes;
mod depth;
mod fairness;
mod foreign;
mod outage;
mod shapes;
mod table;
mod tokens;
mod world;
