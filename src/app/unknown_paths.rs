//! Logs a warning if all requests are for unknown endpoints: with a mistake in the base URL, Weir
//! forwards requests without pacing or retries.

use std::sync::Arc;
use std::time::Duration;

use crate::account::Account;
use crate::clock;

/// The interval at which the last minute is checked.
const PERIOD: Duration = Duration::from_secs(10);

/// Warns once after a minute with only unknown paths, and again after a known one in between; never
/// returns.
pub(super) async fn watch(account: Arc<Account>) {
    let mut warned = false;
    loop {
        clock::sleep(PERIOD).await;
        let unknown = account.unknown_last_minute(clock::now());
        if let Some(requests) = unknown.filter(|_| !warned) {
            tracing::warn!(
                requests,
                "no known endpoint was asked for a minute: the callers' base URL and `upstream.url` together must lead to \
                 the API's paths, such as /v1/chat/completions"
            );
        }
        warned = unknown.is_some();
    }
}
