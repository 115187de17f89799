"""Drives a live Weir through healthy, rate-limited, outage and quota spent, and checks its status page.

    python3 tests/observability/check_states.py [--screenshots docs/images]

One tab of headless Chromium stays open: its content changes without a reload, under the page's content
security policy. Each state is also read on a phone's width, in the dark, and without JavaScript; none of it may need color
or script to be understood. With --screenshots a picture of each state is kept.
"""

import argparse
import concurrent.futures
import contextlib
import json
import pathlib
import re
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "outside"))
sys.path.insert(0, str(HERE))

import browser  # noqa: E402
import processes  # noqa: E402

CONFIG = """
[admission]
max_wait = "60s"

[outage]
max_wait = "30s"

[shutdown]
drain_delay = "0s"
drain_timeout = "1s"

[[callers]]
name = "checkout"
weight = 4
header = { name = "x-team", value = "checkout" }

[[callers]]
name = "search-index"
weight = 2
header = { name = "x-team", value = "search-index" }

[[callers]]
name = "nightly-batch"
lane = "background"
header = { name = "x-team", value = "nightly-batch" }
"""
CALLERS = ["checkout", "search-index", "nightly-batch"]
KEY = "sk-test-0123456789abcdef"
DESK, PHONE = (1120, 1000), (390, 844)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--screenshots", type=pathlib.Path, help="where to keep a picture of each state")
    arguments = arguments.parse_args()
    with contextlib.ExitStack() as stack:
        pictures = arguments.screenshots or pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pictures.mkdir(parents=True, exist_ok=True)
        upstream = stack.enter_context(processes.simulator("--rpm", "6000", "--tpm", "2M", "--latency", "60ms"))
        weir = stack.enter_context(processes.weir(upstream, config=CONFIG))
        load = stack.enter_context(Load(weir.url))
        page = stack.enter_context(browser.page())
        run = Run(upstream, weir, load, page, pictures)
        for state in (run.healthy, run.rate_limited, run.outage, run.quota_spent):
            began = time.monotonic()
            headline = state()
            print(f"page, {state.__name__}: {headline} ({time.monotonic() - began:.0f} s)")
        if complaints := page.complaints():
            raise AssertionError(f"the browser complains: {complaints}")
    return 0


class Run:
    def __init__(self, upstream, weir, load, page, pictures):
        self.upstream, self.weir, self.load, self.page, self.pictures = upstream, weir, load, page, pictures

    def healthy(self):
        self.load.at(per_second=15)
        time.sleep(3)
        check_policy(self.weir.admin)
        self.page.size(*DESK)
        self.page.open(f"{self.weir.admin}/")
        # Says whether the document is still the same one at the end.
        self.page.evaluate("window.opened = 'once'")
        headline = self.page.await_text(re.compile(r"^Healthy: nothing waits and nothing fails\."))
        self.reads("healthy", ["Healthy", "gpt-4o-mini", "requests per minute", "of 6,000", "Answering; breaker closed", *CALLERS])
        return headline

    def rate_limited(self):
        set_simulator(self.upstream, limits="rpm=300,tpm=2M")
        # Some are let through before the first answer tells of the new limit.
        self.load.at(per_second=20)
        headline = self.page.await_text(re.compile(r"^Waiting at our limit: \d{2,} requests for gpt-4o-mini \(300 requests per minute\)"), within=60)
        # As much as is let through: what waits goes on waiting, and nobody is turned away.
        self.load.at(per_second=5)
        self.reads("rate-limited", ["It is our limits", "No errors so far", "of 300", "at the limit", "waiting for requests per minute", "Predicted wait"])
        return headline

    def outage(self):
        set_simulator(self.upstream, limits="rpm=6000,tpm=2M", outages=["0s+300s:503"])
        self.load.at(per_second=15)
        pattern = r"^The upstream has been failing since \d\d:\d\d:\d\d UTC \(.+\): overloaded\. (Next probe in|A probe is under way)"
        headline = self.page.await_text(re.compile(pattern), within=60)
        self.reads("outage", ["Critical", "It is them: the upstream", "waiting for it to recover", "Check whether", "breaker open"])
        set_simulator(self.upstream, outages=[])
        self.page.await_text(re.compile(r"^(?!The upstream has been failing)"), within=90)
        return headline

    def quota_spent(self):
        set_simulator(self.upstream, faults=["insufficient_quota=1"])
        headline = self.page.await_text(
            re.compile(r"^The quota is spent for .*gpt-4o-mini.* since \d\d:\d\d:\d\d UTC \(insufficient_quota\)\. Weir asks again in"), within=60
        )
        self.reads("quota-spent", ["Critical", "It is our quota", "Quota spent since", "next probe in", "weir_billing_block"])
        return headline

    def reads(self, name, words):
        """Checks that the state can be read everywhere, and keeps pictures."""
        page = self.page
        page.colors("light")
        shown = page.text()
        check(name, shown, words)
        if page.evaluate("window.opened") != "once" or not re.search(r"live · \d\d:\d\d:\d\d UTC", await_live(page)):
            raise AssertionError(f"{name}: the page does not refresh itself: {page.text('#live')!r}")
        page.screenshot(self.pictures / f"status-{name}.webp")
        light = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.colors("dark")
        if page.evaluate("getComputedStyle(document.body).backgroundColor") == light:
            raise AssertionError(f"{name}: it is not dark in the dark")
        page.size(*PHONE, phone=True)
        if (width := page.evaluate("document.documentElement.scrollWidth")) > PHONE[0]:
            raise AssertionError(f"{name}: it is {width} wide on a phone of {PHONE[0]}")
        check(f"{name} on a phone", page.text(), words)
        page.screenshot(self.pictures / f"status-{name}-phone.webp")
        page.size(*DESK)
        page.colors("light")
        without_scripts(name, self.weir.admin, words)


def without_scripts(name, admin, words):
    """What a browser without JavaScript shows."""
    with browser.page() as plain:
        plain.scripts(False)
        plain.size(*DESK)
        plain.open(f"{admin}/")
        check(f"{name} without JavaScript", plain.text(), words)
        if not plain.evaluate("document.querySelector('noscript')?.innerHTML ?? ''"):
            raise AssertionError("without JavaScript nothing would refresh the page")


def check(name, shown, words):
    missing = [word for word in words if word not in shown]
    if missing:
        raise AssertionError(f"{name}: the page does not say {missing}; it says: {shown}")
    if re.search(r"\b(undefined|NaN|null)\b", shown):
        raise AssertionError(f"{name}: the page shows what no person should read: {shown}")


def await_live(page):
    give_up = time.monotonic() + 10
    while not (live := page.text("#live")).startswith("live") and time.monotonic() < give_up:
        time.sleep(0.1)
    return live


def check_policy(admin):
    with urllib.request.urlopen(f"{admin}/", timeout=10) as answer:
        policy = answer.headers["content-security-policy"]
        source = answer.read().decode()
    for part in ("default-src 'none'", "script-src 'nonce-", "connect-src 'self'", "frame-ancestors 'none'"):
        if part not in policy:
            raise AssertionError(f"the policy lacks {part}: {policy}")
    if outside := re.findall(r'(?:src|href)="(https?:[^"]+\.(?:js|css|png|svg|woff2?))"', source):
        raise AssertionError(f"the page loads from outside: {outside}")


def set_simulator(upstream, **change):
    message = urllib.request.Request(f"{upstream}/simulate/set", json.dumps(change).encode(), method="POST")
    urllib.request.urlopen(message, timeout=10).close()


class Load:
    """Requests of every caller at a rate, until the block ends."""

    def __init__(self, url):
        self._url, self._pause, self._ended = url, None, threading.Event()
        self._pool = concurrent.futures.ThreadPoolExecutor(400)
        self._feeder = threading.Thread(target=self._feed, daemon=True)

    def __enter__(self):
        self._feeder.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def at(self, per_second):
        self._pause = 1 / per_second

    def _feed(self):
        number = 0
        while not self._ended.is_set():
            if self._pause:
                with contextlib.suppress(RuntimeError):
                    self._pool.submit(ask, self._url, CALLERS[number % 3])
                number += 1
            self._ended.wait(self._pause or 0.05)


def ask(url, caller):
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "What is a weir? " * 20}]}
    headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}", "x-team": caller}
    message = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), headers)
    with contextlib.suppress(OSError, urllib.error.HTTPError):
        with urllib.request.urlopen(message, timeout=120) as answer:
            answer.read()


if __name__ == "__main__":
    sys.exit(main())
