"""`detector topics create` and `check`, and what the service finds before its start, on a real Kafka."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined] # its documented place
from confluent_kafka.cimpl import NewPartitions

from detector.adapters.kafka.admin import ask_cluster, open_admin
from detector.adapters.kafka.client import discard
from detector.adapters.kafka.topics import Topic, check_topics, create_topics, output_topics, state_topic
from detector.cli import main
from detector.cli.topics import checked
from detector.config import load_config
from detector.errors import ConfigError

pytestmark = pytest.mark.broker
PARTITIONS = 6


class Names:
    """Topics of one test, and the configuration that names them."""

    def __init__(self, kafka: str, folder: Path) -> None:
        self.group = f"plant-{uuid.uuid4().hex[:12]}"
        self.sensors = f"{self.group}.sensors"
        self.alerts, self.dead_letters = f"{self.group}.alerts", f"{self.group}.dead-letters"
        self.state = f"{self.group}.{self.sensors}.state"
        self.properties = {"bootstrap.servers": kafka}
        self.config = folder / "detector.yaml"
        config = {"group": self.group, "input": {"topics": [self.sensors]}, "kafka": self.properties, "log": {"format": "console"}}
        self.config.write_text(json.dumps(config), encoding="utf-8")

    def topics(self, command: str) -> int:
        """Run `detector topics ...`."""
        verb, *options = command.split()
        return main(["topics", verb, "--config", str(self.config), *options])

    def make_input(self, partitions: int = PARTITIONS) -> None:
        create_topics(self.properties, [Topic(self.sensors, partitions)])

    def partitions(self, topic: str) -> int:
        return ask_cluster(self.properties, 10.0, discard).partitions[topic]

    def settings(self, topic: str) -> dict[str, str]:
        admin = open_admin(self.properties, discard)
        (future,) = admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, topic)]).values()
        return {name: entry.value for name, entry in future.result().items()}

    def wrong(self) -> ConfigError:
        """What is found wrong."""
        with pytest.raises(ConfigError) as caught:
            checked(load_config(self.config, environment={}))
        return caught.value


@pytest.fixture
def names(kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Names:
    monkeypatch.setenv("COLUMNS", "200")
    return Names(kafka, tmp_path)


def test_a_state_topic_is_compacted_and_as_wide_as_its_input(names: Names, capsys: pytest.CaptureFixture[str]) -> None:
    names.make_input()
    assert names.topics("create --partitions 2") == 0
    assert set(capsys.readouterr().out.splitlines()) == {f"{topic}: created" for topic in (names.alerts, names.dead_letters, names.state)}
    assert names.partitions(names.alerts) == names.partitions(names.dead_letters) == 2
    assert names.partitions(names.state) == PARTITIONS
    wanted = state_topic(names.state, PARTITIONS).settings
    assert wanted["cleanup.policy"] == "compact"
    assert wanted.items() <= names.settings(names.state).items()
    assert names.settings(names.alerts)["cleanup.policy"] == "delete"
    assert names.topics("check") == 0
    assert f"{names.state}: {PARTITIONS} partitions" in capsys.readouterr().out.splitlines()
    assert names.topics("create") == 0
    assert {line.split(": ")[1] for line in capsys.readouterr().out.splitlines()} == {"is there already"}


def test_nothing_is_created_for_an_input_that_is_missing(names: Names, capsys: pytest.CaptureFixture[str]) -> None:
    assert names.topics("create") == 2
    told = capsys.readouterr().err
    assert f"input topic {names.sensors}" in told
    assert "--with-input" in told
    assert names.alerts not in ask_cluster(names.properties, 10.0, discard).partitions
    assert names.topics("create --with-input --partitions 3") == 0
    assert names.partitions(names.sensors) == names.partitions(names.state) == 3


def test_all_that_is_missing_is_named_at_once_with_the_command_that_makes_it(names: Names) -> None:
    found = names.wrong()
    for part in (f"input topic {names.sensors}", f"output topics {names.alerts}, {names.dead_letters}", f"state topic {names.state}"):
        assert part in str(found)
    assert "`detector topics create`" in found.fix
    names.make_input()
    create_topics(names.properties, output_topics(names.alerts, names.dead_letters, 1))
    found = names.wrong()
    assert names.state in str(found)
    assert names.alerts not in str(found)
    assert "`detector topics create`" in found.fix


def test_an_input_that_grew_takes_its_state_topic_along(names: Names, capsys: pytest.CaptureFixture[str]) -> None:
    assert names.topics("create --with-input --partitions 2") == 0
    admin = open_admin(names.properties, discard)
    admin.create_partitions([NewPartitions(names.sensors, 5)])[names.sensors].result()
    deadline = time.monotonic() + 30
    while names.partitions(names.sensors) != 5:  # the brokers tell of them a little later
        assert time.monotonic() < deadline
        time.sleep(0.02)
    found = names.wrong()
    assert f"state topic {names.state} has 2 partitions, its input {names.sensors} has 5" in str(found)
    assert "`detector topics create` adds partitions" in found.fix
    capsys.readouterr()
    assert names.topics("create") == 0
    assert f"{names.state}: partitions added" in capsys.readouterr().out
    assert names.topics("check") == 0


def test_a_state_topic_that_would_lose_state_is_named(names: Names, capsys: pytest.CaptureFixture[str]) -> None:
    names.make_input(2)
    create_topics(names.properties, [Topic(names.state, 3, {"cleanup.policy": "compact,delete"})])
    assert names.topics("create") == 0
    capsys.readouterr()
    assert names.topics("check") == 2
    told = capsys.readouterr().err
    assert f"{names.state} has 3 partitions, its input {names.sensors} has 2" in told
    assert f"{names.state} has cleanup.policy compact,delete, not compact" in told
    assert f"--topic {names.state} --add-config cleanup.policy=compact" in told


def test_state_that_is_not_kept_needs_no_topic(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTOR_DELIVERY", "at_least_once")
    monkeypatch.setenv("DETECTOR_STATE__FLUSH_INTERVAL_S", "0")
    assert names.topics("create --with-input") == 0
    assert names.state not in ask_cluster(names.properties, 10.0, discard).partitions
    assert names.topics("check") == 0


def test_who_may_not_see_configurations_is_told_once_and_goes_on(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    create_topics(names.properties, [Topic(names.sensors, 1), Topic(names.alerts, 1)])
    create_topics(names.properties, [Topic(names.state, 1), Topic(names.dead_letters, 1)])  # neither is compacted

    def refused(_: AdminClient, resources: list[Any], **__: Any) -> Mapping[Any, Future[Any]]:
        futures = {resource: Future[Any]() for resource in resources}
        for future in futures.values():
            future.set_exception(KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)))
        return futures

    monkeypatch.setattr(AdminClient, "describe_configs", refused)
    said: list[tuple[str, str]] = []
    on_log: Callable[[str, str], None] = lambda level, line: said.append((level, line))  # noqa: E731 - typed
    state = {names.sensors: names.state, names.alerts: names.dead_letters}
    found = check_topics(names.properties, [names.sensors], [], state=state, exactly_once=True, on_log=on_log)
    assert found == {names.sensors: 1, names.state: 1, names.dead_letters: 1}
    ((level, line),) = said
    assert level == "warning"
    assert names.state in line
    assert names.dead_letters in line
    assert "DESCRIBE_CONFIGS" in line
