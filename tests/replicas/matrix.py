"""Every fault, with several numbers of replicas and shapes: a table for docs/scale.md, in some minutes. CI runs `run.py` instead.

    python3 tests/replicas/matrix.py [--replicas 3,10] [--shapes bucket,bucket:1s,fixed-window,sliding-log] [--server redis-server]
"""

import argparse
import asyncio
import contextlib
import shutil
import signal
import sys

from group import Figures, Group, Relay, until

RPM = 3000
# How long a fault lasts, and how long one has to come back from it.
LASTS, BACK = 8.0, 6.0


def faults(group: Group, relay: Relay) -> dict:
    """By name: what begins it, and what ends it."""
    redis, last = group.redis, group.members[-1].process
    tell = lambda *words: lambda: redis.ask(*words)  # noqa: E731
    stop, go = (lambda: redis.running.send_signal(signal.SIGSTOP)), (lambda: redis.running.send_signal(signal.SIGCONT))
    nothing = lambda: None  # noqa: E731
    return {
        "none": (nothing, nothing),
        "Redis killed, restarted empty": (redis.kill, redis.start),
        "Redis stalled": (stop, go),
        "Redis cut off from all": (lambda: relay.set("cut"), lambda: relay.set("open")),
        "Redis silent": (lambda: relay.set("silent"), lambda: relay.set("open")),
        "Redis 100 ms slow": (lambda: relay.set("open", 0.1), lambda: relay.set("open")),
        "flushed": (tell("flushall"), nothing),
        "script flushed": (tell("script", "flush"), nothing),
        "full": (tell("config", "set", "maxmemory", "1"), tell("config", "set", "maxmemory", "0")),
        "read-only": (tell("replicaof", "127.0.0.1", "1"), tell("replicaof", "no", "one")),
        "a replica paused": (lambda: last.send_signal(signal.SIGSTOP), lambda: last.send_signal(signal.SIGCONT)),
        "a replica killed": (last.kill, nothing),
    }


async def one(replicas: int, shape: str, server: str) -> None:
    with contextlib.ExitStack() as stack:
        stand_in = ["--shape", shape, "--rpm", str(RPM), "--tpm", "none", "--headers", "as-measured"]
        group = Group(stack, limits="", interval=1, stand_in=stand_in, expected=replicas)
        group.redis.server = server
        relay = Relay(group.redis.port)
        await relay.start()
        for _ in range(replicas):
            group.add(group.secret("url", group.url(relay.port)))
        await until(lambda: all(member.status()["replicas"] == replicas for member in group.members), 10)
        await group.empty()
        for place, member in enumerate(group.members):
            member.load.set(30 if place % 2 == 0 else 3)
        await asyncio.sleep(12)
        for name, (begin, end) in faults(group, relay).items():
            redis = [group.redis.count("cmdstat_evalsha", "commandstats"), *traffic(group)]
            during = Figures(group, RPM / 60)
            begin()
            await asyncio.sleep(LASTS)
            during.stop()
            end()
            after = Figures(group, RPM / 60)
            await asyncio.sleep(BACK)
            after.stop()
            cells = [replicas, shape, name, during.refused + after.refused, f"{during.all:.0%}", f"{after.all:.0%}"]
            lost = during.lost + after.lost
            if "killed" in name and "replica" in name:
                lost -= 30
            cells += [f"{max(during.longest, after.longest):.1f} s", max(0, lost)]
            if name == "none":
                seconds = (LASTS + BACK) * replicas
                now = [group.redis.count("cmdstat_evalsha", "commandstats"), *traffic(group)]
                cells.append(", ".join(f"{(is_now - was) / seconds:.1f}" for is_now, was in zip(now, redis)))
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def traffic(group: Group) -> list[float]:
    return [group.redis.count(f"total_net_{way}put_bytes") for way in ("in", "out")]


async def story(arguments: argparse.Namespace) -> None:
    print("| replicas | shape | fault | 429s | used during | used after | longest answer | lost | commands, B in, B out / replica·s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for replicas in map(int, arguments.replicas.split(",")):
        for shape in arguments.shapes.split(","):
            await one(replicas, shape, arguments.server)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--replicas", default="3,10")
    parser.add_argument("--shapes", default="bucket,bucket:1s,fixed-window,sliding-log")
    parser.add_argument("--server", default="redis-server")
    arguments = parser.parse_args()
    if not shutil.which(arguments.server) or not shutil.which("redis-cli"):
        print(f"!!! NOT RUN: {arguments.server} or redis-cli is missing", file=sys.stderr)
        return 1
    asyncio.run(story(arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main())
