"""The content of each package besides the binary: completions, man pages, licenses, configurations and the bill of materials."""

import functools
import gzip
import os
import pathlib
import subprocess
import tempfile

import sbom
from source import ROOT, TARGET

# A crate's files of these names hold its license.
LICENSE_FILES = ("license*", "licence*", "copying*", "copyright*", "notice*", "unlicense*")
COMPLETIONS = {"bash": "weir", "zsh": "_weir", "fish": "weir.fish"}


@functools.cache
def completions(binary: pathlib.Path) -> dict[str, bytes]:
    """By shell and file name, `bash/weir`; the binary must run on this machine."""
    return {
        f"{shell}/{name}": subprocess.run([binary, "completions", shell], check=True, capture_output=True).stdout
        for shell, name in COMPLETIONS.items()
    }


@functools.cache
def man_pages() -> dict[str, bytes]:
    """By name, `weir.1.gz`. The tests build the program that writes them anyway."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            ["cargo", "run", "--locked", "--quiet", "--example", "man", "--", folder],
            cwd=ROOT, check=True, env={**os.environ, "CARGO_TARGET_DIR": str(TARGET)},
        )
        return {
            f"{page.name}.gz": gzip.compress(page.read_bytes(), mtime=0) for page in sorted(pathlib.Path(folder).iterdir())
        }


@functools.cache
def bill() -> bytes:
    return sbom.sbom()


@functools.cache
def third_party_licenses() -> bytes:
    """The license texts of what the binary contains; a text that several crates share stands once."""
    packages = sbom.metadata()
    texts: dict[str, list[str]] = {}
    for name, version in sorted(sbom.shipped_packages()):
        if name == "weir":
            continue
        package = packages[name, version]
        folder = pathlib.Path(package["manifest_path"]).parent
        files = [file for file in sorted(folder.iterdir()) if any(file.name.lower().startswith(one[:-1]) for one in LICENSE_FILES)]
        for file in files:
            if file.is_file():
                texts.setdefault(file.read_text(errors="replace").strip(), []).append(f"{name} {version}")
        if not files:
            texts.setdefault(f"Licensed under {package['license']}; the package holds no text of it.", []).append(f"{name} {version}")
    parts = [f"{', '.join(dict.fromkeys(crates))}\n\n{text}\n" for text, crates in texts.items()]
    return ("Weir contains these packages, under these licenses.\n\n" + f"\n{'=' * 100}\n".join(["", *parts])).encode()


def licenses() -> dict[str, bytes]:
    return {"LICENSE": (ROOT / "LICENSE").read_bytes(), "THIRD-PARTY-LICENSES": third_party_licenses()}


def configurations() -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((ROOT / "config").iterdir())}
