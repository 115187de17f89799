//! A Weir process for tests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The name of its configuration file.
const FILE: &str = "weir.toml";

/// A Weir that runs until it is dropped.
pub(crate) struct Weir {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    child: Child,
    printed: Arc<Mutex<String>>,
    /// Reads what it prints until it ends.
    reader: Option<std::thread::JoinHandle<()>>,
    folder: tempfile::TempDir,
}

fn command(configuration: &str, variables: &[(&str, &str)]) -> (Command, tempfile::TempDir) {
    command_of(Command::new(env!("CARGO_BIN_EXE_weir")), configuration, variables)
}

fn command_of(
    mut command: Command,
    configuration: &str,
    variables: &[(&str, &str)],
) -> (Command, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FILE);
    std::fs::write(&file, configuration).unwrap();
    command
        .env_clear()
        .env("WEIR_SERVER__LISTEN", "127.0.0.1:0")
        .env("WEIR_ADMIN__LISTEN", "127.0.0.1:0")
        .env("WEIR_SHUTDOWN__DRAIN_DELAY", "0s")
        .env("WEIR_SERVER__WORKERS", "2")
        .envs(variables.iter().copied())
        .arg("--config")
        .arg(&file);
    (command, folder)
}

impl Weir {
    /// Starts the binary and waits until it is up.
    pub(crate) fn start(configuration: &str, variables: &[(&str, &str)]) -> Self {
        Self::of(command(configuration, variables))
    }

    /// The same for a process with a limit on open files.
    pub(crate) fn with_files(files: u32, upstream: SocketAddr, more: &str) -> Self {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_weir")]);
        Self::of(command_of(shell, &format!("upstream.url = \"http://{upstream}\"\n{more}"), &[]))
    }

    fn of((mut command, folder): (Command, tempfile::TempDir)) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut first = String::new();
        let (address, admin) = loop {
            let line = lines.next().unwrap_or_else(|| panic!("weir ended: {first}")).unwrap();
            first.push_str(&line);
            if let Ok(line) = serde_json::from_str::<serde_json::Value>(&line) {
                let at = |key: &str| find(&line, key).and_then(|text| text.parse().ok());
                if let (Some(address), Some(admin)) = (at("listening"), at("admin")) {
                    break (address, admin);
                }
            }
        };
        let printed = Arc::new(Mutex::new(first));
        let copy = Arc::clone(&printed);
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut printed = copy.lock().unwrap();
                printed.push_str(&line);
                printed.push('\n');
            }
        });
        Self { address, admin, child, printed, reader: Some(reader), folder }
    }

    /// Before an upstream on loopback.
    pub(crate) fn before(upstream: SocketAddr, more: &str) -> Self {
        Self::start(&format!("upstream.url = \"http://{upstream}\"\n{more}"), &[])
    }

    /// Runs a Weir that is expected to end at once.
    pub(crate) fn fails(configuration: &str, variables: &[(&str, &str)]) -> Output {
        command(configuration, variables).0.output().unwrap()
    }

    /// Replaces its configuration file.
    pub(crate) fn configure(&self, configuration: &str) {
        std::fs::write(self.folder.path().join(FILE), configuration).unwrap();
    }

    /// Waits until a text was printed at least `times` times.
    pub(crate) fn wait_for_printed(&self, text: &str, times: usize) {
        let is_printed = || self.printed().matches(text).count() >= times;
        wait_until(is_printed, || format!("{text} not {times} times in {}", self.printed()));
    }

    /// What it printed so far.
    pub(crate) fn printed(&self) -> String {
        self.printed.lock().unwrap().clone()
    }

    /// A response of the admin address, head and body.
    pub(crate) fn admin(&self, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.admin);
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The output of another command of the binary about this process.
    pub(crate) fn command(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        let output = command.args(arguments).args(["--admin", &self.admin.to_string()]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The value of a series.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = self.admin("GET", "/metrics");
        let line =
            text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        line.unwrap_or_else(|| panic!("no {series}")).rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// Waits until a series has this value at least.
    pub(crate) fn wait_for(&self, series: &str, least: f64) {
        wait_until(|| self.metric(series) >= least, || format!("{series} stays at {}", self.metric(series)));
    }

    /// Waits until a gauge is 0.
    pub(crate) fn wait_for_none(&self, series: &str) {
        wait_until(|| self.metric(series) <= 0.0, || format!("{series} stays at {}", self.metric(series)));
    }

    /// Begins a drain, and waits for the end: the exit code.
    pub(crate) fn drain(&mut self) -> Option<i32> {
        self.admin("POST", "/drain");
        self.wait()
    }

    /// Waits for the end: the exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let code = self.child.wait().unwrap().code();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        code
    }

    /// A figure of the process in KiB, such as `VmHWM` (the most memory that it ever had).
    pub(crate) fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse().unwrap()
    }
}

/// Waits until a condition holds, for at most 20 seconds.
fn wait_until(is_so: impl Fn() -> bool, otherwise: impl Fn() -> String) {
    let until = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < until, "{}", otherwise());
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A text somewhere in a log line.
fn find(value: &serde_json::Value, key: &str) -> Option<String> {
    let map = value.as_object()?;
    map.get(key)
        .and_then(|found| found.as_str().map(str::to_owned))
        .or_else(|| map.values().find_map(|inner| find(inner, key)))
}
