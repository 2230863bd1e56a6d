"""The service in memory: real decoder, detector, encoder and worker on a MemoryBroker, without clocks and pauses."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detector.adapters.memory_log import Faults, MemoryBroker
from detector.codec.alerts import AlertEncoder
from detector.codec.messages import Headers, Message
from detector.codec.readings import Decoded, JsonReadings, ReadingFormat
from detector.config import Service
from detector.core.detect import Detector, Settings, Verdicts
from detector.core.model import Model
from detector.core.readings import Disposition, Partition, ReadingBatch
from detector.service.worker import Worker

STEPS_MAX = 100_000
NO_FAULTS = Faults()


@dataclass(frozen=True)
class Sent:
    """A message to be appended to a partition."""

    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Unhurried(random.Random):
    """Draws pauses of no length."""

    def uniform(self, a: float, b: float) -> float:
        return 0.0


class Watched(Detector):
    """A detector that remembers which messages it was given."""

    def __init__(self, model: Model, settings: Settings) -> None:
        super().__init__(model, settings)
        self.judged: set[tuple[Partition, int]] = set()

    def detect(self, batch: ReadingBatch) -> Verdicts:
        self.judged.update((batch.partitions[k], offset) for k, offset in zip(batch.partition.tolist(), batch.offset.tolist(), strict=True))
        return super().detect(batch)


@dataclass
class Book:
    """An observer: what became of every reading, per partition in log order, bit for bit; and how often, by disposition."""

    rows: dict[Partition, list[tuple[Any, ...]]] = field(default_factory=dict)
    dispositions: Counter[Disposition] = field(default_factory=Counter)

    def observe(self, decoded: Decoded, verdicts: Verdicts, seconds: Mapping[str, float]) -> None:
        batch = decoded.batch
        self.dispositions.update(map(Disposition, verdicts.disposition.tolist()))
        self.dispositions[Disposition.INVALID] += sum(reject.readings for reject in decoded.rejects)
        for at in range(len(batch)):
            self.rows.setdefault(batch.partitions[batch.partition[at]], []).append(
                (
                    int(batch.offset[at]),
                    int(batch.item[at]),
                    int(verdicts.disposition[at]),
                    verdicts.score[at].tobytes(),
                    verdicts.tail_probability[at].tobytes(),
                    verdicts.expected[at].tobytes(),
                    verdicts.alert.get(at),
                )
            )


@dataclass
class Member:
    """One worker of the group, with its parts."""

    worker: Worker
    detector: Watched
    book: Book

    @property
    def is_conserved(self) -> bool:
        """Whether readings polled = sum over dispositions."""
        return self.worker.vitals.unaccounted == 0 and self.worker.vitals.readings == self.book.dispositions.total()


class Plant:
    """A group of workers on one topic in memory."""

    def __init__(
        self, model: Model, settings: Settings, format: ReadingFormat, sent: Sequence[Sent], partitions: int, faults: Faults = NO_FAULTS
    ) -> None:
        self._model, self._settings, self._format = model, settings, format
        self.broker = MemoryBroker(partitions, faults=faults)
        for message in sent:
            self.broker.append(message.partition, message.key, message.value, headers=message.headers)
        self.members: list[Member] = []
        self.gone: list[Member] = []

    def join(self, batch_readings_max: int = 10_000) -> Member:
        """One more worker."""
        model = self._model
        detector, book = Watched(model, self._settings), Book()
        worker = Worker(
            self.broker.join(),
            JsonReadings(self._format, detector.names),
            detector,
            AlertEncoder(model.name, model.fingerprint, "/detector/simulation"),
            settings=Service(batch_readings_max=batch_readings_max),
            observers=[book],
            jitter=Unhurried(),
        )
        self.members.append(Member(worker, detector, book))
        return self.members[-1]

    def crash(self, member: Member) -> None:
        """A worker ends without a word, and the group notices."""
        self.members.remove(member)
        self.gone.append(member)
        member.worker.log.close()

    @property
    def is_done(self) -> bool:
        """Whether everything is committed."""
        broker = self.broker
        return all(broker.truth.offsets.get(partition, 0) == broker.end(partition) for partition in broker.partitions)

    def run(self, rng: random.Random) -> None:
        """Let the workers take steps, in any order, until everything is committed."""
        for _ in range(STEPS_MAX):
            if self.is_done:
                return
            rng.choice(self.members).worker.step()
        raise AssertionError(f"not done after {STEPS_MAX} steps")

    def verdicts(self) -> dict[Partition, list[tuple[Any, ...]]]:
        """Per partition; each partition must have been judged by one worker alone."""
        found: dict[Partition, list[tuple[Any, ...]]] = {}
        for member in self.members:
            assert not found.keys() & member.book.rows.keys()
            found |= member.book.rows
        return found

    def alerts(self) -> dict[int, list[Message]]:
        """Per number of the partition, as committed."""
        found: dict[int, list[Message]] = {}
        for message in self.broker.truth.alerts:
            found.setdefault(json.loads(message.value or b"")["input"]["partition"], []).append(message)
        return found

    def dead_letters(self) -> dict[int, list[Message]]:
        """Per number of the partition, as committed."""
        found: dict[int, list[Message]] = {}
        for message in self.broker.truth.dead_letters:
            found.setdefault(int(dict(message.headers)["__connect.errors.partition"] or b""), []).append(message)
        return found


def undisturbed(model: Model, settings: Settings, format: ReadingFormat, sent: Sequence[Sent], partitions: int) -> Plant:
    """The same messages read by one worker to which nothing happens."""
    plant = Plant(model, settings, format, sent, partitions)
    plant.join()
    plant.run(random.Random(0))
    return plant


def json_of(numbers: Mapping[str, Any]) -> bytes:
    """A JSON object without what is NaN."""
    return json.dumps({name: entry for name, entry in numbers.items() if not (isinstance(entry, float) and np.isnan(entry))}).encode()
