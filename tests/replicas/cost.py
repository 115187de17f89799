"""What an exchange costs Redis, by replicas and sets of limits: for docs/scale.md. It plays the replicas itself, and needs no Weir.

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


def exchange(client: Client, sha: str, replica: int, scopes: int, held: dict) -> float:
    """One exchange; the sum of what was granted."""
    lines = []
    for scope in range(scopes):
        part = held.get((replica, scope), 0)
        need = random.choice([0, 20_000, 1_000_000])
        lines.append(f"{1:016x}.{scope:016x} {part} 0 {need} 1 3 1000")
    answer = client.ask("EVALSHA", sha, 3, *KEYS, f"{replica:016x}", 600_000, 0, len(lines), *lines)
    for scope in range(scopes):
        held[replica, scope] = answer[3][scope * 6]
    return answer[0]


def measure(replicas: int, scopes: int, server: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        redis = Redis(folder, server=server)
        redis.start()
        try:
            client, held = Client(redis.port), {}
            sha = client.ask("SCRIPT", "LOAD", LEDGER)
            # Beyond the time in which the ledger learns who holds what, all have lines.
            for replica in range(replicas):
                exchange(client, sha, replica, scopes, held)
            client.ask("CONFIG", "RESETSTAT")
            before = processor(client)
            calls = max(20, min(300, 60_000 // (replicas * scopes)))
            for call in range(calls):
                members = exchange(client, sha, call % replicas, scopes, held)
            each = (processor(client) - before) / calls * 1e6
            net = info(client, "stats")
            sent, got = (int(net[f"total_net_{way}put_bytes"]) / calls for way in ("in", "out"))
            used = int(info(client, "memory")["used_memory"]) / 1e6
            load = each * replicas / 1e6
            return f"| {members} | {scopes} | {each:.0f} | {sent:.0f} | {got:.0f} | {load:.1%} | {used:.1f} |"
        finally:
            redis.kill()


def main() -> int:
    server = sys.argv[1] if len(sys.argv) > 1 else "redis-server"
    if not shutil.which(server):
        print(f"!!! NOT RUN: {server} is missing", file=sys.stderr)
        return 1
    print("| replicas | sets of limits | µs of Redis an exchange | B in | B out | of a processor, at one a second each | MB in Redis |")
    print("|---|---|---|---|---|---|---|")
    for replicas, scopes in [(3, 1), (10, 1), (10, 100), (10, 1000), (100, 1), (100, 100), (1000, 1), (1000, 10)]:
        print(measure(replicas, scopes, server), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
