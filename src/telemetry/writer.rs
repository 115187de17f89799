//! Writes log lines in a separate thread, so that a slow disk or a blocked pipe never delays a
//! request. It may drop lines, which are counted.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// The time limit for writing the last lines when the process ends.
const LAST_LINES: Duration = Duration::from_secs(2);
/// The maximum size of one write, in bytes.
const BATCH: usize = 64 * 1024;
/// The time for which the thread collects lines after the first. A wake-up and a write for each
/// line would cost half as much as the request itself.
pub(super) const COLLECT_TIME: Duration = Duration::from_millis(10);

/// Starts the thread. Lines enter through the queue; the guard writes the last ones.
///
/// # Errors
/// The thread can't be started.
pub(super) fn start(
    capacity: usize,
    output: impl io::Write + Send + 'static,
) -> io::Result<(Queue, LogGuard)> {
    let (sender, receiver) = channel();
    let bound = Arc::new(Bound { capacity, waiting: AtomicUsize::new(0), dropped: AtomicU64::new(0) });
    let counted = Arc::clone(&bound);
    std::thread::Builder::new()
        .name("weir-log".to_owned())
        .spawn(move || write_lines(&receiver, &counted, output))?;
    let guard = LogGuard { sender: sender.clone(), dropped: DroppedLines(Arc::clone(&bound)) };
    Ok((Queue { sender, bound }, guard))
}

enum Message {
    Line(Vec<u8>),
    /// A request to write all earlier lines, and then to notify the sender.
    Flush(Sender<()>),
}

#[derive(Debug)]
struct Bound {
    capacity: usize,
    waiting: AtomicUsize,
    dropped: AtomicU64,
}

/// The queue of lines.
pub(super) struct Queue {
    sender: Sender<Message>,
    bound: Arc<Bound>,
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Entry<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Entry(self)
    }
}

/// A writer for one event, which `tracing-subscriber` writes with a single call.
pub(super) struct Entry<'a>(&'a Queue);

impl io::Write for Entry<'_> {
    /// Never waits and never fails: a line is dropped if the queue is full.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let Queue { sender, bound } = self.0;
        let waiting = bound.waiting.fetch_add(1, Ordering::Relaxed);
        if waiting >= bound.capacity || sender.send(Message::Line(line.to_vec())).is_err() {
            bound.waiting.fetch_sub(1, Ordering::Relaxed);
            bound.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The number of lines dropped since the start.
#[derive(Clone, Debug)]
pub struct DroppedLines(Arc<Bound>);

impl DroppedLines {
    /// The count.
    pub fn count(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

/// Keeps the log running; dropping it writes the remaining lines, for at most two seconds.
#[derive(Debug)]
pub struct LogGuard {
    sender: Sender<Message>,
    dropped: DroppedLines,
}

impl LogGuard {
    /// The counter of dropped lines.
    pub fn dropped(&self) -> DroppedLines {
        self.dropped.clone()
    }

    /// Waits until everything logged so far is written, for at most two seconds. Returns whether it
    /// was.
    pub fn flush(&self) -> bool {
        let (done, written) = channel();
        self.sender.send(Message::Flush(done)).is_ok() && written.recv_timeout(LAST_LINES).is_ok()
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Runs until all senders are dropped.
#[expect(clippy::disallowed_methods, reason = "a thread of its own, which no request waits for")]
fn write_lines(receiver: &Receiver<Message>, bound: &Bound, mut output: impl io::Write) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut lines = 0;
    while let Ok(first) = receiver.recv() {
        if matches!(first, Message::Line(_)) {
            // Meanwhile, logging threads need not wake this one.
            std::thread::sleep(COLLECT_TIME);
        }
        for message in std::iter::once(first).chain(receiver.try_iter()) {
            match message {
                Message::Line(line) => {
                    batch.extend_from_slice(&line);
                    lines += 1;
                    if batch.len() >= BATCH {
                        write_batch(&mut batch, &mut lines, bound, &mut output);
                    }
                }
                Message::Flush(done) => {
                    write_batch(&mut batch, &mut lines, bound, &mut output);
                    // The receiver may have timed out.
                    done.send(()).ok();
                }
            }
        }
        write_batch(&mut batch, &mut lines, bound, &mut output);
    }
}

fn write_batch(batch: &mut Vec<u8>, lines: &mut usize, bound: &Bound, output: &mut impl io::Write) {
    if batch.is_empty() {
        return;
    }
    let written = output.write_all(batch).and_then(|()| output.flush());
    if written.is_err() {
        bound.dropped.fetch_add(*lines as u64, Ordering::Relaxed);
    }
    bound.waiting.fetch_sub(*lines, Ordering::Relaxed);
    batch.clear();
    *lines = 0;
}
