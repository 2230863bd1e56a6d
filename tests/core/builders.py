"""Small models, logs and views of a detector, for the tests of core. Everything is seeded."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from detector.core.alerting import Alert
from detector.core.detect import Detector, Settings
from detector.core.fitting import fit_scorer
from detector.core.model import Model, Universal
from detector.core.predictor import HORIZONS, LAGS, ONE_AHEAD, Kind, Predictor
from detector.core.readings import Partition, ReadingBatch
from detector.core.scaling import Scaling
from detector.core.threshold import Prior
from detector.core.verdicts import Verdicts

P0 = Partition("readings", 0)
SECOND_US = 1_000_000
START_US = 1_790_000_000 * SECOND_US


def normal_values(readings: int, channels: int, seed: int = 0) -> NDArray[np.float32]:
    """Correlated channels of a healthy machine, f4[T, D] in engineering units: smooth, noisy, of unlike sizes."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(channels).standard_normal((2, channels))
    waves = np.stack([np.sin(np.arange(readings) * rate + rng.uniform(0, 6)) for rate in (0.1, 0.23)], axis=1)
    units = np.array((1.0, 10.0, 100.0))[np.arange(channels) % 3]
    value: NDArray[np.float32] = ((waves @ mixing + 0.3 * rng.standard_normal((readings, channels)) + 5) * units).astype(np.float32)
    return value


def predictor_of(channels: int = 2, hidden: int = 32, layers: int = 1, kind: Kind = "prediction", seed: int = 0) -> Predictor:
    """Random weights, the head's included: what it expects depends on all of its memory."""
    torch.manual_seed(seed)
    horizons, lags = (HORIZONS, LAGS) if kind == "prediction" else (ONE_AHEAD, ())
    predictor = Predictor(channels, hidden, layers, kind, horizons=horizons, lags=lags)
    with torch.no_grad():
        for weight in predictor.head.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return predictor.eval()


def model_of(channels: int = 2, hidden: int = 32, layers: int = 1, kind: Kind = "prediction", seed: int = 0) -> Model:
    """A model with random weights whose scaling, score and prior are measured on normal values."""
    predictor = predictor_of(channels, hidden, layers, kind, seed)
    values = [normal_values(400, channels, seed=k) for k in range(3)]
    scaling = Scaling.fit(np.concatenate(values))
    xs = [scaling.scaled(value) for value in values]
    with torch.inference_mode():
        expected = predictor.unroll(torch.from_numpy(np.stack(xs)))[0].numpy()
    es = [x - expected[k] for k, x in enumerate(xs)]
    scorer = fit_scorer(values, xs, es, [0] * len(es))
    scores = [scorer.of_one_stream(value, x, e)[0][50:] for value, x, e in zip(values, xs, es, strict=True)]
    names = tuple(f"channel{k}" for k in range(channels))
    return Model("small", "0" * 64, names, predictor, scaling, scorer, Prior.fit(np.concatenate(scores)))


def universal_of(hidden: int = 32, seed: int = 0) -> Universal:
    """A universal model with a random memory, whose score and prior are measured on one channel of normal values."""
    model = model_of(1, hidden, seed=seed)
    unknown = np.full(1, np.inf, np.float32)
    scorer = replace(model.scorer, low=unknown, high=-unknown, count=np.zeros(1, np.float32))
    return Universal("small", "0" * 32, predictor_of(4, hidden, seed=seed), scorer, model.prior)


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
    value: NDArray[np.float32]
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


def run(detector: Detector, log: Log, cuts: Iterable[int] = ()) -> list[Verdicts]:
    """Judge a log, cut into batches before the positions in `cuts`."""
    bounds = [0, *sorted(cut for cut in cuts if cut < len(log)), len(log)]
    return [detector.detect(log.take(range(a, b)).batch(detector)) for a, b in itertools.pairwise(bounds)]


def alerts_of(verdicts: Iterable[Verdicts]) -> list[Alert]:
    """All alerts, in order."""
    return [alert for one in verdicts for alert in one.alerts]


def rows_of(detector: Detector) -> dict[tuple[Partition, str], int]:
    """The row of every stream in memory."""
    states, found = detector.states, {}
    for partition in list(states._slot_of):
        for row in states.rows_in(int(states.slots_for((partition,))[0])).tolist():
            found[partition, states.stream(row)] = row
    return found


def memory_of(detector: Detector) -> dict[tuple[Partition, str], dict[str, bytes]]:
    """Every column of every stream, bit for bit."""
    states = detector.states
    return {key: {name: states[name][row].tobytes() for name in states.columns} for key, row in rows_of(detector).items()}


def state_of(detector: Detector, stream: str, partition: Partition = P0) -> dict[str, Any]:
    """What is remembered of one stream now; copies."""
    row = rows_of(detector)[partition, stream]
    return {name: detector.states[name][row].copy() for name in detector.states.columns}


def settings_of(**changes: Any) -> Settings:
    """Settings under which a lot happens within a few hundred readings."""
    quick: dict[str, Any] = {
        "budget_period_us": 200 * SECOND_US,
        "warmup_readings": 45,
        "silence_intervals": 8.0,
        "idle_max_us": 120 * SECOND_US,
    }
    return Settings(**(quick | changes))
