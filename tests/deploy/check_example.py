#!/usr/bin/env python3
"""Runs examples/layers.rs against the simulator, whose limit its 80 calls exceed.

    python3 tests/deploy/check_example.py     # after `cargo build --examples`, which `cargo test` does
"""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "outside"))
import processes  # noqa: E402


def main() -> int:
    example = ROOT / "target" / "debug" / "examples" / "layers"
    if not example.exists():
        print(f"{example} is missing: run `cargo build --examples`")
        return 1
    with processes.simulator("--rpm", "600", "--shape", "bucket:1s") as url:
        environment = os.environ | {"OPENAI_BASE_URL": f"{url}/v1"}
        ran = subprocess.run([example], env=environment, stdout=subprocess.PIPE, text=True, timeout=100)
    print(ran.stdout, end="")
    return 0 if ran.returncode == 0 and "80 of 80 calls answered" in ran.stdout else 1


if __name__ == "__main__":
    sys.exit(main())
