"""Asks a Prometheus every query of deploy/grafana/weir.json, as Grafana would.

    python3 tests/observability/check_dashboard.py http://127.0.0.1:9090 [--window 1m]

The Prometheus must have scraped a Weir that served traffic. A query that fails, or that finds nothing and is not
expected to, is a problem; so is an expectation that names a panel which is no longer there.
"""

import argparse
import json
import pathlib
import re
import sys
import urllib.error
import urllib.parse
import urllib.request

DASHBOARD = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "grafana" / "weir.json"

# Panels that are empty when all is well, and why. Everything else must show something.
MAY_BE_EMPTY = {
    "Used by others": "nobody else used the limits, or no header told",
    "Is the predicted wait accurate?": "nobody waited for 100 ms",
    "Restarts": "nothing restarted",
    "Cost by caller": "no price list is loaded",
    "Time to the first event": "no answer was streamed",
    "Alerts": "nothing fires",
}


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("prometheus", help="its address, such as http://127.0.0.1:9090")
    arguments.add_argument("--window", default="1m", help="what stands for $__rate_interval")
    arguments = arguments.parse_args()

    dashboard = json.loads(DASHBOARD.read_text())
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    problems, empty, queries = [], [], list(queries_of(dashboard))
    for title, expression in queries:
        query, unknown = substitute(expression, variables, arguments.window)
        if unknown:
            problems.append(f"{title}: the variable ${unknown} is not declared\n    {expression}")
            continue
        try:
            found = ask(arguments.prometheus, query)
        except QueryFailed as failure:
            problems.append(f"{title}: {failure}\n    {query}")
            continue
        if not found and title not in MAY_BE_EMPTY:
            problems.append(f"{title}: finds nothing\n    {query}")
        elif not found:
            empty.append(title)
    titles = {title for title, _ in queries}
    problems += [f"{title}: may be empty, but is not there" for title in MAY_BE_EMPTY if title not in titles]

    for problem in problems:
        print(f"deploy/grafana/weir.json: {problem}", file=sys.stderr)
    print(f"dashboard: {len(queries)} queries, {len(problems)} problems, {len(empty)} empty as they may be")
    return 1 if problems else 0


class QueryFailed(Exception):
    """Prometheus did not take the query."""


def queries_of(dashboard):
    for variable in dashboard["templating"]["list"]:
        values = re.fullmatch(r"label_values\((.+), (\w+)\)", variable.get("definition", ""))
        if values:
            yield f"variable {variable['name']}", f"count by ({values[2]}) ({values[1]})"
    for annotation in dashboard["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]
    for panel in panels_of(dashboard):
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def panels_of(container):
    for panel in container["panels"]:
        yield panel
        yield from panels_of(panel) if panel.get("panels") else ()


def substitute(expression, variables, window):
    """The query with every variable at "All"; and a variable that nothing declares."""
    query = expression.replace("$__rate_interval", window).replace("$__interval", window).replace("$__range", window)
    names = re.findall(r"\$\{?(\w+)", query)
    for name in names:
        if name not in variables:
            return query, name
    return re.sub(r"\$\{?\w+\}?", ".*", query), None


def ask(prometheus, query):
    url = f"{prometheus.rstrip('/')}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        raise QueryFailed(json.load(error).get("error", error.reason)) from None
    if answer["status"] != "success" or answer["data"]["resultType"] != "vector":
        raise QueryFailed(f"answers {answer['status']} with a {answer.get('data', {}).get('resultType')}")
    # A histogram without observations has a quantile that is not a number: Grafana draws nothing.
    return [sample for sample in answer["data"]["result"] if sample["value"][1] != "NaN"]


if __name__ == "__main__":
    sys.exit(main())
