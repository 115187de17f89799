"""Drives a live Weir into each situation of situations.py, and reads the page within 30 seconds: the first sentence, the blame
and the caller.

    python3 tests/observability/check_situations.py [--screenshots target/screenshots] [NAME...]
"""

import argparse
import contextlib
import pathlib
import re
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import browser  # noqa: E402
import situations  # noqa: E402

WITHIN = 30.0
# Of these a picture is kept.
CHIEF = {"requests_limit", "one_caller_hogs", "quota_spent", "callers_key_refused", "upstream_refuses_connections", "outage"}


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--screenshots", type=pathlib.Path, help="where to keep pictures of the chief ones")
    arguments.add_argument("names", nargs="*", help="only these")
    arguments = arguments.parse_args()
    failed, shown = [], 0
    with contextlib.ExitStack() as stack:
        page = stack.enter_context(browser.page())
        page.size(1120, 1000)
        slowly = None if arguments.names else situations.Slowly(stack)
        for make in situations.ALL:
            if arguments.names and make.__name__ not in arguments.names:
                continue
            try:
                with situations.Place() as place:
                    failed += look(page, make.__name__, place, make(place), arguments.screenshots)
            except RuntimeError as problem:
                print(f"{make.__name__}: NOT MADE: {problem}")
                failed.append(make.__name__)
            shown += 1
        for name, place, expected in slowly.situations() if slowly else ():
            failed += look(page, name, place, expected, arguments.screenshots)
            shown += 1
    print(f"situations: {shown} shown, {len(failed)} not named: {failed}")
    return 1 if failed else 0


def look(page, name, place, expected, screenshots):
    """Waits until the page says what it should; the name if it does not."""
    began = time.monotonic()
    page.open(f"{place.weir.admin}/")
    while True:
        headline, kicker, text = page.text("h1"), page.text(".kicker"), page.text("main")
        wrong = []
        if not re.search(expected.sentence, headline):
            wrong.append("sentence")
        if expected.blame and not kicker.endswith(expected.blame):
            wrong.append(f"blame ({kicker})")
        if not expected.blame and "Healthy" not in kicker:
            wrong.append(f"level ({kicker})")
        if expected.caller and expected.caller not in (headline if expected.blame else text):
            wrong.append("caller")
        wrong += [word for word in expected.words if word not in text]
        if not wrong:
            break
        if time.monotonic() - began > WITHIN:
            print(f"{name}: NOT NAMED: {wrong}: {kicker!r} {headline!r}; {page.text('.also')!r}")
            return [name]
        time.sleep(0.3)
    print(f"{name} ({time.monotonic() - began:.0f} s): {kicker} | {headline}", flush=True)
    if screenshots and name in CHIEF:
        screenshots.mkdir(parents=True, exist_ok=True)
        page.screenshot(screenshots / f"status-{name.replace('_', '-')}.webp")
    return []


if __name__ == "__main__":
    sys.exit(main())
