"""Drives a real Weir before a real simulator, over sockets, for each of the four shapes that limits have, all at once.

    python3 tests/shapes/run.py                  # what CI runs: twice the limit, headers as the API sends them
    python3 tests/shapes/run.py --matrix         # 0.5, 1, 2 and 10 times the limit, with headers and without: 25 minutes

Weir knows nothing beforehand. After a minute of learning the simulator must count no 429 any more, and at least 97 % of the
limit must be used wherever there is enough work; in the first minute at most one request in a hundred may be refused.
Each request gets exactly one response.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import pathlib
import statistics
import sys
import time
import urllib.parse
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "outside"))

import processes  # noqa: E402

SHAPES = ["bucket", "bucket:1s", "fixed-window", "sliding-log"]
RPM = 1200
LATENCY = (0.05, 1.95)
LEARNING = 60
# Whole minutes: a part of a fixed window may be used faster than the limit.
MEASURED = 120
LEAST_USE = 0.97
MOST_LEARNING = 0.01

CONFIG = """
[shutdown]
drain_delay = "0s"
drain_timeout = "1s"
"""
BODY = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}).encode()
REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: weir\r\nauthorization: Bearer sk-shapes-0123456789abcdef\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)
)


@dataclasses.dataclass
class Run:
    """What became of one shape."""

    shape: str
    load: float
    headers: str
    # (when it was answered, status, seconds in the queue)
    answers: list[tuple[float, int, float]] = dataclasses.field(default_factory=list)
    lost: int = 0
    refused_learning: int = 0
    refused_later: int = 0
    sent_learning: int = 0
    use: float = 0.0
    sent_upstream: int = 0
    admitted: int = 0

    def waits(self) -> tuple[float, float]:
        waits = sorted(wait for at, _, wait in self.answers if at >= LEARNING)
        return (statistics.median(waits), waits[len(waits) * 99 // 100]) if waits else (0.0, 0.0)

    def row(self) -> str:
        p50, p99 = self.waits()
        return (
            f"{self.shape:<13} {self.headers:<12} {self.load:>4g}  {self.refused_learning:>4} of {self.sent_learning:<5}"
            f" {self.refused_later:>6}  {self.use:>7.1%}  {p50:>6.2f} {p99:>6.2f}  {len(self.answers):>7}  {self.lost:>4}"
        )

    def problems(self) -> list[str]:
        found = []
        name = f"{self.shape}, {self.load:g} times the limit, headers {self.headers}"
        if self.refused_later:
            found.append(f"{name}: {self.refused_later} times 429 after the first minute")
        if self.refused_learning > self.sent_learning * MOST_LEARNING:
            found.append(f"{name}: {self.refused_learning} of {self.sent_learning} refused in the first minute")
        if self.load > 1 and self.use < LEAST_USE:
            found.append(f"{name}: {self.use:.1%} of the limit used")
        if self.lost:
            found.append(f"{name}: {self.lost} requests without an answer")
        if bad := [status for _, status, _ in self.answers if status != 200]:
            found.append(f"{name}: {len(bad)} answers other than 200, such as {bad[0]}")
        if self.admitted != len(self.answers):
            found.append(f"{name}: {len(self.answers)} answers to {self.admitted} requests that the upstream let in")
        return found


HEAD = "shape         headers      load  429 in 1st minute  later      use   wait p50    p99  answers  lost"


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--load", type=float, nargs="+", default=[2.0], help="multiples of the limit")
    arguments.add_argument("--headers", nargs="+", default=["as-measured"], choices=["as-measured", "none"])
    arguments.add_argument("--matrix", action="store_true", help="all loads, with headers and without")
    arguments = arguments.parse_args()
    loads, headers = arguments.load, arguments.headers
    if arguments.matrix:
        loads, headers = [0.5, 1.0, 2.0, 10.0], ["as-measured", "none"]
    problems = []
    print(HEAD, flush=True)
    for told in headers:
        for load in loads:
            for run in asyncio.run(together([Run(shape, load, told) for shape in SHAPES])):
                print(run.row(), flush=True)
                problems += run.problems()
    for problem in problems:
        print(f"PROBLEM: {problem}")
    return 1 if problems else 0


async def together(runs: list[Run]) -> list[Run]:
    with contextlib.ExitStack() as stack:
        drives = []
        for run in runs:
            low, high = (f"{seconds * 1000:.0f}ms" for seconds in LATENCY)
            upstream = stack.enter_context(
                processes.simulator(
                    *("--shape", run.shape, "--rpm", str(RPM), "--tpm", "none"),
                    *("--headers", run.headers, "--latency", f"{low}..{high}", "--no-compress"),
                )
            )
            weir = stack.enter_context(processes.weir(upstream, config=CONFIG))
            drives.append(drive(run, upstream, weir.url))
        await asyncio.gather(*drives)
    return runs


async def drive(run: Run, upstream: str, url: str) -> None:
    """As many clients as together would make `load` times the limit if nobody held them; none waits with a request."""
    clients = max(1, round(RPM / 60 * run.load * statistics.mean(LATENCY)))
    reset(upstream)
    began = time.monotonic()
    until = began + LEARNING + MEASURED
    await asyncio.gather(*(client(run, url, began, until) for _ in range(clients)))
    stats = json.load(urllib.request.urlopen(f"{upstream}/simulate/stats", timeout=5))
    run.sent_upstream, run.admitted = stats["requests"], stats["admitted"]
    learning = [second for second in stats["history"] if second["second"] < LEARNING]
    later = [second for second in stats["history"] if second["second"] >= LEARNING]
    measured = [second for second in later if second["second"] < LEARNING + MEASURED]
    run.sent_learning = sum(second["requests"] for second in learning)
    run.refused_learning = sum(second["refused"] for second in learning)
    run.refused_later = sum(second["refused"] for second in later)
    run.use = sum(second["admitted"] for second in measured) / (RPM * MEASURED / 60)


def reset(upstream: str) -> None:
    request = urllib.request.Request(f"{upstream}/simulate/reset", method="POST", data=b"")
    with urllib.request.urlopen(request, timeout=5):
        pass


async def client(run: Run, url: str, began: float, until: float) -> None:
    """One connection, one request after the other."""
    address = urllib.parse.urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        while time.monotonic() < until:
            writer.write(REQUEST)
            try:
                status, queued = await answer(reader)
            except (OSError, asyncio.IncompleteReadError, ValueError, KeyError) as error:
                print(f"{run.shape}: no answer: {error!r}")
                run.lost += 1
                return
            run.answers.append((time.monotonic() - began, status, queued))
    finally:
        writer.close()


async def answer(reader: asyncio.StreamReader) -> tuple[int, float]:
    """The status of the next answer, and how long it says that its request waited in the queue."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    await reader.readexactly(int(fields["content-length"]))
    return int(head[0].split()[1]), float(fields.get("x-weir-queue-ms", 0)) / 1000


if __name__ == "__main__":
    sys.exit(main())
