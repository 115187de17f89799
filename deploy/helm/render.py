#!/usr/bin/env python3
"""Renders the chart, and the plain manifests of deploy/kubernetes from it.

    deploy/helm/render.py --write     # writes deploy/kubernetes/*.yaml
    deploy/helm/render.py             # says whether they are as the chart renders them
    deploy/helm/render.py VALUES.yaml # prints what the chart renders with these values

Needs `pip install helm-python-sdk pyyaml`: Helm's own engine, without the helm binary.
"""

import pathlib
import sys

import helm_python
import yaml

HERE = pathlib.Path(__file__).resolve().parent
CHART = HERE / "weir"
PLAIN = HERE.parent / "kubernetes"
HEADS = {
    "gateway": """\
# Weir before all services of a company: two replicas that share one key of the API.
#
#   kubectl create namespace weir
#   kubectl -n weir create secret generic weir-keys \\
#     --from-literal=OPENAI_API_KEY=... --from-literal=WEIR_ADMIN_TOKEN=... \\
#     --from-literal=SEARCH_WEIR_KEY=... --from-literal=BATCH_WEIR_KEY=...
#   kubectl apply -f deploy/kubernetes/gateway.yaml
#
# Services then use OPENAI_BASE_URL=http://openai.weir.svc:8080/v1 and their Weir key as OPENAI_API_KEY.
#
# Rendered from deploy/helm/weir by deploy/helm/render.py --write: edit the chart, not this file.
""",
    "sidecar": """\
# Weir beside one service, in its pod. Copy the init container and the variable into your own Deployment.
#
# `restartPolicy: Always` makes the init container a native sidecar (Kubernetes 1.29 and later): it is up before the
# application starts and ends after it, so no request of the application ever meets a closed port.
#
# Rendered from deploy/helm/weir by deploy/helm/render.py --write: edit the chart, not this file.
""",
}


def render(values: dict) -> dict[str, str]:
    """The rendered text of each template that gives any, by its file's name; refuses values that the schema refuses."""
    with helm_python.Chart.load(str(CHART)) as chart:
        files = chart.render(values, name="weir", namespace="weir")
    texts = {path.rsplit("/", 1)[1]: text.strip() for path, text in files.items()}
    return {name: text for name, text in sorted(texts.items()) if text and name != "NOTES.txt"}


def manifest(files: dict[str, str]) -> str:
    """One document after the other, in the order in which a reader wants them."""
    order = ["config.yaml", "secret.yaml", "deployment.yaml", "service.yaml"]
    names = sorted(files, key=lambda name: (order.index(name) if name in order else len(order), name))
    documents = [files[name].removeprefix("---\n") for name in names]
    lines = "\n---\n".join(documents).splitlines()
    return "\n".join(line.rstrip() for line in lines) + "\n"


def plain(name: str) -> str:
    """A plain manifest, rendered with the values of deploy/helm/plain."""
    values = yaml.safe_load((HERE / "plain" / f"{name}.yaml").read_text())
    return HEADS[name] + manifest(render(values))


def main() -> int:
    match sys.argv[1:]:
        case []:
            stale = [name for name in HEADS if (PLAIN / f"{name}.yaml").read_text() != plain(name)]
            for name in stale:
                print(f"deploy/kubernetes/{name}.yaml is not what the chart renders: deploy/helm/render.py --write", file=sys.stderr)
            return 1 if stale else 0
        case ["--write"]:
            for name in HEADS:
                (PLAIN / f"{name}.yaml").write_text(plain(name))
        case [path]:
            print(manifest(render(yaml.safe_load(pathlib.Path(path).read_text()) or {})), end="")
        case _:
            raise SystemExit(__doc__)
    return 0


if __name__ == "__main__":
    sys.exit(main())
