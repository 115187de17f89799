//! The running version is reported equally everywhere.

use crate::process::Weir;
use crate::wire;

#[test]
fn metrics_status_and_page_name_the_revision_of_the_build() {
    let revision = option_env!("WEIR_REVISION").filter(|told| !told.is_empty()).unwrap_or("unknown");
    let version = env!("CARGO_PKG_VERSION");
    let weir = Weir::before(wire::plain().0, "");
    let series = format!("weir_build_info{{revision=\"{revision}\",version=\"{version}\"}}");
    assert!((weir.metric(&series) - 1.0).abs() < f64::EPSILON);
    let status = weir.admin("GET", "/status");
    let body = status.split_once("\r\n\r\n").unwrap().1;
    let status: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(status["build"], serde_json::json!({ "version": version, "revision": revision }));
    let page = weir.admin("GET", "/");
    assert!(page.contains(&format!("Weir {version} (revision {revision})")), "{page}");
}
