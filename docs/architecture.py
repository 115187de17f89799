#!/usr/bin/env python3
"""Draws docs/images/modules.svg and docs/images/request.svg from the source code.

    python3 docs/architecture.py           # writes them
    python3 docs/architecture.py --check   # fails when they are not what the code says

The modules stand in the order of src/lib.rs; an arrow is an import. The request's way is the table of the tour in src/lib.rs.
"""

import argparse
import html
import pathlib
import re
import sys
import textwrap

ROOT = pathlib.Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
# Modules that nearly all others import say nothing by their arrows.
EVERYWHERE = {"clock", "classify", "openai", "config", "metrics"}
STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #1f2933 } .small { font-size: 11px; fill: #52606d }
rect { fill: #f5f7fa; stroke: #9aa5b1; rx: 4 } path { fill: none; stroke: #7b8794 } .way rect { fill: #e3f8ff; stroke: #2bb0ed }
@media (prefers-color-scheme: dark) { text { fill: #e4e7eb } .small { fill: #9aa5b1 } rect { fill: #323f4b; stroke: #616e7c } .way rect { fill: #0b4a6f; stroke: #2bb0ed } }
</style>"""


def modules() -> list[str]:
    """The modules, topmost first."""
    lib = (ROOT / "src" / "lib.rs").read_text()
    return re.findall(r"^(?:pub |pub\(crate\) )?mod (\w+);", lib, re.M)


def code(path: pathlib.Path) -> str:
    """A file without its tests and its comments."""
    text = path.read_text().split("\n#[cfg(test)]\nmod tests {")[0]
    return re.sub(r"^\s*//.*$", "", text, flags=re.M)


def imports(module: str, known: list[str]) -> set[str]:
    """The other modules that a module imports."""
    folder = ROOT / "src" / module
    files = folder.rglob("*.rs") if folder.is_dir() else [folder.with_suffix(".rs")]
    found: set[str] = set()
    for path in files:
        if "tests" in path.stem:
            continue
        text = code(path)
        found |= set(re.findall(r"crate::(\w+)", text))
        for group in re.findall(r"crate::\{(.*?)\};", text, re.S):
            found |= set(re.findall(r"(?:^|,)\s*(\w+)", group))
    return {name for name in found if name in known and name != module}


def purpose(module: str) -> str:
    """The first sentence of a module's documentation."""
    path = ROOT / "src" / module / "mod.rs"
    text = (path if path.exists() else ROOT / "src" / f"{module}.rs").read_text()
    first = re.match(r"//! (.*?)(?:\.\s|;|\n)", text.replace("\n//! ", " "))
    return re.sub(r"[\[\]`]", "", first.group(1)) if first else ""


def tour() -> list[tuple[str, list[str]]]:
    """The steps of a request, and the modules of each."""
    lib = (ROOT / "src" / "lib.rs").read_text()
    rows = re.findall(r"^//! \| ([a-z ]+) \| (.+?) \|", lib, re.M)
    return [(word, re.findall(r"\[`(\w+)`\]", cell)) for word, cell in rows if "[`" in cell and word != "turns"]


def svg(width: int, height: int, parts: list[str], title: str) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"><title>{html.escape(title)}</title>'
    return "\n".join([head, STYLE, *parts, "</svg>", ""])


def draw_modules() -> str:
    names = modules()
    step, box, left = 34, 24, 250
    on_the_way = {module for _, of in tour() for module in of}
    parts = []
    for row, name in enumerate(names):
        y = 10 + row * step
        way = ' class="way"' if name in on_the_way else ""
        parts.append(f'<g{way}><rect x="{left}" y="{y}" width="110" height="{box}"/></g>')
        parts.append(f'<text x="{left + 55}" y="{y + 16}" text-anchor="middle">{name}</text>')
        parts.append(f'<text class="small" x="{left + 122}" y="{y + 16}">{html.escape(textwrap.shorten(purpose(name), 88, placeholder=" …"))}</text>')
        for other in sorted(imports(name, names) - EVERYWHERE):
            below = names.index(other)
            start, end = y + box / 2, 10 + below * step + box / 2
            bow = left - 12 - 9 * abs(below - row)
            parts.append(f'<path d="M{left} {start} C{bow} {start} {bow} {end} {left} {end}" opacity="0.5"/>')
    return svg(960, 20 + len(names) * step, parts, "The modules of Weir: each imports only modules below it")


def draw_request() -> str:
    steps, parts, width = tour(), [], 104
    for at, (word, of) in enumerate(steps):
        x, y = 10 + (at % 5) * (width + 26), 20 + (at // 5) * 100
        parts.append(f'<g class="way"><rect x="{x}" y="{y}" width="{width}" height="54"/></g>')
        parts.append(f'<text x="{x + width / 2}" y="{y + 23}" text-anchor="middle">{word}</text>')
        parts.append(f'<text class="small" x="{x + width / 2}" y="{y + 42}" text-anchor="middle">{", ".join(of)}</text>')
        if at + 1 < len(steps):
            if at % 5 < 4:
                parts.append(f'<path d="M{x + width} {y + 27} h26 m-6 -4 l6 4 l-6 4"/>')
            else:
                parts.append(f'<path d="M{x + width / 2} {y + 54} v23 H{10 + width / 2} v23 m-4 -6 l4 6 l4 -6"/>')
    return svg(660, 20 + (len(steps) + 4) // 5 * 100, parts, "The way of a request through Weir, and the modules of each step")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    status = 0
    for name, drawn in (("modules", draw_modules()), ("request", draw_request())):
        path = IMAGES / f"{name}.svg"
        if not check:
            path.write_text(drawn)
        elif not path.exists() or path.read_text() != drawn:
            print(f"{path.relative_to(ROOT)} is not what the code says: run python3 docs/architecture.py")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
