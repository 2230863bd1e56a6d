"""Columns of readings, and the names of their streams."""

from __future__ import annotations

import numpy as np
import pytest

from detector.core.detector import Detector
from detector.core.readings import Disposition, StreamNames
from tests.core.builders import log_of, model_of, settings_of


def test_ids_are_dense_and_keep_their_names() -> None:
    names = StreamNames()
    assert [names[name] for name in (b"a", b"b", b"a", "ü/7".encode())] == [0, 1, 0, 2]
    assert [names.name(k) for k in range(names.ids_end)] == ["a", "b", "ü/7"]


def test_a_name_that_is_not_utf_8_leaves_no_trace() -> None:
    names = StreamNames()
    with pytest.raises(UnicodeDecodeError):
        names[b"\xff"]
    assert names.ids_end == 0
    assert names[b"a"] == 0


def test_released_ids_come_back_with_other_names() -> None:
    names = StreamNames()
    for name in (b"a", b"b", b"c"):
        names[name]
    names.release([0, 2])
    assert b"a" not in names
    assert b"c" not in names
    assert {names[b"d"], names[b"e"]} == {0, 2}
    assert names[b"f"] == 3
    assert [names.name(names[name]) for name in (b"b", b"d", b"e", b"f")] == ["b", "d", "e", "f"]


def test_to_release_an_id_again_takes_nothing_from_who_has_the_name_now() -> None:
    names = StreamNames()
    assert [names[b"a"], names[b"b"]] == [0, 1]
    names.release([0, 1])
    assert names[b"a"] == 1
    names.release([0])  # nobody's; but it was a's
    assert names[b"a"] == 1
    assert len({names[name] for name in (b"a", b"c", b"d")}) == 3


def test_dispositions_are_numbers_that_files_and_metrics_rely_on() -> None:
    expected = ["SCORED", "WARMUP", "LATE", "DUPLICATE", "INVALID", "PARTIAL", "EMPTY"]
    assert [disposition.name for disposition in Disposition] == expected
    assert [int(disposition) for disposition in Disposition] == list(range(1, 8))


@pytest.mark.parametrize("positions", [slice(1, 3), np.array([2, 0])])
def test_take_takes_every_column(positions: slice | np.ndarray) -> None:
    batch = log_of([("a", 0, 1.0), ("b", 1, 2.0), ("c", 2, 3.0)]).batch(Detector(model_of(1), settings_of()))
    taken = batch.take(positions)
    for name in ("stream_id", "event_time_us", "value", "partition", "offset", "item"):
        assert getattr(taken, name).tolist() == getattr(batch, name)[positions].tolist()
    assert (len(taken), taken.channels, taken.partitions, taken.channel) == (2, 1, batch.partitions, None)
