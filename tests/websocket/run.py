"""Drives a real Weir before a real simulator by the SDK's WebSocket sessions: many connections with many lanes each.

    pip install "openai[realtime]"
    python3 tests/websocket/run.py            # 50 connections of 16 lanes, and HTTP callers beside them
    python3 tests/websocket/run.py --small    # 10 connections: a minute

Every lane asks for its next turn as soon as its last one is over: far more than the limit allows. Weir learns the limit from
the headers of one HTTP response; sessions have none. From then on

- no error frame reaches a client, and the simulator counts no 429;
- at least 97 % of the limit is used;
- what a client reads says the same as without Weir;
- two callers that both always wait, one over WebSocket and one over HTTP, are served by their weights;
- each turn is a request in the metrics.
"""

import argparse
import asyncio
import json
import pathlib
import sys
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "outside"))

import openai  # noqa: E402
import processes  # noqa: E402

RPM = 1200
LANES = 16
# A bucket is full at the beginning: until that is used up, more than the limit goes through.
SETTLING = 10.0
MEASURED = 60.0
LEAST_USE = 0.97
WEIGHTS = {"sessions": 3, "plain": 1}
# Of the weights' ratio.
TOLERANCE = 0.1
KEYS = {"SESSIONS_KEY": "own-sessions-0123456789", "PLAIN_KEY": "own-plain-0123456789", "KEY": "sk-upstream-0123456789"}
CONFIG = """
[upstream]
credential = "env:KEY"

[shutdown]
drain_delay = "0s"
drain_timeout = "2s"

[[callers]]
name = "sessions"
key = "env:SESSIONS_KEY"
weight = 3

[[callers]]
name = "plain"
key = "env:PLAIN_KEY"
weight = 1
"""


def stats(simulator: str) -> dict:
    with urllib.request.urlopen(f"{simulator}/simulate/stats", timeout=10) as response:
        return json.load(response)


class Sessions:
    """Connections whose lanes are always busy."""

    def __init__(self, base_url: str, key: str, connections: int):
        self.client = openai.AsyncOpenAI(api_key=key, base_url=base_url)
        self.connections = connections
        self.done = 0
        self.errors: list[str] = []

    async def run(self):
        await asyncio.gather(*(self.session(number) for number in range(self.connections)))

    async def session(self, number: int):
        options = {"max_size": None, "open_timeout": 30, "ping_timeout": None}
        async with self.client.responses.connect(
            extra_headers={"x-weir-deadline": "300s"}, websocket_connection_options=options
        ) as connection:
            for lane in range(LANES):
                await self.ask(connection, f"c{number}.lane-{lane}")
            while True:
                event = await connection.recv()
                if event.type == "error":
                    self.errors.append(f"{event.status} {event.error.code}: {event.error.message}")
                elif event.type == "response.completed":
                    self.done += 1
                else:
                    continue
                await self.ask(connection, event.stream_id)

    async def ask(self, connection, lane: str):
        await connection.send(
            {"type": "response.create", "stream_id": lane, "model": "gpt-4o", "store": False, "input": f"I am {lane}."}
        )


async def plain_callers(base_url: str, key: str, callers: int):
    """Callers over HTTP that are always waiting."""
    client = openai.AsyncOpenAI(api_key=key, base_url=base_url, max_retries=0, timeout=600)

    async def caller():
        while True:
            await client.responses.create(model="gpt-4o", input="I am plain.", store=False)

    await asyncio.gather(*(caller() for _ in range(callers)))


async def events_of(base_url: str) -> list[dict]:
    """What one turn brings, but for what names it."""
    client = openai.AsyncOpenAI(api_key=KEYS["SESSIONS_KEY"], base_url=base_url)
    told = []
    async with client.responses.connect() as connection:
        await connection.send({"type": "response.create", "stream_id": "a", "model": "gpt-4o", "store": False, "input": "Hi"})
        while not told or told[-1]["type"] != "response.completed":
            told.append(json.loads(await connection.recv_bytes()))
    return [nameless(event) for event in told]


def nameless(value):
    if isinstance(value, dict):
        return {key: nameless(inner) for key, inner in value.items() if key not in ("id", "item_id", "created_at")}
    return [nameless(inner) for inner in value] if isinstance(value, list) else value


async def measure(simulator: str, weir: processes.Weir, connections: int) -> list[str]:
    base_url, failures = f"{weir.url}/v1", []
    if await events_of(f"{simulator}/v1") != await events_of(base_url):
        failures.append("a client reads other events than without Weir")
    learner = openai.AsyncOpenAI(api_key=KEYS["SESSIONS_KEY"], base_url=base_url)
    await learner.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Which limit?"}])

    sessions = Sessions(base_url, KEYS["SESSIONS_KEY"], connections)
    running = asyncio.gather(sessions.run(), plain_callers(base_url, KEYS["PLAIN_KEY"], connections * LANES // 2))
    try:
        # The bucket is empty once the simulator has served what was in it.
        while stats(simulator)["admitted"] < RPM:
            await asyncio.wait([running], timeout=0.2)
        await asyncio.wait([running], timeout=SETTLING)
        if running.done():
            running.result()
        before, began, served = stats(simulator), time.monotonic(), by_caller(weir)
        await asyncio.wait([running], timeout=MEASURED)
        after, took, now = stats(simulator), time.monotonic() - began, by_caller(weir)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    used = (after["admitted"] - before["admitted"]) / (RPM / 60 * took)
    share = {caller: now[caller] - served[caller] for caller in WEIGHTS}
    ratio = share["sessions"] / max(share["plain"], 1) / (WEIGHTS["sessions"] / WEIGHTS["plain"])
    refused = after["statuses"].get("429", 0)
    print(f"{connections} connections of {LANES} lanes and {connections * LANES // 2} callers over HTTP, limit {RPM} a minute:")
    print(f"  429s {refused}, used {used:.1%}, error frames {len(sessions.errors)}, turns {sessions.done}, served {share}")
    if refused:
        failures.append(f"the simulator refused {refused}")
    if sessions.errors:
        failures.append(f"{len(sessions.errors)} error frames, such as {sessions.errors[0]}")
    if used < LEAST_USE:
        failures.append(f"only {used:.1%} of the limit is used")
    if abs(ratio - 1) > TOLERANCE:
        failures.append(f"served {share}, which is {ratio:.2f} of what the weights say")
    tokens = weir.metric("weir_tokens_total", caller="sessions", kind="output")
    if tokens < sessions.done:
        failures.append(f"{tokens} tokens of output are counted for {sessions.done} turns")
    return failures


def by_caller(weir: processes.Weir) -> dict[str, float]:
    return {caller: weir.metric("weir_requests_total", caller=caller, outcome="success") for caller in WEIGHTS}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="10 connections instead of 50")
    connections = 10 if parser.parse_args().small else 50
    limits = ("--rpm", str(RPM), "--tpm", "100000000", "--latency", "200ms", "--output-tokens", "3")
    with processes.simulator(*limits) as simulator, processes.weir(simulator, CONFIG, KEYS) as weir:
        failures = asyncio.run(measure(simulator, weir, connections))
    for failure in failures:
        print(f"  FAILED: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
