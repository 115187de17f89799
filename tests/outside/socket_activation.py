"""Acts as systemd and as a terminal: holds the listener, starts Weir with it, restarts it repeatedly under traffic, and interrupts it.

    python3 tests/outside/socket_activation.py

Every call is on a connection of its own, and none may be refused or lost: between two processes connections wait in the
kernel's queue. A listener that no setting names is logged and closed, so that its clients do not hang.
"""

import collections
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import processes

RESTARTS = 5
CLIENTS = 4
CONFIG = """
[server]
listen = "127.0.0.1:{port}"
[admin]
listen = "127.0.0.1:{admin}"
[upstream]
url = "{upstream}"
[shutdown]
drain_delay = "0s"
drain_timeout = "5s"
[log]
level = "warn"
access = false
"""


def main() -> int:
    with socket.socket() as listener, processes.simulator("--rpm", "none", "--tpm", "none") as upstream:
        listener.bind(("127.0.0.1", 0))
        listener.listen(4096)
        port, admin = listener.getsockname()[1], processes.free_port()
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
            config.write(CONFIG.format(port=port, admin=admin, upstream=upstream))
            config.flush()
            restarts(listener, port, admin, config.name)
            config.seek(0)
            config.truncate()
            config.write(CONFIG.format(port=processes.free_port(), admin=admin, upstream=upstream))
            config.flush()
            other_address(listener, port, config.name)
            config.seek(0)
            config.truncate()
            config.write(CONFIG.format(port=processes.free_port(), admin=processes.free_port(), upstream=upstream)
                         .replace('drain_delay = "0s"', 'drain_delay = "8s"'))
            config.flush()
            interrupted(config.name)
    print("socket activation: 0 problems")
    return 0


def restarts(listener, port, admin, config):
    outcomes, over = collections.Counter(), threading.Event()

    def client():
        while not over.is_set():
            outcomes[call(port)] += 1

    weir = started(listener, config)
    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    try:
        processes.wait_for(admin, weir)
        for thread in threads:
            thread.start()
        for _ in range(RESTARTS):
            time.sleep(1)
            weir.terminate()
            code = weir.wait(processes.END_WITHIN)
            assert code == 0, f"a drain ends with 0, not {code}"
            time.sleep(0.3)  # As long as systemd takes, in which nobody accepts.
            weir = started(listener, config)
            processes.wait_for(admin, weir)
        time.sleep(1)
    finally:
        over.set()
        for thread in threads:
            thread.join()
        processes.end(weir)
    print(f"{RESTARTS} restarts: {dict(outcomes)}")
    assert set(outcomes) == {200} and outcomes[200] > 100, outcomes


def interrupted(config):
    """Ctrl-C at a terminal: no balancer has to notice, whatever shutdown.drain_delay says."""
    weir = subprocess.Popen([processes.binary(), "run", "--config", config], stdin=subprocess.DEVNULL)
    time.sleep(1)
    began = time.monotonic()
    weir.send_signal(signal.SIGINT)
    assert weir.wait(processes.END_WITHIN) == 0
    assert time.monotonic() - began < 3, "it waited for shutdown.drain_delay"


def other_address(listener, port, config):
    weir = started(listener, config, stderr=subprocess.PIPE)
    _, said = weir.communicate(timeout=processes.END_WITHIN)
    assert weir.returncode == 2 and f"listens at 127.0.0.1:{port}" in said.decode(), (weir.returncode, said)


def started(listener, config, stderr=None):
    """As systemd does it: the listener is descriptor 3, and LISTEN_PID is the process itself."""
    script = f'LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@" 3<&{listener.fileno()}'
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
    return subprocess.Popen(
        ["/bin/sh", "-c", script, processes.binary(), "run", "--config", config],
        pass_fds=[listener.fileno()], stdin=subprocess.DEVNULL, stderr=stderr, env=environment,
    )


def call(port):
    body = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}).encode()
    headers = {"content-type": "application/json", "authorization": "Bearer sk-any"}
    message = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", body, headers)
    try:
        with urllib.request.urlopen(message, timeout=30) as answer:
            answer.read()
            return answer.status
    except OSError as error:
        return repr(error)


if __name__ == "__main__":
    sys.exit(main())
