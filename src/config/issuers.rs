//! `[[issuers]]`: the issuers of the tokens (JWT) that identify callers.

use std::path::PathBuf;

use super::key::section;
use super::url::UpstreamUrl;

section! {
    /// An issuer of tokens that callers send in place of a Weir key; `callers.token` names one.
    Issuer {
        /// Its name in callers, metrics and logs.
        name: String = required("cluster"),
        /// Its tokens' `iss`.
        issuer: String = required("https://kubernetes.default.svc.cluster.local"),
        /// What their `aud` must hold: Weir itself, never the API.
        audience: String = required("weir"),
        /// Where its keys are (a JWKS document), looked at every five minutes.
        jwks_url: Option<UpstreamUrl> = unset("https://issuer.internal/openid/v1/jwks"),
        /// A file with its keys in place of that, looked at every ten seconds.
        jwks_file: Option<PathBuf> = unset("/etc/weir/jwks.json"),
    }
}
