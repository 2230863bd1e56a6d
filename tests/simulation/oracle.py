"""One seed: a plant to which things happen, held against the same messages in an undisturbed one."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from detector.codec.messages import Message
from tests.codec.loaded_state import differing
from tests.core.builders import records_of
from tests.simulation.brief import LOGS, MODEL, PARTITIONS, brief
from tests.simulation.messages import FORMATS
from tests.simulation.schedule import INTERVALS_S, Schedule, faults_of, mishaps_of
from tests.simulation.service import Plant

LAYOUT = MODEL.layout()


class Differs(AssertionError):
    """Something is not as in the undisturbed run."""


def run_seed(seed: int, **changes: Any) -> Counter[str]:
    """Play a seed and compare. changes: of its `Faults`.

    returns        how often what happened
    raises Differs  and whatever the service raises: both are failures of the service
    """
    rng = random.Random(seed)
    shape, settings, sent, expected = brief(seed % LOGS)
    faults = replace(faults_of(rng, seed), **changes)
    plant = Plant(MODEL, settings, FORMATS[shape], sent, PARTITIONS, faults, rng.choice(INTERVALS_S))
    schedule = Schedule(plant, rng, mishaps_of(rng))
    schedule.play()
    schedule.calm()
    for difference in differences(plant, expected):
        raise Differs(difference)
    if seed % 4 == 0:
        schedule.kill_all()
        schedule.calm()
        for difference in differences(plant, expected):
            raise Differs("after everybody was killed once more: " + difference)
    return happened(plant)


def differences(plant: Plant, expected: Plant) -> Iterator[str]:
    """What is not as it should be, most telling first."""
    yield from of_messages("alerts", plant.alerts(), expected.alerts())
    yield from of_messages("dead letters", plant.dead_letters(), expected.dead_letters())
    yield from unwell(plant)
    yield from of_state(state_of(plant), state_of(expected))


def unwell(plant: Plant) -> Iterator[str]:
    """What is wrong with a plant, whatever it was to read."""
    ends = {partition: plant.broker.end(partition) for partition in plant.broker.partitions}
    if plant.broker.truth.offsets != ends:
        yield f"committed offsets are {plant.broker.truth.offsets}, the ends {ends}"
    if silent := sum(member.silent for member in plant.members):  # those that are gone may not have heard of their last commits
        yield f"{silent} messages were neither judged nor dead-lettered nor counted as missed"
    for member in (*plant.members, *plant.gone):
        if not member.is_conserved:
            yield f"readings polled {member.worker.stats.readings}, dispositions {dict(member.outcomes.dispositions)}"


def of_messages(what: str, found: Mapping[int, Sequence[Message]], wanted: Mapping[int, Sequence[Message]]) -> Iterator[str]:
    """Where messages differ, per number of the partition."""
    for number in sorted({*found, *wanted}):
        ours, theirs = found.get(number, ()), wanted.get(number, ())
        if list(ours) != list(theirs):
            at = next((at for at, (our, their) in enumerate(zip(ours, theirs, strict=False)) if our != their), min(len(ours), len(theirs)))
            yield f"{what} of partition {number}: {len(ours)} for {len(theirs)}; number {at} is the first that differs"


def of_state(found: Mapping[Any, Any], wanted: Mapping[Any, Any]) -> Iterator[str]:
    """Where state differs."""
    for key in sorted({*found, *wanted}, key=str):
        ours, theirs = found.get(key), wanted.get(key)
        if ours is None or theirs is None:
            yield f"the state of {key} is {'missing' if ours is None else 'too much'}"
        elif ours != theirs:
            yield f"the state of {key} differs: " + (
                str(differing(LAYOUT, ours, theirs)) if isinstance(ours, bytes) else f"{ours}, {theirs}"
            )


def state_of(plant: Plant) -> dict[Any, Any]:
    """Per stream its record, per partition its time: of the workers that own them.

    raises Differs  a worker remembers what it does not own
    """
    found: dict[Any, Any] = {}
    for member in plant.members:
        store, owned = member.detector.store, plant.broker.owned(member.log.log)
        records = records_of(member.detector)
        if strangers := {partition for partition, _ in records} - {*owned}:
            raise Differs(f"a worker remembers streams of {strangers}, which it does not own")
        found |= records
        slots = store.slots_for(tuple(owned)).tolist()
        member.detector.clocks.grow(store.slots)
        found |= {partition: member.detector.clocks[slot] for partition, slot in zip(owned, slots, strict=True)}
    return found


def happened(plant: Plant) -> Counter[str]:
    """How often what happened in a plant."""
    everyone = [*plant.members, *plant.gone]
    counts = sum((member.log.saved for member in everyone), plant.broker.happened + plant.happened)
    counts["alerts"] = len(plant.broker.truth.alerts)
    counts["replayed"] = sum(member.worker.stats.messages_replayed for member in everyone)
    counts["silent"] = sum(member.silent for member in plant.members)
    counts["missed"] = sum(sum(member.worker.stats.messages_missed.values()) for member in everyone)
    return counts
