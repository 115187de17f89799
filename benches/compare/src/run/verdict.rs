//! Whether a measurement is reliable.

use crate::report::Report;

/// The maximum fraction of a processor used by other processes.
const FOREIGN_SHARE: f64 = 0.05;
/// The maximum fraction of a processor stolen by the host.
const STOLEN_SHARE: f64 = 0.01;
/// The minimum fraction of its processor that a saturated proxy uses. The load generator and the
/// upstream leave at least the rest free.
const SATURATED: f64 = 0.93;
/// The minimum fraction of a fixed rate that counts as reached.
const REACHED: f64 = 0.99;

/// The purpose of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The proxy's processors are to be full.
    Saturate,
    /// The proxy may use several processors, one of them shared with the load: full they need not
    /// be.
    Share,
    /// A number of operations a second is to be reached.
    Reach { per_second: u64 },
    /// Only memory or time is read.
    Rest,
}

/// Which processors a measurement used.
pub(super) struct Placement {
    pub(super) load: usize,
    pub(super) proxy: Option<usize>,
}

/// The reason why a measurement is unreliable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// The machine was disturbed: another try may do.
    Noisy(String),
    /// The set-up cannot measure this.
    Invalid(String),
}

pub(super) fn judge(report: &Report, purpose: Purpose, placement: &Placement) -> Option<Doubt> {
    let window = report.number("window_us")?;
    let share = |name: &str| report.number(name).unwrap_or(0.0) / window;
    let proxy = share("proxy_cpu_us");
    let serving = share("load_cpu_us") + share("upstream_cpu_us");

    if purpose != Purpose::Rest
        && let Some(doubt) = disturbed(report, purpose, placement, proxy, serving, &share)
    {
        return Some(doubt);
    }
    let proxied = placement.proxy.is_some();
    match purpose {
        Purpose::Saturate if proxied && proxy < SATURATED => Some(Doubt::Invalid(format!(
            "upstream and load saturate first: they use {} of their processor, the proxy {} of its own",
            percent(serving),
            percent(proxy)
        ))),
        Purpose::Reach { per_second } => {
            let done = report.number("chunks").or_else(|| report.number("requests")).unwrap_or(0.0);
            let reached = done / (window / 1e6) / per_second as f64;
            (reached < REACHED).then(|| {
                let why = if proxied && proxy >= SATURATED {
                    "the proxy is saturated"
                } else if serving >= SATURATED {
                    "upstream and load are saturated"
                } else {
                    "nobody is saturated"
                };
                Doubt::Invalid(format!("reached {} of {per_second}/s: {why}", percent(reached)))
            })
        }
        Purpose::Saturate | Purpose::Share | Purpose::Rest => None,
    }
}

fn disturbed(
    report: &Report,
    purpose: Purpose,
    placement: &Placement,
    proxy: f64,
    serving: f64,
    share: &dyn Fn(&str) -> f64,
) -> Option<Doubt> {
    // On a processor shared with the load, only the sum can be checked.
    let ours = match (purpose, placement.proxy) {
        (Purpose::Share, Some(other)) => vec![(placement.load, f64::NAN), (other, f64::NAN)],
        (_, Some(other)) if other != placement.load => vec![(placement.load, serving), (other, proxy)],
        _ => vec![(placement.load, serving + proxy)],
    };
    for (processor, _) in &ours {
        let stolen = share(&format!("processor{processor}_stolen_us"));
        if stolen > STOLEN_SHARE {
            return Some(Doubt::Noisy(format!("the host took {} of processor {processor}", percent(stolen))));
        }
    }
    let busy: f64 = ours.iter().map(|(processor, _)| share(&format!("processor{processor}_busy_us"))).sum();
    let foreign = ours
        .iter()
        .map(|(processor, used)| share(&format!("processor{processor}_busy_us")) - used)
        .chain([busy - serving - proxy])
        .filter(|foreign| foreign.is_finite())
        .fold(0.0, f64::max);
    (foreign > FOREIGN_SHARE).then(|| {
        let stranger = report.text("stranger").unwrap_or("somebody");
        Doubt::Noisy(format!("others took {} of a processor ({stranger} most)", percent(foreign)))
    })
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACEMENT: Placement = Placement { load: 0, proxy: Some(1) };

    fn report(values: &[(&str, f64)]) -> Report {
        let mut report = Report::default();
        let quiet = [
            ("window_us", 1e6),
            ("load_cpu_us", 4e5),
            ("upstream_cpu_us", 4e5),
            ("proxy_cpu_us", 9.9e5),
            ("processor0_busy_us", 8.1e5),
            ("processor1_busy_us", 1e6),
            ("requests", 5e4),
        ];
        for (name, value) in quiet.iter().chain(values) {
            report.put(*name, value);
        }
        report
    }

    #[test]
    fn a_quiet_saturated_run_is_believed() {
        assert_eq!(judge(&report(&[]), Purpose::Saturate, &PLACEMENT), None);
    }

    #[test]
    fn others_and_the_host_are_noticed_on_either_processor() {
        for noisy in [
            ("processor0_busy_us", 8.7e5),
            ("processor1_stolen_us", 2e4),
            ("processor0_stolen_us", 2e4),
            ("proxy_cpu_us", 9.4e5),
        ] {
            let doubt = judge(&report(&[noisy]), Purpose::Saturate, &PLACEMENT);
            assert!(matches!(doubt, Some(Doubt::Noisy(_))), "{noisy:?}: {doubt:?}");
        }
    }

    #[test]
    fn an_upstream_that_saturates_first_is_noticed() {
        let full = [
            ("processor0_busy_us", 1e6),
            ("upstream_cpu_us", 6e5),
            ("proxy_cpu_us", 8e5),
            ("processor1_busy_us", 8e5),
        ];
        let Some(Doubt::Invalid(why)) = judge(&report(&full), Purpose::Saturate, &PLACEMENT) else {
            panic!("believed")
        };
        assert_eq!(
            why,
            "upstream and load saturate first: they use 100 % of their processor, the proxy 80 % of its own"
        );
        // At a fixed rate an idle proxy is no fault.
        assert_eq!(judge(&report(&full), Purpose::Reach { per_second: 50_000 }, &PLACEMENT), None);
    }

    #[test]
    fn a_rate_that_was_not_reached_is_noticed() {
        let doubt = judge(&report(&[]), Purpose::Reach { per_second: 60_000 }, &PLACEMENT);
        assert_eq!(doubt, Some(Doubt::Invalid("reached 83 % of 60000/s: the proxy is saturated".into())));
    }
}
