"""Broker, workers and what they run on: set up, kept alive, taken down."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

from detector.adapters.bundle import Bundle, load_bundle, save_bundle
from detector.adapters.kafka.topics import Topic, create_topics
from detector.cli import main
from detector.config import load_config
from tests.chaos.cluster import ProxiedKafka
from tests.chaos.proxy import HOST
from tests.chaos.source import IDLE_TICKS, PARTITIONS, TICK_US, TOPIC
from tests.chaos.witness import Trouble
from tests.chaos.workers import Worker
from tests.core.builders import model_of

GROUP = "chaos"
INPUT = Topic(TOPIC, PARTITIONS, {"segment.ms": "1000"})
"""What a round writes begins a segment of its own, which can be lost."""
PLACES = 6  # workers that can be alive at once
SESSION_S = 1.5
NAME_TAKEN = "another worker runs under the same group.instance.id"
TRANSACTION_S = 6.0


class Site:
    """A broker with topics, a bundle, and workers that come and go.

    folder      for all of it, and for logs
    delivery    the workers' setting
    interval_s  within which they save state
    is_static   whether workers have lasting names (`group.instance.id`): those that are free are given again, the lowest first
    """

    def __init__(self, folder: Path, delivery: str = "exactly_once", interval_s: float = 1.0, *, is_static: bool = False) -> None:
        self.folder = folder
        self.is_static = is_static
        self.workers: list[Worker] = []
        self.restarts: list[str] = []
        self._started = 0
        self._heard = Counter[str]()
        self.broker = ProxiedKafka(folder / "kafka", PLACES, GROUP)
        model = model_of(channels=2, hidden=8)
        save_bundle(folder / "model", Bundle(model))
        self.model = load_bundle(str(folder / "model"))
        self._settings = settings(folder / "model", delivery, interval_s)
        self._file = folder / "site.yaml"
        self._file.write_text(json.dumps(self._with_servers(self.broker.bootstrap_servers)))
        self.config = load_config(self._file, environment={})

    def open(self, workers: int, kind: str = "") -> None:
        """Start the broker, make the topics, start workers, all of them broken if a kind is named."""
        self.broker.start()
        create_topics({"bootstrap.servers": self.broker.bootstrap_servers}, [INPUT])
        if main(["topics", "create", "--config", str(self._file), "--partitions", str(PARTITIONS)]) != 0:
            raise Trouble("the topics could not be made")
        for _ in range(workers):
            self.add_worker(kind)

    def add_worker(self, kind: str = "", instance: int | None = None) -> Worker:
        """One more worker, at a free proxy, under a free name unless one is given."""
        self._started += 1
        proxy = min(set(range(PLACES)) - {other.proxy for other in self.workers})
        if instance is None:
            instance = min(set(range(PLACES)) - {other.instance for other in self.workers})
        config = self._with_servers(f"{HOST}:{self.broker.proxies.ports[proxy]}")
        if self.is_static:
            config["kafka"]["group.instance.id"] = f"instance-{instance}"
        worker = Worker(self.folder, f"worker-{self._started:03}", config, proxy, kind, instance)
        self.workers.append(worker)
        return worker

    def kill(self, worker: Worker) -> None:
        """SIGKILL."""
        self.workers.remove(worker)
        worker.kill()

    def see_it_end(self, worker: Worker, seconds: float) -> None:
        """A worker whose name another one has by now has to end by itself.

        raises Trouble  it goes on, or ended in another way
        """
        deadline = time.monotonic() + seconds
        while worker.exit_code is None and time.monotonic() < deadline:
            time.sleep(0.05)
        self.workers.remove(worker)
        if worker.exit_code != 1 or NAME_TAKEN not in worker.log_tail():
            code = worker.exit_code
            worker.kill()
            raise Trouble(f"{worker.name} ended with {code}, though another has its name:\n{worker.log_tail()}")

    def remove(self, worker: Worker) -> None:
        """SIGTERM.

        raises Trouble  it did not leave in order
        """
        self.workers.remove(worker)
        code = worker.leave()
        if code != 0 and not (code == -signal.SIGTERM and not worker.has_begun):
            raise Trouble(f"{worker.name} left with {code} instead of 0:\n{worker.log_tail()}")

    def supervise(self) -> None:
        """Start workers again that ended by themselves, as whoever runs the service would, and note why.

        raises Trouble  one ended in a way that it must not
        """
        for worker in list(self.workers):
            code = worker.exit_code
            if code is None:
                continue
            said = worker.log_tail()
            if "group.instance.id" in said.rpartition("error: ")[2]:
                raise Trouble(f"{worker.name} ended for its name, which no other worker had:\n{said}")
            if worker.kind:
                reason = "broken on purpose"
            elif code == 1 and "error: " in said and "this is a bug" not in said:
                reason = said.rpartition("error: ")[2].partition("\n")[0]
            else:
                raise Trouble(f"{worker.name} ended by itself with {code}:\n{said}")
            self.workers.remove(worker)
            self.restarts.append(reason)
            self.add_worker()

    def passed_over(self) -> dict[int, range]:
        """Per number of the partition what workers say, since this was asked last, that retention took before they had it."""
        passed = {}
        for worker in self.workers:
            lines = worker.said("messages are missed: retention")
            for line in lines[self._heard[worker.name] :]:
                passed[int(line["partition"].rpartition("/")[2])] = range(line["continuing_at"] - line["messages"], line["continuing_at"])
            self._heard[worker.name] = len(lines)
        return passed

    def accounted(self) -> dict[str, float]:
        """Per worker: messages that it says were judged, or missed."""
        names = "detector_messages_polled_total", "detector_messages_missed_total"
        return {worker.name: sum(worker.metric(name) or 0.0 for name in names) for worker in self.workers}

    def unaccounted(self) -> float:
        """Readings without a disposition, over all workers that answer."""
        return sum(worker.metric("detector_readings_unaccounted_total") or 0.0 for worker in self.workers)

    def log_tails(self) -> str:
        """What every worker said last."""
        return "\n".join(f"-- {worker.name}\n{worker.log_tail()}" for worker in self.workers)

    def close(self) -> None:
        """End everything at once."""
        for worker in self.workers:
            worker.kill()
        self.broker.close()

    def _with_servers(self, servers: str) -> dict[str, Any]:
        return {**self._settings, "kafka": {**self._settings["kafka"], "bootstrap.servers": servers}}


def settings(model: Path, delivery: str, interval_s: float) -> dict[str, Any]:
    """The workers' configuration: small batches, and everything that waits waits briefly."""
    return {
        "group": GROUP,
        "model": str(model),
        "delivery": delivery,
        "input": {"topics": [TOPIC], "event_time": {"field": "t"}},
        "alerts": {"budget": "30 per stream per hour", "warmup_readings": 45, "timeout_intervals": 6},
        "streams": {"idle_ttl_s": IDLE_TICKS * TICK_US / 1e6},
        "state": {"flush_interval_s": interval_s},
        "service": {"batch_messages_max": 150, "poll_timeout_ms": 20, "backoff_ms_max": 300},
        "log": {"level": "info", "format": "json"},
        "kafka": {
            "session.timeout.ms": int(SESSION_S * 1000),
            "heartbeat.interval.ms": 300,
            "transaction.timeout.ms": int(TRANSACTION_S * 1000),
            "reconnect.backoff.max.ms": 200,
            # A broker that was killed and is back may wait for members that are no more (Kafka 4.3.0 loads the group twice and loses
            # their timers): for as long as this.
            "max.poll.interval.ms": 20_000,
        },
    }
