//! What is running, and where: the version, the revision, the host.

/// The version.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The source revision: what `WEIR_REVISION` held when Weir was built, or "unknown".
pub(super) const REVISION: &str = named(option_env!("WEIR_REVISION"));

/// The host's name: in Kubernetes that of the pod; nothing where the system does not tell.
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
