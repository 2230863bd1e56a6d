"""Readings per second of the whole loop on a real Kafka: `python tests/bench/bench_loop.py [MESSAGES] [STREAMS] [ROUNDS]`.

The worker (its librdkafka threads too) runs on one core, the broker on another. 4 channels, H = 64, JSON of some 110 bytes, batches of
10,000, the real score, metrics; one reading in 10,000 is absurd and opens an alert, so nearly every batch has to be committed at once. The
topic is filled before the clock starts, and read again by each way of delivery in turn, each round.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # `deploy` is no installed package

from deploy.kafka.local_kafka import LocalKafka
from detector.adapters.bundle import load_bundle
from detector.adapters.kafka.delivery import DeliveryName
from detector.adapters.kafka.log import KafkaLog
from detector.adapters.kafka.topic_io import TopicWriter
from detector.adapters.kafka.topics import Topic, create_topics, output_topics, state_topic
from detector.adapters.prometheus.metrics import Telemetry
from detector.cli import wiring
from detector.codec.readings import Decoded
from detector.config import load_config
from detector.core.batch_result import BatchResult
from detector.core.detector import Detector
from detector.lab.plant import Plant
from detector.lab.simulate import encode, simulate
from detector.ports import Observer, WorkerStats

PARTITIONS = 4
TOPIC = "bench"
ABSURD_EVERY = 10_007  # a prime: every time another stream


class Way(NamedTuple):
    """A way of delivery. interval_s: within which state is saved; 0: it is not."""

    delivery: DeliveryName
    interval_s: float

    def __str__(self) -> str:
        return f"{self.delivery}, " + (f"state saved every {self.interval_s:g} s" if self.interval_s else "state not saved")


WAYS = (Way("at_least_once", 0), Way("at_least_once", 10), Way("exactly_once", 1), Way("exactly_once", 10), Way("exactly_once", 30))


class Measured(NamedTuple):
    """Readings that were read to their verdict, and what that took: wall time, and processor time of all of the process's threads."""

    readings: int
    wall_s: float
    cpu_s: float


class Stages(Observer):
    """Adds up the seconds spent in each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.readings: list[int] = []

    def observe(self, decoded: Decoded, result: BatchResult, seconds: Mapping[str, float]) -> None:
        """Take a batch."""
        self.readings.append(len(result))
        for stage, spent in seconds.items():
            self.seconds.setdefault(stage, []).append(spent)


def fill(properties: Mapping[str, str], messages: int, streams: int) -> float:
    """Write a plant's readings to the topic; returns the mean size of a value, bytes."""
    plant = Plant(seed=1, machines=streams)
    written = size = 0
    with TopicWriter(properties, TOPIC) as writer:
        for chunk in simulate(plant):
            keys, values = encode(chunk, plant.streams)
            for key, value in zip(keys, values, strict=True):
                padded = b'{"line":"north-3",' + value[1:]
                if written % ABSURD_EVERY == 0:
                    padded = padded.replace(b'"temperature":', b'"temperature":9')
                writer.write(key, padded)
                written, size = written + 1, size + len(padded)
                if written == messages:
                    return size / written
    raise AssertionError


def run(properties: Mapping[str, str], messages: int, way: Way, group: str) -> Measured:
    """Read the topic to its end and print the figures of its last four fifths."""
    config = load_config(
        None,
        overrides={
            "group": group, "input/topics": (TOPIC,), "input/event_time": {"field": "time"}, "kafka": dict(properties),
            "delivery": way.delivery, "state/flush_interval_s": way.interval_s,
        },
        environment={},
    )  # fmt: skip
    create_topics(
        properties,
        [
            *output_topics(config.alerts_topic, config.dead_letters_topic),
            *(state_topic(name, PARTITIONS) for name in config.state_topics.values()),
        ],
    )
    model = load_bundle("plant")
    detector = Detector(model, wiring.settings(config))
    log = KafkaLog(
        [TOPIC], group, config.alerts_topic, config.dead_letters_topic, properties,
        delivery=way.delivery, state_topics=config.state_topics, with_log_time=True,
    )  # fmt: skip
    stats, stages = WorkerStats(), Stages()
    telemetry = Telemetry(wiring.service_info(config, model, "bench"), stats, detector.names)
    written = wiring.reading_format(config.input, model.channels)
    worker = wiring.worker(log, written, detector, config, [telemetry, stages], stats, flush_interval_s=way.interval_s)
    while stats.messages < messages // 5:  # compile, join, warm up
        worker.step()
    stages.seconds.clear()
    stages.readings.clear()
    begun, bytes_begun, commits_begun = stats.messages, stats.state_bytes, stats.commits
    wall, cpu = time.perf_counter(), time.process_time()
    while stats.messages < messages:
        worker.step()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    judged = stats.messages - begun
    print(f"{way}: {judged / wall / 1e3:.0f} k readings/s, {cpu / judged * 1e6:.2f} us of CPU each")
    print(
        f"  {detector.streams} streams, {stats.alerts_opened} alerts, {stats.commits - commits_begun} commits in {wall:.1f} s, "
        f"{(stats.state_bytes - bytes_begun) / judged:.1f} bytes of state per reading"
    )
    for stage, spent in stages.seconds.items():
        print(f"  {stage:<8}{sum(spent) / judged * 1e6:6.2f} us per reading, {np.median(spent) * 1e3:6.1f} ms per batch (median)")
    worker.close()
    return Measured(judged, wall, cpu)


def main(messages: int, streams: int, rounds: int) -> None:
    """Start a broker on one core, stay on the other."""
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        os.sched_setaffinity(0, cores[1:2] or cores)
        broker = LocalKafka(Path(folder))
        broker.start()
        try:
            os.sched_setaffinity(0, cores)
            properties = {"bootstrap.servers": broker.bootstrap_servers}
            create_topics(properties, [Topic(TOPIC, PARTITIONS)])
            size = fill(properties, messages, streams)
            print(f"{messages:,} messages of {size:.0f} bytes, {streams:,} streams, {PARTITIONS} partitions")
            os.sched_setaffinity(0, cores[:1])
            wiring.relax_garbage_collection()
            rates: dict[Way, list[float]] = {way: [] for way in WAYS}
            for turn in range(rounds):
                for k, way in enumerate(WAYS):
                    measured = run(properties, messages, way, f"bench-{turn}-{k}")
                    rates[way].append(measured.readings / measured.wall_s)
            plain = statistics.median(rates[WAYS[0]])
            for way, found in rates.items():
                middle = statistics.median(found)
                print(
                    f"{way}: median {middle / 1e3:.0f} k, {min(found) / 1e3:.0f} to {max(found) / 1e3:.0f}; {middle / plain:.2f} of the first"
                )
        finally:
            broker.stop()


if __name__ == "__main__":
    main(*(int(given) for given in (*sys.argv[1:], *("2000000", "5000", "2")[len(sys.argv) - 1 :])))
