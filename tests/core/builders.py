"""Small models, logs and views of a detector, for the tests of core. Everything is seeded."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.core.alarm import Prior
from detector.core.alerts import Alert
from detector.core.batch_result import BatchResult
from detector.core.detector import Detector
from detector.core.forecast import HORIZONS, LAGS, ONE_AHEAD, Kind, Network
from detector.core.model import Model, UniversalModel
from detector.core.readings import Partition, ReadingBatch
from detector.core.rules import Settings
from detector.core.scaler import Scaling
from detector.core.stream_state import HEAD, Layout, Part, layout_of
from detector.lab.calibration import OwnUnits, calibrate
from detector.lab.playback import play
from detector.lab.scoring import scored

F4 = NDArray[np.float32]
P0 = Partition("readings", 0)
SECOND_US = 1_000_000
START_US = 1_790_000_000 * SECOND_US


def normal_values(readings: int, channels: int, seed: int = 0) -> F4:
    """Correlated channels of a healthy machine, f4[T, D] in engineering units: smooth, noisy, of unlike sizes."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(channels).standard_normal((2, channels))
    waves = np.stack([np.sin(np.arange(readings) * rate + rng.uniform(0, 6)) for rate in (0.1, 0.23)], axis=1)
    units = np.array((1.0, 10.0, 100.0))[np.arange(channels) % 3]
    value: F4 = ((waves @ mixing + 0.3 * rng.standard_normal((readings, channels)) + 5) * units).astype(np.float32)
    return value


def network_of(channels: int = 2, hidden: int = 32, layers: int = 1, kind: Kind = "prediction", seed: int = 0) -> Network:
    """Random weights, the head's included: what it forecasts depends on all of its memory. A prediction's head is persistence, and noise."""
    rng = np.random.default_rng(seed)
    weights, bound = {}, hidden**-0.5
    for layer in range(layers):
        for name, shape in (("weight_ih", (4 * hidden, hidden if layer else channels)), ("weight_hh", (4 * hidden, hidden))):
            weights[f"{name}_l{layer}"] = rng.uniform(-bound, bound, shape).astype(np.float32)
        for name in ("bias_ih", "bias_hh"):
            weights[f"{name}_l{layer}"] = rng.uniform(-bound, bound, 4 * hidden).astype(np.float32)
    is_prediction = kind == "prediction"
    horizons, lags = (HORIZONS, LAGS) if is_prediction else (ONE_AHEAD, ())
    outputs, features = len(horizons) * channels, 2 * hidden + (1 + len(lags)) * channels if is_prediction else hidden
    head, bias = (0.1 * rng.standard_normal(shape, np.float32) for shape in ((outputs, features), outputs))
    if is_prediction:
        head[:, hidden : hidden + channels] += np.tile(np.eye(channels, dtype=np.float32), (len(horizons), 1))
    of_horizons = rng.uniform(0.5, 1.5, (len(horizons), channels)).astype(np.float32)
    return Network(kind, channels, hidden, layers, horizons, lags, weights, head, bias, of_horizons / of_horizons.sum(axis=0))


def unfitted_model_of(network: Network) -> Model:
    """A model of this network: engineering units are scaled ones, and the score was measured on nothing in particular."""
    d, values = network.channels, [normal_values(100, network.channels)]
    scaling, names = Scaling(np.zeros(d, np.float32), np.ones(d, np.float32)), tuple(f"channel{k}" for k in range(d))
    return Model("small", "0" * 64, names, network, scaling, calibrate(values, values, values, [0]), Prior(1.0, 1.0))


def model_of(channels: int = 2, hidden: int = 32, layers: int = 1, kind: Kind = "prediction", seed: int = 0) -> Model:
    """A model with random weights whose scaling, score and prior are measured on normal values."""
    values = [normal_values(400, channels, seed=k) for k in range(3)]
    scaling = Scaling.fit(np.concatenate(values))
    xs = [scaling.scaled(value) for value in values]
    model = replace(unfitted_model_of(network_of(channels, hidden, layers, kind, seed)), scaling=scaling)
    es = list(play(model, np.stack(values)).residual)
    score = calibrate(values, xs, es, [0] * len(es))
    scores = [scored(score, value, x, e)[0][50:] for value, x, e in zip(values, xs, es, strict=True)]
    return replace(model, score=score, prior=Prior.fit(np.concatenate(scores)))


def universal_of(hidden: int = 32, seed: int = 0) -> UniversalModel:
    """A universal model with a random memory, whose score and prior are measured on one channel of normal values."""
    values = [normal_values(400, 1, seed=k) for k in range(3)]
    starts = [0] * len(values)
    model = UniversalModel("small", "0" * 32, network_of(4, hidden, seed=seed), calibrate(values, values, values, starts), Prior(0, 1))
    played = play(model.model("", ("channel0",)), np.stack(values))
    xs, es = list(played.x), list(played.residual)
    own = [OwnUnits(bands, weight) for bands, weight in zip(played.band_size, played.weight, strict=True)]
    score = calibrate(values, xs, es, starts, own)
    scores = [scored(score, v, x, e, o.bands, o.weight)[0][50:] for v, x, e, o in zip(values, xs, es, own, strict=True)]
    return replace(model, score=score, prior=Prior.fit(np.concatenate(scores)))


def universal_model_of(channels: int = 2, hidden: int = 32, seed: int = 0) -> Model:
    """The same for so many channels."""
    return universal_of(hidden, seed).model("0" * 32, tuple(f"channel{k}" for k in range(channels)))


@dataclass(frozen=True)
class Log:
    """Readings of any number of partitions in log order, with the names of their streams: what several detectors can read.

    stream      one name per reading
    partition   i4[N] index into `partitions`
    """

    stream: tuple[str, ...]
    event_time_us: NDArray[np.int64]
    value: F4
    partition: NDArray[np.int32]
    offset: NDArray[np.int64]
    item: NDArray[np.int32]
    partitions: tuple[Partition, ...] = (P0,)
    channel: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.stream)

    def take(self, positions: Iterable[int]) -> Log:
        """The readings at `positions`, in that order."""
        at = np.fromiter(positions, np.intp)
        return replace(
            self,
            stream=tuple(self.stream[k] for k in at.tolist()),
            event_time_us=self.event_time_us[at],
            value=self.value[at],
            partition=self.partition[at],
            offset=self.offset[at],
            item=self.item[at],
            channel=None if self.channel is None else self.channel[at],
        )

    def batch(self, detector: Detector) -> ReadingBatch:
        """All of it as one batch for `detector`."""
        ids = np.array([detector.names[name.encode()] for name in self.stream], np.int32)
        return ReadingBatch(ids, self.event_time_us, self.value, self.partition, self.offset, self.item, self.partitions, self.channel)


def log_of(readings: Sequence[tuple[str, float, Sequence[float] | float]], channels: int = 1, partition: Partition = P0) -> Log:
    """A log of one partition, written down by hand: (stream, seconds after the start, value or values)."""
    n = len(readings)
    value = np.empty((n, channels), np.float32)
    for position, reading in enumerate(readings):
        value[position] = reading[2]
    return Log(
        tuple(reading[0] for reading in readings),
        np.array([START_US + round(reading[1] * SECOND_US) for reading in readings], np.int64),
        value,
        np.zeros(n, np.int32),
        np.arange(n),
        np.zeros(n, np.int32),
        (partition,),
    )


def joined(logs: Sequence[Log]) -> Log:
    """Logs of one partition each, one after the other."""
    return Log(
        tuple(name for log in logs for name in log.stream),
        np.concatenate([log.event_time_us for log in logs]),
        np.concatenate([log.value for log in logs]),
        np.concatenate([np.full(len(log), k, np.int32) for k, log in enumerate(logs)]),
        np.concatenate([log.offset for log in logs]),
        np.concatenate([log.item for log in logs]),
        tuple(log.partitions[0] for log in logs),
        None if logs[0].channel is None else np.concatenate([log.channel for log in logs if log.channel is not None]),
    )


def run(detector: Detector, log: Log, cuts: Iterable[int] = ()) -> list[BatchResult]:
    """Judge a log, cut into batches before the positions in `cuts`."""
    bounds = [0, *sorted(cut for cut in cuts if cut < len(log)), len(log)]
    return [detector.detect(log.take(range(a, b)).batch(detector)) for a, b in itertools.pairwise(bounds)]


def alerts_of(results: Iterable[BatchResult]) -> list[Alert]:
    """All alerts, in order."""
    return [alert for one in results for alert in one.alerts]


def result_at(result: BatchResult, position: int) -> tuple[Any, ...]:
    """All that a batch says of one reading, bit for bit."""
    columns = ("disposition", "score", "instantaneous", "threshold", "tail_probability", "expected", "reach")
    return (*(getattr(result, name)[position].tobytes() for name in columns), result.alert.get(position))


def rows_of(detector: Detector) -> dict[tuple[Partition, str], int]:
    """The row of every stream in memory."""
    store, rows = detector.store, np.flatnonzero(detector.store.slot_of_row >= 0)
    return {(store.partition(row), store.stream(row)): row for row in rows.tolist()}


def records_of(detector: Detector) -> dict[tuple[Partition, str], bytes]:
    """The record of every stream, bit for bit."""
    return {key: detector.store.records[row].tobytes() for key, row in rows_of(detector).items()}


def state_of(detector: Detector, stream: str, partition: Partition = P0) -> dict[str, Any]:
    """What is remembered of one stream now: the fields of its head, and the parts of its floats in their shapes; copies."""
    store = detector.store
    return fields_of(store.layout, store.records[rows_of(detector)[partition, stream]].tobytes())


def fields_of(layout: Layout, record: bytes) -> dict[str, Any]:
    """What a record says, by name."""
    found: dict[str, Any] = {}
    for name, kind, shape, first in layout.fields:
        value = np.frombuffer(record, kind, int(np.prod(shape, dtype=int)), first).reshape(shape)
        found[name.removeprefix("head.")] = value if shape else value.item()
    return found


class Records:
    """Records without a store, f4[rows, F]."""

    def __init__(self, parts: Sequence[Part] = (), starts: dict[str, float] | None = None, rows: int = 1) -> None:
        self.layout = layout_of(parts, starts or {})
        self.floats = np.tile(self.layout.new, (rows, 1))

    @property
    def heads(self) -> NDArray[Any]:
        """A view of their heads, HEAD[rows]."""
        heads: NDArray[Any] = self.floats.view(np.uint8)[:, : HEAD.itemsize].view(HEAD)[:, 0]
        return heads

    def part(self, name: str, row: int = 0) -> F4:
        """A view of a part of a row, in its shape."""
        start, shape = int(self.layout.offsets[name][0]), self.layout.shapes[name]
        return self.floats[row, start : start + int(np.prod(shape))].reshape(shape)


def settings_of(**changes: Any) -> Settings:
    """Settings under which a lot happens within a few hundred readings."""
    quick: dict[str, Any] = {
        "budget_period_us": 200 * SECOND_US,
        "warmup_readings": 45,
        "timeout_intervals": 8.0,
        "idle_ttl_us": 120 * SECOND_US,
    }
    return Settings(**(quick | changes))
