"""Topics on brokers that refuse settings as managed services do: a real broker with a policy in their words (`policy/ManagedTopics.java`)."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import ConfigResource, ConfigSource  # type: ignore[attr-defined] # its documented place

from deploy.kafka.local_kafka import LocalKafka, fetch_jars
from detector.adapters.kafka.admin import open_admin
from detector.adapters.kafka.client import discard
from detector.cli import main
from tests.conftest import go_without, need_local_kafka

pytestmark = pytest.mark.broker
POLICY = Path(__file__).parent / "policy" / "ManagedTopics.java"
OF_THE_TOPIC = ConfigSource.DYNAMIC_TOPIC_CONFIG.value
DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def managed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Properties of a client of such a broker."""
    need_local_kafka()
    if shutil.which("javac") is None:
        go_without("NO JAVAC: install Java's development kit")
    folder = tmp_path_factory.mktemp("managed")
    command = ["javac", "--release", "17", "-cp", f"{fetch_jars()}/*", "-d", str(folder / "classes"), str(POLICY)]
    subprocess.run(command, check=True)
    broker = LocalKafka(folder / "kafka", settings={"create.topic.policy.class.name": "ManagedTopics"}, classes=folder / "classes")
    broker.start()
    yield {"bootstrap.servers": broker.bootstrap_servers}
    broker.kill()


def topics(command: str, group: str, properties: dict[str, str], folder: Path) -> int:
    """Run `detector topics ...` for a group that reads `sensors`."""
    config = folder / "detector.yaml"
    config.write_text(json.dumps({"group": group, "input": {"topics": ["sensors"]}, "kafka": properties, "log": {"format": "console"}}))
    verb, *options = command.split()
    return main(["topics", verb, "--config", str(config), *options])


def settings(properties: dict[str, str], topic: str) -> dict[str, str]:
    """What was asked for when the topic was made."""
    admin = open_admin(properties, discard)
    (answer,) = admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, topic)]).values()
    return {name: entry.value for name, entry in answer.result().items() if entry.source == OF_THE_TOPIC}


def test_what_the_brokers_name_is_given_up_and_told(
    managed: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    assert topics("create --with-input --partitions 2", "plant", managed, tmp_path) == 0
    told = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert told["sensors"] == told["plant.alerts"] == "created"
    dead_letters = told["plant.dead-letters"].split("; ")
    assert dead_letters[0] == "created"
    assert [each.partition(": ")[0] for each in dead_letters[1:]] == ["max.message.bytes is 8388608, 10485760 was wanted"]
    assert "a larger dead letter is written without the message" in dead_letters[1]
    state = told["plant.sensors.state"].split("; ")
    assert [each.partition(": ")[0] for each in state] == [
        "created",
        "min.cleanable.dirty.ratio is left to the brokers, 0.3 was wanted",
        "segment.bytes is 52428800, 16777216 was wanted",
        "max.message.bytes is 8388608, 10485760 was wanted",
    ]
    assert "a restore may read up to twice the rows" in state[1]
    assert settings(managed, "plant.sensors.state") == {
        "cleanup.policy": "compact",
        "retention.ms": "-1",
        "segment.bytes": "52428800",
        "delete.retention.ms": str(DAY_MS // 24),
        "max.message.bytes": "8388608",
    }
    assert settings(managed, "plant.alerts") == {"cleanup.policy": "delete", "retention.ms": str(90 * DAY_MS)}
    assert topics("check", "plant", managed, tmp_path) == 0


def test_brokers_that_give_no_reason_are_asked_for_less_until_they_agree(
    managed: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert topics("create --with-input", "terse", managed, tmp_path) == 0
    assert "terse.sensors.state: created; min.cleanable.dirty.ratio is left to the brokers" in capsys.readouterr().out
    made = settings(managed, "terse.sensors.state")
    assert made.items() >= {"cleanup.policy": "compact", "retention.ms": "-1"}.items()
    assert made.keys().isdisjoint({"min.cleanable.dirty.ratio", "max.message.bytes"})
    assert settings(managed, "terse.dead-letters") == {"cleanup.policy": "delete", "retention.ms": str(14 * DAY_MS)}
    assert topics("check", "terse", managed, tmp_path) == 0


def test_without_compaction_there_is_no_state_topic_but_one_clear_message(
    managed: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert topics("create --with-input", "never", managed, tmp_path) == 2
    told = capsys.readouterr().err
    assert "refuse to create topic never.sensors.state: Config property 'cleanup.policy' with value 'compact' is not supported" in told
    assert "partitions, cleanup.policy compact; or set `delivery: at_least_once` and `state: flush_interval_s: 0`" in told
    assert "Traceback" not in told
