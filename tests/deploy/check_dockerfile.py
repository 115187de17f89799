"""Checks that the files that deploy/Dockerfile copies exist, and that the image does not run as root."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"


def main() -> int:
    instructions = read(DOCKERFILE.read_text())
    problems = []
    stages = {}
    for name, rest in instructions:
        if name == "FROM":
            alias = re.search(r"\sAS\s+(\S+)", rest, re.I)
            stages[alias[1] if alias else str(len(stages))] = rest
        elif name in ("COPY", "ADD"):
            words = rest.split()
            stage = next((word.removeprefix("--from=") for word in words if word.startswith("--from=")), None)
            sources = [word for word in words if not word.startswith("--")][:-1]
            if stage is not None:
                if stage not in stages:
                    problems.append(f"copies from the stage {stage}, which does not come before")
                continue
            problems += [f"copies {source}, which is not there" for source in sources if not (ROOT / source).exists()]
    final = instructions[max(index for index, (name, _) in enumerate(instructions) if name == "FROM") :]
    last = {name: rest for name, rest in final}
    if last.get("USER", "root").split(":")[0] in ("root", "0"):
        problems.append("what runs is root")
    for name in ("ENTRYPOINT", "HEALTHCHECK"):
        if name not in last:
            problems.append(f"the last stage has no {name}")
    version = re.search(r'^version = "(.+)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    if f'org.opencontainers.image.version="{version}"' not in last.get("LABEL", ""):
        problems.append(f"the label with the version is not {version}")
    scripts = {word for name, rest in instructions if name == "RUN" for word in rest.split() if word.startswith("deploy/")}
    problems += [f"runs {script}, which is not there" for script in sorted(scripts) if not (ROOT / script).is_file()]
    if not scripts:
        problems.append("runs no script of deploy/: what is shipped is built by one")
    for problem in problems:
        print(f"deploy/Dockerfile: {problem}", file=sys.stderr)
    if not problems:
        print("deploy/Dockerfile: in order")
    return 1 if problems else 0


def read(text):
    """The instructions, continued lines joined, comments left out."""
    joined = re.sub(r"\\\n", " ", "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#")))
    return [(line.split(None, 1)[0].upper(), line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


if __name__ == "__main__":
    sys.exit(main())
