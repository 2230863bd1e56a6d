"""Train `models/universal`, the bundle that judges any stream, on synthetic series: `make models`. One core, some seven minutes."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path

from detector.adapters.bundle import Bundle, save_bundle
from detector.core.model import Universal
from detector.lab.universal import LENGTHS, Options, calibrated, train

OPTIONS = Options()
BEGAN = time.monotonic()


def tell(number: int, of: int, error: float) -> None:
    """A line now and then."""
    if number % 10 == 0:
        print(f"batch {number} of {of}  error relative to persistence {error:.4f}  {time.monotonic() - BEGAN:.0f} s", flush=True)


if __name__ == "__main__":
    network = train(OPTIONS, tell)
    scorer, prior = calibrated(network)
    readings = OPTIONS.rounds * sum(LENGTHS) * OPTIONS.series
    about = {
        "data": f"{OPTIONS.rounds * len(LENGTHS) * OPTIONS.series:,} synthetic series, {readings:,} readings, none seen twice",
        "made_by": "models/train_universal.py",
        "options": asdict(OPTIONS),
    }
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "universal"
    model = save_bundle(folder, Bundle(Universal("universal", "", network, scorer, prior), about))
    print(f"Written to {folder}, fingerprint {model.fingerprint}.")
