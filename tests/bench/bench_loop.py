"""Readings per second of the whole loop on a real Kafka: `python tests/bench/bench_loop.py [MESSAGES]`.

The worker (its librdkafka threads too) runs on one core, the broker on another. 5,000 streams, 4 channels, H = 64, JSON of some
110 bytes, batches of 10,000, the real score, metrics, at-least-once delivery. The topic is filled before the clock starts.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # `deploy` is no installed package

from deploy.kafka.local_kafka import LocalKafka
from detector.adapters.bundle import load_bundle
from detector.adapters.kafka_io import TopicWriter
from detector.adapters.kafka_log import KafkaLog
from detector.adapters.kafka_topics import Topic, create_topics, output_topics
from detector.adapters.telemetry import Telemetry
from detector.cli import wiring
from detector.codec.readings import Decoded
from detector.config import load_config
from detector.core.detect import Detector, Verdicts
from detector.lab.plant import Plant
from detector.lab.simulate import encode, simulate
from detector.ports import Vitals

STREAMS, PARTITIONS = 5_000, 4
TOPIC, GROUP = "bench", "bench"


class Rooms:
    """Adds up the seconds spent in each room."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.readings: list[int] = []

    def observe(self, decoded: Decoded, verdicts: Verdicts, seconds: Mapping[str, float]) -> None:
        """Take a batch."""
        self.readings.append(len(verdicts))
        for room, spent in seconds.items():
            self.seconds.setdefault(room, []).append(spent)


def fill(properties: Mapping[str, str], messages: int) -> float:
    """Write a plant's readings to the topic; returns the mean size of a value, bytes."""
    plant = Plant(seed=1, machines=STREAMS)
    written = size = 0
    with TopicWriter(properties, TOPIC) as writer:
        for chunk in simulate(plant):
            keys, values = encode(chunk, plant.streams)
            for key, value in zip(keys, values, strict=True):
                padded = b'{"line":"north-3",' + value[1:]
                writer.write(key, padded)
                written, size = written + 1, size + len(padded)
                if written == messages:
                    return size / written
    raise AssertionError


def run(properties: Mapping[str, str], messages: int) -> None:
    """Read the topic to its end and print the figures."""
    config = load_config(
        None,
        overrides={"group": GROUP, "input/topics": (TOPIC,), "input/event_time": {"field": "time"}, "kafka": dict(properties)},
        environment={},
    )
    model = load_bundle("plant")
    detector = Detector(model, wiring.settings(config))
    log = KafkaLog([TOPIC], GROUP, config.alerts_topic, config.dead_letters_topic, properties, with_log_time=True)
    vitals, rooms = Vitals(), Rooms()
    telemetry = Telemetry(wiring.about(config, model, "bench"), vitals, detector.names)
    worker = wiring.worker(log, wiring.reading_format(config.input, model.channels), detector, config, [telemetry, rooms], vitals)
    wiring.relax_garbage_collection()
    while vitals.messages < messages // 5:  # compile, join, warm up
        worker.step()
    rooms.seconds.clear()
    rooms.readings.clear()
    begun, wall, cpu = vitals.messages, time.perf_counter(), time.process_time()
    while vitals.messages < messages:
        worker.step()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    judged = vitals.messages - begun
    worker.close()
    print(f"{judged:,} readings in {wall:.1f} s: {judged / wall / 1e3:.0f} k readings/s, {cpu / judged * 1e6:.2f} us of CPU each")
    print(f"{detector.streams} streams, {vitals.alerts_opened} alerts; {statistics.median(rooms.readings):.0f} readings per batch (median)")
    for room, spent in rooms.seconds.items():
        print(f"  {room:<8}{sum(spent) / judged * 1e6:6.2f} us per reading, {np.median(spent) * 1e3:6.1f} ms per batch (median)")


def main(messages: int) -> None:
    """Start a broker on one core, stay on the other."""
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        os.sched_setaffinity(0, cores[1:2] or cores)
        broker = LocalKafka(Path(folder))
        broker.start()
        try:
            os.sched_setaffinity(0, cores)
            properties = {"bootstrap.servers": broker.bootstrap_servers}
            create_topics(properties, [Topic(TOPIC, PARTITIONS), *output_topics(f"{GROUP}.alerts", f"{GROUP}.dead-letters")])
            size = fill(properties, messages)
            print(f"{messages:,} messages of {size:.0f} bytes, {STREAMS:,} streams, {PARTITIONS} partitions")
            os.sched_setaffinity(0, cores[:1])
            run(properties, messages)
        finally:
            broker.stop()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3_000_000)
