"""The software bill of materials, CycloneDX 1.5 as JSON: every package of Cargo.lock, with its checksum.

A package that the binary for Linux contains has the scope "required"; what only tests, other systems or the build need is
"excluded".
"""

import datetime
import json
import subprocess
import tomllib
import uuid

from source import EPOCH, LICENSE, ROOT, VERSION


def sbom() -> bytes:
    packages = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    shipped, licenses = shipped_packages(), declared_licenses()
    names = [package["name"] for package in packages]

    def reference(package: dict) -> str:
        return f"pkg:cargo/{package['name']}@{package['version']}"

    def resolve(dependency: str) -> str:
        """Cargo.lock leaves the version out where the name is unambiguous."""
        name, _, version = dependency.partition(" ")
        if not version:
            assert names.count(name) == 1, name
            version = next(package["version"] for package in packages if package["name"] == name)
        return f"pkg:cargo/{name}@{version.split(' ')[0]}"

    components = []
    for package in packages:
        if package["name"] == "weir":
            continue
        key = (package["name"], package["version"])
        component = {
            "type": "library",
            "bom-ref": reference(package),
            "name": package["name"],
            "version": package["version"],
            "scope": "required" if key in shipped else "excluded",
            "hashes": [{"alg": "SHA-256", "content": package["checksum"]}],
            "purl": reference(package),
        }
        if license := licenses.get(key):
            component["licenses"] = [{"expression": license.replace("/", " OR ")}]
        components.append(component)
    own = f"pkg:cargo/weir@{VERSION}"
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": timestamp(),
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": "weir",
                "version": VERSION,
                "purl": own,
                "licenses": [{"expression": LICENSE}],
            },
        },
        "components": components,
        "dependencies": [
            {"ref": reference(package), "dependsOn": sorted(map(resolve, package.get("dependencies", [])))}
            for package in packages
        ],
    }
    # The same packages have the same number.
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(components))}"
    return json.dumps(document, indent=1).encode() + b"\n"


def timestamp() -> str:
    return datetime.datetime.fromtimestamp(EPOCH, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def shipped_packages() -> set[tuple[str, str]]:
    """Name and version of what is compiled into the binary for Linux."""
    command = ["cargo", "tree", "--locked", "--edges=normal", "--target=x86_64-unknown-linux-musl", "--prefix=none", "--format={p}"]
    lines = run(command).splitlines()
    return {(words[0], words[1].removeprefix("v")) for line in lines if (words := line.split())}


def declared_licenses() -> dict[tuple[str, str], str]:
    return {key: package["license"] for key, package in metadata().items() if package["license"]}


def metadata() -> dict[tuple[str, str], dict]:
    packages = json.loads(run(["cargo", "metadata", "--locked", "--format-version=1"]))["packages"]
    return {(package["name"], package["version"]): package for package in packages}


def run(command: list[str]) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    print(sbom().decode(), end="")
