"""An npm package with the binaries behind one command: `npx ./weir-npm-VERSION.tgz`."""

import json
import pathlib

import contents
from source import DESCRIPTION, LICENSE, ROOT, VERSION, Binary, tar_gz

LAUNCHER = pathlib.Path(__file__).with_name("npm-launcher.js")


def build(binaries: list[Binary], out: pathlib.Path) -> pathlib.Path:
    manifest = {
        "name": "weir",
        "version": VERSION,
        "description": DESCRIPTION,
        "license": LICENSE,
        "keywords": ["openai", "llm", "proxy", "rate-limit", "retry"],
        "os": ["linux"],
        "cpu": [binary.machine.node for binary in binaries],
        "engines": {"node": ">=18"},
        "bin": {"weir": "launcher.js"},
    }
    files = {
        "package.json": (json.dumps(manifest, indent=2).encode() + b"\n", 0o644),
        "launcher.js": (LAUNCHER.read_bytes(), 0o755),
        "README.md": ((ROOT / "README.md").read_bytes(), 0o644),
        "weir.cdx.json": (contents.bill(), 0o644),
        **{name: (text, 0o644) for name, text in contents.licenses().items()},
        **{f"bin/{binary.machine.node}/weir": (binary.bytes, 0o755) for binary in binaries},
    }
    path = out / f"weir-npm-{VERSION}.tgz"
    path.write_bytes(tar_gz({f"package/{name}": content for name, content in files.items()}))
    return path
