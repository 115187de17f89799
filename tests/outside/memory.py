"""Fills Weir with waiting bodies within a memory limit: it must survive, and its refusals must arrive.

    python3 tests/outside/memory.py [MIB ...]        (1024 512 256 128; needs a control group that it may make)
    python3 tests/outside/memory.py data [MIB ...]   (1024 512 256: by RLIMIT_DATA)

For each limit three rounds at once: 1,600 bodies of 1 MB, 800 of 4 MB, and 480 that stop short. Ends with 1 if Weir was killed, or
a refused client saw a reset in place of its 429.
"""

import asyncio
import collections
import os
import pathlib
import resource
import socket
import subprocess
import sys

import processes

GROUPS = pathlib.Path("/sys/fs/cgroup")
ROUNDS = [(1600, 1_000_000, 1_000_000), (800, 4_000_000, 4_000_000), (480, 6_500_000, 5_000_000)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def group(mib: int):
    """A control group with this limit; nothing where none can be made."""
    for parent, limit in ((GROUPS / "memory", "memory.limit_in_bytes"), (GROUPS, "memory.max")):
        path = parent / f"weir-{os.getpid()}"
        try:
            path.mkdir()
            (path / limit).write_text(str(mib << 20))
            return path
        except OSError:
            if path.exists():
                path.rmdir()
    return None


def resident(pid: int) -> dict:
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":\t") for line in lines if line.startswith(("VmRSS", "VmHWM")))
    return {name: int(value.split()[0]) >> 10 for name, value in fields.items()}


async def client(port: int, size: int, sent: int, seconds: float) -> str:
    """Sends a request with a body, and returns its outcome within a time limit in seconds."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer none\r\nContent-Length: {size}\r\n\r\n"
        writer.write(head.encode())
        piece = b"x" * 65536

        async def send():
            left = sent
            while left > 0:
                writer.write(piece[: min(left, len(piece))])
                await writer.drain()
                left -= len(piece)

        sending = asyncio.ensure_future(send())
        reading = asyncio.ensure_future(reader.readline())
        done, _ = await asyncio.wait({reading}, timeout=seconds)
        if not sending.done():
            sending.cancel()
        elif not sending.cancelled():
            sending.exception()
        result = "waits"
        if done:
            line = reading.result()
            result = line.split()[1].decode() if line.startswith(b"HTTP/1.1") else "closed"
        else:
            reading.cancel()
        writer.transport.abort()
        return result
    except OSError as error:
        return type(error).__name__


async def one_limit(mib: int, data: bool) -> bool:
    async def hold(reader, writer):
        while await reader.read(1 << 16):
            pass

    hole = await asyncio.start_server(hold, "127.0.0.1", 0, backlog=4096)
    upstream = hole.sockets[0].getsockname()[1]
    port, admin, cgroup = free_port(), free_port(), None if data else group(mib)
    if cgroup is None and not data:
        raise SystemExit("no control group can be made here")

    def confine():
        if cgroup is not None:
            (cgroup / "cgroup.procs").write_text(str(os.getpid()))
        else:
            resource.setrlimit(resource.RLIMIT_DATA, (mib << 20, mib << 20))

    environment = {"WEIR_LIMITS__IN_FLIGHT": "1", "WEIR_LOG__ACCESS": "false", "WEIR_ADMISSION__MAX_WAIT": "10m"}
    environment |= {"WEIR_REPLAY__MAX_TOTAL": "256MiB", "WEIR_SERVER__MAX_BUFFERED_BYTES": "256MiB"}
    weir = subprocess.Popen(
        [processes.binary(), "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}", "--upstream", f"http://127.0.0.1:{upstream}"],
        env=environment, preexec_fn=confine)
    await asyncio.sleep(1)
    good = True
    for count, size, sent in ROUNDS:
        outcomes = collections.Counter(await asyncio.gather(*(client(port, size, sent, 15) for _ in range(count))))
        await asyncio.sleep(1)
        alive = weir.poll() is None
        state = resident(weir.pid) if alive else f"killed ({weir.returncode})"
        print(f"{mib} MiB, {count} bodies of {size}, {sent} sent: {dict(outcomes)}; MiB {state}", flush=True)
        lost = sum(number for outcome, number in outcomes.items() if outcome not in ("waits", "429", "408"))
        good = good and alive and lost == 0
        if not alive:
            break
    weir.kill()
    weir.wait()
    if cgroup is not None:
        cgroup.rmdir()
    return good


def main() -> int:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    data = sys.argv[1:2] == ["data"]
    limits = [int(text) for text in sys.argv[1 + data :]] or [1024, 512, 256, 128][: 4 - data]
    return 0 if all([asyncio.run(one_limit(mib, data)) for mib in limits]) else 1


if __name__ == "__main__":
    sys.exit(main())
