"""weir-VERSION-MACHINE-linux.tar.gz: the binary and what belongs beside it, for any Linux where the binary is static."""

import pathlib

import contents
from source import ROOT, VERSION, Binary, tar_gz


def build(binary: Binary, runs_here: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    name = f"weir-{VERSION}-{binary.machine.linux}-linux"
    files = {"weir": (binary.bytes, 0o755), "README.md": ((ROOT / "README.md").read_bytes(), 0o644)}
    for folder, found in {
        "": contents.licenses(),
        "completions/": contents.completions(runs_here),
        "man/": contents.man_pages(),
        "config/": contents.configurations(),
    }.items():
        files |= {f"{folder}{file}": (content, 0o644) for file, content in found.items()}
    files["weir.cdx.json"] = (contents.bill(), 0o644)
    path = out / f"{name}.tar.gz"
    path.write_bytes(tar_gz({f"{name}/{file}": content for file, content in files.items()}))
    return path
