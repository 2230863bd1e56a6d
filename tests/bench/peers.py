"""The consumers that `bench_side_by_side.py` measures beside the service, each as its users would write it: one message at a time.

    python tests/bench/peers.py quix|quix_bytes|tutorial FOLDER SERVERS TOPIC ALERTS

Run as a process of its own, which imports nothing of the project: Quix Streams needs an older Kafka client. The model is an LSTMCell with a
linear head that expects the next reading; the score is the mean absolute error of what was expected, and a score above a threshold is an
alert. Its last line on standard output is the measurement as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

CHANNELS = ("temperature", "pressure", "vibration", "current")
WARM_UP, SECONDS, LOOK_EVERY = 20_000, 20.0, 100
"""Readings before the clock starts: four of each stream. How long it runs, and after how many readings it is looked at."""


class Meter:
    """Counts readings; after WARM_UP of them the clock runs for SECONDS. Processor time is that of the process, its clients' threads included."""

    def __init__(self) -> None:
        self.readings = 0
        self._begun: tuple[int, float, float] = (0, 0.0, 0.0)

    def is_over(self) -> bool:
        """Count one reading."""
        self.readings += 1
        if self.readings == WARM_UP:
            self._begun = self._now()
        return self.readings > WARM_UP and self.readings % LOOK_EVERY == 0 and time.perf_counter() - self._begun[1] > SECONDS

    def report(self, **versions: str) -> None:
        """Print what was measured."""
        readings, wall_s, cpu_s = (now - then for now, then in zip(self._now(), self._begun, strict=True))
        print(json.dumps({"readings": readings, "wall_s": wall_s, "cpu_s": cpu_s, "versions": versions}))

    def _now(self) -> tuple[int, float, float]:
        return self.readings, time.perf_counter(), time.process_time()


class Model(torch.nn.Module):
    """Weights from FOLDER/weights.npz, which `bench_side_by_side.py` writes."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        weights = {name: torch.from_numpy(array) for name, array in np.load(folder / "weights.npz").items()}
        self.location, self.scale, self.threshold = weights["location"], weights["scale"], float(weights["threshold"])
        self.cell = torch.nn.LSTMCell(len(CHANNELS), weights["cell.weight_hh"].shape[1])
        self.head = torch.nn.Linear(self.cell.hidden_size, len(CHANNELS))
        self.load_state_dict({name: array for name, array in weights.items() if "." in name})

    @torch.inference_mode()
    def forward(self, values: list[float], memory: Tensor | None) -> tuple[float, Tensor]:
        """Values of the channels, and the stream's h and c f4[2, 1, H] or nothing yet -> the score (0 of a stream's first reading), h and c."""
        x = (torch.tensor([values]) - self.location) / self.scale
        if memory is None:
            return 0.0, torch.stack(self.cell(x))
        score = float((x - self.head(memory[0])).abs().mean())
        return score, torch.stack(self.cell(x, (memory[0], memory[1])))


def quix(model: Model, folder: Path, servers: str, topic: str, alerts: str) -> None:
    """Quix Streams, with h and c in its store as JSON, which is the store's default."""

    def load(state: Any) -> Tensor | None:
        kept = state.get("memory")
        return None if kept is None else torch.tensor(kept)

    _quix(model, folder, servers, topic, alerts, load, lambda state, memory: state.set("memory", memory.tolist()))


def quix_bytes(model: Model, folder: Path, servers: str, topic: str, alerts: str) -> None:
    """Quix Streams, with h and c in its store as bytes."""

    def load(state: Any) -> Tensor | None:
        kept = state.get_bytes("memory")
        return None if kept is None else torch.from_numpy(np.frombuffer(kept, np.float32).reshape(2, 1, -1).copy())

    _quix(model, folder, servers, topic, alerts, load, lambda state, memory: state.set_bytes("memory", memory.numpy().tobytes()))


def _quix(
    model: Model,
    folder: Path,
    servers: str,
    topic: str,
    alerts: str,
    load: Callable[[Any], Tensor | None],
    save: Callable[[Any, Tensor], None],
) -> None:
    """All else by its defaults: at least once, a commit every 5 s, a changelog topic."""
    from quixstreams import Application

    app = Application(servers, consumer_group=alerts, auto_offset_reset="earliest", state_dir=folder / alerts, loglevel="WARNING")
    meter = Meter()

    def detect(reading: dict[str, Any], state: Any) -> dict[str, float] | None:
        score, memory = model([reading[channel] for channel in CHANNELS], load(state))
        save(state, memory)
        if meter.is_over():
            app.stop()
        return {"time": reading["time"], "score": score} if score > model.threshold else None

    frame = app.dataframe(app.topic(topic, value_deserializer="json"))
    frame = frame.apply(detect, stateful=True)
    frame = frame.filter(lambda alert: alert is not None)
    frame.to_topic(app.topic(alerts, value_serializer="json"))
    app.run()
    meter.report(quixstreams=version("quixstreams"), confluent_kafka=version("confluent-kafka"), torch=torch.__version__)


def tutorial(model: Model, folder: Path, servers: str, topic: str, alerts: str) -> None:
    """The loop of every tutorial: poll, validate, one LSTMCell, offsets committed by the client every 5 s, h and c in a dictionary."""
    from confluent_kafka import Consumer, Producer
    from pydantic import BaseModel

    class Reading(BaseModel):
        time: int
        temperature: float
        pressure: float
        vibration: float
        current: float

    consumer = Consumer({"bootstrap.servers": servers, "group.id": "tutorial", "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    producer, meter = Producer({"bootstrap.servers": servers}), Meter()
    memory: dict[bytes, Tensor] = {}
    while not meter.is_over():
        message = consumer.poll(1.0)
        if message is None or message.error():
            raise SystemExit(f"the topic ended after {meter.readings} readings: bring more messages")
        stream, reading = message.key() or b"", Reading.model_validate_json(message.value() or b"")
        values = [reading.temperature, reading.pressure, reading.vibration, reading.current]
        score, memory[stream] = model(values, memory.get(stream))
        if score > model.threshold:
            producer.produce(alerts, json.dumps({"time": reading.time, "score": score}), stream)
            producer.poll(0)
    producer.flush()
    meter.report(confluent_kafka=version("confluent-kafka"), pydantic=version("pydantic"), torch=torch.__version__)
    consumer.close()


if __name__ == "__main__":
    torch.set_num_threads(1)
    name, *rest = sys.argv[1:]
    {each.__name__: each for each in (quix, quix_bytes, tutorial)}[name](Model(Path(rest[0])), Path(rest[0]), *rest[1:])
