"""What the workers saved, beside the state of an undisturbed run."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from confluent_kafka import Message as KafkaMessage

from detector.codec.state_serde import CHECKPOINT, HEADER, STREAM, decode_checkpoint
from detector.core.stream_state import HEAD
from tests.chaos.oracle import Difference, Undisturbed
from tests.chaos.source import PARTITIONS
from tests.codec.loaded_state import differing, read_back


class SavedState:
    """Every row that was ever saved must stand for its offset; the last ones must be those of the undisturbed run."""

    def __init__(self, undisturbed: Undisturbed) -> None:
        self._undisturbed = undisturbed
        self._state: list[dict[bytes, bytes]] = [{} for _ in range(PARTITIONS)]
        self._layout = undisturbed.detector.store.layout

    def find(self, message: KafkaMessage, into: Difference) -> None:
        """A message that lies on the state topic: the newest reading in a row must be the stream's last one before the row's offset."""
        number, key, value = message.partition() or 0, message.key() or b"", message.value()
        state = self._state[number]
        if value is None:
            state.pop(key, None)
            return
        state[key] = value
        if not key.startswith(STREAM):
            return
        header = np.frombuffer(value[: HEADER.itemsize], HEADER)[0]
        if header["empty"]:
            return
        stream, offset = key[len(STREAM) :], int(header["offset"])
        history = self._undisturbed.history.get((number, stream), [])
        before = bisect_left(history, (offset, -1))
        expected_us = history[before - 1][1] if before else None
        found_us = int(np.frombuffer(value, HEAD, 1, HEADER.itemsize)["event_time_us"][0])
        if found_us != expected_us:
            into.differing += 1
            into.say(f"row of {number} {stream.decode()} stands for {offset}: newest reading {found_us}, expected {expected_us}")

    def unsaved(self, ends: Sequence[int], log_id: str) -> str:
        """What of the state at these offsets of this log is not saved yet; empty if all is."""
        for number, end in enumerate(ends):
            value = self._state[number].get(CHECKPOINT)
            checkpoint = decode_checkpoint(value) if value else None
            if checkpoint is None or (checkpoint.offset, checkpoint.next_offset, checkpoint.log_id) != (end, end, log_id):
                return f"partition {number} ends at {end}, its checkpoint is {checkpoint}"
        return ""

    def begin_anew(self) -> None:
        """The state topics are new."""
        for state in self._state:
            state.clear()

    def settle(self, into: Difference) -> None:
        """All workers have left, and nothing is to be judged again: every row must be saved."""
        expected = self._undisturbed.records()
        found: dict[tuple[int, bytes], bytes] = {}
        for number, state in enumerate(self._state):
            back = read_back(state, self._layout)
            saved = back.loaded
            end = self._undisturbed.ends[number]
            if saved.checkpoint is None or (saved.checkpoint.offset, saved.checkpoint.next_offset) != (end, end):
                into.differing += 1
                into.say(f"checkpoint of {number}: expected offset {end}, found {saved.checkpoint}")
            found |= {(number, stream): record for stream, record in back.records.items()}
        into.lost += len(expected.keys() - found.keys())
        into.differing += len(found.keys() - expected.keys())
        for number, stream in sorted(expected.keys() ^ found.keys()):
            into.say(f"state of {number} {stream.decode()}: {'lost' if (number, stream) in expected else 'not expected'}")
        for place in sorted(expected.keys() & found.keys()):
            if expected[place] != found[place]:
                into.differing += 1
                names = differing(self._layout, expected[place], found[place])
                into.say(f"state of {place[0]} {place[1].decode()} differs in {', '.join(names)}")
