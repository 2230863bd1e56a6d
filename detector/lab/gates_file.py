"""Gates over time as a Parquet file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from detector.adapters.recordings.atomic_file import WholeFile


def write_gates(path: Path, event_time_us: NDArray[np.int64], found: Mapping[str, NDArray[np.float32]]) -> None:
    """One row per reading: `event_time_us`, and each name as a list (of L x H units, layer after layer; of D channels).

    raises DataError  the file cannot be written
    """
    columns = {"event_time_us": pa.array(event_time_us)}
    for name, values in found.items():
        flat = values.reshape(len(values), -1)
        columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), flat.shape[1])
    file = WholeFile(path)
    try:
        pq.write_table(pa.table(columns), file.partial)
    except OSError as error:
        raise file.refusal(error) from None
    file.end(is_whole=True)
