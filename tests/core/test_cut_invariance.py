"""Invariants 2 and 3: no look ahead; and the same log, cut and spread in any way, gives the same bits."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.detector import Detector
from detector.core.event_time import Time
from detector.core.model import Model
from detector.core.predictor import STEP_ROWS_MAX, STEP_ROWS_MULTIPLE
from detector.core.readings import Disposition, Partition
from tests.core.builders import Log, log_of, records_of, model_of, normal_values, predictor_of, run, settings_of, universal_model_of
from tests.core.plant import eventful_log, interleaved, narrow

MODEL = model_of(channels=2, hidden=32)
UNIVERSAL = universal_model_of(channels=2, hidden=32)
SINGLE = model_of(channels=1, hidden=32)
SETTINGS = settings_of(reset_baseline_after_us=45_000_000)
SEEDS = (*range(5), 16, 24, 28)
KEEPING = replace(SETTINGS, keeps_ties=True)
TIGHT = replace(SETTINGS, max_per_partition=3, idle_ttl_us=10**12)  # at the limit, it would matter when a forgotten stream's row is free


@dataclass
class Told:
    """All that a run tells about one partition, bit for bit, in log order; nothing of where the batches were cut."""

    result: list[tuple[Any, ...]] = field(default_factory=list)
    alerts: list[str] = field(default_factory=list)


def told(detectors: Sequence[Detector], worker_of: Sequence[int], log: Log, cuts: Sequence[int]) -> dict[Partition, Told]:
    """Run `log`, cut into batches, partition k on detector worker_of[k]."""
    found = {partition: Told() for partition in log.partitions}
    bounds = [0, *sorted(cuts), len(log)]
    worker_of_reading = np.array(worker_of)[log.partition]
    for start, end in itertools.pairwise(bounds):
        for worker, detector in enumerate(detectors):
            part = log.take(start + np.flatnonzero(worker_of_reading[start:end] == worker))
            result = detector.detect(part.batch(detector))
            for position, number in enumerate(part.partition.tolist()):
                found[part.partitions[number]].result.append(
                    (
                        result.disposition[position],
                        result.score[position].tobytes(),
                        result.tail_probability[position].tobytes(),
                        result.expected[position].tobytes(),
                        result.alert.get(position),
                    )
                )
            for alert in result.alerts:
                assert part.partitions[part.partition[alert.position]] == alert.partition
                assert part.offset[alert.position] == alert.offset
                found[alert.partition].alerts.append(repr(replace(alert, position=0)))  # repr: NaN equals NaN, and floats are exact
    return found


def clocks(detector: Detector, partitions: Sequence[Partition]) -> list[Time]:
    return [detector.clocks[slot] for slot in detector.states.slots_for(tuple(partitions)).tolist()]


def check_same_bits(model: Model, log: Log, limits: Any, seed: int) -> None:
    """One detector and one batch, against 1 to 3 detectors, the partitions mixed in another way, and random cuts."""
    rng = np.random.default_rng(seed)
    whole = Detector(model, limits)
    expected = told([whole], [0] * len(log.partitions), log, [])
    workers = int(rng.integers(1, 4))
    worker_of = rng.permutation(np.arange(len(log.partitions)) % workers).tolist()
    detectors = [Detector(model, limits) for _ in range(workers)]
    mixed = interleaved(log, rng)
    cuts = rng.integers(0, len(log), size=int(rng.choice([1, 7, 60, 300])))
    found = told(detectors, worker_of, mixed, cuts.tolist())
    for partition in log.partitions:
        assert found[partition].result == expected[partition].result
        assert found[partition].alerts == expected[partition].alerts
    memories: dict[Any, Any] = {}
    for worker, detector in enumerate(detectors):
        memories |= records_of(detector)
        own = [partition for k, partition in enumerate(log.partitions) if worker_of[k] == worker]
        assert clocks(detector, own) == clocks(whole, own)
    assert memories == records_of(whole)


@pytest.mark.parametrize("seed", SEEDS)
def test_cuts_interleavings_and_workers_change_no_bit(seed: int) -> None:
    check_same_bits(MODEL, eventful_log(seed), SETTINGS, seed)


@pytest.mark.parametrize("seed", range(4))
def test_nor_do_they_where_readings_are_narrow(seed: int) -> None:
    check_same_bits(MODEL, narrow(eventful_log(seed), seed), SETTINGS, seed)


@pytest.mark.parametrize(("model", "is_narrow"), [(MODEL, False), (UNIVERSAL, True)], ids=["fleet", "universal, narrow"])
def test_nor_do_they_where_ties_are_kept(model: Model, is_narrow: bool) -> None:
    """Many of one time, in one message and in several, whole and narrow: the cuts fall between them."""
    log = eventful_log(3, partitions=2, ties=0.3)
    log = narrow(log, 3) if is_narrow else log
    dispositions = run(Detector(model, KEEPING), log)[0].disposition
    assert Disposition.LATE in dispositions
    assert Disposition.DUPLICATE not in dispositions
    check_same_bits(model, log, KEEPING, 3)


@pytest.mark.parametrize("seed", range(3))
def test_nor_where_streams_are_refused(seed: int) -> None:
    check_same_bits(MODEL, eventful_log(seed), TIGHT, seed)


@pytest.mark.parametrize(("layers", "kind"), [(2, "prediction"), (1, "reconstruction"), (2, "reconstruction")])
def test_nor_with_any_kind_of_network(layers: int, kind: Any) -> None:
    check_same_bits(model_of(2, 32, layers, kind), eventful_log(5), SETTINGS, 5)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("channels", [1, 2, 3, 8])
def test_nor_with_a_universal_model(channels: int, seed: int) -> None:
    check_same_bits(universal_model_of(channels), eventful_log(seed, channels=channels), SETTINGS, seed)


@pytest.mark.parametrize("model", [MODEL, UNIVERSAL], ids=["fleet", "universal"])
def test_one_reading_per_batch_changes_no_bit(model: Model) -> None:
    log = eventful_log(11, partitions=2)
    whole, one_by_one = Detector(model, SETTINGS), Detector(model, SETTINGS)
    assert told([whole], [0, 0], log, []) == told([one_by_one], [0, 0], log, range(1, len(log)))
    assert records_of(whole) == records_of(one_by_one)


def test_everything_happens_in_these_logs() -> None:
    """Or the tests above would prove little."""
    reasons: set[tuple[str, str]] = set()
    dispositions: set[int] = set()
    for seed in SEEDS:
        log = eventful_log(seed)
        assert (np.diff(log.offset[log.partition == 0]) == 0).any()
        for result in run(Detector(MODEL, SETTINGS), log):
            reasons |= {(alert.kind, alert.reason) for alert in result.alerts}
            dispositions |= set(result.disposition.tolist())
    for result in run(Detector(MODEL, SETTINGS), narrow(eventful_log(0))) + run(Detector(MODEL, TIGHT), eventful_log(0)):
        dispositions |= set(result.disposition.tolist())
    assert reasons == {
        *(("score", reason) for reason in ("evidence", "escalated", "cleared", "reset", "evicted")),
        *(("timeout", reason) for reason in ("timeout", "resumed", "evicted")),
        *(("stuck", reason) for reason in ("stuck", "unstuck", "reset")),  # forgotten: tests/core/test_stopped.py
        *(("missing", reason) for reason in ("missing", "resumed", "reset")),
    }
    assert dispositions == set(Disposition)


MOVES = st.tuples(
    st.integers(0, 3), st.sampled_from([-3.0, 0.0, 0.3, 0.3, 1.0, 6.0, 40.0, 200.0]), st.sampled_from([5.0, 5.0, 9.0, np.nan])
)


@given(
    prelude=st.integers(0, 40),
    moves=st.lists(MOVES, max_size=25),
    cuts=st.lists(st.integers(0, 200), max_size=6),
    partition=st.lists(st.integers(0, 1), min_size=4, max_size=4),
    keeps_ties=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_any_story_can_be_cut_anywhere(prelude: int, moves: list[Any], cuts: list[int], partition: list[int], keeps_ties: bool) -> None:
    """Four streams in two partitions, alike at first, then anything: steps forward and back in time, silences, absences."""
    values = normal_values(40, 1)
    story = [(f"s{i}", t + i / 10, float(values[t, 0])) for t in range(prelude) for i in range(4)]
    now = float(prelude)
    for stream, step, value in moves:
        now += step
        story.append((f"s{stream}", now, value))
    log = log_of(story)
    homes = (Partition("t", 0), Partition("t", 1))
    log = replace(log, partition=np.array([partition[int(name[1])] for name in log.stream], np.int32), partitions=homes)
    quick = settings_of(warmup_readings=10, budget_period_us=50_000_000, keeps_ties=keeps_ties)
    whole, cut = Detector(SINGLE, quick), Detector(SINGLE, quick)
    assert told([whole], [0, 0], log, []) == told([cut], [0, 0], log, [c for c in cuts if c < len(log)])
    assert records_of(whole) == records_of(cut)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("model", [MODEL, UNIVERSAL], ids=["fleet", "universal"])
def test_the_result_of_a_prefix_are_the_prefix_of_the_result(model: Model, seed: int) -> None:
    """Also when what follows is absurd."""
    log = interleaved(eventful_log(seed), np.random.default_rng(seed))
    end = int(np.random.default_rng(seed).integers(len(log) // 2, len(log)))
    absurd = np.random.default_rng(seed).normal(0, 1e6, log.value.shape).astype(np.float32)
    other = replace(
        log,
        value=np.where(np.arange(len(log))[:, None] < end, log.value, absurd),
        event_time_us=np.where(np.arange(len(log)) < end, log.event_time_us, log.event_time_us[::-1] + 10**12),
    )
    (prefix,), (whole,), (otherwise,) = (run(Detector(model, SETTINGS), one) for one in (log.take(range(end)), log, other))
    for longer in (whole, otherwise):
        assert longer.disposition[:end].tobytes() == prefix.disposition.tobytes()
        assert longer.score[:end].tobytes() == prefix.score.tobytes()
        assert longer.tail_probability[:end].tobytes() == prefix.tail_probability.tobytes()
        assert longer.expected[:end].tobytes() == prefix.expected.tobytes()
        assert {position: alert for position, alert in longer.alert.items() if position < end} == prefix.alert
        assert repr([alert for alert in longer.alerts if alert.position < end]) == repr(list(prefix.alerts))


@pytest.mark.parametrize("hidden", [32, 64, 96, 128])
@pytest.mark.parametrize("channels", [1, 4, 38, 52])
def test_the_bits_of_a_row_do_not_depend_on_its_neighbours(hidden: int, channels: int) -> None:
    """For every number of rows that a padded step can have, anywhere in memory, the head's product included."""
    rng = np.random.default_rng(hidden + channels)
    for kind in ("prediction", "reconstruction"):
        predictor = predictor_of(channels, hidden, 1, kind)
        many = STEP_ROWS_MAX
        shapes = ((channels,), *(column.shape for column in predictor.columns().values()))
        before = [rng.standard_normal((many, *shape), np.float32) for shape in shapes]
        before[0][rng.random((many, channels)) < 0.05] = np.nan
        after = [array.copy() for array in before]
        expected = predictor.step(*after)
        for rows in range(STEP_ROWS_MULTIPLE, many, STEP_ROWS_MULTIPLE * 3):
            chosen = rng.permutation(many)[:rows]
            arrays = [_somewhere(array[chosen], int(rng.integers(16))) for array in before]
            assert predictor.step(*arrays).tobytes() == expected[chosen].tobytes()
            assert [array.tobytes() for array in arrays[1:]] == [array[chosen].tobytes() for array in after[1:]]


def _somewhere(array: Any, shift: int) -> Any:
    """A copy that begins `shift` floats into its memory."""
    room = np.empty(array.size + 16, np.float32)
    copy = room[shift : shift + array.size].reshape(array.shape)
    copy[...] = array
    return copy


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("model_of", [model_of, universal_model_of])
def test_the_bits_of_a_stream_do_not_depend_on_how_many_others_there_are(model_of: Callable[[int], Model], channels: int) -> None:
    """One reading per stream and batch: as many rows as streams, padded and cut by the detector."""
    model = model_of(channels)
    many = STEP_ROWS_MAX + 40
    values = normal_values(many, channels, seed=1)
    readings = [(f"s{k}", float(t), values[k] + t) for t in range(3) for k in range(many)]
    log = log_of(readings, channels)
    whole = Detector(model, settings_of())
    result = run(whole, log, [many, 2 * many])
    for width in (1, 2, 3, 7, 31, 32, 33, 64, 500, STEP_ROWS_MAX - 1, STEP_ROWS_MAX, STEP_ROWS_MAX + 1):
        few = Detector(model, settings_of())
        start = many - width
        for t in range(3):
            part = few.detect(log.take(range(t * many + start, (t + 1) * many)).batch(few))
            assert part.score.tobytes() == result[t].score[start:].tobytes()
            assert part.expected.tobytes() == result[t].expected[start:].tobytes()
        memory = records_of(whole)
        assert all(memory[key] == columns for key, columns in records_of(few).items())
