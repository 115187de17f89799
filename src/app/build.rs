//! The build and the host: version, revision, host name.

/// The version of Weir.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The source revision: the value of `WEIR_REVISION` at build time, or "unknown".
pub(super) const REVISION: &str = named(option_env!("WEIR_REVISION"));

/// The host's name; in Kubernetes the pod's. Empty if the system does not report one.
pub(super) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

const fn named(told: Option<&'static str>) -> &'static str {
    match told {
        Some(revision) if !revision.is_empty() => revision,
        Some(_) | None => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_that_was_told_nothing_says_so() {
        assert_eq!([None, Some(""), Some("4c9ef5c")].map(named), ["unknown", "unknown", "4c9ef5c"]);
    }
}
