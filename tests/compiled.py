"""Compile the judgement of a reading once, before tests begin, instead of in each of their processes at the same time.

python -m tests.compiled
"""

from __future__ import annotations

from detector.core.detector import Detector
from tests.core.builders import log_of, model_of, normal_values, run, settings_of, universal_model_of


def main() -> None:
    """Judge a few readings with a model of each kind; its machine code is kept for all that follow."""
    values = normal_values(60, 2)
    log = log_of([("stream", t, value) for t, value in enumerate(values)], 2)
    for model in (model_of(2), universal_model_of(2)):
        run(Detector(model, settings_of()), log)


if __name__ == "__main__":
    main()
