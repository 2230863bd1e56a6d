"""Make `models/universal`, the bundle that judges any stream, from synthetic series: `make models`. Seconds on one core."""

from __future__ import annotations

import sys
from pathlib import Path

from detector.adapters.bundle import Bundle, save_bundle
from detector.core.model import UniversalModel
from detector.lab.universal import CALIBRATION_SEEDS, CALIBRATION_SERIES, READINGS, calibrated, memory

HIDDEN, SEED = 32, 1

if __name__ == "__main__":
    network = memory(HIDDEN, SEED)
    score, prior = calibrated(network)
    series = CALIBRATION_SERIES * len(CALIBRATION_SEEDS)
    about = {
        "data": f"{series:,} synthetic series, {series * READINGS:,} readings",
        "made_by": "models/train_universal.py",
        "options": {"hidden": HIDDEN, "seed": SEED},
    }
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "universal"
    model = save_bundle(folder, Bundle(UniversalModel("universal", "", network, score, prior), about))
    print(f"Written to {folder}, fingerprint {model.fingerprint}.")
