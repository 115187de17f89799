//! The folder `state`: what survives a restart. One short text, written anew and renamed, so that it is always whole.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::spending::Spending;

use super::Error;

const FILE: &str = "spending";
/// How often what changed is written: a process that is killed forgets so much.
const PERIOD: Duration = Duration::from_secs(1);

/// What is kept of budgets.
#[derive(Clone)]
pub(super) struct Kept {
    path: PathBuf,
    spending: Arc<Spending>,
}

impl Kept {
    /// Takes up what an earlier process kept in this folder.
    ///
    /// # Errors
    /// That it can't be read, or could not be written.
    pub(super) fn restore(folder: &Path, spending: Arc<Spending>) -> Result<Self, Error> {
        let path = folder.join(FILE);
        let wrong =
            |why: &dyn std::fmt::Display| Error::Configuration(format!("state: {}: {why}", path.display()));
        std::fs::create_dir_all(folder).map_err(|error| wrong(&error))?;
        match std::fs::read_to_string(&path) {
            Ok(text) => spending.restore(&text, clock::wall()).map_err(|unknown| wrong(&unknown))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(wrong(&error)),
        }
        let kept = Self { path: path.clone(), spending };
        kept.write().map_err(|error| wrong(&error))?;
        Ok(kept)
    }

    /// Writes what changed, for ever.
    pub(super) async fn keep(self) {
        let mut written = self.spending.text();
        let mut failed = false;
        loop {
            clock::sleep(PERIOD).await;
            let text = self.spending.text();
            if text == written {
                continue;
            }
            match self.write() {
                Ok(()) => (written, failed) = (text, false),
                Err(error) if !failed => {
                    failed = true;
                    tracing::error!(path = %self.path.display(), %error, "what callers spent is not kept; it is tried again every second");
                }
                Err(_) => {}
            }
        }
    }

    /// Writes it as it is now.
    ///
    /// # Errors
    /// That it can't be written.
    pub(super) fn write(&self) -> io::Result<()> {
        let Some(text) = self.spending.text() else { return Ok(()) };
        let new = self.path.with_extension("new");
        std::fs::write(&new, text)?;
        std::fs::File::open(&new)?.sync_all()?;
        std::fs::rename(&new, &self.path)
    }
}
