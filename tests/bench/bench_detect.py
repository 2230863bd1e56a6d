"""Readings per second of judging, CPU time of one thread: `python tests/bench/bench_detect.py`.

The last line is the rate of judging (5,000 streams, 4 channels, H = 64) as a ratio of torch's LSTMCell alone, measured in turn with it: 1,024 rows
a call, gathered from all streams' h and c and scattered back.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # `tests` is no installed package

from detector.adapters.bundle import load_bundle
from detector.core.alarm import Prior
from detector.core.detector import Detector
from detector.core.model import Model
from detector.core.online_ridge import SOLVE_EVERY
from detector.core.readings import Disposition, Partition, ReadingBatch
from detector.core.rules import Settings
from detector.core.scaler import Scaling
from detector.lab.calibration import calibrate
from tests.core.builders import network_of

BATCH, RUNS, WARM_UP, TURNS = 10_000, 15, 5, 60


def model_of(channels: int, hidden: int) -> Model:
    """Random weights: judging costs the same whatever they are."""
    x = np.random.default_rng(0).standard_normal((2_000, channels), np.float32)
    names = tuple(f"channel{k}" for k in range(channels))
    # A prior so high that no alert opens: a benchmark of white noise is none of alerts.
    return Model("bench", "0" * 64, names, network_of(channels, hidden), Scaling.fit(x), calibrate([x], [x], [x], [0]), Prior(5.0, 1.0))


class BareCell:
    """torch.nn.LSTMCell and nothing else: rows of some streams gathered, advanced and scattered back."""

    def __init__(self, channels: int, hidden: int, streams: int, rows: int = 1_024) -> None:
        import torch

        torch.set_num_threads(1)
        self._cell, self._h, self._c = torch.nn.LSTMCell(channels, hidden), torch.zeros(streams, hidden), torch.zeros(streams, hidden)
        self._x, self._chosen = torch.randn(rows, channels), torch.randperm(streams)[:rows]

    def us_per_row(self, calls: int = 10) -> float:
        """CPU time of a row."""
        import torch

        before = time.process_time()
        with torch.inference_mode():
            for _ in range(calls):
                h, c = self._cell(self._x, (self._h.index_select(0, self._chosen), self._c.index_select(0, self._chosen)))
                self._h.index_copy_(0, self._chosen, h)
                self._c.index_copy_(0, self._chosen, c)
        return (time.process_time() - before) / calls / len(self._x) * 1e6


class Judging:
    """A detector and batches of white noise for it, every stream in turn."""

    def __init__(self, model: Model, streams: int, readings: int, warmup_readings: int) -> None:
        self.detector = Detector(model, Settings(warmup_readings=warmup_readings))
        ids = [self.detector.names[f"plant{k % 10}/pump{k}".encode()] for k in range(streams)]
        self._stream_id = np.array(ids, np.int32)[np.arange(readings) % streams]
        self._shape, self._streams = (readings, len(model.channels)), streams
        self._rng, self._batches = np.random.default_rng(1), 0

    def grow_old(self) -> None:
        """As if the streams' ridges had been learned from for long: each is solved for in every 64th reading, not all in the same batch."""
        heads = self.detector.store.heads
        heads["ridge_readings"] = SOLVE_EVERY**2 + np.arange(len(heads)) % SOLVE_EVERY

    def us_per_reading(self) -> float:
        """CPU time of a reading, of one batch."""
        readings = self._shape[0]
        number = self._batches * readings + np.arange(readings)
        self._batches += 1
        zero = np.zeros(readings, np.int32)
        time_us = 1_790_000_000_000_000 + number // self._streams * 1_000_000 + number % self._streams
        values = self._rng.standard_normal(self._shape, np.float32)
        batch = ReadingBatch(self._stream_id, time_us, values, zero, number, zero, (Partition("readings", 0),))
        before = time.process_time()
        result = self.detector.detect(batch)
        taken_s = time.process_time() - before
        assert np.isin(result.disposition, (Disposition.SCORED, Disposition.WARMUP)).all()
        return taken_s / readings * 1e6


def measure(channels: int, hidden: int, streams: int, readings: int = BATCH, model: Model | None = None, is_young: bool = False) -> None:
    """Print the median over the runs, readings per second.

    is_young   streams of a universal model as they come: their ridge is solved for the oftener, the fewer readings they have
    """
    # A shipped model has a prior of its own: under white noise it would alert, and alerts are not what is measured.
    judging = Judging(model or model_of(channels, hidden), streams, readings, 1_000 if model else 5)
    for _ in range(WARM_UP):
        judging.us_per_reading()
    if model and not is_young:
        judging.grow_old()
    taken = [judging.us_per_reading() for _ in range(RUNS)]
    # A stream's sums and its ridge cost something with every eighth, and with every 64th reading: of the universal model the mean counts.
    us = statistics.fmean(sorted(taken)[:-2]) if model else statistics.median(taken)
    kind = ("universal, young, " if is_young else "universal, ") if model else ""
    what = f"{kind}{streams:,} streams, {channels} channels, H = {hidden}, batches of {readings:,}"
    print(f"{what:<72}{1e3 / us:>10,.1f} k readings/s{us:>9.2f} us")


def measure_ratio(title: str, judging: Judging) -> float:
    """Rate of judging over that of torch's LSTMCell alone, in turn: both see the same moments of a shared machine. The median is printed, the
    quartiles beside it."""
    bare = BareCell(channels=4, hidden=64, streams=5_000)
    for _ in range(WARM_UP):
        bare.us_per_row(), judging.us_per_reading()
    pairs = [(bare.us_per_row(), judging.us_per_reading()) for _ in range(TURNS)]
    low, middle, high = statistics.quantiles([cell / judged for cell, judged in pairs], n=4)
    cell_us, judged_us = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(
        f"{title}: torch's LSTMCell alone, H = 64 {cell_us:.2f} us, judging {judged_us:.2f} us, ratio {middle:.2f} ({low:.2f} to {high:.2f})"
    )
    return middle


def main() -> None:
    """Many streams, few and many channels; one stream; small batches; the universal model."""
    measure(channels=4, hidden=64, streams=5_000)
    measure(channels=4, hidden=32, streams=5_000)
    measure(channels=38, hidden=64, streams=5_000)
    measure(channels=4, hidden=64, streams=1, readings=1_000)
    measure(channels=4, hidden=64, streams=5_000, readings=100)
    for channels in (1, 4, 8, 38):
        model = load_bundle("universal", [f"channel{k}" for k in range(channels)])
        measure(channels, model.network.hidden, streams=5_000, model=model)
        if channels == 4:
            measure(channels, model.network.hidden, streams=5_000, model=model, is_young=True)
    universal = Judging(load_bundle("universal", [f"channel{k}" for k in range(4)]), 5_000, BATCH, 1_000)
    universal.us_per_reading()
    universal.grow_old()
    measure_ratio("universal, 4 channels", universal)
    ratio = measure_ratio("4 channels, H = 64", Judging(model_of(4, 64), 5_000, BATCH, 5))
    print(f"ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
