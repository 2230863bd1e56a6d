"""Invariants 3 and 4 for the whole service: cuts, interleavings, workers and a log that stumbles change nothing that is told.

Crashes and rebalances lose memories, since nothing saves them: for those only that no message is lost.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from detector.adapters.memory_log import Faults
from detector.codec.readings import ReadingFormat
from detector.core.readings import Disposition
from tests.core.builders import Log, memory_of, model_of, settings_of
from tests.core.plant import eventful_log, narrow
from tests.simulation.service import Plant, Sent, json_of, undisturbed

MODEL = model_of(channels=2, hidden=32)
SETTINGS = settings_of(accept_after_us=45_000_000)
PARTITIONS = 3
CHANNELS = MODEL.channels
FORMATS = {
    "whole": ReadingFormat(CHANNELS, event_time="t"),
    "gateway": ReadingFormat(CHANNELS, stream=("s",), event_time="t", items="."),
    "narrow": ReadingFormat(CHANNELS, event_time="t", narrow_channel="c", narrow_value="v"),
}
SHAPES = tuple(FORMATS)
BAD = (None, b"", b"no json", b'{"t": "yesterday"}', b'[{"t": 1}, 7]', b'{"t": 1790000000000000, "channel0": "warm"}', b"\xff")


def whole_messages(log: Log) -> Iterator[Sent]:
    for at, stream in enumerate(log.stream):
        values = dict(zip(CHANNELS, log.value[at].tolist(), strict=True))
        yield Sent(int(log.partition[at]), stream.encode(), json_of({"t": int(log.event_time_us[at]), **values}))


def narrow_messages(log: Log) -> Iterator[Sent]:
    log = narrow(log)
    assert log.channel is not None
    for at, stream in enumerate(log.stream):
        channel = int(log.channel[at])
        value = {"t": int(log.event_time_us[at]), "c": CHANNELS[channel], "v": float(log.value[at, channel])}
        yield Sent(int(log.partition[at]), stream.encode(), json_of(value))


def gateway_messages(log: Log) -> Iterator[Sent]:
    """Readings of one offset are one message."""
    items: list[bytes] = []
    for at, stream in enumerate(log.stream):
        values = dict(zip(CHANNELS, log.value[at].tolist(), strict=True))
        items.append(json_of({"s": stream, "t": int(log.event_time_us[at]), **values}))
        if at + 1 == len(log) or log.item[at + 1] == 0:
            yield Sent(int(log.partition[at]), None, b"[" + b",".join(items) + b"]")
            items = []


WRITERS = {"whole": whole_messages, "gateway": gateway_messages, "narrow": narrow_messages}


@cache
def eventful(seed: int, shape: str) -> tuple[list[Sent], Plant]:
    """Messages of a log in which everything happens, some of them bad; and what one undisturbed worker makes of them."""
    rng = random.Random(seed)
    sent: list[Sent] = []
    for message in WRITERS[shape](eventful_log(seed, PARTITIONS, streams=3, seconds=230)):
        if rng.random() < 0.02:
            sent.append(Sent(message.partition, b"p0/s1", rng.choice(BAD), [("from", b"gateway 7")]))
        sent.append(message)
    return sent, undisturbed(MODEL, SETTINGS, FORMATS[shape], sent, PARTITIONS)


@pytest.mark.parametrize("seed", range(60))
def test_cuts_workers_and_a_log_that_stumbles_change_nothing(seed: int) -> None:
    rng = random.Random(seed)
    shape = SHAPES[seed % 3]
    sent, expected = eventful(seed // 3 % 3, shape)
    faults = Faults(seed, cut_poll=rng.choice([0, 0.5, 1]), poll_unavailable=rng.choice([0, 0.2]), commit_unavailable=rng.choice([0, 0.2]))
    plant = Plant(MODEL, SETTINGS, FORMATS[shape], sent, PARTITIONS, faults)
    for _ in range(rng.randint(1, 3)):
        plant.join(rng.choice([10, 100, 1_000, 10_000]))
    plant.run(rng)

    assert plant.alerts() == expected.alerts()
    assert plant.dead_letters() == expected.dead_letters()
    assert plant.verdicts() == expected.verdicts()
    memories: dict[Any, Any] = {}
    for member in plant.members:
        assert member.is_conserved
        memories |= memory_of(member.detector)
    assert memories == memory_of(expected.members[0].detector)
    assert sum(member.worker.vitals.messages for member in plant.members) == len(sent)
    assert sum(member.worker.vitals.readings for member in plant.members) == expected.members[0].worker.vitals.readings


@pytest.mark.parametrize("seed", range(12))
def test_crashes_and_rebalances_lose_no_message(seed: int) -> None:
    rng = random.Random(seed)
    shape = SHAPES[seed % 3]
    sent, expected = eventful(0, shape)
    faults = Faults(seed, cut_poll=0.5, commit_unavailable=0.1, commit_aborted=0.1, commit_unacknowledged=0.1, rebalance=0.1)
    plant = Plant(MODEL, SETTINGS, FORMATS[shape], sent, PARTITIONS, faults)
    for _ in range(3):
        plant.join(50)
    for _ in range(3):
        for _ in range(30):
            rng.choice(plant.members).worker.step()
        plant.crash(rng.choice(plant.members))
        plant.join(50)
    plant.run(rng)

    everyone = [*plant.members, *plant.gone]
    assert set().union(*(member.detector.judged for member in everyone)) == expected.members[0].detector.judged
    assert plant.dead_letters() == expected.dead_letters()  # a dead letter needs no memory: once, whatever happens
    assert all(member.is_conserved for member in everyone)


def test_everything_happens_in_these_logs() -> None:
    """Or the tests above would prove little."""
    for shape in SHAPES:
        sent, plant = eventful(0, shape)
        (member,) = plant.members
        wanted = {*Disposition} - ({Disposition.PART} if shape != "narrow" else set())
        assert {disposition for disposition, count in member.book.dispositions.items() if count} == wanted
        assert member.is_conserved
        assert member.worker.vitals.messages == len(sent)
        assert len(plant.dead_letters()) == len(plant.alerts()) == PARTITIONS
        assert member.worker.vitals.alerts_opened > PARTITIONS
