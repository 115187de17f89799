//! The scenarios: contenders, load and figures.

use super::contender::{Contender, Variant};
use super::verdict::Purpose;
use crate::report::Report;

/// A scenario for several contenders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum Scenario {
    /// JSON at saturation.
    Json,
    /// The same with TLS to the upstream.
    JsonTls,
    /// A fixed rate: added latency.
    Fixed,
    /// agentgateway's published load: 3,000 requests a second over 32 connections.
    FixedFew,
    /// `TensorZero`'s published load: 10,000 requests a second.
    FixedMany,
    /// Streams with an event each 20 ms.
    Streams,
    /// Half as many: what is added to a chunk's way where no processor is full.
    HalfStreams,
    /// Memory of idle connections.
    Idle,
    /// Memory of streams with an event each second.
    SlowStreams,
    /// Memory of requests that wait in Weir's queue.
    Waiting,
    /// The same over HTTP/2, many requests on a connection.
    WaitingHttp2,
    /// One and two workers.
    Workers,
    /// Many scopes, many callers.
    Scopes,
    /// What each of Weir's features costs.
    Features,
    /// From start to the first answer.
    Startup,
    /// Memory over many requests.
    Soak,
}

/// One row of a table.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) label: String,
    pub(super) contender: Contender,
    pub(super) variant: Variant,
    /// Different keys in the requests.
    pub(super) keys: usize,
    /// It may run on all processors given for it, not only on the first.
    pub(super) spread: bool,
}

/// One column of a table: a figure of one measurement, given also the one of `direct` in the same
/// round.
pub(super) struct Column {
    pub(super) title: &'static str,
    pub(super) decimals: usize,
    pub(super) value: fn(&Report, Option<&Report>) -> Option<f64>,
}

/// The load, and the upstream.
pub(super) struct Load {
    /// Arguments of `compare load`, without those about the target; empty when only the start is
    /// measured.
    pub(super) arguments: String,
    /// Arguments of `compare upstream`.
    pub(super) upstream: String,
    pub(super) purpose: Purpose,
    /// How long it takes at most, in seconds.
    pub(super) longest: f64,
}

/// How long and how much.
pub(super) struct Extent {
    pub(super) seconds: f64,
    pub(super) soak_requests: u64,
    pub(super) soak_minutes: f64,
}

const STREAMS: u64 = 1_000;

impl Scenario {
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Json => "JSON: POST of 497 B, answer of 937 B, 64 connections, saturated",
            Self::JsonTls => "JSON with TLS to the upstream, 64 connections, saturated",
            Self::Fixed => "JSON at a fixed 5,000 requests/s",
            Self::FixedFew => "JSON at a fixed 3,000 requests/s over 32 connections",
            Self::FixedMany => "JSON at a fixed 10,000 requests/s",
            Self::Streams => "Streams: 1,000 at once, an event of about 200 B each 20 ms",
            Self::HalfStreams => "Streams: 500 at once, an event of about 200 B each 20 ms",
            Self::Idle => "Memory: at rest, and of 1,000 idle keep-alive connections",
            Self::SlowStreams => "Memory: 1,000 streams with an event each second",
            Self::Waiting => "Memory: 1,000 requests that wait in the queue",
            Self::WaitingHttp2 => "Memory: 1,000 requests that wait in the queue, over 4 HTTP/2 connections",
            Self::Workers => "Scale: 1 and 2 workers",
            Self::Scopes => "Scale: scopes and callers",
            Self::Features => "What each feature costs",
            Self::Startup => "Start",
            Self::Soak => "Soak: memory over many requests",
        }
    }

    pub(super) const fn is_tls(self) -> bool {
        matches!(self, Self::JsonTls)
    }

    pub(super) fn load(self, extent: &Extent) -> Load {
        let seconds = extent.seconds;
        let saturated = format!("closed --seconds {seconds}");
        let (arguments, upstream, purpose, longest) = match self {
            Self::Json | Self::JsonTls | Self::Features | Self::Scopes => {
                (saturated, String::new(), Purpose::Saturate, seconds)
            }
            Self::Workers => (saturated, String::new(), Purpose::Share, seconds),
            Self::Fixed => fixed_rate(5_000, 64, seconds),
            Self::FixedFew => fixed_rate(3_000, 32, seconds),
            Self::FixedMany => fixed_rate(10_000, 64, seconds),
            Self::Streams | Self::HalfStreams => {
                let streams = if self == Self::Streams { STREAMS } else { STREAMS / 2 };
                let upstream = "--interval-us 20000 --events 100000000".to_owned();
                let arguments = format!("streams --streams {streams} --seconds {seconds}");
                (arguments, upstream, Purpose::Reach { per_second: streams * 50 }, seconds)
            }
            Self::SlowStreams => {
                let upstream = "--interval-us 1000000 --grid-us 1000 --events 1000000".to_owned();
                let arguments = format!("streams --streams {STREAMS} --seconds 2 --warm-up 2");
                (arguments, upstream, Purpose::Rest, 4.0)
            }
            Self::Idle => ("idle --connections 1000".to_owned(), String::new(), Purpose::Rest, 10.0),
            Self::Waiting => {
                ("idle --connections 1000 --waiting".to_owned(), String::new(), Purpose::Rest, 10.0)
            }
            Self::WaitingHttp2 => {
                ("http2 --connections 4 --requests 250".to_owned(), String::new(), Purpose::Rest, 10.0)
            }
            Self::Startup => (String::new(), String::new(), Purpose::Rest, 0.0),
            Self::Soak => {
                let longest = extent.soak_minutes * 60.0;
                let every = (longest / 200.0).clamp(0.5, 10.0);
                let arguments = format!(
                    "closed --requests {} --seconds {longest} --rss-every {every}",
                    extent.soak_requests
                );
                (arguments, String::new(), Purpose::Rest, longest)
            }
        };
        Load { arguments, upstream, purpose, longest }
    }

    pub(super) fn subjects(self) -> Vec<Subject> {
        use Contender::{Direct, Envoy, Haproxy, Litellm, Nginx, Relay, Weir};
        let plain = |contender: Contender| Subject::new(contender.as_str(), contender);
        let unbuffered = || Subject::new("nginx unbuffered", Nginx).word("unbuffered");
        let no_delay = || Subject::new("haproxy `http-no-delay`", Haproxy).word("no_delay");
        let weir = |label: &str| Subject::new(label, Weir);
        match self {
            Self::Json => vec![
                plain(Direct),
                plain(Relay),
                plain(Nginx),
                unbuffered(),
                plain(Haproxy),
                plain(Envoy),
                plain(Litellm),
                plain(Weir),
            ],
            Self::JsonTls => vec![plain(Nginx), plain(Haproxy), plain(Envoy), plain(Weir)],
            Self::Fixed | Self::FixedFew | Self::FixedMany => {
                vec![plain(Direct), plain(Relay), plain(Nginx), plain(Haproxy), plain(Envoy), plain(Weir)]
            }
            Self::Streams | Self::HalfStreams => {
                vec![
                    plain(Direct),
                    plain(Relay),
                    unbuffered(),
                    plain(Haproxy),
                    no_delay(),
                    plain(Envoy),
                    plain(Weir),
                ]
            }
            Self::SlowStreams => vec![unbuffered(), no_delay(), plain(Envoy), plain(Weir)],
            Self::Idle => vec![plain(Nginx), plain(Haproxy), plain(Envoy), plain(Litellm), plain(Weir)],
            Self::Startup => {
                vec![plain(Nginx), plain(Haproxy), plain(Envoy), plain(Litellm), plain(Weir)]
            }
            Self::Waiting | Self::WaitingHttp2 => vec![plain(Weir).word("waiting")],
            Self::Soak => vec![plain(Weir)],
            Self::Workers => [Nginx, Weir]
                .into_iter()
                .flat_map(|contender| {
                    let name = contender.as_str();
                    [
                        Subject::new(&format!("{name}, 1 worker"), contender),
                        Subject::new(&format!("{name}, 2 workers on one processor"), contender).workers(2),
                        Subject::new(&format!("{name}, 2 workers"), contender).workers(2).spread(),
                    ]
                })
                .collect(),
            Self::Scopes => vec![
                weir("Weir, 1 scope").callers(0),
                weir("Weir, 16 scopes").callers(0).keys(16),
                weir("Weir, 256 scopes").callers(0).keys(256),
                weir("Weir, 1,000 callers").callers(1000).keys(1000),
            ],
            Self::Features => vec![
                weir("everything on, as compared above"),
                weir("no callers configured").callers(0),
                weir("limits learned instead of configured").word("learned"),
                weir("no bodies kept for replay").word("no_replay"),
                weir("mode = observe").mode("observe"),
                weir("mode = bypass").mode("bypass"),
                weir("with the access log (to /dev/null)").word("access_log"),
            ],
        }
    }

    /// The rows that ratios refer to.
    pub(super) const fn references(self) -> &'static [&'static str] {
        match self {
            Self::Json
            | Self::JsonTls
            | Self::Fixed
            | Self::FixedFew
            | Self::FixedMany
            | Self::Idle
            | Self::Startup => &["nginx", "Envoy"],
            Self::Streams | Self::HalfStreams | Self::SlowStreams => &["nginx unbuffered", "Envoy"],
            Self::Workers => &["nginx, 1 worker", "Weir, 1 worker"],
            Self::Scopes => &["Weir, 1 scope"],
            Self::Features => &["everything on, as compared above"],
            Self::Waiting | Self::WaitingHttp2 | Self::Soak => &[],
        }
    }

    /// The columns; the first one is what ratios are made of.
    pub(super) fn columns(self) -> Vec<Column> {
        let cpu = column("CPU µs/request", 1, |report, _| {
            Some(report.number("proxy_cpu_us")? / report.number("requests")?)
        });
        let user =
            column("user", 1, |report, _| Some(report.number("proxy_user_us")? / report.number("requests")?));
        let system = column("system", 1, |report, _| {
            Some(report.number("proxy_system_us")? / report.number("requests")?)
        });
        let rate = column("requests/s", 0, |report, _| {
            Some(report.number("requests")? / report.number("window_us")? * 1e6)
        });
        let p50 = column("p50 µs", 0, |report, _| report.number("p50_us"));
        let p99 = column("p99 µs", 0, |report, _| report.number("p99_us"));
        let rss = column("RSS MiB", 1, |report, _| Some(report.number("proxy_rss_kib")? / 1024.0));
        let rest = column("at rest MiB", 1, |report, _| Some(report.number("proxy_rss_rest_kib")? / 1024.0));
        match self {
            Self::Json | Self::JsonTls | Self::Features | Self::Scopes | Self::Workers => {
                vec![cpu, user, system, rate, p50, p99, rss]
            }
            Self::Fixed | Self::FixedFew | Self::FixedMany => vec![
                column("added p50 µs", 0, |report, direct| {
                    Some(report.number("p50_us")? - direct?.number("p50_us")?)
                }),
                column("added p99 µs", 0, |report, direct| {
                    Some(report.number("p99_us")? - direct?.number("p99_us")?)
                }),
                p50,
                p99,
                cpu,
            ],
            Self::Streams | Self::HalfStreams => vec![
                column("CPU µs/chunk", 1, |report, _| {
                    Some(report.number("proxy_cpu_us")? / report.number("chunks")?)
                }),
                column("added delay p50 ms", 2, |report, direct| added_ms(report, direct, "p50_us")),
                column("added delay p99 ms", 2, |report, direct| added_ms(report, direct, "p99_us")),
                column("KiB/stream", 1, |report, _| grown_by(report, "streams")),
            ],
            Self::SlowStreams => vec![column("KiB/stream", 1, |report, _| grown_by(report, "streams"))],
            Self::Idle => {
                vec![column("KiB/connection", 1, |report, _| grown_by(report, "connections")), rest]
            }
            Self::Waiting => vec![column("KiB/request", 1, |report, _| grown_by(report, "connections"))],
            Self::WaitingHttp2 => vec![column("KiB/request, without its body", 1, |report, _| {
                Some(grown_by(report, "waiting")? - report.number("body_bytes")? / 1024.0)
            })],
            Self::Startup => vec![
                column("first answer ms", 1, |report, _| report.number("startup_ms")),
                rest,
                column("binary MB", 1, |report, _| Some(report.number("binary_bytes")? / 1e6)),
            ],
            Self::Soak => vec![
                column("growth KiB, second to last quarter", 0, |report, _| {
                    soak_growth(report.text("rss_series")?)
                }),
                column("million requests", 1, |report, _| Some(report.number("requests")? / 1e6)),
                rss,
            ],
        }
    }
}

impl Subject {
    fn new(label: &str, contender: Contender) -> Self {
        let variant = Variant { workers: 1, words: Vec::new(), mode: "enforce", callers: 1 };
        Self { label: label.to_owned(), contender, variant, keys: 1, spread: false }
    }

    fn word(mut self, word: &'static str) -> Self {
        self.variant.words.push(word);
        self
    }

    fn mode(mut self, mode: &'static str) -> Self {
        self.variant.mode = mode;
        self
    }

    fn callers(mut self, callers: usize) -> Self {
        self.variant.callers = callers;
        self
    }

    fn workers(mut self, workers: u32) -> Self {
        self.variant.workers = workers;
        self
    }

    fn keys(mut self, keys: usize) -> Self {
        self.keys = keys;
        self
    }

    fn spread(mut self) -> Self {
        self.spread = true;
        self
    }
}

/// The load of a number of requests a second.
fn fixed_rate(per_second: u64, connections: u64, seconds: f64) -> (String, String, Purpose, f64) {
    let arguments = format!("fixed --rate {per_second} --connections {connections} --seconds {seconds}");
    (arguments, String::new(), Purpose::Reach { per_second }, seconds)
}

const fn column(
    title: &'static str,
    decimals: usize,
    value: fn(&Report, Option<&Report>) -> Option<f64>,
) -> Column {
    Column { title, decimals, value }
}

fn added_ms(report: &Report, direct: Option<&Report>, name: &str) -> Option<f64> {
    Some((report.number(name)? - direct?.number(name)?) / 1e3)
}

fn grown_by(report: &Report, number: &str) -> Option<f64> {
    Some((report.number("proxy_rss_kib")? - report.number("proxy_rss_before_kib")?) / report.number(number)?)
}

/// Mean memory of the last quarter of the samples less that of the second: the first is warm-up.
fn soak_growth(series: &str) -> Option<f64> {
    let samples: Vec<f64> =
        series.split(' ').map(|sample| sample.rsplit(':').next()?.parse().ok()).collect::<Option<_>>()?;
    let quarter = samples.len() / 4;
    let mean = |samples: &[f64]| samples.iter().sum::<f64>() / samples.len() as f64;
    (quarter > 0).then(|| mean(&samples[samples.len() - quarter..]) - mean(&samples[quarter..2 * quarter]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;

    #[test]
    fn growth_is_of_the_last_quarter_over_the_second() {
        assert_eq!(soak_growth("0.5:10:100 1:20:200 1.5:30:300 2:40:260"), Some(60.0));
        assert_eq!(soak_growth("0.5:10:100"), None);
        assert_eq!(soak_growth("nonsense"), None);
    }

    #[test]
    fn labels_are_unique_and_ratios_have_a_row() {
        for scenario in Scenario::value_variants() {
            let labels: Vec<String> = scenario.subjects().into_iter().map(|subject| subject.label).collect();
            let mut unique = labels.clone();
            unique.sort();
            unique.dedup();
            assert_eq!(unique.len(), labels.len(), "{scenario:?}");
            for reference in scenario.references() {
                assert!(labels.iter().any(|label| label == reference), "{scenario:?}: no row {reference}");
            }
        }
    }
}
