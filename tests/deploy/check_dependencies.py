#!/usr/bin/env python3
"""Holds the dependencies in Cargo.lock against deny.toml: licenses, bans and sources.

    python3 tests/deploy/check_dependencies.py

Reads the same file as `cargo deny`, which no package registry has as a binary for this lock file's version. Advisories need
`cargo deny check advisories` and its database.
"""

import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]


def packages() -> list[dict]:
    """The packages that the binary, its build and its tests depend on, without Weir itself."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", "x86_64-unknown-linux-gnu"]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    used = {node["id"] for node in metadata["resolve"]["nodes"]}
    return [package for package in metadata["packages"] if package["id"] in used and package["source"] is not None]


def is_allowed(expression: str, allowed: set[str]) -> bool:
    """Whether an SPDX expression can be met by allowed licenses alone: an alternative of which each part is allowed."""
    tokens = re.findall(r"\(|\)|[^\s()/]+|/", expression)
    python = {"OR": "or", "/": "or", "AND": "and", "(": "(", ")": ")"}
    terms, skip = [], False
    for index, token in enumerate(tokens):
        if skip:
            skip = False
        elif token in python:
            terms.append(python[token])
        elif tokens[index + 1 : index + 2] == ["WITH"]:
            continue
        elif token == "WITH":
            terms.append(str(f"{tokens[index - 1]} WITH {tokens[index + 1]}" in allowed or tokens[index - 1] in allowed))
            skip = True
        else:
            terms.append(str(token in allowed))
    return bool(eval(" ".join(terms)))  # Only True, False, and, or and parentheses are in it.


def main() -> int:
    rules = tomllib.loads((ROOT / "deny.toml").read_text())
    allowed, registries = set(rules["licenses"]["allow"]), set(rules["sources"]["allow-registry"])
    exceptions = {rule["name"]: set(rule["allow"]) for rule in rules["licenses"].get("exceptions", [])}
    banned = {rule["name"] for rule in rules["bans"]["deny"]}
    found = packages()
    problems, seen = [], set()
    for package in found:
        name, license = package["name"], package["license"] or ""
        if not license or not is_allowed(license, allowed | exceptions.get(name, set())):
            problems.append(f"{name} {package['version']}: its license {license or '(none)'} is not in deny.toml's licenses.allow")
        seen |= set(re.findall(r"[^\s()/]+", license))
        if name in banned:
            problems.append(f"{name} is banned by deny.toml")
        if package["source"].removeprefix("registry+") not in registries:
            problems.append(f"{name} comes from {package['source']}, which is not in deny.toml's sources.allow-registry")
    problems += [f"deny.toml allows {name}, which no dependency needs" for name in sorted(allowed - seen)]
    print(*problems, sep="\n")
    print(f"{len(found)} dependencies, {len(problems)} problems")
    return 1 if problems or len(found) < 50 else 0


if __name__ == "__main__":
    sys.exit(main())
