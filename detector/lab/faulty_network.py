"""A network that is not perfect: some messages come late, twice, or damaged."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

import numpy as np

KeyValue = tuple[bytes, bytes]


class FaultyNetwork:
    """Passes messages on, in order, but for these shares of them (0..1), drawn from the seed:

    late        arrives after `delay_messages` to 4 times as many others: after newer ones of its stream, if those are
                about as many as there are streams
    duplicates  arrives twice
    malformed   is followed by a copy that was cut off: nothing is lost, but one more message than readings arrives

    How the messages are cut into calls changes nothing.
    """

    def __init__(self, seed: int, *, late: float = 0.0, duplicates: float = 0.0, malformed: float = 0.0, delay_messages: int = 100) -> None:
        self._generator = np.random.default_rng([seed, 5])
        self._shares = late, duplicates, malformed
        self._delay_messages = max(delay_messages, 1)
        self._position = 0
        self._held: list[tuple[int, int, KeyValue]] = []

    def carry(self, messages: Iterable[KeyValue]) -> Iterator[KeyValue]:
        """The messages that arrive while these are sent; late ones may come with a later call, or with `rest`."""
        late, duplicates, malformed = self._shares
        for message in messages:
            is_late, is_double, is_cut, delay = self._generator.random(4).tolist()
            self._position += 1
            if is_late < late:
                due = self._position + int(self._delay_messages * (1 + 3 * delay))
                heapq.heappush(self._held, (due, self._position, message))
            else:
                yield message
                if is_double < duplicates:
                    yield message
                if is_cut < malformed:
                    yield message[0], message[1][: max(int(len(message[1]) * delay), 1)]
            while self._held and self._held[0][0] <= self._position:
                yield heapq.heappop(self._held)[2]

    def rest(self) -> Iterator[KeyValue]:
        """What is still under way when nothing more is sent."""
        while self._held:
            yield heapq.heappop(self._held)[2]
