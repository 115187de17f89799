"""Installs each package of target/packages in a clean environment, and makes a paced call with it.

    python3 tests/deploy/check_packages.py [tarball wheel npm deb image sbom]

- The tarball and the image run in a root that holds nothing but them (where the binary is static); the wheel in a fresh
  venv; the npm package through npx with an empty cache; the Debian package in a root that mmdebstrap made, where it is
  upgraded and purged too.
- The bill of materials has what Cargo.lock has, and is valid CycloneDX.

The printed time is from the empty root to the first response through Weir.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import venv

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
PACKAGES = TARGET / "packages"
# What the Debian package is installed in; made once.
DEBIAN_ROOT = TARGET / "ci" / "debian-root.tar"
MACHINE = os.uname().machine
SECONDS = 20


class Refused(Exception):
    """What a package should do and does not."""


def main() -> int:
    tries = {"sbom": sbom, "tarball": tarball, "wheel": wheel, "npm": npm, "deb": deb, "image": image}
    failures = 0
    for name in sys.argv[1:] or tries:
        with tempfile.TemporaryDirectory() as folder:
            try:
                print(f"{name}: {tries[name](pathlib.Path(folder))}", flush=True)
            except Refused as refused:
                failures += 1
                print(f"{name}: {refused}", file=sys.stderr)
    return 1 if failures else 0


def package(pattern: str) -> pathlib.Path:
    found = sorted(PACKAGES.glob(pattern))
    if len(found) != 1:
        raise Refused(f"{len(found)} files {PACKAGES}/{pattern}, one is wanted: deploy/packages/build.py makes it")
    return found[0]


def unpack(archive: tarfile.TarFile, folder: pathlib.Path, trust: str = "data") -> None:
    # Debian 12's Python, 3.11.2, knows no filters: archives are of our own making here.
    archive.extractall(folder, **({"filter": trust} if hasattr(tarfile, "data_filter") else {}))


def tarball(folder: pathlib.Path) -> str:
    path = package(f"weir-*-{MACHINE}-linux.tar.gz")
    began = time.monotonic()
    with tarfile.open(path) as archive:
        unpack(archive, folder)
    (inside,) = folder.iterdir()
    wanted = ["LICENSE", "THIRD-PARTY-LICENSES", "weir.cdx.json", "completions/bash/weir", "man/weir.1.gz", "config/weir.schema.json"]
    if lacking := [name for name in wanted if not (inside / name).is_file()]:
        raise Refused(f"lacks {lacking}")
    static = is_static(inside / "weir")
    answered = paced_call(in_root(inside, ["/weir"]) if static else [inside / "weir"])
    return told(path, answered - began, "alone in its root" if static else "not static: in the root of this machine")


def wheel(folder: pathlib.Path) -> str:
    path = package(f"weir-*{MACHINE}.whl")
    began = time.monotonic()
    venv.create(folder, with_pip=True)
    run([folder / "bin" / "pip", "install", "--quiet", "--no-index", "--disable-pip-version-check", path])
    answered = paced_call([folder / "bin" / "weir"])
    run([folder / "bin" / "pip", "uninstall", "--quiet", "--yes", "weir"])
    if (folder / "bin" / "weir").exists():
        raise Refused("pip uninstall leaves the command")
    return told(path, answered - began, "in a fresh venv")


def npm(folder: pathlib.Path) -> str:
    path = package("weir-npm-*.tgz")
    began = time.monotonic()
    environment = {**os.environ, "npm_config_cache": str(folder / "cache"), "npm_config_offline": "true", "HOME": str(folder)}
    answered = paced_call(["npx", "--yes", f"--package={path}", "weir"], environment)
    return told(path, answered - began, "by npx, with an empty cache")


def deb(folder: pathlib.Path) -> str:
    (path,) = PACKAGES.glob(f"weir_*_{run(['dpkg', '--print-architecture']).strip()}.deb")
    if not DEBIAN_ROOT.exists():
        raise Refused(f"{DEBIAN_ROOT} is missing: mmdebstrap --variant=essential --include=adduser SUITE {DEBIAN_ROOT}")
    with tarfile.open(DEBIAN_ROOT) as archive:
        unpack(archive, folder, "fully_trusted")
    before = files_of(folder)
    began = time.monotonic()
    install(folder, path)
    conffile = folder / "etc/weir/weir.toml"
    if "weir:" not in (folder / "etc/passwd").read_text():
        raise Refused("there is no user weir")
    run(["chroot", folder, "weir", "check", "/etc/weir/weir.toml"])
    wants = folder / "etc/systemd/system/multi-user.target.wants/weir.service"
    if not wants.is_symlink():
        raise Refused("the service is not enabled")
    as_weir = ["setpriv", "--reuid=weir", "--regid=weir", "--clear-groups", "--no-new-privs", "weir"]
    # /dev/urandom and the like are not needed: the root has no /dev.
    answered = paced_call(["chroot", folder, *as_weir], config="/etc/weir/weir.toml")
    took = told(path, answered - began, "by dpkg in a Debian root, as the user weir")

    conffile.write_text(conffile.read_text() + "\n# changed here\n")
    install(folder, newer(path, folder))
    if "# changed here" not in conffile.read_text():
        raise Refused("the upgrade overwrote a changed configuration")
    if not wants.is_symlink():
        raise Refused("the upgrade disabled the service")
    run(["chroot", folder, "dpkg", "--remove", "weir"])
    if not conffile.exists() or (folder / "usr/bin/weir").exists():
        raise Refused("removing should keep the configuration, and nothing else")
    run(["chroot", folder, "dpkg", "--purge", "weir"])
    # What dpkg, adduser and systemd's helper keep of their own.
    own = re.compile(r"var/(lib/(dpkg|systemd)|log|cache)/|etc/(passwd|group|shadow|gshadow|subuid|subgid)-?$|tmp/|run/adduser|var/lib/systemd$")
    if left := [name for name in sorted(files_of(folder) - before) if not own.match(name)]:
        raise Refused(f"purging leaves {left}")
    if "weir" in (folder / "etc/passwd").read_text():
        raise Refused("purging leaves the user")
    return f"{took}; upgraded with a changed conffile, removed and purged"


def install(folder: pathlib.Path, path: pathlib.Path) -> None:
    copy = folder / "tmp" / "weir.deb"
    shutil.copy(path, copy)
    ended = subprocess.run(
        ["chroot", folder, "dpkg", "--force-confold", "--install", "/tmp/weir.deb"],
        capture_output=True, text=True, check=False, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
    )
    if ended.returncode != 0:
        raise Refused(f"dpkg --install: {ended.stdout}{ended.stderr}")


def newer(path: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """The same package as a later version, whose configuration differs."""
    unpacked = folder / "tmp" / "newer"
    run(["dpkg-deb", "--raw-extract", path, unpacked])
    control = unpacked / "DEBIAN/control"
    control.write_text(re.sub(r"^(Version: .+)$", r"\1+later", control.read_text(), flags=re.M))
    config = unpacked / "etc/weir/weir.toml"
    config.write_text(config.read_text() + "\n# of a later version\n")
    later = folder / "tmp" / "later.deb"
    run(["dpkg-deb", "--root-owner-group", "-Znone", "--build", unpacked, later])
    shutil.rmtree(unpacked)
    return later


def image(folder: pathlib.Path) -> str:
    path = package("weir-*-image.tar")
    began = time.monotonic()
    blobs, root = folder / "oci", folder / "root"
    with tarfile.open(path) as archive:
        unpack(archive, blobs)

    def blob(entry):
        return blobs / "blobs" / entry["digest"].replace(":", "/")

    entry = json.loads((blobs / "index.json").read_text())["manifests"][0]
    machines = {one["platform"]["architecture"]: one for one in json.loads(blob(entry).read_text())["manifests"]}
    manifest = json.loads(blob(machines[{"x86_64": "amd64", "aarch64": "arm64"}[MACHINE]]).read_text())
    for layer in manifest["layers"]:
        with tarfile.open(blob(layer)) as archive:
            unpack(archive, root)
    settings = json.loads(blob(manifest["config"]).read_text())["config"]
    user, _, group = settings["User"].partition(":")
    if user in ("", "0", "root"):
        raise Refused("what runs is root")
    labels = {name.removeprefix("org.opencontainers.image.") for name in settings["Labels"]}
    if lacking := {"title", "version", "licenses", "revision", "description"} - labels:
        raise Refused(f"lacks the labels {sorted(lacking)}")
    variables = dict(one.split("=", 1) for one in settings["Env"])
    if not {"WEIR_SERVER__LISTEN", "WEIR_ADMIN__LISTEN"} <= variables.keys():
        raise Refused("listens on loopback only, which nobody outside of a container reaches")
    answered = paced_call(in_root(root, settings["Entrypoint"], f"{user}:{group}"))
    return told(path, answered - began, f"for {' and '.join(sorted(machines))}, as {user}:{group}, from scratch")


def sbom(_folder: pathlib.Path) -> str:
    sys.path.insert(0, str(ROOT / "deploy" / "packages"))
    import sbom as bill

    text = bill.sbom().decode()
    document = json.loads(text)
    told_of = {(one["name"], one["version"], one["hashes"][0]["content"]) for one in document["components"]}
    locked = set(re.findall(
        r'^name = "(.+)"\nversion = "(.+)"\nsource = .+\nchecksum = "(.+)"$', (ROOT / "Cargo.lock").read_text(), re.M
    ))
    if len(locked) + 1 != (ROOT / "Cargo.lock").read_text().count("[[package]]"):
        raise Refused("Cargo.lock has packages without a checksum")
    if told_of != locked:
        raise Refused(f"differs from Cargo.lock: {sorted(told_of ^ locked)}")
    required = {one["name"] for one in document["components"] if one["scope"] == "required"}
    if not {"hyper", "tokio", "rustls"} <= required or required & {"criterion", "proptest"}:
        raise Refused("what the binary contains is not told apart from what tests need")
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    if error := JsonStrictValidator(SchemaVersion.V1_5).validate_str(text):
        raise Refused(f"not valid CycloneDX: {error}")
    return f"{len(told_of)} packages as in Cargo.lock, {len(required)} of them in the binary; valid CycloneDX 1.5"


def paced_call(command: list, environment: dict | None = None, config: str | None = None) -> float:
    """Runs a simulator and Weir before it, asks Weir once, and ends both. Returns when the answer came."""
    environment = environment if environment is not None else dict(os.environ)
    environment = {name: value for name, value in environment.items() if not name.startswith("WEIR_")}
    upstream, listen, admin = free_port(), free_port(), free_port()
    weir = [*command, "run", "--upstream", f"http://127.0.0.1:{upstream}", "--listen", f"127.0.0.1:{listen}"]
    weir += ["--admin", f"127.0.0.1:{admin}", *(["--config", config] if config else [])]
    # One after the other: two `npx` at once write to the same cache.
    with contextlib.ExitStack() as stack:
        simulator = stack.enter_context(running([*command, "simulate", "--listen", f"127.0.0.1:{upstream}"], environment))
        ask(f"http://127.0.0.1:{upstream}/simulate/stats", None, {}, [simulator])
        proxy = stack.enter_context(running(weir, environment))
        body = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "What is a weir?"}]}).encode()
        headers = {"Authorization": "Bearer sk-test-0123456789abcdef", "Content-Type": "application/json"}
        answer = ask(f"http://127.0.0.1:{listen}/v1/chat/completions", body, headers, [simulator, proxy])
        answered = time.monotonic()
        if "choices" not in json.loads(answer):
            raise Refused(f"the answer is {answer[:200]!r}")
        metrics = ask(f"http://127.0.0.1:{admin}/metrics", None, {}, [simulator, proxy]).decode()
        if not re.search(r'^weir_requests_total\{.*\} 1$', metrics, re.M):
            raise Refused("the call is not counted")
    return answered


@contextlib.contextmanager
def running(command: list, environment: dict):
    process = subprocess.Popen(
        list(map(str, command)), env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
        # A drain: the launcher must hand the signal on.
        process.send_signal(signal.SIGTERM)
        process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        raise Refused(f"{command[0]} does not end on SIGTERM") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ask(url: str, body: bytes | None, headers: dict, processes: list) -> bytes:
    end = time.monotonic() + SECONDS
    while True:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=SECONDS) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            # The simulator may still be on its way up.
            problem = f"{error.code} {error.read()[:300]}"
        except OSError as error:
            problem = str(error)
        for process in processes:
            if process.poll() is not None:
                raise Refused(f"{process.args[0]} ended with {process.returncode}: {process.stdout.read().decode()[-2000:]}")
        if time.monotonic() > end:
            raise Refused(f"no answer in {SECONDS} s: {problem}")
        time.sleep(0.02)


def in_root(root: pathlib.Path, command: list[str], user: str = "65532:65532") -> list:
    """The command in a root of its own, not as root."""
    return ["chroot", f"--userspec={user}", root, *command]


def is_static(path: pathlib.Path) -> bool:
    sys.path.insert(0, str(ROOT / "deploy" / "packages"))
    import source

    return source.read_binary(path).static


def files_of(folder: pathlib.Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def told(path: pathlib.Path, seconds: float, where: str) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB, first paced call after {seconds:.1f} s, {where}"


def run(command: list, environment: dict | None = None) -> str:
    ended = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise Refused(f"{' '.join(map(str, command))} ended with {ended.returncode}: {ended.stdout}{ended.stderr}")
    return ended.stdout


if __name__ == "__main__":
    sys.exit(main())
