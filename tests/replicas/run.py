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

from group import LATENCY, Figures, Group, Load, Member, Relay, answer, request, until
from processes import stand_in, weir

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
        with unlimited() as alone:
            await asyncio.sleep(5)
            answers = alone.answers
            use = await measured(group, 5, "skewed")
            # What one request at a time can use on this machine, in these seconds: a fifth of the limit where it is idle.
            able = (alone.answers - answers) / (RPM / 60 * 5)
            alone.set(0)
        least = min(0.17, able * 0.17 * LATENCY * RPM / 60)
        what = f"skewed: who has one request at a time has all that it can use ({use[1]:.1%}, alone {able:.1%}, least {least:.1%})"
        check(use[0] > 0.72 and use[1] > least, what)

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


@contextlib.contextmanager
def unlimited():
    """A client with one request at a time before a Weir of its own, without limits: what it can use when nobody holds it."""
    with stand_in("--rpm", "none", "--tpm", "none", "--latency", f"{LATENCY * 1000:.0f}ms", "--no-compress") as upstream:
        with weir(upstream) as alone:
            load = Load(alone.url)
            load.set(1)
            yield load
            load.set(0)


async def learned() -> None:
    """What one learns the others know within one interval: limits, an outage, a spent quota, and that it is back."""
    with contextlib.ExitStack() as stack:
        group = Group(stack, limits="", interval=1, stand_in=["--rpm", "600", "--tpm", "none"], expected=3, more=SOON)
        for _ in range(3):
            group.add()
        one, others = group.members[0], group.members[1:]
        await in_time(lambda: all(member.status()["replicas"] == 3 for member in group.members), 5, "three see three")
        # Each has asked once, and was not told of any limit.
        for member in group.members:
            await ask(member, "x-simulate: headers=none\r\n")
        await asyncio.sleep(1)

        def of_all(name: str, value: float, **labels: str):
            return lambda: all(has(member, name, value, **labels) for member in others)

        await ask(one)
        await in_time(of_all("weir_limit", 600, dimension="requests_per_minute"), WITHIN, "a limit that one was told of")
        group.set_upstream(outages=["0s+60s:insufficient_quota"])
        check((await ask(one))[0] == 429, "the quota is spent")
        group.set_upstream(outages=[])
        await in_time(of_all("weir_quota_breaker_open", 1), WITHIN, "a spent quota")
        status, body = await ask(others[0])
        check(status == 429 and b"insufficient_quota" in body, f"the other answers in the upstream's words ({status} {body[:90]!r})")
        give_up = time.monotonic() + 10
        while has(one, "weir_quota_breaker_open", 1) and time.monotonic() < give_up:
            await ask(one)
            await asyncio.sleep(0.2)
        await in_time(of_all("weir_quota_breaker_open", 0), WITHIN, "that it is back")
        group.set_upstream(outages=["0s+60s:503"])
        one.load.set(20)
        await in_time(lambda: has(one, "weir_breaker_state", 2), 20, "one finds that the upstream fails")
        await in_time(of_all("weir_breaker_state", 2), WITHIN, "an open breaker")
        group.set_upstream(outages=[])
        await in_time(lambda: not has(one, "weir_breaker_state", 2), 20, "one finds that it answers again")
        one.load.set(0)


# One interval, and what an exchange and a look at the metrics take.
WITHIN = 1.3
# An outage is found after these failures, not after retries of each of them.
SOON = """
            [retry]
            max_attempts = 1
"""


def has(member: Member, name: str, value: float, **labels: str) -> bool:
    try:
        return member.weir.metric(name, scope="gpt-4o-mini", **labels) == value
    except LookupError:
        return False


async def ask(member: Member, more: str = "") -> tuple[int, bytes]:
    """The answer to one request."""
    reader, writer = await asyncio.open_connection(member.load.url.hostname, member.load.url.port)
    writer.write(request(more=more))
    answered = await answer(reader)
    writer.close()
    return answered


async def callers() -> None:
    """Four callers with one weight have a quarter each, though two of them enter through one replica and two alone."""
    with contextlib.ExitStack() as stack:
        names = ["sk-caller-a-0123456789", "sk-caller-b-0123456789", "sk-caller-c-0123456789", "sk-caller-d-0123456789"]
        stand_in = ["--shape", "bucket", "--rpm", str(RPM), "--tpm", "none", "--headers", "as-measured"]
        group = Group(stack, limits=f"requests_per_minute = {RPM}", interval=1, stand_in=stand_in, expected=3)
        group.more = '[upstream]\ncredential = "' + group.secret("credential", "sk-upstream-0123456789") + '"\n'
        for name in names:
            group.more += f'[[callers]]\nname = "{name[3:11]}"\nkey = "{group.secret(name, name)}"\n'
        for _ in range(3):
            group.add()
        await in_time(lambda: all(member.status()["replicas"] == 3 for member in group.members), 5, "callers: three see three")
        await group.empty()
        loads = [Load(group.members[place].weir.url, request(key=name)) for place, name in zip((0, 0, 1, 2), names)]
        for load, clients in zip(loads, (40, 20, 40, 20)):
            load.set(clients)
        # The ledger takes an idle limit for unused, and others emptied it: that costs a 429 or two at first.
        await asyncio.sleep(8)
        refused = group.refused()
        before = [load.answers for load in loads]
        await asyncio.sleep(12)
        answers = [load.answers - was for load, was in zip(loads, before)]
        shares = [count / sum(answers) for count in answers]
        for load in loads:
            load.set(0)
        use = sum(answers) / (RPM / 60 * 12)
        words = ", ".join(f"{share:.1%}" for share in shares) + f"; parts {[round(one.part(), 3) for one in group.members]}"
        check(max(shares) - min(shares) <= 0.05 * 0.25 * 2, f"callers: shares are within 5 % of a quarter ({words}) of {use:.1%}")
        check(use >= LEAST_USE, f"callers: {use:.1%} of the limit used")
        check(group.refused() == refused, f"callers: no 429 ({group.refused() - refused})")
        check(not any(load.bad for load in loads), f"callers: every answer is 200 ({[load.bad[:1] for load in loads]})")


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
        big = Load(group.members[0].weir.url, request(100_000, more="x-stainless-timeout: 120\r\n"))
        for member in group.members[1:]:
            member.load = Load(member.weir.url, request(2_000))
            member.load.set(20)
        await asyncio.sleep(4)
        big.set(1)
        # The first passes by what the idle replica saved up. The second waits for its 125,000 tokens, and for those that the others
        # may have used of the part that is gained for it, at a third of the rate: 75 s.
        passed = lambda: big.answers - len(big.bad)  # noqa: E731
        await in_time(lambda: passed() >= 2, 75, "two requests of a sixth of the limit pass beside a full load")
        big.set(0)
        check(not big.bad, f"and is not refused ({big.bad[:2]})")
        check(group.refused() <= 3, f"large requests: {group.refused()} 429s")


async def story() -> None:
    await three()
    await learned()
    await callers()
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
