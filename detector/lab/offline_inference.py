"""Offline inference: residuals and scores of recorded sequences by a trained predictor, as the service would compute them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from detector.core.predictor import STEP_ROWS_MULTIPLE, Predictor
from detector.core.scoring import BandScorer
from detector.core.states import arrays_of
from detector.lab.sequences import burn_in

F4 = NDArray[np.float32]


def residuals(predictor: Predictor, xs: Sequence[F4]) -> list[F4]:
    """Residuals as the service would compute them, per sequence f4[T, D] scaled, NaN where missing; what is missing is fed its own forecast, step by step."""
    es = [np.empty_like(x) for x in xs]
    with_gaps = [place for place, x in enumerate(xs) if np.isnan(x).any()]
    for place in set(range(len(xs))).difference(with_gaps):
        with torch.inference_mode():  # the same sums in another order, and many times as fast
            es[place][:] = xs[place] - predictor.unroll(torch.from_numpy(xs[place]).unsqueeze(0))[0][0].numpy()
    if with_gaps:
        _step_by_step(predictor, [xs[place] for place in with_gaps], [es[place] for place in with_gaps])
    return es


def one_ahead(predictor: Predictor) -> Predictor:
    """The same network, forecasting no further than the next reading, as the baselines do: to be compared with them."""
    near = Predictor(predictor.channels, predictor.hidden, predictor.layers, predictor.kind, lags=predictor.lags)
    near.lstm.load_state_dict(predictor.lstm.state_dict())
    near.head.load_state_dict({name: value[: predictor.channels] for name, value in predictor.head.state_dict().items()})
    return near.eval()


def _step_by_step(predictor: Predictor, xs: Sequence[F4], es: Sequence[F4]) -> None:
    """Play sequences side by side, one LSTM step for all of them at a time, and write their residuals to `es`."""
    rows = len(xs) + (-len(xs) % STEP_ROWS_MULTIPLE)
    d = predictor.channels
    memory = arrays_of(predictor.columns(), rows)
    for t in range(max(len(x) for x in xs)):
        now = np.full((rows, d), np.nan, np.float32)
        for row, x in enumerate(xs):
            if t < len(x):
                now[row] = x[t]
        expected = predictor.step(now, **memory)
        for row, e in enumerate(es):
            if t < len(e):
                e[t] = now[row] - expected[row]


def score_all(scorer: BandScorer, values: Sequence[F4], xs: Sequence[F4], es: Sequence[F4]) -> F4:
    """The scores of whole sequences, as the service would compute them, without each sequence's start."""
    scores = []
    for value, x, e in zip(values, xs, es, strict=True):
        score, _ = scorer.of_one_stream(value, x, e)
        scores.append(score[burn_in(score) :])
    return np.concatenate(scores)
