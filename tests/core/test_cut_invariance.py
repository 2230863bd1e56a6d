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
from detector.core.readings import Disposition, Partition
from tests.core.builders import Log, joined, log_of, model_of, normal_values, records_of, result_at, run, settings_of, universal_model_of
from tests.core.plant import eventful_log, interleaved, narrow

MODEL = model_of(channels=2, hidden=32)
UNIVERSAL = universal_model_of(channels=2, hidden=32)
SINGLE = model_of(channels=1, hidden=32)
SETTINGS = settings_of(reset_baseline_after_us=45_000_000)
SEEDS = (*range(5), 16, 24, 28)
KEEPING = replace(SETTINGS, keeps_ties=True)
TIGHT = replace(SETTINGS, max_per_partition=3, idle_ttl_us=10**12)  # at the limit, it would matter when an evicted stream's row is free


@dataclass
class Told:
    """All that a run tells about one partition, bit for bit, in log order; nothing of where the batches were cut."""

    readings: list[tuple[Any, ...]] = field(default_factory=list)
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
                found[part.partitions[number]].readings.append(result_at(result, position))
            for alert in result.alerts:
                assert part.partitions[part.partition[alert.position]] == alert.partition
                assert part.offset[alert.position] == alert.offset
                found[alert.partition].alerts.append(repr(replace(alert, position=0)))  # repr: NaN equals NaN, and floats are exact
    return found


def clocks(detector: Detector, partitions: Sequence[Partition]) -> list[Time]:
    return [detector.clocks[slot] for slot in detector.store.slots_for(tuple(partitions)).tolist()]


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
        assert found[partition].readings == expected[partition].readings
        assert found[partition].alerts == expected[partition].alerts
    records: dict[Any, bytes] = {}
    for worker, detector in enumerate(detectors):
        records |= records_of(detector)
        own = [partition for k, partition in enumerate(log.partitions) if worker_of[k] == worker]
        assert clocks(detector, own) == clocks(whole, own)
    assert records == records_of(whole)


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
        *(("stuck", reason) for reason in ("stuck", "unstuck", "reset")),  # evicted: tests/core/test_stopped.py
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
def test_the_results_of_a_prefix_are_the_prefix_of_the_results(model: Model, seed: int) -> None:
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
        assert [result_at(longer, position) for position in range(end)] == [result_at(prefix, position) for position in range(end)]
        assert repr([alert for alert in longer.alerts if alert.position < end]) == repr(list(prefix.alerts))


KINDS: dict[str, Model] = {
    "one channel": SINGLE,
    "two layers": model_of(3, 17, 2),
    "three layers": model_of(2, 8, 3),
    "reconstruction": model_of(5, 20, 1, "reconstruction"),
    "reconstruction of two layers": model_of(2, 32, 2, "reconstruction"),
    "many channels": model_of(38, 64),
    "universal, one channel": universal_model_of(1, 32),
    "universal, many channels": universal_model_of(7, 24),
}


def _log_of_streams(names: Sequence[str], readings: int, channels: int, partition: Partition, seed: int) -> Log:
    """Streams of which each reading lacks some values; some of the readings are late, or come again."""
    rng = np.random.default_rng(seed)
    values = np.stack([normal_values(readings, channels, seed=100 * seed + k) for k in range(len(names))])
    values[rng.random(values.shape) < 0.1] = np.nan
    order = [(k, t) for t in range(readings) for k in rng.permutation(len(names)).tolist()]
    for at in np.flatnonzero(rng.random(len(order)) < 0.05).tolist():
        order[at] = order[max(at - 3, 0)]
    return log_of([(names[k], t, values[k, t]) for k, t in order], channels, partition)


@pytest.mark.parametrize("kind", KINDS)
@given(others=st.integers(1, 13), is_long=st.booleans(), cuts=st.lists(st.integers(1, 4_000), max_size=9), seed=st.integers(0, 99))
@settings(max_examples=12, deadline=None)
def test_a_rows_bits_are_its_own(kind: str, others: int, is_long: bool, cuts: list[int], seed: int) -> None:
    """Two streams alone in one batch, and the same among any others, in any batches, at any place of the store and of a block:
    all results, all alerts and every byte of their records."""
    model, rng = KINDS[kind], np.random.default_rng(seed)
    mine = _log_of_streams(("a", "b"), 60, len(model.channels), Partition("t", 0), seed)
    theirs = _log_of_streams([f"o{k}" for k in range(others)], 60 + seed % 20, len(model.channels), Partition("t", 1), seed + 1)
    logs = [narrow(log, seed) if is_long else log for log in (mine, theirs)]
    alone, among = Detector(model, SETTINGS), Detector(model, SETTINGS)
    run(among, log_of([(f"before{k}", 0, 0.0) for k in range(seed % 7)], len(model.channels), Partition("t", 2)))
    log = interleaved(joined(logs), rng)
    expected = told([alone], [0], logs[0], [])
    found = told([among], [0, 0], log, [cut for cut in cuts if cut < len(log)])
    assert found[Partition("t", 0)] == expected[Partition("t", 0)]
    records = records_of(among)
    assert all(record == records[key] for key, record in records_of(alone).items())
    assert len(records_of(alone)) == 2


@pytest.mark.parametrize(("channels", "hidden"), [(1, 32), (3, 17), (4, 64), (38, 64), (52, 128)])
@pytest.mark.parametrize("of", [model_of, universal_model_of], ids=["fleet", "universal"])
def test_the_bits_of_a_stream_do_not_depend_on_how_many_others_there_are(
    of: Callable[[int, int], Model], channels: int, hidden: int
) -> None:
    """One reading per stream and batch: blocks of every size, and the stream at every place in them."""
    model, many, times = of(channels, hidden), 13, 24
    values = normal_values(many * times, channels, seed=1)
    values[np.random.default_rng(1).random(values.shape) < 0.05] = np.nan
    log = log_of([(f"s{k}", float(t), values[k * times + t]) for t in range(times) for k in range(many)], channels)
    whole = Detector(model, settings_of())
    expected = run(whole, log, range(many, len(log), many))
    for width in range(1, many):
        few, start = Detector(model, settings_of()), many - width
        for t in range(times):
            result = few.detect(log.take(range(t * many + start, (t + 1) * many)).batch(few))
            for k in range(width):
                assert result_at(result, k) == result_at(expected[t], start + k)
        records = records_of(whole)
        assert all(records[key] == record for key, record in records_of(few).items())
