"""Products of blocks of rows, and the elementary functions of the LSTM, in 32 bits.

A product gives a row the same bits whoever shares its block, by construction: each output is one sum, taken over the inputs in their order
by fused multiply-adds, whatever the number of rows. Compilers vectorise such a sum over the outputs well only if the partial sums
stay in registers, which numba's own loops do not reach (measured on an AMD EPYC, 68 inputs and 256 outputs: .48 us per row; this, .30, which
is the processor's peak). So the inner loop is written in LLVM's intermediate language: a panel of LANES outputs for ROWS rows.

source of the blocking: Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", 2008
source of tanh: the rational minimax approximation of Eigen and XLA, error below 1e-7 times 2
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from detector.core.compiled import compiled, inlined
from detector.core.compiled_model import ROWS

f4 = np.float32

LANES = 16
"""Outputs of a panel: one register of AVX-512, two of AVX2."""


def whole_lanes(count: int) -> int:
    """The next multiple of LANES: rows of so many floats are read, and added to, a register at a time."""
    return -(-count // LANES) * LANES


compiled_whole_lanes = inlined(whole_lanes)
"""The same for compiled code. Python must not call it: every start would wait a second for the compiler."""


def panels_of(weight: NDArray[Any]) -> NDArray[np.float32]:
    """A weight f[K, N], inputs by outputs, as `product` reads it: f4[P, K, LANES], the last panel padded with zeros."""
    inputs, outputs = weight.shape
    padded = np.zeros((inputs, whole_lanes(outputs)), np.float32)
    padded[:, :outputs] = weight
    return np.ascontiguousarray(padded.reshape(inputs, -1, LANES).transpose(1, 0, 2))


def padded(bias: NDArray[Any]) -> NDArray[np.float32]:
    """A bias f[N] for the same panels: f4[P * LANES]."""
    wide = np.zeros(whole_lanes(len(bias)), np.float32)
    wide[: len(bias)] = bias
    return wide


def _panel_of(rows: int) -> Any:
    """The intrinsic for a fixed number of rows: out[r, :] = bias + sum over k of a[r, k] * panel[k, :], r < rows, k < inputs."""

    @intrinsic
    def panel(typing_context, a, a_stride, panel, inputs, bias, out, out_stride):  # type: ignore[no-untyped-def]
        """a, panel, bias, out: addresses of 32-bit floats; strides in floats."""
        signature = types.void(types.uintp, types.intp, types.uintp, types.intp, types.uintp, types.uintp, types.intp)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            number, scalar = ir.IntType(64), ir.FloatType()
            vector = ir.VectorType(scalar, LANES)
            of_floats = scalar.as_pointer()
            a, a_stride, panel, inputs, bias, out, out_stride = arguments
            a, panel, bias, out = (builder.inttoptr(address, of_floats) for address in (a, panel, bias, out))
            fma = _fma(builder)

            def at(base: Any, offset: Any) -> Any:
                return builder.bitcast(builder.gep(base, [offset]), vector.as_pointer())

            start = builder.load(at(bias, number(0)), align=4)
            row_of = [builder.gep(a, [builder.mul(a_stride, number(r))]) for r in range(rows)]
            before, loop, after = builder.block, builder.append_basic_block("inputs"), builder.append_basic_block("stored")
            builder.branch(loop)
            builder.position_at_end(loop)
            k, sums = builder.phi(number), [builder.phi(vector) for _ in range(rows)]
            weights = builder.load(at(panel, builder.mul(k, number(LANES))), align=4)
            added = [
                builder.call(fma, [_in_all_lanes(builder, builder.load(builder.gep(row, [k]))), weights, total])
                for row, total in zip(row_of, sums, strict=True)
            ]
            following = builder.add(k, number(1))
            k.add_incoming(number(0), before)
            k.add_incoming(following, loop)
            for total, more in zip(sums, added, strict=True):
                total.add_incoming(start, before)
                total.add_incoming(more, loop)
            builder.cbranch(builder.icmp_signed("<", following, inputs), loop, after)
            builder.position_at_end(after)
            for r, total in enumerate(added):
                builder.store(total, at(out, builder.mul(out_stride, number(r))), align=4)
            return context.get_dummy_value()

        return signature, generate

    return panel


@intrinsic
def _decay_and_add(typing_context, sums, kept, count, factors, factor_stride, values, value_stride):  # type: ignore[no-untyped-def]
    """sums[:LANES] = kept * sums + factors[i] * values[i, :], for i = 0 .. count - 1. Addresses of 32-bit floats; strides in floats."""
    signature = types.void(types.uintp, types.float32, types.intp, types.uintp, types.intp, types.uintp, types.intp)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number, scalar = ir.IntType(64), ir.FloatType()
        vector = ir.VectorType(scalar, LANES)
        sums, kept, count, factors, factor_stride, values, value_stride = arguments
        sums = builder.inttoptr(sums, vector.as_pointer())
        factors, values = (builder.inttoptr(address, scalar.as_pointer()) for address in (factors, values))
        kept, start, fma = _in_all_lanes(builder, kept), builder.load(sums, align=4), _fma(builder)
        before, loop, after = builder.block, builder.append_basic_block("readings"), builder.append_basic_block("stored")
        builder.branch(loop)
        builder.position_at_end(loop)
        i, total = builder.phi(number), builder.phi(vector)
        factor = _in_all_lanes(builder, builder.load(builder.gep(factors, [builder.mul(i, factor_stride)])))
        value = builder.bitcast(builder.gep(values, [builder.mul(i, value_stride)]), vector.as_pointer())
        added = builder.call(fma, [factor, builder.load(value, align=4), builder.fmul(kept, total)])
        following = builder.add(i, number(1))
        i.add_incoming(number(0), before)
        i.add_incoming(following, loop)
        total.add_incoming(start, before)
        total.add_incoming(added, loop)
        builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
        builder.position_at_end(after)
        builder.store(added, sums, align=4)
        return context.get_dummy_value()

    return signature, generate


def _fma(builder: Any) -> Any:
    """LLVM's fused multiply-add of a register."""
    name, vector = f"llvm.fma.v{LANES}f32", ir.VectorType(ir.FloatType(), LANES)
    return builder.module.globals.get(name) or ir.Function(builder.module, ir.FunctionType(vector, [vector] * 3), name)


def _in_all_lanes(builder: Any, scalar: Any) -> Any:
    """A register of which every lane is the same."""
    undefined = ir.Constant(ir.VectorType(ir.FloatType(), LANES), ir.Undefined)
    first_lane = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0)), undefined, first_lane)


_panel_of_block, _panel_of_row = _panel_of(ROWS), _panel_of(1)


@compiled
def product(a, weights, panels, outputs, inputs, bias, rows, out):  # type: ignore[no-untyped-def]
    """out = a W + bias for the rows of a block. All arrays lie in blocks of floats, from an offset on.

    a         (block f4, offset, floats per row): [ROWS, >= inputs]
    weights   f4 block, in which `panels` and `bias` are offsets, as `panels_of` and `padded` give them;  outputs: how many, padded to LANES
    rows      that count, at most ROWS
    out       (block f4, offset, floats per row): [ROWS, >= outputs], overwritten
    """
    for first in range(0, outputs, LANES):
        one_panel(a, weights, panels + first * inputs, inputs, bias + first, rows, out, first)


@compiled
def triangular_product(a, weights, panels, outputs, inputs, bias, rows, out):  # type: ignore[no-untyped-def]
    """The same for a lower triangular weight, transposed, whose output i needs inputs 0..i only; what lies behind is not read."""
    for first in range(0, outputs, LANES):
        one_panel(a, weights, panels + first * inputs, min(first + LANES, inputs), bias + first, rows, out, first)


@compiled
def one_panel(a, weights, panel, inputs, bias, rows, out, first):  # type: ignore[no-untyped-def]
    """Outputs [first, first + LANES) of a product. panel, bias: where theirs begin among the weights."""
    (a_block, a_start, a_row), (out_block, out_start, out_row) = a, out
    of, into = _address(a_block, a_start), _address(out_block, out_start + first)
    panel_at, bias_at = _address(weights, panel), _address(weights, bias)
    if rows == ROWS:
        _panel_of_block(of, a_row, panel_at, inputs, bias_at, into, out_row)
    else:
        for r in range(rows):
            _panel_of_row(of + np.uint64(4 * a_row * r), a_row, panel_at, inputs, bias_at, into + np.uint64(4 * out_row * r), out_row)


@compiled
def decay_and_add(sums, at, kept, count, room, factors, factor_stride, values, value_stride):  # type: ignore[no-untyped-def]
    """LANES sums from `at` on, somewhat forgotten (`kept`) and a factor times LANES values added, `count` >= 1 times. factors, values: where
    the first ones are in the room."""
    _decay_and_add(_address(sums, at), kept, count, _address(room, factors), factor_stride, _address(room, values), value_stride)


@inlined
def _address(block, offset):  # type: ignore[no-untyped-def]
    return block.ctypes.data + np.uint64(4 * offset)


@inlined
def copy(source, into):  # type: ignore[no-untyped-def]
    """into[:] = source, of arrays [N] that do not overlap: numba's own assignment looks whether they do, and allocates."""
    for j in range(into.shape[0]):
        into[j] = source[j]


@inlined
def log1p(x):  # type: ignore[no-untyped-def]
    """ln(1 + x) for x >= 0, within 1e-7 or so: m 2^k = 1 + x with m in [1/sqrt(2), sqrt(2)), a polynomial in m - 1, and k ln 2.

    source: Cephes, logf.c
    """
    bits = f4(f4(1) + x).view(np.int32)
    k = (bits - np.int32(0x3F3504F3)) >> np.int32(23)
    m = np.int32(bits - (k << np.int32(23))).view(np.float32) - f4(1)
    p = f4(-1.1514610310e-1) + m * f4(7.0376836292e-2)
    p = f4(-1.2420140846e-1) + m * (f4(1.1676998740e-1) + m * p)
    p = f4(-1.6668057665e-1) + m * (f4(1.4249322787e-1) + m * p)
    p = f4(-2.4999993993e-1) + m * (f4(2.0000714765e-1) + m * p)
    p = m * m * (m * (f4(3.3333331174e-1) + m * p) - f4(0.5))
    return m + p + f4(k) * f4(0.69314718056)


@inlined
def tanh(x):  # type: ignore[no-untyped-def]
    x = min(max(x, f4(-9)), f4(9))
    y = x * x
    over = f4(2.00018790482477e-13) + y * f4(-2.76076847742355e-16)
    over = f4(5.12229709037114e-08) + y * (f4(-8.60467152213735e-11) + y * over)
    over = f4(6.37261928875436e-04) + y * (f4(1.48572235717979e-05) + y * over)
    over = x * (f4(4.89352455891786e-03) + y * over)
    under = f4(1.18534705686654e-04) + y * f4(1.19825839466702e-06)
    return over / (f4(4.89352518554385e-03) + y * (f4(2.26843463243900e-03) + y * under))


@inlined
def sigmoid(x):  # type: ignore[no-untyped-def]
    return f4(0.5) * tanh(f4(0.5) * x) + f4(0.5)
