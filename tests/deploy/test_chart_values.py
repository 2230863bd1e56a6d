"""The values of the Helm chart: what is refused, what reaches the detector, and what people read about them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.helm.values_schema import SCHEMA, with_config
from detector import __version__
from detector.config import load_config
from tests.deploy.chart import CHART, NAMES, ROOT, Objects, Values, helm, pod, rendered, the, values

DEFAULTS: Values = yaml.safe_load((CHART / "values.yaml").read_text())
# What the guide describes as one, although it has parts.
WHOLE = ("config", "resources", "podSecurityContext", "securityContext", "probes.startup", "probes.liveness", "probes.readiness")


def configuration(objects: Objects) -> str:
    (text,) = [document["data"]["detector.yaml"] for document in objects if "detector.yaml" in document.get("data", {})]
    return str(text)


@pytest.mark.parametrize("name", NAMES)
def test_lint(name: str) -> None:
    done = helm("lint", values(name), "--strict")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"replica": 2}, "additional properties 'replica' not allowed"),
        ({"image": {"tga": "1"}}, "additional properties 'tga' not allowed"),
        ({"probes": {"liveness": {"path": "/"}}}, "additional properties 'path' not allowed"),
        ({"config": {"alert": {}}}, "additional properties 'alert' not allowed"),
        ({"config": {"alerts": {"budgets": "1"}}}, "additional properties 'budgets' not allowed"),
        ({"config": {"http": {"port": "many"}}}, "got string, want integer"),
        ({"serviceMonitor": {"interval": "often"}}, "does not match pattern"),
        ({"replicas": 5}, "5 workers for 4 partitions"),
        ({"autoscaling": {"enabled": True, "replicasMax": 5}}, "5 workers for 4 partitions"),
        ({"autoscaling": {"enabled": True, "replicasMin": 5}}, "replicasMin 5 is more than the 4 workers"),
        ({"partitions": None}, "partitions is missing"),
        ({"config": {"input": {"topics": []}}}, "config.input.topics is missing"),
        ({"config": {"kafka": {"bootstrap.servers": ""}}}, "no bootstrap.servers"),
        ({"config": {"kafka": {"sasl.password": "secret"}}}, "put DETECTOR_KAFKA__SASL_PASSWORD into a Secret"),
        ({"config": {"kafka": {"group.instance.id": "a"}}}, "it is the pod's name"),
    ],
)
def test_what_is_refused(change: Values, message: str) -> None:
    done = helm("template", laid_over(values("minimal"), change))
    assert done.returncode != 0
    assert message in done.stderr


def laid_over(below: Values, above: Values) -> Values:
    both = {name: laid_over(below[name], value) for name, value in above.items() if isinstance(below.get(name), dict)}
    return {**below, **above, **both}


def test_the_schema_knows_the_configuration_of_the_code() -> None:
    schema = json.loads(SCHEMA.read_text())
    assert schema == with_config(schema), "run `python deploy/helm/values_schema.py`"


def test_the_schema_knows_every_value_and_nothing_else() -> None:
    schema = json.loads(SCHEMA.read_text())
    assert set(DEFAULTS) == set(schema["properties"]) - {"global"}

    def opened(part: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Objects with named properties that let others in."""
        if "properties" in part:
            if part.get("additionalProperties") is not False:
                yield part
            for inner in part["properties"].values():
                yield from opened(inner)
        if part.get("type") == "array" and isinstance(part.get("items"), dict):
            yield from opened(part["items"])

    assert [*opened(schema), *(found for part in schema["$defs"].values() for found in opened(part))] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_configuration_loads_as_it_was_given(name: str, tmp_path: Path) -> None:
    given = values(name)
    objects = rendered(given)
    (tmp_path / "detector.yaml").write_text(configuration(objects))
    (container,) = pod(objects)["containers"]
    worker = f"{the(objects, 'StatefulSet')['metadata']['name']}-0"
    environment = {entry["name"]: entry.get("value", "secret") for entry in container["env"]}
    assert [entry["valueFrom"] for entry in container["env"] if entry["name"] == "DETECTOR_KAFKA__GROUP_INSTANCE_ID"] == [
        {"fieldRef": {"fieldPath": "metadata.name"}}
    ]
    config = load_config(tmp_path / "detector.yaml", environment=environment | {"DETECTOR_KAFKA__GROUP_INSTANCE_ID": worker})
    assert config.kafka_properties()["group.instance.id"] == worker
    assert list(config.input.topics) == given["config"]["input"]["topics"]
    for key, value in given["config"]["kafka"].items():
        assert config.kafka_properties()[key] == (str(value).lower() if isinstance(value, bool) else str(value))
    assert the(objects, "StatefulSet")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= config.service.drain_timeout_s + 5
    (port,) = container["ports"]
    assert port["containerPort"] == config.http.port
    assert config.input.message_bytes_max == given["config"]["input"].get("message_bytes_max", 1_048_576)  # not 2.097152e+07


def test_it_is_the_package_s_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__


def test_the_guide_has_every_value_with_its_default() -> None:
    guide = (ROOT / "docs" / "deployment.md").read_text()
    rows = re.findall(r"^\| `([A-Za-z.]+)` \| `(.+?)` \| .+ \|$", guide[guide.index("### Every value") :], re.MULTILINE)

    def leaves(part: Values, above: str = "") -> Iterator[tuple[str, Any]]:
        for name, value in part.items():
            if isinstance(value, dict) and value and above + name not in WHOLE and name != "labels":
                yield from leaves(value, f"{above}{name}.")
            else:
                yield above + name, value

    assert [(name, yaml.safe_load(default)) for name, default in rows] == list(leaves(DEFAULTS))


def test_the_guide_s_example_can_be_installed() -> None:
    guide = (ROOT / "docs" / "deployment.md").read_text()
    given = yaml.safe_load(guide.split("```yaml\n# values.yaml\n")[1].split("```")[0])
    assert the(rendered(given), "StatefulSet")["spec"]["replicas"] == given["replicas"]
