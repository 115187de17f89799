#!/usr/bin/env python3
"""Counts the instructions that Weir executes for a proxied request, and fails when they are more than what was recorded.

    benches/instructions.py            # compares with benches/instructions.json
    benches/instructions.py --record   # writes it

Needs valgrind and `cargo build --release`. Times differ from run to run by more than most changes cost; instructions do not:
callgrind counts them, whatever else the machine does. They are those of the worker's thread, from the first byte of each
request to the last of its answer: admission on both dimensions, a body kept for a retry, all metrics, a caller known by its
key, the access log off. The upstream is `weir simulate`, with limits that nothing reaches.
"""

import argparse
import json
import pathlib
import re
import socket
import sys
import tempfile
import threading

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "outside"))
import processes  # noqa: E402

RECORD = pathlib.Path(__file__).with_suffix(".json")
# How far the count may be from the record. Runs of one binary differ by 0.1 %, as requests meet in a poll or don't, and builds of the
# same source by 0.3 %. The compiler is pinned; another C compiler or library may need a new record.
TOLERANCE = 0.0075
CONNECTIONS, WARM_UP, REQUESTS = 8, 100, 500
# valgrind is some fifty times slower.
processes.READY_WITHIN = 60.0
processes.END_WITHIN = 60.0

KEY = "weir-bench-0123456789abcdef0123456789abcdef"
CONFIG = """
[server]
workers = 1
[upstream]
credential = "env:BENCH_UPSTREAM_KEY"
[limits]
requests_per_minute = 60000000
tokens_per_minute = 4000000000
[log]
access = false
[[callers]]
name = "bench"
key = "env:BENCH_CALLER_KEY"
"""
BODY = json.dumps(
    {
        "model": "gpt-4o-mini",
        "messages": [
            {"role": "system", "content": "You answer in one short sentence."},
            {"role": "user", "content": "What does a weir do to a river, and why would anybody build one? " * 4},
        ],
        "max_completion_tokens": 64,
        "temperature": 0.2,
    }
).encode()


def request(port: int) -> bytes:
    head = (
        "POST /v1/chat/completions HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Accept: application/json",
        "Content-Type: application/json",
        f"Authorization: Bearer {KEY}",
        "User-Agent: OpenAI/Python 2.8.0",
        "X-Stainless-Lang: python",
        "X-Stainless-Package-Version: 2.8.0",
        "X-Stainless-Retry-Count: 0",
        "X-Stainless-Read-Timeout: 600",
        f"Content-Length: {len(BODY)}",
    )
    return "\r\n".join(head).encode() + b"\r\n\r\n" + BODY


def call(port: int, times: int, failures: list[str]) -> None:
    sent = request(port)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        answer = connection.makefile("rb")
        for _ in range(times):
            connection.sendall(sent)
            status, length = answer.readline(), None
            while (line := answer.readline()) not in (b"\r\n", b""):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            if b" 200 " not in status or length is None:
                return failures.append(f"an answer began with {status!r}")
            answer.read(length)


def load(port: int, times: int) -> None:
    failures: list[str] = []
    callers = [threading.Thread(target=call, args=(port, times, failures)) for _ in range(CONNECTIONS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    if failures:
        raise SystemExit(f"the load failed: {failures[0]}")


def executed(upstream: str, requests: int) -> int:
    """The instructions of the busiest thread in the life of one Weir that answers a given number of requests per connection."""
    port, admin = processes.free_port(), processes.free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder, "weir.toml")
        config.write_text(CONFIG)
        weir = [processes.binary(), "run", "--config", str(config), "--upstream", upstream]
        weir += ["--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"]
        valgrind = ["valgrind", "--tool=callgrind", "--separate-threads=yes", f"--callgrind-out-file={folder}/out"]
        keys = {"BENCH_UPSTREAM_KEY": "upstream", "BENCH_CALLER_KEY": KEY}
        with processes.process(valgrind + weir, ports=[port], environment=keys):
            load(port, requests)
        totals = [re.search(rb"^totals: (\d+)", file.read_bytes(), re.M) for file in pathlib.Path(folder).glob("out-*")]
        return max(int(total[1]) for total in totals if total)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--record", action="store_true", help="write the count down instead of comparing it")
    arguments = parser.parse_args()
    with processes.simulator("--rpm", "60000000", "--tpm", "4000000000") as upstream:
        # Two lives, so that the start and the connections are not counted.
        more, less = executed(upstream, WARM_UP + REQUESTS), executed(upstream, WARM_UP)
    count = round((more - less) / (CONNECTIONS * REQUESTS))
    if arguments.record:
        RECORD.write_text(json.dumps({"instructions_per_request": count}) + "\n")
        return print(f"recorded {count:,} instructions per request")
    recorded = json.loads(RECORD.read_text())["instructions_per_request"]
    change = count / recorded - 1
    print(f"{count:,} instructions per request; {recorded:,} recorded; {change:+.2%}")
    if change > TOLERANCE:
        raise SystemExit(f"over {TOLERANCE:.2%} more: find what costs them, or record them with --record and say why")
    if change < -TOLERANCE:
        print("fewer by more than the tolerance: record them with --record, so that they stay so")


if __name__ == "__main__":
    main()
