"""What the real helm makes of the chart."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import need_part

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "detector"
KUBERNETES = "1.33.0"
NAMES = ("minimal", "everything")
Values = dict[str, Any]
Objects = list[dict[str, Any]]


def values(name: str) -> Values:
    loaded: Values = yaml.safe_load((CHART / "ci" / f"{name}-values.yaml").read_text())
    return loaded


def helm(command: str, given: Values, *further: str) -> subprocess.CompletedProcess[str]:
    """`helm lint` or `helm template` with these values."""
    release = ["plant"] if command == "template" else []
    line: list[str | Path] = [need_part("helm"), command, *release, CHART, "--kube-version", KUBERNETES, "--values", "-", *further]
    return subprocess.run(line, input=yaml.safe_dump(given), capture_output=True, text=True, check=False)


def rendered(given: Values) -> Objects:
    done = helm("template", given)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def the(objects: Objects, kind: str) -> dict[str, Any]:
    (found,) = [document for document in objects if document["kind"] == kind]
    return found


def pod(objects: Objects) -> dict[str, Any]:
    spec: dict[str, Any] = the(objects, "StatefulSet")["spec"]["template"]["spec"]
    return spec
