"""Checks deploy/kubernetes: YAML that parses, references that lead somewhere, and times that fit each other.

    python3 tests/deploy/check_kubernetes.py

Both files are rendered from the chart (deploy/helm/render.py --write); tests/deploy/check_helm.py checks that they are.
"""

import pathlib
import re
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "deploy" / "kubernetes"
GATEWAY = MANIFESTS / "gateway.yaml"
GATEWAY_CONFIG = ROOT / "config" / "gateway.toml"
# Between the end of a drain and the kernel's kill something must be left for the process to end in.
MARGIN_SECONDS = 10


def main() -> int:
    problems = []
    for path in sorted(MANIFESTS.glob("*.yaml")):
        documents = [document for document in yaml.safe_load_all(path.read_text()) if document]
        for problem in check(documents):
            problems.append(f"{path.relative_to(ROOT)}: {problem}")
    problems += check_config_map()
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print("deploy/kubernetes: in order")
    return 1 if problems else 0


def check(documents):
    for document in documents:
        for key in ("apiVersion", "kind", "metadata"):
            if key not in document:
                yield f"a document without {key}"
                return
    names = {(document["kind"], document["metadata"]["name"]) for document in documents}
    pods = [document["spec"]["template"] for document in documents if document["kind"] == "Deployment"]
    for document in documents:
        if document["kind"] in ("Service", "PodDisruptionBudget", "NetworkPolicy"):
            selector = selector_of(document)
            if not any(selector.items() <= pod["metadata"]["labels"].items() for pod in pods):
                yield f"{document['kind']} selects {selector}, which no pod carries"
    for document in documents:
        if document["kind"] == "Deployment" and document["metadata"]["labels"]["app.kubernetes.io/name"] != "weir-redis":
            autoscalers = [
                one for one in documents
                if one["kind"] == "HorizontalPodAutoscaler" and one["spec"]["scaleTargetRef"]["name"] == document["metadata"]["name"]
            ]
            yield from check_pod(document, names, autoscalers)


def selector_of(document):
    spec = document["spec"]
    if document["kind"] == "Service":
        return spec["selector"]
    return spec["podSelector" if document["kind"] == "NetworkPolicy" else "selector"]["matchLabels"]


def check_pod(deployment, names, autoscalers):
    spec = deployment["spec"]
    pod = spec["template"]["spec"]
    if not spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items():
        yield "the Deployment does not select its own pods"
    if pod.get("enableServiceLinks", True):
        yield "enableServiceLinks must be false: a Service named weir would put WEIR_ variables into the pod"
    for volume in pod.get("volumes", []):
        config_map = volume.get("configMap", {}).get("name")
        if config_map and ("ConfigMap", config_map) not in names:
            yield f"volume {volume['name']} names the ConfigMap {config_map}, which is not here"
    containers = pod.get("initContainers", []) + pod["containers"]
    weirs = [container for container in containers if container["name"] == "weir"]
    if len(weirs) != 1:
        yield f"{len(weirs)} containers named weir, one is wanted"
        return
    weir = weirs[0]
    variables = {variable["name"]: variable.get("value") for variable in weir["env"]}

    ports = {port["name"] for port in weir["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        if probe in weir and weir[probe]["httpGet"]["port"] not in ports:
            yield f"{probe} asks a port that is not named"
    drain = seconds(variables["WEIR_SHUTDOWN__DRAIN_DELAY"]) + seconds(variables["WEIR_SHUTDOWN__DRAIN_TIMEOUT"])
    grace = pod["terminationGracePeriodSeconds"]
    if grace < drain + MARGIN_SECONDS:
        yield f"terminationGracePeriodSeconds is {grace}, a drain takes up to {drain:.0f} s"
    replicas = max([autoscaler["spec"]["maxReplicas"] for autoscaler in autoscalers] or [spec.get("replicas", 1)])
    if "WEIR_REPLICAS__REDIS" not in variables and float(variables["WEIR_LIMITS__SHARE"]) * replicas > 1:
        yield f"{replicas} replicas with a share of {variables['WEIR_LIMITS__SHARE']} each use more than the limit"
    security = {**pod.get("securityContext", {}), **weir["securityContext"]}
    for key, wanted in (("runAsNonRoot", True), ("readOnlyRootFilesystem", True), ("allowPrivilegeEscalation", False)):
        if security.get(key) is not wanted:
            yield f"{key} should be {wanted}"
    if "requests" not in weir["resources"]:
        yield "no resource requests"

    if weir in pod.get("initContainers", []):
        if weir.get("restartPolicy") != "Always":
            yield "a sidecar needs restartPolicy: Always"
        port = variables["WEIR_SERVER__LISTEN"].rsplit(":", 1)[1]
        for container in pod["containers"]:
            urls = [variable["value"] for variable in container["env"] if variable["name"] == "OPENAI_BASE_URL"]
            if urls != [f"http://127.0.0.1:{port}/v1"]:
                yield f"container {container['name']} does not use the sidecar: OPENAI_BASE_URL is {urls}"


def check_config_map():
    if not GATEWAY_CONFIG.exists():
        return ["config/gateway.toml is missing"]
    for document in yaml.safe_load_all(GATEWAY.read_text()):
        if document["kind"] == "ConfigMap":
            if document["data"]["gateway.toml"].rstrip() == GATEWAY_CONFIG.read_text().rstrip():
                return []
    return ["deploy/kubernetes/gateway.yaml holds another text than config/gateway.toml: deploy/helm/render.py --write"]


def seconds(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h)", text).groups()
    return float(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit]


if __name__ == "__main__":
    sys.exit(main())
