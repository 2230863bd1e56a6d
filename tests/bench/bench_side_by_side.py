"""The service beside what people would write themselves, in one run: `python tests/bench/bench_side_by_side.py [MESSAGES]`.

Consumers read the same topic of a real Kafka, one after the other, each in a process that has one core for all of its threads; the broker
has another. 4 channels, JSON of some 110 bytes, 5,000 streams, the LSTM of the bundle `plant` (H = 64), alerts produced:

    detector           the service: exactly once, state saved every 10 s, the real score (`bench_loop.py`)
    Quix Streams       state in its own store: as JSON, its default, and once more as bytes; score by prediction error (`peers.py`)
    tutorial loop      poll, pydantic, an LSTMCell of one row, state in a dictionary; score by prediction error (`peers.py`)

The service reads the whole topic, and is measured over its last four fifths; the others begin with the same messages, and are measured for
20 s. Quix Streams needs an older confluent-kafka than the service, so it lives in a folder of its own, which only its process sees.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Consumer, TopicPartition
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # `deploy` and `tests` are no installed packages

from deploy.kafka.local_kafka import LocalKafka
from detector.adapters.bundle import load_bundle
from detector.adapters.kafka.topics import Topic, create_topics
from detector.core.lstm import gates
from detector.lab.plant import DAY_US, Plant
from detector.lab.simulate import by_machine
from tests.bench.bench_loop import PARTITIONS, TOPIC, Way, fill, run

ROOT = Path(__file__).resolve().parents[2]
STREAMS = 5_000
SERVICE = Way("exactly_once", 10)
GROUP = "side-by-side"
PEERS = {"quix": "Quix Streams", "quix_bytes": "Quix Streams, bytes", "tutorial": "tutorial loop"}
REQUIREMENTS = Path(__file__).with_name("quixstreams.txt")
QUIX = Path(os.environ.get("QUIXSTREAMS", ROOT / ".cache" / "quixstreams"))
"""The folder that Quix Streams is installed into; the environment may name another."""
THRESHOLD = 3.0
"""Of a peer's alert, in units of the largest error on normal readings."""


def write_weights(folder: Path) -> None:
    """The bundle's LSTM and scaling, a linear head for the next reading, and a threshold: `weights.npz` for the peers."""
    model = load_bundle("plant")
    assert model.scaling is not None
    cell = {name: model.network.weights[f"{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    normal = np.stack(by_machine(Plant(seed=2), DAY_US), axis=1)
    x = ((normal - model.scaling.location) / model.scaling.scale).astype(np.float32)  # [T, S, D]
    h = c = np.zeros((x.shape[1], model.network.hidden), np.float32)
    memory = []
    for values in x[:-1]:
        *_, c, h = gates(values, h, c, cell["weight_ih"], cell["weight_hh"], cell["bias_ih"] + cell["bias_hh"])
        memory.append(h)
    features, later = np.concatenate(memory[100:]).astype(np.float64), np.concatenate(x[101:]).astype(np.float64)
    features = np.hstack((features, np.ones_like(features[:, :1])))
    head = np.linalg.solve(features.T @ features + np.eye(features.shape[1]), features.T @ later)
    error = np.abs(later - features @ head).mean(axis=1)
    arrays = {f"cell.{name}": weight for name, weight in cell.items()} | {
        "head.weight": head[:-1].T, "head.bias": head[-1], "location": model.scaling.location, "scale": model.scaling.scale,
        "threshold": THRESHOLD * error.max(),
    }  # fmt: skip
    narrow: dict[str, Any] = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
    np.savez(folder / "weights.npz", **narrow)


def measured(command: list[str], extra: Path | None = None) -> dict[str, Any]:
    """Run a consumer on the core that this process has; what its last line says. extra: a folder whose packages come first."""
    paths = [str(path) for path in (extra, ROOT) if path is not None]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    *said, last = done.stdout.strip().splitlines()
    print("\n".join(said), flush=True)
    found: dict[str, Any] = json.loads(last)
    return found


def service(servers: str, messages: int) -> None:
    """In a process of its own: the service, with its figures as the last line."""
    found = run({"bootstrap.servers": servers}, messages, SERVICE, GROUP)._asdict()
    versions = {name: version(name) for name in ("confluent-kafka", "numba")}
    print(json.dumps(found | {"versions": {"detector": version("detector")} | versions}))


def written(servers: str, topic: str) -> int:
    """How many records a topic holds."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "count"})
    found = consumer.list_topics(topic).topics[topic].partitions
    ends = [consumer.get_watermark_offsets(TopicPartition(topic, number))[1] for number in found]
    consumer.close()
    return sum(ends)


def main(messages: int) -> None:
    """Fill a topic, let each read it, print the table."""
    if not (QUIX / "quixstreams").is_dir():
        raise SystemExit(
            f"Quix Streams is not there. fix: {Path(sys.executable).name} -m pip install --target {QUIX} --requirement {REQUIREMENTS}"
        )
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.sched_setaffinity(0, cores[1:2] or cores)
        broker = LocalKafka(folder / "kafka")
        broker.start()
        try:
            os.sched_setaffinity(0, cores)
            servers = broker.bootstrap_servers
            alerts = {name: f"{name}.alerts" for name in PEERS}
            create_topics({"bootstrap.servers": servers}, [Topic(TOPIC, PARTITIONS), *(Topic(name, 1) for name in alerts.values())])
            size = fill({"bootstrap.servers": servers}, messages, STREAMS)
            print(f"{messages:,} messages of {size:.0f} bytes, {STREAMS:,} streams, {PARTITIONS} partitions", flush=True)
            write_weights(folder)
            os.sched_setaffinity(0, cores[:1])
            results = {"detector": measured([__file__, "service", servers, str(messages)])}
            for name, topic in alerts.items():
                command = [str(Path(__file__).with_name("peers.py")), name, str(folder), servers, TOPIC, topic]
                results[PEERS[name]] = measured(command, None if name == "tutorial" else QUIX)
                assert written(servers, topic), f"{name} has found nothing: is the threshold too high?"
        finally:
            broker.stop()
    show(results)


def show(results: dict[str, dict[str, Any]]) -> None:
    """The table. Ratios are the service's figures to the others': of the clock's, and of processor time alone."""
    table = Table(title=f"One core, Python {platform.python_version()}")
    for column in ("", "readings/s", "detector is", "CPU us/reading", "by CPU", "seconds", "versions"):
        table.add_column(column, justify="left" if column in ("", "versions") else "right")
    rate = {name: found["readings"] / found["wall_s"] for name, found in results.items()}
    cpu_us = {name: 1e6 * found["cpu_s"] / found["readings"] for name, found in results.items()}
    for name, found in results.items():
        ratios = (f"{rate['detector'] / rate[name]:.1f} times", f"{cpu_us[name] / cpu_us['detector']:.1f} times")
        faster, cheaper = ratios if name != "detector" else ("", "")
        versions = ", ".join(f"{package} {number}" for package, number in found["versions"].items())
        table.add_row(name, f"{rate[name]:,.0f}", faster, f"{cpu_us[name]:.2f}", cheaper, f"{found['wall_s']:.1f}", versions)
    Console(width=140).print(table)


if __name__ == "__main__":
    if sys.argv[1:2] == ["service"]:
        service(sys.argv[2], int(sys.argv[3]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 3_000_000)
