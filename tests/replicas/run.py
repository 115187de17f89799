"""Drives three real Weirs that share one limit through a real Redis, before one real stand-in, over sockets.

    python3 tests/replicas/run.py

Demand is skewed: the first Weir gets more than the whole limit, the second a fifth of it, the third nothing. The stand-in
must count no 429 in steady state and see at least 95 % of the limit used; when the second becomes busy it must have its part
within seconds; when Redis is killed traffic goes on, and at even parts once the leases end; when Redis is back, and when
it forgot everything, need counts again; a Weir that leaves says so, one that stands still for long loses its part and gets
it back.
"""

import asyncio
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "outside"))

import processes  # noqa: E402

RPM = 3000
LEAST_USE = 0.95
INTERVAL = 0.25
# It looks like a key: no process may print it.
PASSWORD = "sk-password-of-the-replicas"
CONFIG = f"""
[replicas]
redis = "env:REPLICAS_URL"
interval = "{INTERVAL}s"
expected = 3

[limits]
requests_per_minute = {RPM}

[shutdown]
drain_delay = "0s"
drain_timeout = "1s"
"""
BODY = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}).encode()
REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: weir\r\nauthorization: Bearer sk-replicas-0123456789abcdef\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)
)
# Each answer takes this long, so that a client makes so many requests a second when nobody holds it.
LATENCY = 0.1

problems: list[str] = []


def check(holds: bool, what: str) -> None:
    print(f"{'ok  ' if holds else 'BAD '} {what}", flush=True)
    if not holds:
        problems.append(what)


class Redis:
    """A real server of our own, on a port of its own, which a test may kill and start again."""

    def __init__(self, folder: str):
        self.port = processes.free_port()
        self.folder = folder
        self.running: subprocess.Popen | None = None

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self.folder]
        self.running = subprocess.Popen(
            [*command, "--requirepass", PASSWORD], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        processes.wait_for(self.port, self.running)

    def kill(self) -> None:
        self.running.kill()
        self.running.wait()

    def flush(self) -> None:
        subprocess.run(
            ["redis-cli", "-p", str(self.port), "flushall"],
            env={**os.environ, "REDISCLI_AUTH": PASSWORD}, check=True, stdout=subprocess.DEVNULL,
        )


class Load:
    """Clients before one Weir, as many as are asked for; each sends one request after the other."""

    def __init__(self, url: str):
        self.url = urllib.parse.urlsplit(url)
        self.tasks: list[asyncio.Task] = []
        self.answers = 0
        self.bad: list[str] = []
        self.longest = 0.0

    def set(self, clients: int) -> None:
        while len(self.tasks) > clients:
            self.tasks.pop().cancel()
        while len(self.tasks) < clients:
            self.tasks.append(asyncio.create_task(self.client()))

    async def client(self) -> None:
        reader, writer = await asyncio.open_connection(self.url.hostname, self.url.port)
        try:
            while True:
                began = time.monotonic()
                writer.write(REQUEST)
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = next(line for line in head.lower().split("\r\n") if line.startswith("content-length:"))
                await reader.readexactly(int(length.partition(":")[2]))
                status = int(head.split()[1])
                self.longest = max(self.longest, time.monotonic() - began)
                self.answers += 1
                if status != 200:
                    self.bad.append(str(status))
        except (OSError, asyncio.IncompleteReadError) as error:
            self.bad.append(repr(error))
        finally:
            writer.close()


def stats(upstream: str) -> dict:
    return json.load(urllib.request.urlopen(f"{upstream}/simulate/stats", timeout=5))


def refused(upstream: str) -> int:
    return sum(second["refused"] for second in stats(upstream)["history"])


async def measure(upstream: str, loads: list[Load], seconds: float, what: str, least: float = LEAST_USE) -> list[float]:
    """Each Weir's part of the limit as it was used in the next seconds."""
    before, began = [load.answers for load in loads], time.monotonic()
    refused_before = refused(upstream)
    await asyncio.sleep(seconds)
    passed = time.monotonic() - began
    use = [(load.answers - was) / (RPM / 60 * passed) for load, was in zip(loads, before)]
    parts = ", ".join(f"{part:.1%}" for part in use)
    check(refused(upstream) == refused_before, f"{what}: no 429 ({refused(upstream) - refused_before})")
    check(sum(use) >= least, f"{what}: {sum(use):.1%} of the limit used ({parts})")
    return use


async def until(holds, seconds: float, what: str) -> None:
    began = time.monotonic()
    while not holds() and time.monotonic() < began + seconds:
        await asyncio.sleep(0.05)
    check(holds(), f"{what}, after {time.monotonic() - began:.1f} s of at most {seconds:g} s")


def part(weir: processes.Weir) -> float:
    return weir.metric("weir_limit_part", scope="gpt-4o-mini")


def agreed(weir: processes.Weir) -> bool:
    return json.load(urllib.request.urlopen(f"{weir.admin}/status", timeout=5))["replicas"]["agreed"]


async def story() -> None:
    with contextlib.ExitStack() as stack:
        redis = Redis(stack.enter_context(tempfile.TemporaryDirectory()))
        redis.start()
        stack.callback(redis.kill)
        upstream = stack.enter_context(
            processes.stand_in(
                *("--shape", "bucket", "--rpm", str(RPM), "--tpm", "none", "--headers", "as-measured"),
                *("--latency", f"{LATENCY * 1000:.0f}ms", "--no-compress"),
            )
        )
        environment = {"REPLICAS_URL": f"redis://:{PASSWORD}@127.0.0.1:{redis.port}/0"}
        weirs, running = [], []
        for _ in range(3):
            weir, process = stack.enter_context(started(upstream, environment))
            weirs.append(weir)
            running.append(process)
        one, two, three = weirs
        await until(lambda: all(weir.metric("weir_replicas") == 3 for weir in weirs), 3, "three Weirs see three")
        loads = [Load(weir.url) for weir in weirs]
        # Of a bucket a whole minute's worth may be used at once: first it is emptied.
        await empty(upstream)
        loads[0].set(30)
        loads[1].set(1)
        await asyncio.sleep(5)
        before = refused(upstream)

        use = await measure(upstream, loads, 6, "skewed")
        check(use[0] > 0.72 and use[1] > 0.17, "skewed: the busy one has what the others leave")

        loads[1].set(30)
        await until(lambda: part(two) > 0.4, 3, "who becomes busy has its part")
        use = await measure(upstream, loads, 5, "two are busy")
        loads[1].set(0)
        await until(lambda: part(one) > 0.9, 12, "who is idle again gives it back")

        loads[1].set(1)
        redis.kill()
        await until(lambda: one.metric("weir_replicas_redis_up") == 0, 2, "Redis is killed: the metric says so")
        use = await measure(upstream, loads, 1, "Redis is gone, the lease holds", least=0.8)
        await until(lambda: abs(part(one) - 1 / 3) < 0.01, 10 * INTERVAL + 2, "the lease is over: even parts")
        # Each has a lease of its own. Who begins within it has next to nothing, and turns away what would wait too long.
        await until(lambda: not any(agreed(weir) for weir in weirs), 10 * INTERVAL, "so they are for all")
        loads[1].set(30)
        loads[2].set(30)
        await asyncio.sleep(1)
        await measure(upstream, loads, 5, "without Redis, all are busy")
        check(all(urllib.request.urlopen(f"{weir.admin}/readyz", timeout=5).status == 200 for weir in weirs), "all are ready")
        loads[1].set(1)
        loads[2].set(0)
        redis.start()
        await until(lambda: one.metric("weir_replicas_redis_up") == 1, 3, "Redis is back")
        await until(lambda: part(one) > 0.74, 12, "need counts again")
        await asyncio.sleep(3)
        await measure(upstream, loads, 5, "Redis is back")

        redis.flush()
        await measure(upstream, loads, 4, "Redis forgot all")

        running[2].send_signal(signal.SIGSTOP)
        loads[1].set(30)
        await asyncio.sleep(18 * INTERVAL)
        check(one.metric("weir_replicas") == 2, "one that stands still is not counted")
        running[2].send_signal(signal.SIGCONT)
        await until(lambda: all(weir.metric("weir_replicas") == 3 for weir in weirs), 3, "it goes on, and is counted")

        running[1].send_signal(signal.SIGTERM)
        loads[1].set(0)
        await until(lambda: one.metric("weir_replicas") == 2, 2, "one leaves, and says so")
        await until(lambda: part(one) > 0.9, 3, "its part is taken over")
        for load in loads:
            load.set(0)
        bad = [*loads[0].bad, *loads[2].bad]
        check(not bad, f"every answer but those of the one that left is 200 ({bad[:3]})")
        # Who begins anew before it has heard how full the limit is may send its burst: half a second's worth.
        check(refused(upstream) - before <= RPM / 120, f"in all {refused(upstream) - before} times 429, and none reached a caller")



async def empty(upstream: str) -> None:
    """Takes what the bucket holds, with requests that don't go through any Weir, until one is refused."""
    is_empty = asyncio.Event()

    async def taker() -> None:
        address = urllib.parse.urlsplit(upstream)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        while not is_empty.is_set():
            writer.write(REQUEST)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = next(line for line in head.lower().split("\r\n") if line.startswith("content-length:"))
            await reader.readexactly(int(length.partition(":")[2]))
            if int(head.split()[1]) == 429:
                is_empty.set()
        writer.close()

    await asyncio.gather(*(taker() for _ in range(100)))


@contextlib.contextmanager
def started(upstream: str, environment: dict[str, str]):
    port, admin = processes.free_port(), processes.free_port()
    command = [processes.binary(), "run", "--upstream", upstream]
    command += ["--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"]
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(CONFIG)
        file.flush()
        with processes.process([*command, "--config", file.name], ports=[port, admin], environment=environment) as process:
            yield processes.Weir(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}"), process


def main() -> int:
    if not shutil.which("redis-server") or not shutil.which("redis-cli"):
        print("!!! NOT RUN: redis-server is missing; install Debian's redis-server", file=sys.stderr)
        return 1 if os.environ.get("CI") == "true" else 0
    began = time.monotonic()
    asyncio.run(story())
    print(f"{len(problems)} problems, {time.monotonic() - began:.0f} s")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
