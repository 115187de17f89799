"""Checks Weir's status page in headless Chromium, and without JavaScript.

    python3 tests/observability/check_page.py http://127.0.0.1:8081 [--screenshots DIR]

The Weir must have served requests of the callers of run.py, some of which failed.
"""

import argparse
import html
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request

# What the page must say after run.py's load, whatever its layout: who called, which limits, what went wrong.
EXPECTED = ["search", "support", "nightly", "gpt-4o-mini", "internal_server_error", "authentication_incorrect_key"]
SIZES = {"desk": "1280,1600", "phone": "390,2400"}


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("admin", help="Weir's admin address")
    arguments.add_argument("--screenshots", type=pathlib.Path)
    arguments = arguments.parse_args()

    page = f"{arguments.admin.rstrip('/')}/"
    with urllib.request.urlopen(page, timeout=10) as response:
        source = response.read().decode()
    problems = [f"loads {url} from outside" for url in re.findall(r'(?:src|href)="(https?:[^"]+\.(?:js|css|png|svg|woff2?))"', source)]

    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        print("chromium is missing", file=sys.stderr)
        return 1
    # What the server sends is all that a browser without JavaScript has.
    for name, dom in (("with JavaScript", chromium(browser, ["--dump-dom"], page)), ("without JavaScript", source)):
        text = readable(dom)
        problems += [f"{name}: does not say {word}" for word in EXPECTED if word not in text]
    if arguments.screenshots:
        arguments.screenshots.mkdir(parents=True, exist_ok=True)
        for name, size in SIZES.items():
            picture = arguments.screenshots.resolve() / f"status-{name}.webp"
            chromium(browser, [f"--screenshot={picture}", f"--window-size={size}"], page)
            print(f"page: {picture}")
    for problem in problems:
        print(f"status page: {problem}", file=sys.stderr)
    print(f"page: {len(source)} bytes, {len(problems)} problems")
    return 1 if problems else 0


def chromium(browser, options, page):
    with tempfile.TemporaryDirectory() as profile:
        command = [
            browser,
            "--headless=new",
            # Root has no sandbox to enter; what is opened is our own page on loopback.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            f"--user-data-dir={profile}",
            # Time for the page's own refresh.
            "--virtual-time-budget=3000",
            *options,
            page,
        ]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if finished.returncode:
            raise SystemExit(f"{browser} ended with {finished.returncode}: {finished.stderr[-2000:]}")
        return finished.stdout


def readable(dom):
    """The text that is shown, roughly: no scripts, no styles, no tags."""
    dom = re.sub(r"<(script|style|template)\b.*?</\1>", " ", dom, flags=re.S | re.I)
    return html.unescape(re.sub(r"<[^>]+>", " ", dom))


if __name__ == "__main__":
    sys.exit(main())
