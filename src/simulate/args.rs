//! The options of `weir simulate`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::dialect::Dialect;
use super::notation::Problem;
use super::settings::{Limits, Settings};

/// Simulate the OpenAI API: its rate limits, errors and failures.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = include_str!("examples.txt"))]
pub struct Args {
    /// Listen on this address.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9000")]
    pub listen: SocketAddr,
    #[command(flatten)]
    settings: Settings,
    /// Serve TLS with this certificate chain (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = "TLS")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = "TLS")]
    pub tls_key: Option<PathBuf>,
}

impl Args {
    /// The settings that the options describe.
    ///
    /// # Errors
    /// A file that cannot be read, or fault rates whose sum is above 1.
    pub fn settings(&self) -> Result<Settings, Problem> {
        let mut settings = self.settings.clone();
        if settings.dialect.is_some_and(Dialect::is_server) {
            settings.limits = Limits::NONE;
        }
        if let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) {
            settings.tls = Some(tls(certificate, key)?);
        }
        settings.check()?;
        Ok(settings)
    }
}

fn tls(certificate: &PathBuf, key: &PathBuf) -> Result<Arc<rustls::ServerConfig>, Problem> {
    let problem = |option: &str, words: &dyn std::fmt::Display| Problem::new(format!("{option}: {words}"));
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| problem("--tls-cert", &error))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| problem("--tls-key", &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| problem("--tls-cert", &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::super::limiter::{Depth, Shape};
    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn settings(words: &str) -> Result<Settings, String> {
        let words = std::iter::once("simulate").chain(words.split_whitespace());
        let command = Command::try_parse_from(words).map_err(|error| error.to_string())?;
        command.args.settings().map_err(|problem| problem.to_string())
    }

    #[test]
    fn without_options_it_is_the_api_for_a_small_account() {
        let parsed = settings("").unwrap();
        assert_eq!(parsed.limits, Limits { rpm: Some(500), tpm: Some(200_000), ..Limits::NONE });
        assert_eq!((parsed.dialect, parsed.shape), (Some(Dialect::Openai), Shape::Bucket(Depth::Window)));
        assert_eq!((parsed.max_body, parsed.output_tokens), (64 << 20, 16));
        assert_eq!((parsed.count_failed, parsed.compress, parsed.require_key), (true, true, true));
        assert_eq!(Settings::default().dialect, None);
        assert_eq!(settings("--dialect vllm").unwrap().limits, Limits::NONE);
    }

    #[test]
    fn every_option_of_the_examples_is_read() {
        let parsed = settings(
            "--rpm none --tpm 30k --model gpt-4o:rpm=3 --shape lying-bucket:1s --fault 503=5% --fault reset=1% \
             --outage 10s+5s:refused --foreign 0,0.8/30s --latency 300ms~2s --latency-before 50ms..2s \
             --limit-change 30s:rpm=60 --key sk-a=org-one/proj_one",
        )
        .unwrap();
        assert_eq!((parsed.limits.rpm, parsed.limits.tpm), (None, Some(30_000)));
        assert_eq!(parsed.shape, Shape::LyingBucket(Depth::Of(Duration::from_secs(1))));
        assert_eq!((parsed.faults.len(), parsed.outages.len(), parsed.keys.len()), (2, 1, 1));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_option() {
        for (words, option, hint) in [
            ("--fault 503", "--fault", "503=0.05"),
            ("--fault nothing=1", "--fault", "reset-mid-body"),
            ("--outage 10s:503", "--outage", "10s+5s:503"),
            ("--rpm lots", "--rpm", "30k"),
            ("--latency soon", "--latency", "50ms"),
            ("--shape pail", "--shape", "fixed-window"),
            ("--fault 503=0.6 --fault 500=0.6", "fault", "1"),
            ("--tls-cert /nonexistent --tls-key /nonexistent", "--tls-cert", ""),
        ] {
            let problem = settings(words).unwrap_err();
            assert!(problem.contains(option) && problem.contains(hint), "{words}: {problem}");
        }
    }
}
