"""Checks that links between the documents, and from alerts into the runbook, are valid."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "llms.txt", *sorted((ROOT / "docs").rglob("*.md"))]
RULES = ROOT / "deploy" / "prometheus" / "rules" / "weir.rules.yml"
CLASSES = ROOT / "src" / "classify" / "class.rs"


def main() -> int:
    anchors = {path: anchors_of(path.read_text()) for path in DOCUMENTS}
    problems = []
    for path in DOCUMENTS:
        for link in re.findall(r"\]\(([^)\s]+)\)", without_code(path.read_text())):
            if re.match(r"[a-z]+:", link):
                continue
            target, _, anchor = link.partition("#")
            file = (path.parent / target).resolve() if target else path
            if not file.exists():
                problems.append(f"{path.relative_to(ROOT)}: {link} is not there")
            elif anchor and anchor not in anchors.get(file, ()):
                problems.append(f"{path.relative_to(ROOT)}: {link} has no such section")
    runbook = anchors[ROOT / "docs" / "runbook.md"]
    classes = re.findall(r'^    \w+ = "(\w+)", [A-Z_]+ ', CLASSES.read_text(), re.MULTILINE)
    if not classes:
        problems.append(f"{CLASSES.relative_to(ROOT)}: no class found; has the form of the file changed?")
    problems += [f"docs/runbook.md: no section for the class {name}" for name in classes if name not in runbook]
    rules = RULES.read_text()
    alerts, links = re.findall(r"- alert: (\w+)", rules), re.findall(r"runbook_url: \S+/runbook#(\S+)", rules)
    if not alerts or alerts != links:
        problems.append(f"{RULES.relative_to(ROOT)}: each alert leads to the runbook's section of its name: {set(alerts) ^ set(links)}")
    problems += [f"docs/runbook.md: no section for the alert {name}" for name in alerts if name not in runbook]
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"links: {len(DOCUMENTS)} documents, {len(classes)} classes, {len(problems)} problems")
    return 1 if problems else 0


def anchors_of(text):
    text = without_code(text)
    explicit = re.findall(r'<a id="([^"]+)"', text)
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {*explicit, *(re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles)}


def without_code(text):
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


if __name__ == "__main__":
    sys.exit(main())
