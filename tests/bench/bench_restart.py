"""How long a service with many streams is blind: `python tests/bench/bench_restart.py [STREAMS] [RATE]`; and what restoring takes of
memory: `python tests/bench/bench_restart.py memory [STREAMS] [MODEL]`.

In order: stopped by SIGTERM and started again. Killed (SIGKILL) at RATE readings per second, each stream in turn: restarted as a static
member, as a dynamic one; and taken over by another worker that was there already. Live again: every partition is judged up to what was
written a second ago. Broker, writer and service share the machine's cores; starting Python is part of the time.

Memory: of the universal model with 4 channels, unless another one is named. What running takes, at most and in the end; after an orderly restart
what restoring takes at most, and what /-/healthy and /-/ready said meanwhile, asked several times per second.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # `deploy` is no installed package

from deploy.kafka.local_kafka import LocalKafka
from detector.adapters.kafka.topics import Topic, create_topics, output_topics, state_topic
from detector.lab.plant import CHANNELS
from tests.bench.bench_latency import write
from tests.chaos.workers import Worker

PARTITIONS = 4


class Bench:
    """A topic, a group, and workers for it."""

    def __init__(self, servers: str, folder: Path, name: str, streams: int, rate: int, model: str = "plant") -> None:
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
        self.model = model
        self._started = 0
        self._asker = Consumer({"bootstrap.servers": servers, "group.id": name, "isolation.level": "read_committed"})
        self._partitions = [TopicPartition(self.topic, number) for number in range(PARTITIONS)]

    def start(self, instance: str | None = None) -> Worker:
        """A worker; a static member if it is named."""
        self._started += 1
        kafka = {"bootstrap.servers": self.servers} | ({"group.instance.id": instance} if instance else {})
        config: dict[str, Any] = {
            "group": self.name, "model": self.model, "alerts": {"timeout_intervals": 0}, "kafka": kafka, "log": {"format": "json"},
            "input": {"topics": [self.topic], "event_time": {"field": "time"}, "channels": list(CHANNELS)},
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
            if time.perf_counter() - begun > 300:
                raise TimeoutError(f"{self.behind()} messages behind after 300 s")
            time.sleep(0.05)
        return time.perf_counter() - begun


def describe(worker: Worker) -> str:
    """What a worker says of its restore, and its memory."""
    names = {
        "restored_s": "detector_restore_duration_seconds",
        "replayed": "detector_messages_replayed_total",
        "streams": "detector_streams",
    }
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


def told(worker: Worker, streams: int) -> tuple[list[str], float]:
    """Ask a worker that starts how it is until it is ready with so many streams: each answer that differs from the last, and the longest
    time between two."""
    begun, asked, slowest_s = time.perf_counter(), time.perf_counter(), 0.0
    answers: list[str] = []
    before = (-1, -1)
    while True:
        now = worker.ask("/-/healthy"), worker.ask("/-/ready")
        slowest_s, asked = max(slowest_s, time.perf_counter() - asked), time.perf_counter()
        if now != before:
            answers.append(f"{asked - begun:.1f} s {now[0]}/{now[1]}")
            before = now
        if now == (200, 200) and worker.metric("detector_streams") == streams:
            return answers, slowest_s
        if worker.exit_code is not None or asked - begun > 500:
            raise RuntimeError(worker.log_tail(20))
        time.sleep(0.1)


def memory(bench: Bench) -> None:
    """What running takes, and what restoring takes."""
    worker = bench.start()
    writer = bench.writer(600)
    while worker.metric("detector_streams") != bench.streams:
        time.sleep(0.2)
    writer.terminate()
    writer.join()
    bench.wait_until_live(0)
    while worker.metric("detector_state_rows_unsaved"):
        time.sleep(0.2)
    print(f"running: {describe(worker)}, {worker.peak_mib:,.0f} MiB at most", flush=True)
    worker.leave()
    begun = time.perf_counter()
    worker = bench.start()
    answers, slowest_s = told(worker, bench.streams)
    print(
        f"restored: ready after {time.perf_counter() - begun:.1f} s; {describe(worker)}, {worker.peak_mib:,.0f} MiB at most; "
        f"healthy/ready: {', '.join(answers)}; an answer to all took {slowest_s:.1f} s at most",
        flush=True,
    )
    worker.leave()


def main(arguments: Sequence[str]) -> None:
    """All of them, on one broker."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        broker = LocalKafka(folder / "kafka")
        broker.start()
        try:
            if arguments[:1] == ["memory"]:
                streams = int(arguments[1]) if len(arguments) > 1 else 50_000
                memory(Bench(broker.bootstrap_servers, folder, "memory", streams, 10_000, *(arguments[2:3] or ["universal"])))
            else:
                streams, rate = (int(given) for given in (*arguments, *("100000", "100000")[len(arguments) :]))
                planned(Bench(broker.bootstrap_servers, folder, "planned", streams, rate))
                for how in ("static", "dynamic", "other"):
                    killed(Bench(broker.bootstrap_servers, folder, how, streams, rate), how)
        finally:
            broker.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
