"""The memory of one stream, gate by gate: what it let in, kept, and showed at every reading."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from detector.core.cell import Gates, gates_of
from detector.core.model import Model
from detector.core.states import arrays_of
from detector.lab.plotting import new_figure, png

F4 = NDArray[np.float32]
NAMES = Gates._fields


@torch.inference_mode()
def explain(model: Model, value: F4) -> dict[str, F4]:
    """Run one stream from an empty memory, as if it never had an alert: what measures itself goes on learning.

    value    f4[T, D] engineering units, NaN where missing
    returns  per name: `expected` f4[T, D] engineering units; `scaled`, `scaled_expected` f4[T, D]; `input`, `forget`, `candidate`,
             `output`, `cell`, `hidden` f4[T, L, H]
    """
    network, readout = model.predictor.eval(), model.readout
    columns = model.predictor.columns() | model.scaling.columns() | model.scorer.columns()
    if readout:
        columns |= readout.columns()
    states, row, teaches = arrays_of(columns), np.zeros(1, np.int32), np.ones(1, bool)
    h, c, last, ahead, past = network.state(1)
    told: list[tuple[F4, F4, F4]] = []
    layers = []
    for now in value[:, np.newaxis]:
        units = model.scaling.of(row, states)
        x = units.scaled(now)
        seen = torch.from_numpy(x)
        said = network.read(h[-1], last, past)
        fed = torch.where(torch.isnan(seen), said[:, 0], seen)  # missing values are fed their own expectation
        step = gates_of(network.lstm, fed, h, c)
        _, past = network.pasts(past, last.unsqueeze(1))
        h, c, last = torch.stack([layer.hidden for layer in step]), torch.stack([layer.cell for layer in step]), fed
        if network.kind == "reconstruction":
            said = network.read(h[-1], last, past)
        mean, ahead = network.expected(said.unsqueeze(1), ahead)
        expected = mean[:, 0].numpy()
        if readout:
            expected, of_horizons = readout.expected(row, expected, states)
        moved = model.scorer.moved(row, now, states)
        terms = model.scorer.judged(row, now, x, units.residuals(x, expected), states, units.usual)[1]
        model.scaling.learn(row, now, moved, x, x - expected, terms, teaches, states)
        if readout:
            states["h"][0], states["last"][0] = h[:, 0].numpy(), last[0].numpy()
            readout.learn(row, x, of_horizons, teaches, states)
        told.append((units.unscaled(expected), x, expected))
        layers.append(step)
    found: dict[str, F4] = {
        name: np.concatenate(part) for name, part in zip(("expected", "scaled", "scaled_expected"), zip(*told, strict=True), strict=True)
    }
    for name in NAMES:
        found[name] = np.stack([[getattr(layer, name).numpy().ravel() for layer in step] for step in layers])
    return found


def gates_table(event_time_us: NDArray[np.int64], found: dict[str, F4]) -> pa.Table:
    """What `explain` found as a table, one row per reading.

    Its columns are `event_time_us`, and each name as a list: of L x H units, layer after layer, or of D channels.
    """
    columns = {"event_time_us": pa.array(event_time_us)}
    for name, values in found.items():
        flat = values.reshape(len(values), -1)
        columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), flat.shape[1])
    return pa.table(columns)


def gates_png(model: Model, event_time_us: NDArray[np.int64], found: dict[str, F4]) -> bytes:
    """Draw it: the channels on top, then each gate of the last layer, one line per unit, units sorted by how long they remember.

    raises ConfigError  matplotlib is not installed (extra `train`)
    """
    shown = ("input", "forget", "output", "candidate", "cell")
    figure = new_figure(12, 2 * (1 + len(shown)), without="leave out --picture")
    axes = figure.subplots(1 + len(shown), 1, sharex=True)
    at = (event_time_us - event_time_us[0]) / 3.6e9
    for k, channel in enumerate(model.channels):
        axes[0].plot(at, found["scaled"][:, k], lw=0.8, label=channel)
        axes[0].plot(at, found["scaled_expected"][:, k], lw=0.6, ls=":", color="black")
    axes[0].set(ylabel="scaled, expected dotted")
    axes[0].legend(frameon=False, ncols=6, fontsize=7)
    order = np.argsort(-found["forget"][:, -1].mean(axis=0))
    for axis, name in zip(axes[1:], shown, strict=True):
        low = 0.0 if name in ("input", "forget", "output") else -1.0
        image = axis.imshow(
            found[name][:, -1, order].T, aspect="auto", vmin=low, vmax=1, cmap="viridis" if low == 0 else "RdBu_r",
            extent=(at[0], at[-1], len(order), 0), interpolation="nearest",
        )  # fmt: skip
        axis.set(ylabel=name)
        figure.colorbar(image, ax=axis)
    axes[-1].set(xlabel="hours")
    return png(figure)
