"""The recurrent model: what is trained over sequences is what runs step by step."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.testing import assert_close

from detector.core.predictor import STEP_ROWS_MULTIPLE, Kind, Predictor
from detector.core.scaling import SCALED_MAX
from detector.core.states import arrays_of
from tests.core.builders import predictor_of

ROWS = STEP_ROWS_MULTIPLE
F4 = NDArray[np.float32]
KINDS: tuple[Kind, ...] = ("prediction", "reconstruction")


def new_memory(predictor: Predictor, rows: int = ROWS) -> tuple[F4, ...]:
    """h, c, last, ahead, past."""
    return tuple(arrays_of(predictor.columns(), rows).values())


def random_memory(predictor: Predictor, seed: int = 0) -> tuple[F4, ...]:
    rng = np.random.default_rng(seed)
    return tuple(rng.standard_normal(array.shape, np.float32) for array in new_memory(predictor))


def copies(arrays: tuple[F4, ...]) -> Any:
    return tuple(array.copy() for array in arrays)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [1, 2, 3])
@torch.inference_mode()
def test_step_by_step_is_the_whole_sequence(kind: Kind, layers: int) -> None:
    predictor = predictor_of(3, 16, layers, kind)
    x = np.random.default_rng(1).standard_normal((ROWS, 40, 3), np.float32)
    first, state = predictor.unroll(torch.from_numpy(x[:, :25]))
    second, (h_end, c_end, last_end, ahead_end, past_end) = predictor.unroll(torch.from_numpy(x[:, 25:]), state)
    h, c, last, ahead, past = new_memory(predictor)
    stepped = np.stack([predictor.step(np.ascontiguousarray(x[:, t]), h, c, last, ahead, past) for t in range(40)], axis=1)
    assert_close(torch.from_numpy(stepped), torch.cat((first, second), dim=1), atol=2e-6, rtol=1e-5)
    assert_close(torch.from_numpy(h).transpose(0, 1), h_end, atol=1e-6, rtol=1e-5)
    assert_close(torch.from_numpy(c).transpose(0, 1), c_end, atol=2e-6, rtol=1e-5)
    assert_close(torch.from_numpy(last), last_end)
    assert_close(torch.from_numpy(ahead), ahead_end, atol=2e-6, rtol=1e-5)
    assert_close(torch.from_numpy(past), past_end)


def test_the_head_reads_the_memory_its_squares_and_what_was_a_few_readings_back() -> None:
    """Against the definition, the past carried from one part of a sequence to the next; before its start nothing has moved."""
    predictor = Predictor(2, 4, lags=(1, 3))
    rng = np.random.default_rng(0)
    h, x = (torch.from_numpy(rng.standard_normal((1, 9, width), np.float32)) for width in (4, 2))
    past, parts = predictor.state(1).past, []
    for part in (slice(0, 2), slice(2, 9)):
        pasts, past = predictor.pasts(past, x[:, part])
        parts.append(predictor.seen(h[:, part], x[:, part], pasts))
    seen = torch.cat(parts, dim=1)[0]
    assert seen.shape == (9, predictor.head.in_features)
    for t in range(9):
        back = [x[0, t - lag] - x[0, t] if t >= lag else torch.zeros(2) for lag in (1, 3)]
        assert torch.equal(seen[t], torch.cat((h[0, t], x[0, t], h[0, t] ** 2, *back)))
    assert torch.equal(past, x[:, -3:])


@pytest.mark.parametrize("horizons", [(1,), (1, 2), (1, 5, 10)])
def test_a_reading_is_expected_as_the_mean_of_what_was_said_of_it(horizons: tuple[int, ...]) -> None:
    """Against the definition: at each horizon what the head said so many readings before, 0 before anything was said."""
    torch.manual_seed(3)
    predictor = Predictor(2, 16, horizons=horizons)
    torch.nn.init.normal_(predictor.head.weight)
    if horizons != (1,):
        predictor.share.copy_(torch.rand(predictor.share.shape).softmax(dim=0))
    share = predictor.share.numpy()
    x = np.random.default_rng(1).standard_normal((ROWS, 30, 2), np.float32)
    memory, said, expected = new_memory(predictor), [], []
    for t in range(30):
        with torch.inference_mode():
            said.append(
                predictor.read(
                    torch.from_numpy(memory[0][:, -1]).clone(), torch.from_numpy(memory[2]).clone(), torch.from_numpy(memory[4])
                ).numpy()
            )
        expected.append(predictor.step(np.ascontiguousarray(x[:, t]), *memory))
    for t in range(30):
        of_it = [share[k] * said[t + 1 - horizon][:, k] for k, horizon in enumerate(horizons) if horizon <= t + 1]
        assert_close(expected[t], np.sum(of_it, axis=0), atol=1e-5, rtol=1e-5)
    if horizons == (1,):
        assert np.array_equal(np.stack(expected), np.stack(said)[:, :, 0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [1, 2])
def test_a_missing_value_is_fed_its_own_expectation(kind: Kind, layers: int) -> None:
    """The state after NaN is, bit for bit, the state after a reading that was just as expected."""
    predictor = predictor_of(3, 16, layers, kind)
    memory = random_memory(predictor)
    with torch.inference_mode():
        said = predictor.read(torch.from_numpy(memory[0][:, -1]).clone(), torch.from_numpy(memory[2]).clone(), torch.from_numpy(memory[4]))
    expectation = said[:, 0].numpy()  # just before
    x = np.random.default_rng(2).standard_normal((ROWS, 3), np.float32)
    gone = np.random.default_rng(3).random((ROWS, 3)) < 0.4
    gone[0], gone[1] = True, False
    missing, observed = copies(memory), copies(memory)
    expected_missing = predictor.step(np.where(gone, np.float32(np.nan), x), *missing)
    expected_observed = predictor.step(np.where(gone, expectation, x), *observed)
    assert expected_missing.tobytes() == expected_observed.tobytes()
    assert [array.tobytes() for array in missing] == [array.tobytes() for array in observed]
    if kind == "prediction":
        assert expected_missing.tobytes() == (memory[3][:, 0] + expectation * predictor.share[0].numpy()).tobytes()


def test_a_prediction_expects_before_it_sees() -> None:
    predictor = predictor_of(3, 16, 2)
    memory = random_memory(predictor)
    rng = np.random.default_rng(4)
    one, other = (predictor.step(rng.standard_normal((ROWS, 3), np.float32), *copies(memory)) for _ in range(2))
    assert one.tobytes() == other.tobytes()


def test_a_reconstruction_gives_back_what_it_sees() -> None:
    predictor = predictor_of(3, 16, 1, "reconstruction")
    memory = random_memory(predictor)
    rng = np.random.default_rng(4)
    one, other = (predictor.step(rng.standard_normal((ROWS, 3), np.float32), *copies(memory)) for _ in range(2))
    assert not np.array_equal(one, other)


def test_an_untrained_prediction_is_persistence() -> None:
    predictor = Predictor(3, 16)
    memory = random_memory(predictor)
    before = memory[2].copy()
    assert np.array_equal(predictor.step(np.ones((ROWS, 3), np.float32), *memory), before)


def test_an_untrained_prediction_at_several_horizons_is_their_mean() -> None:
    predictor = Predictor(3, 16, horizons=(1, 3))
    memory = new_memory(predictor)
    x = np.random.default_rng(1).standard_normal((8, ROWS, 3), np.float32)
    expected = [predictor.step(each, *memory) for each in x]
    assert_close(expected[5], (x[4] + x[2]) / 2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_channel_that_stays_away_leaves_the_memory_usable(kind: Kind) -> None:
    """Fed its own expectation for long, a network that amplifies would leave all bounds, and never come back from NaN."""
    predictor = predictor_of(2, 8, 1, kind)
    with torch.no_grad():
        predictor.head.weight[:, -2:] = torch.eye(2).repeat(len(predictor.horizons), 1) * 1.5
        predictor.head.bias.fill_(1.0)
    memory = new_memory(predictor)
    for _ in range(400):
        expected = predictor.step(np.full((ROWS, 2), np.nan, np.float32), *memory)
        assert np.isfinite(expected).all()
    assert np.abs(memory[2]).max() <= SCALED_MAX
    for _ in range(5):
        predictor.step(np.zeros((ROWS, 2), np.float32), *memory)
    assert all(np.isfinite(array).all() for array in memory)


def test_noise_is_fed_but_never_expected() -> None:
    predictor = predictor_of(2, 8)
    x = torch.randn(3, 10, 2)
    clean, state = predictor.unroll(x)
    with_zero, same = predictor.unroll(x, noise=torch.zeros_like(x))
    noise = torch.zeros_like(x)
    noise[:, 4] = 1.0
    noisy, _ = predictor.unroll(x, noise=noise)
    assert torch.equal(clean, with_zero)
    assert all(torch.equal(a, b) for a, b in zip(state, same, strict=True))
    assert torch.equal(clean[:, :5], noisy[:, :5])
    assert not torch.equal(clean[:, 5], noisy[:, 5])


@pytest.mark.parametrize("layers", [1, 2])
def test_dropout_is_for_training_only(layers: int) -> None:
    torch.manual_seed(0)
    predictor = Predictor(2, 8, layers, "reconstruction", dropout=0.5)
    x = torch.randn(3, 10, 2)
    assert not torch.equal(predictor.unroll(x)[0], predictor.unroll(x)[0])
    first = predictor.step(np.ones((ROWS, 2), np.float32), *new_memory(predictor))
    assert np.array_equal(first, predictor.step(np.ones((ROWS, 2), np.float32), *new_memory(predictor)))
    predictor.eval()
    assert torch.equal(predictor.unroll(x)[0], predictor.unroll(x)[0])


def test_weights_are_saved_once_and_reach_the_cells_when_loaded() -> None:
    predictor, other = predictor_of(2, 8, 2, seed=1), predictor_of(2, 8, 2, seed=2)
    assert not [name for name in predictor.state_dict() if "cell" in name]
    saved = io.BytesIO()
    torch.save(predictor.state_dict(), saved)
    saved.seek(0)
    other.load_state_dict(torch.load(saved, weights_only=True))
    x = np.ones((ROWS, 2), np.float32)
    assert np.array_equal(predictor.step(x, *new_memory(predictor)), other.step(x, *new_memory(other)))
    one, two = new_memory(predictor), new_memory(other)
    predictor.step(x, *one)
    other.step(x, *two)
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, two, strict=True))
