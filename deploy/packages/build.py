#!/usr/bin/env python3
"""Makes packages of built binaries, under target/packages.

    deploy/packages/build.py --binary target/shipped/weir                         # all kinds, for this machine
    deploy/packages/build.py --binary A --binary B tarball wheel npm deb image    # for two machines, the kinds named

Kinds: tarball, wheel, npm, deb, image (buildah), chart (helm-python-sdk). The first binary must run
on this machine. `deploy/build.py --target x86_64-unknown-linux-musl` builds a static one. SHA256SUMS lists what was made.
"""

import argparse
import pathlib

import debian
import image
import npm
import tarball
import wheel
from source import ROOT, TARGET, read_binary, sha256

KINDS = ("tarball", "wheel", "npm", "deb", "image", "chart")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, action="append", required=True)
    parser.add_argument("--out", type=pathlib.Path, default=TARGET / "packages")
    parser.add_argument("kinds", nargs="*", metavar="KIND")
    options = parser.parse_args()
    if unknown := set(options.kinds) - set(KINDS):
        parser.error(f"no such kind: {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    kinds = options.kinds or KINDS
    binaries = [read_binary(path.resolve()) for path in options.binary]
    runs_here = binaries[0].path
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)

    made = []
    for binary in binaries:
        if "tarball" in kinds:
            made.append(tarball.build(binary, runs_here, out))
        if "wheel" in kinds:
            made.append(wheel.build(binary, out))
        if "deb" in kinds:
            made.append(debian.build(binary, runs_here, out))
    if "npm" in kinds:
        made.append(npm.build(binaries, out))
    if "image" in kinds:
        made.append(image.build(binaries, out))
    if "chart" in kinds:
        made.append(chart(out))
    (out / "SHA256SUMS").write_text("".join(f"{sha256(path.read_bytes())}  {path.name}\n" for path in sorted(made)))
    for path in made:
        print(f"{path.stat().st_size / 1e6:6.2f} MB  {path}")


def chart(out: pathlib.Path) -> pathlib.Path:
    import helm_python

    packaged = pathlib.Path(helm_python.package(str(ROOT / "deploy" / "helm" / "weir"), destination=str(out)))
    return packaged.rename(out / packaged.name.replace("weir-", "weir-chart-"))


if __name__ == "__main__":
    main()
