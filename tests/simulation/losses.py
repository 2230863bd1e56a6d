"""What an operator or a log's retention can take away, and exactly what must hold nevertheless.

With k the committed offset, m the offset of the saved checkpoint, n the one that was committed with it, [a, e) what the log holds:

    kind      what is done                          what must hold of the partition
    hole      the log drops up to f, m < f <= k     every dead letter once; alerts before k as they were; f - m messages missed
    beyond    the log drops up to f, k < f <= e     likewise, but nothing is told of [k, f)
    back      k becomes r, n <= r < k               of [r, k) the same is told again; state exact
    earlier   k becomes r, a <= r < n               after what was told before k, what a new group makes of [r, e); state likewise
    forward   k becomes r, k < r <= e               nothing is told of [k, r); state exact
    deleted   there is no k any more, n < e         as `back`, with r = n

In all: nothing is raised, offsets come to the ends, conservation holds, the other partitions are exact, and nothing else is missed.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from detector.codec.messages import Message
from detector.core.readings import Partition
from tests.doubles.memory_faults import NO_FAULTS
from tests.simulation.brief import LOGS, MODEL, PARTITIONS, brief
from tests.simulation.messages import FORMATS
from tests.simulation.oracle import Differs, happened, of_messages, of_state, state_of, unwell
from tests.simulation.outcomes import offset_of
from tests.simulation.schedule import INTERVALS_S, Schedule, faults_of, mishaps_of
from tests.simulation.service import Plant


@dataclass(frozen=True)
class Loss:
    """What was done to a partition.

    before    committed offset
    at        the offset that the log was dropped to, or the group's was set to
    missed    messages that must be counted as missed
    """

    kind: str
    partition: Partition
    before: int
    at: int
    missed: int = 0


def run_seed(seed: int) -> Counter[str]:
    """Play a seed, kill all workers, take something away, and let a new worker go on.

    returns        how often what happened
    raises Differs  what must hold does not
    """
    rng = random.Random(seed)
    shape, settings, sent, expected = brief(seed % LOGS)
    plant = Plant(MODEL, settings, FORMATS[shape], sent, PARTITIONS, faults_of(rng, seed), rng.choice(INTERVALS_S))
    schedule = Schedule(plant, rng, mishaps_of(rng))
    schedule.play(turns=rng.randint(5, 30))
    schedule.kill_all()
    loss = lose(plant, rng)
    if loss is None:
        return Counter()
    missed_before = happened(plant)["missed"]
    plant.broker.faults = NO_FAULTS
    plant.join()
    plant.run(rng)
    anew = Plant(MODEL, settings, FORMATS[shape], sent, PARTITIONS)
    if loss.kind == "earlier":
        anew.broker.truth.offsets[loss.partition] = loss.at
        anew.join()
        anew.run(rng)
    for difference in differences(plant, expected, anew, loss):
        raise Differs(f"{loss}: {difference}")
    if (missed := happened(plant)["missed"] - missed_before) != loss.missed:
        raise Differs(f"{loss}: {missed} messages were counted as missed")
    return happened(plant) + Counter({loss.kind: 1})


def lose(plant: Plant, rng: random.Random) -> Loss | None:
    """Take something away from one partition of a plant without workers; None: nothing was committed yet."""
    broker = plant.broker
    choices = [loss for partition in broker.partitions for loss in _choices(plant, partition, rng)]
    if not choices:
        return None
    kind = rng.choice(sorted({loss.kind for loss in choices}))  # by kind first: some are rarely possible
    loss = rng.choice([loss for loss in choices if loss.kind == kind])
    if loss.kind in ("hole", "beyond"):
        broker.drop(loss.partition, loss.at)
    elif loss.kind == "deleted":
        del broker.truth.offsets[loss.partition]
    else:
        broker.truth.offsets[loss.partition] = loss.at
    return loss


def _choices(plant: Plant, partition: Partition, rng: random.Random) -> Iterator[Loss]:
    broker = plant.broker
    checkpoint, k = plant.checkpoint(partition), broker.truth.offsets.get(partition)
    first, end = broker.first[partition], broker.end(partition)
    if k is None:
        return
    m, n = (checkpoint.offset, checkpoint.next_offset) if checkpoint else (k, k)
    if m < k:
        f = rng.randint(m + 1, k)
        yield Loss("hole", partition, k, f, f - m)
    if n < k:
        yield Loss("back", partition, k, rng.randint(n, k - 1))
    if first < n:
        yield Loss("earlier", partition, k, rng.randint(first, n - 1))
    if k < end:
        f = rng.randint(k + 1, end)
        yield Loss("beyond", partition, k, f, f - m)
        yield Loss("forward", partition, k, f)
    if checkpoint and n < end:  # else nothing would be committed again before another message comes
        yield Loss("deleted", partition, k, n)


def differences(plant: Plant, expected: Plant, anew: Plant, loss: Loss) -> Iterator[str]:
    """What does not hold. anew: what a new group makes of the partition from the offset of the loss on."""
    number = loss.partition.number
    yield from unwell(plant)
    found, right = plant.alerts(), expected.alerts()
    yield from _of_alerts(found.pop(number, []), right.pop(number, []), anew.alerts().get(number, []), loss)
    yield from of_messages("alerts", found, right)
    found, right = plant.dead_letters(), expected.dead_letters()
    yield from _of_dead_letters(found.pop(number, []), right.pop(number, []), loss)
    yield from of_messages("dead letters", found, right)
    remembered, rightly = state_of(plant), state_of(expected)
    if loss.kind == "earlier":
        rightly = without(rightly, loss.partition) | only(state_of(anew), loss.partition)
    elif loss.kind in ("hole", "beyond"):
        remembered, rightly = without(remembered, loss.partition), without(rightly, loss.partition)
    yield from of_state(remembered, rightly)


def only(state: dict[Any, Any], partition: Partition) -> dict[Any, Any]:
    return {key: each for key, each in state.items() if partition in (key, key[0])}


def without(state: dict[Any, Any], partition: Partition) -> dict[Any, Any]:
    return {key: each for key, each in state.items() if partition not in (key, key[0])}


def _of_alerts(found: list[Message], right: list[Message], anew: list[Message], loss: Loss) -> Iterator[str]:
    before, after = ([alert for alert in right if (offset_of(alert) < loss.before) is is_before] for is_before in (True, False))
    told, found = found[: len(before)], found[len(before) :]
    again = [alert for alert in before if offset_of(alert) >= loss.at]
    if told != before:
        yield "alerts that were told before are not as they were"
    match loss.kind:
        case "back" | "deleted" if found != again + after:
            yield "alerts that were told again, or are new, are not the right ones"
        case "earlier" if found != anew:
            yield "alerts are not what a new group tells"
        case "forward" if found != [alert for alert in after if offset_of(alert) >= loss.at]:
            yield "alerts that are new are not the right ones"
        case "hole" | "beyond" if any(offset_of(alert) < max(loss.before, loss.at) for alert in found):
            yield "alerts of what was told before, or nobody can have read"


def _of_dead_letters(found: list[Message], right: list[Message], loss: Loss) -> Iterator[str]:
    wanted = [dead_letter for dead_letter in right if offset_of(dead_letter) < loss.before]
    wanted += [dead_letter for dead_letter in right if offset_of(dead_letter) >= (loss.before if loss.kind == "hole" else loss.at)]
    if found != wanted:
        yield f"dead letters of {[*map(offset_of, found)]} for {[*map(offset_of, wanted)]}"
