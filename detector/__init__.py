"""A streaming anomaly detector over Kafka sensor data: one LSTM memory per stream, alerts to a topic, metrics to Prometheus.

The public face, for use without the service:

    from detector import Detector, ReadingBatch, load_bundle

    detector = Detector(load_bundle("plant"))
    verdicts = detector.detect(batch)

Names are imported when they are first used: the commands start without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detector.adapters.bundle import load_bundle
    from detector.core.alerting import Alert
    from detector.core.detect import Detector, Settings
    from detector.core.readings import Disposition, Partition, ReadingBatch
    from detector.core.verdicts import Verdicts

__version__ = "0.1.0"
__all__ = ["Alert", "Detector", "Disposition", "Partition", "ReadingBatch", "Settings", "Verdicts", "__version__", "load_bundle"]

_ROOM_OF = {
    "Alert": "core.alerting",
    "Detector": "core.detect",
    "Disposition": "core.readings",
    "Partition": "core.readings",
    "ReadingBatch": "core.readings",
    "Settings": "core.detect",
    "Verdicts": "core.verdicts",
    "load_bundle": "adapters.bundle",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'detector' has no attribute '{name}'")
    return getattr(import_module(f"detector.{_ROOM_OF[name]}"), name)
