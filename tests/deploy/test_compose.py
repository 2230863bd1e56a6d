"""deploy/compose.yaml, read by the loader of docker compose, and held against the real command line, configuration and files."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from detector import __version__
from detector.config import Config, load_config
from detector.lab.faults import schedule_faults
from detector.lab.plant import Plant
from tests.conftest import need_part
from tests.deploy.commands import parsed

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
COMPOSE, ENVIRONMENT = DEPLOY / "compose.yaml", DEPLOY / ".env"
TWO_DAYS_AGO = "$(date -u -d '-48 hours' +%FT%T)"
HOUR_US = 3_600_000_000
OURS = ("topics", "detector", "simulator")
VARIABLES = dict(line.split("=", 1) for line in ENVIRONMENT.read_text().splitlines() if line and not line.startswith("#"))


def loaded(path: Path = COMPOSE) -> subprocess.CompletedProcess[str]:
    return subprocess.run([need_part("compose-config"), path], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    done = loaded()
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)["services"]
    return found


def command_line(service: dict[str, Any]) -> list[str]:
    """What follows `detector` on the service's command line, which may be a shell's."""
    if not service["entrypoint"]:
        return list(service["command"])
    (script,) = service["command"]
    name, *arguments = shlex.split(script.replace(TWO_DAYS_AGO, "2026-01-02T00:00:00"))
    assert name == "detector"
    return arguments


@pytest.mark.parametrize(
    ("text", "instead", "message"),
    [
        ("read_only: true", "readonly: true", "readonly"),
        ("kafka: {condition: service_healthy}", "kafkaa: {condition: service_healthy}", "kafkaa"),
        ("- kafka-data:", "- data:", "undefined volume data"),
    ],
)
def test_a_mistake_would_be_found(text: str, instead: str, message: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(ENVIRONMENT.read_text())
    (tmp_path / "compose.yaml").write_text(COMPOSE.read_text().replace(text, instead))
    done = loaded(tmp_path / "compose.yaml")
    assert done.returncode == 1
    assert message in done.stderr


def test_all_that_is_asked_for_is_there(services: dict[str, Any]) -> None:
    assert set(services) == {*OURS, "kafka", "kafka-ui", "prometheus", "alertmanager", "grafana"}


def test_every_variable_is_used_and_every_port_is_one(services: dict[str, Any]) -> None:
    named = Counter(re.findall(r"\$\{(\w+)\}", COMPOSE.read_text()))
    assert set(named) == set(VARIABLES)
    published = [port for service in services.values() for port in service.get("ports", ())]
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}
    ports = {value for name, value in VARIABLES.items() if name.endswith("_PORT")}
    assert sorted(port["published"] for port in published) == sorted(ports)
    assert VARIABLES["DETECTOR_VERSION"] == __version__


def test_images_are_pinned(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]), name


def test_every_service_is_confined_and_looked_after(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "healthcheck" in service or name == "detector", name  # the detector's is the image's
    for name in OURS:
        assert services[name]["read_only"], name


def test_every_file_that_is_mounted_exists(services: dict[str, Any]) -> None:
    mounts = [volume for service in services.values() for volume in service.get("volumes", ()) if volume["type"] == "bind"]
    assert len(mounts) >= 6
    for mount in mounts:
        assert Path(mount["source"]).exists(), mount["source"]
        assert mount["read_only"], mount["source"]


@pytest.mark.parametrize("name", OURS)
def test_our_command_lines_and_settings_are_real(name: str, services: dict[str, Any]) -> None:
    service = services[name]
    mounted = {volume["target"]: Path(volume["source"]) for volume in service["volumes"]}
    command, options = parsed(command_line(service))
    assert command == {"topics": "topics create", "detector": "run", "simulator": "simulate"}[name]
    config = load_config(mounted[str(options["config"])], environment=service["environment"])
    assert config.kafka_properties()["bootstrap.servers"] == "kafka:19092"
    assert name != "simulator" or options["topic"] in config.input.topics


def test_the_simulated_plant_has_faults_in_the_two_days_that_are_caught_up(services: dict[str, Any]) -> None:
    options = parsed(command_line(services["simulator"]))[1]
    plant = Plant(options["seed"], options["machines"], options["interval_s"])
    begin_us, end_us = plant.start_us + int(options["hours"] * HOUR_US) // 4, plant.start_us + int(options["hours"] * HOUR_US)
    faults = schedule_faults(plant, options["faults"], begin_us, end_us, seed=options["seed"])
    caught_up = [fault for fault in faults if fault.start_us < plant.start_us + 48 * HOUR_US]
    assert len(caught_up) > 5
    assert 48 / float(options["speed"]) < 0.1, "hours until there are alerts to see"


def test_the_detector_is_given_time_to_drain(services: dict[str, Any]) -> None:
    config = load_config(DEPLOY / "detector.yaml", environment=services["detector"]["environment"])
    assert float(services["detector"]["stop_grace_period"].removesuffix("s")) > config.service.drain_timeout_s
    (port,) = services["detector"]["ports"]
    assert port["target"] == config.http.port
    assert config.metrics.watch


def test_kafka_is_where_the_others_look_for_it(services: dict[str, Any]) -> None:
    kafka = services["kafka"]["environment"]
    advertised = dict(listener.split("://") for listener in kafka["KAFKA_ADVERTISED_LISTENERS"].split(","))
    assert advertised == {"INTERNAL": "kafka:19092", "HOST": f"localhost:{VARIABLES['KAFKA_PORT']}"}
    assert services["kafka-ui"]["environment"]["KAFKA_CLUSTERS_0_BOOTSTRAPSERVERS"] == advertised["INTERNAL"]
    assert Config().kafka_properties()["bootstrap.servers"] == advertised["HOST"]  # from the host the defaults fit


def test_prometheus_looks_where_the_others_are(services: dict[str, Any]) -> None:
    settings = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())
    targets = [
        target
        for job in [*settings["scrape_configs"], *settings["alerting"]["alertmanagers"]]
        for group in job["static_configs"]
        for target in group["targets"]
    ]
    assert {"detector:9095", "alertmanager:9093"} <= set(targets)
    for target in targets:
        host, port = target.split(":")
        assert host == "localhost" or int(port) in {published["target"] for published in services[host]["ports"]}, target
    mounted = {volume["target"] for volume in services["prometheus"]["volumes"]}
    assert set(settings["rule_files"]) <= mounted


def test_grafana_finds_its_data_and_dashboards(services: dict[str, Any]) -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert source["uid"] == "prometheus"
    host, port = source["url"].removeprefix("http://").split(":")
    assert int(port) in {published["target"] for published in services[host]["ports"]}
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "detector.yaml").read_text())["providers"]
    mounted = {volume["target"]: volume["source"] for volume in services["grafana"]["volumes"]}
    folder = Path(mounted[provider["options"]["path"]])
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (folder / Path(home).relative_to(provider["options"]["path"])).exists()
