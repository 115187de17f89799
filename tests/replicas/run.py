"""Drives real Weirs that share one limit through a real Redis, before one real simulator, over sockets.

    python3 tests/replicas/run.py             # what CI runs: its stories at once, since they mostly wait
    python3 tests/replicas/run.py three       # one of them
    python3 tests/replicas/matrix.py          # every fault with 3 and 10 replicas: a table, in some minutes

What takes intervals is counted in exchanges, of which there are two in an interval at most and one in 0.9 at least: on a slow machine
both take longer.

Three Weirs with a skewed demand use the limit and draw no 429; a need moves parts within two intervals; Redis is killed, stalled,
cut off, flushed, full, read-only, and has its password changed; Weirs are killed, paused and end. Ten Weirs that were idle burst at
once. In all of it nothing is lost, nothing hangs, and no 429 comes.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time

from group import Figures, Group, Load, Member, Relay, answer, request, until

RPM = 3000
LEAST_USE = 0.97
# Exchanges, two in an interval at most, in which a need moves parts: two intervals, and two more until all clients are there.
MOVED = 8

problems: list[str] = []


def check(holds: bool, what: str) -> None:
    print(f"{'ok  ' if holds else 'BAD '} {what}", flush=True)
    if not holds:
        problems.append(what)


async def in_time(holds, seconds: float, what: str) -> None:
    took = await until(holds, seconds)
    check(took is not None, f"{what}, after {seconds if took is None else took:.2f} s of at most {seconds:g} s")


async def in_exchanges(of: list[Member], holds, most: int, what: str) -> None:
    """Within that many exchanges of each of these."""
    before = [member.exchanges() for member in of]
    took = await until(holds, 20)
    count = max(member.exchanges() - was for member, was in zip(of, before))
    seconds = "never" if took is None else f"after {took:.2f} s"
    check(took is not None and count <= most, f"{what}: {seconds} and {count} exchanges of at most {most}")


async def measured(group: Group, seconds: float, what: str, least: float = LEAST_USE) -> list[float]:
    figures = Figures(group, RPM / 60)
    await asyncio.sleep(seconds)
    figures.stop()
    parts = ", ".join(f"{part:.1%}" for part in figures.use)
    check(figures.refused == 0, f"{what}: no 429 ({figures.refused})")
    check(figures.all >= least, f"{what}: {figures.all:.1%} of the limit used ({parts})")
    check(figures.lost == 0, f"{what}: every answer is 200 ({figures.lost} are not)")
    return figures.use


async def trouble(group: Group, name: str, cause: str, begin, end, *, meets: int, steady: float = 2.5) -> None:
    """A fault that lasts a while: it is named, nobody that meets it exchanges, traffic goes on, and afterwards need counts again."""
    member, met = group.members[0], group.members[:meets]
    figures = Figures(group, RPM / 60)
    begin()
    await in_time(lambda: all(one.status()["trouble"] == cause for one in met), 3, f"{name}: it is named {cause}")
    went = [one.exchanges() for one in met]
    await in_time(lambda: member.weir.metric("weir_replicas_trouble", cause=cause) == 1, 3, f"{name}: so does the metric")
    await in_time(lambda: not member.status()["agreed"], 3, f"{name}: the lease ends")
    await asyncio.sleep(steady)
    went = [one.exchanges() - was for one, was in zip(met, went)]
    check(not any(went), f"{name}: nobody that meets it exchanges, while others do not ({went})")
    end()
    await in_time(lambda: all(one.status()["agreed"] for one in group.members), 4, f"{name}: agreed again")
    figures.stop()
    check(figures.refused == 0, f"{name}: no 429 ({figures.refused})")
    check(figures.lost == 0, f"{name}: nothing lost of {figures.sent}; longest answer {figures.longest:.1f} s")
    check(figures.all >= 0.8, f"{name}: {figures.all:.1%} of the limit used")


async def three() -> None:
    with contextlib.ExitStack() as stack:
        shape = ["--shape", "bucket", "--rpm", str(RPM), "--tpm", "none", "--headers", "as-measured"]
        interval = 0.25
        limits = f"requests_per_minute = {RPM}"
        group = Group(stack, limits=limits, interval=interval, simulator=shape, expected=3)
        redis = group.redis
        relay = Relay(redis.port)
        await relay.start()
        one = group.add(group.secret("relayed", group.url(relay.port)))
        two, three = group.add(), group.add()
        await in_time(lambda: all(one.status()["replicas"] == 3 for one in group.members), 3, "three Weirs see three")
        # Of a bucket a whole minute's worth may be used at once: first it is emptied.
        await group.empty()
        begun = group.refused()
        one.load.set(30)
        two.load.set(1)
        await asyncio.sleep(4)
        check(group.refused() == begun, f"skewed: no 429 at first ({group.refused() - begun})")
        before = times(two)
        figures, parts = Figures(group, RPM / 60), []
        for _ in range(16):
            parts.append(await asyncio.to_thread(lambda: (one.part(), two.part())))
            await asyncio.sleep(0.5)
        figures.stop()
        given = [sum(part) / len(parts) for part in zip(*parts)]
        # How much more than it sends the other is given follows from how its requests fluctuate, which is the machine's; tests of
        # `demand.rs` say how much that is where they do not.
        words = ", ".join(f"{part:.1%} of {of:.1%}" for part, of in zip(figures.use, given))
        check(figures.use[0] >= LEAST_USE * given[0], f"skewed: who is busy uses its part ({words})")
        check(figures.refused + figures.lost == 0, f"skewed: no 429 ({figures.refused}), every answer is 200 ({figures.lost} are not)")
        waited, took = (now - was for now, was in zip(times(two), before))
        what = f"skewed: who has one request at a time waits for {waited / took:.1%} of its time"
        check(figures.use[0] > 0.72 and waited <= 0.15 * took, what)

        two.load.set(30)
        await in_exchanges([two], lambda: two.part() > 0.4, MOVED, "who becomes busy has its part")
        await measured(group, 6, "two are busy")
        three.load.set(30)
        # Who becomes busy waits for its part to drain of what the others sent.
        await asyncio.sleep(4)

        await trouble(group, "killed", "unreachable", redis.kill, redis.start, meets=3)
        stop, go = (lambda: redis.running.send_signal(signal.SIGSTOP)), (lambda: redis.running.send_signal(signal.SIGCONT))
        await trouble(group, "stalled", "timeout", stop, go, meets=3)
        set_memory = lambda size: lambda: redis.ask("config", "set", "maxmemory", size)  # noqa: E731
        await trouble(group, "full", "full", set_memory("1"), set_memory("0"), meets=3)
        replica = lambda *of: lambda: redis.ask("replicaof", *of)  # noqa: E731
        await trouble(group, "read-only", "read_only", replica("127.0.0.1", "1"), replica("no", "one"), meets=3)
        await trouble(group, "cut off alone", "unreachable", lambda: relay.set("cut"), lambda: relay.set("open"), meets=1)

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
        await measured(group, 6, "after all that")

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
        # Three intervals of its lease, and one until the others look.
        rest = lambda: one.part() + two.part() > 0.97  # noqa: E731
        await in_exchanges([one, two], rest, 6, "killed: the others have its part within five intervals")
        two.process.send_signal(signal.SIGTERM)
        two.load.set(0)
        await in_exchanges([one], lambda: one.part() > 0.95, MOVED, "one leaves, and says so: its part is taken over")
        one.load.set(0)
        check(not one.load.bad, f"every answer of the one that was there all along is 200 ({one.load.bad[:3]})")


def times(member: Member) -> tuple[float, float]:
    """Seconds that its requests waited for their turns, and that they took in all."""
    return member.weir.metric("weir_queue_wait_seconds_sum"), member.load.took


async def learned() -> None:
    """What one learns the others know within one interval: limits, an outage, a spent quota, and that it is back."""
    with contextlib.ExitStack() as stack:
        group = Group(stack, limits="", interval=1, simulator=["--rpm", "600", "--tpm", "none"], expected=3, more=SOON)
        for _ in range(3):
            group.add()
        one, others = group.members[0], group.members[1:]
        await in_time(lambda: all(member.status()["replicas"] == 3 for member in group.members), 5, "three see three")
        # Each has asked once, and was not told of any limit.
        for member in group.members:
            await ask(member, "x-simulate: headers=none\r\n")
        await asyncio.sleep(1)

        async def reaches(name: str, value: float, what: str) -> None:
            """The next exchange of the one that learned tells, and the next one of each other hears: one may be under way."""
            began, told = time.monotonic(), one.exchanges() + 2
            await until(lambda: one.exchanges() >= told, 20)
            heard = [member.exchanges() + 2 for member in others]
            for member, most in zip(others, heard):
                await until(lambda: has(member, name, value) or member.exchanges() > most, 20)
            check(all(has(member, name, value) for member in others), f"{what} reaches the others, in {time.monotonic() - began:.1f} s")

        await ask(one)
        await reaches("weir_limit", 600, "a limit that one was told of")
        group.set_upstream(outages=["0s+60s:insufficient_quota"])
        check((await ask(one))[0] == 429, "the quota is spent")
        group.set_upstream(outages=[])
        await reaches("weir_quota_breaker_open", 1, "a spent quota")
        status, body = await ask(others[0])
        check(status == 429 and b"insufficient_quota" in body, f"the other answers in the upstream's words ({status} {body[:90]!r})")
        give_up = time.monotonic() + 20
        while has(one, "weir_quota_breaker_open", 1) and time.monotonic() < give_up:
            await ask(one)
            await asyncio.sleep(0.2)
        await reaches("weir_quota_breaker_open", 0, "that it is back")
        group.set_upstream(outages=["0s+60s:503"])
        one.load.set(20)
        await in_time(lambda: has(one, "weir_breaker_state", 2), 20, "one finds that the upstream fails")
        await reaches("weir_breaker_state", 2, "an open breaker")
        group.set_upstream(outages=[])
        await in_time(lambda: not has(one, "weir_breaker_state", 2), 20, "one finds that it answers again")
        one.load.set(0)


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
        simulator = ["--shape", "bucket", "--rpm", str(RPM), "--tpm", "none", "--headers", "as-measured"]
        group = Group(stack, limits=f"requests_per_minute = {RPM}", interval=1, simulator=simulator, expected=3)
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
        simulator = ["--shape", shape, "--rpm", str(RPM), "--tpm", "none", "--headers", "as-measured"]
        limits = f"requests_per_minute = {RPM}"
        group = Group(stack, limits=limits, interval=1, simulator=simulator, expected=10)
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
        simulator = ["--shape", "bucket", "--rpm", "none", "--tpm", "600000", "--headers", "as-measured"]
        group = Group(stack, limits="tokens_per_minute = 600000", interval=0.25, simulator=simulator, expected=3)
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


STORIES = {"three": three, "learned": learned, "callers": callers, "ten": lambda: ten("sliding-log"), "large": large}
# What runs at once: each line in a process of its own, since what one waits for would hold up the clients of the others.
AT_ONCE = (["three"], ["learned", "callers", "ten"], ["large"])


async def story(names: list[str]) -> None:
    for name in names:
        await STORIES[name]()


def main() -> int:
    if not shutil.which("redis-server") or not shutil.which("redis-cli"):
        print("!!! NOT RUN: redis-server is missing; install Debian's redis-server", file=sys.stderr)
        return 1 if os.environ.get("CI") == "true" else 0
    began = time.monotonic()
    if names := sys.argv[1:]:
        asyncio.run(story(names))
        print(f"{', '.join(names)}: {len(problems)} problems, {time.monotonic() - began:.0f} s")
        return 1 if problems else 0
    # A signal to end arrives at all of the group, and each ends what it started.
    running = [subprocess.Popen([sys.executable, __file__, *names]) for names in AT_ONCE]
    return max(abs(one.wait()) for one in running)


if __name__ == "__main__":
    sys.exit(main())
