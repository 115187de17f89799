"""Replays a real Weir's access log: under the recorded limits the waits must be as recorded.

    python3 tests/observability/check_what_if.py

Two callers of different weight exceed the API's limits. `weir what-if` must reproduce each one's waits within 5 %, find
whether twice the limit would have helped, and count the other lines of a truncated and mixed log.
"""

import concurrent.futures
import gzip
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "outside"))

import processes  # noqa: E402

CONFIG = """
[log]
format = "json"
[shutdown]
drain_delay = "0s"
drain_timeout = "1s"
[[callers]]
name = "search"
weight = 3
header = { name = "x-team", value = "search" }
[[callers]]
name = "batch"
header = { name = "x-team", value = "batch" }
"""
# A second's worth at once, then 20 a second: the last of 220 waits for 10 s.
LIMITS = ("--rpm", "1200", "--tpm", "2M", "--shape", "bucket:1s", "--latency", "50ms")
EACH = 110
WITHIN = 0.05
# Shorter waits are a matter of single turns.
SHORT = 0.2


def main() -> int:
    with tempfile.TemporaryDirectory() as directory, processes.simulator(*LIMITS) as upstream:
        directory = pathlib.Path(directory)
        log = record(upstream, directory)
        answer = what_if(log, "--json")
        recorded, replayed = (column(answer, name) for name in ("recorded", "replayed"))
        assert recorded["all"]["requests"] == 2 * EACH + 1, recorded["all"]
        for who, was, now in [("all", recorded["all"], replayed["all"]), *pairs(recorded, replayed)]:
            for figure in ("wait_mean", "wait_p50", "wait_p99"):
                close = abs(now[figure] - was[figure]) <= max(WITHIN * was[figure], SHORT)
                assert close, f"{who}: {figure} was {was[figure]:.2f} s, the replay gives {now[figure]:.2f} s"
            print(f"{who}: mean {was['wait_mean']:.2f} s, replayed {now['wait_mean']:.2f}; "
                  f"p99 {was['wait_p99']:.2f} s, replayed {now['wait_p99']:.2f}")
        [sentence] = answer["sentences"]
        assert "Twice the limits (2,400 requests/min" in sentence and "would have helped" in sentence, sentence

        asked = what_if(log, "--json", "--requests-per-minute", "600", "--weight", "batch=30", "--replicas", "2")
        slower, batch = column(asked, "what if"), dict(column(asked, "what if")["callers"])["batch"]
        assert slower["all"]["wait_mean"] > 1.5 * recorded["all"]["wait_mean"], slower["all"]
        assert batch["wait_mean"] < dict(recorded["callers"])["batch"]["wait_mean"] * 2, "its weight counts"

        damaged(log, directory)
    print("what-if: 0 problems")
    return 0


def damaged(log, directory):
    """A log that is compressed, cut at both ends and mixed with other programs' lines."""
    lines = log.read_text().splitlines()
    mixed = [lines[0][40:], "Traceback (most recent call last):", *lines[1:-1], lines[-1][:-50]]
    packed = directory / "cut.log.gz"
    packed.write_bytes(gzip.compress("\n".join(mixed).encode()))
    text = subprocess.run(
        [processes.binary(), "what-if", str(packed), "--svg", str(directory / "waits.svg")],
        check=True, capture_output=True, text=True, timeout=120,
    ).stdout
    assert "3 not Weir's, or cut" in text, text
    assert "<svg" in (directory / "waits.svg").read_text()
    assert max(map(len, text.splitlines())) <= 120, text
    print(text)


def record(upstream, directory):
    config, log = directory / "weir.toml", directory / "access.log"
    config.write_text(CONFIG)
    port, admin = processes.free_port(), processes.free_port()
    command = [processes.binary(), "--upstream", upstream, "--config", str(config),
               "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"]
    with log.open("w") as output:
        weir = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=output)
        try:
            for each in (port, admin):
                processes.wait_for(each, weir)
            ask(port, "search")  # The limits are known then.
            time.sleep(1.5)
            with concurrent.futures.ThreadPoolExecutor(2 * EACH) as pool:
                teams = ["search", "batch"] * EACH
                assert all(pool.map(lambda team: ask(port, team), teams))
        finally:
            processes.end(weir)
    return log


def ask(port, team):
    body = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}).encode()
    headers = {"content-type": "application/json", "authorization": "Bearer sk-any", "x-team": team}
    message = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", body, headers)
    with urllib.request.urlopen(message, timeout=60) as answer:
        answer.read()
        return answer.status == 200


def what_if(log, *options):
    done = subprocess.run([processes.binary(), "what-if", str(log), *options],
                          check=True, capture_output=True, text=True, timeout=120)
    return json.loads(done.stdout)


def column(answer, name):
    return next(column["figures"] for column in answer["columns"] if column["name"] == name)


def pairs(one, other):
    others = dict(other["callers"])
    return [(name, group, others[name]) for name, group in one["callers"]]


if __name__ == "__main__":
    sys.exit(main())
