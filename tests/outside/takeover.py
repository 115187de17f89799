"""Replaces a running Weir by another one repeatedly under traffic, by `server.takeover`.

    python3 tests/outside/takeover.py

Every call is on a connection of its own, and none may be refused or lost; streams of three seconds, which outlive the process that they
began in, complete. A successor that can't start changes nothing.
"""

import collections
import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import processes

SUCCESSORS = 5
CLIENTS = 4
CONFIG = """
[server]
listen = "127.0.0.1:{port}"
takeover = "{socket}"
[admin]
listen = "127.0.0.1:{admin}"
[upstream]
url = "{upstream}"
[shutdown]
drain_delay = "5s"
[log]
access = false
"""


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, processes.simulator(
        "--rpm", "none", "--tpm", "none", "--chunk-delay", "50ms", "--output-tokens", "60"
    ) as upstream:
        folder = pathlib.Path(folder)
        socket, config = folder / "takeover.sock", folder / "weir.toml"
        port, admin = processes.free_port(), processes.free_port()
        text = CONFIG.format(port=port, admin=admin, upstream=upstream, socket=socket)
        config.write_text(text)
        successions(folder, config, port, admin, socket)
        socket.write_text("notes")
        said = subprocess.run([processes.binary(), "run", "--config", config], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
        assert said.returncode == 2 and "server.takeover" in said.stderr + said.stdout, said
        assert socket.read_text() == "notes"
    print("takeover: 0 problems")
    return 0


def successions(folder, config, port, admin, socket):
    outcomes, over = collections.Counter(), threading.Event()

    def client():
        while not over.is_set():
            outcomes[call(port)] += 1

    def reader():
        while not over.is_set():
            outcomes[call(port, stream=True)] += 1

    weir = started(folder, config)
    threads = [threading.Thread(target=work, daemon=True) for work in [client] * CLIENTS + [reader] * CLIENTS]
    try:
        processes.wait_for(admin, weir)
        offered = offers(socket)
        assert socket.stat().st_mode & 0o777 == 0o600, oct(socket.stat().st_mode)
        for thread in threads:
            thread.start()
        for _ in range(SUCCESSORS):
            time.sleep(0.5)
            began, old = time.monotonic(), weir
            weir = started(folder, config)
            assert old.wait(processes.END_WITHIN) == 0
            offered = offers(socket, offered)
            print(f"relieved, and done after {time.monotonic() - began:.2f} s")
        # One that can't start: the running one goes on, and can still be relieved.
        broken = folder / "broken.toml"
        broken.write_text(config.read_text() + '[state]\nno = "such table"\n')
        assert started(folder, broken).wait(processes.END_WITHIN) == 2
        late = folder / "late.toml"
        late.write_text(f'state = "{config}"\n' + config.read_text())
        assert started(folder, late).wait(processes.END_WITHIN) != 0, "a state folder that is a file"
        assert weir.poll() is None
        time.sleep(0.5)
        old = weir
        weir = started(folder, config)
        assert old.wait(processes.END_WITHIN) == 0
        time.sleep(0.5)
    finally:
        over.set()
        for thread in threads:
            if thread.ident:
                thread.join()
        processes.end(weir)
    assert not socket.exists(), "the last one removes its socket"
    print(f"{SUCCESSORS + 1} successors: {dict(outcomes)}")
    assert set(outcomes) == {200, "whole"} and outcomes[200] > 100 and outcomes["whole"] > CLIENTS, outcomes


def offers(socket, before=None):
    """Waits until a process listens on a socket of its own for the next one, and gives the file's number."""
    until = time.monotonic() + processes.READY_WITHIN
    while not socket.exists() or socket.stat().st_ino == before:
        assert time.monotonic() < until, "no process can take over"
        time.sleep(0.02)
    return socket.stat().st_ino


def started(folder, config):
    with (folder / "log").open("ab") as log:
        return subprocess.Popen([processes.binary(), "run", "--config", config], stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def call(port, stream=False):
    body = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}], "stream": stream}).encode()
    headers = {"content-type": "application/json", "authorization": "Bearer sk-any"}
    message = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", body, headers)
    try:
        with urllib.request.urlopen(message, timeout=30) as answer:
            text = answer.read()
            if stream:
                return "whole" if text.endswith(b"data: [DONE]\n\n") else "cut"
            return answer.status
    except OSError as error:
        return repr(error)


if __name__ == "__main__":
    sys.exit(main())
