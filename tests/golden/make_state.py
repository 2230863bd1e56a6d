"""Makes the golden saved state of today's version: `python -m tests.golden.make_state`. It never overwrites one.

A version once released stays readable. So `state_v1.json` is kept as it was written, and a new version gets a file of its own.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np

from detector.codec.state_serde import CHECKPOINT, VERSION, Checkpoint, RowCodec, encode_checkpoint, key_of
from detector.core.detector import Detector
from tests.core.builders import P0, log_of, model_of, normal_values, rows_of, settings_of, state_of

INCARNATION = b"golden 1"
FOLDER = Path(__file__).parent
MODEL = model_of(2, hidden=8)


def judged() -> Detector:
    """A detector with an open alert, a stream that timed out, one with a missing channel and one with a name that is not ASCII."""
    values = normal_values(90, 2, 1)
    story = [(name, t + k / 10, values[t]) for t in range(60) for k, name in enumerate(("a", "b", "plant/höhe 7"))]
    story += [
        (name, t + k / 10, values[t] * (20 if name == "b" else 1)) for t in range(60, 85) for k, name in enumerate(("b", "plant/höhe 7"))
    ]
    story.append(("new", 85, np.array([1.0, np.nan], np.float32)))
    detector = Detector(MODEL, settings_of())
    detector.detect(log_of(story, 2).batch(detector))
    return detector


def plain(value: Any) -> Any:
    """As JSON can hold it."""
    return value.tolist() if isinstance(value, np.ndarray) else value


def main() -> None:
    """Write the file."""
    detector = judged()
    store, codec = detector.store, RowCodec(detector.store.layout)
    rows = {name: row for (_, name), row in sorted(rows_of(detector).items(), key=str)}
    encoded = codec.encode(store, np.array(list(rows.values())), INCARNATION, 231)
    state = {key_of(name.encode()): value for name, value in zip(rows, encoded, strict=True)}
    state[key_of(b"gone")] = codec.empty(INCARNATION, 200)
    state[key_of(b"of an earlier incarnation")] = codec.encode(store, np.array([rows["a"]]), b"golden 0", 17)[0]
    state[codec.layout_key] = codec.layout
    state[CHECKPOINT] = encode_checkpoint(Checkpoint(INCARNATION, detector.model.fingerprint, 190, detector.clocks[0], 231))
    whole = {
        "about": "saved state as version 1 wrote it, and what it means",
        "partition": list(P0),
        "clock": list(detector.clocks[0]),
        "streams": {name: {field: plain(value) for field, value in state_of(detector, name).items()} for name in rows},
        "state": {key.decode(): base64.b64encode(value).decode() for key, value in state.items()},
    }
    path = FOLDER / f"state_v{VERSION}.json"
    with path.open("x", encoding="utf-8") as file:
        json.dump(whole, file, ensure_ascii=False)
        file.write("\n")


if __name__ == "__main__":
    main()
