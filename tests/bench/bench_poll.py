"""Messages per second that KafkaLog.poll brings from a real broker, as columns: `python -m tests.bench.bench_poll`.

KAFKA_BOOTSTRAP_SERVERS names the broker; without it a local one is started.
"""

from __future__ import annotations

import os
import tempfile
import time
import uuid
from pathlib import Path

from deploy.kafka.local_kafka import LocalKafka
from detector.adapters.kafka.log import KafkaLog
from detector.adapters.kafka.topic_io import TopicWriter
from detector.adapters.kafka.topics import Topic, create_topics

MESSAGES, BATCH, PARTITIONS = 2_000_000, 10_000, 4
VALUE = b'{"time":"2026-11-01T10:00:00.000Z","temperature":71.25,"pressure":4.125,"rpm":2950.5,"current":12.75,"x":1}' + b" " * 3


def main() -> None:
    """Prints one line for writing and one per way of polling."""
    given = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    with tempfile.TemporaryDirectory() as folder:
        broker = None if given else LocalKafka(Path(folder))
        if broker is not None:
            began = time.perf_counter()
            broker.start()
            print(f"broker started in {time.perf_counter() - began:.1f} s")
        try:
            measure({"bootstrap.servers": given or (broker.bootstrap_servers if broker else "")})
        finally:
            if broker is not None:
                broker.stop()


def measure(properties: dict[str, str]) -> None:
    topic = f"bench-{uuid.uuid4().hex[:12]}"
    create_topics(properties, [Topic(topic, PARTITIONS)])
    began = time.perf_counter()
    with TopicWriter(properties, topic) as writer:
        for number in range(MESSAGES):
            writer.write(b"stream-%d" % (number % 5_000), VALUE)
    print(f"write  {MESSAGES / (time.perf_counter() - began) / 1e3:6.0f} k messages/s of {len(VALUE)} bytes")
    for with_log_time in (False, True):
        poll_all(properties, topic, with_log_time)


def poll_all(properties: dict[str, str], topic: str, with_log_time: bool) -> None:
    log = KafkaLog([topic], f"bench-{uuid.uuid4().hex[:8]}", "-", "-", properties, delivery="at_least_once", with_log_time=with_log_time)
    try:
        count, polls, began, cpu = 0, 0, 0.0, 0.0
        while count < MESSAGES:
            polled = log.poll(BATCH, 0.1)
            if polled.assigned:
                log.resume({partition: at.offset for partition, at in log.restore(polled.assigned).items()})
                began, cpu = time.perf_counter(), time.thread_time()
            polls += len(polled.messages) > 0
            count += len(polled.messages)
        wall, cpu = time.perf_counter() - began, time.thread_time() - cpu
    finally:
        log.close()
    print(
        f"poll   {count / wall / 1e3:6.0f} k messages/s, {cpu / count * 1e6:.2f} us of this thread per message, "
        f"{count / polls:,.0f} messages per batch"
        f"{', with log time' if with_log_time else ''}"
    )


if __name__ == "__main__":
    main()
