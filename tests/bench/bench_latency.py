"""From produced to readable: how long an alert takes on a real Kafka: `python tests/bench/bench_latency.py [SECONDS]`.

The service runs as its users run it; another process writes readings at a steady rate, each with the time at which it was written, and
now and then an absurd one, which opens an alert; a third reads alerts with isolation.level=read_committed. Every stream changes between
two flushes, so at 100,000 streams 100,000 rows of state are saved per interval. Broker, writer, service and reader share the machine's cores.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # `deploy` is no installed package

from deploy.kafka.local_kafka import LocalKafka
from detector.adapters.kafka.topics import Topic, create_topics, output_topics, state_topic
from detector.lab.plant import Plant
from detector.lab.simulate import encode, simulate
from tests.chaos.workers import Worker

PARTITIONS, TICK_S, WARMUP_READINGS = 4, 0.02, 35
ABSURD = b'"temperature":90000.0,'


def write(servers: str, topic: str, streams: int, rate: int, begin_s: float, end_s: float) -> None:
    """Write `rate` readings per second in turn over all streams until `end_s`; from `begin_s` on 20 absurd ones per second."""
    plant = Plant(seed=1, machines=min(streams, 1_000))
    _, values = encode(next(iter(simulate(plant))), plant.streams)
    bodies = [value[value.index(b'"temperature"') :] for value in values]
    names = [b"pump%06d" % k for k in range(streams)]
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 2, "queue.buffering.max.messages": 1_000_000})
    number, start = 0, time.time()
    absurd_due_s = begin_s
    while (now := time.time()) < end_s:
        due = int((now - start) * rate) - number
        for k in range(number, number + due):
            stream = k % streams
            written_us = time.time_ns() // 1_000
            body = bodies[(stream % 1_000 + 1_000 * (k // streams)) % len(bodies)]
            if now > absurd_due_s:
                absurd_due_s += 0.05
                body = ABSURD + body[body.index(b'"pressure"') :]
            producer.produce(topic, b'{"time":%d,' % written_us + body, names[stream])
            if k % 1_000 == 0:
                producer.poll(0)
        number += due
        producer.poll(0)
        time.sleep(max(0.0, TICK_S - (time.time() - now)))
    producer.flush()


def delays_ms(servers: str, alerts: str, begin_s: float, end_s: float) -> list[float]:
    """Of every alert that was opened by a reading written between these times."""
    reader = Consumer({"bootstrap.servers": servers, "group.id": "reader", "isolation.level": "read_committed", "fetch.wait.max.ms": "5"})
    reader.assign([TopicPartition(alerts, number, 0) for number in range(PARTITIONS)])
    found: list[float] = []
    while time.time() < end_s + 3:
        message = reader.poll(0.1)
        now_us = time.time_ns() / 1_000
        if message is None or message.error():
            continue
        alert = msgspec.json.decode(message.value() or b"")
        opened_us = np.datetime64(alert["opened_at"].removesuffix("Z"), "us").astype(np.int64)
        if alert["status"] == "opened" and begin_s * 1e6 <= opened_us <= end_s * 1e6:
            found.append(float(now_us - opened_us) / 1_000)
    reader.close()
    return found


def measure(servers: str, folder: Path, delivery: str, streams: int, rate: int, seconds: float) -> None:
    """One service, one rate; prints a line."""
    group = f"bench-{delivery}-{rate}"
    topic, alerts, dead_letters = f"{group}.readings", f"{group}.alerts", f"{group}.dead-letters"
    create_topics(
        {"bootstrap.servers": servers},
        [Topic(topic, PARTITIONS), state_topic(f"{group}.{topic}.state", PARTITIONS), *output_topics(alerts, dead_letters, PARTITIONS)],
    )
    config: dict[str, Any] = {
        "group": group, "delivery": delivery, "model": "plant", "input": {"topics": [topic], "event_time": {"field": "time"}},
        "alerts": {"warmup_readings": WARMUP_READINGS, "timeout_intervals": 0}, "kafka": {"bootstrap.servers": servers},
    }  # fmt: skip
    worker = Worker(folder, group, config, -1)
    while not worker.metric("detector_partitions_assigned"):
        time.sleep(0.2)
    begin_s = time.time() + (WARMUP_READINGS + 5) * streams / rate
    end_s = begin_s + seconds
    writer = multiprocessing.Process(target=write, args=(servers, topic, streams, rate, begin_s, end_s))
    writer.start()
    found = delays_ms(servers, alerts, begin_s, end_s)
    rows, lag = worker.metric("detector_state_rows_saved_total") or 0, worker.metric("detector_consumer_lag_messages")
    writer.join()
    worker.leave()
    p50, p99 = np.percentile(found, [50, 99]) if found else (np.nan, np.nan)
    print(
        f"{delivery:<14}{rate:>8,} readings/s {streams:>8,} streams: p50 {p50:6.0f} ms, p99 {p99:6.0f} ms, "
        f"{len(found)} alerts; {rows:,.0f} rows saved, lag {lag:,.0f}",
        flush=True,
    )


def main(seconds: float) -> None:
    """All rates, both deliveries."""
    with tempfile.TemporaryDirectory() as folder:
        broker = LocalKafka(Path(folder) / "kafka")
        broker.start()
        try:
            for streams, rate in ((500, 1_000), (10_000, 20_000), (100_000, 100_000)):
                for delivery in ("at_least_once", "exactly_once"):
                    measure(broker.bootstrap_servers, Path(folder), delivery, streams, rate, seconds)
        finally:
            broker.stop()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0)
