//! Unix signals: drain and reload.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::control::Control;

/// Waits until SIGTERM, SIGINT or the admin address requests a drain. SIGHUP reloads the
/// configuration. SIGINT comes from a terminal, where no load balancer needs time to notice: the
/// drain skips its delay.
pub(super) async fn until_told(control: &Arc<Control>) {
    let (mut terminate, mut interrupt, mut hangup) =
        (listen(SignalKind::terminate()), listen(SignalKind::interrupt()), listen(SignalKind::hangup()));
    loop {
        tokio::select! {
            () = received(&mut terminate) => break,
            () = received(&mut interrupt) => {
                control.skip_drain_delay();
                break;
            }
            () = control.drain_asked() => break,
            () = received(&mut hangup) => {
                // On its own thread: a reload may wait for an exchange's token.
                let control = Arc::clone(control);
                drop(tokio::task::spawn_blocking(move || {
                    if let Err(problems) = control.reload() {
                        tracing::error!(%problems, "the configuration was not read again; the one in force stays");
                    }
                }));
            }
        }
    }
    tracing::info!("draining; a second signal ends at once");
}

/// Waits for SIGTERM or SIGINT.
pub async fn ended() {
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate()), listen(SignalKind::interrupt()));
    tokio::select! {
        () = received(&mut terminate) => {}
        () = received(&mut interrupt) => {}
    }
}

fn listen(kind: SignalKind) -> Option<Signal> {
    signal(kind).inspect_err(|error| tracing::warn!(%error, "a signal can't be listened for")).ok()
}

/// Waits for a signal; forever if it could not be registered.
async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
