//! The simulated API on its own thread, so that neither Weir nor the load delays it.

use std::io;
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::simulate::{self, Settings, Simulator, Stats};

/// A running simulated API. Dropping it ends it, and waits for its thread.
pub(super) struct SimulatorThread {
    simulator: Simulator,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl SimulatorThread {
    /// Starts one; its schedules begin now.
    pub(super) fn start(settings: Settings, listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let (started, starting) = mpsc::channel();
        let thread = std::thread::Builder::new().name("simulator".to_owned()).spawn(move || {
            runtime.block_on(async {
                let serve =
                    async { simulate::serve(settings, tokio::net::TcpListener::from_std(listener)?).await };
                match serve.await {
                    Ok(running) => {
                        // The receiver waits for this. A dropped sender is an order to stop like
                        // any other.
                        started.send(Ok(running.simulator().clone())).ok();
                        stopped.await.ok();
                        running.stop(Duration::ZERO).await;
                    }
                    Err(error) => {
                        started.send(Err(error)).ok();
                    }
                }
            });
        })?;
        let simulator = starting.recv().map_err(io::Error::other)??;
        Ok(Self { simulator, stop: Some(stop), thread: Some(thread) })
    }

    /// Its counts so far.
    pub(super) fn stats(&self) -> Stats {
        self.simulator.stats()
    }
}

impl Drop for SimulatorThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The thread printed its own panic.
            thread.join().ok();
        }
    }
}
