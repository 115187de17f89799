"""Measures the cost of an exchange in Redis, by replicas and sets of limits, for docs/scale.md. It acts as the replicas itself.

    python3 tests/replicas/cost.py [redis-server]
"""

import pathlib
import random
import shutil
import socket
import sys
import tempfile

from group import PASSWORD, Redis

LEDGER = (pathlib.Path(__file__).resolve().parents[2] / "src/replicas/ledger.lua").read_text()
KEYS = ["{weir}:replicas", "{weir}:notes", "{weir}:notes:order"]


class Client:
    def __init__(self, port: int):
        self.file = socket.create_connection(("127.0.0.1", port)).makefile("rwb")
        self.ask("AUTH", PASSWORD)

    def ask(self, *words):
        self.file.write(b"*%d\r\n" % len(words))
        for word in words:
            word = str(word).encode()
            self.file.write(b"$%d\r\n%s\r\n" % (len(word), word))
        self.file.flush()
        return self.answer()

    def answer(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise RuntimeError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2].decode()
        if kind == b"*":
            return [self.answer() for _ in range(int(rest))]
        return rest.decode()


def info(client: Client, section: str) -> dict:
    return dict(line.split(":", 1) for line in client.ask("INFO", section).splitlines() if ":" in line)


def processor(client: Client) -> float:
    """Seconds of a processor that Redis took, which another load on the machine does not change."""
    figures = info(client, "cpu")
    return float(figures["used_cpu_user"]) + float(figures["used_cpu_sys"])


def exchange(client: Client, sha: str, replica: int, scopes, held: dict, changing=True) -> float:
    """One exchange that tells of these scopes; the number of members."""
    lines = []
    for scope in scopes:
        part = held.get((replica, scope), 0)
        # A report without changes.
        need = random.choice([0, 20_000, 1_000_000]) if changing else 1_000_000 // (1 + scope % 7)
        lines.append(f"{1:016x}.{scope:016x} {part} 0 {need} 1 3 1000")
    answer = client.ask("EVALSHA", sha, 3, *KEYS, f"{replica:016x}", 600_000, 0, len(lines), *lines)
    told = [*scopes, *(int(name.split(".")[1], 16) for name in answer[5])]
    for place, scope in enumerate(told):
        held[replica, scope] = answer[4][place * 6]
    return answer[0]


# What one exchange tells, of `scopes`: all, where all needs change at once; those in use, by turns; idle ones, every twentieth time.
TELLS = {
    "all change": lambda scopes: scopes,
    "all in use": lambda scopes: min(scopes, max(64, scopes // 15)),
    "idle": lambda scopes: max(1, scopes // 20),
}


def measure(replicas: int, scopes: int, doing: str, server: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        redis = Redis(folder, server=server)
        redis.start()
        try:
            client, held = Client(redis.port), {}
            sha = client.ask("SCRIPT", "LOAD", LEDGER)
            # Beyond the time in which the ledger learns who holds what, all have lines.
            changing = doing == "all change"
            for replica in [*range(replicas)] * 4:
                exchange(client, sha, replica, range(scopes), held, changing)
            client.ask("CONFIG", "RESETSTAT")
            before = processor(client)
            told = TELLS[doing](scopes)
            calls = max(20, min(300, 60_000 // (replicas * told)))
            for call in range(calls):
                tells = [(call // replicas * told + place) % scopes for place in range(told)]
                members = exchange(client, sha, call % replicas, tells, held, changing)
            each = (processor(client) - before) / calls * 1e6
            net = info(client, "stats")
            sent, got = (int(net[f"total_net_{way}put_bytes"]) / calls for way in ("in", "out"))
            used = int(info(client, "memory")["used_memory"]) / 1e6
            load = each * replicas / 1e6
            return f"| {members} | {scopes} | {doing} | {told} | {each:.0f} | {sent:.0f} | {got:.0f} | {load:.1%} | {used:.1f} |"
        finally:
            redis.kill()


def main() -> int:
    server = sys.argv[1] if len(sys.argv) > 1 else "redis-server"
    if not shutil.which(server):
        print(f"!!! NOT RUN: {server} is missing", file=sys.stderr)
        return 1
    print("| replicas | sets of limits | which | reported in an exchange | µs of Redis an exchange | B in | B out | of a processor, at one a second each | MB in Redis |")
    print("|---|---|---|---|---|---|---|---|---|")
    for replicas, scopes in [(3, 1), (10, 1), (10, 100), (10, 1000), (100, 1), (100, 100), (1000, 1)]:
        for doing in TELLS if scopes > 1 else ["all in use"]:
            print(measure(replicas, scopes, doing, server), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
