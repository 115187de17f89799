//! Standard output and standard error, passed as a parameter.

use std::io::{self, IsTerminal, Write};

/// The output of a command.
///
/// A closed pipe (`weir schema | head`) is not an error: further output is dropped. A full disk is
/// an error: the truncated output would look complete.
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
    /// The process's standard output and standard error.
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

    /// Two other writers, not terminals.
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

    /// The error that made standard output incomplete, unless its reader closed it.
    pub fn problem(&self) -> Option<&io::Error> {
        self.problem.as_ref()
    }

    /// Writes a message to standard error, ended by a line break.
    pub fn error(&mut self, text: &str) {
        let line = format!("{}\n", text.trim_end());
        // This failure can't be reported.
        let _unwritten = self.err.write_all(line.as_bytes()).and_then(|()| self.err.flush());
    }

    /// Shows a command's progress on standard error: on a terminal in place of the last such line,
    /// else as a new line.
    pub fn progress(&mut self, text: &str) {
        let line = if self.watched { format!("\r\x1b[K{text}") } else { format!("{text}\n") };
        // This failure can't be reported.
        let _unwritten = self.err.write_all(line.as_bytes()).and_then(|()| self.err.flush());
    }

    /// Whether standard error is a terminal.
    pub fn is_watched(&self) -> bool {
        self.watched
    }

    /// Whether standard output is a terminal.
    pub fn is_interactive(&self) -> bool {
        self.interactive
    }

    /// Whether the reader of standard output closed it.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Clears the screen of a terminal.
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
