"""Invariants 3 and 4 for the whole service: cuts, interleavings, workers and a log that stumbles change nothing that is told.

Nothing is killed or dealt anew here: `test_seeds` does that, with shorter logs.
"""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import pytest

from detector.core.readings import Disposition
from tests.core.builders import model_of, records_of, settings_of
from tests.core.plant import eventful_log
from tests.doubles.memory_faults import Faults
from tests.simulation.messages import FORMATS, SHAPES, Sent, written
from tests.simulation.service import Plant, undisturbed

MODEL = model_of(channels=2, hidden=32)
SETTINGS = settings_of(reset_baseline_after_us=45_000_000)
PARTITIONS = 3


@cache
def eventful(seed: int, shape: str) -> tuple[list[Sent], Plant]:
    """Messages of a log in which everything happens, some of them bad; and what one undisturbed worker makes of them."""
    sent = written(eventful_log(seed, PARTITIONS, streams=3, seconds=230), shape, random.Random(seed))
    return sent, undisturbed(MODEL, SETTINGS, FORMATS[shape], sent, PARTITIONS)


@pytest.mark.parametrize("seed", range(40))
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
    assert plant.results() == expected.results()
    records: dict[Any, bytes] = {}
    for member in plant.members:
        assert member.is_conserved
        records |= records_of(member.detector)
    assert records == records_of(expected.members[0].detector)
    assert sum(member.worker.stats.messages for member in plant.members) == len(sent)
    assert sum(member.worker.stats.readings for member in plant.members) == expected.members[0].worker.stats.readings


def test_everything_happens_in_these_logs() -> None:
    """Or the tests above would prove little."""
    for shape in SHAPES:
        sent, plant = eventful(0, shape)
        (member,) = plant.members
        wanted = {*Disposition} - ({Disposition.PARTIAL} if shape != "narrow" else set())
        assert {disposition for disposition, count in member.outcomes.dispositions.items() if count} == wanted
        assert member.is_conserved
        assert member.worker.stats.messages == len(sent)
        assert len(plant.dead_letters()) == len(plant.alerts()) == PARTITIONS
        assert member.worker.stats.alerts_opened > PARTITIONS
