"""Drives real Weirs that share one limit through a real Redis, before one real stand-in, over sockets.

    python3 tests/replicas/run.py             # what CI runs
    python3 tests/replicas/matrix.py          # every fault with 3 and 10 replicas: a table, in some minutes

Three Weirs with a skewed demand use the limit and draw no 429; a need moves parts within two intervals; Redis is killed, stalled,
cut off, flushed, full, read-only, and has its password changed; Weirs are killed, paused and end. Ten Weirs that were idle burst at
once. In all of it nothing is lost, nothing hangs, and no 429 comes.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time

from group import Figures, Group, Load, Member, Relay, request, until

RPM = 3000
LEAST_USE = 0.97

problems: list[str] = []


def check(holds: bool, what: str) -> None:
    print(f"{'ok  ' if holds else 'BAD '} {what}", flush=True)
    if not holds:
        problems.append(what)


async def in_time(holds, seconds: float, what: str) -> None:
    took = await until(holds, seconds)
    check(took is not None, f"{what}, after {seconds if took is None else took:.2f} s of at most {seconds:g} s")


async def measured(group: Group, seconds: float, what: str, least: float = LEAST_USE) -> list[float]:
    figures = Figures(group, RPM / 60)
    await asyncio.sleep(seconds)
    figures.stop()
    parts = ", ".join(f"{part:.1%}" for part in figures.use)
    check(figures.refused == 0, f"{what}: no 429 ({figures.refused})")
    check(figures.all >= least, f"{what}: {figures.all:.1%} of the limit used ({parts})")
    check(figures.lost == 0, f"{what}: every answer is 200 ({figures.lost} are not)")
    return figures.use


async def trouble(group: Group, name: str, cause: str, begin, end, *, least: float, steady: float = 2.5) -> None:
    """A fault that lasts a while: it is named, traffic goes on, and afterwards need counts again."""
    member = group.members[0]
    figures = Figures(group, RPM / 60)
    begin()
    await in_time(lambda: member.status()["trouble"] == cause, 3, f"{name}: it is named {cause}")
    check(member.weir.metric("weir_replicas_trouble", cause=cause) == 1, f"{name}: so does the metric")
    await in_time(lambda: not member.status()["agreed"], 3, f"{name}: the lease ends")
    await asyncio.sleep(steady)
    end()
    await in_time(lambda: all(one.status()["agreed"] for one in group.members), 4, f"{name}: agreed again")
    figures.stop()
    check(figures.refused == 0, f"{name}: no 429 ({figures.refused})")
    check(figures.lost == 0, f"{name}: nothing lost of {figures.sent}; longest answer {figures.longest:.1f} s")
    check(figures.all >= least, f"{name}: {figures.all:.1%} of the limit used")


async def three() -> None:
    with contextlib.ExitStack() as stack:
        shape = ["--shape", "bucket", "--rpm", str(RPM), "--tpm", "none", "--headers", "as-measured"]
        interval = 0.25
        limits = f"requests_per_minute = {RPM}"
        group = Group(stack, limits=limits, interval=interval, stand_in=shape, expected=3)
        redis = group.redis
        relay = Relay(redis.port)
        await relay.start()
        one = group.add(group.secret("relayed", group.url(relay.port)))
        two, three = group.add(), group.add()
        await in_time(lambda: all(one.status()["replicas"] == 3 for one in group.members), 3, "three Weirs see three")
        # Of a bucket a whole minute's worth may be used at once: first it is emptied.
        await group.empty()
        one.load.set(30)
        two.load.set(1)
        await asyncio.sleep(5)
        use = await measured(group, 5, "skewed")
        check(use[0] > 0.72 and use[1] > 0.17, "skewed: who has one request at a time has all that it can use")

        two.load.set(30)
        await in_time(lambda: two.part() > 0.4, 2 * interval + 0.5, "who becomes busy has its part within two intervals")
        await measured(group, 3, "two are busy")
        three.load.set(30)
        await asyncio.sleep(1)

        await trouble(group, "killed", "unreachable", redis.kill, redis.start, least=0.8)
        stop, go = (lambda: redis.running.send_signal(signal.SIGSTOP)), (lambda: redis.running.send_signal(signal.SIGCONT))
        await trouble(group, "stalled", "timeout", stop, go, least=0.8)
        set_memory = lambda size: lambda: redis.ask("config", "set", "maxmemory", size)  # noqa: E731
        await trouble(group, "full", "full", set_memory("1"), set_memory("0"), least=0.8)
        replica = lambda *of: lambda: redis.ask("replicaof", *of)  # noqa: E731
        await trouble(group, "read-only", "read_only", replica("127.0.0.1", "1"), replica("no", "one"), least=0.8)
        await trouble(group, "cut off alone", "unreachable", lambda: relay.set("cut"), lambda: relay.set("open"), least=0.8)

        figures = Figures(group, RPM / 60)
        for words in (["flushall"], ["script", "flush"]):
            redis.ask(*words)
            await asyncio.sleep(2)
        # The password becomes another, and so does the file; what is connected is cut.
        redis.ask("config", "set", "requirepass", redis.password + "-2")
        redis.password += "-2"
        redis.ask("client", "kill", "type", "normal", "skipme", "yes")
        await in_time(lambda: two.status()["trouble"] == "authentication", 3, "password changed: it is named")
        group.secret("url", group.url())
        group.secret("relayed", group.url(relay.port))
        await in_time(lambda: all(one.status()["agreed"] for one in group.members), 5, "the new one is taken from the file")
        figures.stop()
        check(figures.refused + figures.lost == 0, f"flushed, password changed: no 429, nothing lost of {figures.sent}")
        await measured(group, 3, "after all that")

        three.process.send_signal(signal.SIGSTOP)
        await in_time(lambda: one.status()["replicas"] == 2, 3, "one that stands still is not counted")
        await asyncio.sleep(1)
        before = group.refused()
        three.process.send_signal(signal.SIGCONT)
        await in_time(lambda: all(one.status()["replicas"] == 3 for one in group.members), 3, "it goes on, and is counted")
        await asyncio.sleep(1)
        check(group.refused() == before, f"it takes nothing back that others took over: no 429 ({group.refused() - before})")

        three.process.kill()
        three.load.set(0)
        await in_time(lambda: one.part() + two.part() > 0.97, 5 * interval, "killed: the others have its part in five intervals")
        two.process.send_signal(signal.SIGTERM)
        two.load.set(0)
        await in_time(lambda: one.part() > 0.95, 2 * interval + 0.5, "one leaves, and says so: its part is taken over")
        one.load.set(0)
        check(not one.load.bad, f"every answer of the one that was there all along is 200 ({one.load.bad[:3]})")


async def burst(group: Group, member: Member, requests: int) -> None:
    loads = Load(member.weir.url)
    loads.set(requests)
    await asyncio.sleep(2.5)
    loads.set(0)
    member.load.bad += loads.bad


async def ten(shape: str) -> None:
    with contextlib.ExitStack() as stack:
        stand_in = ["--shape", shape, "--rpm", str(RPM), "--tpm", "none", "--headers", "as-measured"]
        limits = f"requests_per_minute = {RPM}"
        group = Group(stack, limits=limits, interval=1, stand_in=stand_in, expected=10)
        for _ in range(10):
            group.add()
        await in_time(lambda: all(one.status()["replicas"] == 10 for one in group.members), 5, f"{shape}: ten see ten")
        await asyncio.gather(*(burst(group, member, 40) for member in group.members))
        check(group.refused() == 0, f"{shape}: ten idle ones burst at once: no 429 ({group.refused()})")
        for member in group.members:
            member.load.set(10)
        await asyncio.sleep(6)
        redis, began = group.redis, time.monotonic()
        names = [("cmdstat_evalsha", "commandstats"), ("total_net_input_bytes", "stats"), ("total_net_output_bytes", "stats")]
        before = [redis.count(*name) for name in names]
        await asyncio.sleep(5)
        rates = [(redis.count(*name) - was) / (time.monotonic() - began) / 10 for name, was in zip(names, before)]
        check(rates[0] <= 2, f"{shape}: {rates[0]:.2f} commands a replica and second ({rates[1]:.0f} B in, {rates[2]:.0f} B out)")
        check(group.refused() <= 0.01 * sum(one.load.answers for one in group.members), f"{shape}: {group.refused()} 429s in all")
        bad = [bad for one in group.members for bad in one.load.bad]
        check(not bad, f"{shape}: every answer is 200 ({bad[:2]})")
        killed = group.members[:3]
        for member in killed:
            member.process.kill()
            member.load.set(0)
        await asyncio.sleep(5)
        figures = Figures(group, RPM / 60)
        await asyncio.sleep(3)
        check(figures.stop().all >= 0.8, f"{shape}: three killed: {figures.all:.1%} of the limit used five seconds later")


async def large() -> None:
    """Requests of a sixth of the limit progress through a replica that was idle, while the others use the limit."""
    with contextlib.ExitStack() as stack:
        stand_in = ["--shape", "bucket", "--rpm", "none", "--tpm", "600000", "--headers", "as-measured"]
        group = Group(stack, limits="tokens_per_minute = 600000", interval=0.25, stand_in=stand_in, expected=3)
        for _ in range(3):
            group.add()
        await asyncio.sleep(2)
        big = Load(group.members[0].weir.url, request(100_000))
        for member in group.members[1:]:
            member.load = Load(member.weir.url, request(2_000))
            member.load.set(20)
        await asyncio.sleep(4)
        big.set(1)
        await in_time(lambda: big.answers >= 1, 45, "a request of a sixth of the limit passes beside a full load")
        big.set(0)
        check(not big.bad, f"and is not refused ({big.bad[:2]})")
        check(group.refused() <= 3, f"large requests: {group.refused()} 429s")


async def story() -> None:
    await three()
    await ten("sliding-log")
    await large()


def main() -> int:
    if not shutil.which("redis-server") or not shutil.which("redis-cli"):
        print("!!! NOT RUN: redis-server is missing; install Debian's redis-server", file=sys.stderr)
        return 1 if os.environ.get("CI") == "true" else 0
    began = time.monotonic()
    asyncio.run(story())
    print(f"{len(problems)} problems, {time.monotonic() - began:.0f} s")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
