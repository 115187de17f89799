//! Tests of the whole proxy in memory: real HTTP on both sides, the simulator as upstream, and a
//! paused clock, so that long outages are fast and every run is equal.
//!
//! One file per topic.

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
