//! Weir: a reverse proxy that paces, retries and counts a company's calls to the OpenAI API.
//!
//! One request, one sentence: accept → identify the caller → read and price the request → admit (wait for its turn)
//! → attempt → classify → retry or stop → respond → account.
//!
//! The modules below are the rooms of the house, in reading order. A room imports only rooms declared below it, so this
//! list is the whole dependency graph; `tests/tidy.rs` enforces it.

pub mod cli;
pub mod app;
pub mod simulate;
pub mod config;
pub mod server;
pub mod admin;
pub mod proxy;
pub mod response;
pub mod stream;
pub mod scope;
pub mod upstream;
pub mod replay;
pub mod account;
pub mod metrics;
pub mod telemetry;
pub mod estimate;
pub mod retry;
pub mod catalogue;
pub mod classify;
pub mod openai;
pub mod caller;
pub mod pem;
pub mod clock;
