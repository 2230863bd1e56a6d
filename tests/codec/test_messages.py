"""Messages as columns."""

from __future__ import annotations

import numpy as np

from detector.codec.messages import Messages
from detector.core.readings import Partition

P, Q, R = (Partition("t", number) for number in range(3))
MESSAGES = Messages(
    [b"a", None, b"c", b"d"], [b"1", b"2", None, b"4"], np.array([0, 2, 0, 1], np.int32), np.array([7, 3, 8, 5]), np.array([70, 30, 80, 50]),
    (P, Q, R), lambda position: ((str(position), b""),),
)  # fmt: skip


def test_some_of_them_are_messages_of_the_partitions_that_occur() -> None:
    for chosen in (np.array([2, 1]), np.array([False, True, True, False])):
        some = MESSAGES.take(chosen)
        order = [2, 1] if chosen.dtype != bool else [1, 2]
        assert list(zip(some.key, some.value, some.offset.tolist(), some.log_time_us.tolist(), strict=True)) == [
            (MESSAGES.key[at], MESSAGES.value[at], MESSAGES.offset[at], MESSAGES.log_time_us[at]) for at in order
        ]
        assert [some.partitions[index] for index in some.partition.tolist()] == [{1: R, 2: P}[at] for at in order]
        assert set(some.partitions) == {P, R}
        assert some.next_offsets() == {P: 9, R: 4}
        assert [some.headers(position) for position in range(2)] == [((str(at), b""),) for at in order]


def test_none_of_them() -> None:
    none = MESSAGES.take(np.zeros(4, bool))
    assert (len(none), none.partitions, none.next_offsets()) == (0, (), {})
