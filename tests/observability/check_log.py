"""Runs a live Weir through every kind of error and checks its traces: access log, reports, command line.

    python3 tests/observability/check_log.py

Each request carries a key and a prompt of its own; neither may appear in the log, the reports, the page or the metrics.
"""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "outside"))

import processes  # noqa: E402

KEY = "sk-proj-do-not-log-0123456789abcdefghij"
PROMPT = "the merger with Umbrella is confidential"
CONFIG = """
[log]
level = "{level}"
format = "{format}"
sample = {sample}
{log}

[admission]
max_wait = "3s"

[outage]
max_wait = "1s"

[shutdown]
drain_delay = "0s"
drain_timeout = "1s"

[report]
{report}

[metrics]
models = ["gpt-4o*"]

[[callers]]
name = "search"
header = {{ name = "x-team", value = "search" }}
"""

# Fields of every line, with their types; None where nothing is known is allowed too.
FIELDS = {
    "timestamp": str,
    "level": str,
    "target": str,
    "request_id": str,
    "caller": str,
    "endpoint": str,
    "model": (str, type(None)),
    "outcome": str,
    "status": (int, type(None)),
    "duration_ms": (int, float),
    "queue_ms": (int, float),
    "overhead_ms": (int, float, type(None)),
    "deadline_left_ms": (int, float, type(None)),
    "stream": bool,
    "bytes_in": int,
    "bytes_out": int,
    "tokens_estimated": (int, type(None)),
    "tokens_charged": (int, type(None)),
    "tokens_input": (int, type(None)),
    "tokens_cached": (int, type(None)),
    "tokens_output": (int, type(None)),
    "attempt_count": int,
    "attempts": list,
}
ATTEMPT_FIELDS = {
    "outcome": str,
    "status": (int, type(None)),
    "delay_ms": (int, float),
    "start_ms": (int, float),
    "time_to_head_ms": (int, float, type(None)),
    "upstream_request_id": (str, type(None)),
}
ERRORS = {
    # What the simulator is asked for: the class that the log must name, and the status that the caller must get.
    "error=invalid_api_key": ("authentication_incorrect_key", 401),
    "error=invalid_authentication": ("authentication_invalid", 401),
    "error=no_organization": ("authentication_no_organization", 401),
    "error=ip_not_authorized": ("authentication_ip_denied", 401),
    "error=context_length_exceeded": ("context_length_exceeded", 400),
    "error=model_not_found_400": ("model_not_found", 400),
    "error=invalid_value": ("bad_request", 400),
}


def main() -> int:
    with tempfile.TemporaryDirectory() as directory, processes.simulator("--rpm", "6000", "--tpm", "2M") as upstream:
        directory = pathlib.Path(directory)
        whole(upstream, directory)
        sampled_and_off(upstream, directory)
        for_people(upstream, directory)
        wrong_base_url(upstream, directory)
        # Of its own: a simulator counts the attempts of a job over all who ask.
        with processes.simulator() as fresh:
            step_by_step(fresh, directory)
    print("log: 0 problems")
    return 0


def whole(upstream, directory):
    """Everything is told, nothing is betrayed."""
    with running(upstream, directory, report='headers = ["user-agent", "x-team"]') as weir:
        expect(ask(weir, "gpt-4o-mini"), 200)
        expect(ask(weir, "gpt-4o-mini", stream=True), 200)
        expect(ask(weir, "gpt-4o-mini", simulate="error=server_error; times=1"), 200)
        for simulate, (_, status) in ERRORS.items():
            expect(ask(weir, "gpt-4o-mini", simulate=simulate), status)
        expect(ask(weir, "not-listed", simulate=None), 200)
        lines = await_lines(weir, 4 + len(ERRORS))
        admin = "\n".join(get(f"{weir.admin}{path}") for path in ("/", "/status", "/reports", "/metrics", "/config"))
        last = command("report", "last", "--admin", weir.admin.removeprefix("http://"))
        table = command("status", "--admin", weir.admin.removeprefix("http://"), columns="72")
        shown = json.loads(command("status", "--json", "--admin", weir.admin.removeprefix("http://")))
        watched = watch(weir)
        metrics = weir.metrics()
        log = weir.log.read_text()

    for line in lines:
        has_fields(line, FIELDS)
        for attempt in line["attempts"]:
            has_fields(attempt, ATTEMPT_FIELDS)
        assert line["attempt_count"] == len(line["attempts"]) >= 1, line
        assert re.fullmatch(r"weir_[0-9a-f]{32}", line["request_id"]), line
        assert all(attempt["upstream_request_id"] for attempt in line["attempts"] if attempt["status"]), line
        assert line["caller"] == "search" and line["endpoint"] == "chat_completions", line
        assert line["bytes_in"] > 100 and line["bytes_out"] > 50, line
        assert line["deadline_left_ms"] is not None and line["deadline_left_ms"] > 0, line
    first, streamed, retried = lines[:3]
    assert first["outcome"] == "success" and first["tokens_output"] > 0 and first["tokens_input"] > 0, first
    assert first["tokens_estimated"] > 0 and first["tokens_charged"] is not None, first
    assert not first["stream"] and streamed["stream"], (first, streamed)
    assert retried["attempts"][0]["outcome"] == "internal_server_error", retried
    assert retried["attempt_count"] == 2 and retried["attempts"][1]["outcome"] == "success", retried
    assert retried["attempts"][1]["start_ms"] >= retried["attempts"][1]["delay_ms"] > 0, retried
    for line, (simulate, (name, status)) in zip(lines[3:], ERRORS.items()):
        assert (line["error_class"], line["status"]) == (name, status), (simulate, line)
        assert line["error_message"], line

    for place, text in {"log": log, "admin": admin, "report": last, "status": table, "watch": watched}.items():
        for secret in (KEY, KEY[10:], PROMPT, "Umbrella"):
            assert secret not in text, f"{secret!r} is in the {place}"
    assert re.search(r"^Model\s+gpt-4o-mini$", last, re.M) and "Request data is not kept" in last, last
    assert "user-agent: " in last and "x-team" not in last and "authorization" not in last.lower(), last
    assert re.search(r"\(UTC\)$", last, re.M) and "x-request-id req" in last, last
    assert 'model="gpt-4o-mini"' in metrics and 'model="not-listed"' not in metrics, "metrics.models lists who gets series"
    assert max(map(len, table.splitlines())) <= 72 or "→" in table, table
    assert shown["findings"][0]["level"] in ("warning", "critical"), shown["findings"]
    assert shown["requests_last_minute"] == 4 + len(ERRORS), shown["requests_last_minute"]
    assert watched.count("Weir 0.") >= 2, f"--watch prints again and again: {watched!r}"


def sampled_and_off(upstream, directory):
    """Sampling spares what succeeded, never what failed; unmasked messages and request data are what was asked for."""
    with running(upstream, directory, sample=0, log="mask_messages = false", report="request_data = true") as weir:
        for _ in range(5):
            expect(ask(weir, "gpt-4o-mini"), 200)
        expect(ask(weir, "gpt-4o-mini", simulate="error=invalid_value"), 400)
        [line] = await_lines(weir, 1)
        report = command("report", "last", "--admin", weir.admin.removeprefix("http://"))
    assert line["error_class"] == "bad_request" and "'messages[3]'" in line["error_message"], line
    assert PROMPT in report and KEY not in report, report
    with running(upstream, directory, level="error", log="access = false") as weir:
        expect(ask(weir, "gpt-4o-mini", simulate="error=invalid_value"), 400)
        time.sleep(0.3)
        log = weir.log.read_text()
    assert log == "", log


def for_people(upstream, directory):
    """Text, and what to set."""
    with running(upstream, directory, format="text") as weir:
        expect(ask(weir, "gpt-4o-mini", simulate="error=invalid_api_key"), 401)
        time.sleep(0.3)
        log = weir.log.read_text()
    assert f"OPENAI_BASE_URL={weir.url}/v1" in log and f"{weir.admin}/" in log, log
    assert re.search(r"^\d\d:\d\d:\d\d\.\d{3} 401 upstream_error search chat_completions gpt-4o-mini .*\[authentication_incorrect_key\]", log, re.M), log
    assert KEY not in log and PROMPT not in log, log


def wrong_base_url(upstream, directory):
    """A base URL with a mistake shows in the log and in the report: nothing else would name the path."""
    with running(upstream, directory) as weir:
        expect(ask(weir, "gpt-4o-mini", prefix="/v1"), 404)
        [line] = await_lines(weir, 1)
        report = command("report", "last", "--admin", weir.admin.removeprefix("http://"))
        with contextlib.suppress(OSError):
            urllib.request.urlopen(weir.url.replace("http://", "https://"), timeout=5)
        give_up = time.monotonic() + 10
        while "a client speaks TLS, and this listener does not" not in weir.log.read_text():
            assert time.monotonic() < give_up, "TLS on the plain port is not named"
            time.sleep(0.05)
    assert line["error_path"] == "/v1/v1/chat/completions", line
    assert re.search(r"^Endpoint\s+\w+: /v1/v1/chat/completions$", report, re.M), report


def step_by_step(upstream, directory):
    """`RUST_LOG` shows a request's steps, each with the ids of its request and attempt, and no key."""
    with running(upstream, directory, variables={"RUST_LOG": "weir::proxy=debug"}) as weir:
        expect(ask(weir, "gpt-4o-mini", simulate="error=server_error; times=1"), 200)
        [line] = await_lines(weir, 1)
        log = weir.log.read_text()
    steps = [event for event in map(json.loads, log.splitlines()) if event["target"].startswith("weir::proxy")]
    assert [step["message"] for step in steps] == [
        "admitted", "the attempt failed", "tries again", "admitted", "the attempt succeeded"
    ], steps
    for step in steps:
        assert step["spans"][0] == {
            "name": "request", "id": line["request_id"], "caller": "search", "endpoint": "chat_completions"
        }, step
    assert KEY not in log and PROMPT not in log, log


class Running(processes.Weir):
    log: pathlib.Path


@contextlib.contextmanager
def running(upstream, directory, level="info", format="json", sample=1, log="", report="", variables=None):
    """A Weir whose log can be read while it runs."""
    port, admin = processes.free_port(), processes.free_port()
    config, output = directory / "weir.toml", directory / "weir.log"
    config.write_text(CONFIG.format(level=level, format=format, sample=float(sample), log=log, report=report))
    addresses = ["--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
    with output.open("w") as log_file:
        weir = subprocess.Popen(
            [processes.binary(), "--upstream", upstream, *addresses, "--config", str(config)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log_file, env=inherited | (variables or {}),
        )
        try:
            for each in (port, admin):
                processes.wait_for(each, weir)
            started = Running(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}")
            object.__setattr__(started, "log", output)
            yield started
        except BaseException:
            print(f"--- the log\n{output.read_text()[-4000:]}---")
            raise
        finally:
            processes.end(weir)


def ask(weir, model, simulate=None, stream=False, prefix=""):
    body = {"model": model, "messages": [{"role": "user", "content": PROMPT}]}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}", "x-team": "search"}
    if simulate:
        headers |= {"x-simulate": simulate, "x-job-id": "one"}
    message = urllib.request.Request(f"{weir.url}{prefix}/v1/chat/completions", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(message, timeout=30) as answer:
            answer.read()
            return answer.status
    except urllib.error.HTTPError as error:
        error.read()
        return error.code


def expect(status, expected):
    assert status in (expected if isinstance(expected, tuple) else (expected,)), (status, expected)


def await_lines(weir, count):
    """The access log's lines, once there is the given number of them: the log is written by a thread of its own."""
    give_up = time.monotonic() + 10
    while True:
        events = [json.loads(line) for line in weir.log.read_text().splitlines()]
        lines = [event for event in events if event["target"] == "weir::access"]
        if len(lines) >= count:
            assert len(lines) == count, lines
            return lines
        assert time.monotonic() < give_up, f"only {len(lines)} of {count} lines came"
        time.sleep(0.05)


def has_fields(line, fields):
    for name, kind in fields.items():
        assert name in line and isinstance(line[name], kind), f"{name} is missing or of another type in {line}"


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def command(*words, columns="100"):
    finished = subprocess.run(
        [processes.binary(), *words], capture_output=True, text=True, timeout=30, env={**os.environ, "COLUMNS": columns}
    )
    assert finished.returncode == 0, (words, finished.stderr)
    return finished.stdout


def watch(weir):
    """What `weir status --watch` prints in a few seconds."""
    words = [processes.binary(), "status", "--watch", "1", "--admin", weir.admin.removeprefix("http://")]
    watching = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(2.5)
    watching.send_signal(signal.SIGINT)
    return watching.communicate(timeout=10)[0]


if __name__ == "__main__":
    sys.exit(main())
