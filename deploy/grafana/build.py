"""Build the dashboards: `python -m deploy.grafana.build` (`make dashboards`) writes deploy/grafana/dashboards/*.json."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.operations import operations
from deploy.grafana.overview import overview
from deploy.grafana.streams import streams

FOLDER = Path(__file__).parent / "dashboards"
DASHBOARDS: Mapping[str, Callable[[], Dashboard]] = {"overview": overview, "streams": streams, "operations": operations}


def text(name: str) -> str:
    """A dashboard as Grafana imports it."""
    return json.dumps(DASHBOARDS[name](), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in DASHBOARDS:
        (FOLDER / f"{name}.json").write_text(text(name), encoding="utf-8")
        print(FOLDER / f"{name}.json")
