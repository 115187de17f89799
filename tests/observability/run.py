"""Runs Weir under a real Prometheus and checks metrics, rules, dashboard and status page.

    python3 tests/observability/run.py [--seconds 20] [--screenshots DIR]

A simulator with faults, a Weir with three callers, a load, and a Prometheus that scrapes every second; then: the
exposition is well formed, the target is up, every rule evaluates, every query of the dashboard finds something, every
metric that rules, dashboard and documentation name exists, and the status page shows the situation.
"""

import argparse
import concurrent.futures
import contextlib
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent / "outside"))

import processes  # noqa: E402

CONFIG = """
[admission]
max_wait = "5s"

[shutdown]
drain_delay = "0s"
drain_timeout = "1s"

[metrics]
models = ["gpt-4o-mini", "text-embedding-3-small"]

[[callers]]
name = "search"
weight = 3
header = { name = "x-team", value = "search" }

[[callers]]
name = "support"
header = { name = "x-team", value = "support" }

[[callers]]
name = "nightly"
lane = "background"
header = { name = "x-team", value = "nightly" }
"""

# Faults that some requests ask the simulator for: each row of the dashboard is to have something to show.
FAULTS = [
    "error=server_error; rate=0.5",
    "error=server_is_overloaded; rate=0.5",
    "error=invalid_api_key",
    "error=resource_unavailable; rate=0.5",
    "error=context_length_exceeded",
    "fault=reset-before-head; rate=0.5",
]


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--seconds", type=float, default=20, help="how long the load lasts")
    arguments.add_argument("--screenshots", type=pathlib.Path, help="where to keep pictures of the status page")
    arguments = arguments.parse_args()

    problems = []
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(processes.simulator("--rpm", "1200", "--tpm", "2000000"))
        weir = stack.enter_context(processes.weir(upstream, config=CONFIG))
        prometheus = stack.enter_context(start_prometheus(weir))
        answers = load(weir.url, arguments.seconds)
        print(f"load: {sum(answers.values())} requests, {dict(sorted(answers.items()))}")
        # Two more scrapes, so that rates see the end of the load.
        time.sleep(2.5)

        problems += check_exposition(weir)
        problems += check_prometheus(prometheus)
        problems += run([sys.executable, HERE / "check_dashboard.py", prometheus, "--window", "30s"])
        problems += run([sys.executable, HERE / "check_metric_names.py", f"{weir.admin}/metrics"])
        page = [sys.executable, HERE / "check_page.py", weir.admin]
        problems += run(page + (["--screenshots", arguments.screenshots] if arguments.screenshots else []))
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"observability: {len(problems)} problems")
    return 1 if problems else 0


@contextlib.contextmanager
def start_prometheus(weir):
    port = processes.free_port()
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        target = weir.admin.removeprefix("http://")
        # As deployed, but quicker.
        (directory / "rules").mkdir()
        rules = (ROOT / "deploy" / "prometheus" / "rules" / "weir.rules.yml").read_text()
        (directory / "rules" / "weir.rules.yml").write_text(rules.replace("interval: 30s", "interval: 1s"))
        config = (ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text()
        config = config.replace("127.0.0.1:8081", target).replace("_interval: 15s", "_interval: 1s")
        (directory / "prometheus.yml").write_text(config)
        command = [
            "prometheus",
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ]
        with processes.process(command, ports=[port]):
            yield f"http://127.0.0.1:{port}"


def load(url, seconds):
    """Requests of every kind for a while, eight at a time; returns how many got which status."""
    answers = {}
    until = time.monotonic() + seconds
    dice = random.Random(7)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        while time.monotonic() < until:
            batch = [pool.submit(call, url, *request(dice)) for _ in range(40)]
            for future in batch:
                status = future.result()
                answers[status] = answers.get(status, 0) + 1
    return answers


def request(dice):
    headers = {"x-team": dice.choice(["search", "search", "support", "nightly"])}
    if dice.random() < 0.15:
        headers["x-simulate"] = dice.choice(FAULTS)
    if dice.random() < 0.1:
        headers["x-stainless-retry-count"] = "1"
    kind = dice.random()
    if kind < 0.3:
        return "/v1/embeddings", {"model": "text-embedding-3-small", "input": "water " * dice.randrange(1, 400)}, headers
    messages = [{"role": "user", "content": "rivers and weirs " * dice.randrange(1, 200)}]
    body = {"model": "gpt-4o-mini", "messages": messages}
    if kind < 0.5:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return "/v1/chat/completions", body, headers


def call(url, path, body, headers):
    headers = {"content-type": "application/json", "authorization": "Bearer sk-test-0123456789abcdef", **headers}
    message = urllib.request.Request(url + path, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(message, timeout=30) as response:
            response.read()
            return str(response.status)
    except urllib.error.HTTPError as error:
        error.read()
        return str(error.code)
    except OSError as error:
        return type(error).__name__


def check_exposition(weir):
    began = time.monotonic()
    exposition = weir.metrics()
    took = time.monotonic() - began
    series = sum(1 for line in exposition.splitlines() if line and not line.startswith("#"))
    print(f"scrape: {series} series, {len(exposition)} bytes, {took * 1000:.0f} ms")
    checked = subprocess.run(["promtool", "check", "metrics"], input=exposition, text=True, capture_output=True)
    if checked.returncode or checked.stdout or checked.stderr:
        return [f"promtool check metrics: {checked.stdout}{checked.stderr}"]
    return []


def check_prometheus(prometheus):
    targets = ask(f"{prometheus}/api/v1/targets")["activeTargets"]
    problems = [f"scrape: {target['lastError']}" for target in targets if target["health"] != "up"]
    if not targets:
        problems.append("Prometheus scrapes nothing")
    rules = [rule for group in ask(f"{prometheus}/api/v1/rules")["groups"] for rule in group["rules"]]
    problems += [f"rule {rule['name']}: {rule.get('lastError')}" for rule in rules if rule["health"] != "ok"]
    print(f"prometheus: {len(targets)} target, {len(rules)} rules evaluated")
    return problems


def ask(url):
    with urllib.request.urlopen(url, timeout=10) as response:
        return json.load(response)["data"]


def run(command):
    """Runs a check that prints its own problems."""
    failed = subprocess.run([str(word) for word in command]).returncode
    return [f"{pathlib.Path(command[1]).name} failed"] if failed else []


if __name__ == "__main__":
    sys.exit(main())
