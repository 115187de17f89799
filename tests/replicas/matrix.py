"""Every fault, with several numbers of replicas and shapes, and every deployment of Redis: tables for docs/scale.md, in some
minutes. CI runs `run.py` instead.

    python3 tests/replicas/matrix.py [--replicas 3,10] [--shapes bucket,bucket:1s,fixed-window,sliding-log] [--server redis-server]
        [--only FAULT]
    python3 tests/replicas/matrix.py --ways [--server valkey-server]
"""

import argparse
import asyncio
import contextlib
import shutil
import signal
import sys

from group import Figures, Group, Redis, Relay, until
from ways import Acl, Cluster, Sentinels, Several, Socket, Tls

RPM = 3000
# How long a fault lasts, and how long one has to come back from it.
LASTS, BACK = 8.0, 6.0


def faults(group: Group, relay: Relay, lone: Relay) -> dict:
    """By name: what begins it, and what ends it."""
    redis, last = group.redis, group.members[-1].process
    tell = lambda *words: lambda: redis.ask(*words)  # noqa: E731
    stop, go = (lambda: redis.running.send_signal(signal.SIGSTOP)), (lambda: redis.running.send_signal(signal.SIGCONT))
    nothing = lambda: None  # noqa: E731
    all_wires = lambda *state: lambda: [wire.set(*state) for wire in (relay, lone)]  # noqa: E731
    return {
        "none": (nothing, nothing),
        "Redis killed, restarted empty": (redis.kill, redis.start),
        "Redis stalled": (stop, go),
        "Redis cut off from all": (all_wires("cut"), all_wires("open")),
        "Redis cut off from all but one": (lambda: relay.set("cut"), lambda: relay.set("open")),
        "Redis cut off from one": (lambda: lone.set("cut"), lambda: lone.set("open")),
        "Redis silent": (all_wires("silent"), all_wires("open")),
        "Redis 100 ms slow": (all_wires("open", 0.1), all_wires("open")),
        "flushed": (tell("flushall"), nothing),
        "script flushed": (tell("script", "flush"), nothing),
        "full": (tell("config", "set", "maxmemory", "1"), tell("config", "set", "maxmemory", "0")),
        "password changed, its file later": (lambda: change_password(group), lambda: name_password(group, relay, lone)),
        "read-only": (tell("replicaof", "127.0.0.1", "1"), tell("replicaof", "no", "one")),
        "a replica paused": (lambda: last.send_signal(signal.SIGSTOP), lambda: last.send_signal(signal.SIGCONT)),
        "a replica killed": (last.kill, nothing),
    }


def change_password(group: Group) -> None:
    group.redis.ask("config", "set", "requirepass", group.redis.password + "-2")
    group.redis.password += "-2"
    group.redis.ask("client", "kill", "type", "normal", "skipme", "yes")


def name_password(group: Group, relay: Relay, lone: Relay) -> None:
    group.secret("url", group.url(relay.port))
    group.secret("lone", group.url(lone.port))


async def one(replicas: int, shape: str, server: str, only: str) -> None:
    with contextlib.ExitStack() as stack:
        simulator = ["--shape", shape, "--rpm", str(RPM), "--tpm", "none", "--headers", "as-measured"]
        redis = lambda folder: Redis(folder, server=server)  # noqa: E731
        group = Group(stack, limits="", interval=1, simulator=simulator, expected=replicas, redis=redis)
        relay, lone = Relay(group.redis.port), Relay(group.redis.port)
        await relay.start()
        await lone.start()
        name_password(group, relay, lone)
        for place in range(replicas):
            group.add(f"file:{group.folder}/{'url' if place else 'lone'}")
        await until(lambda: all(member.status()["replicas"] == replicas for member in group.members), 10)
        # A window that others used up would only end; what it lets through in the first one is no steady state either.
        windows = not shape.startswith("bucket")
        if not windows:
            await group.empty()
        for place, member in enumerate(group.members):
            member.load.set(30 if place % 2 == 0 else 3)
        await asyncio.sleep(75 if windows else 12)
        chosen = {name: fault for name, fault in faults(group, relay, lone).items() if only in name}
        for name, (begin, end) in chosen.items():
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
            if name == "a replica killed":
                # Each of its clients had one request under way.
                lost -= len(group.members[-1].load.tasks)
            cells += [f"{max(during.longest, after.longest):.1f} s", max(0, lost)]
            if name == "none":
                seconds = (LASTS + BACK) * replicas
                now = [group.redis.count("cmdstat_evalsha", "commandstats"), *traffic(group)]
                cells.append(", ".join(f"{(is_now - was) / seconds:.1f}" for is_now, was in zip(now, redis)))
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def traffic(group: Group) -> list[float]:
    return [group.redis.count(f"total_net_{way}put_bytes") for way in ("in", "out")]


async def way(redis: type[Redis], event: str, server: str) -> None:
    """Three replicas that share limits through a Redis of this kind, to which something happens."""
    with contextlib.ExitStack() as stack:
        simulator = ["--shape", "bucket", "--rpm", str(RPM), "--tpm", "none", "--headers", "as-measured"]
        make = lambda folder: redis(folder, server=server)  # noqa: E731
        group = Group(stack, limits="", interval=1, simulator=simulator, expected=3, redis=make)
        for _ in range(3):
            group.add()
        seen = await until(lambda: all(member.status()["replicas"] == 3 for member in group.members), 10)
        await group.empty()
        for member, clients in zip(group.members, (30, 3, 30)):
            member.load.set(clients)
        await asyncio.sleep(8)
        figures = Figures(group, RPM / 60)
        began = asyncio.get_running_loop().time()
        if isinstance(group.redis, Several):
            group.redis.fail_over()
        else:
            group.redis.kill()
            group.redis.start()
        await asyncio.sleep(0.5)
        back = await until(lambda: all(one.status()["agreed"] and one.status()["redis_up"] for one in group.members), 20)
        took = asyncio.get_running_loop().time() - began
        await asyncio.sleep(max(0.0, LASTS - took))
        figures.stop()
        cells = [redis.__name__, event, "never" if seen is None else f"{seen:.1f} s", "never" if back is None else f"{took:.1f} s"]
        cells += [figures.refused, f"{figures.all:.0%}", f"{figures.longest:.1f} s", figures.lost]
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)


async def ways(server: str) -> None:
    print("| Redis | event | three see three after | all agree again after | 429s | used | longest answer | lost |")
    print("|---|---|---|---|---|---|---|---|")
    for redis in (Redis, Socket, Acl, Tls):
        await way(redis, "killed, started anew, empty", server)
    for redis in (Sentinels, Cluster):
        await way(redis, "the primary killed, its replica takes over", server)


async def story(arguments: argparse.Namespace) -> None:
    if arguments.ways:
        await ways(arguments.server)
        return
    print("| replicas | shape | fault | 429s | used during | used after | longest answer | lost | commands, B in, B out / replica·s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for replicas in map(int, arguments.replicas.split(",")):
        for shape in arguments.shapes.split(","):
            await one(replicas, shape, arguments.server, arguments.only)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--replicas", default="3,10")
    parser.add_argument("--shapes", default="bucket,bucket:1s,fixed-window,sliding-log")
    parser.add_argument("--server", default="redis-server")
    parser.add_argument("--ways", action="store_true")
    parser.add_argument("--only", default="", help="faults whose name has this in it")
    arguments = parser.parse_args()
    if not shutil.which(arguments.server) or not shutil.which("redis-cli"):
        print(f"!!! NOT RUN: {arguments.server} or redis-cli is missing", file=sys.stderr)
        return 1
    asyncio.run(story(arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main())
