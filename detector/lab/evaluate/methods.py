"""All detectors that can be compared, by name."""

from __future__ import annotations

from detector.errors import ConfigError
from detector.lab.evaluate.ablations import WHITENED
from detector.lab.evaluate.baselines import LEVELS
from detector.lab.evaluate.detectors import Method
from detector.lab.evaluate.forecasts import FORECASTS

METHODS: dict[str, Method] = {method.name: method for method in (*LEVELS, *FORECASTS, *WHITENED)}


def method_of(name: str) -> Method:
    """The detector of this name.

    raises ConfigError  there is none
    """
    if name not in METHODS:
        raise ConfigError(f"there is no detector {name!r}", fix=f"choose from {', '.join(METHODS)}")
    return METHODS[name]
