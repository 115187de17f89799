"""The cost of a WebSocket frame that Weir parses, compared with one that it relays unparsed.

    python3 benches/frames.py [SECONDS]       (10; needs a release build, or WEIR_BIN)

Sessions get the events of their turns one by one, as the API sends them: in `bypass` mode Weir relays bytes, in `enforce` mode it parses each
frame, finds its turn and counts it. Compares the processor time of the process per frame, of both modes in turns, three times each, and
ends with 1 if reading costs more than 1.5 times as much as the blind relay.
"""

import asyncio
import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/outside"))

import processes  # noqa: E402
import sessions  # noqa: E402

SESSIONS, EVENTS, PAUSE, ROUNDS, MOST = 40, 400, 0.01, 3, 1.5
TICKS = os.sysconf("SC_CLK_TCK")


def event(kind: str) -> bytes:
    told = {"type": kind, "stream_id": "a", "sequence_number": 7, "response": {"id": "resp_1", "status": "completed"}}
    if kind.endswith("delta"):
        told = {"type": kind, "stream_id": "a", "sequence_number": 7, "item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": " token",
                "logprobs": [], "obfuscation": "fJ2vXc81"}
    text = json.dumps(told).encode()
    return b"\x81\x7e" + len(text).to_bytes(2, "big") + text if len(text) > 125 else b"\x81" + bytes((len(text),)) + text


async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers each turn with events at a pace."""
    try:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        while (await reader.readexactly(2))[0] == 0x81:
            await reader.readexactly(4 + int.from_bytes(await reader.readexactly(2), "big"))
            writer.write(event("response.created"))
            for _ in range(EVENTS):
                await asyncio.sleep(PAUSE)
                writer.write(event("response.output_text.delta"))
            writer.write(event("response.completed"))
    except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
        pass
    writer.close()


def spent(pid: int) -> float:
    """Processor seconds of a process so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def frames_read(session: tuple[asyncio.StreamReader, asyncio.StreamWriter], until: float) -> int:
    reader, writer = session
    frames, loop = 0, asyncio.get_running_loop()
    while loop.time() < until:
        writer.write(sessions.masked(sessions.CREATE))
        last = b""
        while b"response.completed" not in last:
            length = (await reader.readexactly(2))[1]
            last = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big") if length == 126 else length)
            frames += 1
    return frames


async def cost(mode: str, seconds: float, upstream: str) -> float:
    """Microseconds of processor time for each frame."""
    port, admin = processes.free_port(), processes.free_port()
    weir = subprocess.Popen(
        [processes.binary(), "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}", "--upstream", upstream],
        env={"WEIR_MODE": mode, "WEIR_LIMITS__REQUESTS_PER_MINUTE": "1000000", "WEIR_LIMITS__IN_FLIGHT": "1000", "WEIR_SHUTDOWN__DRAIN_DELAY": "0s"},
        stderr=subprocess.DEVNULL)
    try:
        processes.wait_for(port, weir)
        opened = await asyncio.gather(*(sessions.opened(port) for _ in range(SESSIONS)))
        before = spent(weir.pid)
        until = asyncio.get_running_loop().time() + seconds
        frames = sum(await asyncio.gather(*(frames_read(session, until) for session in opened)))
        took = spent(weir.pid) - before
    finally:
        weir.terminate()
        weir.wait(30)
    return took * 1e6 / frames


async def main(seconds: float) -> int:
    server = await asyncio.start_server(answered, "127.0.0.1", 0)
    upstream = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    costs = {"bypass": [], "enforce": []}
    for _ in range(ROUNDS):
        for mode, found in costs.items():
            found.append(await cost(mode, seconds, upstream))
    blind, read = (statistics.median(found) for found in costs.values())
    told = {mode: [round(one, 1) for one in found] for mode, found in costs.items()}
    print(f"microseconds a frame: {told}; reading costs {read / blind:.2f} times the blind relay")
    return 0 if read <= MOST * blind else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 10.0)))
