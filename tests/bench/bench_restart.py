"""How long a service with many streams is blind: `python tests/bench/bench_restart.py [STREAMS] [RATE]`.

In order: stopped by SIGTERM and started again. Killed (SIGKILL) at RATE readings per second, each stream in turn: restarted as a static
member, as a dynamic one; and taken over by another worker that was there already. Live again: every partition is judged up to what was
written a second ago. Broker, writer and service share the machine's cores; starting Python and torch is part of the time.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # `deploy` is no installed package

from deploy.kafka.local_kafka import LocalKafka
from detector.adapters.kafka_topics import Topic, create_topics, output_topics, state_topic
from tests.bench.bench_latency import write
from tests.chaos.workers import Worker

PARTITIONS = 4


class Bench:
    """A topic, a group, and workers for it."""

    def __init__(self, servers: str, folder: Path, name: str, streams: int, rate: int) -> None:
        self.servers, self.folder, self.name, self.streams, self.rate = servers, folder, name, streams, rate
        self.topic = f"{name}.readings"
        create_topics(
            {"bootstrap.servers": servers},
            [
                Topic(self.topic, PARTITIONS),
                state_topic(f"{name}.{self.topic}.state", PARTITIONS),
                *output_topics(f"{name}.alerts", f"{name}.dead-letters"),
            ],
        )
        self._started = 0
        self._asker = Consumer({"bootstrap.servers": servers, "group.id": name, "isolation.level": "read_committed"})
        self._partitions = [TopicPartition(self.topic, number) for number in range(PARTITIONS)]

    def start(self, instance: str | None = None) -> Worker:
        """A worker; a static member if it is named."""
        self._started += 1
        kafka = {"bootstrap.servers": self.servers} | ({"group.instance.id": instance} if instance else {})
        config: dict[str, Any] = {
            "group": self.name, "input": {"topics": [self.topic], "event_time": {"field": "time"}},
            "alerts": {"silence_intervals": 0}, "kafka": kafka, "log": {"format": "json"},
        }  # fmt: skip
        return Worker(self.folder, f"{self.name}-{self._started}", config, -1)

    def writer(self, seconds: float) -> multiprocessing.Process:
        """Writes at the rate for so long."""
        end_s = time.time() + seconds
        process = multiprocessing.Process(target=write, args=(self.servers, self.topic, self.streams, self.rate, end_s, end_s))
        process.start()
        return process

    def behind(self) -> int:
        """Messages written that are not committed as judged."""
        committed = self._asker.committed(self._partitions, timeout=10)
        ends = [self._asker.get_watermark_offsets(partition, timeout=10)[1] for partition in self._partitions]
        return sum(end - max(0, each.offset) for end, each in zip(ends, committed, strict=True))

    def wait_until_live(self, behind_max: int) -> float:
        """Seconds until at most so many messages are behind."""
        begun = time.perf_counter()
        while self.behind() > behind_max:
            if time.perf_counter() - begun > 120:
                raise TimeoutError(f"{self.behind()} messages behind after 120 s")
            time.sleep(0.05)
        return time.perf_counter() - begun


def describe(worker: Worker) -> str:
    """What a worker says of its restore, and its memory."""
    names = {"restored_s": "detector_restore_seconds", "replayed": "detector_messages_replayed_total", "streams": "detector_streams"}
    figures = {short: worker.metric(name) for short, name in names.items()}
    resident = (worker.metric("process_resident_memory_bytes") or 0) / 2**20
    return ", ".join(f"{short} {value:,.1f}" for short, value in figures.items() if value is not None) + f", {resident:,.0f} MiB resident"


def planned(bench: Bench) -> None:
    """Stopped in order, started again."""
    worker = bench.start()
    writer = bench.writer(3 * bench.streams / bench.rate)
    writer.join()
    bench.wait_until_live(0)
    begun = time.perf_counter()
    worker.leave()
    left_s = time.perf_counter() - begun
    begun = time.perf_counter()
    worker = bench.start()
    while worker.metric("detector_streams") != bench.streams:
        time.sleep(0.05)
    print(
        f"stopped in order ({left_s:.1f} s), started again: ready after {time.perf_counter() - begun:.1f} s; {describe(worker)}", flush=True
    )
    worker.leave()


def killed(bench: Bench, how: str) -> None:
    """Killed at full load; how: static, dynamic, other."""
    instance = "pod-0" if how == "static" else None
    worker = bench.start(instance)
    others = [bench.start()] if how == "other" else []
    writer = bench.writer(100)
    time.sleep(15)
    bench.wait_until_live(2 * bench.rate)
    time.sleep(15)
    worker.kill()
    begun = time.perf_counter()
    successor = others[0] if others else bench.start(instance)
    while successor.metric("detector_partitions_assigned") != PARTITIONS:
        time.sleep(0.05)
    bench.wait_until_live(bench.rate)
    print(
        f"killed at {bench.rate:,} readings/s, {how}: live again after {time.perf_counter() - begun:.1f} s; {describe(successor)}",
        flush=True,
    )
    writer.terminate()
    writer.join()
    successor.leave()


def main(streams: int, rate: int) -> None:
    """All of them, on one broker."""
    with tempfile.TemporaryDirectory() as folder:
        broker = LocalKafka(Path(folder) / "kafka")
        broker.start()
        try:
            planned(Bench(broker.bootstrap_servers, Path(folder), "planned", streams, rate))
            for how in ("static", "dynamic", "other"):
                killed(Bench(broker.bootstrap_servers, Path(folder), how, streams, rate), how)
        finally:
            broker.stop()


if __name__ == "__main__":
    main(*(int(given) for given in (*sys.argv[1:], *("100000", "100000")[len(sys.argv) - 1 :])))
