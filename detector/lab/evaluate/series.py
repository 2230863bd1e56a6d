"""Labelled recordings, as every detector gets them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

F4 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Series:
    """One recording: what a detector may learn from, and what follows it, which it sees once and in order.

    collection  the set that it belongs to, such as "SMD"
    train       f4[n, D] readings without faults, as far as the publisher says so; NaN where missing
    test        f4[T, D] what comes after
    label       bool[T] where something is wrong
    ignored     bool[T] readings that count neither as right nor as wrong, or None
    """

    collection: str
    name: str
    train: F4
    test: F4
    label: NDArray[np.bool_]
    ignored: NDArray[np.bool_] | None = None

    @property
    def title(self) -> str:
        """Collection and name."""
        return f"{self.collection}/{self.name}"

    @property
    def whole(self) -> F4:
        """Both parts in order, f4[n + T, D]: what a detector sees in one pass."""
        return np.concatenate((self.train, self.test))


def runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Where `flags` bool[T] are set: [start, end) of every run, in order."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], np.asarray(flags, np.int8), [0]))))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def calibration_start(readings: int) -> int:
    """The first 3/4 of a training part fit weights and moments; the rest calibrates what was fitted."""
    return readings - readings // 4


class _Collected(Protocol):
    @property
    def collection(self) -> str: ...


def collections(items: Iterable[_Collected]) -> list[str]:
    """Names of the sets that series, or results of them, belong to, in the order in which they come."""
    return list(dict.fromkeys(each.collection for each in items))
