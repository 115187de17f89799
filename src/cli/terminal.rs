//! Standard output and standard error, as a parameter.

use std::io::{self, IsTerminal, Write};

/// Where a command writes.
///
/// A reader that has seen enough (`weir schema | head`) is not an error: what can no longer be written is dropped.
pub struct Terminal {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    interactive: bool,
    closed: bool,
}

impl Terminal {
    /// The process's own.
    pub fn process() -> Self {
        let interactive = io::stdout().is_terminal();
        Self { out: Box::new(io::stdout()), err: Box::new(io::stderr()), interactive, closed: false }
    }

    /// Two other places, not terminals.
    pub fn new(out: impl Write + Send + 'static, err: impl Write + Send + 'static) -> Self {
        Self { out: Box::new(out), err: Box::new(err), interactive: false, closed: false }
    }

    /// Writes to standard output at once.
    pub fn print(&mut self, text: &str) {
        let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        self.closed |= written.is_err();
    }

    /// Writes a message to standard error, ended by a line break.
    pub fn error(&mut self, text: &str) {
        let line = format!("{}\n", text.trim_end());
        // There is nowhere left to say that this failed.
        let _unwritten = self.err.write_all(line.as_bytes()).and_then(|()| self.err.flush());
    }

    /// Whether a person looks at standard output.
    pub fn is_interactive(&self) -> bool {
        self.interactive
    }

    /// Whether nobody reads standard output any more.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Clears the screen, where there is one.
    pub fn clear(&mut self) {
        if self.interactive {
            self.print("\x1b[H\x1b[2J");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_left_is_no_error() {
        let mut terminal = Terminal::new(Closed, Closed);
        terminal.print("one");
        terminal.error("two");
        assert!(terminal.is_closed());
    }
}
