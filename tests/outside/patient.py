"""Streams that wait 20 s for their turn behind nginx and haproxy, which give up on a silent server after 5 s.

    python3 tests/outside/patient.py        (needs the openai package; NGINX and HAPROXY may name the programs)

Calls by the real SDK, without retries of its own, at once: to the simulator direct, through Weir without `stream.keepalive`, and
with it. Ends with 1 unless the last has them all, with the events of a direct call, and comments on those alone that waited.
"""

import asyncio
import concurrent.futures
import contextlib
import sys

import httpx2
import openai

import balancers
import processes

CALLS, PER_MINUTE, TIMEOUT, KEEPALIVE = 22, 60, 5, 2
KEY = "sk-none"


async def call(base: str, api: str) -> tuple[str, int]:
    """What became of one call, and the comments in its answer."""
    comments = 0

    async def count(response):
        stream = response.stream

        class Counted(httpx2.AsyncByteStream):
            async def __aiter__(self):
                nonlocal comments
                async for piece in stream:
                    comments += piece.count(b": weir\n")
                    yield piece

            async def aclose(self):
                await stream.aclose()

        response.stream = Counted()

    async with httpx2.AsyncClient(event_hooks={"response": [count]}, timeout=120) as http:
        client = openai.AsyncOpenAI(base_url=f"{base}/v1", api_key=KEY, max_retries=0, http_client=http)
        try:
            if api == "chat":
                stream = await client.chat.completions.create(
                    model="gpt-4o-mini", stream=True, messages=[{"role": "user", "content": "One, two, three."}])
                text = [event.choices[0].finish_reason async for event in stream if event.choices]
                whole = bool(text) and text[-1] is not None
            else:
                stream = await client.responses.create(model="gpt-4o-mini", stream=True, store=False, input="One, two, three.")
                kinds = [event.type async for event in stream]
                whole = kinds[0] == "response.created" and kinds[-1] == "response.completed"
            return ("ok" if whole else "no whole answer"), comments
        except openai.APIStatusError as error:
            return f"status {error.status_code}", comments
        except (openai.OpenAIError, httpx2.HTTPError) as error:
            return type(error).__name__, comments


async def at_once(base: str) -> dict:
    calls = [call(base, "chat" if number % 2 else "responses") for number in range(CALLS)]
    told, comments = {}, []
    for outcome, count in await asyncio.gather(*calls):
        told[outcome] = told.get(outcome, 0) + 1
        comments.append(count)
    return {"outcomes": told, "with comments": sum(count > 0 for count in comments), "without": sum(not count for count in comments)}


def scene(balancer, keepalive: float | None, direct: bool) -> tuple[dict, float]:
    """What became of the calls behind a balancer, and how many Weir kept alive."""
    config = f"[limits]\nrequests_per_minute = {PER_MINUTE}\n"
    config += f"[stream]\nkeepalive = \"{keepalive}s\"\n" if keepalive else ""
    shape = ("--rpm", str(PER_MINUTE), "--shape", "bucket:1s", "--latency", "50ms")
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(processes.simulator(*shape))
        weir = None if direct else stack.enter_context(processes.weir(upstream, config))
        behind = int((weir.url if weir else upstream).rpartition(":")[2])
        port = stack.enter_context(balancer([behind], TIMEOUT))
        found = asyncio.run(at_once(f"http://127.0.0.1:{port}"))
        return found, weir.metric("weir_streams_kept_alive_total") if weir else 0


def main() -> int:
    problems = []
    with concurrent.futures.ThreadPoolExecutor() as pool:
        scenes = [
            (name, way, pool.submit(scene, balancer, KEEPALIVE if way == "keepalive" else None, way == "direct"))
            for name, balancer in (("nginx", balancers.nginx), ("haproxy", balancers.haproxy))
            for way in ("direct", "Weir", "keepalive")
        ]
    for name, way, ended in scenes:
        found, kept = ended.result()
        print(f"{name}, {way}: {found}, kept alive {kept:.0f}")
        if way != "keepalive":
            if found["outcomes"].get("ok", 0) == CALLS:
                problems.append(f"{name}, {way}: nothing fails, so nothing is shown")
            continue
        if found["outcomes"] != {"ok": CALLS}:
            problems.append(f"{name}: not every call succeeds")
        if found["with comments"] != kept or not found["without"]:
            problems.append(f"{name}: comments on {found['with comments']} calls, and {kept:.0f} were kept alive")
    for problem in problems:
        print(f"PROBLEM: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
