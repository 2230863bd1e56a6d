"""Products of blocks of rows, and the elementary functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.core.arithmetic import LANES, decay_and_add, log1p, padded, panels_of, product, sigmoid, tanh, triangular_product
from detector.core.compiled import entry
from detector.core.compiled_model import ROWS

F4 = NDArray[np.float32]


@entry
def multiply(block, start, stride, weights, bias_at, outputs, inputs, rows, out):  # type: ignore[no-untyped-def]
    product((block, start, stride), weights, 0, outputs, inputs, bias_at, rows, (out, 0, outputs))


@entry
def multiply_triangular(block, start, stride, weights, bias_at, outputs, inputs, rows, out):  # type: ignore[no-untyped-def]
    triangular_product((block, start, stride), weights, 0, outputs, inputs, bias_at, rows, (out, 0, outputs))


@entry
def add(sums, at, kept, count, room, factors, factor_stride, values, value_stride):  # type: ignore[no-untyped-def]
    decay_and_add(sums, at, kept, count, room, factors, factor_stride, values, value_stride)


@entry
def functions(x, out):  # type: ignore[no-untyped-def]
    for i in range(x.shape[0]):
        out[0, i], out[1, i], out[2, i] = log1p(abs(x[i])), tanh(x[i]), sigmoid(x[i])


def multiplied(rows: F4, weight: F4, bias: F4, place: int = 0, spare: int = 0, using: Any = multiply) -> F4:
    """rows f4[R <= ROWS, K] by weight f4[K, N], through a block in which the rows lie from `place` on, `spare` floats apart."""
    (count, inputs), outputs = rows.shape, weight.shape[1]
    stride, wide, panels = inputs + spare, len(padded(bias)), panels_of(weight).ravel()
    block = np.full(place + ROWS * stride, np.nan, np.float32)
    for r, row in enumerate(rows):
        block[place + r * stride : place + r * stride + inputs] = row
    out = np.full(ROWS * wide, np.nan, np.float32)
    using(block, place, stride, np.concatenate((panels, padded(bias))), len(panels), wide, inputs, count, out)
    assert np.isnan(out[count * wide :]).all()
    found: F4 = out.reshape(ROWS, wide)[:count, :outputs]
    return found


def drawn(seed: int, *shapes: Any) -> list[F4]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape, np.float32) for shape in shapes]


@given(
    inputs=st.integers(1, 90), outputs=st.integers(1, 70), place=st.integers(0, 20), spare=st.integers(0, 20), seed=st.integers(0, 10**6)
)
@settings(max_examples=60, deadline=None)
def test_a_row_has_the_same_bits_whoever_shares_its_block(inputs: int, outputs: int, place: int, spare: int, seed: int) -> None:
    """Alone, among any number of any others, at any place of the block and of the memory; and they are NumPy's within 1e-5."""
    rows, weight, bias = drawn(seed, (ROWS, inputs), (inputs, outputs), outputs)
    alone = [multiplied(row[None], weight, bias) for row in rows]
    np.testing.assert_allclose(np.concatenate(alone), rows.astype(float) @ weight + bias, rtol=1e-5, atol=1e-5)
    order = np.random.default_rng(seed).permutation(ROWS)
    for count in range(1, ROWS + 1):
        found = multiplied(rows[order[:count]], weight, bias, place, spare)
        assert [row.tobytes() for row in found] == [alone[k].tobytes() for k in order[:count]]


@pytest.mark.parametrize("size", [1, 15, 16, 17, 33, 64])
def test_a_triangular_product_reads_no_more_than_it_needs(size: int) -> None:
    rows, weight, bias = drawn(size, (ROWS, size), (size, size), size)
    upper = np.triu(weight)
    expected = multiplied(rows, upper, bias)
    for output in range(size):
        upper[(output // LANES + 1) * LANES :, output] = np.nan
    for count in range(1, ROWS + 1):
        np.testing.assert_allclose(multiplied(rows[:count], upper, bias, using=multiply_triangular), expected[:count], rtol=1e-6)


def test_a_panel_holds_the_weights_of_so_many_outputs_padded_with_zeros() -> None:
    weight = np.arange(3 * 20, dtype=np.float32).reshape(3, 20)
    panels = panels_of(weight)
    assert panels.shape == (2, 3, LANES)
    assert np.array_equal(np.concatenate(panels, axis=1)[:, :20], weight)
    assert not panels[1, :, 20 - LANES :].any()
    assert padded(weight[0]).tolist() == [*range(20), *[0] * 12]


@pytest.mark.parametrize("count", [1, 2, 8])
def test_sums_are_somewhat_forgotten_and_added_to_so_often(count: int) -> None:
    """At once, the bits are those of one after the other."""
    sums, room = drawn(count, 40, 8 * 25)
    at_once, one_by_one, exact = sums.copy(), sums.copy(), sums[5 : 5 + LANES].astype(float)
    add(at_once, 5, np.float32(0.9), count, room, 3, 25, 7, 25)
    for k in range(count):
        add(one_by_one, 5, np.float32(0.9), 1, room, 3 + 25 * k, 25, 7 + 25 * k, 25)
        exact = 0.9 * exact + float(room[3 + 25 * k]) * room[7 + 25 * k :][:LANES]
    assert at_once.tobytes() == one_by_one.tobytes()
    np.testing.assert_allclose(at_once[5 : 5 + LANES], exact, rtol=1e-5, atol=1e-6)
    assert np.delete(at_once, np.arange(5, 5 + LANES)).tobytes() == np.delete(sums, np.arange(5, 5 + LANES)).tobytes()


def test_the_elementary_functions_are_those_of_numpy() -> None:
    """Within 3e-7: so tanh may be 1 and a trifle."""
    x = np.concatenate((np.linspace(-12, 12, 20_001), np.geomspace(1e-30, 1e30, 2_000), [0.0, -200.0])).astype(np.float32)
    found = np.empty((3, len(x)), np.float32)
    functions(x, found)
    wide = x.astype(float)
    for own, exact in zip(found, (np.log1p(np.abs(wide)), np.tanh(wide), 0.5 + 0.5 * np.tanh(0.5 * wide)), strict=True):
        np.testing.assert_allclose(own, exact, rtol=3e-7, atol=3e-7)
    assert (found[:, -2] == (0, 0, 0.5)).all()
