"""Checks that every metric named in rules, dashboard and documentation exists, and that every metric is documented.

    python3 tests/observability/check_metric_names.py http://127.0.0.1:8081/metrics
"""

import json
import pathlib
import re
import sys
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
DASHBOARD = ROOT / "deploy" / "grafana" / "weir.json"
RULES = ROOT / "deploy" / "prometheus" / "rules" / "weir.rules.yml"
DOCUMENTS = [ROOT / "docs" / name for name in ("metrics.md", "runbook.md", "operations.md")]
# What is exposed only where the configuration has this; `tests/edge/tokens.rs` sees it.
CONDITIONAL = {
    "weir_credential_expires_seconds": "[[exchanges]]",
    "weir_issuer_keys_age_seconds": "[[issuers]]",
    "weir_issuer_failures_total": "[[issuers]]",
    "weir_upstream_limit": "[[upstreams]]",
    "weir_upstream_limit_level": "[[upstreams]]",
}
# A metric's name, not a recording rule's (job:weir_...) and not a class (class="weir_queue_full").
NAME = re.compile(r'(?<![\w:"|.(])weir_[a-z_]+(?![\w:*])')


def main() -> int:
    with urllib.request.urlopen(sys.argv[1], timeout=10) as response:
        exposition = response.read().decode()
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", exposition, re.M))
    exposed = set(types)
    for name, kind in types.items():
        if kind == "histogram":
            exposed |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"}
    # Classes of Weir's own look like metrics.
    classes = set(re.findall(r'class="(weir_\w+)"', exposition))

    problems = []
    dashboard = json.loads(DASHBOARD.read_text())
    expressions = "\n".join(
        target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])
    )
    named = {
        DASHBOARD: names_in_queries(expressions),
        RULES: names_in_queries("\n".join(re.findall(r"expr:(.*?)(?=\n\s+(?:for|labels|- )|\Z)", RULES.read_text(), re.S))),
        **{path: set(re.findall(r"`(weir_[a-z_]+)[`{]", path.read_text())) for path in DOCUMENTS},
    }
    for path, names in named.items():
        if not names:
            problems.append(f"{path.relative_to(ROOT)}: no metric found; has the form of the file changed?")
        problems += [f"{path.relative_to(ROOT)}: {name} is not exposed" for name in sorted(names - exposed - classes - set(CONDITIONAL))]
    documented = named[ROOT / "docs" / "metrics.md"]
    problems += [f"docs/metrics.md: {name} is not documented" for name in sorted(set(types) - documented)]
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"metric names: {len(types)} families, {len(problems)} problems")
    return 1 if problems else 0


def names_in_queries(text):
    """Metrics in PromQL: what matchers in quotes name is not one."""
    return set(NAME.findall(re.sub(r'"[^"]*"', '""', text)))


if __name__ == "__main__":
    sys.exit(main())
