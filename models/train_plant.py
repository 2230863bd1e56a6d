"""Train `models/plant`, the bundle of the demo, on simulated plants without faults: `make models`. One core, some five minutes.

Seeds here are from 1,000 on; the demo plays smaller ones, so that it judges plants whose machines no weight has seen.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import torch

from detector.adapters.bundle import Bundle, save_bundle
from detector.lab.picture import training_png
from detector.lab.plant import CHANNELS, DAY_US, Plant
from detector.lab.sequences import Recorded
from detector.lab.simulate import by_machine
from detector.lab.train import Epoch, Options, Trained, train

PLANTS, MACHINES, DAYS = 6, 12, 1
OPTIONS = Options(hidden=64, window_readings=128, epochs_max=60, minutes_max=math.inf, seed=1, device="cpu")


def recorded() -> list[Recorded]:
    """One sequence per machine."""
    found = []
    for seed in range(1_000, 1_000 + PLANTS):
        plant = Plant(seed, MACHINES, start_us=1_767_225_600_000_000 + (seed % 7) * DAY_US)
        played = by_machine(plant, DAYS * DAY_US)
        found += [Recorded(f"seed{seed}/{name}", value) for name, value in zip(plant.streams, played, strict=True)]
    return found


def tell(epoch: Epoch) -> None:
    """One line per epoch."""
    print(
        f"epoch {epoch.number:3d}  train {epoch.train_loss:.4f}  held out {epoch.held_out_loss:.4f}  left {epoch.seconds_left:.0f} s",
        flush=True,
    )


def about(trained: Trained) -> dict[str, object]:
    """What the manifest says of the training."""
    return {
        "data": f"{PLANTS} simulated plants of {MACHINES} pumps, {DAYS} day each, no faults, seeds 1000 to {999 + PLANTS}",
        "made_by": "models/train_plant.py",
        "split": trained.split.by,
        "epochs": len(trained.epochs),
        "errors": {name: dict(zip(CHANNELS, error.round(5).tolist(), strict=True)) for name, error in trained.errors.items()},
        "verdict": trained.verdict,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)  # with more, sums come in another order, and so would other weights
    result = train(recorded(), CHANNELS, OPTIONS, tell)
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "plant"
    model = save_bundle(folder, Bundle(result.model, about(result), training_png(result)))
    print(result.verdict, f"Written to {folder}, fingerprint {model.fingerprint}.")
