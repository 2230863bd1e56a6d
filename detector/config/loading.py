"""From a file, the environment and the command line to a `Config`; every mistake in one message for a person."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from detector.config.secrets import SECRET_NAME
from detector.config.sections import Config
from detector.errors import ConfigError

ENVIRONMENT_PREFIX = "DETECTOR_"
CLIENTS = ("kafka", "schema_registry")  # sections of a client's properties, which have dotted names
# Not settings: the command line's --debug, the tests' data folder, and what Kubernetes sets in every pod beside a Service
# named detector[-...].
ENVIRONMENT_FOREIGN = re.compile(
    r"^DETECTOR_(DEBUG|BENCHMARK_DATA|([A-Z0-9]+_)*?(SERVICE_(HOST|PORT(_[A-Z0-9]+)*)|PORT(_[0-9]+_(TCP|UDP|SCTP)(_[A-Z]+)?)?))$"
)

QUOTE = "put the value in quotes"
UNCLOSED = "a quote or bracket that opens here is not closed"
COLUMN = "indent with spaces, and begin the keys of one section in the same column"
# A part of the parser's message, the message to show instead where the parser's may contain a part of a password, and the fix. The first match
# counts.
YAML_MISTAKES = (
    ("'\\t'", "a tab", "indent with spaces"),
    ("cannot start any token", "", f"{QUOTE}: it begins with a character that YAML keeps for itself"),
    ("alias", "a value begins with *, which names an alias", QUOTE),
    ("occurrence", "a value begins with &, which names an anchor", QUOTE),
    ("tag", "a value begins with !, which names a type", QUOTE),
    ("mapping values are not allowed", "a colon where no key can stand", f"{QUOTE} if it contains a colon and a space; else {COLUMN}"),
    ("expected <block end>", "", f"{COLUMN}; put the whole of a value in quotes, or nothing of it"),
    ("end of stream", UNCLOSED, "close it"),
    ("but got", UNCLOSED, "close it"),
    ("escape", "", "put the value in single quotes: in double ones a backslash has a meaning"),
    ("document", "", "leave out `---`"),
    ("indentation indicators", "a value begins with > or |, which announces lines", QUOTE),
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
        raise ConfigError(_explain(error, path, raw), fix="`detector schema config` lists every key with its unit and bounds") from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        loaded = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a SafeLoader
    except FileNotFoundError:
        raise ConfigError(
            f"there is no configuration file {path}", fix="name one with --config, or leave it out to use the defaults"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"the configuration file {path} cannot be read: {error}", fix="save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"the configuration file {path} cannot be read: {error}", fix="see that it is a file that may be read") from None
    except _RepeatedKey as error:
        raise ConfigError(f"{path}: {error}", fix="keep one of them: YAML takes the last one in silence") from None
    except (yaml.YAMLError, ValueError) as error:
        problem, fix = _yaml_problem(error)
        raise ConfigError(f"{path} is not YAML: {problem}", fix=fix) from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(
            f"{path} must be a mapping of sections, such as 'input:' and 'kafka:'", fix="write `key: value`, with a space after the colon"
        )
    return loaded


class _RepeatedKey(Exception):
    """A key stands twice in one mapping."""


class _Loader(yaml.SafeLoader):
    """Refuses keys that stand twice in one mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """See `yaml.SafeLoader`. raises _RepeatedKey"""
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
                continue
            line = key.start_mark.line + 1
            if key.value in lines:
                raise _RepeatedKey(f"the key {key.value!r} stands twice in one section, in lines {lines[key.value]} and {line}")
            lines[key.value] = line
        return super().construct_mapping(node, deep=deep)


def _yaml_problem(error: Exception) -> tuple[str, str]:
    """What is wrong and where, and what to do about it; without the text itself: it may be a password."""
    if isinstance(error, ValueError):
        return "a value looks like a date or a number, and is none", QUOTE
    if isinstance(error, yaml.reader.ReaderError):
        return f"character {error.position + 1} of the file is none of a text", "remove it"
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return "not valid", QUOTE
    problem, mark = error.problem or "", error.problem_mark
    words, fix = next(((words, fix) for part, words, fix in YAML_MISTAKES if part in problem), ("", QUOTE))
    if words == UNCLOSED and error.context_mark is not None:
        mark = error.context_mark  # where it opens, not the end of the file
    return f"line {mark.line + 1}, column {mark.column + 1}: {words or problem}", fix


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
        except (yaml.YAMLError, ValueError):
            raise ConfigError(
                f"{name} is not a YAML value", fix=f"put quotes around it, inside those of the shell: {name}='\"...\"'"
            ) from None
    inner[path[-1]] = value


def _explain(error: ValidationError, path: Path | None, raw: Mapping[str, Any]) -> str:
    lines = []
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        location = ".".join(str(part) for part in detail["loc"])
        if (unquoted := _unquoted(detail["type"], _at(raw, detail["loc"]))) is not None:
            lines.append(f"{location}: {unquoted}")
        elif detail["type"] == "extra_forbidden":
            known = _fields_at(detail["loc"][:-1])
            near = difflib.get_close_matches(str(detail["loc"][-1]), known, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(sorted(known))}"
            lines.append(f"{location}: unknown key; {hint}")
        else:
            lines.append(": ".join(filter(None, (location, detail["msg"].removeprefix("Value error, ")))))
    where = str(path) if path else "the configuration"
    return f"{where}: " + "; ".join(lines)


def _unquoted(kind: str, value: Any) -> str | None:
    """What YAML made of a text that stands without quotes; None if that is not what is wrong. The value itself may be a secret."""
    if kind not in ("string_type", "tuple_type"):
        return None
    if isinstance(value, bool):
        words = "yes, on or true" if value else "no, off or false"
        return f"YAML read an unquoted {words} as {str(value).lower()}; put the name in quotes, such as {'YES' if value else 'NO'!r}"
    if kind == "string_type" and isinstance(value, int | float | date):
        return f"YAML read it as a {'date' if isinstance(value, date) else 'number'}; put it in quotes"
    return None


def _at(raw: Any, location: tuple[int | str, ...]) -> Any:
    """What stands in the configuration at a place that a mistake names; None if there is no such place."""
    for part in location:
        if isinstance(raw, Mapping):
            raw = raw.get(part)
        elif isinstance(raw, list | tuple) and isinstance(part, int) and part < len(raw):
            raw = raw[part]
        elif part in ("str", "float") and not isinstance(raw, list | tuple):  # one of the types that a value may have
            continue
        else:
            return None
    return raw


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
