"""From a file, the environment and the command line to a `Config`; every mistake in one message for a person."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from detector.config.secrets import SECRET_NAME
from detector.config.sections import Config
from detector.errors import ConfigError

ENVIRONMENT_PREFIX = "DETECTOR_"
CLIENTS = ("kafka", "schema_registry")  # sections of properties that a client knows under dotted names
# Not settings: the switch of the command line, where tests find data, and what Kubernetes puts into every pod beside a Service
# named detector[-...].
ENVIRONMENT_FOREIGN = re.compile(
    r"^DETECTOR_(DEBUG|BENCHMARK_DATA|([A-Z0-9]+_)*?(SERVICE_(HOST|PORT(_[A-Z0-9]+)*)|PORT(_[0-9]+_(TCP|UDP|SCTP)(_[A-Z]+)?)?))$"
)


def load_config(path: Path | None, *, overrides: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None) -> Config:
    """Read the file, lay the environment over it, then `overrides` (the command line's).

    raises ConfigError  one message that names every wrong key, and what to write instead
    """
    raw: dict[str, Any] = _read_yaml(path) if path is not None else {}
    for name, text in sorted((os.environ if environment is None else environment).items()):
        if name.startswith(ENVIRONMENT_PREFIX) and not ENVIRONMENT_FOREIGN.match(name):
            _put(raw, name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__"), text, name)
    for dotted, value in (overrides or {}).items():
        _put(raw, dotted.split("/"), value, dotted)
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(_explain(error, path), fix="`detector schema config` lists every key with its unit and bounds") from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"there is no configuration file {path}", fix="name one with --config, or leave it out to use the defaults"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the configuration file {path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {_yaml_problem(error)}") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path} must be a mapping of sections, such as 'input:' and 'kafka:'")
    return loaded


def _yaml_problem(error: yaml.YAMLError) -> str:
    """What is wrong and where, without the text itself: it may be a password."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}: {error.problem}"
    return "not valid"


def _put(raw: dict[str, Any], path: list[str], value: Any, name: str) -> None:
    """Lay one value over the nested mapping. Text from the environment is read as YAML, but for secrets; in sections of a client's properties
    `_` stands for '.'."""
    if path[0] in CLIENTS and len(path) == 2 and name.startswith(ENVIRONMENT_PREFIX):
        path = [path[0], path[1].replace("_", ".")]
    inner = raw
    for part in path[:-1]:
        below = inner.setdefault(part, {})
        if not isinstance(below, dict):
            raise ConfigError(f"{name}: '{part}' is a single value, not a section")
        inner = below
    is_text = path[0] in CLIENTS or SECRET_NAME.search(path[-1])
    if isinstance(value, str) and name.startswith(ENVIRONMENT_PREFIX) and not is_text:
        try:
            value = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ConfigError(f"{name} is not a YAML value") from None
    inner[path[-1]] = value


def _explain(error: ValidationError, path: Path | None) -> str:
    lines = []
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        location = ".".join(str(part) for part in detail["loc"])
        if detail["type"] == "extra_forbidden":
            known = _fields_at(detail["loc"][:-1])
            near = difflib.get_close_matches(str(detail["loc"][-1]), known, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(sorted(known))}"
            lines.append(f"{location}: unknown key; {hint}")
        else:
            lines.append(": ".join(filter(None, (location, detail["msg"].removeprefix("Value error, ")))))
    where = str(path) if path else "the configuration"
    return f"{where}: " + "; ".join(lines)


def _fields_at(location: tuple[int | str, ...]) -> list[str]:
    section: type[BaseModel] = Config
    for part in location:
        annotation = section.model_fields[str(part)].annotation if str(part) in section.model_fields else None
        choices = [annotation, *getattr(annotation, "__args__", ())]
        inner = [choice for choice in choices if isinstance(choice, type) and issubclass(choice, BaseModel)]
        if not inner:
            return []
        section = inner[0]
    return list(section.model_fields)
