"""The image, from scratch: the binary, certificates, a user. One for each machine, and an index of both.

It needs buildah (Debian's package) and nothing from any registry; nothing is run, so the machine does not matter. A binary
that is not static comes with the libraries that it names, which this machine must have.
"""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile

from source import DESCRIPTION, EPOCH, LICENSE, ROOT, VERSION, Binary

CERTIFICATES = pathlib.Path("/etc/ssl/certs/ca-certificates.crt")
USER = "65532:65532"


def build(binaries: list[Binary], out: pathlib.Path) -> pathlib.Path:
    path = out / f"weir-{VERSION}-image.tar"
    path.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as store:
        run = Buildah(store)
        run("manifest", "create", "weir")
        for binary in binaries:
            run("manifest", "add", "weir", image(run, binary, pathlib.Path(store)))
        run("manifest", "push", "--all", "weir", f"oci-archive:{path}:weir:{VERSION}")
    return path


class Buildah:
    """buildah with a store of its own, so that it leaves nothing on the machine."""

    def __init__(self, store: str):
        self.options = ["--root", f"{store}/root", "--runroot", f"{store}/run", "--storage-driver", "vfs"]

    def __call__(self, *arguments: str) -> str:
        ended = subprocess.run(["buildah", *self.options, *arguments], capture_output=True, text=True, check=False)
        if ended.returncode != 0:
            raise SystemExit(f"buildah {' '.join(arguments)}: {ended.stderr}")
        return ended.stdout.strip()


def image(run: Buildah, binary: Binary, store: pathlib.Path) -> str:
    """Builds the image of one machine, and returns its id."""
    root = store / f"fs-{binary.machine.oci}"
    for name, (content, mode) in files(binary).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
    for path in [*root.rglob("*"), root]:
        os.utime(path, (EPOCH, EPOCH))
    container = run("from", "--arch", binary.machine.oci, "scratch")
    run("copy", container, str(root), "/")
    labels = {
        "title": "weir",
        "description": DESCRIPTION,
        "version": VERSION,
        "licenses": LICENSE,
        "revision": revision(),
    }
    run(
        "config",
        "--arch", binary.machine.oci,
        "--user", USER,
        # Inside a container loopback reaches nobody. Without a configured credential Weir passes the callers' own keys on.
        "--env", "WEIR_SERVER__LISTEN=0.0.0.0:8080",
        "--env", "WEIR_ADMIN__LISTEN=0.0.0.0:8081",
        "--port", "8080", "--port", "8081",
        "--stop-signal", "SIGTERM",
        "--entrypoint", '["/usr/local/bin/weir"]',
        *(word for name, value in labels.items() for word in ("--label", f"org.opencontainers.image.{name}={value}")),
        container,
    )
    return run("commit", "--quiet", "--timestamp", str(EPOCH), container)


def files(binary: Binary) -> dict[str, tuple[bytes, int]]:
    return {
        "usr/local/bin/weir": (binary.bytes, 0o755),
        "etc/ssl/certs/ca-certificates.crt": (CERTIFICATES.read_bytes(), 0o644),
        "etc/passwd": (b"weir:x:65532:65532:weir:/nonexistent:/usr/sbin/nologin\n", 0o644),
        "etc/group": (b"weir:x:65532:\n", 0o644),
        # What glibc needs beside its own parts; the C library of a static binary does not look at it.
        "etc/nsswitch.conf": (b"hosts: files dns\n", 0o644),
        **libraries(binary),
    }


def libraries(binary: Binary) -> dict[str, tuple[bytes, int]]:
    """The loader and the libraries, at the paths where the binary looks for them."""
    if binary.static:
        return {}
    named = subprocess.run(["ldd", binary.path], check=True, capture_output=True, text=True).stdout
    return {name[1:]: (pathlib.Path(name).read_bytes(), 0o755) for name in re.findall(r"(/\S+) \(0x", named)}


def revision() -> str:
    if not shutil.which("git"):
        return "unknown"
    named = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return named.stdout.strip() or "unknown"
