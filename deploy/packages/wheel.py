"""A Python wheel that holds the binary as the command `weir`: `pip install ./weir-*.whl`, `uvx --from ./weir-*.whl weir`.

It is written here rather than by maturin, which would compile a second time, without the training.
"""

import base64
import hashlib
import pathlib

import contents
from source import DESCRIPTION, LICENSE, ROOT, VERSION, Binary, zip_archive


def build(binary: Binary, out: pathlib.Path) -> pathlib.Path:
    # A static binary runs with any C library; another runs for sure only where it was built, and no index takes it.
    machine = binary.machine.linux
    platform = f"manylinux_2_17_{machine}.musllinux_1_1_{machine}" if binary.static else f"linux_{machine}"
    info = f"weir-{VERSION}.dist-info"
    metadata = "\n".join([
        "Metadata-Version: 2.4",
        "Name: weir",
        f"Version: {VERSION}",
        f"Summary: {DESCRIPTION}",
        f"License-Expression: {LICENSE}",
        *(f"License-File: {name}" for name in contents.licenses()),
        "Keywords: openai,llm,proxy,rate-limit,retry",
        "Classifier: Environment :: Console",
        "Classifier: Operating System :: POSIX :: Linux",
        "Requires-Python: >=3.8",
        "Description-Content-Type: text/markdown",
        "",
        (ROOT / "README.md").read_text(),
    ])
    tags = [f"py3-none-{one}" for one in platform.split(".")]
    wheel = "\n".join(["Wheel-Version: 1.0", "Generator: weir", "Root-Is-Purelib: false", *(f"Tag: {tag}" for tag in tags), ""])
    files = {
        f"weir-{VERSION}.data/scripts/weir": (binary.bytes, 0o755),
        f"{info}/METADATA": (metadata.encode(), 0o644),
        f"{info}/WHEEL": (wheel.encode(), 0o644),
        **{f"{info}/licenses/{name}": (text, 0o644) for name, text in contents.licenses().items()},
        f"{info}/sboms/weir.cdx.json": (contents.bill(), 0o644),
    }
    record = "".join(f"{name},{digest(content)},{len(content)}\n" for name, (content, _) in files.items())
    files[f"{info}/RECORD"] = (f"{record}{info}/RECORD,,\n".encode(), 0o644)
    path = out / f"weir-{VERSION}-py3-none-{platform}.whl"
    path.write_bytes(zip_archive(files))
    return path


def digest(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
