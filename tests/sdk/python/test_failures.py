"""Failures over real sockets: an upstream that is down, flaky or without quota, with the SDK's own retries switched on.

The figures are printed (`pytest -rP`); WEIR_FLAKY_CALLS sets the length of the flaky run.
"""

import asyncio
import collections
import contextlib
import json
import os
import time
import urllib.request

import openai
import pytest

import processes
from conftest import KEY, QUICK_DRAIN, UNLIMITED

MESSAGES = [{"role": "user", "content": "Say three words about rivers."}]
RATE = 40
OUTAGE = 10.0


class Caller:
    """An SDK client with its default retries that counts what it sends."""

    def __init__(self, url, timeout):
        self.sent = self.repeated = 0
        http_client = openai.DefaultAsyncHttpxClient(event_hooks={"request": [self.count]})
        self.client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, timeout=timeout, http_client=http_client)

    async def count(self, request):
        self.sent += 1
        self.repeated += request.headers["x-stainless-retry-count"] != "0"

    async def ask(self):
        """One call: when it began and ended, and what came of it."""
        began = time.monotonic()
        try:
            await self.client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
            outcome = "success"
        except openai.APIStatusError as error:
            outcome = error.response.headers.get("x-weir-error-class", str(error.status_code))
        except openai.APIError as error:
            outcome = type(error).__name__
        return began, time.monotonic(), outcome

    async def offer(self, rate, seconds):
        began, calls = time.monotonic(), []
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            calls.append(asyncio.create_task(self.ask()))
        return await asyncio.gather(*calls)


@contextlib.contextmanager
def pair(*options, **environment):
    with processes.simulator(*UNLIMITED, *options) as upstream:
        with processes.weir(upstream, environment=QUICK_DRAIN | environment) as running:
            yield upstream, running


def stats(upstream):
    with urllib.request.urlopen(f"{upstream}/simulate/stats", timeout=5) as response:
        return json.load(response)


def change(upstream, **settings):
    request = urllib.request.Request(f"{upstream}/simulate/set", json.dumps(settings).encode(), method="POST")
    urllib.request.urlopen(request, timeout=5).close()


def attempts(running):
    return running.metric("weir_attempts_total")


async def ride(kind):
    """Ten seconds of outage in the middle of steady calls."""
    # A stall is found after three seconds instead of thirty, so that the test ends before the day does.
    with pair("--latency", "50ms", WEIR_BREAKER__STALL="3s") as (upstream, running):
        caller = Caller(running.url, timeout=25 if kind == "stall" else 60)
        await caller.offer(RATE, 3)
        change(upstream, outages=[f"0s+{OUTAGE:.0f}s:{kind}"])
        began = time.monotonic()
        calls = asyncio.create_task(caller.offer(RATE, OUTAGE + 12))
        blocked_after = 4.0 if kind == "stall" else 2.0
        await asyncio.sleep(blocked_after)
        before = attempts(running)
        await asyncio.sleep(OUTAGE - blocked_after - 0.5)
        probes = attempts(running) - before
        calls = await calls
        outcomes = collections.Counter(outcome for _, _, outcome in calls)
        longest = max(ended - start for start, ended, _ in calls)
        lost = [start - began for start, _, outcome in calls if outcome != "success"]
        offered = RATE * (OUTAGE - blocked_after - 0.5)
        print(
            f"10 s of {kind}: {dict(outcomes)}; {probes:.0f} attempts while {offered:.0f} calls were offered to a blocked scope; "
            f"longest call {longest:.1f} s; {caller.repeated} SDK retries"
        )
        assert probes <= max(0.05 * offered, 4)
        if kind == "stall":
            assert all(start < 4.0 for start in lost), "only what was sent into the silence may be lost"
            assert outcomes["success"] >= len(calls) - RATE * 4
        else:
            assert not lost
            assert caller.repeated == 0
        late = [ended - start for start, ended, _ in calls if start - began > OUTAGE + 10]
        # Up to four seconds for the last probe, then the backlog leaves at a rising pace, oldest first.
        assert late and max(late) < 5.0, "ten seconds after the upstream's return the backlog is all but gone"


def test_ten_seconds_of_outage_of_each_kind():
    async def all_kinds():
        await asyncio.gather(*(ride(kind) for kind in ("503", "refused", "stall")))

    asyncio.run(all_kinds())


def test_a_flaky_upstream():
    count = int(os.environ.get("WEIR_FLAKY_CALLS", "1000"))
    faults = [f"--fault={name}=0.0625" for name in ("500", "503", "reset", "html-502")]
    with pair("--latency", "20ms", *faults) as (upstream, running):
        caller = Caller(running.url, timeout=60)
        calls = asyncio.run(caller.offer(100, count / 100))
        outcomes = collections.Counter(outcome for _, _, outcome in calls)
        per_call = attempts(running) / len(calls)
        times = sorted(ended - start for start, ended, _ in calls)
        print(
            f"flaky: {dict(outcomes)} of {count}; {per_call:.4f} attempts a call; "
            f"p50 {times[len(times) // 2]:.3f} s, p99 {times[len(times) * 99 // 100]:.3f} s; {caller.repeated} SDK retries"
        )
        # Six attempts lose 2.4 of 10,000.
        assert outcomes["success"] >= 0.999 * count - 1
        assert per_call <= 1.36 + 1.5 / count**0.5
        assert caller.repeated == 0


@pytest.mark.parametrize("code", ["insufficient_quota", "credit_balance_exhausted"])
def test_a_spent_quota_costs_a_probe_a_minute_and_closes_by_itself(code):
    with pair(WEIR_QUOTA_BREAKER__PROBE_INTERVAL="3s") as (upstream, running):
        change(upstream, outages=[f"0s+4s:{code}"])
        caller = Caller(running.url, timeout=30)

        async def offer():
            # The first alone: whatever is under way when the quota turns out to be spent is told so too.
            return await caller.offer(1, 1) + await caller.offer(150, 7)

        calls = asyncio.run(offer())
        refused = [start for start, _, outcome in calls if outcome.startswith("quota_") or outcome == "weir_billing_block"]
        upstream_saw = stats(upstream)["faults"][code]
        print(f"{code}: {len(refused)} calls refused, {upstream_saw} attempts upstream, {caller.repeated} SDK retries")
        assert len(refused) > 500
        assert upstream_saw <= 1 + 2, "the first, and probes after 2 and 4 seconds"
        assert caller.repeated == 0
        assert running.metric("weir_quota_breaker_open") == 0
        assert all(outcome == "success" for _, _, outcome in calls[-100:]), "it closes by itself"


def test_total_failure_is_not_multiplied():
    """The breaker off, so that the budget alone holds; two SDK retries behind each call, if Weir did not stop them."""
    with pair("--fault=500=1", WEIR_BREAKER__ENABLED="false") as (upstream, running):
        caller = Caller(running.url, timeout=60)
        calls = asyncio.run(caller.offer(100, 10))
        ratio = stats(upstream)["requests"] / len(calls)
        print(f"all 500: {ratio:.3f} upstream attempts a call, {caller.repeated} SDK retries, {caller.sent} requests sent")
        assert ratio <= 1.1
        assert caller.repeated == 0


@pytest.mark.parametrize(("fault", "outcome"), [("reset-mid-body", "cut"), ("stall-body", "idle")])
def test_a_stream_that_breaks_raises(fault, outcome):
    with pair(WEIR_UPSTREAM__IDLE_TIMEOUT="2s") as (_, running):
        # Weir is as patient as the SDK says that it is: it says nothing where it has no time-out.
        with openai.OpenAI(base_url=f"{running.url}/v1", api_key=KEY, timeout=None) as client:
            headers = {"x-simulate": f"fault={fault}; chunks=20; chunk-delay=10ms"}
            with pytest.raises(openai.APIConnectionError):
                list(client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True, extra_headers=headers))
        assert running.metric("weir_stream_outcomes_total", outcome=outcome) == 1


def test_a_client_that_leaves_a_stream_ends_it_upstream():
    with pair() as (upstream, running):
        with openai.OpenAI(base_url=f"{running.url}/v1", api_key=KEY, timeout=20) as client:
            headers = {"x-simulate": "chunks=1000; chunk-delay=20ms"}
            stream = client.chat.completions.create(
                model="gpt-4o-mini", messages=MESSAGES, stream=True, extra_headers=headers
            )
            for _ in zip(range(10), stream):
                pass
            assert stats(upstream)["in_flight"] == 1
            stream.close()
            time.sleep(0.1)
            assert stats(upstream)["in_flight"] == 0, "ended within 100 ms"
        assert running.metric("weir_tokens_total", kind="output") >= 9
