"""The objects of the Helm chart, held against Kubernetes' schemas, the operators' types, the real server and the real command line."""

from __future__ import annotations

import copy
import http.client
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from detector.adapters.http_server import HttpServer
from detector.adapters.prometheus.collectors import ServiceInfo
from detector.adapters.prometheus.metrics import Telemetry
from detector.core.readings import StreamNames
from detector.ports import WorkerStats
from tests.conftest import need_part
from tests.deploy.chart import KUBERNETES, NAMES, ROOT, Objects, Values, pod, rendered, the, values
from tests.deploy.commands import parsed

CUSTOM = {"ScaledObject", "ServiceMonitor", "PrometheusRule"}


@pytest.fixture(scope="module", params=NAMES)
def release(request: pytest.FixtureRequest) -> tuple[Values, Objects]:
    given = values(request.param)
    return given, rendered(given)


@pytest.fixture(scope="module")
def everything() -> Objects:
    return rendered(values("everything"))


def test_what_is_rendered(release: tuple[Values, Objects]) -> None:
    given, objects = release
    kinds = {"ConfigMap", "Service", "ServiceAccount", "StatefulSet", "PodDisruptionBudget"}
    assert {document["kind"] for document in objects} == kinds | ({*CUSTOM, "NetworkPolicy"} if "autoscaling" in given else set())


def test_kubernetes_takes_every_object(release: tuple[Values, Objects]) -> None:
    objects = release[1]
    for document in objects:
        if document["kind"] not in CUSTOM:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
    wrong = copy.deepcopy(the(objects, "StatefulSet"))
    wrong["spec"]["template"]["spec"]["containers"][0]["livenessProbes"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="livenessProbes"):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


def test_operators_take_their_objects(everything: Objects) -> None:
    check = need_part("custom-resources-check")
    given = [document for document in everything if document["kind"] in CUSTOM]
    done = subprocess.run([check], input=yaml.safe_dump_all(given), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert len(done.stdout.splitlines()) == len(given) == len(CUSTOM)
    wrong = yaml.safe_dump_all(given).replace("maxReplicaCount", "maxReplicas")
    done = subprocess.run([check], input=wrong, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert 'unknown field "maxReplicas"' in done.stdout


def test_its_command_lines_are_real(everything: Objects) -> None:
    spec = pod(everything)
    run = parsed(spec["containers"][0]["args"])
    (topics,) = [parsed(container["args"]) for container in spec["initContainers"] if container["name"] == "topics"]
    assert (run[0], topics[0]) == ("run", "topics create")
    assert topics[1]["partitions"] == values("everything")["partitions"]
    for _, options in (run, topics):
        (mount,) = [mount for mount in spec["containers"][0]["volumeMounts"] if mount["name"] == "config"]
        assert options["config"] == Path(mount["mountPath"]) / "detector.yaml"


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    telemetry = Telemetry(ServiceInfo("1", "site1", "plant", "f", ("rpm",), 1.0, 1, 10.0), WorkerStats(), StreamNames())
    server = HttpServer("127.0.0.1", 0, telemetry)
    yield server
    server.close()


def test_probes_and_scrapes_are_answered(everything: Objects, server: HttpServer) -> None:
    (container,) = pod(everything)["containers"]
    (port,) = container["ports"]
    probes = [container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")]
    (endpoint,) = the(everything, "ServiceMonitor")["spec"]["endpoints"]
    assert {probe["port"] for probe in probes} == {endpoint["port"], port["name"]}
    for path in [probe["path"] for probe in probes] + [endpoint["path"]]:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("GET", path)
        assert connection.getresponse().status in (200, 503), path
        connection.close()
    assert [probe["path"] for probe in probes] == ["/-/healthy", "/-/healthy", "/-/ready"]


def test_everything_selects_the_pods(everything: Objects) -> None:
    labels = the(everything, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    selectors = [
        the(everything, "StatefulSet")["spec"]["selector"]["matchLabels"],
        the(everything, "Service")["spec"]["selector"],
        the(everything, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        the(everything, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *(constraint["labelSelector"]["matchLabels"] for constraint in pod(everything)["topologySpreadConstraints"]),
    ]
    assert len(selectors) == 6
    for selector in selectors:
        assert selector.items() <= labels.items()
    monitor = the(everything, "ServiceMonitor")["spec"]
    service = the(everything, "Service")["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= service.items()
    assert service[monitor["jobLabel"]] == "detector"
    assert the(everything, "StatefulSet")["spec"]["serviceName"] == the(everything, "Service")["metadata"]["name"]


def test_pods_are_restricted(release: tuple[Values, Objects]) -> None:
    """Source: the profile `restricted` of Kubernetes' Pod Security Standards."""
    spec = pod(release[1])
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    ours = [
        container for container in [*spec["containers"], *spec.get("initContainers", ())] if container["name"] in ("detector", "topics")
    ]
    for container in ours:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]


def test_keda_scales_what_there_is_by_the_topics_that_are_read(everything: Objects) -> None:
    given, spec = values("everything"), the(everything, "ScaledObject")["spec"]
    assert "replicas" not in the(everything, "StatefulSet")["spec"]
    assert spec["scaleTargetRef"]["name"] == the(everything, "StatefulSet")["metadata"]["name"]
    assert [trigger["metadata"]["topic"] for trigger in spec["triggers"]] == given["config"]["input"]["topics"]
    for trigger in spec["triggers"]:
        assert trigger["metadata"]["consumerGroup"] == given["config"]["group"]
        assert trigger["metadata"]["lagThreshold"] == "2500000"
    assert spec["minReplicaCount"] <= spec["maxReplicaCount"] <= given["partitions"]


def test_rules_and_dashboards_are_the_files_of_deploy(everything: Objects, tmp_path: Path) -> None:
    rules = the(everything, "PrometheusRule")["spec"]
    text = (ROOT / "deploy" / "prometheus" / "rules.yaml").read_text()
    runbooks = values("everything")["prometheusRule"]["runbooks"]
    assert rules == yaml.safe_load(text.replace("docs/runbooks.md#", f"{runbooks}#"))
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    done = subprocess.run([need_part("promtool"), "check", "rules", tmp_path / "rules.yaml"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    boards = [document for document in everything if document["metadata"]["labels"].get("grafana_dashboard") == "1"]
    found = {name: text for board in boards for name, text in board["data"].items()}
    files = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
    assert {f"detector-{file.name}": json.loads(file.read_text()) for file in files} == {name: json.loads(found[name]) for name in found}
    assert len(boards) == 3
