"""Thousands of malformed requests, seeded: none hangs, leaks or is read differently by the upstream, and other clients are served.

    python3 tests/outside/malformed.py [COUNT [SEED]]      (5,000 and 1; half of them HTTP/1.1, half frames of HTTP/2)

Each case is a valid exchange that was damaged at one to four places. The upstream reads as strictly as the RFC lets it: whatever
reaches it must be a plain request, framed once, with one Host and without a bare CR, LF or NUL. Ends with 1 if one was not, a connection was
left hanging, a neighbor's call failed, memory or files stay behind, or Weir ended.
"""

import asyncio
import collections
import contextlib
import os
import pathlib
import random
import re
import sys

import processes

AT_ONCE, PAUSE, ANSWER_WITHIN, MOST_GROWN_MIB = 48, 0.2, 12, 32
KEY = b"Authorization: Bearer none\r\n"
HEAD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ (/[!-~]*|\*) HTTP/1\.1\r\n(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n\0]*\r\n)+\r\n")
HTTP1 = [
    b"GET /v1/models HTTP/1.1\r\nHost: weir\r\n" + KEY + b"\r\n",
    b"POST /v1/files HTTP/1.1\r\nHost: weir\r\n" + KEY + b"Content-Length: 5\r\n\r\nhello",
    b"POST /v1/files HTTP/1.1\r\nHost: weir\r\n" + KEY + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-End: 1\r\n\r\n",
    b"POST /v1/embeddings HTTP/1.1\r\nHost: weir\r\nContent-Type: application/json\r\nContent-Length: 27\r\n\r\n"
    b'{"model":"m","input":"text"}'[:-1] + b"}GET /v1/x HTTP/1.1\r\nHost: weir\r\n\r\n",
    b"GET /v1/realtime HTTP/1.1\r\nHost: weir\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n\x81\x80abcd",
]
WORDS = [
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b",", b";", b"\x0b", b"0", b"-1", b"+5", b"0x5", b"99999999999999999999", b"chunked", b"gzip",
    b"Content-Length: 5\r\n", b"Content-Length: 6\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding : chunked\r\n", b"Host: evil\r\n",
    b"Connection: host\r\n", b"HTTP/1.0", b"HTTP/9.9", b" folded\r\n", b"\xff\xfe", b"GET /v1/evil HTTP/1.1\r\nHost: evil\r\n\r\n", b"X: " + b"a" * 5000,
]


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def fields(*pairs: tuple[bytes, bytes]) -> bytes:
    return b"".join(b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value for name, value in pairs)


GET2 = fields((b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"weir"), (b":path", b"/v1/models"))
POST2 = fields((b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"weir"), (b":path", b"/v1/files"), (b"content-length", b"5"))
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")
HTTP2 = [
    frame(1, 5, 1, GET2), frame(1, 4, 1, POST2) + frame(0, 1, 1, b"hello"), frame(1, 0, 1, GET2[:20]) + frame(9, 4, 1, GET2[20:]),
    frame(6, 0, 0, bytes(8)) + frame(1, 5, 1, GET2) + frame(3, 0, 1, bytes(4)) + frame(8, 0, 0, b"\0\0\1\0") + frame(1, 5, 3, GET2),
]


def damaged(rng: random.Random, whole: bytes, words: list[bytes]) -> bytes:
    data = bytearray(whole)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(6):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1 if at < len(data):
                data[at] = rng.randrange(256)
            case 2:
                del data[at : at + rng.randint(1, 20)]
            case 3 | 4:
                data[at:at] = rng.choice(words)
            case _:
                data[at:at] = data[at : at + rng.randint(1, 60)]
    return bytes(data)


class Upstream:
    """Reads strictly, answers everything, and keeps what it should never have seen."""

    def __init__(self):
        self.wrong: list[str] = []
        self.requests = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if (fault := self.fault(head)) is not None:
                    self.wrong.append(f"{fault}: {head!r}")
                    break
                self.requests += 1
                lowered = head.lower()
                if (length := re.search(rb"\r\ncontent-length: (\d+)\r\n", lowered)) is not None:
                    await reader.readexactly(int(length[1]))
                elif b"\r\ntransfer-encoding: chunked\r\n" in lowered:
                    while (size := int(await reader.readuntil(b"\r\n"), 16)) > 0:
                        await reader.readexactly(size + 2)
                    while await reader.readuntil(b"\r\n") != b"\r\n":
                        pass
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            # A request that broke off: its connection is gone, and it never was whole. Or this program ends.
            pass
        writer.close()

    @staticmethod
    def fault(head: bytes) -> str | None:
        names = collections.Counter(line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:] if line)
        if HEAD.fullmatch(head) is None:
            return "no plain head"
        if names[b"host"] != 1 or re.search(rb"\r\nhost: 127\.0\.0\.1:\d+\r\n", head.lower()) is None:
            return "another Host"
        if names[b"content-length"] + names[b"transfer-encoding"] > 1:
            return "framed twice"
        if b"transfer-encoding" in names and b"\r\ntransfer-encoding: chunked\r\n" not in head.lower():
            return "another coding"
        return None


async def attempt(port: int, data: bytes, pause: float = PAUSE) -> str:
    """Sends it, waits `pause` seconds for an answer, says that no more comes, and waits for the connection's end."""
    answer = b""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        with contextlib.suppress(asyncio.TimeoutError):
            answer = await asyncio.wait_for(reader.read(1 << 16), pause)
        writer.write_eof()
        answer += await asyncio.wait_for(reader.read(), ANSWER_WITHIN)
        writer.close()
        if answer.startswith(b"HTTP/1."):
            return answer[9:12].decode()
        return "frames" if answer else "closed"
    except asyncio.TimeoutError:
        writer.transport.abort()
        return "HANGS"
    except OSError:
        return "closed"


async def neighbor(port: int, outcomes: collections.Counter, ended: asyncio.Event) -> None:
    while not ended.is_set():
        request = HTTP1[0].replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        # Whoever says that no more comes has left: not before the answer.
        outcomes[await attempt(port, request, ANSWER_WITHIN)] += 1
        await asyncio.sleep(0.03)


def state(pid: int) -> tuple[int, int]:
    """Resident memory in MiB, and open files."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    resident = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
    return resident >> 10, len(os.listdir(f"/proc/{pid}/fd"))


async def main(count: int, seed: int) -> int:
    rng, upstream = random.Random(seed), Upstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0, limit=1 << 20)
    port, admin = processes.free_port(), processes.free_port()
    command = [processes.binary(), "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}", "--upstream",
               f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"]
    environment = {"WEIR_LOG__ACCESS": "false", "WEIR_LIMITS__REQUESTS_PER_MINUTE": "1000000", "WEIR_LIMITS__IN_FLIGHT": "1000"}
    with processes.process(command, ports=[port, admin], environment=environment) as weir:
        slots, outcomes, beside, ended = asyncio.Semaphore(AT_ONCE), collections.Counter(), collections.Counter(), asyncio.Event()
        resting = [state(weir.pid)]

        async def one(number: int) -> None:
            async with slots:
                if number % 2:
                    data = PREFACE + damaged(rng, rng.choice(HTTP2), [frame(rng.randrange(11), rng.randrange(256), rng.randrange(5), rng.randbytes(9))])
                else:
                    data = damaged(rng, rng.choice(HTTP1), WORDS)
                outcome = await attempt(port, data)
                outcomes[outcome] += 1
                if outcome == "HANGS":
                    print(f"  hangs: {data!r}", flush=True)

        served = asyncio.ensure_future(neighbor(port, beside, ended))
        await asyncio.gather(*(one(number) for number in range(count)))
        ended.set()
        await served
        await asyncio.sleep(1)
        resting.append(state(weir.pid))
        known = processes.Weir(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}")
        under_way = await asyncio.to_thread(known.metric, "weir_requests_in_flight")
        alive = weir.poll() is None
    print(f"{count} cases, seed {seed}: {dict(outcomes)}; the upstream read {upstream.requests} requests, {len(upstream.wrong)} of them wrong")
    print(f"a neighbor: {dict(beside)}; MiB and files {resting[0]} before, {resting[1]} after; {under_way:.0f} under way")
    for wrong in upstream.wrong[:5]:
        print(f"  {wrong}")
    # What the upstream keeps open for the next requests is no leak.
    leaks = resting[1][0] - resting[0][0] > MOST_GROWN_MIB or resting[1][1] > resting[0][1] + AT_ONCE or under_way > 0
    return 1 if outcomes["HANGS"] or upstream.wrong or set(beside) != {"200"} or leaks or not alive else 0


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[1:]]
    sys.exit(asyncio.run(main(*(numbers + [5000, 1][len(numbers):]))))
