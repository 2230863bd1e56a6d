"""Readings of a simulated plant with labelled faults: columns in time order, and the same as messages.

    Plant -> Dynamics (what the machines do) -> faults (what goes wrong) -> SimulatedChunk -> encode -> (key, value)

Deterministic per seed, without end if wanted, in bounded memory. Nothing here reads a clock or writes a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.codec.reading_format import ReadingFormat
from detector.codec.writing import JsonWriter
from detector.lab.faults import Fault, FaultKind, altered, altered_load, past_readings
from detector.lab.plant import BLOCK, CHANNELS, F8, I8, Dynamics, Plant, rounded

SIMULATED_FORMAT = ReadingFormat(channels=CHANNELS, event_time="time", event_time_unit="ms")
"""How `encode` writes readings: the stream is the message's key."""


@dataclass(frozen=True, slots=True)
class SimulatedChunk:
    """Readings of all machines as columns, in order of event time.

    stream         i4[N]     index into `Plant.streams`
    event_time_us  i8[N]     increasing, whole milliseconds
    value          f8[N, D]  engineering units, rounded as sensors do; NaN where a channel is missing
    label          bool[N]   whether the reading lies within a fault
    """

    stream: NDArray[np.int32]
    event_time_us: I8
    value: F8
    label: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.stream)

    def take(self, positions: slice | NDArray[np.bool_]) -> SimulatedChunk:
        """The readings at `positions`."""
        return SimulatedChunk(self.stream[positions], self.event_time_us[positions], self.value[positions], self.label[positions])


def simulate(
    plant: Plant, faults: Iterable[Fault] = (), *, end_us: int | None = None, chunk_readings_max: int = 65_536
) -> Iterator[SimulatedChunk]:
    """The plant's readings from its start to `end_us` (exclusive; None: without end), in chunks.

    faults              in order of their starts, at most one at a time per stream; taken as time passes, so they may be endless
    chunk_readings_max  only cuts: it changes no value
    """
    dynamics = Dynamics(plant, past_readings(plant))
    progress = FaultProgress(plant, faults)
    while True:
        time_us, values = dynamics.advance(progress.alter_load)
        chunk = progress.measured(time_us, values)
        if end_us is not None and time_us[-1, -1] >= end_us:
            chunk = chunk.take(chunk.event_time_us < end_us)
        for start in range(0, len(chunk), chunk_readings_max):
            yield chunk.take(slice(start, start + chunk_readings_max))
        if end_us is not None and time_us[-1, -1] >= end_us:
            return


def by_machine(plant: Plant, duration_us: int) -> list[NDArray[np.float32]]:
    """The plant's readings without faults, machine by machine in the order of `streams`: f4[T, D] each, engineering units."""
    chunks = list(simulate(plant, end_us=plant.start_us + duration_us))
    stream, value = np.concatenate([chunk.stream for chunk in chunks]), np.concatenate([chunk.value for chunk in chunks])
    return [value[stream == machine].astype(np.float32) for machine in range(plant.machines)]


class FaultProgress:
    """Which faults are under way, block by block, and what each began from."""

    def __init__(self, plant: Plant, faults: Iterable[Fault]) -> None:
        self._plant = plant
        self._machine = {stream: machine for machine, stream in enumerate(plant.streams)}
        self._coming = iter(faults)
        self._next = next(self._coming, None)
        self._active: list[Fault] = []
        self._held: dict[Fault, F8] = {}

    def alter_load(self, time_us: I8, load: F8) -> None:
        """Take up the faults that begin before the block ends, then change the load f8[BLOCK, M] in place."""
        while self._next is not None and self._next.start_us <= time_us[-1, -1]:
            self._active.append(self._next)
            self._next = next(self._coming, None)
        for fault, machine, inside in self._within(time_us):
            load[inside, machine] = altered_load(fault, self._plant, time_us[inside, machine], load[inside, machine])

    def measured(self, time_us: I8, values: F8) -> SimulatedChunk:
        """What the sensors report of a block: i8[BLOCK, M], f8[past + BLOCK, M, D] -> its readings."""
        value = values[-BLOCK:].copy()
        label = np.zeros(time_us.shape, bool)
        is_sent = np.ones(time_us.shape, bool)
        for fault, machine, inside in self._within(time_us):
            before = len(values) - BLOCK + inside.start - 1
            held = self._held.setdefault(fault, values[before, machine].copy())
            known = values[: before + 1 + inside.stop - inside.start, machine]
            value[inside, machine] = altered(fault, self._plant, time_us[inside, machine], known, held)
            label[inside, machine] = True
            is_sent[inside, machine] = fault.kind is not FaultKind.SILENCE
        self._active = [fault for fault in self._active if fault.end_us > time_us[-1, 0]]
        self._held = {fault: held for fault, held in self._held.items() if fault in self._active}
        stream = np.tile(np.arange(time_us.shape[1], dtype=np.int32), len(time_us))
        whole = SimulatedChunk(stream, time_us.ravel(), rounded(value).reshape(-1, value.shape[2]), label.ravel())
        return whole if is_sent.all() else whole.take(is_sent.ravel())

    def _within(self, time_us: I8) -> Iterator[tuple[Fault, int, slice]]:
        """The active faults, with their machine and their rows of the block."""
        for fault in self._active:
            machine = self._machine[fault.stream]
            start, stop = np.searchsorted(time_us[:, machine], [fault.start_us, fault.end_us])
            if start < stop:
                yield fault, machine, slice(int(start), int(stop))


def recording_columns(chunk: SimulatedChunk, streams: Sequence[str]) -> dict[str, NDArray[Any]]:
    """A chunk as the columns of a recording: `time` (datetime64[us], UTC), `stream`, one per channel, `label`."""
    named = np.array(streams, dtype=object)[chunk.stream]
    channels = {name: chunk.value[:, channel] for channel, name in enumerate(CHANNELS)}
    return {"time": chunk.event_time_us.view("datetime64[us]"), "stream": named, **channels, "label": chunk.label}


def label_columns(faults: Iterable[Fault]) -> dict[str, list[Any]]:
    """Faults as the columns of a table of labels, one row per fault: times in microseconds, channels joined by a space."""
    rows = list(faults)
    return {
        "stream": [fault.stream for fault in rows],
        "kind": [fault.kind.value for fault in rows],
        "start_us": [fault.start_us for fault in rows],
        "end_us": [fault.end_us for fault in rows],
        "channels": [" ".join(fault.channels) for fault in rows],
        "magnitude": [fault.magnitude for fault in rows],
    }


def encode(chunk: SimulatedChunk, streams: Sequence[str]) -> tuple[list[bytes], list[bytes]]:
    """Keys and JSON values of a chunk's readings, to be read with `SIMULATED_FORMAT`; a missing channel is left out."""
    written = JsonWriter(SIMULATED_FORMAT, streams).write(chunk.stream, chunk.event_time_us, chunk.value)
    return written.keys, written.values
