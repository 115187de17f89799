//! The processes of a run, which always end with it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::failure::{Failure, Result, While as _};

/// How long a process may take to end when asked.
const PATIENCE: Duration = Duration::from_secs(5);

/// A program with its arguments, before it is pinned and started.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
}

impl Program {
    pub(super) fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), arguments: Vec::new(), environment: Vec::new() }
    }

    /// Appends arguments separated by spaces.
    pub(super) fn with(mut self, arguments: &str) -> Self {
        self.arguments.extend(arguments.split_ascii_whitespace().map(str::to_owned));
        self
    }

    /// Appends one argument that may hold spaces.
    pub(super) fn with_path(mut self, argument: &Path) -> Self {
        self.arguments.push(argument.display().to_string());
        self
    }
}

/// A child in a process group of its own; dropping it ends the group.
pub(super) struct Running {
    name: String,
    child: Child,
    log: Option<PathBuf>,
}

impl Running {
    /// Starts a program on the given processors (`taskset` list syntax). It ends with this process
    /// (`setpriv`), and what it writes goes to `log`, or nowhere.
    pub(super) fn start(
        name: &str,
        program: &Program,
        processors: &str,
        log: Option<PathBuf>,
    ) -> Result<Self> {
        let mut command = pinned(program, processors);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(log) = &log {
            let file = File::create(log).doing(format!("create {}", log.display()))?;
            command.stdout(file.try_clone()?).stderr(file);
        }
        let child = command.spawn().doing(format!("start {name}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// The pid of the program itself: what pins it replaces itself by it.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error, with what it said last, if it has ended.
    pub(super) fn require_alive(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        Err(Failure::new(format!("{} ended ({status}): {}", self.name, self.last_words())))
    }

    pub(super) fn last_words(&self) -> String {
        let text = self.log.as_ref().and_then(|log| fs::read(log).ok()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        line.chars().take(200).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Ok(Some(pid)) = i32::try_from(self.child.id()).map(Pid::from_raw) else { return };
        if matches!(self.child.try_wait(), Ok(None)) {
            // Not yet waited for, so the pid is still this child's.
            let _ = kill_process(pid, Signal::TERM);
            if wait(&mut self.child, PATIENCE).is_none() {
                let _ = kill_process_group(pid, Signal::KILL);
                drop(self.child.wait());
            }
        }
    }
}

/// Runs a program to its end and returns what it wrote to standard output.
pub(super) fn output(name: &str, program: &Program, processors: &str, patience: Duration) -> Result<String> {
    let mut command = pinned(program, processors);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .doing(format!("start {name}"))?;
    // What these programs write fits into a pipe's buffer: nobody needs to read meanwhile.
    if wait(&mut child, patience).is_none() {
        child.kill()?;
        child.wait()?;
        return Err(Failure::new(format!("{name} did not end within {} s", patience.as_secs())));
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err(Failure::new(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn pinned(program: &Program, processors: &str) -> Command {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "taskset", "-c", processors]);
    command.arg(&program.path).args(&program.arguments);
    command.envs(program.environment.iter().map(|(name, value)| (name, value)));
    for proxy in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
    command.process_group(0);
    command
}

fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + patience;
    while Instant::now() < end {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}
