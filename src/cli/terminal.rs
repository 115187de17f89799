//! Standard output and standard error, as a parameter.

use std::io::{self, IsTerminal, Write};

/// Where a command writes.
///
/// A reader that has seen enough (`weir schema | head`) is not an error: what can no longer be
/// written is dropped. A disk that is full is one: what is missing would pass for the end.
pub struct Terminal {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    interactive: bool,
    /// Whether standard error is a terminal.
    watched: bool,
    closed: bool,
    problem: Option<io::Error>,
}

impl Terminal {
    /// The process's own.
    pub fn process() -> Self {
        let interactive = io::stdout().is_terminal();
        Self {
            out: Box::new(io::stdout()),
            err: Box::new(io::stderr()),
            interactive,
            watched: io::stderr().is_terminal(),
            closed: false,
            problem: None,
        }
    }

    /// Two other places, not terminals.
    pub fn new(out: impl Write + Send + 'static, err: impl Write + Send + 'static) -> Self {
        Self {
            out: Box::new(out),
            err: Box::new(err),
            interactive: false,
            watched: false,
            closed: false,
            problem: None,
        }
    }

    /// Writes to standard output at once.
    pub fn print(&mut self, text: &str) {
        let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        if let Err(error) = written {
            self.closed = true;
            if error.kind() != io::ErrorKind::BrokenPipe {
                self.problem.get_or_insert(error);
            }
        }
    }

    /// Why standard output is not whole, if somebody may think that it is.
    pub fn problem(&self) -> Option<&io::Error> {
        self.problem.as_ref()
    }

    /// Writes a message to standard error, ended by a line break.
    pub fn error(&mut self, text: &str) {
        let line = format!("{}\n", text.trim_end());
        // There is nowhere left to say that this failed.
        let _unwritten = self.err.write_all(line.as_bytes()).and_then(|()| self.err.flush());
    }

    /// Shows how far a command is on standard error: over the last such line on a terminal, where
    /// each is one of its own else.
    pub fn progress(&mut self, text: &str) {
        let line = if self.watched { format!("\r\x1b[K{text}") } else { format!("{text}\n") };
        // There is nowhere left to say that this failed.
        let _unwritten = self.err.write_all(line.as_bytes()).and_then(|()| self.err.flush());
    }

    /// Whether a person looks at standard error.
    pub fn is_watched(&self) -> bool {
        self.watched
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

    struct Closed(io::ErrorKind);

    impl Write for Closed {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_left_is_no_error() {
        let left = || Closed(io::ErrorKind::BrokenPipe);
        let mut terminal = Terminal::new(left(), left());
        terminal.print("one");
        terminal.error("two");
        assert!(terminal.is_closed() && terminal.problem().is_none());
        let mut full = Terminal::new(Closed(io::ErrorKind::StorageFull), left());
        full.print("one");
        assert!(full.is_closed() && full.problem().is_some());
    }
}
