//! The whole proxy in memory: real HTTP on both sides of it, the simulator behind it, and a paused
//! clock, so that minutes of outage cost seconds and every run is the same.
//!
//! One file for each promise of "Retries that cannot make it worse".

mod world;

mod amplification;
mod answers;
mod flaky;
mod hints;
mod kept_alive;
mod leaving;
mod modes;
mod patience;
mod pools;
mod outage;
mod outage_edges;
mod quota;
mod replay;
mod restart;
mod scripted;
mod sessions;
mod slow_readers;
mod streams;
