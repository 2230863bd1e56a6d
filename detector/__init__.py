"""A streaming anomaly detector over Kafka sensor data: one LSTM memory per stream, alerts to a topic, metrics to Prometheus.

The public face, for use without the service:

    from detector import Detector, ReadingBatch, load_bundle

    detector = Detector(load_bundle("plant"))
    result = detector.detect(batch)

Names are imported when they are first used: the commands start without numba.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detector.adapters.bundle import load_bundle
    from detector.core.alerts import Alert
    from detector.core.batch_result import BatchResult
    from detector.core.detector import Detector
    from detector.core.readings import Disposition, Partition, ReadingBatch
    from detector.core.rules import Settings

__version__ = "0.1.0"
__all__ = ["Alert", "BatchResult", "Detector", "Disposition", "Partition", "ReadingBatch", "Settings", "__version__", "load_bundle"]

_MODULE_OF = {
    "Alert": "core.alerts",
    "BatchResult": "core.batch_result",
    "Detector": "core.detector",
    "Disposition": "core.readings",
    "Partition": "core.readings",
    "ReadingBatch": "core.readings",
    "Settings": "core.rules",
    "load_bundle": "adapters.bundle",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'detector' has no attribute '{name}'")
    return getattr(import_module(f"detector.{_MODULE_OF[name]}"), name)
