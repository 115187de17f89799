//! The folder `state`, whose content survives a restart: short text files, each replaced
//! atomically.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::admission::Scopes;
use crate::clock;
use crate::spending::Spending;

use super::Error;

const SPENDING: &str = "spending";
const LEARNED: &str = "learned";
/// The interval at which changes are written: a killed process loses at most this much.
const PERIOD: Duration = Duration::from_secs(1);
/// The same for learned limits, in periods: losing them is cheap, they are learned again.
const LEARNED_EVERY: u32 = 10;

/// The saved state: budgets and learned limits.
#[derive(Clone)]
pub(super) struct Kept {
    folder: PathBuf,
    spending: Arc<Spending>,
    scopes: Scopes,
}

impl Kept {
    /// Loads the state that an earlier process saved in the folder.
    ///
    /// # Errors
    /// Budgets can't be read or written. Unreadable limits are only learned again.
    pub(super) fn restore(folder: &Path, spending: Arc<Spending>, scopes: Scopes) -> Result<Self, Error> {
        let path = folder.join(SPENDING);
        let wrong =
            |why: &dyn std::fmt::Display| Error::Configuration(format!("state: {}: {why}", path.display()));
        std::fs::create_dir_all(folder).map_err(|error| wrong(&error))?;
        let now = clock::wall();
        if let Some(text) = read(&path).map_err(|error| wrong(&error))? {
            spending.restore(&text, now).map_err(|unknown| wrong(&unknown))?;
        }
        let learned = folder.join(LEARNED);
        let told = read(&learned).map_err(|error| error.to_string());
        let told = told
            .and_then(|text| scopes.remember(text.as_deref(), now).map_err(|unknown| unknown.to_string()));
        if let Err(problem) = told {
            tracing::warn!(path = %learned.display(), problem, "state: limits are learned anew");
        }
        let kept = Self { folder: folder.to_owned(), spending, scopes };
        kept.write().map_err(|error| wrong(&error))?;
        Ok(kept)
    }

    /// Saves changes; never returns.
    pub(super) async fn keep(self) {
        let mut written = [self.spending.text(), self.scopes.memory(clock::wall())];
        let mut failed = false;
        for period in 0_u32.. {
            clock::sleep(PERIOD).await;
            let learned = if period % LEARNED_EVERY == 0 {
                self.scopes.memory(clock::wall())
            } else {
                written[1].clone()
            };
            let texts = [self.spending.text(), learned];
            if texts == written {
                continue;
            }
            match self.put(&texts) {
                Ok(()) => (written, failed) = (texts, false),
                Err(error) if !failed => {
                    failed = true;
                    tracing::error!(path = %self.folder.display(), %error, "what callers spent is not kept; it is tried again every second");
                }
                Err(_) => {}
            }
        }
    }

    /// Saves the present state.
    ///
    /// # Errors
    /// It can't be written.
    pub(super) fn write(&self) -> io::Result<()> {
        self.put(&[self.spending.text(), self.scopes.memory(clock::wall())])
    }

    fn put(&self, texts: &[Option<String>; 2]) -> io::Result<()> {
        for (name, text) in [SPENDING, LEARNED].into_iter().zip(texts) {
            let Some(text) = text else { continue };
            let path = self.folder.join(name);
            let new = path.with_extension("new");
            std::fs::write(&new, text)?;
            std::fs::File::open(&new)?.sync_all()?;
            std::fs::rename(&new, &path)?;
        }
        Ok(())
    }
}

/// A file's text; `None` if there is no file.
fn read(path: &Path) -> io::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
