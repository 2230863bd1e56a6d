"""The demo's embedded broker serves what the demo needs of it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from detector.adapters.kafka.log import KafkaLog
from detector.adapters.kafka.mock_broker import MockBroker
from detector.adapters.kafka.topic_io import TopicReader, TopicWriter
from detector.cli import main
from detector.codec.messages import Message
from detector.ports import CommitBatch


def test_a_worker_reads_and_writes_on_the_mock_broker() -> None:
    with MockBroker(["in", "alerts", "dead"]) as broker:
        properties = {"bootstrap.servers": broker.bootstrap_servers}
        log = KafkaLog(["in"], "demo", "alerts", "dead", properties, delivery="at_least_once")
        assert log.check() == {"in": 4, "alerts": 4, "dead": 4}
        with TopicWriter(properties, "in") as writer:
            for number in range(1000):
                writer.write(b"stream %d" % (number % 20), b"%d" % number)
        values: list[bytes | None] = []
        deadline = time.monotonic() + 30
        while len(values) < 1000:
            assert time.monotonic() < deadline
            polled = log.poll(500, 0.1)
            log.resume({partition: restored.offset for partition, restored in log.restore(polled.assigned).items()})
            values += polled.messages.value
        log.commit(CommitBatch([Message(b"stream 1", b"alert", [("ce_id", b"1")])], [Message(b"stream 2", b"dead")]))
        with TopicReader(properties, "alerts") as reader:
            (alerts,) = list(reader.batches())
        log.close()
    assert sorted(int(value or -1) for value in values) == list(range(1000))
    assert alerts.value == [b"alert"]
    assert list(alerts.headers(0)) == [("ce_id", b"1")]


def test_the_service_refuses_it_where_it_could_not_keep_its_word(small_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with MockBroker(["sensors"]) as broker:
        command = ["run", "--topic", "sensors", "--bootstrap-servers", broker.bootstrap_servers, "--model", str(small_bundle)]
        assert main(command) == 2
    error, fix = capsys.readouterr().err.splitlines()[-2:]
    assert error.startswith("error: this is librdkafka's mock broker: it has no transactions")
    assert fix == "fix: set `delivery: at_least_once` and `state: flush_interval_s: 0`"


def test_its_process_ends_with_its_standard_input() -> None:
    command = [sys.executable, "-m", "detector.adapters.kafka.mock_broker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline().startswith("127.0.0.1:")
        process.stdin.close()
        assert process.wait(10) == 0
