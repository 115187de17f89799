"""Limiters of many shapes, reported in many ways, with a real Weir without prior knowledge.

    python3 tests/shapes/unseen.py                     # all of limiter × report × traffic, 40 cases at once
    python3 tests/shapes/unseen.py --only "503 page"   # the cases whose names have these words
    python3 tests/shapes/unseen.py --ci                # a part, with bounds: under a minute

With `--ci` a case whose calls are lost, whose burst ends late or whose limit is left unused beyond its bound is printed.

Traffic: `burst`, a number of calls at once, whose end is compared with the earliest possible one; `closed`, thirty callers
that send one call after the other; `steady`, a Poisson stream of 1.3 times the limit. Of those two the use of the limit is
counted from the 15th second on.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import pathlib
import random
import sys
import time
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "outside"))

import limiters  # noqa: E402
import processes  # noqa: E402

LATENCY = 0.05
CLOSED, CLIENTS, LOAD = 35.0, 30, 1.3
MEASURED_FROM = 15.0
# Past this time a burst is not waited for.
GIVE_UP = 100.0
BODY = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}).encode()
REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: weir\r\nauthorization: Bearer sk-shapes-0123456789abcdef\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)
)
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "gpt-4o-mini",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 8, "completion_tokens": 1, "total_tokens": 9},
    }
)
CONFIG = """
[shutdown]
drain_delay = "0s"
drain_timeout = "1s"
"""


@dataclasses.dataclass
class Case:
    """A limiter, how it tells, and the traffic; and what came of it."""

    limiter: str
    tells: str
    traffic: str
    attempts: int = 0
    refused: int = 0
    calls: int = 0
    lost: int = 0
    statuses: set[int] = dataclasses.field(default_factory=set)
    end: float = 0.0
    ideal: float = 0.0
    taken: int = 0
    use: float = 0.0
    rows: list[tuple[float, bool]] = dataclasses.field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.limiter} | {self.tells} | {self.traffic}"

    @property
    def ratio(self) -> float:
        return self.end / self.ideal if self.ideal else 0.0

    def row(self) -> str:
        end = f"{self.ratio:5.2f} ×" if self.traffic == "burst" else f"{self.use:6.1%} "
        return f"{self.name:<50} {self.attempts:>6} {self.refused:>5} {self.calls:>5} {self.lost:>5}  {end}  {sorted(self.statuses)}"


# What CI runs: the case, and the most of the ideal time that a burst may take or the least use of the limit. Each was an
# open wound once: calls were lost, or a quarter of the limit was used. The bounds leave a search its time.
CI = [
    ("window 10/1s", "503 page", "steady", 0.7),
    ("log 10/1s", "500", "closed", 0.7),
    ("log 10/1s", "500", "burst", 2.0),
    ("bucket 10/1s", "503 page", "closed", 0.8),
    ("4 at once", "500", "closed", 0.6),
    ("window 10/1s", "per min", "steady", 0.6),
    ("log 50/10s", "per min", "burst", 2.5),
    ("bucket 10/1s", "no reset", "burst", 2.0),
    ("gcra 2/s, 3 deep", "no reset", "steady", 0.7),
    ("window 10/1s", "headers", "burst", 1.6),
    ("log 50/10s", "retry-after", "burst", 2.2),
    ("gcra 2/s, 3 deep", "nothing", "burst", 1.6),
]


def problem(case: Case) -> str | None:
    bound = next(bound for *named, bound in CI if named == [case.limiter, case.tells, case.traffic])
    # Before the first four failures are seen, the retry budget ends a call or two.
    if case.lost * 100 > case.calls:
        return f"{case.name}: {case.lost} of {case.calls} calls lost"
    if case.traffic == "burst" and case.ratio > bound:
        return f"{case.name}: {case.ratio:.2f} times the ideal, {bound} allowed"
    if case.traffic != "burst" and case.use < bound:
        return f"{case.name}: {case.use:.0%} of the limit used, {bound:.0%} asked"
    return None


HEAD = f"{'limiter | tells | traffic':<50} {'tries':>6} {'429s':>5} {'calls':>5} {'lost':>5}  end/use"


class StandIn:
    """An upstream with a limiter."""

    def __init__(self, case: Case, verbose: bool) -> None:
        self.case, self.verbose = case, verbose
        make, self.burst = limiters.LIMITERS[case.limiter]
        self.limiter, self.ideal_limiter = make(), make()
        self.latency = self.limiter.window if isinstance(self.limiter, limiters.AtOnce) else LATENCY
        self.random = random.Random(7)
        self.began = 0.0

    def begin(self) -> None:
        self.began = time.time()

    def answer(self, now: float) -> tuple[int, dict[str, str], str, float]:
        case = self.case
        told = self.limiter.take(now)
        headers, status, more, body = limiters.TELLS[case.tells]
        case.attempts += 1
        case.refused += not told.taken
        at = now - self.began
        case.taken += told.taken and MEASURED_FROM <= at < CLOSED
        if self.verbose:
            case.rows.append((at, told.taken))
        if told.taken:
            return 200, headers(told), ANSWER, self.latency * (0.8 + 0.4 * self.random.random())
        body = body % self.limiter.limit if "%d" in body else body
        return status, headers(told) | more(told), body, 0.002

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The loop's end ends it, too.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                fields = head.decode("latin-1").lower().split("\r\n")
                length = next((int(field[15:]) for field in fields if field.startswith("content-length:")), 0)
                await reader.readexactly(length)
                if not head.startswith(b"POST"):
                    writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
                    continue
                status, headers, body, latency = self.answer(time.time())
                await asyncio.sleep(latency)
                if status == 200:
                    self.limiter.ended()
                headers = {"content-type": "application/json"} | headers | {"content-length": str(len(body))}
                lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
                writer.write(f"HTTP/1.1 {status} X\r\n{lines}\r\n{body}".encode())
                await writer.drain()
        writer.close()


async def call(case: Case, url: urllib.parse.SplitResult, connection: list | None = None) -> None:
    """One call; a caller that has more to send keeps its connection."""
    case.calls += 1
    reader, writer = connection or await asyncio.open_connection(url.hostname, url.port)
    try:
        writer.write(REQUEST)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        if "content-length" in fields:
            await reader.readexactly(int(fields["content-length"]))
        else:
            while (size := int((await reader.readline()).strip() or b"0", 16)) > 0:
                await reader.readexactly(size + 2)
            await reader.readline()
        status = int(head[0].split()[1])
    except (OSError, asyncio.IncompleteReadError, ValueError):
        status = 0
    finally:
        if connection is None:
            writer.close()
    case.statuses.add(status)
    case.lost += status != 200


async def drive(case: Case, simulator: StandIn, address: str) -> None:
    url = urllib.parse.urlsplit(address)
    simulator.begin()
    begin = time.time()
    if case.traffic == "burst":
        case.ideal = simulator.ideal_limiter.ideal(simulator.burst, begin, simulator.latency)
        calls = [asyncio.create_task(call(case, url)) for _ in range(simulator.burst)]
        _, late = await asyncio.wait(calls, timeout=GIVE_UP)
        case.end = time.time() - begin
        case.lost += len(late)
        for task in late:
            task.cancel()
        return
    if case.traffic == "closed":
        async def client() -> None:
            connection = await asyncio.open_connection(url.hostname, url.port)
            while time.time() < begin + CLOSED:
                try:
                    await asyncio.wait_for(call(case, url, connection), begin + CLOSED + 1 - time.time())
                except TimeoutError:
                    break
            connection[1].close()

        await asyncio.gather(*(client() for _ in range(CLIENTS)))
    else:
        gaps, calls = random.Random(11), []
        while time.time() < begin + CLOSED:
            await asyncio.sleep(gaps.expovariate(simulator.limiter.rate * LOAD))
            calls.append(asyncio.create_task(call(case, url)))
        _, late = await asyncio.wait(calls, timeout=1)
        for task in late:
            task.cancel()
    case.use = case.taken / (simulator.limiter.rate * (CLOSED - MEASURED_FROM))


async def run(case: Case, at_once: asyncio.Semaphore, verbose: bool) -> Case:
    async with at_once:
        simulator = StandIn(case, verbose)
        server = await asyncio.start_server(simulator.serve, "127.0.0.1", 0, backlog=1000)
        upstream = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with contextlib.ExitStack() as stack:
            # It starts a process, and waits for it. Of many at once one may take another's port.
            while True:
                with contextlib.suppress(RuntimeError):
                    weir = await asyncio.to_thread(stack.enter_context, processes.weir(upstream, config=CONFIG))
                    break
            await drive(case, simulator, weir.url)
            if verbose:
                told = [line for line in weir.metrics().splitlines() if line.startswith(("weir_limit", "weir_retries", "weir_errors")) and not line.endswith(" 0")]
                print("\n".join(told))
            await asyncio.to_thread(stack.pop_all().close)
        server.close()
        print(case.row(), flush=True)
        if verbose:
            last = 0.0
            for at, taken in case.rows:
                print(f"    {at:7.3f} {at - last:+7.3f} {'' if taken else 'refused'}")
                last = at
        return case


def cases(only: list[str]) -> list[Case]:
    every = [
        Case(limiter, tells, traffic)
        for limiter in limiters.LIMITERS
        for tells in limiters.TELLS
        for traffic in ["burst", "closed", "steady"]
    ]
    return [case for case in every if all(words in case.name for words in only)]


async def together(chosen: list[Case], most: int, verbose: bool) -> None:
    at_once = asyncio.Semaphore(most)
    await asyncio.gather(*(run(case, at_once, verbose) for case in chosen))


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--only", nargs="+", default=[], help="words that the names of the cases have, each")
    arguments.add_argument("--together", type=int, default=40, help="cases at once")
    arguments.add_argument("--ci", action="store_true", help="the cases with a bound")
    arguments.add_argument("--verbose", action="store_true", help="each attempt")
    arguments = arguments.parse_args()
    chosen = [Case(*named) for *named, _ in CI] if arguments.ci else cases(arguments.only)
    print(HEAD, flush=True)
    asyncio.run(together(chosen, arguments.together, arguments.verbose))
    problems = list(filter(None, map(problem, chosen))) if arguments.ci else []
    for told in problems:
        print(f"PROBLEM: {told}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
