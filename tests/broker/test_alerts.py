"""`detector alerts`: what stands on the topic, as a person and as a program reads it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from detector.adapters.kafka.topic_io import TopicReader, TopicWriter
from detector.cli import main
from detector.codec.alerts import AlertEncoder
from detector.codec.confluent_wire_format import frame
from detector.core.alerts import Alert, ChannelReason, alert_id
from detector.core.readings import Partition

pytestmark = pytest.mark.broker
LOG_US = 1_790_000_000_000_000
HOUR_US = 3_600_000_000
NAN = float("nan")


PARTITION = Partition("sensors", 0)
OPENED_US = 1_767_312_000_000_000
CHANNELS = (ChannelReason("temperature", 79.97, 79.156067, 78.82172, 79.49041, 0.93),)
ALERT = Alert("", "opened", "score", "evidence", "warning", "", OPENED_US, OPENED_US, 3.1, 0.002, CHANNELS, PARTITION, offset=1, position=0)


def alert(stream: str, hour: int, **facts: Any) -> Alert:
    """One event of a stream's alert, that hour of 2026-01-02; `facts` are in what it differs."""
    whole = replace(ALERT, stream=stream, event_time_us=OPENED_US + hour * HOUR_US, **facts)
    return replace(whole, id=alert_id(whole.kind, stream, PARTITION, 1, 0, OPENED_US))


@pytest.fixture
def topic(kafka: str, make_topic: Callable[..., str]) -> str:
    """Alerts in three partitions, written within the hour before LOG_US and two days earlier; some framed, some that are none."""
    name = make_topic("alerts", 3)
    plain, framed = (AlertEncoder("mine", "3211", "/detector/plant1", before) for before in (b"", frame(7)))
    silence = {"kind": "timeout", "reason": "timeout", "channels": (), "score": NAN, "tail_probability": NAN}
    written = (
        (0, 0, plain.message(alert("plant1/pump07", 0))),
        (1, 1, framed.message(alert("plant1/pump02", 1))),
        (2, 2, plain.message(alert("plant2/[red]x\x1b[2J", 2, **silence))),
        (0, 3, plain.message(alert("plant1/pump07", 3, status="updated", reason="escalated"))),
        (1, 4, plain.message(alert("plant1/pump02", 4, status="closed", reason="cleared"))),
        (2, 47, plain.message(alert("plant1/pump09", 5))),
    )
    with TopicWriter({"bootstrap.servers": kafka}, name) as writer:
        for partition, hour, message in written:
            writer.write(message.key, message.value, LOG_US - 48 * HOUR_US + hour * HOUR_US, message.headers, partition)
        writer.write(b"x", b"no alert", LOG_US, partition=0)
        writer.write(b"x", None, LOG_US, partition=1)
    doomed = Producer({"bootstrap.servers": kafka, "transactional.id": name})
    doomed.init_transactions(30)
    doomed.begin_transaction()
    doomed.produce(name, plain.message(alert("plant1/pump99", 6)).value, partition=2)
    doomed.flush(30)
    doomed.abort_transaction(30)
    return name


def shown(capsys: pytest.CaptureFixture[str], kafka: str, topic: str, *options: str) -> tuple[list[str], str]:
    """What stands on standard output, line by line, and on standard error."""
    assert main(["alerts", "--bootstrap-servers", kafka, "--topic", topic, *options]) == 0
    told = capsys.readouterr()
    return told.out.splitlines(), told.err


def test_a_person_sees_them_in_the_order_in_which_they_were_written(kafka: str, topic: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines, _ = shown(capsys, kafka, topic)
    assert lines == [
        "2026-01-02 00:00:00  ALERT   plant1/pump07  temperature 79.97, expected 78.82 to 79.49",
        "2026-01-02 01:00:00  ALERT   plant1/pump02  temperature 79.97, expected 78.82 to 79.49",
        "2026-01-02 02:00:00  ALERT   plant2/[red]x�[2J no readings come",
        "2026-01-02 03:00:00  worse   plant1/pump07  temperature 79.97, expected 78.82 to 79.49",
        "2026-01-02 04:00:00  closed  plant1/pump02  cleared after 240 min",
        "2026-01-02 05:00:00  ALERT   plant1/pump09  temperature 79.97, expected 78.82 to 79.49",
        f"{topic}: 4 opened, 1 worse, 1 closed; 3 of them open at the end; 2 messages are no alerts and are left out",
    ]


def test_a_part_of_them(kafka: str, topic: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lines, _ = shown(capsys, kafka, topic, "--stream", "*/pump0[27]")
    assert lines[-1].startswith(f"{topic}: 2 opened, 1 worse, 1 closed; 1 of them open")
    monkeypatch.setattr("time.time", lambda: LOG_US / 1e6)
    for since, opened in (("2h", 1), ("45.5h", 1), ("2d", 4), ("90m", 1), ("30s", 0), ("2026-09-19T12:13:20Z", 4), ("2099-01-01", 0)):
        lines, _ = shown(capsys, kafka, topic, "--since", since)
        assert f"{topic}: {opened} opened" in lines[-1], since


def test_a_program_gets_them_as_they_are(kafka: str, topic: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines, told = shown(capsys, kafka, topic, "--json", "--stream", "plant1/pump02")
    expected = AlertEncoder("mine", "3211", "/detector/plant1")
    originals = [
        expected.message(each).value for each in (alert("plant1/pump02", 1), alert("plant1/pump02", 4, status="closed", reason="cleared"))
    ]
    assert [line.encode() for line in lines] == originals
    assert "1 opened, 0 worse, 1 closed" in told
    assert [json.loads(line)["status"] for line in lines] == ["opened", "closed"]


def test_nothing_is_lost_between_what_was_there_and_what_comes(kafka: str, topic: str) -> None:
    message = AlertEncoder("mine", "3211", "/detector/plant1").message(alert("plant1/pump07", 9))
    with TopicReader({"bootstrap.servers": kafka}, topic) as reader, TopicWriter({"bootstrap.servers": kafka}, topic) as writer:
        for partition in range(3):
            writer.write(message.key, message.value, partition=partition)
        writer.flush()
        values = [value for messages in reader.until_end() for value in messages.value]
        deadline = time.monotonic() + 30
        while len(values) < 8 + 3 and time.monotonic() < deadline:
            values += reader.poll().value
    assert len(values) == 8 + 3
    assert values.count(message.value) == 3


def test_mistakes_are_said(kafka: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = tmp_path / "detector.yaml"
    settings.write_text(json.dumps({"group": "no-such-group", "kafka": {"bootstrap.servers": kafka, "sasl.password": "hunter2-secret"}}))
    for options, said, fix in (
        (
            [],
            f"there is no topic no-such-group.alerts on {kafka}",
            "correct its name, or grant this user READ on it; `detector topics create`",
        ),
        (["--topic", "no-such-topic"], "there is no topic no-such-topic", "correct its name"),
        (["--since", "yesterday"], "--since yesterday is neither a time nor how long ago", "write 30s, 15m, 1h or 2d, or"),
    ):
        assert main(["alerts", "--config", str(settings), *options]) == 2
        told = capsys.readouterr().err
        assert said in told
        assert f"fix: {fix}" in told
        assert "hunter2" not in told
