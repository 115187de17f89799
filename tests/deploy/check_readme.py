"""Runs the README's commands as a new user would: each ```sh block in order, in a shell of its own.

A block after `<!-- not run by the tests: REASON -->` is only read. `cargo run --release --` stands for the binary in
WEIR_BIN, and so does `weir`: the suite before has built it.
"""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
BLOCK = re.compile(r"(<!-- not run by the tests: [^>]+ -->\n+)?^```sh\n(.*?)^```$", re.M | re.S)
SECONDS = 120


def main() -> int:
    blocks = BLOCK.findall(README.read_text())
    if not any(not skipped for skipped, _ in blocks):
        print("README.md has no ```sh block that the tests run", file=sys.stderr)
        return 1
    failures = 0
    with tempfile.TemporaryDirectory() as directory:
        shims(pathlib.Path(directory))
        # As a newcomer has it: without a key for the API.
        kept = lambda name: not name.startswith(("WEIR_", "OPENAI_"))  # noqa: E731
        environment = {name: value for name, value in os.environ.items() if kept(name)}
        environment |= {
            "PATH": f"{directory}{os.pathsep}{environment['PATH']}",
        }
        for skipped, block in blocks:
            if skipped:
                continue
            status, output = run(block, environment)
            if status != 0:
                failures += 1
                print(f"README.md: this block ends with {status}:\n{block}\n--- it said\n{output[-4000:]}", file=sys.stderr)
    print(f"README.md: {len(blocks)} blocks, {sum(not skipped for skipped, _ in blocks)} run, {failures} failed")
    return 1 if failures else 0


def run(block, environment):
    """Status and output; whatever the block left running ends with it."""
    with tempfile.TemporaryFile() as output:
        shell = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = shell.wait(SECONDS)
        except subprocess.TimeoutExpired:
            status = f"no end after {SECONDS} s"
        finally:
            end_group(shell)
        output.seek(0)
        return status, output.read().decode(errors="replace")


def end_group(shell):
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(shell.pid, number)
            shell.wait(2)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass


def shims(directory):
    """`weir` and `cargo run --release --`, as programs."""
    binary = pathlib.Path(os.environ["WEIR_BIN"]).resolve()
    (directory / "weir").symlink_to(binary)
    real = shutil.which("cargo") or "/bin/false"
    cargo = directory / "cargo"
    cargo.write_text(
        f'#!/bin/sh\nif [ "$1 $2 $3" = "run --release --" ]; then shift 3; exec "{binary}" "$@"; fi\nexec "{real}" "$@"\n'
    )
    cargo.chmod(0o755)


if __name__ == "__main__":
    sys.exit(main())
