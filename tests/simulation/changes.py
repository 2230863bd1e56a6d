"""What happens to a partition's log while workers read it, and exactly what must hold nevertheless.

With k the committed offset, p <= e how far workers have read and where the log ends:

    kind        what is done                                    what must hold of the partition
    overtaken   the log drops up to f, k < f <= e               what was told before stays; if no worker's state lacked what was dropped,
                                                                all else is as if the log had never held it
    recreated   another log in its place, of any length         after what was told before, what a new group makes of the new log
    gone        no log for a while, then another one            likewise; meanwhile the other partitions are judged
    truncated   the log ends at t < k, then goes on otherwise   after what was told of the old log, what a new group makes of [t, e)

In all: nothing is raised, offsets come to the ends, conservation holds, the other partitions are exact, and no message is passed over in
silence: each is judged, dead-lettered, or counted as missed.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from detector.codec.messages import Message
from detector.core.readings import Partition
from detector.core.rules import Settings
from tests.simulation.brief import LOGS, MODEL, PARTITIONS, brief
from tests.simulation.losses import only, without
from tests.simulation.messages import FORMATS, Sent
from tests.simulation.oracle import Differs, happened, of_messages, of_state, state_of, unwell
from tests.simulation.schedule import INTERVALS_S, Schedule, faults_of, mishaps_of
from tests.simulation.service import Plant

KINDS = ("overtaken", "recreated", "gone", "truncated")


@dataclass(frozen=True)
class Change:
    """What was done to a partition.

    at             where: the log drops to, or ends at, or goes on at this offset
    alerts, dead_letters   told of the partition when it happened
    missed         messages counted as missed until then
    is_calm        whether nothing else happened from then on
    """

    kind: str
    partition: Partition
    at: int
    alerts: Sequence[Message]
    dead_letters: Sequence[Message]
    missed: int
    is_calm: bool


def run_seed(seed: int) -> Counter[str]:
    """Play a seed, change a log, and let the workers go on.

    returns         how often what happened
    raises Differs  what must hold does not
    """
    rng = random.Random(seed)
    number = seed % LOGS
    shape, settings, sent, expected = brief(number)
    others = [message for k in (1, 2) for message in brief((number + len(FORMATS) * k) % LOGS)[2]]  # of the same shape
    plant = Plant(MODEL, settings, FORMATS[shape], sent, PARTITIONS, faults_of(rng, seed), rng.choice(INTERVALS_S))
    schedule = Schedule(plant, rng, mishaps_of(rng))
    schedule.play(turns=rng.randint(5, 30))
    change = _change(plant, schedule, others, rng)
    if change is None:
        return Counter()
    if change.is_calm:
        schedule.quiet()
        plant.run(rng)
    else:
        schedule.play(turns=rng.randint(1, 20))
        schedule.calm()
    for difference in _differences(plant, expected, _rightly(plant, change, shape, settings, sent), change):
        raise Differs(f"{change.kind} at {change.at}, {'calm' if change.is_calm else 'not calm'}: {difference}")
    return happened(plant) + Counter({change.kind: 1})


def _change(plant: Plant, schedule: Schedule, others: Sequence[Sent], rng: random.Random) -> Change | None:
    """Change one partition's log; None: nothing was committed yet."""
    broker = plant.broker
    kind = rng.choice(KINDS)
    committed = {each: broker.truth.offsets.get(each, 0) for each in broker.partitions}
    where = [each for each, k in committed.items() if k and (k < broker.end(each) or kind != "overtaken")]
    if not where:
        return None
    partition = rng.choice(where)
    k, end, number = committed[partition], broker.end(partition), partition.number
    at = {"overtaken": lambda: rng.randint(k + 1, end), "truncated": lambda: rng.randint(0, k - 1)}.get(kind, lambda: 0)()
    change = Change(
        kind,
        partition,
        at,
        plant.alerts().get(number, []),
        plant.dead_letters().get(number, []),
        happened(plant)["missed"],
        rng.random() < 0.5,
    )
    if kind == "overtaken":
        broker.drop(partition, at)
        return change
    if kind == "truncated":
        broker.truncate(partition, at)
    else:
        if kind == "gone":
            broker.remove_topic(partition)
            schedule.play(turns=rng.randint(1, 15), until_done=False)
        broker.recreate(partition)
    news = [message for message in others if message.partition == number][at:]
    for message in news[: rng.choice((len(news), rng.randint(0, len(news))))]:
        broker.append(number, message.key, message.value, headers=message.headers)
    return change


def _read_to(plant: Plant, change: Change) -> tuple[int, bool]:
    """Up to where workers had read what retention then took; and whether that was in their state, too."""
    missed = happened(plant)["missed"] - change.missed
    if not missed:
        return change.at, change.is_calm
    read_to = max(each for each in (0, *plant.broker.truth.history[change.partition]) if each < change.at)
    return read_to, change.is_calm and missed == change.at - read_to


def _rightly(plant: Plant, change: Change, shape: str, settings: Settings, sent: Sequence[Sent]) -> Plant:
    """An undisturbed plant, in which the partition is read as it must be."""
    broker, partition = plant.broker, change.partition
    elsewhere = [each for each in sent if each.partition != partition.number]
    rightly = Plant(MODEL, settings, FORMATS[shape], elsewhere, PARTITIONS)
    stored = rightly.broker.stored[partition]
    rng = random.Random(0)
    if change.kind == "overtaken":  # up to where workers had read, then from where the log begins
        read_to, _ = _read_to(plant, change)
        stored += broker.stored[partition][:read_to]
        rightly.join()
        rightly.run(rng)
        stored += broker.stored[partition][read_to:]
        rightly.broker.drop(partition, change.at)
    else:
        stored += broker.stored[partition]
        if change.kind == "truncated":
            rightly.broker.truth.offsets[partition] = change.at
        rightly.join()
    rightly.run(rng)
    return rightly


def _differences(plant: Plant, expected: Plant, rightly: Plant, change: Change) -> Iterator[str]:
    """What does not hold."""
    number = change.partition.number
    is_exact = change.kind != "overtaken" or _read_to(plant, change)[1]
    yield from unwell(plant)
    for what, found, old, new, told in (
        ("alerts", plant.alerts(), expected.alerts(), rightly.alerts(), change.alerts),
        ("dead letters", plant.dead_letters(), expected.dead_letters(), rightly.dead_letters(), change.dead_letters),
    ):
        yield from _of_changed(what, found.pop(number, []), old.pop(number, []), new.pop(number, []), told, change, is_exact)
        yield from of_messages(what, found, old)
    ours, theirs = state_of(plant), state_of(expected)
    yield from of_state(without(ours, change.partition), without(theirs, change.partition))
    if is_exact:
        yield from of_state(only(ours, change.partition), only(state_of(rightly), change.partition))


def _of_changed(
    what: str,
    found: Sequence[Message],
    old: Sequence[Message],
    new: Sequence[Message],
    told: Sequence[Message],
    change: Change,
    is_exact: bool,
) -> Iterator[str]:
    """Where messages of the changed partition are not as they must be."""
    if list(found[: len(told)]) != list(told):
        yield f"{what} that were told before are not as they were"
    elif change.kind == "overtaken":
        if is_exact and list(found) != list(new):
            yield f"{what} are not those of an undisturbed run over what was left"
    else:
        before = len(found) - len(new)
        if before < len(told) or list(found[before:]) != list(new):
            yield f"{what} of the new log are not what a new group makes of it: {len(found)} after {len(told)}, for {len(new)}"
        elif list(found[:before]) != list(old[:before]) or (change.kind != "truncated" and before > len(told)):
            yield f"{what} of the old log are not as they were"
