//! A stand-in for the OpenAI API: its limiter, its answers, its errors and its bad days.
//!
//! It shares the wire format with the proxy and nothing else. Above all it has its own arithmetic of limits, so that a
//! mistake in the proxy's cannot cancel itself out.

pub mod limiter;
