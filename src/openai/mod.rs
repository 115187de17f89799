//! The API's wire format: pure functions over headers and bytes.
//!
//! Nothing here awaits, reads a clock or trusts a stated length. Every parser accepts arbitrary
//! bytes, limits what it keeps, and returns `None` rather than fail.

pub mod answer_headers;
pub(crate) mod decimal;
pub mod duration;
pub mod endpoint;
pub mod error_body;
pub(crate) mod in_place;
pub(crate) mod json;
pub mod limit_headers;
pub mod limit_message;
pub mod masking;
pub mod model_name;
pub mod model_scan;
pub(crate) mod moment;
pub mod multipart;
pub mod request_peek;
pub mod retry_hint;
pub mod sse;
pub mod stainless;
pub mod usage;
pub mod websocket;

pub use answer_headers::AnswerHeaders;
pub use endpoint::Endpoint;
pub use error_body::{BodyForm, ErrorBody};
pub use limit_headers::{HeaderLimit, LimitHeaders, Part};
pub use limit_message::{Dimension, LimitRefusal, Unit};
pub use model_scan::{ModelScan, ModelSearch};
pub use request_peek::{NotJson, RequestPeek, Scanned, ServiceTier};
pub use sse::{Event, SseScanner};
pub use usage::Usage;
