"""Faults of the machine: the traffic continues, and a metric shows the fault.

    python3 tests/outside/machine.py [NAME ...]       (all; a clock that jumps needs libfaketime, named in FAKETIME_LIBRARY, or is left out)

Each scene runs the real binary before the simulator: standard error that nobody reads, that is full, that is on a full disk; a wall clock
that jumps an hour forth and back; 256 open files and 600 clients; 512 MiB of address space and bodies of 4 MB. Ends with 1 if a call was
lost, Weir ended, or no metric shows it.
"""

import asyncio
import collections
import contextlib
import os
import pathlib
import resource
import socket
import subprocess
import sys
import tempfile
import time

import memory
import processes


async def get(port: int, path: str, within: float = 60, body: str = "") -> str:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        method = "POST" if body else "GET"
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer none\r\nConnection: close\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        answer = await asyncio.wait_for(reader.read(), within)
        writer.close()
        return answer.split(b" ", 2)[1].decode() if answer.startswith(b"HTTP/1.1") else "no answer"
    except (OSError, asyncio.TimeoutError) as error:
        return type(error).__name__


async def calls(port: int, count: int, at_once: int, path: str = "/v1/models", body: str = "") -> collections.Counter:
    slots = asyncio.Semaphore(at_once)

    async def one():
        async with slots:
            return await get(port, path, body=body)

    return collections.Counter(await asyncio.gather(*(one() for _ in range(count))))


def pipelined(port: int, count: int) -> collections.Counter:
    """The statuses of `count` calls, a hundred after the other on each connection."""
    request, outcomes = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer none\r\n\r\n", collections.Counter()
    for _ in range(count // 100):
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(request * 100)
            answers = b""
            while answers.count(b"HTTP/1.1 ") < 100 and (more := connection.recv(1 << 16)):
                answers += more
        for answer in answers.split(b"HTTP/1.1 ")[1:]:
            outcomes[answer[:3].decode()] += 1
    outcomes["lost"] = count - outcomes.total()
    return +outcomes


@contextlib.contextmanager
def weir(upstream: str, stderr, more: dict | None = None, confine=None):
    """A Weir whose standard error is `stderr`: its port, what tells its metrics, and the process."""
    port, admin = processes.free_port(), processes.free_port()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
    running = subprocess.Popen(
        [processes.binary(), "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}", "--upstream", upstream],
        stdin=subprocess.DEVNULL, stderr=stderr, env={**inherited, "WEIR_LOG__SAMPLE": "1.0", **(more or {})}, preexec_fn=confine)
    try:
        processes.wait_for(port, running)
        yield port, processes.Weir(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}"), running
    finally:
        running.kill()
        running.wait()


def reached(at: processes.Weir, limit: str) -> float:
    return at.metric("weir_limits_reached_total", limit=limit)


def told(name: str, outcomes: collections.Counter, alive: bool, says: str, is_said: bool, allowed=("200",)) -> bool:
    good = alive and is_said and set(outcomes) <= set(allowed)
    print(f"{name}: {dict(outcomes)}, {'alive' if alive else 'ENDED'}; {says}{'' if good else '  PROBLEM'}", flush=True)
    return good


def log_scene(name: str, stderr, upstream: str, lines: int) -> bool:
    # Refused by Weir itself: each is a line of the log, and nothing else.
    strict = {"WEIR_CALLERS": '[{name = "known", key = "env:KNOWN"}]', "KNOWN": "a-weir-key-of-its-own", "WEIR_UPSTREAM__CREDENTIAL": "env:OTHER", "OTHER": "a-key-of-the-upstream", "WEIR_SERVER__ALLOW_UNKNOWN_CALLERS": "false"}
    with weir(upstream, stderr, strict) as (port, at, running):
        outcomes = pipelined(port, lines)
        dropped = reached(at, "log_queue")
        return told(name, outcomes, running.poll() is None, f"log_queue {dropped:.0f}", dropped > 0, ("401",))


def blocked(upstream: str) -> bool:
    reading, writing = os.pipe()
    try:
        # More than wait for a writer (8,192) and fit a pipe.
        return log_scene("standard error that nobody reads", writing, upstream, 9500)
    finally:
        os.close(reading)
        os.close(writing)


def full(upstream: str) -> bool:
    with open("/dev/full", "w", encoding="utf-8") as device:
        return log_scene("standard error that is full", device, upstream, 300)


def disk(upstream: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder]
        if subprocess.run(mount, stderr=subprocess.DEVNULL, check=False).returncode:
            print("a full disk: NOT RUN, needs the right to mount")
            return True
        try:
            with open(pathlib.Path(folder, "log"), "w", encoding="utf-8") as file:
                return log_scene("standard error on a disk that gets full", file, upstream, 2000)
        finally:
            subprocess.run(["umount", folder], check=True)


def clock(upstream: str) -> bool:
    library = os.environ.get("FAKETIME_LIBRARY")
    if not library:
        print("a clock that jumps: NOT RUN, FAKETIME_LIBRARY names no libfaketime")
        return True
    with tempfile.NamedTemporaryFile("w", suffix=".time") as file:
        def jump(offset: str) -> None:
            pathlib.Path(file.name).write_text(offset, encoding="utf-8")

        jump("+0")
        # The wall clock alone, as when somebody sets it: the monotonic one never jumps.
        faked = {"LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": file.name, "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        # Every request waits for a turn.
        paced = {"WEIR_LIMITS__REQUESTS_PER_MINUTE": "1200", **faked}
        outcomes, took = collections.Counter(), []
        with weir(upstream, subprocess.DEVNULL, paced) as (port, at, running):
            chat = '{"model":"gpt-4o-mini","messages":[{"role":"user","content":"a"}]}'
            for offset in ("+0", "+1h", "-1h", "+0"):
                jump(offset)
                began = time.monotonic()
                outcomes += asyncio.run(calls(port, 100, 100, "/v1/chat/completions", chat))
                took.append(time.monotonic() - began)
            waited = at.metric("weir_queue_wait_seconds_count")
            times = ", ".join(f"{seconds:.1f} s" for seconds in took)
            return told("a wall clock that jumps an hour", outcomes, running.poll() is None,
                        f"100 calls at 1,200/min took {times}; {waited:.0f} waits counted", max(took) < 20 and waited >= 400)


def files(upstream: str) -> bool:
    def confine():
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))

    with weir(upstream, subprocess.DEVNULL, confine=confine) as (port, at, running):
        outcomes = asyncio.run(calls(port, 600, 600))
        limit = reached(at, "open_files")
        return told("256 open files, 600 clients", outcomes, running.poll() is None, f"open_files {limit:.0f}", limit > 0)


def address_space(_upstream: str) -> bool:
    def confine():
        resource.setrlimit(resource.RLIMIT_AS, (512 << 20, 512 << 20))

    async def scene() -> bool:
        async def hold(reader, _writer):
            while await reader.read(1 << 16):
                pass

        hole = await asyncio.start_server(hold, "127.0.0.1", 0, backlog=4096)
        behind = f"http://127.0.0.1:{hole.sockets[0].getsockname()[1]}"
        more = {"WEIR_LIMITS__IN_FLIGHT": "1", "WEIR_LOG__ACCESS": "false", "WEIR_ADMISSION__MAX_WAIT": "10m"}
        with tempfile.TemporaryFile() as output, weir(behind, output, more, confine) as (port, _, running):
            outcomes = collections.Counter(
                await asyncio.gather(*(memory.client(port, 4_000_000, 4_000_000, 15) for _ in range(100))))
            output.seek(0)
            says = b"they are lowered to fit" in output.read()
            return told("512 MiB of address space, 100 bodies of 4 MB", outcomes, running.poll() is None,
                        f"the log says {'so' if says else 'nothing'}", says, ("waits", "429"))

    return asyncio.run(scene())


SCENES = {"blocked": blocked, "full": full, "disk": disk, "clock": clock, "files": files, "address_space": address_space}


def main() -> int:
    wanted = sys.argv[1:] or list(SCENES)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with processes.simulator("--rpm", "none", "--tpm", "none", "--latency", "5ms") as upstream:
        return 0 if all([SCENES[name](upstream) for name in wanted]) else 1


if __name__ == "__main__":
    sys.exit(main())
