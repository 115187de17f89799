"""Measures the cost of sharing limits: processor time of its `weir-replicas` thread beside that of the whole process, for docs/scale.md.

    WEIR_BIN=target/release/weir python3 tests/replicas/processor.py

Needs `redis-server` and `wrk`. Two Weirs share a simulator whose answers take 100 ms; each serves 1,000 requests a second by 100
connections, or `--each` of them. Requests bear keys in turn, each of which is an organization's with limits of its own.
"""

import argparse
import contextlib
import json
import os
import pathlib
import subprocess
import time
import urllib.request

import group as replicas

HERTZ = os.sysconf("SC_CLK_TCK")
SCRIPT = """
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"

local count = 0
request = function()
  count = count %% %d + 1
  wrk.headers["authorization"] = "Bearer sk-replicas-0123456789-" .. count
  return wrk.format(nil, "/v1/chat/completions", nil,
    '{"model":"gpt-4o-mini","messages":[{"role":"user","content":"word"}]}')
end
"""


def spent(process: subprocess.Popen) -> dict[str, float]:
    """Seconds of processor time by the names of the process's threads."""
    by_name: dict[str, float] = {}
    for stat in pathlib.Path(f"/proc/{process.pid}/task").glob("*/stat"):
        name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
        fields = rest.split()
        by_name[name] = by_name.get(name, 0.0) + (int(fields[11]) + int(fields[12])) / HERTZ
    return by_name


def sent_to(redis: replicas.Redis) -> float:
    """Commands that Weirs sent, without those that scripts execute and without pings."""
    return redis.count("cmdstat_evalsha", "commandstats")


def measure(stack: contextlib.ExitStack, sets: int, connections: int, seconds: int) -> str:
    group = replicas.Group(
        stack, limits="requests_per_minute = 60000000", interval=1.0, expected=2,
        simulator=["--rpm", "60M", "--tpm", "4000M", "--separate-keys"],
    )
    members = [group.add(), group.add()]
    script = pathlib.Path(group.folder) / "load.lua"
    script.write_text(SCRIPT % sets)
    loads = [
        subprocess.Popen(
            ["wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds + 5}s", "-s", str(script), member.weir.url],
            stdout=subprocess.DEVNULL,
        )
        for member in members
    ]
    time.sleep(3)
    before, answered, began = spent(members[0].process), group.stats()["admitted"], time.monotonic()
    commands, exchanges = sent_to(group.redis), members[0].exchanges()
    time.sleep(seconds)
    after, passed = spent(members[0].process), time.monotonic() - began
    answered = (group.stats()["admitted"] - answered) / 2 / passed
    commands = (sent_to(group.redis) - commands) / 2 / passed
    exchanges = (members[0].exchanges() - exchanges) / passed
    shown = json.load(urllib.request.urlopen(f"{members[0].weir.admin}/status", timeout=5))
    kept = len(shown["scopes"])
    if kept < sets:
        raise SystemExit(f"it has {kept} sets of limits, not {sets}")
    for load in loads:
        load.terminate()
        load.wait()
    thread = after["weir-replicas"] - before.get("weir-replicas", 0.0)
    whole = sum(after.values()) - sum(before.values())
    return (
        f"| {sets} | {answered:.0f} | {whole / passed * 100:.1f}% | {thread / passed * 100:.2f}% | {thread / whole * 100:.1f}% "
        f"| {commands:.2f} | {exchanges:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", type=int, default=100, help="connections before each Weir: ten requests a second each")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--sets", type=int, nargs="*", default=[1, 100, 1000])
    options = parser.parse_args()
    print("| sets of limits | requests/s each | of a processor | its thread | its part | Redis commands/s each | exchanges/s |")
    print("|---|---|---|---|---|---|---|")
    for sets in options.sets:
        with contextlib.ExitStack() as stack:
            print(measure(stack, sets, options.each, options.seconds), flush=True)


if __name__ == "__main__":
    main()
