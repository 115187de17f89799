"""A Debian package: the command, a hardened service that runs as the user `weir`, and a configuration that upgrades keep.

The service starts as a sidecar on loopback: it needs no key. deploy/debian holds the maintainer's scripts.
"""

import datetime
import gzip
import hashlib
import os
import pathlib
import re
import subprocess
import tempfile

import contents
from source import DESCRIPTION, EPOCH, ROOT, VERSION, Binary

SCRIPTS = ROOT / "deploy" / "debian"
SYSTEMD = ROOT / "deploy" / "systemd"
# The package's own revision follows the version.
REVISED = f"{VERSION}-1"
MAINTAINER = f"{os.environ.get('DEBFULLNAME', 'The Weir authors')} <{os.environ.get('DEBEMAIL', 'weir@localhost')}>"
SCHEMA = "/usr/share/weir/weir.schema.json"


def build(binary: Binary, runs_here: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    files = {f".{name}": content for name, content in installed(binary, runs_here).items()}
    control = "\n".join([
        "Package: weir",
        f"Version: {REVISED}",
        f"Architecture: {binary.machine.debian}",
        f"Maintainer: {MAINTAINER}",
        f"Installed-Size: {sum(len(content) for content, _ in files.values()) // 1024}",
        f"Depends: {', '.join(['adduser', *libraries(binary)])}",
        "Recommends: ca-certificates",
        "Section: net",
        "Priority: optional",
        f"Description: {DESCRIPTION.removeprefix('A ')}",
        " Weir stands between services and the OpenAI API, or a server that speaks",
        " the same API. It paces requests so that the API has no reason to answer",
        " 429, retries what is worth retrying, and counts every kind of error.",
        "",
    ])
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for name, (content, mode) in files.items():
            write(root / name, content, mode)
        write(root / "DEBIAN/control", control.encode(), 0o644)
        write(root / "DEBIAN/conffiles", b"/etc/weir/weir.toml\n", 0o644)
        sums = "".join(f"{md5(content)}  {name.removeprefix('./')}\n" for name, (content, _) in sorted(files.items()))
        write(root / "DEBIAN/md5sums", sums.encode(), 0o644)
        for script in ("postinst", "prerm", "postrm"):
            write(root / "DEBIAN" / script, (SCRIPTS / script).read_bytes(), 0o755)
        root.chmod(0o755)
        path = out / f"weir_{REVISED}_{binary.machine.debian}.deb"
        command = ["dpkg-deb", "--root-owner-group", "-Zxz", "--build", str(root), str(path)]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)})
    return path


def installed(binary: Binary, runs_here: pathlib.Path) -> dict[str, tuple[bytes, int]]:
    doc = "/usr/share/doc/weir"
    found = {
        "/etc/weir/weir.toml": configuration("sidecar.toml").replace(
            b"# Weir beside one service, as it is: weir --config config/sidecar.toml\n",
            b"# Weir as a service of this machine. After a change: weir check /etc/weir/weir.toml && systemctl reload weir\n",
        ),
        "/lib/systemd/system/weir.service": service(),
        "/lib/systemd/system/weir.socket": socket_unit(),
        SCHEMA: (ROOT / "config" / "weir.schema.json").read_bytes(),
        f"{doc}/copyright": (SCRIPTS / "copyright").read_bytes(),
        f"{doc}/THIRD-PARTY-LICENSES.gz": gzip.compress(contents.third_party_licenses(), mtime=0),
        f"{doc}/changelog.gz": gzip.compress((ROOT / "CHANGELOG.md").read_bytes(), mtime=0),
        f"{doc}/changelog.Debian.gz": gzip.compress(changelog().encode(), mtime=0),
        f"{doc}/weir.cdx.json": contents.bill(),
        f"{doc}/examples/credential.conf": (SYSTEMD / "weir.service.d" / "credential.conf").read_bytes(),
        **{f"{doc}/examples/{name}": configuration(name) for name in ("gateway.toml", "reference.toml")},
        **{f"/usr/share/man/man1/{name}": page for name, page in contents.man_pages().items()},
    }
    folders = {
        "bash": "/usr/share/bash-completion/completions",
        "zsh": "/usr/share/zsh/vendor-completions",
        "fish": "/usr/share/fish/vendor_completions.d",
    }
    for name, script in contents.completions(runs_here).items():
        shell, file = name.split("/")
        found[f"{folders[shell]}/{file}"] = script
    return {"/usr/bin/weir": (binary.bytes, 0o755), **{name: (content, 0o644) for name, content in found.items()}}


def configuration(name: str) -> bytes:
    return (ROOT / "config" / name).read_bytes().replace(b"#:schema weir.schema.json", f"#:schema file://{SCHEMA}".encode())


def changelog() -> str:
    when = datetime.datetime.fromtimestamp(EPOCH, datetime.UTC).strftime("%a, %d %b %Y %H:%M:%S +0000")
    return f"weir ({REVISED}) unstable; urgency=medium\n\n  * Version {VERSION}; changelog.gz says what changed.\n\n -- {MAINTAINER}  {when}\n"


def service() -> bytes:
    """deploy/systemd/weir.service with the package's path and user; what it says about installing by hand is left out."""
    text = (SYSTEMD / "weir.service").read_text()
    text = text[text.index("[Unit]") :].replace("/usr/local/bin/weir", "/usr/bin/weir")
    assert text.count("DynamicUser=yes\n") == 1
    return text.replace("DynamicUser=yes\n", "User=weir\nGroup=weir\n").encode()


def socket_unit() -> bytes:
    """deploy/systemd/weir.socket without what it says about installing by hand: `systemctl enable --now weir.socket` is all."""
    text = (SYSTEMD / "weir.socket").read_text()
    return text[text.index("[Unit]") :].encode()


def libraries(binary: Binary) -> list[str]:
    if binary.static:
        return []
    versions = {tuple(map(int, one.split(b"."))) for one in re.findall(rb"GLIBC_(\d+\.\d+)\b", binary.bytes)}
    return [f"libc6 (>= {'.'.join(map(str, max(versions)))})", "libgcc-s1"]


def write(path: pathlib.Path, content: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
