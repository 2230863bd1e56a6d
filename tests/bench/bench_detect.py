"""Readings per second of judging, CPU time of one thread: `python tests/bench/bench_detect.py`.

The last line is the rate of judging (5,000 streams, 4 channels, H = 64) as a ratio of torch's LSTMCell alone, measured before and after it:
1,024 rows a call, gathered from all streams' h and c and scattered back.
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

BATCH, RUNS, WARM_UP = 10_000, 15, 5


def model_of(channels: int, hidden: int) -> Model:
    """Random weights: judging costs the same whatever they are."""
    x = np.random.default_rng(0).standard_normal((2_000, channels), np.float32)
    names = tuple(f"channel{k}" for k in range(channels))
    # A prior so high that no alert opens: a benchmark of white noise is none of alerts.
    return Model("bench", "0" * 64, names, network_of(channels, hidden), Scaling.fit(x), calibrate([x], [x], [x], [0]), Prior(5.0, 1.0))


def bare_cell(channels: int, hidden: int, streams: int, rows: int = 1_024) -> float:
    """Readings per second of torch.nn.LSTMCell and nothing else, median over the runs."""
    import torch

    torch.set_num_threads(1)
    cell, h, c = torch.nn.LSTMCell(channels, hidden), torch.zeros(streams, hidden), torch.zeros(streams, hidden)
    x, chosen = torch.randn(rows, channels), torch.randperm(streams)[:rows]
    seconds = []
    for _ in range(WARM_UP + 20 * RUNS):
        before = time.process_time()
        with torch.inference_mode():
            new_h, new_c = cell(x, (h.index_select(0, chosen), c.index_select(0, chosen)))
            h.index_copy_(0, chosen, new_h)
            c.index_copy_(0, chosen, new_c)
        seconds.append(time.process_time() - before)
    return rows / statistics.median(seconds[WARM_UP:])


def measure(channels: int, hidden: int, streams: int, readings: int = BATCH, model: Model | None = None, is_young: bool = False) -> float:
    """Print the median over the runs, readings per second; it is returned as well.

    is_young   streams of a universal model as they come: their ridge is solved for the oftener, the fewer readings they have
    """
    # A shipped model has a prior of its own: under white noise it would alert, and alerts are not what is measured.
    detector = Detector(model or model_of(channels, hidden), Settings(warmup_readings=1_000 if model else 5))
    rng, ids = np.random.default_rng(1), [detector.names[f"plant{k % 10}/pump{k}".encode()] for k in range(streams)]
    stream_id = np.array(ids, np.int32)[np.arange(readings) % streams]
    seconds = []
    for run in range(WARM_UP + RUNS):
        number = run * readings + np.arange(readings)
        batch = ReadingBatch(
            stream_id,
            1_790_000_000_000_000 + number // streams * 1_000_000 + number % streams,
            rng.standard_normal((readings, channels), np.float32),
            np.zeros(readings, np.int32),
            number,
            np.zeros(readings, np.int32),
            (Partition("readings", 0),),
        )
        before = time.process_time()
        result = detector.detect(batch)
        seconds.append(time.process_time() - before)
        assert np.isin(result.disposition, (Disposition.SCORED, Disposition.WARMUP)).all()
        if model and run == WARM_UP and not is_young:
            detector.store.heads["ridge_readings"] = SOLVE_EVERY**2 + np.arange(len(detector.store.heads)) % SOLVE_EVERY
    # A stream's sums and its ridge cost something with every eighth, and with every 64th reading: of the universal model the mean counts.
    taken = statistics.fmean(sorted(seconds[WARM_UP + 1 :])[:-2]) if model else statistics.median(seconds[WARM_UP:])
    kind = ("universal, young, " if is_young else "universal, ") if model else ""
    what = f"{kind}{streams:,} streams, {channels} channels, H = {hidden}, batches of {readings:,}"
    print(f"{what:<72}{readings / taken / 1e3:>10,.1f} k readings/s{taken / readings * 1e6:>9.2f} us")
    return readings / taken


def main() -> None:
    """Many streams, few and many channels; one stream; small batches; the universal model."""
    before = bare_cell(channels=4, hidden=64, streams=5_000)
    judging = measure(channels=4, hidden=64, streams=5_000)
    bare = (before + bare_cell(channels=4, hidden=64, streams=5_000)) / 2
    measure(channels=4, hidden=32, streams=5_000)
    measure(channels=38, hidden=64, streams=5_000)
    measure(channels=4, hidden=64, streams=1, readings=1_000)
    measure(channels=4, hidden=64, streams=5_000, readings=100)
    for channels in (1, 4, 8, 38):
        model = load_bundle("universal", [f"channel{k}" for k in range(channels)])
        measure(channels, model.network.hidden, streams=5_000, model=model)
        if channels == 4:
            measure(channels, model.network.hidden, streams=5_000, model=model, is_young=True)
    print(f"torch's LSTMCell alone, H = 64: {bare / 1e3:,.1f} k readings/s")
    print(f"ratio {judging / bare:.2f}")


if __name__ == "__main__":
    main()
