"""Make `models/plant`, the bundle of the demo, from simulated plants without faults, as `detector train --quick` does: `make models`.

A random memory: trained ones expect these machines better and find fewer of their faults (docs/evaluation.md). Seeds here are from 1,000 on;
the demo plays smaller ones, so that it judges plants whose machines no weight has seen.
"""

from __future__ import annotations

import sys
from pathlib import Path

from detector.adapters.bundle import Bundle, save_bundle
from detector.lab.options import Options
from detector.lab.plant import CHANNELS, DAY_US, Plant
from detector.lab.plotting import training_png
from detector.lab.sequences import Recorded
from detector.lab.simulate import by_machine
from detector.lab.train import Trained, train

PLANTS, MACHINES, DAYS = 6, 12, 1
OPTIONS = Options(hidden=64, is_quick=True, seed=1)


def recorded() -> list[Recorded]:
    """One sequence per machine."""
    found = []
    for seed in range(1_000, 1_000 + PLANTS):
        plant = Plant(seed, MACHINES, start_us=1_767_225_600_000_000 + (seed % 7) * DAY_US)
        played = by_machine(plant, DAYS * DAY_US)
        found += [Recorded(f"seed{seed}/{name}", value) for name, value in zip(plant.streams, played, strict=True)]
    return found


def about(trained: Trained) -> dict[str, object]:
    """What the manifest says of the training."""
    return {
        "data": f"{PLANTS} simulated plants of {MACHINES} pumps, {DAYS} day each, no faults, seeds 1000 to {999 + PLANTS}",
        "made_by": "models/train_plant.py",
        "split": trained.split.by,
        "fit": "quick: a random memory, its head in closed form",
        "errors": {name: dict(zip(CHANNELS, error.round(5).tolist(), strict=True)) for name, error in trained.errors.items()},
        "verdict": trained.verdict,
    }


if __name__ == "__main__":
    result = train(recorded(), CHANNELS, OPTIONS)
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "plant"
    model = save_bundle(folder, Bundle(result.model, about(result), training_png(result)))
    print(result.verdict, f"Written to {folder}, fingerprint {model.fingerprint}.")
