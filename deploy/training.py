#!/usr/bin/env python3
"""Sends through Weir what services send: the traffic that `deploy/build.py` optimizes the shipped binary for.

    deploy/training.py             # WEIR_BIN, or the newest of target/release/weir and target/debug/weir

Most of it is JSON and streams over HTTP/1.1, plain and with TLS; then HTTP/2 on both sides, errors that are retried, and
requests that wait for their turn. Every answer is checked. The upstream is `weir simulate`. Needs openssl for a certificate.
"""

import concurrent.futures
import contextlib
import http.client
import json
import os
import pathlib
import shutil
import ssl
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "outside"))
import processes  # noqa: E402

CALLERS = 8
KEY = "weir-training-0123456789abcdef"
CONFIG = """
[server]
workers = 1
[upstream]
credential = "env:TRAINING_UPSTREAM_KEY"
{upstream}
[log]
access = {access}
[[callers]]
name = "training"
key = "env:TRAINING_CALLER_KEY"
[shutdown]
drain_delay = "0s"
"""
ENVIRONMENT = {"TRAINING_UPSTREAM_KEY": "upstream", "TRAINING_CALLER_KEY": KEY}
UNLIMITED = ("--rpm", "60000000", "--tpm", "4000000000")
HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "gzip, deflate",
    "Content-Type": "application/json",
    "Authorization": f"Bearer {KEY}",
    "User-Agent": "OpenAI/Python 2.8.0",
    "X-Stainless-Lang": "python",
    "X-Stainless-Package-Version": "2.8.0",
    "X-Stainless-OS": "Linux",
    "X-Stainless-Retry-Count": "0",
    "X-Stainless-Read-Timeout": "600",
}
QUESTION = "What does a weir do to a river, and why would anybody build one? «Ein Wehr» \\ \"one\" has a crest.\n"
TOOL = {
    "type": "function",
    "function": {
        "name": "get_level",
        "description": "The level of a river at a gauge",
        "parameters": {"type": "object", "properties": {"gauge": {"type": "string"}}, "required": ["gauge"]},
    },
}


def chat(turns: int, **more) -> tuple[str, dict]:
    messages = [{"role": "system", "content": "You answer in one short sentence."}]
    messages += [{"role": ("user", "assistant")[turn % 2], "content": QUESTION * (1 + turn % 4)} for turn in range(turns)]
    return "/v1/chat/completions", {"model": "gpt-4o-mini", "messages": messages, "max_completion_tokens": 64, **more}


# What one caller sends over and over, of which each is counted once in a number of rounds.
REQUESTS = (
    (1, chat(1, temperature=0.2)),
    (1, chat(3)),
    (2, chat(9, tools=[TOOL], user="user-1234")),
    (4, chat(41)),
    (4, ("/v1/responses", {"model": "gpt-4o-mini", "input": QUESTION, "max_output_tokens": 64, "store": False})),
    (4, ("/v1/embeddings", {"model": "text-embedding-3-small", "input": [QUESTION, QUESTION * 3]})),
    (8, ("/v1/models", None)),
)


class Caller:
    """One service with one connection that it keeps."""

    def __init__(self, url: str, trust: ssl.SSLContext | None = None):
        scheme, _, address = url.partition("://")
        host, _, port = address.partition(":")
        kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
        options = {"context": trust} if scheme == "https" else {}
        self.connection = kind(host, int(port), timeout=60, **options)

    def call(self, request: tuple[str, dict | None], status: int = 200, **headers: str) -> None:
        path, body = request
        text = None if body is None else json.dumps(body)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request("GET" if body is None else "POST", path, text, {**HEADERS, **names})
        answer = self.connection.getresponse()
        received = answer.read()
        if answer.status != status or not received:
            raise SystemExit(f"{path}: {answer.status} instead of {status}: {received[:300]!r}")
        if body and body.get("stream") and b"[DONE]" not in received:
            raise SystemExit(f"{path}: a stream without its end: {received[-300:]!r}")

    def mixed(self, rounds: int) -> None:
        for turn in range(rounds):
            for every, request in REQUESTS:
                if turn % every == 0:
                    self.call(request)

    def streams(self, count: int) -> None:
        for turn in range(count):
            self.call(chat(1 + turn % 4, stream=True, stream_options={"include_usage": True}), Accept_Encoding="identity")

    def errors(self, count: int) -> None:
        """Failures that are retried until they are over, and those that are the caller's own."""
        for turn in range(count):
            job = f"{os.getpid()}-{id(self)}-{turn}"
            for fault in ("status=503", "error=engine_overloaded_error; retry-after-ms=20"):
                self.call(chat(1), X_Simulate=f"{fault}; times=1", X_Job_Id=f"{job}-{fault[:12]}")
            self.call(chat(1), 400, X_Simulate="status=400")

    def one_by_one(self, count: int) -> None:
        for _ in range(count):
            self.call(chat(1))


def at_once(url: str, work, trust: ssl.SSLContext | None = None, callers: int = CALLERS) -> None:
    """The same work by a number of callers at once; the first failure is raised."""
    with concurrent.futures.ThreadPoolExecutor(callers) as threads:
        for done in [threads.submit(work, Caller(url, trust)) for _ in range(callers)]:
            done.result()


@contextlib.contextmanager
def weir(upstream: str, more: str = "", parts: str = "", access: bool = False):
    """A Weir with `more` in its part of the upstream, and more `parts` after it."""
    config = CONFIG.format(upstream=more, access=str(access).lower()) + parts
    with processes.weir(upstream, config, environment=ENVIRONMENT) as running:
        yield running


def plain(upstream: str) -> None:
    with weir(upstream) as running:
        at_once(running.url, lambda caller: caller.mixed(100))
        at_once(running.url, lambda caller: caller.streams(40))
        at_once(running.url, lambda caller: caller.errors(2))
        for _ in range(20):
            running.metrics()


def logged(upstream: str) -> None:
    with weir(upstream, access=True) as running:
        at_once(running.url, lambda caller: caller.mixed(30))


def waiting(upstream: str) -> None:
    """More at once than the limit lets through: 320 of 40 callers at 60 a second."""
    limits = "[limits]\nrequests_per_minute = 3600\ntokens_per_minute = 4000000\n"
    with weir(upstream, parts=limits) as running:
        at_once(running.url, lambda caller: caller.one_by_one(8), callers=40)


def encrypted(upstream: str, certificate: str, key: str) -> None:
    """TLS to the upstream over HTTP/1.1; then from the caller through two of them, HTTP/2 between the two."""
    trusted = f'[upstream.tls]\nroots = "file:{certificate}"\n'
    with weir(upstream, trusted) as running:
        at_once(running.url, lambda caller: caller.mixed(80))
        at_once(running.url, lambda caller: caller.streams(15))
    listener = f'[server.tls]\ncert = "{certificate}"\nkey = "{key}"\n'
    with weir(upstream, trusted, listener) as inner:
        address = inner.url.replace("http:", "https:")
        with weir(address, f"http2 = true\n{trusted}", listener) as outer:
            trust = ssl.create_default_context(cafile=certificate)
            url = outer.url.replace("http:", "https:")
            at_once(url, lambda caller: caller.mixed(40), trust)
            at_once(url, lambda caller: caller.streams(8), trust)


def simulator(*options: str):
    # The same program as what is trained, but nothing to learn from.
    uncounted = {"LLVM_PROFILE_FILE": os.devnull}
    return processes.simulator(*UNLIMITED, "--output-tokens", "48", *options, environment=uncounted)


def certify(folder: pathlib.Path) -> tuple[str, str]:
    if shutil.which("openssl") is None:
        raise SystemExit("openssl is missing: it makes the certificate for the part with TLS")
    certificate, key = str(folder / "tls.crt"), str(folder / "tls.key")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=weir training", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


def main() -> None:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = certify(pathlib.Path(folder))
        with simulator() as upstream:
            plain(upstream)
            logged(upstream)
            waiting(upstream)
        with simulator("--tls-cert", certificate, "--tls-key", key) as upstream:
            encrypted(upstream.replace("http:", "https:"), certificate, key)
    print(f"every answer was as it should be, in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
