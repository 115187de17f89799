"""The public interface of the crate, compared with tests/golden/api.txt: a semver check that needs no network.

rustdoc's JSON says what a user of the crate can name, with signatures, bounds and implemented traits. A line that is
gone or another breaks users, and needs a new minor version in Cargo.toml (before 1.0; after it, a major one). A line that
is new needs none. Either way the listing is written anew:

    python3 tests/deploy/check_api.py --write
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/golden/api.txt"


def documented():
    """rustdoc's JSON of the crate with its default features.

    The format is unstable, so RUSTC_BOOTSTRAP lets this one call have it: rust-toolchain.toml says which format it is. The
    variable is set for rustdoc alone, because dependencies are built anew when it changes for all.
    """
    with tempfile.TemporaryDirectory() as folder:
        wrapper = Path(folder) / "rustdoc"
        wrapper.write_text('#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec rustdoc "$@"\n')
        wrapper.chmod(0o755)
        command = ["cargo", "rustdoc", "--quiet", "--locked", "--lib", "--", "-Zunstable-options", "--output-format=json"]
        subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "RUSTDOC": str(wrapper)})
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return json.loads((target / "doc/weir.json").read_text())


class Listing:
    """One line for each item, method, field and implemented trait."""

    def __init__(self, crate):
        self.items, self.paths = crate["index"], crate["paths"]
        self.lines = []
        self.module(self.items[str(crate["root"])], "weir")

    def module(self, module, path):
        for item in self.known(module["inner"]["module"]["items"]):
            kind, inner = only(item["inner"])
            name = item["name"]
            if kind == "use":
                item = self.items.get(str(inner["id"]))
                if item is None or inner["is_glob"]:
                    raise SystemExit(f"{path}: what {inner['source']} brings can't be listed; name it")
                name, (kind, inner) = inner["name"], only(item["inner"])
            if kind == "module":
                self.module(item, f"{path}::{name}")
            else:
                self.item(item, kind, inner, f"{path}::{name}")

    def item(self, item, kind, inner, path):
        if kind == "function":
            self.lines.append(f"fn {path}{self.signature(inner)}")
        elif kind in ("struct", "enum", "trait"):
            # One that may grow: users can't build it, nor match it whole.
            grows = " non_exhaustive" if "non_exhaustive" in str(item["attrs"]) else ""
            self.lines.append(f"{kind} {path}{self.generics(inner['generics'])}{grows}")
            shape = inner.get("kind")
            fields = shape["plain"]["fields"] if isinstance(shape, dict) and "plain" in shape else []
            for member in self.known([*fields, *inner.get("variants", []), *inner.get("items", [])]):
                self.member(member, path)
            for impl in self.known(inner.get("impls", [])):
                self.impl(impl["inner"]["impl"], path)
        else:
            self.lines.append(f"{kind} {path} {self.plain(inner)}")

    def member(self, item, path):
        (kind, inner), name = only(item["inner"]), f"{path}::{item['name']}"
        if kind == "function":
            self.lines.append(f"fn {name}{self.signature(inner)}")
        elif kind == "struct_field":
            self.lines.append(f"field {name}: {self.type(inner)}")
        else:
            self.lines.append(f"{kind} {name} {self.plain(inner)}")

    def impl(self, impl, path):
        if impl["trait"] is None:
            for member in self.known(impl["items"]):
                self.member(member, path)
        # Those for all types, and those of the compiler's own that no stable code can name.
        elif impl["blanket_impl"] is None and impl["trait"]["path"] not in ("Freeze", "UnsafeUnpin"):
            types = [(item["name"], only(item["inner"])) for item in self.known(impl["items"])]
            types = [f"{name} = {self.type(inner['type'])}" for name, (kind, inner) in types if kind == "assoc_type"]
            sign, types = "!" if impl["is_negative"] else "", f" {{ {', '.join(sorted(types))} }}" if types else ""
            self.lines.append(f"impl{self.generics(impl['generics'])} {sign}{self.path(impl['trait'])} for {path}{types}")

    def known(self, ids):
        return [self.items[str(id)] for id in ids if str(id) in self.items]

    def signature(self, function):
        sig, header = function["sig"], function["header"]
        marks = "".join(f" {mark}" for mark in ("const", "async", "unsafe") if header[f"is_{mark}"])
        inputs = ", ".join(f"{name}: {self.type(of)}" for name, of in sig["inputs"])
        output = f" -> {self.type(sig['output'])}" if sig["output"] else ""
        return f"{self.generics(function['generics'])}({inputs}){output}{marks}"

    def generics(self, generics):
        params = [param["name"] + self.bounds(only(param["kind"])[1].get("bounds")) for param in generics["params"]]
        of = [predicate["bound_predicate"] for predicate in generics["where_predicates"]]
        wheres = sorted(f"{self.type(one['type'])}{self.bounds(one['bounds'])}" for one in of)
        return (f"<{', '.join(params)}>" if params else "") + (f" where {', '.join(wheres)}" if wheres else "")

    def bounds(self, bounds):
        return f": {self.sum(bounds)}" if bounds else ""

    def sum(self, bounds):
        one = lambda kind, bound: bound if kind == "outlives" else self.path(bound["trait"])
        return " + ".join(one(*only(bound)) for bound in bounds)

    def path(self, path):
        args = (path.get("args") or {}).get("angle_bracketed") or {"args": [], "constraints": []}
        inner = [arg["lifetime"] if "lifetime" in arg else self.type(arg["type"]) for arg in args["args"]]
        for constraint in args["constraints"]:
            kind, of = only(constraint["binding"])
            inner.append(f"{constraint['name']}" + (f" = {self.type(of['type'])}" if kind == "equality" else f": {self.sum(of)}"))
        known = self.paths.get(str(path["id"]))
        # Of this crate's own the name: the module that it stands in is private.
        name = "::".join(known["path"]) if known and known["crate_id"] else path["path"]
        return name + (f"<{', '.join(inner)}>" if inner else "")

    def type(self, of):
        kind, inner = only(of)
        if kind == "resolved_path":
            return self.path(inner)
        if kind == "borrowed_ref":
            return f"&{'mut ' if inner['is_mutable'] else ''}{self.type(inner['type'])}"
        if kind == "qualified_path":
            of = f" as {self.path(inner['trait'])}" if inner["trait"]["path"] else ""
            return f"<{self.type(inner['self_type'])}{of}>::{inner['name']}"
        if kind == "impl_trait":
            return f"impl {self.sum(inner)}"
        if kind == "dyn_trait":
            return f"dyn {' + '.join(self.path(one['trait']) for one in inner['traits'])}"
        return self.plain(inner)

    def plain(self, inner):
        """What is rarely public, as rustdoc has it, but for its numbers: they are others with each change."""
        return inner if isinstance(inner, str) else re.sub(r'"id": \d+', "", json.dumps(inner, sort_keys=True))


def only(tagged):
    """The one tag of a JSON object, and what it has."""
    return next(iter(tagged.items()))


def minor(version):
    """What a change that breaks users must raise: the minor version before 1.0, the major one after."""
    major, minor, *_ = map(int, version.split("."))
    return (major, minor if major == 0 else 0)


def main():
    crate = documented()
    version, lines = crate["crate_version"], sorted(set(Listing(crate).lines))
    known = GOLDEN.read_text().splitlines() if GOLDEN.exists() else [f"# weir {version}"]
    before = re.match(r"# weir (\S+)", known[0])[1]
    gone, new = sorted(set(known[1:]) - set(lines)), sorted(set(lines) - set(known[1:]))
    for line in gone:
        print(f"- {line}")
    for line in new:
        print(f"+ {line}")
    if gone and minor(version) <= minor(before):
        raise SystemExit(f"the public interface of {before} lost these lines: keep them, or raise the minor version in Cargo.toml")
    if "--write" in sys.argv:
        GOLDEN.write_text("\n".join([f"# weir {version}", *lines]) + "\n")
    elif gone or new:
        raise SystemExit("the public interface is another: python3 tests/deploy/check_api.py --write, and a line in CHANGELOG.md")
    print(f"{len(lines)} lines of public interface, as of {version}")


main()
