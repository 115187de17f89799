//! Deterministic simulations of admission: the state machine of one scope against limiters of every
//! shape.
//!
//! By default a part of the matrix runs; `WEIR_FULL=1` runs all of it, over 20 seeds.
//! `benches/admission-matrix` does that and keeps the tables.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "a simulation turns seconds and shares into counts all the time; none is near a bound"
)]
#![expect(clippy::print_stdout, reason = "what a run measured is shown with --nocapture")]
#![expect(clippy::unwrap_used, reason = "a world that contradicts itself must fail the test")]

mod at_once;
mod bursts;
mod changes;
mod depth;
mod fairness;
mod figures;
mod foreign;
mod honesty;
mod limiters;
mod many;
mod matrix;
mod outage;
mod queues;
mod shapes;
mod shares;
mod shedding;
mod short_windows;
mod steps;
mod strange_rules;
mod strangers;
mod tokens;
mod untold;
mod words;
mod world;

/// Whether to run the whole matrix, which takes minutes instead of seconds.
#[expect(clippy::disallowed_methods, reason = "a test has no configuration to read it from")]
fn full() -> bool {
    std::env::var("WEIR_FULL").is_ok()
}
