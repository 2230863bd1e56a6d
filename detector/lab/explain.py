"""The memory of one stream, gate by gate: what it let in, kept, and showed at every reading."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from detector.core.forecast import Network
from detector.core.lstm import Gates, gates
from detector.core.model import Model
from detector.lab.playback import play
from detector.lab.plotting import new_figure, png

F4 = NDArray[np.float32]
NAMES = Gates._fields


def explain(model: Model, value: F4) -> dict[str, F4]:
    """Run one stream from an empty memory, as if it never had an alert: what measures itself goes on learning.

    value    f4[T, D] engineering units, NaN where missing
    returns  per name: `expected` f4[T, D] engineering units; `scaled`, `scaled_expected` f4[T, D]; `input`, `forget`, `candidate`,
             `output`, `cell`, `hidden` f4[T, L, H]
    """
    played = play(model, value[np.newaxis])
    found = {"expected": played.forecast[0], "scaled": played.x[0], "scaled_expected": played.expected[0]}
    below, layers = played.fed[0], []
    for layer in range(model.network.layers):
        layers.append(_gates_of(model.network, layer, below))
        below = layers[-1].hidden
    return found | {name: np.stack([getattr(gates, name) for gates in layers], axis=1) for name in NAMES}


def _gates_of(network: Network, layer: int, below: F4) -> Gates:
    """The gates of one layer from an empty memory, each f4[T, H]; below f4[T, D] what the layer is fed."""
    w_x, w_h, b_x, b_h = (network.weights[f"{name}_l{layer}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    h = c = np.zeros((1, network.hidden), np.float32)
    steps = []
    for x in below[:, np.newaxis]:
        steps.append(gates(x, h, c, w_x, w_h, b_x + b_h))
        h, c = steps[-1].hidden, steps[-1].cell
    return Gates(*(np.concatenate(each) for each in zip(*steps, strict=True)))


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
