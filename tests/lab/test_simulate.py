"""The simulated plant: the same for the same seed however it is cut, and faults that do what they say."""

from __future__ import annotations

from itertools import islice, pairwise

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from detector.codec.messages import Messages
from detector.codec.readings import JsonReadings
from detector.core.readings import Partition, StreamNames
from detector.errors import ConfigError
from detector.lab.faults import LOAD_KINDS, USUAL_KINDS, Fault, FaultKind, altered_load, faults_without_end, schedule_faults
from detector.lab.plant import CHANNELS, CURRENT, F8, FULL_LOAD, IDLE_LOAD, PHASES, PRESSURE, SWING, TEMPERATURE, VIBRATION, Plant
from detector.lab.simulate import SIMULATED_FORMAT, SimulatedChunk, encode, label_columns, recording_columns, simulate

HOUR_US = 3_600_000_000
PLANT = Plant(seed=7, machines=4)
END_US = PLANT.start_us + 6 * HOUR_US
AT_US = PLANT.start_us + 2 * HOUR_US
"""A fault of the first machine can begin here: it is one of its event times."""


def joined(chunks: list[SimulatedChunk]) -> SimulatedChunk:
    return SimulatedChunk(
        np.concatenate([chunk.stream for chunk in chunks]),
        np.concatenate([chunk.event_time_us for chunk in chunks]),
        np.concatenate([chunk.value for chunk in chunks]),
        np.concatenate([chunk.label for chunk in chunks]),
    )


def run(*faults: Fault, plant: Plant = PLANT, end_us: int = END_US, chunk_readings_max: int = 10_000) -> SimulatedChunk:
    return joined(list(simulate(plant, faults, end_us=end_us, chunk_readings_max=chunk_readings_max)))


def fault(kind: FaultKind, minutes: float, channels: tuple[str, ...] = ("pressure",), magnitude: float = 0.0) -> Fault:
    return Fault(kind, PLANT.streams[0], AT_US, AT_US + round(minutes * 60) * 1_000_000, channels, magnitude)


CLEAN = run()


def inside(of: Fault) -> NDArray[np.bool_]:
    """Where CLEAN has the readings of a fault."""
    within: NDArray[np.bool_] = (CLEAN.stream == 0) & (CLEAN.event_time_us >= of.start_us) & (CLEAN.event_time_us < of.end_us)
    return within


def same(a: SimulatedChunk, b: SimulatedChunk) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name), equal_nan=name == "value") for name in SimulatedChunk.__slots__)


def test_a_seed_gives_one_plant() -> None:
    faults = schedule_faults(PLANT, 6, AT_US, END_US + 20 * HOUR_US, seed=1)
    assert same(run(*faults), run(*faults))
    assert not np.array_equal(CLEAN.value, run(plant=Plant(seed=8, machines=4)).value)


@pytest.mark.parametrize("chunk_readings_max", [1, 97, 512, 1_000_000])
def test_chunks_only_cut(chunk_readings_max: int) -> None:
    faults = [fault(kind, 20, magnitude=1.0) for kind in (FaultKind.NOISE_BURST,)]
    end_us = AT_US + HOUR_US
    chunks = list(simulate(PLANT, faults, end_us=end_us, chunk_readings_max=chunk_readings_max))
    assert max(map(len, chunks)) <= chunk_readings_max
    assert same(joined(chunks), run(*faults, end_us=end_us))


def test_the_end_does_not_change_what_came_before() -> None:
    longer = run(end_us=END_US + HOUR_US)
    assert same(longer.take(slice(0, len(CLEAN))), CLEAN)
    assert longer.event_time_us[len(CLEAN)] >= END_US


def test_it_goes_on_without_end() -> None:
    endless = simulate(PLANT, faults_without_end(PLANT, PLANT.start_us, seed=1, per_machine_day=2.0))
    readings = joined(list(islice(endless, 150)))
    days = (readings.event_time_us[-1] - PLANT.start_us) / (24 * HOUR_US)
    assert days > 2
    assert readings.label[readings.event_time_us > PLANT.start_us + 24 * HOUR_US].any()


@pytest.mark.parametrize(("machines", "interval_s"), [(1, 1.0), (3, 60.0), (2, 7.5)])
def test_other_plants(machines: int, interval_s: float) -> None:
    plant = Plant(seed=2, machines=machines, interval_s=interval_s)
    faults = schedule_faults(plant, 10, plant.start_us, plant.start_us + 100 * HOUR_US, seed=1)
    readings = run(*faults, plant=plant, end_us=plant.start_us + 2 * HOUR_US)
    assert len(readings) <= machines * 7_200 / interval_s
    assert (np.diff(readings.event_time_us) > 0).all()


@pytest.mark.parametrize(("machines", "interval_s", "says"), [(0, 10.0, "at least one machine"), (1, 0.1, "within 1 and 60 seconds")])
def test_a_plant_that_cannot_be_is_refused(machines: int, interval_s: float, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Plant(seed=2, machines=machines, interval_s=interval_s)


def test_readings_come_in_the_order_of_event_time_at_their_interval() -> None:
    assert (np.diff(CLEAN.event_time_us) > 0).all()
    assert (CLEAN.event_time_us % 1_000 == 0).all()
    for machine in range(PLANT.machines):
        times = CLEAN.event_time_us[CLEAN.stream == machine]
        assert len(times) == 6 * 360
        assert (np.diff(times) == PLANT.interval_us).all()
    assert not CLEAN.label.any()


def test_channels_follow_the_load_as_they_do_in_a_plant() -> None:
    value = CLEAN.value[CLEAN.stream == 1]
    assert (value > 0).all()
    assert 40 < value[:, TEMPERATURE].min() < value[:, TEMPERATURE].max() < 90
    assert ((value.max(axis=0) - value.min(axis=0)) > 0.5 * SWING).all()
    together = np.corrcoef(value.T)
    assert together[CURRENT, PRESSURE] > 0.9
    assert together[CURRENT, VIBRATION] > 0.9
    lags = [np.corrcoef(value[: len(value) - lag, CURRENT], value[lag:, TEMPERATURE])[0, 1] for lag in range(20)]
    assert 4 <= int(np.argmax(lags)) <= 16, "the temperature lags by minutes"
    spectrum = np.abs(np.fft.rfft(value[:, CURRENT] - value[:, CURRENT].mean()))
    cycle_s = len(value) * PLANT.interval_s / int(np.argmax(spectrum))
    assert cycle_s == pytest.approx(PLANT.traits.cycle_s[1], rel=0.1)


@pytest.mark.parametrize("kind", list(FaultKind))
def test_a_fault_touches_its_own_readings_only(kind: FaultKind) -> None:
    of = fault(kind, 30, CHANNELS if kind in {FaultKind.SILENCE, *LOAD_KINDS} else ("pressure",), 0.4)
    readings = run(of)
    touched = inside(of)
    if kind is FaultKind.SILENCE:
        assert len(readings) == len(CLEAN) - touched.sum()
        assert same(readings, CLEAN.take(~touched))
        return
    assert np.array_equal(readings.label, touched)
    recovering = (CLEAN.stream == 0) & (CLEAN.event_time_us >= of.end_us) & (CLEAN.event_time_us < of.end_us + HOUR_US)
    untouched = ~(touched | recovering) if kind in LOAD_KINDS else ~touched
    assert np.array_equal(readings.value[untouched], CLEAN.value[untouched])
    changed = (readings.value[touched] != CLEAN.value[touched]).mean(axis=0)
    others = [k for k in range(len(CHANNELS)) if CHANNELS[k] not in of.channels]
    assert (changed[others] == 0).all()
    assert (changed[of.columns] > 0.9).all()


def test_level_shift_and_spike_add_swings() -> None:
    of = fault(FaultKind.LEVEL_SHIFT, 30, ("current",), -0.4)
    step = (run(of).value - CLEAN.value)[inside(of), CURRENT]
    assert step == pytest.approx(-0.4 * SWING[CURRENT], abs=0.011)


def test_slow_drift_grows_from_nothing_to_its_magnitude() -> None:
    of = fault(FaultKind.SLOW_DRIFT, 180, ("temperature",), 0.8)
    step = (run(of).value - CLEAN.value)[inside(of), TEMPERATURE]
    assert step[0] == 0
    assert (np.diff(step) > -0.011).all()
    assert step[-1] == pytest.approx(0.8 * SWING[TEMPERATURE], rel=0.01)


def test_frozen_value_repeats_the_last_one_exactly() -> None:
    of = fault(FaultKind.FROZEN_VALUE, 180)
    frozen = run(of).value[inside(of)]
    before = np.flatnonzero(inside(of))[0] - PLANT.machines
    assert set(frozen[:, PRESSURE]) == {CLEAN.value[before, PRESSURE]}
    assert len(np.unique(frozen[:, CURRENT])) > 100


def test_noise_burst_has_the_stated_deviation() -> None:
    of = fault(FaultKind.NOISE_BURST, 90, magnitude=0.3)
    noise = (run(of).value - CLEAN.value)[inside(of), PRESSURE]
    assert noise.std() == pytest.approx(0.3 * SWING[PRESSURE], rel=0.15)


def test_broken_correlation_keeps_the_channel_and_loses_the_others() -> None:
    of = fault(FaultKind.BROKEN_CORRELATION, 150, magnitude=2.5)
    broken, clean = run(of).value[inside(of)], CLEAN.value[inside(of)]
    lag = round(2.5 * PLANT.traits.cycle_s[0] / PLANT.interval_s)
    own = CLEAN.value[CLEAN.stream == 0, PRESSURE]
    first = (of.start_us - PLANT.start_us) // PLANT.interval_us
    assert np.array_equal(broken[:, PRESSURE], own[first - lag : first - lag + len(broken)])
    quantiles = np.linspace(0.05, 0.95, 19)
    difference = np.quantile(broken[:, PRESSURE], quantiles) - np.quantile(clean[:, PRESSURE], quantiles)
    assert np.abs(difference).mean() < 0.05 * SWING[PRESSURE]
    assert np.corrcoef(clean[:, PRESSURE], clean[:, CURRENT])[0, 1] > 0.9
    assert np.corrcoef(broken[:, PRESSURE], broken[:, CURRENT])[0, 1] < 0.3


def test_wrong_phase_delays_by_part_of_a_cycle() -> None:
    of = fault(FaultKind.WRONG_PHASE, 90, ("vibration", "current"), 0.3)
    late = run(of).value[inside(of)]
    lag = round(0.3 * PLANT.traits.cycle_s[0] / PLANT.interval_s)
    own = CLEAN.value[CLEAN.stream == 0, CURRENT]
    first = (of.start_us - PLANT.start_us) // PLANT.interval_us
    assert np.array_equal(late[:, CURRENT], own[first - lag : first - lag + len(late)])
    assert np.corrcoef(late[:, VIBRATION], late[:, CURRENT])[0, 1] > 0.9


def test_wrong_period_makes_the_machine_cycle_at_another_pace() -> None:
    of = fault(FaultKind.WRONG_PERIOD, 180, CHANNELS, 0.3)
    value = run(of).value[inside(of)]
    spectrum = np.abs(np.fft.rfft(value[:, CURRENT] - value[:, CURRENT].mean()))
    assert len(value) * PLANT.interval_s / int(np.argmax(spectrum)) == pytest.approx(0.3 * PLANT.traits.cycle_s[0], rel=0.05)
    assert np.corrcoef(value[:, VIBRATION], value[:, CURRENT])[0, 1] > 0.9


def asked_load(kind: FaultKind, start_s: int, readings: int, magnitude: float = 0.0) -> F8:
    """The load under a fault of the first machine, 1,000 readings per regular cycle."""
    start_us = PLANT.start_us + start_s * 1_000_000
    of = Fault(kind, PLANT.streams[0], start_us, start_us + 10 * HOUR_US, CHANNELS, magnitude)
    time_us = start_us + np.rint((np.arange(readings) + 0.5) * PLANT.traits.cycle_s[0] * 1e3).astype(np.int64)
    return altered_load(of, PLANT, time_us, np.zeros(readings))


def durations(load: F8) -> list[int]:
    """Readings of a cycle that idle, rise, run and fall."""
    slope = np.diff(load, append=load[0])
    low, high = np.isclose(load, IDLE_LOAD), np.isclose(load, FULL_LOAD)
    return [int(low.sum()), int((~(low | high) & (slope > 0)).sum()), int(high.sum()), int((~(low | high) & (slope < 0)).sum())]


REGULAR = np.rint(1_000 * PHASES)


def test_a_reversed_cycle_starts_slowly_and_stops_quickly_at_the_same_loads() -> None:
    regular = asked_load(FaultKind.WRONG_PERIOD, 0, 1_000, 1.0)
    assert durations(regular) == pytest.approx(REGULAR, abs=2)
    reversed_ = asked_load(FaultKind.CYCLE_REVERSED, 0, 1_000)
    assert reversed_ == pytest.approx(regular[::-1], abs=1e-5)
    assert durations(reversed_) == pytest.approx(REGULAR[[0, 3, 2, 1]], abs=2)


@pytest.mark.parametrize(("kind", "times"), [(FaultKind.PHASE_SKIPPED, 0.0), (FaultKind.PHASE_STUCK, 2.5)])
def test_one_phase_of_each_cycle_is_skipped_or_lasts_too_long(kind: FaultKind, times: float) -> None:
    phases = set()
    for start_s in range(20):
        lasting = [REGULAR * np.where(np.arange(len(PHASES)) == phase, times, 1.0) for phase in range(len(PHASES))]
        seen = [durations(asked_load(kind, start_s, round(each.sum()), times)) for each in lasting]
        (phase,) = (phase for phase in range(len(PHASES)) if seen[phase] == pytest.approx(lasting[phase], abs=3))
        readings = round(lasting[phase].sum())
        load = asked_load(kind, start_s, 2 * readings, times)
        assert load[:readings] == pytest.approx(load[readings:], abs=1e-2), "cycle after cycle"
        phases.add(phase)
    assert phases == {0, 1, 2, 3}


def test_dropped_channel_is_missing_never_zero() -> None:
    of = fault(FaultKind.DROPPED_CHANNEL, 30)
    value = run(of).value
    assert np.array_equal(np.isnan(value).any(axis=1), inside(of))
    assert np.isnan(value[inside(of), PRESSURE]).all()


def test_a_schedule_keeps_its_distances_and_is_even() -> None:
    plant = Plant(seed=3, machines=24)
    start_us, end_us, gap_us = plant.start_us + 4 * HOUR_US, plant.start_us + 40 * HOUR_US, 3 * HOUR_US
    faults = schedule_faults(plant, 60, start_us, end_us, seed=5, gap_us=gap_us)
    assert faults == schedule_faults(plant, 60, start_us, end_us, seed=5, gap_us=gap_us)
    assert faults != schedule_faults(plant, 60, start_us, end_us, seed=6, gap_us=gap_us)
    assert [each.start_us for each in faults] == sorted(each.start_us for each in faults)
    assert {sum(each.kind is kind for each in faults) for kind in USUAL_KINDS} == {6}
    for machine, stream in enumerate(plant.streams):
        own = [each for each in faults if each.stream == stream]
        assert 1 <= len(own) <= 4
        assert own[0].start_us >= start_us
        assert own[-1].end_us + gap_us <= end_us
        assert all(before.end_us + gap_us <= after.start_us for before, after in pairwise(own))
        for each in own:
            assert (each.start_us - plant.start_us - plant.traits.offset_us[machine]) % plant.interval_us == 0


def test_durations_are_those_of_their_kind() -> None:
    plant = Plant(seed=3, machines=24)
    faults = schedule_faults(plant, 130, plant.start_us, plant.start_us + 120 * HOUR_US, seed=5, kinds=tuple(FaultKind))
    assert {sum(each.kind is kind for each in faults) for kind in FaultKind} == {10}
    for each in faults:
        readings = (each.end_us - each.start_us) // plant.interval_us
        cycles = readings * plant.interval_s / plant.traits.cycle_s[plant.streams.index(each.stream)]
        match each.kind:
            case FaultKind.SPIKE:
                assert 1 <= readings <= 3
            case FaultKind.SILENCE:
                assert readings >= 100
            case FaultKind.SLOW_DRIFT:
                assert readings * plant.interval_s >= 3 * 3_600
            case FaultKind.PHASE_STUCK:
                assert cycles >= 3.95
                assert 2 <= each.magnitude <= 4
            case FaultKind.PHASE_SKIPPED | FaultKind.CYCLE_REVERSED:
                assert cycles >= 3.95
                assert each.magnitude == 0
            case _:
                assert cycles >= 1.45


def test_kinds_that_are_asked_for() -> None:
    kinds = (FaultKind.PHASE_STUCK, FaultKind.SPIKE)
    faults = schedule_faults(PLANT, 6, AT_US, END_US + 20 * HOUR_US, seed=1, kinds=kinds)
    assert sorted(each.kind for each in faults) == sorted(kinds * 3)
    assert all(each.channels == CHANNELS for each in faults if each.kind is FaultKind.PHASE_STUCK)


def test_faults_that_do_not_fit_are_said_so() -> None:
    with pytest.raises(ConfigError, match=r"500 faults do not fit into 10\.0 hours of 4 machines"):
        schedule_faults(PLANT, 500, PLANT.start_us, PLANT.start_us + 10 * HOUR_US, seed=1)


def test_columns_for_files() -> None:
    of = fault(FaultKind.WRONG_PHASE, 90, ("vibration", "current"), 0.3)
    columns = recording_columns(run(of), PLANT.streams)
    assert list(columns) == ["time", "stream", *CHANNELS, "label"]
    assert {len(column) for column in columns.values()} == {len(CLEAN)}
    assert str(columns["time"][0]) == "2026-01-01T00:00:00.000000"
    assert set(columns["stream"][columns["label"]]) == {of.stream}
    labels = label_columns([of])
    assert {name: column[0] for name, column in labels.items()} == {
        "stream": "plant1/pump01",
        "kind": "wrong_phase",
        "start_us": of.start_us,
        "end_us": of.end_us,
        "channels": "vibration current",
        "magnitude": 0.3,
    }


def test_messages_are_json_of_about_a_hundred_bytes_and_leave_out_what_is_missing() -> None:
    of = fault(FaultKind.DROPPED_CHANNEL, 30)
    readings = run(of)
    keys, values = encode(readings, PLANT.streams)
    missing = int(np.flatnonzero(np.isnan(readings.value).any(axis=1))[0])
    assert set(msgspec.json.decode(values[missing])) == {"time", "temperature", "vibration", "current"}
    assert list(msgspec.json.decode(values[0])) == ["time", *CHANNELS]
    assert keys[:5] == [b"plant1/pump01", b"plant1/pump02", b"plant1/pump03", b"plant1/pump04", b"plant1/pump01"]
    assert 80 < np.mean([len(value) for value in values]) < 120


def test_the_detector_reads_what_the_plant_writes() -> None:
    readings = run(fault(FaultKind.DROPPED_CHANNEL, 30)).take(slice(2_800, 3_200))
    assert np.isnan(readings.value).any()
    keys, values = encode(readings, PLANT.streams)
    n, names = len(readings), StreamNames()
    messages = Messages(keys, values, np.zeros(n, np.int32), np.arange(n), readings.event_time_us, (Partition("t", 0),))
    decoded = JsonReadings(SIMULATED_FORMAT, names).decode(messages)
    assert decoded.rejects == ()
    assert [names.name(stream) for stream in decoded.batch.stream_id] == [PLANT.streams[stream] for stream in readings.stream]
    assert np.array_equal(decoded.batch.event_time_us, readings.event_time_us)
    assert np.array_equal(decoded.batch.value, readings.value.astype(np.float32), equal_nan=True)
