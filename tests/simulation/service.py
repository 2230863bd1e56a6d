"""The service in memory: real decoder, detector, encoder and worker on a MemoryBroker, without clocks and pauses."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any

from detector.codec.alerts import AlertEncoder
from detector.codec.messages import Message
from detector.codec.readings import JsonReadings, ReadingFormat
from detector.codec.state_serde import CHECKPOINT, INCARNATION_BYTES, Checkpoint, decode_checkpoint
from detector.config import Service
from detector.core.detector import Detector
from detector.core.model import Model
from detector.core.readings import Partition
from detector.core.rules import Settings
from detector.errors import Fenced
from detector.service.state_manager import StateManager
from detector.service.worker import Worker
from tests.doubles.memory_faults import NO_FAULTS, Faults
from tests.doubles.memory_log import MemoryBroker
from tests.simulation.messages import Sent
from tests.simulation.mishaps import Commits, Killed, Mortal
from tests.simulation.outcomes import Outcomes, by_partition

STEPS_MAX = 2_000


class Unhurried(random.Random):
    """Draws pauses of no length."""

    def uniform(self, a: float, b: float) -> float:
        return 0.0


@dataclass
class Clock:
    """Seconds, as a schedule lets them pass."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Member:
    """One worker of the group, with its parts. asleep: turns in which it takes no step."""

    worker: Worker
    detector: Detector
    outcomes: Outcomes
    log: Mortal
    commits: Commits
    asleep: int = 0

    @property
    def is_conserved(self) -> bool:
        """Whether readings polled = sum over dispositions."""
        return self.worker.stats.unaccounted == 0 and self.worker.stats.readings == self.outcomes.dispositions.total()

    @property
    def silent(self) -> int:
        """Messages that it passed over without a word: not asked for and not counted as missed, or taken for known ones."""
        stats = self.worker.stats
        return max(0, self.log.skipped - sum(stats.messages_missed.values())) + max(0, stats.messages_replayed - self.log.known)

    @property
    def is_idle(self) -> bool:
        """Whether it has read, committed and saved all there is."""
        on_its_way = self.commits.on_its_way
        state_manager = self.worker.state_manager
        is_at_rest = (on_its_way is None or on_its_way.done()) and not any(self.log.lag().values())
        return is_at_rest and not state_manager.rows_unsaved and not state_manager.has_uncommitted_loss


class Plant:
    """A group of workers on one topic in memory.

    interval_s   within which state is saved
    ghosts       workers that were killed, as long as the group has not noticed
    gone         workers that left, were fenced, or were killed
    """

    def __init__(
        self,
        model: Model,
        settings: Settings,
        format: ReadingFormat,
        sent: Sequence[Sent],
        partitions: int,
        faults: Faults = NO_FAULTS,
        interval_s: float = 2.0,
    ) -> None:
        self._model, self._settings, self._format, self._interval_s = model, settings, format, interval_s
        self._rng = random.Random(faults.seed)
        self.broker = MemoryBroker(partitions, faults=faults)
        for message in sent:
            self.broker.append(message.partition, message.key, message.value, headers=message.headers)
        self.clock = Clock()
        self.members: list[Member] = []
        self.ghosts: list[Member] = []
        self.gone: list[Member] = []
        self.happened: Counter[str] = Counter()

    def join(self, batch_messages_max: int = 10_000, late: float = 0.0) -> Member:
        """One more worker. late: how many of its commits begin only when they are waited for, 0..1."""
        model = self._model
        detector, outcomes, log = Detector(model, self._settings), Outcomes(), Mortal(self.broker.join())
        commits = Commits(self._rng, late)
        worker = Worker(
            log,
            JsonReadings(self._format, detector.names),
            detector,
            AlertEncoder(model.name, model.fingerprint, "/detector/simulation"),
            StateManager(detector, self._interval_s, lambda: self._rng.randbytes(INCARNATION_BYTES)),
            settings=Service(batch_messages_max=batch_messages_max),
            observers=[outcomes],
            jitter=Unhurried(),
            clock=self.clock,
            executor=commits,
        )
        self.members.append(Member(worker, detector, outcomes, log, commits))
        return self.members[-1]

    def step(self, member: Member) -> None:
        """One step of a worker, in which it may be killed, or hear that it is fenced."""
        self.let(member, member.worker.step)

    def leave(self, member: Member) -> None:
        """A worker leaves in order, as after SIGTERM."""
        stop = Event()
        stop.set()
        self.happened["leaves"] += 1
        if self.let(member, lambda: member.worker.run(stop)):
            self._part(member)

    def let(self, member: Member, call: Callable[[], object]) -> bool:
        """Let a worker do something. False: it did not live to the end of it."""
        try:
            call()
        except Killed:
            self.kill(member)
        except Fenced:
            self.happened["fenced"] += 1
            self._part(member)
        else:
            return True
        return False

    def kill(self, member: Member) -> None:
        """A worker ends without a word. Its last commit may still be on its way."""
        self.happened["kills"] += 1
        member.log.spare()
        self.ghosts.append(member)
        self._part(member)

    def _part(self, member: Member) -> None:
        self.members.remove(member)
        self.gone.append(member)

    def notice(self, ghost: Member) -> None:
        """The group finds that a worker was killed."""
        self.ghosts.remove(ghost)
        self.broker.remove(ghost.log.log)

    @property
    def is_done(self) -> bool:
        """Whether everything is committed."""
        broker = self.broker
        return all(broker.truth.offsets.get(partition, 0) == broker.end(partition) for partition in broker.partitions)

    def run(self, rng: random.Random, until: Callable[[], bool] | None = None, steps_max: int = STEPS_MAX) -> None:
        """Let the workers take steps, in any order, until everything is read, committed, saved and observed."""
        for _ in range(steps_max):
            if not self.members:
                self.join()
            if (until or self.is_idle)():
                break
            member = rng.choice(self.members)
            self.clock.now_s += 1.0
            self.step(member)
            self.let(member, member.commits.end)
        else:
            raise AssertionError(f"not done after {steps_max} steps")
        for member in list(self.members):
            self.step(member)  # in which it hears of its last commit

    def is_idle(self) -> bool:
        """Whether everything is committed, and every partition's owner has read and saved all there is."""
        reading = [set(member.log.lag()) for member in self.members]
        owned = [set(self.broker.owned(member.log.log)) for member in self.members]
        return (
            self.is_done
            and reading == owned
            and set().union(*owned) == {*self.broker.partitions}
            and all(member.is_idle for member in self.members)
        )

    def results(self) -> dict[Partition, list[tuple[Any, ...]]]:
        """Per partition; each partition must have been judged by one worker alone."""
        found: dict[Partition, list[tuple[Any, ...]]] = {}
        for member in self.members:
            assert not found.keys() & member.outcomes.rows.keys()
            found |= member.outcomes.rows
        return found

    def checkpoint(self, partition: Partition) -> Checkpoint | None:
        """The checkpoint of a partition's saved state."""
        value = self.broker.truth.state.get(partition, {}).get(CHECKPOINT)
        return decode_checkpoint(value) if value else None

    def alerts(self) -> dict[int, list[Message]]:
        """Per number of the partition, as committed."""
        return by_partition(self.broker.truth.alerts)

    def dead_letters(self) -> dict[int, list[Message]]:
        """Per number of the partition, as committed."""
        return by_partition(self.broker.truth.dead_letters)


def undisturbed(model: Model, settings: Settings, format: ReadingFormat, sent: Sequence[Sent], partitions: int) -> Plant:
    """The same messages read by one worker to which nothing happens."""
    plant = Plant(model, settings, format, sent, partitions)
    plant.join()
    plant.run(random.Random(0))
    return plant
