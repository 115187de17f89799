"""Sends a live Weir more names than it may keep, and scrapes it: the response must be bounded and quick.

    python3 tests/observability/check_worst.py

100 callers, 3,000 credentials, as many models, one of a megabyte. (100,000 models are offered to the metrics alone, in
`worst_case_is_what_the_plan_says`.) The time is the best of several, so that a machine busy with something else counts less.
"""

import concurrent.futures
import http.client
import json
import pathlib
import re
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "outside"))

import processes  # noqa: E402

CALLERS, OFFERED = 100, 3_000
MOST_SERIES, MOST_SECONDS = 20_000, 0.100
CONFIG = """
[limits]
max_scopes = 1000
[metrics]
max_scopes = 1000
max_models = 1000
[log]
access = false
[shutdown]
drain_delay = "0s"
drain_timeout = "1s"
""" + "".join(f'[[callers]]\nname = "team-{number}"\nheader = {{ name = "x-team", value = "{number}" }}\n' for number in range(CALLERS))


def main() -> int:
    with processes.simulator("--rpm", "none", "--tpm", "none", "--separate-keys") as upstream:
        with processes.weir(upstream, config=CONFIG) as weir:
            host = weir.url.removeprefix("http://")
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                answers = [answer for part in pool.map(lambda first: offer(host, first), range(8)) for answer in part]
            assert answers.count(200) == OFFERED, {status: answers.count(status) for status in set(answers)}
            assert offer_one(host, OFFERED, model="m" * 1_000_000) in (200, 400, 404), "a name of a megabyte"
            times = []
            for _ in range(7):
                began = time.monotonic()
                exposition = weir.metrics()
                times.append(time.monotonic() - began)
            page_began = time.monotonic()
            page = get(weir.admin.removeprefix("http://"), "/")
            page_took = time.monotonic() - page_began
    series = [line for line in exposition.splitlines() if line and not line.startswith("#")]
    longest = max(len(line) for line in series)
    overflowed = sum(float(line.rpartition(" ")[2]) for line in series if line.startswith("weir_labels_overflowed_total"))
    scopes = float(re.search(r"^weir_scopes (\S+)$", exposition, re.M)[1])
    print(
        f"worst case: {len(series)} series, {len(exposition)} bytes, {min(times) * 1000:.0f} ms (best of {len(times)}, "
        f"worst {max(times) * 1000:.0f} ms), {scopes:.0f} scopes, page {len(page)} bytes in {page_took * 1000:.0f} ms"
    )
    assert len(series) <= MOST_SERIES, len(series)
    assert scopes <= 1_000, scopes
    assert overflowed > 0, "what is beyond the bound is counted"
    assert longest < 500, longest
    assert len(page) < 1_000_000, len(page)
    assert min(times) < MOST_SECONDS, times
    return 0


def offer(host, first):
    """Every eighth name, over one connection."""
    connection = http.client.HTTPConnection(host, timeout=60)
    return [offer_one(host, number, connection=connection) for number in range(first, OFFERED, 8)]


def offer_one(host, number, model=None, connection=None):
    connection = connection or http.client.HTTPConnection(host, timeout=60)
    body = {"model": model or f"model-{number}", "messages": [{"role": "user", "content": "hi"}]}
    headers = {"authorization": f"Bearer sk-{number:024}", "content-type": "application/json", "x-team": str(number % CALLERS)}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def get(host, path):
    connection = http.client.HTTPConnection(host, timeout=60)
    connection.request("GET", path)
    return connection.getresponse().read()


if __name__ == "__main__":
    sys.exit(main())
