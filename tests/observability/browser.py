"""Drives headless Chromium over its debugging pipe: no driver, no library."""

import base64
import contextlib
import fcntl
import json
import os
import pathlib
import select
import shutil
import subprocess
import tempfile
import time

ANSWER_WITHIN = 30.0


class Page:
    """One tab."""

    def __init__(self, pipe, session):
        self._pipe, self._session = pipe, session
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        return self._pipe.call(method, parameters, self._session)

    def open(self, url):
        """Goes to `url` and waits until it is loaded."""
        self._pipe.forget("Page.loadEventFired")
        self.call("Page.navigate", url=url)
        self._pipe.await_event("Page.loadEventFired")

    def evaluate(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def text(self, selector="body"):
        """What a person reads there, on one line."""
        return " ".join((self.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")).split())

    def await_text(self, expected, within=20.0):
        """Waits until a compiled pattern is found in the headline; the headline."""
        give_up, seen = time.monotonic() + within, []
        while True:
            headline = self.text("h1")
            seen += [headline] if headline not in seen else []
            if expected.search(headline):
                return headline
            if time.monotonic() > give_up:
                raise AssertionError(f"no headline is {expected.pattern!r}: {seen}")
            time.sleep(0.2)

    def size(self, width, height, phone=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)

    def colors(self, scheme):
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def scripts(self, allowed):
        self.call("Emulation.setScriptExecutionDisabled", value=not allowed)

    def screenshot(self, path: pathlib.Path, most=100_000):
        """Writes a WebP picture of what is in view. The repository keeps them, so their size in bytes is bounded."""
        picture = base64.b64decode(self.call("Page.captureScreenshot", format="webp", quality=85)["data"])
        if len(picture) > most:
            raise AssertionError(f"{path.name} has {len(picture)} bytes, more than {most}")
        path.write_bytes(picture)

    def complaints(self):
        """Errors in the console, such as what the content security policy blocked."""
        entries = [event["params"]["entry"] for event in self._pipe.events if event["method"] == "Log.entryAdded"]
        return [entry["text"] for entry in entries if entry["level"] == "error"]


@contextlib.contextmanager
def page():
    """A Chromium with one empty tab."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        raise SystemExit("chromium is missing")
    # Chromium's children may write their profile for a moment longer than it lives.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, _pipe(program, profile) as pipe:
        target = pipe.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = pipe.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        yield Page(pipe, session)


class _Pipe:
    """Messages as JSON, each ended by a zero byte."""

    def __init__(self, write, read):
        self._write, self._read, self._held, self._number = write, read, b"", 0
        self.events = []

    def call(self, method, parameters=None, session=None):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters or {}}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        give_up = time.monotonic() + ANSWER_WITHIN
        while True:
            answer = self._next(give_up)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def forget(self, method):
        self.events = [event for event in self.events if event["method"] != method]

    def await_event(self, method):
        give_up = time.monotonic() + ANSWER_WITHIN
        while not any(event["method"] == method for event in self.events):
            self._next(give_up)

    def _next(self, give_up):
        while b"\0" not in self._held:
            ready, _, _ = select.select([self._read], [], [], max(0.0, give_up - time.monotonic()))
            if not ready:
                raise TimeoutError("Chromium does not answer")
            received = os.read(self._read, 1 << 20)
            if not received:
                raise RuntimeError("Chromium is gone")
            self._held += received
        message, _, self._held = self._held.partition(b"\0")
        message = json.loads(message)
        if "method" in message:
            self.events = self.events[-1_000:] + [message]
        return message


@contextlib.contextmanager
def _pipe(program, profile):
    command = [
        program,
        "--headless=new",
        # Root has no sandbox to enter; what is opened is our own page on loopback.
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--no-first-run",
        f"--user-data-dir={profile}",
        "--remote-debugging-pipe",
        "about:blank",
    ]
    # Out of the way of 3 and 4, where Chromium expects its ends.
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for pair in (os.pipe(), os.pipe()) for end in _closing(pair)]
    (its_read, our_write), (our_read, its_write) = ends[:2], ends[2:]

    def place():
        os.dup2(its_read, 3)
        os.dup2(its_write, 4)

    running = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, close_fds=False, preexec_fn=place
    )
    os.close(its_read)
    os.close(its_write)
    try:
        yield _Pipe(our_write, our_read)
    finally:
        os.close(our_write)
        os.close(our_read)
        running.terminate()
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def _closing(pair):
    """Each of two ends; closed once it was copied."""
    for end in pair:
        yield end
        os.close(end)
