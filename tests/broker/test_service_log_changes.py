"""The whole service, while topics change under it: retention, topics deleted and made anew, a log that lost its end.

Every log gets lots of LOT messages: readings of one stream, of which the one at ASTRAY opens an alert in state that begins with the lot,
and some messages that cannot be read. So it can be told from alerts and dead letters that a new log was judged, whole and from its beginning.
"""

from __future__ import annotations

import json
import signal
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.kafka.local_kafka import LocalKafka
from detector.adapters.bundle import Bundle, save_bundle
from detector.adapters.kafka.topic_io import TopicReader, TopicWriter
from detector.adapters.kafka.topics import Topic, create_topics
from detector.cli import main
from detector.codec.dead_letters import REASON
from detector.core.readings import Partition
from tests.broker.changes import delete_topics, make_anew, retain_from
from tests.broker.members import FAST, settle
from tests.broker.service import Service, alerts_on
from tests.core.builders import model_of, normal_values

pytestmark = pytest.mark.broker
Start = Callable[[list[str]], Service]
LOT, ASTRAY, UNREADABLE = 60, 50, (7, 31, 59)
START_US = 1_750_000_000_000_000
MISSED, CHANGES, MISSING = "detector_messages_missed_total", "detector_log_changes_total", "detector_input_topics_missing"


class Site:
    """Input topics of one partition each, a group with its topics, and its configuration.

    changes   of the configuration's sections
    """

    def __init__(
        self, servers: str, folder: Path, inputs: int = 1, settings: dict[str, str] | None = None, **changes: dict[str, Any]
    ) -> None:
        self.servers, self.group = servers, f"group-{uuid.uuid4().hex[:8]}"
        self.topics = [f"in-{uuid.uuid4().hex[:8]}" for _ in range(inputs)]
        self.settings = settings or {}
        self._written = dict.fromkeys(self.topics, 0)
        save_bundle(folder / "model", Bundle(model_of(channels=1, hidden=8)))
        self._config: dict[str, Any] = {
            "group": self.group,
            "model": str(folder / "model"),
            "input": {"topics": self.topics, "event_time": {"field": "t"}},
            "alerts": {"budget": "30 per stream per hour", "warmup_readings": 45},
            "state": {"flush_interval_s": 0.2},
            "kafka": {"bootstrap.servers": servers, **FAST},
        }
        self._folder = folder
        create_topics({"bootstrap.servers": servers}, [Topic(topic, 1, self.settings) for topic in self.topics])
        assert main(["topics", "create", *self.options()]) == 0

    def options(self, **changes: dict[str, Any]) -> list[str]:
        """To be run with; changes: of sections of the configuration."""
        file = self._folder / f"{uuid.uuid4().hex}.json"
        sections = {name: {**section, **changes.get(name, {})} for name, section in self._config.items() if isinstance(section, dict)}
        file.write_text(json.dumps({**self._config, **sections, "group": changes.get("group", {}).get("name", self.group)}))
        return ["--config", str(file)]

    def write(self, topic: str, lots: int = 1, pad: int = 0) -> None:
        """Whole lots. pad: bytes that each message has beside."""
        values = normal_values(LOT, 1).tolist()
        with TopicWriter({"bootstrap.servers": self.servers, "batch.num.messages": "10"}, topic) as writer:
            for _ in range(lots):
                for at, (value,) in enumerate(values):
                    facts = {"t": START_US + 1_000_000 * self._written[topic], "channel0": value + 100.0 * (at == ASTRAY), "pad": "x" * pad}
                    writer.write(b"pump", b"no json" + b" " * pad if at in UNREADABLE else json.dumps(facts).encode())
                    self._written[topic] += 1
            writer.flush()

    def make_anew(self, *topics: str) -> None:
        make_anew(self.servers, *(Topic(topic, 1, self.settings) for topic in topics))

    def settled(self, topic: str, offset: int) -> None:
        """Wait until the group's offset is this one."""
        settle(self.servers, self.group, Partition(topic, 0), offset)

    def opened(self, topic: str) -> list[int]:
        """Of each alert that was opened in an input, the offset of its reading."""
        alerts = [alert for alert in alerts_on(self.servers, f"{self.group}.alerts") if alert["input"]["topic"] == topic]
        return [alert["input"]["offset"] for alert in alerts if alert["status"] == "opened"]

    def dead_letters(self, topic: str) -> list[int]:
        """Of each dead letter of an input, the offset of its message."""
        with TopicReader({"bootstrap.servers": self.servers}, f"{self.group}.dead-letters") as reader:
            found = [dict(batch.headers(at)) for batch in reader.batches() for at in range(len(batch))]
        return [int(each[REASON[2]] or b"") for each in found if each[REASON[0]] == topic.encode()]


def lots(count: int) -> list[int]:
    """Offsets of the unreadable messages of so many lots from offset 0 on."""
    return [LOT * lot + at for lot in range(count) for at in UNREADABLE]


def polled(service: Service) -> float:
    return service.metric("detector_messages_polled_total")


def passed(service: Service, messages: int) -> None:
    """Wait until so many messages were polled or missed."""
    service.wait_for(lambda: polled(service) + service.metric(MISSED) >= messages)


def test_what_retention_takes_from_a_running_worker_is_counted(kafka: str, tmp_path: Path, start: Start) -> None:
    site = Site(kafka, tmp_path)
    (topic,) = site.topics
    resets = {"earliest": "retention", "latest": "auto_offset_reset"}
    services = {}
    for reset in resets:
        options = site.options(group={"name": f"{site.group}-{reset}"}, kafka={"auto.offset.reset": reset})
        assert main(["topics", "create", *options]) == 0
        services[reset] = start(options)
    for service in services.values():
        service.wait_for(lambda service=service: bool(service.said("partitions restored")))  # type: ignore[misc]
    site.write(topic)
    for reset, service in services.items():
        settle(kafka, f"{site.group}-{reset}", Partition(topic, 0), LOT)
        service.process.send_signal(signal.SIGSTOP)
    site.write(topic, 2)
    retain_from(kafka, {(topic, 0): 2 * LOT})
    for service in services.values():
        service.process.send_signal(signal.SIGCONT)
    for reset, service in services.items():  # some messages lay in a worker's socket already when it was stopped
        passed(service, 3 * LOT)
        lost = service.metric(MISSED, reason="retention")
        assert 0 < lost <= LOT
        assert polled(service) + service.metric(MISSED) == 3 * LOT
        assert service.metric(MISSED, reason="auto_offset_reset") == (LOT if reset == "latest" else 0)
        (line,) = service.said("messages are missed: retention")
        assert (line["level"], line["messages"], line["partition"]) == ("warning", lost, f"{topic}/0")
        assert len(service.said("messages are missed: auto.offset.reset")) == (reset == "latest")
        assert service.metric(CHANGES) == service.metric("detector_messages_replayed_total") == 0
    site.write(topic)
    for reset, service in services.items():
        judged = 4 * LOT if reset == "earliest" else 3 * LOT
        passed(service, 4 * LOT)
        settle(kafka, f"{site.group}-{reset}", Partition(topic, 0), 4 * LOT)
        assert polled(service) == judged - service.metric(MISSED, reason="retention")
        assert service.end(signal.SIGTERM) == 0


def test_a_topic_made_anew_is_judged_from_its_first_message(kafka: str, tmp_path: Path, start: Start) -> None:
    site = Site(kafka, tmp_path, inputs=2)
    same, longer = site.topics
    for topic in site.topics:
        site.write(topic)
    service = start(site.options())
    for topic in site.topics:
        site.settled(topic, LOT)
    assert service.end(signal.SIGTERM) == 0
    service = start(site.options())
    service.wait_for(lambda: bool(service.said("partitions restored")))

    site.make_anew(same, longer)
    site.write(same)
    site.write(longer, 2)
    service.wait_for(lambda: polled(service) >= 3 * LOT)
    for topic, count in ((same, 1), (longer, 2)):
        site.settled(topic, LOT * count)
        assert site.opened(topic)[:2] == [ASTRAY, ASTRAY]
        assert site.dead_letters(topic) == lots(1) + lots(count)
        assert {line["partition"] for line in service.said("cold start: the topic was recreated")} >= {f"{topic}/0"}
    assert service.metric(CHANGES, reason="recreated") == 2 == service.metric(CHANGES)
    assert service.metric(MISSED) == service.metric("detector_messages_replayed_total") == 0
    assert service.metric("detector_readings_unaccounted_total") == service.metric(MISSING) == 0
    assert service.end(signal.SIGTERM) == 0

    site.make_anew(same)
    site.write(same, 3)
    service = start(site.options())
    site.settled(same, 3 * LOT)
    assert site.dead_letters(same) == lots(1) + lots(1) + lots(3)
    assert site.opened(same)[2] == ASTRAY
    assert polled(service) == 3 * LOT
    assert service.metric(CHANGES, reason="recreated") == 1 == service.metric(CHANGES)
    assert service.metric(MISSED) == service.metric("detector_messages_replayed_total") == 0


def test_a_log_that_lost_its_end_is_judged_from_where_it_differs(own_kafka: LocalKafka, tmp_path: Path, start: Start) -> None:
    site = Site(own_kafka.bootstrap_servers, tmp_path, settings={"segment.bytes": str(2**20)})
    (topic,) = site.topics
    service = start(site.options())
    pad, count = 10_000, 4  # lots: more than two segments

    def lose() -> int:
        own_kafka.stop()
        at = own_kafka.lose_last_segment(topic, 0)
        own_kafka.start()
        return at

    site.write(topic, count, pad)
    site.settled(topic, LOT * count)
    before = site.dead_letters(topic)
    cut = lose()
    site.write(topic, count, pad)  # longer than before
    end = cut + LOT * count
    site.settled(topic, end)
    service.wait_for(lambda: service.metric(CHANGES, reason="truncated") == 1)
    assert site.dead_letters(topic) == before + [cut + at for at in lots(count)]
    assert cut + ASTRAY in site.opened(topic)
    assert service.metric(MISSED) == 0
    (line,) = service.said("cold start")
    assert (line["level"], line["offset"]) == ("warning", cut)
    assert service.end(signal.SIGTERM) == 0

    before = site.dead_letters(topic)
    cut = lose()
    site.write(topic, count, pad)
    service = start(site.options())
    site.settled(topic, cut + LOT * count)
    assert site.dead_letters(topic) == before + [cut + at for at in lots(count)]
    assert service.metric(CHANGES, reason="truncated") == 1 == service.metric(CHANGES)
    assert service.metric(MISSED) == service.metric("detector_messages_replayed_total") == 0

    site.make_anew(topic)  # whose leader has a lower epoch than that of the old one, since the broker was started again
    site.write(topic)
    site.settled(topic, LOT)
    assert service.metric(CHANGES, reason="recreated") == 1


def test_a_topic_that_is_gone_costs_itself_only(kafka: str, tmp_path: Path, start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    site = Site(kafka, tmp_path, inputs=2)
    gone, other = site.topics
    service = start(site.options())
    service.wait_for(lambda: bool(service.said("partitions restored")))
    site.write(gone)
    delete_topics(kafka, gone)  # what was read of it is being committed
    service.wait_for(lambda: service.metric(MISSING) == 1)
    assert len(service.said(f"input topic {gone} does not exist: nothing of it is judged until that is mended")) == 1
    site.write(other)
    site.settled(other, LOT)
    assert service.get("/-/ready")[0] == 200
    create_topics({"bootstrap.servers": kafka}, [Topic(gone, 1)])
    told = len(site.dead_letters(gone))
    site.write(gone)
    site.settled(gone, LOT)
    service.wait_for(lambda: service.metric(MISSING) == 0)
    assert site.dead_letters(gone)[told:] == lots(1)
    assert site.dead_letters(other) == lots(1)
    assert service.metric(MISSED) == service.metric("detector_readings_unaccounted_total") == 0
    assert service.end(signal.SIGTERM) == 0

    delete_topics(kafka, gone)
    capsys.readouterr()
    assert main(["run", *site.options(input={"missing": "fail"})]) == 2
    told_of = capsys.readouterr().err
    assert f"input topic {gone}" in told_of
    assert "fix: " in told_of
    service = start(site.options())  # `wait`
    site.write(other)
    site.settled(other, 2 * LOT)
    service.wait_for(lambda: service.metric(MISSING) == 1)
    create_topics({"bootstrap.servers": kafka}, [Topic(gone, 1)])
    site.write(gone)
    site.settled(gone, LOT)
    assert site.dead_letters(gone)[told:] == lots(1) + lots(1)
    assert service.end(signal.SIGTERM) == 0
    delete_topics(kafka, gone, other)
    assert main(["run", *site.options()]) == 2
    assert f"input topics {gone}, {other}" in capsys.readouterr().err


def test_an_output_topic_that_is_gone_is_an_outage(kafka: str, tmp_path: Path, start: Start) -> None:
    site = Site(kafka, tmp_path)
    (topic,) = site.topics
    service = start(site.options())
    service.wait_for(lambda: bool(service.said("partitions restored")))
    delete_topics(kafka, f"{site.group}.alerts")
    site.write(topic)
    service.wait_for(lambda: service.metric("detector_log_unavailable_errors_total") >= 1)
    line = service.said("log unavailable")[-1]
    assert "`detector topics create` makes the output topics" in line["fix"]
    assert service.get("/-/ready")[0] == 503
    assert main(["topics", "create", *site.options()]) == 0
    site.settled(topic, LOT)
    assert site.opened(topic) == [ASTRAY]
    assert site.dead_letters(topic) == lots(1)
    assert service.metric("detector_readings_unaccounted_total") == service.metric(MISSED) == service.metric(CHANGES) == 0
    assert service.end(signal.SIGTERM) == 0
