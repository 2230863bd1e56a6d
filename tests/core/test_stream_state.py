"""The record of a stream: what lies where in its bytes."""

from __future__ import annotations

import numpy as np
import pytest

from detector.core import stream_state
from detector.core.compiled import entry
from detector.core.model import Model
from detector.core.stream_state import HEAD, NEVER, OFFSETS, READINGS_MODULUS, layout_of
from tests.core.builders import fields_of, model_of, universal_model_of

MODELS = {
    "fleet": model_of(2),
    "one channel": model_of(1, 5),
    "two layers": model_of(3, 7, 2),
    "reconstruction": model_of(4, 8, 1, "reconstruction"),
    "universal": universal_model_of(3, 9),
}


@entry
def keep_wide(floats, at, further, value):  # type: ignore[no-untyped-def]
    stream_state.keep_wide(floats, at, further, value)
    return stream_state.wide(floats, at, further)


@entry
def ring_of(first, count, length, places):  # type: ignore[no-untyped-def]
    for k in range(count):
        place = stream_state.place_in_ring(first + k, length)
        for by in range(-length, length + 1):
            places[k, by + length] = stream_state.further(place, by, length)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_the_fields_cover_every_byte_that_is_not_padding_once(model: Model) -> None:
    """Padding lies where a field of the head must begin at a multiple of its size, and at the end of the record; it is 0 in a new one."""
    layout = model.layout()
    covered = np.zeros(layout.row_bytes, np.int64)
    for _, kind, shape, first in layout.fields:
        size = np.dtype(kind).itemsize
        assert first % size == 0
        covered[first : first + size * int(np.prod(shape, dtype=int))] += 1
    assert covered.max() == 1
    assert layout.row_bytes % 8 == 0
    padding = np.flatnonzero(covered == 0)
    in_floats = padding[padding >= HEAD.itemsize]
    assert in_floats.tolist() in ([], [*range(layout.row_bytes - 4, layout.row_bytes)])
    assert len(padding) - len(in_floats) == HEAD.itemsize - sum(HEAD[name].itemsize for name in HEAD.names or ())
    assert not layout.new.view(np.uint8)[padding].any()
    assert len({name for name, *_ in layout.fields}) == len(layout.fields)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_a_record_can_be_read_by_its_fields_alone(model: Model) -> None:
    """What each part holds in a new stream; every part of the floats is a field."""
    layout = model.layout()
    fields = fields_of(layout, layout.new.tobytes())
    assert fields.keys() == {*(HEAD.names or ()), *(name for name, shape in layout.shapes.items() if np.prod(shape))}
    assert (fields["event_time_us"], fields["partial_time_us"], fields["at_newest"], fields["p_min"]) == (NEVER, NEVER, 1, 1)
    assert fields["quantile"] == fields["quantile_before"] == model.prior.quantile
    assert fields["hidden"].shape == fields["cell"].shape == (model.network.layers, model.network.hidden)
    assert not fields["hidden"].any()
    assert np.isnan(fields["ewma"]).all()
    assert np.isnan(fields["value_last"]).all()
    assert np.array_equal(fields["low"], model.score.low)
    assert fields["between"].tolist() == [[np.inf] * len(model.channels), [-np.inf] * len(model.channels)]
    assert np.array_equal(fields["next"], model.network.head_bias[: len(model.channels)])


def test_parts_lie_one_after_the_other_and_those_that_a_model_lacks_at_the_end() -> None:
    layout = layout_of([("hidden", (2, 3), 1), ("level", (3,), np.array([4.0, 5.0, 6.0], np.float32))], {"cusum": 0.5})
    start, end = HEAD.itemsize // 4, HEAD.itemsize // 4 + 10  # nine floats, and one so that records begin at a multiple of 8 bytes
    places = {name: int(layout.offsets[name][0]) for name in OFFSETS.names or ()}
    assert (places.pop("hidden"), places.pop("level")) == (start, start + 6)
    assert set(places.values()) == {end}
    assert layout.row_bytes == 4 * end
    assert layout.new[start:].tolist() == [1] * 6 + [4, 5, 6, 0]
    assert fields_of(layout, layout.new.tobytes())["cusum"] == 0.5


@pytest.mark.parametrize("value", [0.0, 1e9 + 1 / 3, -np.pi, 1e-30, 273.15])
def test_two_floats_hold_a_number_of_48_bits(value: float) -> None:
    floats = np.full(5, np.nan, np.float32)
    assert keep_wide(floats, 1, 2, value) == pytest.approx(value, rel=2.0**-47, abs=0)
    assert np.isnan(floats[[0, 2, 4]]).all()


@pytest.mark.parametrize("length", [1, 2, 8, 10])
def test_places_in_a_ring_follow_one_another_also_where_the_numbers_go_around(length: int) -> None:
    for first in (0, READINGS_MODULUS // 2, READINGS_MODULUS - 30):
        places = np.zeros((30, 2 * length + 1), np.int64)
        ring_of(first, 30, length, places)
        expected = (first + np.arange(30)[:, None] + np.arange(-length, length + 1)) % length
        assert np.array_equal(places, expected)
    assert READINGS_MODULUS // 2 % length == READINGS_MODULUS % length == 0
    assert READINGS_MODULUS <= 2**32
