"""Writes the detector's configuration into the chart's values.schema.json: `python deploy/helm/values_schema.py`.

Helm then refuses a misspelt key of `config` before anything is installed. The rest of the schema is written by hand; a test fails where
the configuration has changed since.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from detector.config import Config

SCHEMA = Path(__file__).resolve().parent / "detector" / "values.schema.json"


def with_config(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of the chart's values, with `config` as the code has it now."""
    config = Config.model_json_schema()
    definitions = config.pop("$defs")
    # librdkafka takes text, and YAML has numbers and truth values where people write them.
    config["properties"]["kafka"] |= {"additionalProperties": {"type": ["string", "number", "boolean"]}}
    return schema | {"properties": schema["properties"] | {"config": config}, "$defs": definitions}


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(with_config(json.loads(SCHEMA.read_text(encoding="utf-8"))), indent=2) + "\n", encoding="utf-8")
