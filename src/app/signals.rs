//! What the outside tells the process: end, or read the configuration again.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::control::Control;

/// Waits until SIGTERM, SIGINT or the admin address asks for a drain. SIGHUP reads the
/// configuration again. SIGINT is somebody at a terminal: no balancer has to notice, and the drain
/// begins at once.
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
                // On a thread of its own: it may wait for an exchange's token.
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

/// Waits for a signal; for ever where it can't be listened for.
async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
