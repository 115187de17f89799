"""Holds many WebSocket sessions at once: each has a turn, is idle, and has another.

    python3 tests/outside/sessions.py [SESSIONS]      (10,000, or what `ulimit -Hn` lets: Weir opens two files for each)

Prints the memory of a session between its turns, and the latency of an HTTP caller at the same time. Ends with 1 if a session failed, or
Weir counts a wrong number of turns.
"""

import asyncio
import json
import pathlib
import resource
import subprocess
import sys
import time

import processes

AT_ONCE = 200
# Beside what the sessions use: the log, the admin port, and the callers over HTTP.
SPARE_FILES = 400
HANDSHAKE = (
    "GET /v1/responses HTTP/1.1\r\nHost: weir\r\nAuthorization: Bearer sk-none\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
CREATE = json.dumps({"type": "response.create", "stream_id": "a", "model": "gpt-4o", "store": False, "input": "Which limit? " * 300})


def masked(text: str) -> bytes:
    """A text frame under a mask of zeros."""
    payload = text.encode()
    assert 126 <= len(payload) < 1 << 16
    return b"\x81\xfe" + len(payload).to_bytes(2, "big") + bytes(4) + payload


async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers every handshake, and every turn as soon as it is whole."""
    events = b""
    for kind in ("response.created", "response.output_text.delta", "response.completed"):
        event = {"type": kind, "stream_id": "a", "response": {"id": "r", "status": "completed", "usage": {"input_tokens": 9, "output_tokens": 1}}}
        text = json.dumps(event).encode()
        events += b"\x81\x7e" + len(text).to_bytes(2, "big") + text
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"GET /v1/responses"):
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
        else:
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            while (await reader.readexactly(2))[0] == 0x81:
                length = int.from_bytes(await reader.readexactly(2), "big")
                await reader.readexactly(4 + length)
                writer.write(events)
    except (OSError, asyncio.IncompleteReadError):
        pass
    writer.close()


async def turn(session: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
    reader, writer = session
    writer.write(masked(CREATE))
    while True:
        first, length = await reader.readexactly(2)
        assert first == 0x81 and length == 126, f"no text: {first:#x} {length}"
        event = json.loads(await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big")))
        assert event["type"] != "error", event
        if event["type"] == "response.completed":
            return


async def opened(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
    writer.write(HANDSHAKE.encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), head
    return reader, writer


async def each(what, items) -> list:
    """Does it for each, a few hundred at once; raises what one of them raises."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(item):
        async with slots:
            return await asyncio.wait_for(what(item), 60)

    return await asyncio.gather(*(one(item) for item in items))


def resident(pid: int) -> int:
    """Resident memory in KiB."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


async def neighbor(port: int, calls: int) -> list[float]:
    waits = []
    for _ in range(calls):
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /v1/models HTTP/1.1\r\nHost: weir\r\nAuthorization: Bearer sk-none\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        waits.append(time.monotonic() - began)
    return sorted(waits)


async def main(sessions: int) -> int:
    behind = subprocess.Popen([sys.executable, __file__, "upstream"], stdout=subprocess.PIPE, text=True)
    address = f"http://127.0.0.1:{behind.stdout.readline().strip()}"
    port, admin = processes.free_port(), processes.free_port()
    environment = {
        "WEIR_UPSTREAM__WEBSOCKET__MAX": str(sessions),
        "WEIR_SERVER__MAX_CONNECTIONS": str(sessions + SPARE_FILES),
        "WEIR_SERVER__MAX_CONNECTIONS_PER_PEER": str(sessions + SPARE_FILES),
        "WEIR_LIMITS__REQUESTS_PER_MINUTE": "10000000",
        "WEIR_LIMITS__IN_FLIGHT": "100000",
        "WEIR_LOG__ACCESS": "false",
        "WEIR_SHUTDOWN__DRAIN_DELAY": "0s",
    }
    weir = subprocess.Popen(
        [processes.binary(), "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}", "--upstream", address],
        env=environment, stderr=subprocess.DEVNULL)
    try:
        processes.wait_for(port, weir)
        warm = await each(lambda _: opened(port), range(min(AT_ONCE, sessions)))
        await each(turn, warm)
        before, began = resident(weir.pid), time.monotonic()
        rest = await each(lambda _: opened(port), range(sessions - len(warm)))
        await each(turn, rest)
        idle = resident(weir.pid)
        print(f"{sessions} sessions, a turn each: {time.monotonic() - began:.1f} s; {(idle - before) / max(len(rest), 1):.1f} KiB each, "
              f"{idle >> 10} MiB in all", flush=True)
        waits = await neighbor(port, 300)
        print(f"a caller over HTTP beside them: median {waits[150] * 1000:.1f} ms, p99 {waits[297] * 1000:.1f} ms", flush=True)
        began = time.monotonic()
        await each(turn, warm + rest)
        known = processes.Weir(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}")
        open_now = known.metric("weir_connections", state="upgraded")
        turns = known.metric("weir_requests_total", endpoint="responses", outcome="success") - open_now
        print(f"another turn each: {time.monotonic() - began:.1f} s; {open_now:.0f} open, {turns:.0f} turns counted", flush=True)
        return 0 if (open_now, turns) == (sessions, 2 * sessions) else 1
    finally:
        weir.terminate()
        weir.wait(60)
        behind.kill()
        behind.wait()


async def upstream() -> None:
    server = await asyncio.start_server(answered, "127.0.0.1", 0, backlog=4096, limit=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if sys.argv[1:] == ["upstream"]:
        asyncio.run(upstream())
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    if count > (most := (hard - SPARE_FILES) // 2):
        print(f"{count} sessions need {2 * count + SPARE_FILES} files and there may be {hard}: {most} instead", flush=True)
        count = most
    sys.exit(asyncio.run(main(count)))
