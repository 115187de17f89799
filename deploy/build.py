#!/usr/bin/env python3
"""Builds the binary that is shipped: once to see which ways real traffic takes, and again with these ways made short.

    deploy/build.py                                               # leaves target/shipped/weir
    deploy/build.py --target x86_64-unknown-linux-musl            # a static one: target/shipped/TARGET/weir
    deploy/build.py --target aarch64-unknown-linux-musl --untrained

It takes three times as long as `cargo build --profile dist`; a binary that can't run here is built without the training.

The traffic is that of `deploy/training.py`. What the first binary counted is merged by the llvm-profdata of the compiler's own
version: `rustup component add llvm-tools`, or name one in LLVM_PROFDATA. Another target needs `rustup target add TARGET`; musl on
this machine's processor needs musl-gcc too (Debian's musl-tools), another processor `pip install cargo-zigbuild ziglang`. (zig
can't link the counting binary: it takes the symbol after `-u` for a file.)
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
COUNTS = TARGET / "training"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", help="the target triple, where it is not this machine's")
    parser.add_argument("--untrained", action="store_true", help="for a target that can't run here")
    options = parser.parse_args()
    version = dict(line.split(": ", 1) for line in output("rustc", "-vV").splitlines() if ": " in line)
    target = options.target or version["host"]
    require(target, version["host"], options.untrained)
    if options.untrained:
        built = build(target, version["host"], "untrained", "")
    else:
        built = trained(target, version["host"])
    shipped = TARGET / "shipped" / (options.target or "") / "weir"
    shipped.parent.mkdir(parents=True, exist_ok=True)
    # Beside it, then in its place: a binary that runs can't be written to, but it can be replaced.
    fresh = shipped.with_suffix(".new")
    shutil.copy2(built, fresh)
    os.replace(fresh, shipped)
    print(f"{shipped}: {shipped.stat().st_size / 1e6:.1f} MB")


def require(target: str, host: str, untrained: bool) -> None:
    """Ends with what to install or to write, before minutes of building."""
    found = subprocess.run(["rustc", "--print", "target-libdir", "--target", target], capture_output=True, text=True, check=False)
    if found.returncode != 0:
        raise SystemExit(f"the compiler knows no target {target!r}: `rustc --print target-list`")
    if not any(pathlib.Path(found.stdout.strip()).glob("libcore-*.rlib")):
        raise SystemExit(f"the standard library for {target} is missing: `rustup target add {target}`")
    if processor(target) != processor(host):
        if not untrained:
            raise SystemExit(f"a binary for {processor(target)} can't be trained on {processor(host)}: --untrained")
        if not shutil.which("cargo-zigbuild"):
            raise SystemExit("another processor's linker is missing: `pip install cargo-zigbuild ziglang`")
    elif "musl" in target and not shutil.which("musl-gcc"):
        raise SystemExit("musl-gcc is missing: Debian's musl-tools")


def trained(target: str, host: str) -> pathlib.Path:
    """Builds, lets the binary serve the traffic, and builds again."""
    merge = llvm_profdata(host)
    shutil.rmtree(COUNTS, ignore_errors=True)
    counting = build(target, host, "counting", f"-Cprofile-generate={COUNTS}")
    environment = {**os.environ, "WEIR_BIN": str(counting), "LLVM_PROFILE_FILE": f"{COUNTS}/%p.profraw"}
    run([sys.executable, str(ROOT / "deploy" / "training.py")], environment)
    counts = sorted(map(str, COUNTS.glob("*.profraw")))
    if not counts:
        raise SystemExit(f"the training left no counts in {COUNTS}")
    merged = COUNTS / "weir.profdata"
    run([merge, "merge", f"--output={merged}", *counts])

    # From the beginning: cargo doesn't see that the counts in a file are others.
    shutil.rmtree(TARGET / "trained", ignore_errors=True)
    return build(target, host, "trained", f"-Cprofile-use={merged}")


def llvm_profdata(host: str) -> str:
    """The path of the tool that merges counts."""
    if named := os.environ.get("LLVM_PROFDATA"):
        return named
    tool = pathlib.Path(output("rustc", "--print", "sysroot"), "lib", "rustlib", host, "bin", "llvm-profdata")
    if not tool.exists():
        raise SystemExit(f"{tool} is missing: `rustup component add llvm-tools`, or name one in LLVM_PROFDATA")
    return str(tool)


def build(target: str, host: str, folder: str, flag: str) -> pathlib.Path:
    """Builds with the flag for what runs on the target, not for what runs during the build."""
    flags = f"{os.environ.get('RUSTFLAGS', '')} {flag}".strip()
    build = "build" if processor(target) == processor(host) else "zigbuild"
    command = ["cargo", build, "--locked", "--profile", "dist", "--bin", "weir", "--target", target]
    run([*command, "--target-dir", str(TARGET / folder)], {**os.environ, "RUSTFLAGS": flags})
    return TARGET / folder / target / "dist" / "weir"


def processor(triple: str) -> str:
    return triple.split("-")[0]


def output(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def run(command: list[str], environment: dict[str, str] | None = None) -> None:
    print(f"+ {' '.join(command[:8])}{' …' if len(command) > 8 else ''}", flush=True)
    if (ended := subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode) != 0:
        raise SystemExit(f"{command[0]} ended with {ended}")


if __name__ == "__main__":
    main()
