"""Renders the Helm chart with each set of values in tests/deploy/helm, and checks what comes out.

    python3 tests/deploy/check_helm.py

- Kubernetes' own schemas (kubernetes-validate, strict) hold for each object, those of the Prometheus operator (cloudcoil)
  for its kinds.
- References lead somewhere and times fit each other, as in tests/deploy/check_kubernetes.py.
- `weir check` (WEIR_BIN) takes the configuration with the container's environment; `promtool` takes the rules.
- A set whose first line is "# refused: WORDS" must be refused with these words.
- deploy/kubernetes is what the chart renders, and the chart's version is the package's.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import warnings

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "deploy" / "helm"), str(ROOT / "tests" / "deploy")]
warnings.simplefilter("ignore")

import check_kubernetes  # noqa: E402
import helm_python  # noqa: E402
import kubernetes_validate  # noqa: E402
import render  # noqa: E402
import yaml  # noqa: E402
from cloudcoil.models.prometheus_operator import v1 as operator  # noqa: E402

CASES = sorted((ROOT / "tests" / "deploy" / "helm").glob("*.yaml"))
# The oldest that the chart allows, and the newest that kubernetes-validate knows.
VERSIONS = ("1.29.0", kubernetes_validate.latest_version())


def main() -> int:
    problems = [*check_plain()]
    objects = refused = 0
    for path in CASES:
        text = path.read_text()
        expected = re.match(r"# refused: (.+)", text)
        try:
            files = render.render(yaml.safe_load(text) or {})
        except helm_python.HelmError as error:
            refused += 1
            if not expected or expected[1] not in str(error):
                problems.append(f"{path.name}: {error}")
            continue
        if expected:
            problems.append(f"{path.name}: was not refused")
            continue
        documents = [document for document in yaml.safe_load_all(render.manifest(files)) if document]
        objects += len(documents)
        problems += [f"{path.name}: {problem}" for problem in check(documents)]
    for problem in problems:
        print(problem, file=sys.stderr)
    print(
        f"helm {helm_python.helm_sdk_version()}: {len(CASES)} sets of values, {refused} refused, {objects} objects, "
        f"schemas of Kubernetes {' and '.join(VERSIONS)}: {len(problems)} problems"
    )
    return 1 if problems else 0


def check_plain():
    version = re.search(r'^version = "(.+)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    chart = yaml.safe_load((render.CHART / "Chart.yaml").read_text())
    if not chart["version"] == chart["appVersion"] == version:
        yield f"Chart.yaml has {chart['version']} and {chart['appVersion']}, Cargo.toml {version}"
    for finding in helm_python.lint(str(render.CHART))["errors"]:
        yield f"helm lint: {finding}"
    for name in render.HEADS:
        if (render.PLAIN / f"{name}.yaml").read_text() != render.plain(name):
            yield f"deploy/kubernetes/{name}.yaml is not what the chart renders: deploy/helm/render.py --write"


def check(documents):
    """What the schemas say; where they are content, what the objects say of each other."""
    problems = [*check_schemas(documents)]
    yield from problems
    if problems:
        return
    yield from check_kubernetes.check(documents)
    names = [(document["kind"], document["metadata"]["name"]) for document in documents]
    yield from (f"two objects are {name}" for name in set(names) if names.count(name) > 1)
    for document in documents:
        if document["kind"] == "PrometheusRule":
            yield from check_rules(document["spec"])
        if document["kind"] == "HorizontalPodAutoscaler" and ("Deployment", document["spec"]["scaleTargetRef"]["name"]) not in names:
            yield f"HorizontalPodAutoscaler {document['metadata']['name']} scales what is not here"
        if "weir.json" in document.get("data", {}):
            json.loads(document["data"]["weir.json"])
    yield from check_configuration(documents)


def check_schemas(documents):
    for document in documents:
        name = f"{document['kind']} {document['metadata']['name']}"
        if document["apiVersion"].startswith("monitoring.coreos.com/"):
            yield from (f"{name}: {problem}" for problem in check_operator(document))
            continue
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                yield f"{name}: {version}: {error.message} at {list(error.path)}"


def check_operator(document):
    """The models drop what they do not know: what comes back is then another document."""
    try:
        known = getattr(operator, document["kind"]).model_validate(document)
    except ValueError as error:
        yield str(error)
        return
    # An int-or-string such as `for: 5m` may come back as another type, so only the keys are compared.
    lost = set(paths(document)) - set(paths(known.model_dump(by_alias=True, exclude_unset=True, mode="json")))
    yield from (f"{path} is not in the operator's schema" for path in sorted(lost))


def paths(value, path=""):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{path}.{key}"
            yield from paths(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from paths(inner, f"{path}[{index}]")


def check_rules(spec):
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        yaml.safe_dump(spec, file)
        file.flush()
        ended = subprocess.run(["promtool", "check", "rules", file.name], capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        yield f"promtool: {ended.stdout}{ended.stderr}"


def check_configuration(documents):
    """What the container's `weir run` reads."""
    texts = [document["data"]["gateway.toml"] for document in documents if "gateway.toml" in document.get("data", {})]
    for document in documents:
        if document["kind"] != "Deployment":
            continue
        pod = document["spec"]["template"]["spec"]
        for container in pod.get("initContainers", []) + pod["containers"]:
            if container["name"] != "weir":
                continue
            variables = {one["name"]: one["value"] for one in container["env"] if "value" in one}
            # What `kubectl exec` starts has the environment, and no arguments.
            if "--config" in container.get("args", []):
                yield "`kubectl exec ... weir status` does not find the configuration: set WEIR_CONFIG in place of --config"
            text = texts[0] if "WEIR_CONFIG" in variables else ""
            with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
                file.write(text)
                file.flush()
                environment = {"PATH": os.environ["PATH"], **variables}
                command = [os.environ["WEIR_BIN"], "check", "--without-secrets", file.name]
                ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if ended.returncode != 0:
                yield f"weir check: {ended.stderr}"


if __name__ == "__main__":
    sys.exit(main())
