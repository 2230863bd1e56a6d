"""The pictures of the dashboards: `python -m tests.deploy.pictures` (`make pictures`) plays twelve hours of a simulated plant within minutes,
on a real Kafka, with two workers, faults, damaged messages and the death of a worker, and draws what a real Prometheus scraped meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from deploy.grafana.build import DASHBOARDS, FOLDER
from deploy.grafana.draw import draw
from deploy.kafka.local_kafka import LocalKafka, free_port
from detector.adapters.kafka.topic_io import TopicWriter
from detector.cli import main
from tests.deploy.prometheus import SCRAPE_S, prometheus
from tests.parts.parts import part

ROOT = Path(__file__).resolve().parents[2]
PLAYED_S = 330.0
HOURS = 12
FAULTS = 16
BAD_S, AWAY_S, BACK_S = (120, 150), 200, 220
SEED = 7
PARTITIONS = 4


class Worker:
    """`detector run` on a port of its own, to be stopped and started again."""

    def __init__(self, config: Path) -> None:
        self.port = free_port()
        self._config = config
        self.start()

    def start(self) -> None:
        environment = {**os.environ, "DETECTOR_HTTP__PORT": str(self.port), "DETECTOR_HTTP__HOST": "127.0.0.1"}
        command = [sys.executable, "-m", "detector", "run", "--config", str(self._config)]
        log = self._config.with_name(f"worker-{self.port}.log").open("ab")
        with log:
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def kafka(folder: Path) -> Iterator[str]:
    broker = LocalKafka(folder)
    broker.start()
    try:
        yield broker.bootstrap_servers
    finally:
        broker.stop()


def play(servers: str, recording: Path, options: list[str], restarted: Worker) -> None:
    """The twelve hours, and what happens in them."""
    speed = str(HOURS * 3_600 / PLAYED_S)
    command = [sys.executable, "-m", "detector", "simulate", "--from", str(recording), "--topic", "sensors", "--speed", speed, *options]
    began_s = time.monotonic()
    is_away = is_back = False
    with subprocess.Popen(command) as simulator, TopicWriter({"bootstrap.servers": servers}, "sensors") as writer:
        while simulator.poll() is None:
            time.sleep(0.5)
            passed_s = time.monotonic() - began_s
            if BAD_S[0] < passed_s < BAD_S[1]:
                for number in range(20):
                    writer.write(b"plant1/gateway", b"not JSON" if number % 4 else b'{"event_time_us": "yesterday"}')
                writer.serve()
            if passed_s > AWAY_S and not is_away:
                is_away = True
                restarted.kill()
            if passed_s > BACK_S and not is_back:
                is_back = True
                restarted.start()


def pictures(out: Path) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="detector-pictures-")))
        servers = stack.enter_context(kafka(folder / "kafka"))
        recording, labels = folder / "hours.parquet", folder / "faults.jsonl"
        begun = (datetime.now(UTC) - timedelta(hours=HOURS) + timedelta(seconds=PLAYED_S)).strftime("%Y-%m-%dT%H:%M:%S")
        what = ["--hours", str(HOURS), "--faults", str(FAULTS), "--seed", str(SEED), "--labels", str(labels), "--start", begun]
        assert main(["simulate", "--out", str(recording), *what]) == 0
        faulty = [json.loads(line)["stream"] for line in labels.read_text().splitlines()]
        config = {
            "group": "plant1",
            "model": "plant",
            "input": {"topics": ["sensors"], "event_time": {"field": "event_time_us"}},
            "kafka": {"bootstrap.servers": servers},
            "alerts": {"budget": "2 per stream per day"},
            "metrics": {"watch": list(dict.fromkeys(faulty))[:4]},
        }
        (folder / "detector.yaml").write_text(json.dumps(config), encoding="utf-8")
        options = ["--config", str(folder / "detector.yaml")]
        assert main(["topics", "create", "--with-input", "--partitions", str(PARTITIONS), *options]) == 0
        workers = [Worker(folder / "detector.yaml") for _ in range(2)]
        for worker in workers:
            stack.callback(worker.kill)
        rules = ROOT / "deploy" / "prometheus" / "rules.yaml"
        source = stack.enter_context(prometheus(part("prometheus"), folder / "prometheus", [worker.port for worker in workers], rules))
        while [series.points[0][1] for series in source.now("sum(detector_partitions_assigned)")] != [PARTITIONS]:
            time.sleep(1)
        from_s = time.time()
        play(servers, recording, options, workers[1])
        to_s = time.time() - 3
        out.mkdir(parents=True, exist_ok=True)
        for name in DASHBOARDS:
            dashboard = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
            path = out / f"dashboard-{name}.png"
            draw(dashboard, source, from_s, to_s, SCRAPE_S, path)
            print(path, f"{path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    pictures(ROOT / "docs" / "pictures")
