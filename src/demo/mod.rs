//! `weir demo`: the same work without and with Weir, against the simulated API, in one process.
//!
//! [`workload`] draws the jobs of four services from a seed. They run twice, each time against a
//! fresh [`crate::simulate`] with the same limits, faults and outage: direct, then through a whole
//! [`App`]. The services (`load`) retry as OpenAI's SDK does (`sdk_retry`) in both. The comparison
//! (`table`) uses the counts of the simulated API and of the services, never Weir's own.

pub mod sdk_retry;
pub mod workload;
mod figures;
mod load;
mod picture;
mod progress;
mod redis_server;
mod simulator;
mod table;

use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::app::{self, App, Log, Reread};
use crate::clock;
use crate::config::sources::PROCESS;
use crate::config::{self, Config};

pub use figures::{Figures, TooLarge, Waits, Ways};

use load::Shared;
use progress::{Progress, Standing};
use redis_server::Redis;
use simulator::SimulatorThread;
use workload::{CALLERS, Job, Scale};

/// Runs the same work without and with Weir against the simulator, side by side.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The seed of jobs, responses and faults: equal seeds give equal work
    #[arg(long, value_name = "N", default_value_t = 7)]
    pub seed: u64,
    /// Run less work and a shorter outage, about 20 s in all
    #[arg(long)]
    pub quick: bool,
    /// Print plain lines, even on a terminal
    #[arg(long)]
    pub plain: bool,
    /// Also write a chart of both runs to this file, as SVG
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Write the log of the run through Weir to this file, for weir what-if
    #[arg(long, value_name = "FILE")]
    pub access_log: Option<PathBuf>,
    /// The number of Weirs that share the limits through the demo's own Redis, each for a part of
    /// the services
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=10))]
    pub replicas: u8,
}

/// When the direct run is stopped, finished or not. Both runs together take at most a minute.
const STOP_DIRECT: Duration = Duration::from_secs(22);
/// When the run through Weir is stopped.
const STOP_WEIR: Duration = Duration::from_secs(34);
/// Weir's default admin port; if it is in use, another one is chosen.
const ADMIN_PORT: u16 = 8081;

/// Why the demo could not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A listener, thread or runtime can't be created.
    #[error("{what}: {source}")]
    Machine {
        /// The missing part.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// A file can't be written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Several Weirs need a Redis.
    #[error(
        "cannot start redis-server ({0}); --replicas needs it: install Redis or Valkey (Debian: apt install redis-server), or leave \
         --replicas out"
    )]
    Redis(io::Error),
    /// Weir did not start.
    #[error("weir did not start: {0}")]
    Weir(#[from] app::Error),
    /// The demo's own configuration is invalid.
    #[error("the demo's configuration: {0}")]
    Configuration(#[from] config::problem::Problems),
}

impl Error {
    fn machine(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Machine { what, source }
    }
}

/// Runs the work both ways and prints the results. `live` overwrites lines on a terminal.
///
/// # Errors
/// A part can't be started.
pub fn run(args: &Args, live: bool, print: &mut dyn FnMut(&str)) -> Result<Ways, Error> {
    let scale = if args.quick { Scale::QUICK } else { Scale::FULL };
    let live = live && !args.plain;
    let log = args.access_log.as_deref().map(log_to).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Error::machine("cannot start a runtime"))?.block_on(async {
        let jobs = workload::jobs(&scale, args.seed);
        let ideal = workload::ideal(&jobs, &scale);
        let demo = Demo { jobs, scale, seed: args.seed, live, log, replicas: args.replicas };
        // Report a missing Redis before anything runs.
        let redis = if args.replicas > 1 { Some(Redis::start().await.map_err(Error::Redis)?) } else { None };
        print(&workload::describe(&scale, args.seed));

        print("\n\n1. Direct, with the retries of OpenAI's own SDK\n");
        let direct = demo.direct(print).await?;
        print(&match args.replicas {
            1 => "\n2. Through Weir, with the same SDK".to_owned(),
            replicas => format!("\n2. Through {replicas} Weirs that share the limits, with the same SDK"),
        });
        let through_weir = demo.through_weir(redis.as_ref(), print).await?;

        let ways = Ways { ideal, direct, through_weir };
        print(&format!("\n{}\n{}\n", table::render(&ways), ways.verdict()));
        if let Some(path) = &args.svg {
            let written = std::fs::write(path, picture::draw(&ways, &demo.scale).svg());
            written.map_err(|source| Error::File { path: path.clone(), source })?;
            print(&format!("The picture of both runs: {}\n", path.display()));
        }
        Ok(ways)
    })
}

struct Demo {
    jobs: Vec<Job>,
    scale: Scale,
    seed: u64,
    live: bool,
    /// Weir's log, if it has one.
    log: Option<Log>,
    replicas: u8,
}

impl Demo {
    async fn direct(&self, print: &mut dyn FnMut(&str)) -> Result<Figures, Error> {
        let (listener, address) = listen("cannot listen for the simulator", 0)?;
        let simulator = self.simulator(listener)?;
        Ok(self.work(&[address], &simulator, STOP_DIRECT, print).await)
    }

    async fn through_weir(
        &self,
        redis: Option<&Redis>,
        print: &mut dyn FnMut(&str),
    ) -> Result<Figures, Error> {
        let (listener, upstream) = listen("cannot listen for the simulator", 0)?;
        let reread = || Reread {
            in_force: String::new(),
            text: Box::new(|| Err("the demo has no configuration file".to_owned())),
            parse: Box::new(|_| Err("the demo has no configuration file".to_owned())),
            deprecated: Box::new(|_| String::new()),
        };
        let mut apps = Vec::new();
        for _ in 0..self.replicas {
            let shared = redis.map(|redis| (redis.secret(), self.replicas));
            apps.push(App::start(
                configuration(upstream, admin_port(), shared)?,
                reread(),
                self.log.as_ref(),
            )?);
        }
        print(&format!("\n   (its status page, as long as this runs: http://{}/)\n", apps[0].admin));
        let listening: Vec<SocketAddr> = apps.iter().map(|app| app.listening).collect();
        // Its clock starts with each run, so that both runs have the outage at the same time.
        let simulator = self.simulator(listener)?;
        let figures = self.work(&listening, &simulator, STOP_WEIR, print).await;
        for app in apps {
            app.finish().await;
        }
        Ok(figures)
    }

    fn simulator(&self, listener: TcpListener) -> Result<SimulatorThread, Error> {
        SimulatorThread::start(workload::simulator_settings(&self.scale, self.seed), listener)
            .map_err(Error::machine("cannot start the simulator"))
    }

    async fn work(
        &self,
        addresses: &[SocketAddr],
        simulator: &SimulatorThread,
        most: Duration,
        print: &mut dyn FnMut(&str),
    ) -> Figures {
        let start = clock::now();
        let tally = Shared::default();
        let mut progress = Progress::new(self.live, print);
        let mut work =
            std::pin::pin!(load::work(&self.jobs, addresses, self.seed, start, start + most, &tally));
        let mut next = start;
        loop {
            next += progress.interval();
            let ended = tokio::select! {
                biased;
                () = work.as_mut() => true,
                () = clock::sleep_until(next) => false,
            };
            let elapsed = clock::now().saturating_duration_since(start);
            progress.show(&self.standing(&tally, simulator, elapsed));
            if ended {
                break;
            }
        }
        Figures::new(&self.jobs, &tally.lock(), &simulator.stats(), most)
    }

    fn standing(&self, tally: &Shared, simulator: &SimulatorThread, elapsed: Duration) -> Standing {
        let stats = simulator.stats();
        let tally = tally.lock();
        let passing = || tally.ended.iter().filter(|(number, _)| !self.jobs[**number].is_too_large());
        let open = (tally.arrived - tally.ended.len()) as u64;
        Standing {
            elapsed,
            jobs: self.jobs.iter().filter(|job| !job.is_too_large()).count(),
            done: passing().filter(|(_, ended)| ended.error.is_none()).count(),
            lost: passing().filter(|(_, ended)| ended.error.is_some()).count(),
            in_flight: stats.in_flight,
            waiting: open.saturating_sub(stats.in_flight),
            refused: figures::refused(&stats),
            outage: elapsed >= self.scale.outage_start
                && elapsed < self.scale.outage_start + self.scale.outage_length,
        }
    }
}

/// A configuration as an operator would write it; the rest is learned or has its default.
fn configuration(
    upstream: SocketAddr,
    admin_port: u16,
    shared: Option<(PathBuf, u8)>,
) -> Result<Config, Error> {
    let mut text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n\
         [admin]\nlisten = \"127.0.0.1:{admin_port}\"\n\
         [upstream]\nurl = \"http://{upstream}\"\n\
         [shutdown]\ndrain_delay = \"0s\"\ndrain_timeout = \"1s\"\n"
    );
    if let Some((secret, replicas)) = shared {
        let secret = secret.display();
        write!(text, "[replicas]\nredis = \"file:{secret}\"\nexpected = {replicas}\ninterval = \"500ms\"\n")
            .ok();
    }
    for caller in &CALLERS {
        let lane = if caller.background { "background" } else { "interactive" };
        // Writing to a string cannot fail.
        writeln!(
            text,
            "[[callers]]\nname = {name:?}\nweight = {weight}\nlane = {lane:?}\nheader = {{ name = {header:?}, value = {name:?} }}",
            name = caller.name,
            weight = caller.weight,
            header = load::CALLER_HEADER,
        )
        .ok();
    }
    Ok(config::parse("the demo", &text, &[], &PROCESS)?)
}

/// Weir's log, as JSON in this file.
fn log_to(path: &Path) -> Result<Log, Error> {
    let file = std::fs::File::create(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
    Ok(Log::to(file)?)
}

/// The default port of the status page if it is free, else any.
fn admin_port() -> u16 {
    if TcpListener::bind((Ipv4Addr::LOCALHOST, ADMIN_PORT)).is_ok() { ADMIN_PORT } else { 0 }
}

fn listen(what: &'static str, port: u16) -> Result<(TcpListener, SocketAddr), Error> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(Error::machine(what))?;
    let address = listener.local_addr().map_err(Error::machine(what))?;
    Ok((listener, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_configuration_is_valid() {
        let config = configuration(SocketAddr::from(([127, 0, 0, 1], 9000)), 0, None).unwrap();
        assert_eq!(config.callers.len(), CALLERS.len());
        assert_eq!(config.upstream.url.port(), 9000);
    }

    #[test]
    fn both_runs_together_end_within_a_minute() {
        assert!(STOP_DIRECT + STOP_WEIR < Duration::from_secs(58));
    }
}
