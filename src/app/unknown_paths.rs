//! The log line that says that nothing known comes: a base URL with a mistake passes requests on,
//! and paces and repeats none.

use std::sync::Arc;
use std::time::Duration;

use crate::account::Account;
use crate::clock;

/// How often the last minute is looked at.
const PERIOD: Duration = Duration::from_secs(10);

/// Looks for ever, and tells once when the first minute of unknown paths is over, and again after a
/// known one.
pub(super) async fn watch(account: Arc<Account>) {
    let mut told = false;
    loop {
        clock::sleep(PERIOD).await;
        let unknown = account.unknown_last_minute(clock::now());
        if let Some(requests) = unknown.filter(|_| !told) {
            tracing::warn!(
                requests,
                "no known endpoint was asked for a minute: the callers' base URL and `upstream.url` together must lead to \
                 the API's paths, such as /v1/chat/completions"
            );
        }
        told = unknown.is_some();
    }
}
