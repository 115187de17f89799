"""Runs the snippets of docs/adopt/*.md through Weir, before the simulator.

    python3 tests/deploy/check_adoption.py [python curl ...]

For each page Weir (WEIR_BIN) runs with the page's ```toml blocks together as its configuration; only the addresses are others.
Each ```python, ```js and ```sh block must then end with 0, and a request of it must have been answered 200 through Weir. A
block after `<!-- not run by the tests: REASON -->` is only read. Node's snippets need NODE_PACKAGES, a folder with
node_modules; without it they are left out, and said to be.
"""

import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "adopt"
WEIR = pathlib.Path(os.environ["WEIR_BIN"]).resolve()
NODE_PACKAGES = os.environ.get("NODE_PACKAGES")
BLOCK = re.compile(r"(<!-- not run by the tests: [^>]+ -->\n+)?^```(\w+)\n(.*?)^```$", re.M | re.S)
SECONDS = 60


def main() -> int:
    names = sys.argv[1:] or sorted(page.stem for page in PAGES.glob("*.md"))
    problems, run, left_out = [], 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            began = time.monotonic()
            blocks = [(kind, text) for skipped, kind, text in BLOCK.findall((PAGES / f"{name}.md").read_text()) if not skipped]
            snippets = [(kind, text) for kind, text in blocks if kind in ("python", "js", "sh")]
            configuration = "\n".join(text for kind, text in blocks if kind == "toml")
            if not snippets and not configuration:
                continue
            if not NODE_PACKAGES:
                left_out += sum(kind == "js" for kind, _ in snippets)
                snippets = [(kind, text) for kind, text in snippets if kind != "js"]
            try:
                with (
                    simulator("azure" if name == "azure" else "openai") as upstream,
                    weir(configuration, upstream, pathlib.Path(folder)) as (listen, admin),
                ):
                    for kind, text in snippets:
                        run += 1
                        before = served(admin)
                        problem = run_snippet(kind, text, listen, pathlib.Path(folder))
                        if problem is None and served(admin) == before:
                            problem = "made no request that Weir counted as served"
                        if problem:
                            problems.append(f"docs/adopt/{name}.md: this block {problem}\n{text}")
            except Failed as failed:
                problems.append(f"docs/adopt/{name}.md: {failed}")
            print(f"{name}: {len(snippets)} snippets, {time.monotonic() - began:.1f} s", flush=True)
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"adoption: {run} snippets run, {left_out} of Node left out, {len(problems)} problems")
    return 1 if problems or not run else 0


class Failed(Exception):
    """Why a page could not be tried."""


def run_snippet(kind: str, text: str, listen: int, folder: pathlib.Path) -> str | None:
    text = text.replace("127.0.0.1:8080", f"127.0.0.1:{listen}")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("WEIR_", "OPENAI_"))}
    environment |= {"OPENAI_API_KEY": "sk-test-0123456789abcdef", "OPENAI_BASE_URL": f"http://127.0.0.1:{listen}/v1"}
    if kind == "python":
        file, command = folder / "snippet.py", [sys.executable]
    elif kind == "js":
        # Node looks for packages beside the file.
        file, command = pathlib.Path(NODE_PACKAGES) / "snippet.mjs", ["node"]
    else:
        file, command = folder / "snippet.sh", ["bash", "-euo", "pipefail"]
    file.write_text(text)
    try:
        ended = subprocess.run(
            [*command, file], cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=SECONDS, check=False,
        )
    except subprocess.TimeoutExpired:
        return f"does not end within {SECONDS} s"
    finally:
        file.unlink()
    if ended.returncode != 0:
        return f"ends with {ended.returncode}: {ended.stdout[-1000:]}{ended.stderr[-3000:]}"
    return None


@contextlib.contextmanager
def simulator(dialect: str):
    port = free_port()
    limits = ["--rpm", "6000", "--tpm", "2M", "--no-auth", "--dialect", dialect]
    with running([WEIR, "simulate", "--listen", f"127.0.0.1:{port}", *limits], {}):
        wait_for(f"http://127.0.0.1:{port}/v1/models")
        yield port


@contextlib.contextmanager
def weir(configuration: str, upstream: int, folder: pathlib.Path):
    """Weir with the page's configuration; the secrets that it names exist. Gives the ports of callers and of the admin."""
    listen, admin = free_port(), free_port()
    file = folder / "weir.toml"
    file.write_text(configuration)
    secrets = {name: "sk-test-0123456789abcdef" for name in re.findall(r'"env:(\w+)"', configuration)}
    check = subprocess.run([WEIR, "check", file], env=secrets, capture_output=True, text=True, check=False)
    if check.returncode != 0:
        raise Failed(f"weir check: {check.stderr}")
    environment = {
        **secrets,
        "WEIR_UPSTREAM__URL": f"http://127.0.0.1:{upstream}",
        "WEIR_SERVER__LISTEN": f"127.0.0.1:{listen}",
        "WEIR_ADMIN__LISTEN": f"127.0.0.1:{admin}",
        "WEIR_SHUTDOWN__DRAIN_DELAY": "0s",
    }
    with running([WEIR, "run", "--config", file], environment):
        wait_for(f"http://127.0.0.1:{admin}/readyz")
        yield listen, admin


def served(admin: int) -> float:
    """Requests that were answered 200."""
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=SECONDS) as answer:
        text = answer.read().decode()
    return sum(float(value) for value in re.findall(r'^weir_requests_total\{[^}]*outcome="success"[^}]*\} (\S+)$', text, re.M))


@contextlib.contextmanager
def running(command: list, environment: dict):
    process = subprocess.Popen(
        list(map(str, command)), env={"PATH": os.environ["PATH"], **environment},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        # Twice: the second ends the drain.
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(url: str) -> None:
    end = time.monotonic() + SECONDS
    while True:
        try:
            urllib.request.urlopen(url, timeout=SECONDS).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise Failed(f"{url}: {error}") from error
            time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
