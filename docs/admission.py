#!/usr/bin/env python3
"""Draws the figures of docs/admission.md, and writes its table, from the simulation in tests/admission.

    docs/admission.py
"""

import pathlib
import subprocess

DOCS = pathlib.Path(__file__).resolve().parent
COLORS = ("#2563eb", "#dc2626", "#059669", "#9333ea", "#d97706")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 800, 300, 56, 270, 34, 40
FIGURES = {
    "level": ("The level of 1,200 requests a minute, as a part of it; 100 a second are asked for until 120 s", "s"),
    "burst": ("600 calls at once at 0 s and at 120 s: answered by then", "s"),
    "service": ("Answered by then: three callers at 1,200 a minute", "s"),
}
BEGIN, END = "<!-- table: docs/admission.py -->\n", "<!-- end of the table -->\n"


def simulate(name):
    """The output of the tests of that name."""
    command = ["cargo", "test", "--quiet", "-j2", "--test", "admission", name, "--", "--nocapture"]
    return subprocess.run(command, cwd=DOCS.parent, check=True, capture_output=True, text=True).stdout


def ticks(most):
    """Round values from 0 to the most, some five of them."""
    step = 10 ** len(str(int(most))) / 100
    while most / step > 6:
        step *= 2 if str(step).lstrip("0.").startswith(("1", "5")) else 2.5
    return [step * index for index in range(int(most / step) + 1)]


def draw(name, lines):
    """One figure as SVG: a line for each name, from points x, y."""
    title, unit = FIGURES[name]
    most_x = max(x for _, points in lines for x, _ in points)
    most_y = max(y for _, points in lines for _, y in points) or 1
    across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    place = lambda x, y: (LEFT + x / most_x * across, HEIGHT - BOTTOM - y / most_y * down)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="20" font-size="13">{title}</text>',
    ]
    for value in ticks(most_x):
        x, y = place(value, 0)
        parts.append(f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle" fill="#555">{value:g} {unit}</text>')
    for value in ticks(most_y):
        x, y = place(0, value)
        parts.append(f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{x + across:.1f}" y2="{y:.1f}" stroke="#e5e7eb"/>')
        parts.append(f'<text x="{x - 6:.1f}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{value:g}</text>')
    for index, (label, points) in enumerate(lines):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
        color, dash = COLORS[index % len(COLORS)], ' stroke-dasharray="5 3"' if index % 2 else ""
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.6"{dash}/>')
        y = TOP + 14 + index * 18
        x = WIDTH - RIGHT + 12
        parts.append(f'<line x1="{x}" y1="{y - 4}" x2="{x + 20}" y2="{y - 4}" stroke="{color}" stroke-width="2"{dash}/>')
        parts.append(f'<text x="{x + 26}" y="{y}">{label}</text>')
    return "\n".join(parts + ["</svg>", ""])


def main():
    figures = {}
    for row in simulate("figures").splitlines():
        if "figure\t" in row:
            # The test runner may have written something before it.
            _, name, label, points = row[row.index("figure\t"):].split("\t")
            points = [tuple(float(value) for value in point.split(",")) for point in points.split()]
            figures.setdefault(name, []).append((label, points))
    for name, lines in figures.items():
        (DOCS / "images" / f"admission-{name}.svg").write_text(draw(name, lines))
    # The first row stands behind what the test runner wrote before it.
    rows = (row[row.index("|"):] for row in simulate("every_shape").splitlines() if row.endswith("|"))
    table = "".join(row + "\n" for row in rows)
    page = DOCS / "admission.md"
    before, rest = page.read_text().split(BEGIN)
    page.write_text(before + BEGIN + "\n" + table + "\n" + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
