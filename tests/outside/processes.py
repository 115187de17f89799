"""Starts Weir and the simulator as a user would, on ports of their own, and ends what it started.

The binary is WEIR_BIN, or the newest of target/release/weir and target/debug/weir.
"""

import contextlib
import dataclasses
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Start to first answer is a matter of milliseconds; a machine that is busy with a build needs longer.
READY_WITHIN = 20.0
END_WITHIN = 20.0
# Every key that the suites use looks like this; whatever a process prints, none may be in it.
KEY = re.compile(rb"sk-[A-Za-z0-9_-]{12,}")

# A suite that is told to end still ends what it started.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


@dataclasses.dataclass(frozen=True)
class Weir:
    """A running Weir: where callers and where people reach it."""

    url: str
    admin: str

    def metrics(self) -> str:
        with urllib.request.urlopen(f"{self.admin}/metrics", timeout=5) as response:
            return response.read().decode()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the series of this name that bear these labels."""
        total, found = 0.0, False
        for line in self.metrics().splitlines():
            series, _, value = line.rpartition(" ")
            if series.partition("{")[0] == name and all(f'{key}="{text}"' in series for key, text in labels.items()):
                total, found = total + float(value), True
        if not found:
            raise LookupError(f"no series {name} with {labels}")
        return total


def binary() -> str:
    """The Weir to test."""
    if named := os.environ.get("WEIR_BIN"):
        return named
    built = [path for profile in ("release", "debug") if (path := ROOT / "target" / profile / "weir").exists()]
    if not built:
        raise SystemExit("no weir in target/: build it with `cargo build`, or name one in WEIR_BIN")
    return str(max(built, key=lambda path: path.stat().st_mtime))


@contextlib.contextmanager
def simulator(*options: str, environment: dict[str, str] | None = None):
    """A simulator of the API; yields its base URL without /v1."""
    port = free_port()
    command = [binary(), "simulate", "--listen", f"127.0.0.1:{port}", *options]
    with process(command, ports=[port], environment=environment):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def weir(upstream: str | None, config: str | None = None, environment: dict[str, str] | None = None):
    """A Weir before `upstream`, or before those of the configuration; yields a `Weir`."""
    port, admin = free_port(), free_port()
    command = [binary(), "run", "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"]
    if upstream is not None:
        command += ["--upstream", upstream]
    with contextlib.ExitStack() as stack:
        if config is not None:
            file = stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".toml"))
            file.write(config)
            file.flush()
            command += ["--config", file.name]
        stack.enter_context(process(command, ports=[port, admin], environment=environment))
        yield Weir(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}")


@contextlib.contextmanager
def process(command, ports=(), environment=None, quiet=False):
    """A process that listens on `ports`; it is ended with the block, first by SIGTERM."""
    # What this shell sets for Weir is not what the test means.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
    with tempfile.TemporaryFile() as output:
        running = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env={**inherited, **(environment or {})}
        )
        failed = True
        try:
            for port in ports:
                wait_for(port, running)
            yield running
            failed = False
        finally:
            end(running)
            if failed and not quiet:
                output.seek(0)
                print(f"--- {' '.join(map(str, command))}\n{output.read()[-4000:].decode(errors='replace')}---")
        output.seek(0)
        for line in output:
            if found := KEY.search(line):
                raise AssertionError(f"{command[0]} printed a key: {line[: found.start()].decode(errors='replace')}…")


def wait_for(port: int, running: subprocess.Popen) -> None:
    give_up = time.monotonic() + READY_WITHIN
    while time.monotonic() < give_up:
        if running.poll() is not None:
            raise RuntimeError(f"{running.args[0]} ended with {running.returncode} before it listened")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"{running.args[0]} does not listen on {port} after {READY_WITHIN:.0f} s")


def end(running: subprocess.Popen) -> None:
    running.terminate()
    try:
        running.wait(END_WITHIN)
    except subprocess.TimeoutExpired:
        running.kill()
        running.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
