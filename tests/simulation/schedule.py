"""What a seed does to a plant: which mishaps there are, how often, and when.

A seed draws a few kinds of mishaps (each is left out by half of the seeds, so that no kind hides another), then turns: in
each one worker takes a step, and something may happen to another. After `TURNS` all is calm, until everything is committed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.doubles.memory_faults import NO_FAULTS, Faults
from tests.simulation.service import Member, Plant

TURNS = 45
CALM_STEPS_MAX = 2_000
MEMBERS_MAX = 4
BATCHES = (8, 15, 40, 150, 10_000)
INTERVALS_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Within which state is saved; a turn takes 0.65 s on average."""


@dataclass(frozen=True)
class Mishaps:
    """How often things happen to workers: probabilities per turn.

    kill     in one of its next few calls; somebody notices at once, or only after its session
    leave    in order
    join     another comes
    expire   its session ends, while it sleeps or not
    fence    it is put out of the group, and has not heard of it
    sleep    it takes no step for some turns
    retain   the log drops messages that no saved state needs any more: those before a checkpoint
    late     a commit begins only when it is waited for, or when another turn lets it (probability per commit)
    """

    kill: float = 0.0
    leave: float = 0.0
    join: float = 0.0
    expire: float = 0.0
    fence: float = 0.0
    sleep: float = 0.0
    retain: float = 0.0
    late: float = 0.0


def mishaps_of(rng: random.Random) -> Mishaps:
    """Those of one seed."""

    def often(probability: float) -> float:
        return probability if rng.random() < 0.5 else 0.0

    return Mishaps(
        kill=often(0.08),
        leave=often(0.03),
        join=often(0.05),
        expire=often(0.06),
        fence=often(0.02),
        sleep=often(0.08),
        retain=often(0.1),
        late=rng.choice((0.0, 0.5, 1.0)),
    )


def faults_of(rng: random.Random, seed: int) -> Faults:
    """Those of one seed's log."""

    def often(*probabilities: float) -> float:
        return rng.choice((0.0, *probabilities))

    return Faults(
        seed,
        cut_poll=often(0.5, 1.0),
        poll_unavailable=often(0.1),
        restore_unavailable=often(0.3),
        resume_unavailable=often(0.3),
        commit_unavailable=often(0.2),
        commit_aborted=often(0.1),
        commit_unacknowledged=often(0.1),
        commit_outlives=often(0.5, 1.0),
        expiry_unheard=often(0.5, 0.8),
        change_unheard=often(0.5, 0.9),
        rebalance=often(0.05, 0.15),
    )


class Schedule:
    """Lets a plant run, and mishaps happen."""

    def __init__(self, plant: Plant, rng: random.Random, mishaps: Mishaps) -> None:
        self.plant = plant
        self._rng = rng
        self._mishaps = mishaps

    def play(self, turns: int = TURNS, *, until_done: bool = True) -> None:
        """So many turns, or until everything is committed; and to begin with, some workers."""
        wanted = self._rng.randint(1, 3)
        while len(self.plant.members) < wanted:
            self._join()
        for _ in range(turns):
            if until_done and self.plant.is_done:
                break
            self._turn()

    def calm(self) -> None:
        """No more mishaps, but often one: all is read and committed, and then everybody is killed. Until all is saved."""
        plant, rng = self.plant, self._rng
        self.quiet()
        plant.run(rng, lambda: plant.is_done, CALM_STEPS_MAX)
        if rng.random() < 0.5:
            self.kill_all()
            self._join()
        plant.run(rng, None, CALM_STEPS_MAX)

    def quiet(self) -> None:
        """Nothing more happens from now on; somebody is there to read."""
        plant = self.plant
        plant.broker.faults = NO_FAULTS
        for ghost in list(plant.ghosts):
            plant.notice(ghost)
        for member in plant.members:
            member.asleep = 0
            member.log.spare()
        if not plant.members:
            self._join()

    def kill_all(self) -> None:
        """Everybody, at once; their last commits may succeed, or not."""
        plant = self.plant
        for member in list(plant.members):
            plant.kill(member)
        for ghost in list(plant.ghosts):
            if self._happens(0.5):
                self._finish(ghost)
            plant.notice(ghost)

    def _join(self) -> None:
        self.plant.join(self._rng.choice(BATCHES), late=self._mishaps.late)

    def _happens(self, probability: float) -> bool:
        return probability > 0 and self._rng.random() < probability

    def _turn(self) -> None:
        rng, plant, mishaps = self._rng, self.plant, self._mishaps
        plant.clock.now_s += rng.choice((0.0, 0.1, 0.5, 2.0))
        self._ghosts()
        self._retain()
        for member in list(plant.members):
            member.asleep = max(0, member.asleep - 1)
            if self._happens(0.3):
                plant.let(member, member.commits.end)
        if not plant.members or (self._happens(mishaps.join) and len(plant.members) < MEMBERS_MAX):
            self._join()
        self._strike(rng.choice(plant.members))
        if awake := [member for member in plant.members if not member.asleep]:
            plant.step(rng.choice(awake))

    def _strike(self, member: Member) -> None:
        """What happens to one worker in this turn."""
        mishaps, plant, rng = self._mishaps, self.plant, self._rng
        if self._happens(mishaps.kill):
            member.log.doom(rng, 6)
        if self._happens(mishaps.sleep):
            plant.happened["sleeps"] += 1
            member.asleep = rng.randint(3, 12)
        if self._happens(mishaps.expire):
            plant.happened["sessions_expired"] += 1
            plant.broker.expire(member.log.log)
        if self._happens(mishaps.fence):
            plant.broker.remove(member.log.log)
        if self._happens(mishaps.leave) and not member.asleep:
            plant.leave(member)

    def _retain(self) -> None:
        plant = self.plant
        if self._happens(self._mishaps.retain):
            partition = self._rng.choice(plant.broker.partitions)
            if checkpoint := plant.checkpoint(partition):
                plant.happened["retained"] += 1
                plant.broker.drop(partition, self._rng.randint(0, min(checkpoint.offset, plant.broker.known_to(partition))))

    def _finish(self, ghost: Member) -> None:
        """The last commit of a worker that was killed comes to its end, if it is on its way."""
        on_its_way = ghost.commits.on_its_way
        if on_its_way and not on_its_way.done():
            self.plant.happened["ghosts_committed"] += 1
            on_its_way.end()

    def _ghosts(self) -> None:
        """Of workers that were killed: the last commit may still succeed; the group notices, sooner or later."""
        for ghost in list(self.plant.ghosts):
            chance = self._rng.random()
            if chance < 0.4:
                self._finish(ghost)
            if chance > 0.7 or chance < 0.2:
                self.plant.notice(ghost)
