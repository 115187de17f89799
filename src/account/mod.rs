//! What happened to each request.
