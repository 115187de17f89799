"""The inputs of packaging: the repository's version, the binary and its architecture; and reproducible archives."""

import dataclasses
import gzip
import hashlib
import io
import os
import pathlib
import re
import subprocess
import tarfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
# Made elsewhere, but from the same commit: the same packages, byte for byte.
EPOCH = int(
    os.environ.get("SOURCE_DATE_EPOCH")
    or subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    or 1_700_000_000
)


def _declared(key: str) -> str:
    return re.search(rf'^{key} = "(.+)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]


VERSION = _declared("version")
DESCRIPTION = _declared("description")
LICENSE = _declared("license")


@dataclasses.dataclass(frozen=True)
class Machine:
    """One kind of processor, by the name that each kind of package gives it."""

    linux: str
    debian: str
    node: str
    oci: str


MACHINES = {
    62: Machine(linux="x86_64", debian="amd64", node="x64", oci="amd64"),
    183: Machine(linux="aarch64", debian="arm64", node="arm64", oci="arm64"),
}


@dataclasses.dataclass(frozen=True)
class Binary:
    """A built `weir`: where it is, for which machine, and whether it needs a C library to be there."""

    path: pathlib.Path
    machine: Machine
    static: bool

    @property
    def bytes(self) -> bytes:
        return self.path.read_bytes()


def read_binary(path: pathlib.Path) -> Binary:
    """Reads the ELF header; a program header of type PT_INTERP names a loader, which a static binary has not."""
    data = path.read_bytes()
    if data[:5] != b"\x7fELF\x02":
        raise SystemExit(f"{path} is not a 64-bit ELF binary")
    number = int.from_bytes(data[18:20], "little")
    if number not in MACHINES:
        raise SystemExit(f"{path} is for the ELF machine {number}; packages are made for {sorted(MACHINES)}")
    start, size, count = (int.from_bytes(data[at : at + width], "little") for at, width in ((32, 8), (54, 2), (56, 2)))
    kinds = {int.from_bytes(data[start + index * size :][:4], "little") for index in range(count)}
    return Binary(path, MACHINES[number], static=3 not in kinds)


def tar_gz(files: dict[str, tuple[bytes, int]]) -> bytes:
    """An archive of the files, by name with content and mode; folders are made, all owned by root."""
    raw = io.BytesIO()
    with gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        folders = {str(parent) for name in files for parent in pathlib.PurePosixPath(name).parents} - {"."}
        for name in sorted({*folders, *files}):
            entry = tarfile.TarInfo(name)
            entry.mtime, entry.uname, entry.gname = EPOCH, "root", "root"
            if name in folders:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(entry)
            else:
                content, entry.mode = files[name]
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return raw.getvalue()


def zip_archive(files: dict[str, tuple[bytes, int]]) -> bytes:
    """The same as a zip archive."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (content, mode) in files.items():
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = (0o100000 | mode) << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return raw.getvalue()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
