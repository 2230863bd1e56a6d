"""Write configuration.md: every field of the configuration, from the models in `detector.config`. `make docs` runs this."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from detector.config import Config

PAGE = Path(__file__).with_name("configuration.md")
HEAD = """\
# Configuration

<!-- Written by docs/configuration.py (`make docs`) from the models in detector/config: change those. -->

One YAML file, named with `--config`; [deploy/detector.yaml](../deploy/detector.yaml) is one to start from. Every field has a default, so a
file holds what it changes. What counts, the strongest last: the defaults, the file, the environment, the options of the command line. An
unknown key is an error that names the nearest known one; a wrong value is one that names its key and the bounds. `detector check` says
whether all of it fits together, with the model and the brokers. The service reads it once, at its start.

Variables of the environment are read as YAML: `DETECTOR_INPUT__TOPICS='[sensors, more]'`, `DETECTOR_ALERTS__ACCEPT_AFTER_S=3600`. A single
entry may stand for a list of one.

`kafka` takes every property of librdkafka under its own dotted name and passes it on. In the environment a property is `DETECTOR_KAFKA__` and its
name in capitals, with `_` for each dot: `DETECTOR_KAFKA__SASL_PASSWORD`. [security.md](security.md) has those for TLS and passwords, [managed-kafka.md](managed-kafka.md) those for tokens. `schema_registry` takes
those of confluent-kafka's registry client in the same way: [schema-registry.md](schema-registry.md).
"""
TABLE = """
| key | value | default | meaning |
|---|---|---|---|
"""
KINDS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


def page() -> str:
    """The whole page, as Markdown."""
    return HEAD + "".join(_section(path, model) for path, model in sections(Config))


def sections(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], type[BaseModel]]]:
    """Every section and where it stands, outer ones first."""
    yield path, model
    for name, field in model.model_fields.items():
        for inner in _models_in(field.annotation):
            yield from sections(inner, (*path, name))


def variable(path: tuple[str, ...]) -> str:
    """The environment's variable that sets a field."""
    return "DETECTOR_" + "__".join(path).upper()


def _section(path: tuple[str, ...], model: type[BaseModel]) -> str:
    described = model.model_json_schema()["properties"]
    rows = [_row((*path, name), field, described[name]) for name, field in model.model_fields.items()]
    return f"\n## {'.'.join(path) or 'The top'}\n{inspect.getdoc(model)}\n{TABLE}{''.join(filter(None, rows))}"


def _row(path: tuple[str, ...], field: FieldInfo, schema: Mapping[str, Any]) -> str:
    """One field; nothing for a section that is always there, since it has a table of its own."""
    default = "" if field.is_required() else field.get_default(call_default_factory=True)
    if isinstance(default, BaseModel):
        return ""
    value = "a section, below" if _models_in(field.annotation) else _value(schema)
    shown = "must be given" if field.is_required() else "none" if default is None else f"`{json.dumps(_plain(default))}`"
    name = variable(path) + ("__NAME" if schema.get("type") == "object" else "")
    meaning = (field.description or "").replace("|", r"\|").replace("<", "&lt;")
    return f"| `{'.'.join(path)}`<br>`{name}` | {value} | {shown} | {meaning} |\n"


def _value(schema: Mapping[str, Any]) -> str:
    """What a value may be, in words."""
    if choices := [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]:
        return " or ".join(_value(each) for each in choices)
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    bounds = [f"{words} {schema[bound]:,}" for bound, words in BOUNDS.items() if bound in schema]
    if schema.get("type") == "array":
        bounds += [f"{words} {schema[bound]}" for bound, words in (("minItems", "at least"), ("maxItems", "at most")) if bound in schema]
        return ", ".join([f"list of {_value(schema['items'])}", *bounds])
    if schema.get("type") == "object":
        values = [schema["additionalProperties"]] if "additionalProperties" in schema else schema["patternProperties"].values()
        return f"names and their {' or '.join(map(_value, values))}"
    return ", ".join([("secret " if schema.get("writeOnly") else "") + KINDS[schema["type"]], *bounds])


def _plain(default: object) -> Any:
    """A default as the file would have it; what is secret by type is not by its default."""
    if isinstance(default, Mapping):
        return {name: _plain(value) for name, value in default.items()}
    return default.get_secret_value() if isinstance(default, SecretStr) else default


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models_in(inner)]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
