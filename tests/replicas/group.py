"""A group of Weirs with one simulator and Redis, all real processes, and their faults."""

import asyncio
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "outside"))

import processes  # noqa: E402

# It looks like a key: no process may print it.
PASSWORD = "sk-password-of-the-replicas"
# Each answer takes this long, which bounds the requests a second of a client that nobody holds.
LATENCY = 0.1


def request(words: int = 1, key: str = "sk-replicas-0123456789abcdef", more: str = "") -> bytes:
    """A request of about `words` tokens, with further lines of its head."""
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "word " * words}]}
    content = json.dumps(body).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: weir\r\nauthorization: Bearer %s\r\n%s"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (key.encode(), more.encode(), len(content), content)
    )


SMALL = request()


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The status and the body of the next answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    length = next(line for line in head.lower().split("\r\n") if line.startswith("content-length:"))
    return int(head.split()[1]), await reader.readexactly(int(length.partition(":")[2]))


class Redis:
    """A real server of our own, on a port of its own, which a test may kill and start again."""

    def __init__(self, folder: str, *, server: str = "redis-server"):
        self.port, self.folder, self.server = processes.free_port(), folder, server
        self.password = PASSWORD
        self.running: subprocess.Popen | None = None

    # Further keys of [replicas] that it takes to reach it.
    settings = ""

    def url(self, port: int | None = None) -> str:
        return f"redis://:{self.password}@127.0.0.1:{port or self.port}/0"

    def start(self, *options: str) -> None:
        command = [self.server, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self.folder]
        self.running = subprocess.Popen(
            [*command, "--requirepass", self.password, *options], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        processes.wait_for(self.port, self.running)

    def kill(self) -> None:
        if self.running:
            self.running.kill()
            self.running.wait()

    def ask(self, *words: str) -> str:
        done = subprocess.run(
            ["redis-cli", "-p", str(self.port), *words],
            env={**os.environ, "REDISCLI_AUTH": self.password}, check=True, capture_output=True, text=True,
        )
        return done.stdout.strip()

    def count(self, name: str, section: str = "stats") -> float:
        """A figure of INFO: a sum of `calls` where it names a command."""
        for line in self.ask("info", section).splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return float(value.split(",")[0].rpartition("=")[2])
        return 0.0


class Relay:
    """A wire to Redis that can be slow, silent or cut."""

    def __init__(self, to: int):
        self.to, self.port, self.delay, self.state = to, processes.free_port(), 0.0, "open"
        self.writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", self.port)

    def set(self, state: str, delay: float = 0.0) -> None:
        self.state, self.delay = state, delay
        if state == "cut":
            for writer in self.writers:
                writer.transport.abort()

    async def serve(self, reader, writer) -> None:
        if self.state == "cut":
            writer.transport.abort()
            return
        try:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self.to)
        except OSError:
            writer.transport.abort()
            return
        self.writers |= {writer, to_writer}
        # The loop's end ends it, too.
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(self.copy(reader, to_writer), self.copy(to_reader, writer))
        self.writers -= {writer, to_writer}

    async def copy(self, reader, writer) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                while self.state == "silent":
                    await asyncio.sleep(0.05)
                await asyncio.sleep(self.delay)
                writer.write(data)
            writer.close()


class Load:
    """Clients before one Weir, as many as are asked for; each sends one request after the other."""

    def __init__(self, url: str, content: bytes = SMALL):
        self.url, self.content = urllib.parse.urlsplit(url), content
        self.tasks: list[asyncio.Task] = []
        self.answers, self.longest, self.took, self.bad = 0, 0.0, 0.0, []

    def set(self, clients: int) -> None:
        while len(self.tasks) > clients:
            self.tasks.pop().cancel()
        while len(self.tasks) < clients:
            self.tasks.append(asyncio.create_task(self.client()))

    async def client(self) -> None:
        writer = None
        try:
            reader, writer = await asyncio.open_connection(self.url.hostname, self.url.port)
            while True:
                began = time.monotonic()
                writer.write(self.content)
                status, body = await answer(reader)
                took = time.monotonic() - began
                self.longest, self.took = max(self.longest, took), self.took + took
                self.answers += 1
                if status != 200:
                    self.bad.append(f"{status} {body[:120]!r}")
                    await asyncio.sleep(0.5)
        except (OSError, asyncio.IncompleteReadError) as error:
            self.bad.append(repr(error))
        finally:
            if writer:
                writer.close()


class Member:
    """One Weir with its clients."""

    def __init__(self, weir: processes.Weir, process: subprocess.Popen):
        self.weir, self.process, self.load = weir, process, Load(weir.url)

    def part(self) -> float:
        return self.weir.metric("weir_limit_part", scope="gpt-4o-mini")

    def status(self) -> dict:
        return json.load(urllib.request.urlopen(f"{self.weir.admin}/status", timeout=5))["replicas"]

    def exchanges(self) -> int:
        """Exchanges with the others that went well: what is counted in them does not depend on the machine's speed."""
        return int(self.weir.metric("weir_replicas_exchanges_total"))


class Group:
    """Weirs, a simulator and Redis, all of them real processes."""

    def __init__(
        self, stack: contextlib.ExitStack, *, limits: str, interval: float, simulator: list[str], expected: int, more: str = "",
        redis=Redis,
    ):
        self.stack, self.limits, self.interval, self.expected, self.more = stack, limits, interval, expected, more
        self.folder = stack.enter_context(tempfile.TemporaryDirectory())
        self.redis = redis(self.folder)
        stack.callback(self.redis.kill)
        self.redis.start()
        self.upstream = stack.enter_context(
            processes.simulator(*simulator, "--latency", f"{LATENCY * 1000:.0f}ms", "--no-compress")
        )
        self.members: list[Member] = []

    def url(self, port: int | None = None) -> str:
        return self.redis.url(port)

    def secret(self, name: str, url: str) -> str:
        path = pathlib.Path(self.folder) / name
        path.write_text(url)
        return f"file:{path}"

    def add(self, secret: str | None = None) -> Member:
        secret = secret or self.secret("url", self.url())
        text = f"""
            [replicas]
            redis = "{secret}"
            interval = "{self.interval}s"
            expected = {self.expected}
            {self.redis.settings.format(self.folder)}
            [limits]
            {self.limits}
            [shutdown]
            drain_delay = "0s"
            drain_timeout = "1s"
            {self.more}
        """
        port, admin = processes.free_port(), processes.free_port()
        file = pathlib.Path(self.folder) / f"weir-{len(self.members)}.toml"
        file.write_text(text)
        command = [processes.binary(), "run", "--upstream", self.upstream, "--config", str(file)]
        command += ["--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"]
        process = self.stack.enter_context(processes.process(command, ports=[port, admin]))
        member = Member(processes.Weir(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}"), process)
        self.members.append(member)
        return member

    def stats(self) -> dict:
        return json.load(urllib.request.urlopen(f"{self.upstream}/simulate/stats", timeout=5))

    def set_upstream(self, **settings) -> None:
        content = json.dumps(settings).encode()
        urllib.request.urlopen(f"{self.upstream}/simulate/set", data=content, timeout=5).close()

    def refused(self) -> int:
        return sum(second["refused"] for second in self.stats()["history"])

    async def empty(self) -> None:
        """Takes what the limiter holds, with requests that don't go through any Weir, until one is refused; a second's worth comes back.

        Weirs begin with half a second's worth, which a full limiter would refuse: how much of it, and what a Weir then thinks of the
        limiter for minutes, would depend on the machine's speed.
        """
        is_empty = asyncio.Event()

        async def taker() -> None:
            address = urllib.parse.urlsplit(self.upstream)
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            while not is_empty.is_set():
                writer.write(SMALL)
                if (await answer(reader))[0] == 429:
                    is_empty.set()
            writer.close()

        await asyncio.gather(*(taker() for _ in range(100)))
        await asyncio.sleep(1)


class Figures:
    """What happened between its making and `stop`: 429s, the part of the limit used, the longest answer, and what was lost.

    The simulator counts by its own clock what it admitted: with a queue in Weir a client that stands still for a moment changes
    nothing. Whose requests they were the clients count.
    """

    def __init__(self, group: Group, rate: float):
        self.group, self.rate = group, rate
        self.before = [(member.load.answers, len(member.load.bad)) for member in group.members]
        self.upstream, self.refused = group.stats(), group.refused()
        for member in group.members:
            member.load.longest = 0.0

    def stop(self) -> "Figures":
        upstream = self.group.stats()
        passed, admitted = (upstream[name] - self.upstream[name] for name in ("seconds", "admitted"))
        loads = [member.load for member in self.group.members]
        answers = [load.answers - was for load, (was, _) in zip(loads, self.before)]
        self.all = admitted / (self.rate * passed)
        self.use = [self.all * count / max(1, sum(answers)) for count in answers]
        self.refused = self.group.refused() - self.refused
        self.longest = max(load.longest for load in loads)
        self.lost = sum(len(load.bad) - was for load, (_, was) in zip(loads, self.before))
        self.sent = sum(answers)
        return self


async def until(holds, seconds: float) -> float | None:
    """How long it took until it held; nothing where it did not in time. The clients go on while it is looked at."""
    began = time.monotonic()
    while not await asyncio.to_thread(holds):
        if time.monotonic() > began + seconds:
            return None
        await asyncio.sleep(0.02)
    return time.monotonic() - began
