"""A seeded stream of readings in which everything happens, round after round."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from detector.codec.messages import Headers
from tests.core.builders import normal_values

TOPIC = "readings"
PARTITIONS = 6
STREAMS = 40  # per partition
CHANNELS = ("channel0", "channel1")
UNITS = (1.0, 10.0)
WARMUP_TICKS = 60
TICKS = 12  # of a round
START_US = 1_750_000_000_000_000
TICK_US = 1_000_000
IDLE_TICKS = 40  # what stays away for so long is forgotten
SHARED = "shared"
"""This name is used in every partition: the streams' state must stay apart."""

BAD = (
    None,
    b"",
    b"no json",
    b'{"t": "yesterday"}',
    b'[{"t": 1}, 7]',
    b'{"t": 1750000000000000, "channel0": ["warm"]}',
    b'{"t": 1750000000000000, "channel0": \xff}',
)


@dataclass(frozen=True, slots=True)
class Sent:
    """A message for one partition of the input."""

    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(slots=True)
class Life:
    """What a stream goes through: its name, when it is away, when and how far it goes astray (in units of its channel)."""

    name: str
    away_until: int = 0
    astray_from: int = 0
    astray_until: int = 0
    channel: int = 0
    distance: float = 0.0


class Source:
    """Bursts of messages. The same seed gives the same bursts.

    Among them: faults that open alerts; readings that are late, repeated or of a missing value; streams that fall silent and
    return, stay away until they are forgotten and return, or leave for good while others are born; messages that cannot be read.
    """

    def __init__(self, seed: int, rounds: int) -> None:
        self._random = random.Random(f"source/{seed}")
        self._tick = 0
        self._ticks = WARMUP_TICKS + rounds * TICKS
        self._lives = [[Life(SHARED if i == 0 else f"p{p}/s{i}") for i in range(STREAMS)] for p in range(PARTITIONS)]
        self._values = [
            [normal_values(self._ticks, len(CHANNELS), seed=STREAMS * p + i).tolist() for i in range(STREAMS)] for p in range(PARTITIONS)
        ]

    def warm_up(self) -> list[list[Sent]]:
        """The first ticks, in which every stream settles and nothing happens."""
        return [self._one_tick(is_calm=True) for _ in range(WARMUP_TICKS)]

    def anew(self, lengths: Sequence[int], *, is_longer: bool) -> list[list[Sent]]:
        """As many messages per partition, or more: a while in which every stream settles, and bursts."""
        ticks: list[list[Sent]] = []
        counts = Counter[int]()
        while (short := max(length - counts[p] for p, length in enumerate(lengths))) >= (0 if is_longer else 1):
            ticks += [self._one_tick(is_calm=True)] if short > TICKS * STREAMS else self.burst()
            counts = Counter(sent.partition for tick in ticks for sent in tick)
        room = Counter(dict(enumerate(lengths)))
        kept: list[list[Sent]] = []
        for tick in ticks:
            kept.append([])
            for sent in tick:
                if is_longer or room[sent.partition] > 0:
                    kept[-1].append(sent)
                    room[sent.partition] -= 1
        return kept

    def burst(self) -> list[list[Sent]]:
        """The messages of a round, tick by tick."""
        rng, every = self._random, [life for lives in self._lives for life in lives]
        for life in rng.sample(every, 24):
            life.astray_from = self._tick + rng.randrange(TICKS)
            life.astray_until = life.astray_from + rng.randint(1, 4)
            life.channel = rng.randrange(len(CHANNELS))
            life.distance = rng.choice((-1, 1)) * rng.uniform(50, 200)
        for life in rng.sample(every, 6):
            life.away_until = self._tick + rng.randint(10, 24)
        rng.choice(every).away_until = self._tick + IDLE_TICKS + rng.randint(10, 30)
        born = rng.choice(every)
        if born.name != SHARED:
            born.name = f"{born.name.split('.')[0]}.{self._tick}"
        return [self._one_tick() for _ in range(TICKS)]

    def _one_tick(self, *, is_calm: bool = False) -> list[Sent]:
        rng = self._random
        sent: list[Sent] = []
        places = [(p, i) for p in range(PARTITIONS) for i in range(STREAMS)]
        for p, i in rng.sample(places, len(places)):
            life = self._lives[p][i]
            if self._tick >= life.away_until:
                sent += self._told(p, i, life)
            if not is_calm and rng.random() < 0.006:
                key = rng.choice((life.name.encode(), None, b"\xff"))
                headers = [("gateway", b"%d" % rng.randrange(100)), ("trace", None)] if rng.random() < 0.5 else []
                sent.append(Sent(p, key, rng.choice(BAD), headers))
        self._tick += 1
        return sent

    def _told(self, p: int, i: int, life: Life) -> Iterator[Sent]:
        """One stream's messages of this tick."""
        rng = self._random
        time_us = self._now_us() + i * 1_000 + rng.randrange(300_000)
        value: dict[str, float] = dict(zip(CHANNELS, self._values[p][i][self._tick % self._ticks], strict=True))
        if life.astray_from <= self._tick < life.astray_until:
            value[CHANNELS[life.channel]] += life.distance * UNITS[life.channel]
        if rng.random() < 0.01:
            del value[rng.choice(CHANNELS)]
        yield self._message(p, life.name, time_us, value)
        chance = rng.random()
        if chance < 0.02:
            yield self._message(p, life.name, time_us, value)
        elif chance < 0.04:
            yield self._message(p, life.name, time_us - rng.randrange(1, 30 * TICK_US), value)

    def _message(self, p: int, name: str, time_us: int, value: dict[str, Any]) -> Sent:
        return Sent(p, name.encode(), json.dumps({"t": time_us, **value}).encode())

    def _now_us(self) -> int:
        return START_US + self._tick * TICK_US
