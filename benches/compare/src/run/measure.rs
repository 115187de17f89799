//! One measurement: start a contender, wait until it answers, load it, end it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::contender::{self, Contender, Found, Setup};
use super::process::{Program, Running, output};
use super::scenario::{Load, Scenario, Subject};
use super::table::Outcome;
use super::verdict::{self, Placement};
use crate::accounting;
use crate::failure::{Failure, Result, While as _};
use crate::probe;
use crate::report::Report;

/// How long a program may take until it answers; LiteLLM is a slow starter.
const START_PATIENCE: Duration = Duration::from_secs(90);

/// Which processors are used, as numbers or `taskset` lists.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Processors {
    /// The processor of the load generator and the upstream.
    #[arg(long = "load-processor", default_value_t = 0)]
    pub(super) load: usize,
    /// The processor of the proxy under test, alone.
    #[arg(long = "proxy-processor", default_value_t = 1)]
    pub(super) proxy: usize,
    /// The processors of a proxy with several workers.
    #[arg(long = "worker-processors", default_value = "0,1")]
    pub(super) workers: String,
}

/// An upstream that serves one scenario.
pub(super) struct Stage<'a> {
    load: Load,
    processors: &'a Processors,
    directory: &'a Path,
    upstream: Running,
    upstream_port: u16,
    tls_authority: Option<PathBuf>,
}

impl<'a> Stage<'a> {
    pub(super) fn set(
        scenario: Scenario,
        load: Load,
        processors: &'a Processors,
        directory: &'a Path,
    ) -> Result<Self> {
        let upstream_port = free_port()?;
        let tls_authority = scenario.is_tls().then(|| directory.join("authority.pem"));
        let mut program = Program::new(std::env::current_exe()?)
            .with(&format!("upstream --listen 127.0.0.1:{upstream_port} --lifetime 7200"))
            .with(&load.upstream);
        if let Some(file) = &tls_authority {
            program = program.with("--tls-authority").with_path(file);
        }
        let log = directory.join("upstream.log");
        let mut upstream = Running::start("upstream", &program, &processors.load.to_string(), Some(log))?;
        std::thread::sleep(Duration::from_millis(300));
        upstream.require_alive()?;
        Ok(Self { load, processors, directory, upstream, upstream_port, tls_authority })
    }

    /// Measures one subject once.
    pub(super) fn measure(&mut self, subject: &Subject, found: &Found) -> Outcome {
        if let Err(failure) = self.upstream.require_alive() {
            return Outcome::Failed(failure.to_string());
        }
        let proxied = subject.contender != Contender::Direct;
        match self.attempt(subject, found) {
            Err(failure) => Outcome::Failed(failure.to_string()),
            Ok(report) => {
                let placement =
                    Placement { load: self.processors.load, proxy: proxied.then_some(self.processors.proxy) };
                match verdict::judge(&report, self.load.purpose, &placement) {
                    Some(doubt) => Outcome::Doubtful(report, doubt),
                    None => Outcome::Measured(report),
                }
            }
        }
    }

    fn attempt(&self, subject: &Subject, found: &Found) -> Result<Report> {
        let listen_port = free_port()?;
        let setup = Setup {
            listen_port,
            admin_port: free_port()?,
            upstream_port: self.upstream_port,
            tls_authority: self.tls_authority.as_deref(),
            directory: self.directory,
        };
        let program = contender::program(subject.contender, found, &subject.variant, &setup)?;
        let target_port = if program.is_some() { listen_port } else { self.upstream_port };
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, target_port));
        let mut report = Report::default();
        let mut proxy = match &program {
            Some(program) => Some(self.start(subject, program, target, &mut report)?),
            None => None,
        };
        report.put("binary_bytes", fs::metadata(&found.path)?.len());
        if !self.load.arguments.is_empty() {
            let measured = self.generate_load(subject, target, proxy.as_ref());
            if let Some(proxy) = &mut proxy {
                proxy.require_alive()?;
            }
            report.extend(measured?);
        }
        Ok(report)
    }

    /// Starts a proxy and notes how long it took to answer, and its memory before that.
    fn start(
        &self,
        subject: &Subject,
        program: &Program,
        target: SocketAddr,
        report: &mut Report,
    ) -> Result<Running> {
        let processors =
            if subject.spread { self.processors.workers.clone() } else { self.processors.proxy.to_string() };
        // An access log would fill the disk, and disk writes are not what it is to cost.
        let log = (!subject.variant.words.contains(&"access_log")).then(|| self.directory.join("proxy.log"));
        let started = Instant::now();
        let mut proxy = Running::start(&subject.label, program, &processors, log)?;
        let mut rest = None;
        loop {
            match probe::ask(target, 1, Duration::from_secs(10)) {
                Ok(()) => break,
                Err(failure) if started.elapsed() > START_PATIENCE => {
                    let words = proxy.last_words();
                    return Err(Failure::new(format!(
                        "{} never answered ({failure}): {words}",
                        subject.label
                    )));
                }
                Err(_) => proxy.require_alive()?,
            }
            rest = accounting::tree(proxy.pid()).ok();
            let young = started.elapsed() < Duration::from_secs(1);
            std::thread::sleep(Duration::from_millis(if young { 1 } else { 50 }));
        }
        report.put("startup_ms", started.elapsed().as_secs_f64() * 1e3);
        std::thread::sleep(Duration::from_millis(200));
        let rest = accounting::tree(proxy.pid()).ok().or(rest).map_or(f64::NAN, |usage| usage.rss_kib);
        report.put("proxy_rss_rest_kib", rest);
        Ok(proxy)
    }

    fn generate_load(
        &self,
        subject: &Subject,
        target: SocketAddr,
        proxy: Option<&Running>,
    ) -> Result<Report> {
        let mut program =
            Program::new(std::env::current_exe()?).with("load").with(&self.load.arguments).with(&format!(
                "--target {target} --keys {} --watch upstream={}",
                subject.keys,
                self.upstream.pid()
            ));
        if let Some(proxy) = proxy {
            program = program.with(&format!("--watch proxy={}", proxy.pid()));
        }
        if subject.contender == Contender::Litellm {
            // It writes answers anew, and takes its time.
            program = program.with("--expect-bytes 0 --patience 60");
        }
        let patience = Duration::from_secs_f64(self.load.longest + 75.0);
        let processor = self.processors.load.to_string();
        output("load generator", &program, &processor, patience).map(|text| Report::parse(&text))
    }
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).doing("find a free port")?;
    Ok(listener.local_addr()?.port())
}
