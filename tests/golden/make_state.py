"""Makes the golden saved state of today's version: `python -m tests.golden.make_state`. It never overwrites one.

A version once released stays readable. So `state_v1.json` is kept as it was written, and a new version gets a file of its own.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np

from detector.codec.state_serde import CHECKPOINT, VERSION, Checkpoint, RowCodec, encode_checkpoint, key_of
from detector.core.detector import Detector
from tests.core.builders import P0, log_of, model_of, normal_values, rows_of, settings_of

INCARNATION = b"golden 1"
FOLDER = Path(__file__).parent


def judged() -> Detector:
    """A detector with an open alert, a silent stream, one with a missing channel and one with a name that is not ASCII."""
    values = normal_values(90, 2, 1)
    story = [(name, t + k / 10, values[t]) for t in range(60) for k, name in enumerate(("a", "b", "plant/höhe 7"))]
    story += [
        (name, t + k / 10, values[t] * (20 if name == "b" else 1)) for t in range(60, 85) for k, name in enumerate(("b", "plant/höhe 7"))
    ]
    story.append(("new", 85, np.array([1.0, np.nan], np.float32)))
    detector = Detector(model_of(2), settings_of())
    detector.detect(log_of(story, 2).batch(detector))
    return detector


def main() -> None:
    """Write the file."""
    detector = judged()
    codec = RowCodec(detector.states.columns)
    rows = {name: row for (_, name), row in sorted(rows_of(detector).items(), key=str)}
    encoded = codec.encode(detector.states, np.array(list(rows.values())), INCARNATION, 231)
    state = {key_of(name.encode()): value for name, value in zip(rows, encoded, strict=True)}
    state[key_of(b"gone")] = codec.empty(INCARNATION, 200)
    state[key_of(b"of an earlier incarnation")] = codec.encode(detector.states, np.array([rows["a"]]), b"golden 0", 17)[0]
    state[codec.layout_key] = codec.layout
    state[CHECKPOINT] = encode_checkpoint(Checkpoint(INCARNATION, detector.model.fingerprint, 190, detector.clocks[0], 231))
    columns = {
        name: {column: base64.b64encode(detector.states[column][row].tobytes()).decode() for column in detector.states.columns}
        for name, row in rows.items()
    }
    whole = {
        "about": "saved state as version 1 wrote it, and what it means: columns as little-endian bytes",
        "partition": list(P0),
        "state": {key.decode(): base64.b64encode(value).decode() for key, value in state.items()},
        "columns": columns,
        "clock": list(detector.clocks[0]),
    }
    path = FOLDER / f"state_v{VERSION}.json"
    with path.open("x", encoding="utf-8") as file:
        json.dump(whole, file, indent=1, ensure_ascii=False)
        file.write("\n")


if __name__ == "__main__":
    main()
